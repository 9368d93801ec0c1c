/* Worker threads for what blocks: files, DNS, compression, other people's libraries.
 *
 * fn runs on a worker, then done runs on the loop's thread.  The work lives in the caller's memory until done was
 * called.  Thread: submit and cancel from the loop's thread. */
#ifndef BASE_WORK_H
#define BASE_WORK_H

#include "base/list.h"
#include "base/loop.h"

struct work_pool;

struct work { /* zero it first; private but for `data` and `cancelled` */
	void (*fn)(struct work *w);
	void (*done)(struct work *w);
	void *data;
	bool ended;	/* fn is through; guarded by the pool's lock */
	bool cancelled; /* set by work_cancel(): a long fn looks at it (atomically) and returns early */
	struct work_pool *pool;
	struct list node;
};

/* loop: borrowed, outlives the pool.  Threads start when there is work, up to n_threads. */
int work_pool_new(struct loop *loop, unsigned int n_threads, struct work_pool **ret);
/* Cancels what waits, waits for what runs; the done callbacks of both still run, from here.  NULL: no effect. */
void work_pool_free(struct work_pool *p);
/* The same, but that the pool is still there: work_submit() says -ESHUTDOWN from now on.  NULL, twice: no effect. */
void work_pool_stop(struct work_pool *p);
DEFINE_CLEANUP(struct work_pool *, work_pool_free);

/* 0; -ESHUTDOWN after work_pool_stop(), or -errno when no thread could be started (the work was not taken). */
int work_submit(struct work_pool *p, struct work *w, void (*fn)(struct work *w),
		void (*done)(struct work *w));
/* Sets w->cancelled; a work that has not started skips fn; done is called in any case. */
void work_cancel(struct work *w);
/* Blocks until fn is through, then calls done from here.  Only before done was called. */
void work_wait(struct work *w);
static inline bool work_cancelled(const struct work *w)
{
	return __atomic_load_n(&w->cancelled, __ATOMIC_RELAXED);
}

#endif
