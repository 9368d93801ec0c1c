/* Opening paths that somebody else wrote: everything resolves inside a root descriptor, whatever symlinks and ".."
 * say.  Thread: any. */
#ifndef SYS_OPENAT2_H
#define SYS_OPENAT2_H

#include <sys/types.h>
#include "base/err.h"
#include "base/types.h"

#define SYS_RESOLVE_NO_XDEV	  0x01
#define SYS_RESOLVE_NO_MAGICLINKS 0x02
#define SYS_RESOLVE_NO_SYMLINKS	  0x04
#define SYS_RESOLVE_BENEATH	  0x08
#define SYS_RESOLVE_IN_ROOT	  0x10

/* A descriptor (close-on-exec) or -errno.  A rename in the tree during the walk (-EAGAIN) is tried again. */
int sys_openat2(int dirfd, const char *path, int flags, mode_t mode, unsigned int resolve);

/* openat2() with RESOLVE_IN_ROOT and no magic links: path means what it means after chroot(rootfd). */
int root_open(int rootfd, const char *path, int flags, mode_t mode);
/* Make the folders of path that are missing (mode) and return the last one as an O_PATH descriptor. */
int root_mkdirs(int rootfd, const char *path, mode_t mode);
/* An existing file or a new empty one, with the folders above it; an O_PATH descriptor. */
int root_mkfile(int rootfd, const char *path, mode_t dir_mode, mode_t mode);
/* The folder that holds the last component of path, as an O_PATH descriptor, made when missing.  *name points
 * into path, without trailing slashes copied to buf. -EINVAL: path has no last component. */
int root_parent(int rootfd, const char *path, mode_t dir_mode, char *name, size_t name_len);

#endif
