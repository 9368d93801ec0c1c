/* Arithmetic on untrusted numbers.  Each returns true when the result does not fit *ret's type:
 *	if (mul_of(sector, 512, &off) || add_of(off, len, &end) || end > capacity) return -ERANGE; */
#ifndef BASE_CHECKED_H
#define BASE_CHECKED_H

#include "base/types.h"

#define add_of(a, b, ret) __builtin_add_overflow(a, b, ret)
#define sub_of(a, b, ret) __builtin_sub_overflow(a, b, ret)
#define mul_of(a, b, ret) __builtin_mul_overflow(a, b, ret)

/* True when [off, off+len) lies inside [0, size).  An empty range at off == size is inside. */
static inline bool range_inside(uint64_t off, uint64_t len, uint64_t size)
{
	return off <= size && len <= size - off;
}

/* True when [a, a+alen) and [b, b+blen) share a byte; empty ranges share nothing. */
static inline bool range_overlaps(uint64_t a, uint64_t alen, uint64_t b, uint64_t blen)
{
	if (alen == 0 || blen == 0)
		return false;
	return a < b ? b - a < alen : a - b < blen;
}

#endif
