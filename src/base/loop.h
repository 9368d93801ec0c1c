/* One event loop per thread: file descriptors, signals, child processes, timers and messages from other
 * threads.  Callbacks do not block; blocking work goes to base/work.h.
 *
 * A watch or timer lives in the caller's memory, must be zeroed before its first use and stay put while it is
 * active; both may be removed (and freed) inside any callback, their own included.  Names are borrowed and
 * show up in debug logs and loop_dump().
 *
 * Thread: the loop's own, but for loop_post() and loop_wake().  io_uring: register an eventfd or the ring's fd
 * with watch_fd() and reap in the callback. */
#ifndef BASE_LOOP_H
#define BASE_LOOP_H

#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/list.h"

struct loop;
struct watch;
struct timer;

typedef void watch_fn(struct watch *w,
		      uint32_t events); /* EPOLLIN | EPOLLOUT | EPOLLHUP | EPOLLERR */
typedef void signal_fn(struct watch *w, const struct signalfd_siginfo *si);
typedef void child_fn(struct watch *w,
		      const siginfo_t *si); /* si_code CLD_EXITED, CLD_KILLED, CLD_DUMPED */
typedef void timer_fn(struct timer *t);

struct watch {		   /* private but for `data` */
	struct loop *loop; /* NULL: not active */
	const char *name;
	int fd;
	bool own_fd;
	uint32_t events;
	void (*dispatch)(struct watch *w, uint32_t events);
	union {
		watch_fn *fd_fn;
		signal_fn *signal_fn;
		child_fn *child_fn;
	};
	struct list node;
	void *data; /* the caller's */
};

struct timer {		   /* private but for `data` */
	struct loop *loop; /* NULL: not active */
	const char *name;
	nsec_t when, period;
	uint64_t order; /* equal times fire in the order they were started */
	size_t heap_index;
	timer_fn *fn;
	void *data; /* the caller's */
};

/* clock: borrowed, NULL means clock_mono. */
int loop_new(const struct clock *clock, struct loop **ret);
/* Every watch and timer is forgotten, fds that the loop made are closed; NULL: no effect. */
void loop_free(struct loop *l);
DEFINE_CLEANUP(struct loop *, loop_free);

/* Run until loop_stop(); returns its code, or -errno when waiting failed. */
int loop_run(struct loop *l);
/* One round: wait at most `timeout` (NSEC_FOREVER: until something happens, 0: do not wait).
 * Returns the number of callbacks made, or -errno. */
int loop_once(struct loop *l, nsec_t timeout);
void loop_stop(struct loop *l, int code);
nsec_t loop_now(const struct loop *l); /* the loop's clock, read now */
const struct clock *loop_clock(const struct loop *l);
int loop_fd(const struct loop *l); /* the epoll fd, to nest in another loop */

/* Call fn(arg) on the loop's thread.  Any thread, never from a signal handler; 0 or -ENOMEM. */
int loop_post(struct loop *l, void (*fn)(void *arg), void *arg);

/* fd stays the caller's.  -EEXIST: the fd is watched already; -EBUSY: w is active. */
int watch_fd(struct loop *l, struct watch *w, const char *name, int fd, uint32_t events,
	     watch_fn *fn);
int watch_modify(struct watch *w, uint32_t events);
/* Blocks signo in this thread (do it before other threads start) and reads it from a signalfd. */
int watch_signal(struct loop *l, struct watch *w, const char *name, int signo, signal_fn *fn);
/* pid must be a child of ours; it is reaped (waitid) just before fn, which is called once. */
int watch_child(struct loop *l, struct watch *w, const char *name, pid_t pid, child_fn *fn);
/* Not active or NULL: no effect.  A signal stays blocked. */
void watch_remove(struct watch *w);
static inline bool watch_active(const struct watch *w)
{
	return w->loop != NULL;
}

/* Fires after `delay`, then every `period` (0: once).  An active timer is started anew.  Missed periods of a
 * busy loop are skipped, not made up.  0 or -ENOMEM. */
int timer_start(struct loop *l, struct timer *t, const char *name, nsec_t delay, nsec_t period,
		timer_fn *fn);
int timer_start_at(struct loop *l, struct timer *t, const char *name, nsec_t when, timer_fn *fn);
void timer_stop(struct timer *t);
static inline bool timer_active(const struct timer *t)
{
	return t->loop != NULL;
}

/* A line per watch and timer, for `doctor` and debug logs. */
void loop_dump(const struct loop *l, struct buf *out);

#endif
