/* The driver's side of virtqueues, for tests: a small honest guest (split and packed rings, indirect tables, event
 * index) over a piece of fake guest memory, with a bump allocator for buffers.  What a test wants to be dishonest
 * about it writes into the ring memory itself. */
#ifndef TEST_VMM_DRV_H
#define TEST_VMM_DRV_H

#include "base/types.h"
#include "vmm/memory.h"
#include "base/vq.h"

struct drv_mem {
	struct guest_mem *mem;
	gpa_t next, end; /* bump allocator */
};

/* 0 when the space is used up.  drv_at: host address, asserts that it is RAM. */
gpa_t drv_alloc(struct drv_mem *m, size_t len, size_t align);
void *drv_at(struct drv_mem *m, gpa_t gpa, size_t len);

struct drv_buf {
	gpa_t gpa;
	uint32_t len;
};

#define DRV_MAX 1024

struct drv_queue {
	struct drv_mem *m;
	uint16_t size;
	unsigned int flags; /* VQ_* */
	struct vq_addr addr;
	/* split */
	uint16_t free_head, n_free, avail_idx, last_used;
	/* packed */
	bool avail_wrap, used_wrap;
	uint16_t slot, used_slot;
	uint16_t chain_len[DRV_MAX]; /* by id */
	void *cookie[DRV_MAX];	     /* by id */
	uint16_t ids[DRV_MAX], n_ids;
	uint16_t kicked_at; /* split, event index: avail_idx at the last kick decision */
	uint16_t kick_old;
};

void drv_queue_init(struct drv_queue *q, struct drv_mem *m, uint16_t size, unsigned int flags);
/* Makes a chain available.  indirect: through a table.  False: ring full. */
bool drv_add(struct drv_queue *q, const struct drv_buf *out, unsigned int n_out,
	     const struct drv_buf *in, unsigned int n_in, bool indirect, void *cookie);
/* True: the device asked to be kicked for what was added since the last call. */
bool drv_wants_kick(struct drv_queue *q);
/* One used buffer: its cookie and length; NULL: none. */
void *drv_used(struct drv_queue *q, uint32_t *len);
/* Ask for an interrupt with the next used buffer, or for none. */
void drv_interrupt(struct drv_queue *q, bool on);

#endif
