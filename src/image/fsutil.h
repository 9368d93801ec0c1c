/* File-system helpers of the image room: resolving hostile paths, removing trees, copying.
 * Everything works on directory fds; nothing follows a symbolic link out of the directory given. */
#ifndef IMAGE_FSUTIL_H
#define IMAGE_FSUTIL_H

#include <stdatomic.h>
#include <sys/stat.h>
#include "base/buf.h"
#include "base/err.h"

/* openat2(2) with RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV.
 * An fd or -errno (-ELOOP: a component is a symbolic link). */
int open_beneath(int dirfd, const char *path, int flags, mode_t mode);
/* The same for reading what may be reached through symbolic links: they are resolved as if dirfd was the root. */
int open_in_root(int dirfd, const char *path, int flags);
/* Remove name below dirfd, whatever it is, with all below it; does not cross mounts.  Missing: 0. */
int tree_remove(int dirfd, const char *name);
/* mkdir -p of a path that we made up ourselves. */
int dir_make(int dirfd, const char *path, mode_t mode);
/* A new directory "<prefix>XXXXXX" below dirfd; name gets at least strlen(prefix) + 17 bytes. */
int dir_make_temp(int dirfd, const char *prefix, char *name, size_t len);

/* Up to len; short only at the end of the file. */
ssize_t fd_read(int fd, void *data, size_t len);
ssize_t fd_pread(int fd, void *data, size_t len, uint64_t off);
/* Copy all of one file to another, holes kept, through the kernel (reflink where it can). */
int fd_copy(int from, int to, struct err **e);
/* The same into the middle of a file that is zeros there. */
int fd_copy_to(int from, int to, uint64_t at, struct err **e);

/* Run a program of the host and wait: argv[0] is looked up in PATH; stdin is /dev/null; stdout goes to out_fd
 * (-1: together with stderr), stderr is collected and becomes the error's text.  dir: working directory or NULL.
 * cancel may be NULL; when it becomes true the program is killed.  -ENOENT with a hint when it is missing. */
int run_program(const char *const *argv, const char *dir, int out_fd, atomic_bool *cancel,
		struct err **e);
/* The same with in_fd as stdin. */
int run_program_in(const char *const *argv, const char *dir, int in_fd, int out_fd,
		   atomic_bool *cancel, struct err **e);
/* True when PATH has it. */
bool program_exists(const char *name);

#endif
