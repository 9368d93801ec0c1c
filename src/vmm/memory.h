/* Guest physical memory: where each byte of it lives in this process.  What devices use is base/gmem.h.
 *
 * Between: the machine (lays regions out and gives them to the hypervisor as memslots, machine.c) above;
 *          mmap(2) below.  Devices get a `struct guest_mem *` from vm_mem() and keep it while they live.
 * Layout:  low RAM from 0 to at most GMEM_LOW_MAX, the rest from 4 GiB on; between them is the hole for MMIO.
 *          Regions are sorted by gpa and never change while a VM runs (hot-add appends).
 * Thread:  gmem_add_*, gmem_init*, and gmem_done on the main thread with vCPUs and I/O loops stopped. */
#ifndef VMM_MEMORY_H
#define VMM_MEMORY_H

#include "base/gmem.h"

#define GMEM_LOW_MAX \
	(3 * GIB) /* low RAM ends here at the latest; above is the 32-bit MMIO window */
#define GMEM_HIGH_BASE (4 * GIB)

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

#endif
