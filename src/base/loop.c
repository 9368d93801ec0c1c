/* Event loop on epoll; timers in a binary heap; posts through an eventfd.  See loop.h. */
#include "base/loop.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/vec.h"

#define BATCH 64

struct post {
	struct post *next;
	void (*fn)(void *arg);
	void *arg;
};

struct loop {
	const struct clock *clock;
	int epfd;
	bool stopped;
	int code;
	struct list watches;
	VEC(struct timer *) heap;
	uint64_t order;
	/* Invariant: every watch in batch[next..n_batch) is active; watch_remove() clears its entry. */
	struct epoll_event batch[BATCH];
	int batch_next, n_batch;
	struct watch wake;
	pthread_mutex_t lock; /* guards posts, which other threads append to */
	struct post *posts, **posts_end;
};

/* -- timers --------------------------------------------------------------------------------------- */

static bool earlier(const struct timer *a, const struct timer *b)
{
	return a->when != b->when ? a->when < b->when : a->order < b->order;
}

static void heap_put(struct loop *l, size_t i, struct timer *t)
{
	l->heap.v[i] = t;
	t->heap_index = i;
}

static void heap_up(struct loop *l, size_t i)
{
	struct timer *t = l->heap.v[i];

	for (; i > 0 && earlier(t, l->heap.v[(i - 1) / 2]); i = (i - 1) / 2)
		heap_put(l, i, l->heap.v[(i - 1) / 2]);
	heap_put(l, i, t);
}

static void heap_down(struct loop *l, size_t i)
{
	struct timer *t = l->heap.v[i];
	size_t n = l->heap.n, child;

	for (; (child = 2 * i + 1) < n; i = child) {
		if (child + 1 < n && earlier(l->heap.v[child + 1], l->heap.v[child]))
			child++;
		if (!earlier(l->heap.v[child], t))
			break;
		heap_put(l, i, l->heap.v[child]);
	}
	heap_put(l, i, t);
}

static void heap_remove(struct loop *l, size_t i)
{
	struct timer *last = l->heap.v[--l->heap.n];

	if (i == l->heap.n)
		return;
	heap_put(l, i, last);
	heap_up(l, i);
	heap_down(l, last->heap_index);
}

int timer_start_at(struct loop *l, struct timer *t, const char *name, nsec_t when, timer_fn *fn)
{
	int r;

	timer_stop(t);
	r = vec_push(&l->heap, t);
	if (r < 0)
		return r;
	t->loop = l;
	t->name = name;
	t->when = when;
	t->period = 0;
	t->order = l->order++;
	t->fn = fn;
	t->heap_index = l->heap.n - 1;
	heap_up(l, t->heap_index);
	return 0;
}

int timer_start(struct loop *l, struct timer *t, const char *name, nsec_t delay, nsec_t period,
		timer_fn *fn)
{
	nsec_t now = loop_now(l);
	int r = timer_start_at(l, t, name, delay > NSEC_FOREVER - now ? NSEC_FOREVER : now + delay,
			       fn);

	if (r == 0)
		t->period = period;
	return r;
}

void timer_stop(struct timer *t)
{
	if (!t || !t->loop)
		return;
	heap_remove(t->loop, t->heap_index);
	t->loop = NULL;
}

/* Fire what was due when the round began; timers started by these callbacks wait for the next round. */
static int run_timers(struct loop *l)
{
	nsec_t now = loop_now(l);
	uint64_t limit = l->order;
	int n = 0;

	while (l->heap.n && !l->stopped) {
		struct timer *t = l->heap.v[0];

		if (t->when > now || t->order >= limit)
			break;
		if (t->period > 0) {
			nsec_t missed = (now - t->when) / t->period;

			t->when += (missed + 1) * t->period;
			t->order = l->order++;
			heap_down(l, 0);
		} else {
			timer_stop(t);
		}
		t->fn(t);
		n++;
	}
	return n;
}

/* -- watches -------------------------------------------------------------------------------------- */

static int watch_add(struct loop *l, struct watch *w, const char *name, int fd, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = w };

	if (w->loop)
		return -EBUSY;
	if (epoll_ctl(l->epfd, EPOLL_CTL_ADD, fd, &ev) < 0)
		return -errno;
	w->loop = l;
	w->name = name;
	w->fd = fd;
	w->own_fd = false;
	w->events = events;
	list_add_tail(&l->watches, &w->node);
	return 0;
}

