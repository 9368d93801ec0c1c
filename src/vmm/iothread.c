/* See iothread.h. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include "vmm/iothread.h"
#include "vmm/machine.h"
#include "vmm/sandbox.h"

static _Thread_local struct loop *own_loop;

void iothread_adopt(struct loop *l)
{
	own_loop = l;
}

struct loop *vm_main_loop(struct vm *vm)
{
	return vm->loop;
}

static void *io_main(void *arg)
{
	struct iothread *t = arg;

	own_loop = t->loop;
	sandbox_enter(SANDBOX_IO);
	loop_run(t->loop);
	return NULL;
}

struct loop *vm_io_loop(struct vm *vm, unsigned int hint, struct err **e)
{
	struct iothread *t;
	sigset_t all, old;
	char name[16];
	int r;

	if (vm->cfg.io_threads == 0)
		return vm->loop;
	hint %= vm->cfg.io_threads;
	t = &vm->io[hint];
	if (t->started)
		return t->loop;
	r = loop_new(NULL, &t->loop);
	if (r < 0) {
		err_set(e, -r, "iothread.loop", "make the loop of an I/O thread");
		return NULL;
	}
	/* Signals are the main thread's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&t->thread, NULL, io_main, t);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r) {
		loop_free(t->loop);
		t->loop = NULL;
		err_sys(e, r, "start an I/O thread");
		return NULL;
	}
	snprintf(name, sizeof(name), "io%u", hint);
	pthread_setname_np(t->thread, name);
	t->started = true;
	return t->loop;
}

static void stop_loop(void *arg)
{
	loop_stop(arg, 0);
}

void iothread_stop_all(struct vm *vm)
{
	for (unsigned int i = 0; i < VM_IO_THREADS_MAX; i++) {
		struct iothread *t = &vm->io[i];

		if (!t->started)
			continue;
		iothread_call(t->loop, stop_loop, t->loop);
		pthread_join(t->thread, NULL);
		loop_free(t->loop);
		*t = (struct iothread){ 0 };
	}
}

struct call {
	void (*fn)(void *arg);
	void *arg;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool done;
};

static void run_call(void *arg)
{
	struct call *c = arg;

	c->fn(c->arg);
	pthread_mutex_lock(&c->lock);
	c->done = true;
	pthread_cond_signal(&c->cond);
	pthread_mutex_unlock(&c->lock);
}

void iothread_call(struct loop *l, void (*fn)(void *arg), void *arg)
{
	struct call c = { .fn = fn,
			  .arg = arg,
			  .lock = PTHREAD_MUTEX_INITIALIZER,
			  .cond = PTHREAD_COND_INITIALIZER };

	if (l == own_loop) {
		fn(arg);
		return;
	}
	/* Waiting for memory beats giving up: a device must stop when it is told to. */
	while (loop_post(l, run_call, &c) == -ENOMEM)
		usleep(1000);
	pthread_mutex_lock(&c.lock);
	while (!c.done)
		pthread_cond_wait(&c.cond, &c.lock);
	pthread_mutex_unlock(&c.lock);
	pthread_mutex_destroy(&c.lock);
	pthread_cond_destroy(&c.cond);
}
