/* See export.h. */
#define LOG_MODULE "export"
#include <semaphore.h>
#include <signal.h>
#include <string.h>
#include "base/log.h"
#include "storage/export/export.h"

static void *thread_main(void *arg)
{
	struct export_thread *t = arg;
	char name[16];

	snprintf(name, sizeof(name), "io%u", t->index);
	pthread_setname_np(pthread_self(), name);
	loop_run(t->loop);
	return NULL;
}

int export_threads_start(struct export_threads *ts, unsigned int n, struct err **e)
{
	sigset_t all, old;
	int r = 0;

	ts->t = calloc(n, sizeof(*ts->t));
	if (!ts->t)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old); /* signals are the main thread's */
	for (; ts->n < n && r == 0; ts->n++) {
		struct export_thread *t = &ts->t[ts->n];

		t->index = ts->n;
		r = loop_new(NULL, &t->loop);
		if (r == 0)
			r = work_pool_new(t->loop, 1, &t->workers);
		if (r == 0)
			r = -pthread_create(&t->thread, NULL, thread_main, t);
		t->started = r == 0;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r < 0) {
		export_threads_stop(ts);
		return err_sys(e, -r, "start an I/O thread");
	}
	return 0;
}

static void stop_loop(void *arg)
{
	loop_stop(arg, 0);
}

void export_threads_stop(struct export_threads *ts)
{
	for (unsigned int i = 0; i < ts->n; i++) {
		struct export_thread *t = &ts->t[i];

		if (t->started) {
			while (loop_post(t->loop, stop_loop, t->loop) < 0)
				;
			pthread_join(t->thread, NULL);
		}
		work_pool_free(t->workers);
		loop_free(t->loop);
	}
	free(ts->t);
	*ts = (struct export_threads){ 0 };
}

struct call {
	void (*fn)(void *arg);
	void *arg;
	sem_t done;
};

static void run_call(void *arg)
{
	struct call *c = arg;

	c->fn(c->arg);
	sem_post(&c->done);
}

void export_thread_call(struct export_thread *t, void (*fn)(void *arg), void *arg)
{
	struct call c = { .fn = fn, .arg = arg };

	sem_init(&c.done, 0, 0);
	while (loop_post(t->loop, run_call, &c) < 0)
		;
	while (sem_wait(&c.done) < 0)
		;
	sem_destroy(&c.done);
}

struct export_thread *export_thread_acquire(struct export_threads *ts)
{
	struct export_thread *best = &ts->t[0];

	for (unsigned int i = 1; i < ts->n; i++)
		if (atomic_load(&ts->t[i].users) < atomic_load(&best->users))
			best = &ts->t[i];
	atomic_fetch_add(&best->users, 1);
	return best;
}

void export_thread_release(struct export_thread *t)
{
	atomic_fetch_sub(&t->users, 1);
}

/* ---- exports ---- */

int export_new(const char *name, const char *description, struct disk *d, struct disk_export **ret,
	       struct err **e)
{
	struct disk_export *x = calloc(1, sizeof(*x));

	if (x) {
		x->name = strdup(name);
		x->description = description ? strdup(description) : NULL;
	}
	if (!x || !x->name || (description && !x->description)) {
		if (x)
			free(x->name);
		free(x);
		disk_close(d);
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	}
	pthread_mutex_init(&x->lock, NULL);
	x->disk = d;
	*ret = x;
	return 0;
}

static void close_queue(void *arg)
{
	disk_queue_close(arg);
}

int export_free(struct disk_export *x, struct export_threads *ts)
{
	int r;

	if (!x)
		return 0;
	for (unsigned int i = 0; i < ts->n; i++)
		if (x->q[i])
			export_thread_call(&ts->t[i], close_queue, x->q[i]);
	r = disk_close(x->disk);
	pthread_mutex_destroy(&x->lock);
	free(x->name);
	free(x->description);
	free(x);
	return r;
}

struct disk_queue *export_queue(struct disk_export *x, struct export_thread *t)
{
	_cleanup_(err_freep) struct err *e = NULL;

	if (!x->q[t->index] && disk_queue_open(x->disk, t->loop, &x->q[t->index], &e) < 0)
		log_err("cannot serve on this thread", "export", x->name, "error", e);
	return x->q[t->index];
}
