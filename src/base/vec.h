/* Typed growing arrays: `struct { T *v; size_t n, cap; }` made by VEC(T).
 *
 *	VEC(int) a = { 0 };
 *	if (vec_push(&a, 7) < 0) return -ENOMEM;
 *	vec_done(&a);
 *
 * Elements move when the array grows: keep indexes, not pointers. */
#ifndef BASE_VEC_H
#define BASE_VEC_H

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/types.h"

#define VEC(T)                 \
	struct {               \
		T *v;          \
		size_t n, cap; \
	}

/* Make room for `want` elements in all; 0 or -ENOMEM (nothing changed). */
static inline int vec_grow_(void **v, size_t *cap, size_t want, size_t elem)
{
	size_t n = *cap ? *cap : 8;
	void *p;

	if (want <= *cap)
		return 0;
	while (n < want) {
		if (n > SIZE_MAX / 2)
			return -ENOMEM;
		n *= 2;
	}
	p = reallocarray(*v, n, elem);
	if (!p)
		return -ENOMEM;
	*v = p;
	*cap = n;
	return 0;
}

#define vec_reserve(a, want) vec_grow_((void **)&(a)->v, &(a)->cap, want, sizeof(*(a)->v))
#define vec_push(a, ...)                                  \
	({                                                \
		int _vec_r = vec_reserve(a, (a)->n + 1);  \
		if (_vec_r == 0)                          \
			(a)->v[(a)->n++] = (__VA_ARGS__); \
		_vec_r;                                   \
	})
/* Remove element i and keep the order of the others. */
#define vec_remove(a, i)                                          \
	({                                                        \
		size_t _vec_i = (i);                              \
		memmove(&(a)->v[_vec_i], &(a)->v[_vec_i + 1],     \
			((a)->n - _vec_i - 1) * sizeof(*(a)->v)); \
		(a)->n--;                                         \
	})
#define vec_for_each(p, a) for (p = (a)->v; p < (a)->v + (a)->n; p++)
#define vec_done(a)                    \
	({                             \
		free((a)->v);          \
		(a)->v = NULL;         \
		(a)->n = (a)->cap = 0; \
	})

#endif
