/* See bus.h. */
#include <errno.h>
#include "base/checked.h"
#include "vmm/bus.h"
#include "vmm/device_ops.h"

int bus_init(struct bus *b, const char *name)
{
	*b = (struct bus){ .name = name };
	return -pthread_rwlock_init(&b->lock, NULL);
}

void bus_done(struct bus *b)
{
	if (!b || !b->name)
		return;
	vec_done(&b->ranges);
	pthread_rwlock_destroy(&b->lock);
	b->name = NULL;
}

/* Index of the first range whose end is above addr. */
static size_t lookup(const struct bus *b, uint64_t addr)
{
	size_t lo = 0, hi = b->ranges.n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		const struct bus_range *r = b->ranges.v[mid];

		if (addr - r->base < r->size || addr < r->base)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

int bus_add(struct bus *b, struct bus_range *r, struct err **e)
{
	uint64_t last;
	size_t i;
	int ret = 0;

	if (r->active)
		return err_set(e, EBUSY, "bus.active", "%s: range '%s' is there already", b->name,
			       r->name);
	if (r->size == 0 || add_of(r->base, r->size - 1, &last))
		return err_set(e, EINVAL, "bus.range", "%s: range '%s' is empty or wraps", b->name,
			       r->name);
	pthread_rwlock_wrlock(&b->lock);
	i = lookup(b, r->base);
	if (i < b->ranges.n && b->ranges.v[i]->base <= last) {
		ret = err_set(e, EEXIST, "bus.overlap", "%s: range '%s' at 0x%llx overlaps '%s'",
			      b->name, r->name, (unsigned long long)r->base, b->ranges.v[i]->name);
	} else if (vec_push(&b->ranges, r) < 0) {
		ret = err_set(e, ENOMEM, "sys.ENOMEM", "%s: out of memory", b->name);
	} else {
		memmove(&b->ranges.v[i + 1], &b->ranges.v[i],
			(b->ranges.n - 1 - i) * sizeof(b->ranges.v[0]));
		b->ranges.v[i] = r;
		r->active = true;
	}
	pthread_rwlock_unlock(&b->lock);
	return ret;
}

void bus_remove(struct bus *b, struct bus_range *r)
{
	pthread_rwlock_wrlock(&b->lock);
	for (size_t i = 0; r->active && i < b->ranges.n; i++) {
		if (b->ranges.v[i] == r) {
			vec_remove(&b->ranges, i);
			r->active = false;
		}
	}
	pthread_rwlock_unlock(&b->lock);
}

/* The lock is let go before the callback: a callback may move ranges.  The range itself lives until the vCPUs
 * were parked; its base may change under us, so the offset is worked out here. */
static struct bus_range *find(struct bus *b, uint64_t addr, unsigned int size, uint64_t *off)
{
	struct bus_range *r = NULL;
	size_t i;

	pthread_rwlock_rdlock(&b->lock);
	i = lookup(b, addr);
	if (i < b->ranges.n && addr >= b->ranges.v[i]->base &&
	    range_inside(addr - b->ranges.v[i]->base, size, b->ranges.v[i]->size)) {
		r = b->ranges.v[i];
		*off = addr - r->base;
	}
	pthread_rwlock_unlock(&b->lock);
	return r;
}

static uint64_t ones(unsigned int size)
{
	return size >= 8 ? UINT64_MAX : (1ULL << 8 * size) - 1;
}

bool bus_read(struct bus *b, uint64_t addr, unsigned int size, uint64_t *value)
{
	uint64_t off;
	struct bus_range *r = find(b, addr, size, &off);

	*value = ones(size);
	if (!r)
		return false;
	if (!r->ops->read)
		return true;
	if (r->owner)
		pthread_mutex_lock(&r->owner->lock);
	*value = r->ops->read(r, off, size) & ones(size);
	if (r->owner)
		pthread_mutex_unlock(&r->owner->lock);
	return true;
}

bool bus_write(struct bus *b, uint64_t addr, unsigned int size, uint64_t value)
{
	uint64_t off;
	struct bus_range *r = find(b, addr, size, &off);

	if (!r)
		return false;
	if (!r->ops->write)
		return true;
	if (r->owner)
		pthread_mutex_lock(&r->owner->lock);
	r->ops->write(r, off, size, value & ones(size));
	if (r->owner)
		pthread_mutex_unlock(&r->owner->lock);
	return true;
}
