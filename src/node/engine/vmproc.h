/* The process of a VM monitor (QEMU, strata-vmm): started so that it outlives the daemon, found again, watched to its end.
 *
 * A file in the instance's folder names it by pid and start time before it runs a single instruction of the monitor: a daemon
 * that dies between the two leaves a child that ends by itself.  Thread: the loop's. */
#ifndef NODE_ENGINE_VMPROC_H
#define NODE_ENGINE_VMPROC_H

#include "base/loop.h"

struct vmproc { /* zeroed; private but for pid, start, data */
	pid_t pid;
	uint64_t start; /* clock ticks since boot */
	int pidfd;
	bool child; /* of this process: its status can be had */
	struct watch watch;
	/* code: exit status, 128 + signal, or -1 when it is not known (it was adopted); called once. */
	void (*on_end)(struct vmproc *p, int code);
	void *data;
};

/* A listening unix socket in dir, for a monitor to be handed and for us to connect to. */
int vmproc_listen(const char *dir, const char *name, int *ret, struct err **e);
/* A connection to it; works before the monitor accepts. */
int vmproc_connect(const char *dir, const char *name, int *ret, struct err **e);

/* argv[0] is looked for in PATH.  keep: descriptors that it inherits under their numbers.  Its output goes to DIR/monitor.log.
 * file: name of the file in dir that gets {"pid","start"} and what `more` (a JSON object's inside, ", \"x\": 1", or NULL) says.
 * cgroups: NULL-terminated paths of cgroup.procs files that it is put into before it runs; may be NULL. */
int vmproc_spawn(struct loop *loop, const char *dir, const char *file, const char *more,
		 char *const *argv, const int *keep, size_t n_keep, char *const *cgroups,
		 void (*on_end)(struct vmproc *p, int code), struct vmproc *p, struct err **e);
/* The process that DIR/file names, if it still runs.  text: what the file says.  -ESRCH: no file, or it is gone. */
int vmproc_adopt(struct loop *loop, const char *dir, const char *file, struct buf *text,
		 void (*on_end)(struct vmproc *p, int code), struct vmproc *p, struct err **e);
int vmproc_signal(struct vmproc *p, int signo); /* -ESRCH */
/* Forgets it; it goes on. */
void vmproc_forget(struct vmproc *p);
/* User and system time, nanoseconds, and resident bytes. */
int vmproc_usage(const struct vmproc *p, nsec_t *user, nsec_t *system, uint64_t *rss);
/* The last lines of DIR/monitor.log, for an error's message. */
void vmproc_last_words(const char *dir, char *buf, size_t len);

#endif
