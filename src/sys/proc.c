/* clone3, pidfds and /proc/PID/stat; see proc.h. */
#include "sys/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "base/cleanup.h"

#ifndef SYS_clone3
#define SYS_clone3 435
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif
#define CLOSE_RANGE_CLOEXEC_FLAG 4U

pid_t sys_clone3(uint64_t flags, int exit_signal, int *pidfd, int cgroup_fd)
{
	struct {
		uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls,
			set_tid, set_tid_size, cgroup;
	} args = { .flags = flags, .exit_signal = (uint64_t)exit_signal };
	long r;

	if (pidfd) {
		args.flags |= CLONE_PIDFD;
		args.pidfd = (uint64_t)(uintptr_t)pidfd;
	}
	if (cgroup_fd >= 0) {
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = (uint64_t)cgroup_fd;
	}
	r = syscall(SYS_clone3, &args, sizeof(args));
	return r < 0 ? -errno : (pid_t)r;
}

int sys_pidfd_open(pid_t pid)
{
	long r = syscall(SYS_pidfd_open, pid, 0);

	return r < 0 ? -errno : (int)r;
}

int sys_pidfd_send_signal(int pidfd, int sig)
{
	return syscall(SYS_pidfd_send_signal, pidfd, sig, NULL, 0) < 0 ? -errno : 0;
}

int sys_pidfd_getfd(int pidfd, int fd)
{
	long r = syscall(SYS_pidfd_getfd, pidfd, fd, 0);

	return r < 0 ? -errno : (int)r;
}

int sys_close_range(unsigned int first, unsigned int last)
{
	return syscall(SYS_close_range, first, last, 0) < 0 ? -errno : 0;
}

int sys_cloexec_range(unsigned int first, unsigned int last)
{
	return syscall(SYS_close_range, first, last, CLOSE_RANGE_CLOEXEC_FLAG) < 0 ? -errno : 0;
}

int sys_sealed_memfd(const char *name, const void *data, size_t len)
{
	_cleanup_(closep) int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
	const char *p = data;

	if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
		fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	while (len > 0) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= (size_t)n;
	}
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
		return -errno;
	return TAKE_FD(fd);
}

int proc_stat_read(pid_t pid, struct proc_stat *ret)
{
	char path[40], text[1024], *p, *save = NULL, *word;
	_cleanup_(closep) int fd = -1;
	ssize_t n;
	int i;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	n = read(fd, text, sizeof(text) - 1);
	if (n < 0)
		return -errno;
	text[n] = '\0';
	p = strrchr(text, ')'); /* the name may hold anything, the last ')' ends it */
	if (!p || p[1] != ' ')
		return -EPROTO;
	ret->state = p[2];
	for (i = 3, word = strtok_r(p + 2, " ", &save); word;
	     i++, word = strtok_r(NULL, " ", &save)) {
		if (i == 4)
			ret->ppid = (pid_t)strtol(word, NULL, 10);
		if (i == 22) {
			ret->start = strtoull(word, NULL, 10);
			return 0;
		}
	}
	return -EPROTO;
}

int proc_open(pid_t pid, uint64_t start)
{
	_cleanup_(closep) int fd = sys_pidfd_open(pid);
	struct proc_stat st = { 0 };
	int r;

	if (fd < 0)
		return fd == -EINVAL ? -ESRCH : fd;
	r = proc_stat_read(pid, &st);
	if (r < 0)
		return r;
	/* Opened before read: a process that matches now is the one behind the descriptor. */
	if (st.start != start || st.state == 'Z' || st.state == 'X')
		return -ESRCH;
	return TAKE_FD(fd);
}
