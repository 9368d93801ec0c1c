/* First-fit allocator of address space: BAR windows, ports.  Tens of ranges, so a sorted array serves.
 * Thread: main. */
#ifndef VMM_ALLOC_H
#define VMM_ALLOC_H

#include "base/err.h"
#include "base/types.h"
#include "base/vec.h"

struct addr_range {
	uint64_t base, size;
};

struct addr_alloc {
	const char *name; /* for messages */
	uint64_t base, size;
	VEC(struct addr_range) used; /* sorted, disjoint */
};

void alloc_init(struct addr_alloc *a, const char *name, uint64_t base, uint64_t size);
void alloc_done(struct addr_alloc *a);
/* align: a power of two.  -ENOSPC: no room; -EINVAL: size 0 or a bad align. */
int alloc_get(struct addr_alloc *a, uint64_t size, uint64_t align, uint64_t *ret, struct err **e);
/* Take exactly this range.  -EEXIST: overlaps a used one; -ERANGE: outside. */
int alloc_take(struct addr_alloc *a, uint64_t base, uint64_t size, struct err **e);
/* A range that was not got: no effect. */
void alloc_put(struct addr_alloc *a, uint64_t base);

#endif
