/* The mount API (open_tree, fsopen, ...) of Linux 5.2 and later: mounts are built as file descriptors and attached at the end, so a
 * target is a descriptor that was resolved inside a root, never a string.
 *
 * Thin: a system call each, -errno on failure, errors worded by the caller.  Constants are defined here because
 * neither C library has them all.  Thread: any. */
#ifndef SYS_MOUNTAPI_H
#define SYS_MOUNTAPI_H

#include <sys/mount.h>
#include "base/types.h"

#ifndef OPEN_TREE_CLONE
#define OPEN_TREE_CLONE 1
#endif
#ifndef OPEN_TREE_CLOEXEC
#define OPEN_TREE_CLOEXEC 02000000
#endif
#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000
#endif
#ifndef AT_EMPTY_PATH
#define AT_EMPTY_PATH 0x1000
#endif
#ifndef MOVE_MOUNT_F_EMPTY_PATH
#define MOVE_MOUNT_F_EMPTY_PATH 0x00000004
#endif
#ifndef MOVE_MOUNT_T_EMPTY_PATH
#define MOVE_MOUNT_T_EMPTY_PATH 0x00000040
#endif
#ifndef FSOPEN_CLOEXEC
#define FSOPEN_CLOEXEC	1
#define FSMOUNT_CLOEXEC 1
#endif
#ifndef MOUNT_ATTR_RDONLY
#define MOUNT_ATTR_RDONLY      0x00000001
#define MOUNT_ATTR_NOSUID      0x00000002
#define MOUNT_ATTR_NODEV       0x00000004
#define MOUNT_ATTR_NOEXEC      0x00000008
#define MOUNT_ATTR__ATIME      0x00000070
#define MOUNT_ATTR_RELATIME    0x00000000
#define MOUNT_ATTR_NOATIME     0x00000010
#define MOUNT_ATTR_STRICTATIME 0x00000020
#define MOUNT_ATTR_NODIRATIME  0x00000080
#endif
#ifndef MOUNT_ATTR_IDMAP
#define MOUNT_ATTR_IDMAP 0x00100000
#endif
#ifndef MOUNT_ATTR_NOSYMFOLLOW
#define MOUNT_ATTR_NOSYMFOLLOW 0x00200000
#endif
#ifndef MS_NOSYMFOLLOW
#define MS_NOSYMFOLLOW 256
#endif

enum sys_fsconfig { /* as in linux/mount.h, whose header cannot be included beside sys/mount.h */
		    SYS_FSCONFIG_FLAG = 0,
		    SYS_FSCONFIG_STRING = 1,
		    SYS_FSCONFIG_CREATE = 6,
		    SYS_FSCONFIG_RECONFIGURE = 7,
};

struct sys_mount_attr {
	uint64_t set, clr, propagation, userns_fd;
};

/* All return a descriptor (close-on-exec) or 0, or -errno. */
int sys_open_tree(int dirfd, const char *path, unsigned int flags);
int sys_move_mount(int from_fd, int to_fd); /* both by descriptor */
int sys_fsopen(const char *fstype);
int sys_fsconfig(int fsfd, enum sys_fsconfig cmd, const char *key, const char *value);
int sys_fsmount(int fsfd, unsigned int attr);
int sys_mount_setattr(int dirfd, const char *path, unsigned int flags,
		      const struct sys_mount_attr *attr);
int sys_pivot_root(const char *new_root, const char *put_old);
/* What the file system itself said about the last failure on fsfd; "" when it said nothing. */
const char *sys_fs_message(int fsfd, char *buf, size_t len);

#endif
