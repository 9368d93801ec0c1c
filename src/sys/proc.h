/* Processes by descriptor: clone3, pidfds, start times, closing descriptor ranges.  -errno on failure.
 * A process is named by its pid and its start time (clock ticks since boot): a pid alone may be somebody else's. */
#ifndef SYS_PROC_H
#define SYS_PROC_H

#include <stdint.h>
#include <unistd.h>
#include <sys/syscall.h>
#include <signal.h>
#include <sched.h>
#include <sys/types.h>
#include "base/types.h"

#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x00001000
#endif
#ifndef CLONE_NEWCGROUP
#define CLONE_NEWCGROUP 0x02000000
#endif
#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif
#ifndef CLONE_INTO_CGROUP
#define CLONE_INTO_CGROUP 0x200000000ULL
#endif

/* Like fork() with clone flags; the child returns 0.  pidfd may be NULL; cgroup_fd -1 or a cgroup v2 folder that the
 * child is born in.  exit_signal: SIGCHLD, or 0 with CLONE_PARENT. */
pid_t sys_clone3(uint64_t flags, int exit_signal, int *pidfd, int cgroup_fd);
int sys_pidfd_open(pid_t pid);
int sys_pidfd_send_signal(int pidfd, int sig);
int sys_pidfd_getfd(int pidfd, int fd);
int sys_close_range(unsigned int first, unsigned int last);
int sys_cloexec_range(unsigned int first, unsigned int last);
/* A memory file with data in it, sealed against every change, executable; close-on-exec. */
int sys_sealed_memfd(const char *name, const void *data, size_t len);

struct proc_stat {
	char state; /* 'R', 'S', 'Z', ... */
	pid_t ppid;
	uint64_t start; /* clock ticks since boot */
};
/* -ESRCH: no such process. */
int proc_stat_read(pid_t pid, struct proc_stat *ret);
/* A pidfd of pid if it is still the process that began at start; -ESRCH: not so. */
int proc_open(pid_t pid, uint64_t start);

/* Every signal to its default and none blocked, for a child that is about to exec.  By the bare system call: the C library
 * keeps some signals to itself (32 to 34) and would leave them as they were inherited. */
static inline void sys_reset_signals(void)
{
	struct {
		void *handler;
		unsigned long flags;
		void *restorer;
		uint64_t mask;
	} by_default = { 0 };
	uint64_t none = 0;

	for (int s = 1; s <= 64; s++) /* SIGKILL and SIGSTOP refuse, and need it not */
		syscall(SYS_rt_sigaction, s, &by_default, NULL, sizeof(none));
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, sizeof(none));
}

#endif
