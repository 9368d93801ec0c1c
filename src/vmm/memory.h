/* Guest physical memory: where each byte of it lives in this process.
 *
 * Between: the machine (lays regions out and gives them to the hypervisor as memslots, machine.c) above;
 *          mmap(2) below.  Devices get a `struct guest_mem *` from vm_mem() and keep it while they live.
 * Layout:  low RAM from 0 to at most GMEM_LOW_MAX, the rest from 4 GiB on; between them is the hole for MMIO.
 *          Regions are sorted by gpa and never change while a VM runs (hot-add appends).
 * Thread:  any for reading and writing guest memory; gmem_add_*, gmem_map_private and gmem_done on the main
 *          thread with vCPUs and I/O loops stopped.
 * Trust:   every byte is the guest's and may change between two looks: copy once, check the copy.
 *
 * Dirty pages: what a vCPU writes the hypervisor logs; what *we* write through a pointer must be said with
 * gmem_mark_dirty() after the write (gmem_write() does it).  It costs one load while no log is kept. */
#ifndef VMM_MEMORY_H
#define VMM_MEMORY_H

#include <stdatomic.h>
#include "base/err.h"
#include "base/types.h"

#define GMEM_PAGE	 4096U
#define GMEM_MAX_REGIONS 8
#define GMEM_LOW_MAX \
	(3 * GIB) /* low RAM ends here at the latest; above is the 32-bit MMIO window */
#define GMEM_HIGH_BASE (4 * GIB)

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

enum gmem_backing {
	GMEM_ANON, /* private anonymous memory: cheapest faults; cannot be shared with vhost-user */
	GMEM_SHARED, /* memfd, MAP_SHARED: for vhost-user; regions have an fd */
	GMEM_HUGE,   /* as GMEM_SHARED, of 2 MiB pages from hugetlbfs */
};

/* RAM of `size` bytes in low and high regions.  size: a multiple of 1 MiB (of 2 MiB for GMEM_HUGE), at least
 * 1 MiB, else -EINVAL.  -ENOMEM with a clear text when the host refuses.  This alone is what a unit test needs:
 * no hypervisor is involved. */
int gmem_init(struct guest_mem *m, uint64_t size, enum gmem_backing backing, struct err **e);
/* RAM whose contents come from a file, mapped copy-on-write (restore and clones): byte x of guest RAM
 * (counting RAM only, without the hole) is byte offset + x of fd, which stays the caller's. */
int gmem_init_private_file(struct guest_mem *m, uint64_t size, int fd, uint64_t offset,
			   struct err **e);
/* A ROM of `size` bytes (page multiple) at gpa; *host gets its writable view for us to fill. */
int gmem_add_rom(struct guest_mem *m, gpa_t gpa, uint64_t size, uint8_t **host, struct err **e);
/* Unmaps; NULL or a second time: no effect. */
void gmem_done(struct guest_mem *m);

/* Total RAM in bytes (no ROM). */
uint64_t gmem_ram_size(const struct guest_mem *m);
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
