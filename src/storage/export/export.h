/* What is served, and the threads that serve: shared by the protocols of this folder.
 *
 * An export is an open disk under a name.  I/O threads run a loop each; a connection or a virtqueue belongs to one of
 * them and uses that thread's queue of the disk.
 *
 * Threads: the main thread makes and frees; export_queue() on an I/O thread; export_lock() around everything that
 * storage.h wants from one thread at a time (extents, resize, parameters). */
#ifndef STORAGE_EXPORT_H
#define STORAGE_EXPORT_H

#include <pthread.h>
#include <stdatomic.h>
#include "base/loop.h"
#include "base/work.h"
#include "storage/storage.h"

#define EXPORT_THREADS_MAX 64U

struct export_thread {
	unsigned int index;
	struct loop *loop;
	struct work_pool *workers; /* what may block: one worker, of this loop */
	pthread_t thread;
	bool started;
	atomic_uint users; /* connections and virtqueues that live here */
	void *nbd;	   /* nbd_server.c's */
};

struct export_threads {
	unsigned int n;
	struct export_thread *t;
};

int export_threads_start(struct export_threads *ts, unsigned int n, struct err **e);
/* Everything that lives on them must be gone.  Zeroed or a second time: no effect. */
void export_threads_stop(struct export_threads *ts);
/* Run fn(arg) on t and wait; not from an I/O thread. */
void export_thread_call(struct export_thread *t, void (*fn)(void *arg), void *arg);
/* The one with the fewest users, counted as one more; export_thread_release() takes it back. */
struct export_thread *export_thread_acquire(struct export_threads *ts);
void export_thread_release(struct export_thread *t);

struct disk_export {
	char *name, *description; /* description: NULL for none */
	struct disk *disk;
	pthread_mutex_t lock;
	struct disk_queue *q[EXPORT_THREADS_MAX];
};

/* Takes the disk over, also when it fails. */
int export_new(const char *name, const char *description, struct disk *d, struct disk_export **ret,
	       struct err **e);
/* Closes the queues on their threads, then the disk; its first error. */
int export_free(struct disk_export *x, struct export_threads *ts);

/* On thread t.  NULL: it could not be made, the reason was logged. */
struct disk_queue *export_queue(struct disk_export *x, struct export_thread *t);

#endif
