/* Guest physical memory as a device sees it: regions of guest RAM that are mapped into this process.
 *
 * Who lays the regions out: the hypervisor (vmm/memory.h), or the front end of a vhost-user device by its memory table
 * (storage/export/vhost_user.c).  Here is what both need: finding an address, marking what was written.
 * Thread:  any for reading and writing guest memory; regions change only while nobody looks.
 * Trust:   every byte is the guest's and may change between two looks: copy once, check the copy.
 *
 * Dirty pages: what a vCPU writes the hypervisor logs; what *we* write through a pointer must be said with
 * gmem_mark_dirty() after the write (gmem_write() does it).  It costs one load while no log is kept. */
#ifndef BASE_GMEM_H
#define BASE_GMEM_H

#include <stdatomic.h>
#include "base/err.h"
#include "base/types.h"

#define GMEM_PAGE	 4096U
#define GMEM_MAX_REGIONS 32

struct gmem_region {
	gpa_t gpa;     /* page-aligned */
	uint64_t size; /* bytes, a multiple of GMEM_PAGE */
	uint8_t *host; /* where it is mapped here */
	int fd;	       /* backing file for sharing with another process, or -1: private memory */
	uint64_t fd_offset; /* of the region's first byte in fd */
	bool readonly; /* guest ROM: the guest reads it, writes are dropped; gmem_ptr() refuses it */
	uint32_t slot;		 /* memslot number */
	_Atomic uint64_t *dirty; /* a bit a page that we wrote, while logging; NULL for ROM */
};

struct guest_mem {
	struct gmem_region region[GMEM_MAX_REGIONS]; /* sorted by gpa; read-only for devices */
	unsigned int n;
	_Atomic bool logging;
};

/* A region at gpa, in order; its size is 0, fd -1: the caller fills it.  NULL: there are GMEM_MAX_REGIONS. */
struct gmem_region *gmem_insert(struct guest_mem *m, gpa_t gpa);
/* Forget region i (its mapping is the caller's). */
void gmem_remove(struct guest_mem *m, unsigned int i);

/* The RAM region that holds gpa, or NULL. */
const struct gmem_region *gmem_find(const struct guest_mem *m, gpa_t gpa);

/* Host address of guest RAM [gpa, gpa+len), or NULL unless all of it lies inside one RAM region.  len 0 is
 * checked like 1.  The pointer lives as long as m. */
void *gmem_ptr(const struct guest_mem *m, gpa_t gpa, uint64_t len);

/* Copies; -EFAULT (nothing copied) unless the range lies inside one RAM region. */
int gmem_read(const struct guest_mem *m, gpa_t gpa, void *dst, uint64_t len);
int gmem_write(struct guest_mem *m, gpa_t gpa, const void *src, uint64_t len);

/* We wrote [gpa, gpa+len), which gmem_ptr() gave out.  Any thread; call it after the write. */
void gmem_mark_dirty(struct guest_mem *m, gpa_t gpa, uint64_t len);
/* The same by a host address that lies in guest RAM (from a vq_chain's iovec). */
void gmem_mark_dirty_host(struct guest_mem *m, const void *host, uint64_t len);

/* Start or stop our half of the dirty log; with vCPUs parked and devices quiesced.  -ENOMEM. */
int gmem_log_start(struct guest_mem *m);
void gmem_log_stop(struct guest_mem *m);
/* Take the bits of one region (a bit a page, 64 a word) into bitmap (or-ed) and clear them here. */
void gmem_log_take(struct guest_mem *m, const struct gmem_region *r, uint64_t *bitmap);

#endif
