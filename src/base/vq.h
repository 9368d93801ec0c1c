/* Split and packed virtqueues, device side.            Spec: virtio 1.2, 2.7 and 2.8.
 *
 * Between: a device above (vmm/virtio/virtio.c, storage/export/vhost_user.c: addresses, kicks, interrupts); guest
 *          memory below (base/gmem.h).
 * Thread:  the loop of the queue's device, nobody else; vq_init() to vq_enable() may come from another one
 *          while the loop does not know the queue yet.
 * Trust:   every field in guest RAM is hostile; vq_pop() hands out a private, checked copy.
 *
 * The life of a batch: vq_kick_off(), vq_pop() until 0, work, vq_push() each, one vq_commit() (true: interrupt
 * the driver once), then vq_kick_on() (true: more arrived meanwhile, go round again). */
#ifndef BASE_VQ_H
#define BASE_VQ_H

#include <sys/uio.h>
#include "base/err.h"
#include "base/types.h"

struct guest_mem;

#define VQ_MAX_SIZE 32768
#define VQ_MAX_SEG  256 /* segments of one chain; a longer one is refused as broken */

/* One request.  Filled by vq_pop(), valid until it is pushed; the caller's memory, not zeroed first: only the
 * first n_out + n_in elements of iov are written, so that large pools cost nothing until used. */
struct vq_chain {
	uint16_t head;		      /* split: index of the head descriptor; packed: buffer id */
	uint16_t slots;		      /* ring entries it takes (packed) */
	unsigned int n_out;	      /* segments that the device reads: iov[0 .. n_out) */
	unsigned int n_in;	      /* segments that it writes: iov[n_out .. n_out + n_in) */
	uint64_t out_len, in_len;     /* their bytes */
	struct iovec iov[VQ_MAX_SEG]; /* host addresses, inside guest RAM, length > 0 */
};

struct vq_addr {
	gpa_t desc;   /* descriptor table or ring */
	gpa_t driver; /* available ring; packed: driver event suppression */
	gpa_t device; /* used ring; packed: device event suppression */
};

enum { VQ_PACKED = 1 << 0, VQ_EVENT_IDX = 1 << 1, VQ_INDIRECT = 1 << 2 }; /* negotiated features */

struct vq {
	struct guest_mem *mem;
	uint16_t max_size, size;
	bool enabled, broken;
	bool packed, event_idx, indirect;
	struct vq_addr addr;
	/* host addresses of the three areas, checked by vq_enable() */
	uint8_t *desc, *driver, *device;
	/* the ring's position; what a snapshot holds */
	uint16_t avail_idx;	    /* next entry to pop; split: free running, packed: slot */
	uint16_t used_idx;	    /* next entry to push, pushed but not committed ones included */
	bool avail_wrap, used_wrap; /* packed */
	/* private */
	uint16_t avail_seen;  /* split: avail->idx when last read */
	uint16_t inflight;    /* popped, not yet pushed */
	uint32_t uncommitted; /* ring entries pushed since the last commit */
	uint16_t batch_slot,
		batch_flags; /* packed: the batch's first entry, its flags still unwritten */
	uint64_t n_popped, n_pushed, n_notified, n_suppressed; /* statistics */
};

/* m is borrowed and outlives the queue.  max_size: a power of two, at most VQ_MAX_SIZE, else -EINVAL. */
int vq_init(struct vq *q, struct guest_mem *m, uint16_t max_size, struct err **e);
void vq_done(struct vq *q); /* NULL or a second time: no effect */

/* Back to what vq_init() left: disabled, indexes 0, wrap counters 1, statistics kept. */
void vq_reset(struct vq *q);
/* The driver (or a snapshot) has set the ring up; size, addresses and flags come from it.  Indexes are kept as
 * they are: zero after vq_reset(), or what was restored.  -EINVAL: size or alignment; -EFAULT: not RAM. */
int vq_enable(struct vq *q, uint16_t size, unsigned int flags, const struct vq_addr *a,
	      struct err **e);

/* Take the used index from the ring: a back end that follows another goes on where that one stopped. */
void vq_sync_used(struct vq *q);
/* The next entry to pop is `avail` (split rings). */
void vq_seek(struct vq *q, uint16_t avail);

/* 1: got one; 0: empty; -EBADMSG: broken ring, the caller marks the device "needs reset"; from then on the
 * queue stays empty until it is reset. */
int vq_pop(struct vq *q, struct vq_chain *ret);
/* The chain that begins at descriptor `head` and was popped in an earlier life of this device (kept in a record of
 * requests in flight): counts as popped again, the avail index stays.  0 or -EBADMSG.  Split rings only. */
int vq_repop(struct vq *q, uint16_t head, struct vq_chain *ret);
/* Gives back the chain popped last, nothing pushed or popped since: the next vq_pop() returns it again. */
void vq_unpop(struct vq *q, const struct vq_chain *c);
/* Returns a chain to the driver with `written` bytes in its in segments; any order; not visible until commit. */
void vq_push(struct vq *q, const struct vq_chain *c, uint32_t written);
/* Makes what was pushed visible.  True: the driver wants an interrupt for it. */
bool vq_commit(struct vq *q);

/* Ask for kicks.  True: entries arrived in between that nobody kicks for; pop again. */
bool vq_kick_on(struct vq *q);
void vq_kick_off(struct vq *q); /* a hint to the driver; kicks may still come */
bool vq_empty(const struct vq *q);

/* Copies between a chain's segments and private memory, `off` bytes in.  -EBADMSG when it does not fit. */
int vq_read(const struct vq_chain *c, size_t off, void *buf, size_t len);
int vq_write(const struct vq_chain *c, size_t off, const void *buf, size_t len);
/* The part [off, off+len) of segments as iovecs in ret[max]; count, or -EBADMSG (outside, or more than max). */
int vq_slice(const struct iovec *iov, unsigned int n, uint64_t off, uint64_t len, struct iovec *ret,
	     unsigned int max);

#endif
