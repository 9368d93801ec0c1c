/* See alloc.h. */
#include <errno.h>
#include <string.h>
#include "base/checked.h"
#include "vmm/alloc.h"

void alloc_init(struct addr_alloc *a, const char *name, uint64_t base, uint64_t size)
{
	*a = (struct addr_alloc){ .name = name, .base = base, .size = size };
}

void alloc_done(struct addr_alloc *a)
{
	vec_done(&a->used);
}

static int insert(struct addr_alloc *a, size_t i, uint64_t base, uint64_t size, struct err **e)
{
	struct addr_range r = { base, size };

	if (vec_push(&a->used, r) < 0)
		return err_set(e, ENOMEM, "sys.ENOMEM", "%s: out of memory", a->name);
	memmove(&a->used.v[i + 1], &a->used.v[i], (a->used.n - 1 - i) * sizeof(r));
	a->used.v[i] = r;
	return 0;
}

int alloc_get(struct addr_alloc *a, uint64_t size, uint64_t align, uint64_t *ret, struct err **e)
{
	uint64_t end = a->base + a->size, at = a->base;

	if (size == 0 || !is_pow2(align))
		return err_set(e, EINVAL, "alloc.args", "%s: bad size or alignment", a->name);
	for (size_t i = 0; i <= a->used.n; i++) {
		uint64_t gap_end = i < a->used.n ? a->used.v[i].base : end;
		uint64_t start;

		if (!add_of(at, align - 1, &start)) {
			start = ALIGN_DOWN(start, align);
			if (start <= gap_end && size <= gap_end - start) {
				int r = insert(a, i, start, size, e);

				if (r == 0)
					*ret = start;
				return r;
			}
		}
		if (i < a->used.n)
			at = a->used.v[i].base + a->used.v[i].size;
	}
	return err_set(e, ENOSPC, "alloc.full", "%s: no room for 0x%llx bytes", a->name,
		       (unsigned long long)size);
}

int alloc_take(struct addr_alloc *a, uint64_t base, uint64_t size, struct err **e)
{
	size_t i = 0;

	if (base < a->base || size == 0 || !range_inside(base - a->base, size, a->size))
		return err_set(e, ERANGE, "alloc.range", "%s: 0x%llx is outside", a->name,
			       (unsigned long long)base);
	while (i < a->used.n && a->used.v[i].base + a->used.v[i].size <= base)
		i++;
	if (i < a->used.n && range_overlaps(base, size, a->used.v[i].base, a->used.v[i].size))
		return err_set(e, EEXIST, "alloc.taken", "%s: 0x%llx is taken", a->name,
			       (unsigned long long)base);
	return insert(a, i, base, size, e);
}

void alloc_put(struct addr_alloc *a, uint64_t base)
{
	for (size_t i = 0; i < a->used.n; i++) {
		if (a->used.v[i].base == base) {
			vec_remove(&a->used, i);
			return;
		}
	}
}
