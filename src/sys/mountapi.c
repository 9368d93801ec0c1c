/* System calls of the mount API; see mountapi.h. */
#include "sys/mountapi.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_open_tree
#define SYS_open_tree  428
#define SYS_move_mount 429
#define SYS_fsopen     430
#define SYS_fsconfig   431
#define SYS_fsmount    432
#endif
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif

static int ret(long r)
{
	return r < 0 ? -errno : (int)r;
}

int sys_open_tree(int dirfd, const char *path, unsigned int flags)
{
	return ret(syscall(SYS_open_tree, dirfd, path, flags | OPEN_TREE_CLOEXEC));
}

int sys_move_mount(int from_fd, int to_fd)
{
	return ret(syscall(SYS_move_mount, from_fd, "", to_fd, "",
			   MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH));
}

int sys_fsopen(const char *fstype)
{
	return ret(syscall(SYS_fsopen, fstype, FSOPEN_CLOEXEC));
}

int sys_fsconfig(int fsfd, enum sys_fsconfig cmd, const char *key, const char *value)
{
	return ret(syscall(SYS_fsconfig, fsfd, cmd, key, value, 0));
}

int sys_fsmount(int fsfd, unsigned int attr)
{
	return ret(syscall(SYS_fsmount, fsfd, FSMOUNT_CLOEXEC, attr));
}

int sys_mount_setattr(int dirfd, const char *path, unsigned int flags,
		      const struct sys_mount_attr *attr)
{
	return ret(syscall(SYS_mount_setattr, dirfd, path, flags, attr, sizeof(*attr)));
}

int sys_pivot_root(const char *new_root, const char *put_old)
{
	return ret(syscall(SYS_pivot_root, new_root, put_old));
}

const char *sys_fs_message(int fsfd, char *buf, size_t len)
{
	ssize_t n;

	/* Records are "e text", "w text", "i text"; the last error is what counts. */
	buf[0] = '\0';
	for (;;) {
		char rec[256];

		n = read(fsfd, rec, sizeof(rec) - 1);
		if (n <= 0)
			return buf;
		rec[n] = '\0';
		if (n > 2 && rec[0] == 'e') {
			size_t l = MIN((size_t)n - 2, len - 1);

			memcpy(buf, rec + 2, l);
			buf[l] = '\0';
			while (l > 0 && buf[l - 1] == '\n')
				buf[--l] = '\0';
		}
	}
}
