/* Worker pool.  Invariant: a work is in `queue`, on exactly one worker, or in `finished` until done was called. */
#include "base/work.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>

struct work_pool {
	struct loop *loop;
	struct watch wake;
	int eventfd;
	unsigned int max_threads, n_threads, n_idle;
	pthread_t *threads;
	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t more, ended;
	struct list queue, finished;
	unsigned int n_queued;
	bool stopping;
};

static void *worker(void *arg)
{
	struct work_pool *p = arg;
	uint64_t one = 1;

	pthread_mutex_lock(&p->lock);
	for (;;) {
		struct list *n = list_pop(&p->queue);
		struct work *w;

		if (!n) {
			if (p->stopping)
				break;
			p->n_idle++;
			pthread_cond_wait(&p->more, &p->lock);
			p->n_idle--;
			continue;
		}
		w = list_entry(n, struct work, node);
		p->n_queued--;
		pthread_mutex_unlock(&p->lock);
		if (!work_cancelled(w))
			w->fn(w);
		pthread_mutex_lock(&p->lock);
		w->ended = true;
		list_add_tail(&p->finished, &w->node);
		pthread_cond_broadcast(&p->ended);
		if (write(p->eventfd, &one, sizeof(one)) < 0)
			continue; /* a full counter wakes the loop just as well */
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

static void run_finished(struct work_pool *p)
{
	for (;;) {
		struct list *n;

		pthread_mutex_lock(&p->lock);
		n = list_pop(&p->finished);
		pthread_mutex_unlock(&p->lock);
		if (!n)
			return;
		list_entry(n, struct work, node)->done(list_entry(n, struct work, node));
	}
}

static void on_wake(struct watch *w, uint32_t events)
{
	struct work_pool *p = w->data;
	uint64_t n;

	if (read(p->eventfd, &n, sizeof(n)) > 0)
		run_finished(p);
}

int work_pool_new(struct loop *loop, unsigned int n_threads, struct work_pool **ret)
{
	_cleanup_(freep) struct work_pool *p = calloc(1, sizeof(*p));
	_cleanup_(freep) pthread_t *threads = calloc(n_threads, sizeof(*threads));
	int r;

	if (!p || !threads)
		return -ENOMEM;
	p->eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (p->eventfd < 0)
		return -errno;
	p->wake.data = p;
	r = watch_fd(loop, &p->wake, "work pool", p->eventfd, EPOLLIN, on_wake);
	if (r < 0) {
		safe_close(p->eventfd);
		return r;
	}
	p->loop = loop;
	p->max_threads = n_threads;
	p->threads = TAKE(threads);
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->more, NULL);
	pthread_cond_init(&p->ended, NULL);
	list_init(&p->queue);
	list_init(&p->finished);
	*ret = TAKE(p);
	return 0;
}

void work_pool_stop(struct work_pool *p)
{
	struct list *n;

	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	p->stopping = true;
	while ((n = list_pop(&p->queue))) {
		work_cancel(list_entry(n, struct work, node));
		list_add_tail(&p->finished, n);
	}
	pthread_cond_broadcast(&p->more);
	pthread_mutex_unlock(&p->lock);
	for (unsigned int i = 0; i < p->n_threads; i++)
		pthread_join(p->threads[i], NULL);
	p->n_threads = 0;
	run_finished(p);
}

void work_pool_free(struct work_pool *p)
{
	if (!p)
		return;
	work_pool_stop(p);
	watch_remove(&p->wake);
	safe_close(p->eventfd);
	pthread_cond_destroy(&p->more);
	pthread_cond_destroy(&p->ended);
	pthread_mutex_destroy(&p->lock);
	free(p->threads);
	free(p);
}

/* Workers take no signals: those belong to the loop's thread.  lock held. */
static int start_thread(struct work_pool *p)
{
	sigset_t all, old;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&p->threads[p->n_threads], NULL, worker, p);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r == 0)
		p->n_threads++;
	return -r;
}

int work_submit(struct work_pool *p, struct work *w, void (*fn)(struct work *w),
		void (*done)(struct work *w))
{
	int r = 0;

	w->fn = fn;
	w->done = done;
	w->pool = p;
	w->cancelled = w->ended = false;
	pthread_mutex_lock(&p->lock);
	if (p->stopping) {
		pthread_mutex_unlock(&p->lock);
		return -ESHUTDOWN;
	}
	if (p->n_queued >= p->n_idle && p->n_threads < p->max_threads)
		r = start_thread(p);
	if (p->n_threads > 0) {
		list_add_tail(&p->queue, &w->node);
		p->n_queued++;
		pthread_cond_signal(&p->more);
		r = 0;
	}
	pthread_mutex_unlock(&p->lock);
	return r;
}

void work_cancel(struct work *w)
{
	__atomic_store_n(&w->cancelled, true, __ATOMIC_RELAXED);
}

void work_wait(struct work *w)
{
	struct work_pool *p = w->pool;

	pthread_mutex_lock(&p->lock);
	while (!w->ended)
		pthread_cond_wait(&p->ended, &p->lock);
	list_del(&w->node);
	pthread_mutex_unlock(&p->lock);
	w->done(w);
}
