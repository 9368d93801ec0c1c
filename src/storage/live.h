/* Changing the graph of an open disk under I/O: what lies below the gate is exchanged while it is closed for a
 * moment.  The building stones of volumes and jobs.
 *
 * Threads: as storage.h says of calls that take a struct disk; beside I/O in all queues.  They block. */
#ifndef STORAGE_LIVE_H
#define STORAGE_LIVE_H

#include "storage/storage.h"

struct disk_node;
struct disk_ops;

/* The image at `path` (qcow2, empty, with the active image recorded as its backing file) becomes the active one; what
 * was active is sealed below it.  A cbw filter goes: what it guarded does not change any more.  All requests that
 * completed before are below, all that start later above.  On failure everything is as it was. */
int live_overlay(struct disk *d, const char *path, struct err **e);
/* Open the backing chain that the active image names now, and use it instead of the one in use.  The contents must be
 * the same.  The new extent map is built before I/O stops. */
int live_chain(struct disk *d, struct err **e);
/* After live_overlay(): the extent map of the whole chain, from what is open already. */
int live_fold(struct disk *d, struct err **e);
/* The image at `path` (it may be one of the chain) becomes the active one, the old graph below the gate is closed.
 * before(arg) runs while I/O is stopped and the old image is sealed: it makes path hold the same contents. */
int live_switch(struct disk *d, const char *path, const char *format,
		int (*before)(void *arg, struct err **e), void *arg, struct err **e);
/* A filter directly below the gate.  init() gets the node (its next is set, I/O is stopped); may be NULL. */
int live_insert(struct disk *d, const struct disk_ops *ops,
		int (*init)(struct disk_node *n, void *arg, struct err **e), void *arg,
		struct disk_node **ret, struct err **e);
/* Takes a filter of live_insert() out and closes it; the first error of that. */
int live_remove(struct disk *d, struct disk_node *n);

/* One request of our own (DISK_OP_POPULATE, _CAPTURE, _SAVE) to its end; q is the caller's thread's.  p: data of _SAVE,
 * else NULL. */
int live_request(struct disk_queue *q, int op, const void *p, uint64_t off, uint64_t len);
/* fn(arg) while I/O is stopped and all that was written is in the image's file, which is complete by itself. */
int live_frozen(struct disk *d, int (*fn)(void *arg, struct err **e), void *arg, struct err **e);

#endif