static void dispatch_fd(struct watch *w, uint32_t events)
{
	w->fd_fn(w, events);
}

int watch_fd(struct loop *l, struct watch *w, const char *name, int fd, uint32_t events,
	     watch_fn *fn)
{
	int r = watch_add(l, w, name, fd, events);

	if (r < 0)
		return r;
	w->dispatch = dispatch_fd;
	w->fd_fn = fn;
	return 0;
}

int watch_modify(struct watch *w, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = w };

	if (!w->loop)
		return -EINVAL;
	if (w->events == events)
		return 0;
	if (epoll_ctl(w->loop->epfd, EPOLL_CTL_MOD, w->fd, &ev) < 0)
		return -errno;
	w->events = events;
	return 0;
}

void watch_remove(struct watch *w)
{
	struct loop *l = w ? w->loop : NULL;

	if (!l)
		return;
	/* the fd may be closed already: then epoll has forgotten it by itself */
	epoll_ctl(l->epfd, EPOLL_CTL_DEL, w->fd, NULL);
	for (int i = l->batch_next; i < l->n_batch; i++) {
		if (l->batch[i].data.ptr == w)
			l->batch[i].data.ptr = NULL;
	}
	list_del(&w->node);
	if (w->own_fd)
		safe_close(w->fd);
	w->fd = -1;
	w->loop = NULL;
}

static void dispatch_signal(struct watch *w, uint32_t events)
{
	struct signalfd_siginfo si;

	if (read(w->fd, &si, sizeof(si)) == (ssize_t)sizeof(si))
		w->signal_fn(w, &si);
}

int watch_signal(struct loop *l, struct watch *w, const char *name, int signo, signal_fn *fn)
{
	_cleanup_(closep) int fd = -1;
	sigset_t set;
	int r;

	sigemptyset(&set);
	if (sigaddset(&set, signo) < 0)
		return -EINVAL;
	r = pthread_sigmask(SIG_BLOCK, &set, NULL);
	if (r != 0)
		return -r;
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		return -errno;
	r = watch_add(l, w, name, fd, EPOLLIN);
	if (r < 0)
		return r;
	TAKE_FD(fd);
	w->own_fd = true;
	w->dispatch = dispatch_signal;
	w->signal_fn = fn;
	return 0;
}

static void dispatch_child(struct watch *w, uint32_t events)
{
	siginfo_t si = { 0 };

	if (waitid(P_PIDFD, (id_t)w->fd, &si, WEXITED | WNOHANG) == 0 && si.si_pid == 0)
		return;
	watch_remove(w);
	w->child_fn(w, &si);
}

int watch_child(struct loop *l, struct watch *w, const char *name, pid_t pid, child_fn *fn)
{
	_cleanup_(closep) int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	int r;

	if (fd < 0)
		return -errno;
	r = watch_add(l, w, name, fd, EPOLLIN);
	if (r < 0)
		return r;
	TAKE_FD(fd);
	w->own_fd = true;
	w->dispatch = dispatch_child;
	w->child_fn = fn;
	return 0;
}

/* -- posts ---------------------------------------------------------------------------------------- */

static void run_posts(struct watch *w, uint32_t events)
{
	struct loop *l = w->data;
	struct post *p, *next;
	uint64_t n;

	if (read(w->fd, &n, sizeof(n)) < 0)
		return;
	pthread_mutex_lock(&l->lock);
	p = l->posts;
	l->posts = NULL;
	l->posts_end = &l->posts;
	pthread_mutex_unlock(&l->lock);
	for (; p; p = next) {
		next = p->next;
		p->fn(p->arg);
		free(p);
	}
}

int loop_post(struct loop *l, void (*fn)(void *arg), void *arg)
{
	struct post *p = malloc(sizeof(*p));
	uint64_t one = 1;

	if (!p)
		return -ENOMEM;
	*p = (struct post){ .fn = fn, .arg = arg };
	pthread_mutex_lock(&l->lock);
	*l->posts_end = p;
	l->posts_end = &p->next;
	/* the counter cannot overflow before it is read, and a full one wakes just as well */
	if (write(l->wake.fd, &one, sizeof(one)) < 0)
		errno = 0;
	pthread_mutex_unlock(&l->lock);
	return 0;
}

/* -- the loop ------------------------------------------------------------------------------------- */

