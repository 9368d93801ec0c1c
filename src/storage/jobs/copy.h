/* Copy what one disk shows into another: a few large requests in flight, holes and zeroes not written.
 * Thread: the caller's, until done; both disks stay usable through other queues. */
#ifndef STORAGE_COPY_H
#define STORAGE_COPY_H

#include "storage/storage.h"

struct copy_opts {
	bool compress;	       /* dst compresses each cluster */
	bool dst_zero;	       /* dst reads as zeroes now: nothing to do for zero ranges */
	unsigned int inflight; /* requests; 0: 8 */
	void (*progress)(void *arg, uint64_t done, uint64_t total);
	void *arg;
	const bool *cancel; /* set by another thread: -ECANCELED; or NULL */
};
/* The first min(size of both) bytes.  0 or -errno, in e too. */
int disk_copy(struct disk *src, struct disk *dst, const struct copy_opts *o, struct err **e);

#endif