int loop_new(const struct clock *clock, struct loop **ret)
{
	_cleanup_(loop_freep) struct loop *l = calloc(1, sizeof(*l));
	int fd, r;

	if (!l)
		return -ENOMEM;
	l->epfd = -1;
	l->clock = clock ? clock : &clock_mono;
	list_init(&l->watches);
	l->posts_end = &l->posts;
	pthread_mutex_init(&l->lock, NULL);
	l->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (l->epfd < 0)
		return -errno;
	fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (fd < 0)
		return -errno;
	r = watch_fd(l, &l->wake, "loop posts", fd, EPOLLIN, run_posts);
	if (r < 0) {
		safe_close(fd);
		return r;
	}
	l->wake.own_fd = true;
	l->wake.data = l;
	*ret = TAKE(l);
	return 0;
}

void loop_free(struct loop *l)
{
	struct watch *w, *tmp;
	struct post *p, *next;

	if (!l)
		return;
	list_for_each_entry_safe(w, tmp, &l->watches, node)
		watch_remove(w);
	for (size_t i = 0; i < l->heap.n; i++)
		l->heap.v[i]->loop = NULL;
	for (p = l->posts; p; p = next) {
		next = p->next;
		free(p);
	}
	vec_done(&l->heap);
	pthread_mutex_destroy(&l->lock);
	safe_close(l->epfd);
	free(l);
}

nsec_t loop_now(const struct loop *l)
{
	return clock_now(l->clock);
}

const struct clock *loop_clock(const struct loop *l)
{
	return l->clock;
}

int loop_fd(const struct loop *l)
{
	return l->epfd;
}

void loop_stop(struct loop *l, int code)
{
	l->stopped = true;
	l->code = code;
}

static int wait_events(struct loop *l, nsec_t timeout)
{
	struct timespec ts = { .tv_sec = timeout / NSEC_PER_SEC,
			       .tv_nsec = timeout % NSEC_PER_SEC };
	int n;

	do {
		/* by number: musl has no function for it */
		n = (int)syscall(SYS_epoll_pwait2, l->epfd, l->batch, BATCH,
				 timeout == NSEC_FOREVER ? NULL : &ts, NULL, (size_t)0);
		if (n < 0 && errno == ENOSYS) /* before Linux 5.11: round up, never early */
			n = epoll_wait(l->epfd, l->batch, BATCH,
				       timeout == NSEC_FOREVER
					       ? -1
					       : (int)MIN(DIV_ROUND_UP(timeout, NSEC_PER_MSEC),
							  (nsec_t)INT32_MAX));
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

int loop_once(struct loop *l, nsec_t timeout)
{
	nsec_t until_timer = NSEC_FOREVER;
	int n, calls = 0;

	if (l->heap.n)
		until_timer = MAX(l->heap.v[0]->when - loop_now(l), (nsec_t)0);
	if (l->clock->virtual_time) {
		/* real fds first, without waiting; idle: let the time pass that they did not need */
		n = wait_events(l, l->heap.n || timeout == 0 ? 0 : timeout);
		if (n == 0 && MIN(until_timer, timeout) != NSEC_FOREVER)
			clock_advance((struct clock *)l->clock, MIN(until_timer, timeout));
	} else {
		n = wait_events(l, MIN(until_timer, timeout));
	}
	if (n < 0)
		return n;
	l->n_batch = n;
	for (l->batch_next = 0; l->batch_next < l->n_batch;) {
		struct epoll_event *ev = &l->batch[l->batch_next++];
		struct watch *w = ev->data.ptr;

		if (!w)
			continue;
		w->dispatch(w, ev->events);
		calls++;
	}
	l->n_batch = l->batch_next = 0;
	return calls + run_timers(l);
}

int loop_run(struct loop *l)
{
	l->stopped = false;
	l->code = 0;
	while (!l->stopped) {
		int r = loop_once(l, NSEC_FOREVER);

		if (r < 0)
			return r;
	}
	return l->code;
}

void loop_dump(const struct loop *l, struct buf *out)
{
	struct watch *w;

	list_for_each_entry(w, &l->watches, node)
		buf_addf(out, "watch %s fd=%d events=%#x\n", w->name, w->fd, w->events);
	for (size_t i = 0; i < l->heap.n; i++)
		buf_addf(out, "timer %s in=%lldms\n", l->heap.v[i]->name,
			 (long long)((l->heap.v[i]->when - loop_now(l)) / NSEC_PER_MSEC));
}
