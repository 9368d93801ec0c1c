/* linux.resources on the cgroup v2 hierarchy.                       Spec: Documentation/admin-guide/cgroup-v2.rst */
#include "container/cgroup/cgroup.h"

#include <string.h>
#include <unistd.h>
#include "base/str.h"

/* The v1 range 2..262144 of shares onto 1..10000 of weight, as every runtime converts it. */
uint64_t cg_shares_to_weight(uint64_t shares)
{
	if (shares == 0)
		return 0;
	shares = CLAMP(shares, (uint64_t)2, (uint64_t)262144);
	return 1 + ((shares - 2) * 9999) / 262142;
}

static uint64_t blkio_to_weight(uint64_t w)
{
	return w <= 10 ? 1 : 1 + (w - 10) * 9999 / 990;
}

/* "max" for -1. */
static int put_max(const struct cg_hierarchy *h, const char *file, int64_t v, struct err **e)
{
	return v < 0 ? cg_writef(h, file, e, "max") : cg_writef(h, file, e, "%lld", (long long)v);
}

static int set_memory(const struct cg_hierarchy *h, const struct spec_resources *r, struct err **e)
{
	int q = 0;

	if (r->check_before_update && r->mem_limit.set && r->mem_limit.v > 0) {
		char now[64];

		if (cg_read(h, "memory.current", now, sizeof(now)) > 0 &&
		    strtoull(now, NULL, 10) > (uint64_t)r->mem_limit.v)
			return err_set(
				e, EBUSY, "cgroup.memory",
				"linux.resources.memory.limit: %s bytes are in use, more than the new limit",
				now);
	}
	if (r->mem_swap.set && r->mem_swap.v != 0) {
		int64_t swap = r->mem_swap.v, mem = r->mem_limit.v;

		/* Ours is memory and swap together, theirs is swap alone. */
		if (swap > 0) {
			if (!r->mem_limit.set || mem <= 0) {
				char now[64];

				if (cg_read(h, "memory.max", now, sizeof(now)) <= 0 ||
				    streq(now, "max"))
					return err_set(
						e, EINVAL, "config.field",
						"linux.resources.memory.swap: needs memory.limit beside it");
				mem = (int64_t)strtoull(now, NULL, 10);
			}
			if (swap < mem)
				return err_set(
					e, EINVAL, "config.field",
					"linux.resources.memory.swap: is below memory.limit");
			swap -= mem;
		}
		q = put_max(h, "memory.swap.max", swap, NULL);
		if (q == -ENOENT && (swap == 0 || swap == -1))
			q = 0; /* no swap accounting: nothing to limit */
		else if (q < 0)
			q = put_max(h, "memory.swap.max", swap, e);
	}
	if (q == 0 && r->mem_limit.set && r->mem_limit.v != 0) {
		if (r->mem_limit.v < 0 && !r->mem_swap.set)
			cg_write(h, "memory.swap.max", "max");
		q = put_max(h, "memory.max", r->mem_limit.v, e);
	}
	if (q == 0 && r->mem_reservation.set && r->mem_reservation.v != 0)
		q = put_max(h, "memory.low", r->mem_reservation.v, e);
	return q;
}

static int set_cpu(const struct cg_hierarchy *h, const struct spec_resources *r, struct err **e)
{
	int q = 0;

	if (r->cpu_rt_period.v || r->cpu_rt_runtime.v)
		return err_set(
			e, EOPNOTSUPP, "cgroup.controller",
			"linux.resources.cpu.realtimeRuntime: cgroup v2 has no realtime limits");
	if (r->cpu_idle.set)
		q = cg_writef(h, "cpu.idle", e, "%lld", (long long)r->cpu_idle.v);
	if (q == 0 && r->cpu_shares.set && r->cpu_shares.v &&
	    !(r->cpu_idle.set && r->cpu_idle.v == 1))
		q = cg_writef(h, "cpu.weight", e, "%llu",
			      (unsigned long long)cg_shares_to_weight((uint64_t)r->cpu_shares.v));
	if (q == 0 && r->cpu_burst.set)
		cg_write(h, "cpu.max.burst", "0");
	if (q == 0 &&
	    ((r->cpu_quota.set && r->cpu_quota.v) || (r->cpu_period.set && r->cpu_period.v))) {
		char quota[32] = "max", now[64];

		if (r->cpu_quota.set && r->cpu_quota.v > 0)
			snprintf(quota, sizeof(quota), "%lld", (long long)r->cpu_quota.v);
		else if (!r->cpu_quota.set && cg_read(h, "cpu.max", now, sizeof(now)) > 0)
			snprintf(quota, sizeof(quota), "%.*s", (int)strcspn(now, " "), now);
		if (r->cpu_period.set && r->cpu_period.v)
			q = cg_writef(h, "cpu.max", e, "%s %lld", quota,
				      (long long)r->cpu_period.v);
		else
			q = cg_writef(h, "cpu.max", e, "%s", quota);
	}
	if (q == 0 && r->cpu_burst.set)
		q = cg_writef(h, "cpu.max.burst", e, "%lld", (long long)r->cpu_burst.v);
	return q;
}

static int set_io(const struct cg_hierarchy *h, const struct spec_resources *r, struct err **e)
{
	static const struct {
		const char *key;
		size_t off;
	} maxes[] = {
		{ "rbps", offsetof(struct spec_resources, read_bps) },
		{ "wbps", offsetof(struct spec_resources, write_bps) },
		{ "riops", offsetof(struct spec_resources, read_iops) },
		{ "wiops", offsetof(struct spec_resources, write_iops) },
	};
	size_t i, k;
	int q = 0;

	if (r->blkio_weight.set && r->blkio_weight.v) {
		q = cg_writef(h, "io.bfq.weight", NULL, "%lld", (long long)r->blkio_weight.v);
		if (q < 0)
			q = cg_writef(
				h, "io.weight", e, "default %llu",
				(unsigned long long)blkio_to_weight((uint64_t)r->blkio_weight.v));
	}
	for (i = 0; q == 0 && i < r->weight_devs.n; i++) {
		const struct blkio_dev *d = &r->weight_devs.v[i];

		q = cg_writef(h, "io.bfq.weight", NULL, "%lld:%lld %llu", (long long)d->major,
			      (long long)d->minor, (unsigned long long)d->value);
		if (q < 0)
			q = cg_writef(h, "io.weight", e, "%lld:%lld %llu", (long long)d->major,
				      (long long)d->minor,
				      (unsigned long long)blkio_to_weight(d->value));
	}
	for (k = 0; k < ARRAY_SIZE(maxes); k++) {
		const struct blkio_devs *devs = (const void *)((const char *)r + maxes[k].off);

		for (i = 0; q == 0 && i < devs->n; i++) {
			const struct blkio_dev *d = &devs->v[i];

			q = d->value ? cg_writef(h, "io.max", e, "%lld:%lld %s=%llu",
						 (long long)d->major, (long long)d->minor,
						 maxes[k].key, (unsigned long long)d->value)
				     : cg_writef(h, "io.max", e, "%lld:%lld %s=max",
						 (long long)d->major, (long long)d->minor,
						 maxes[k].key);
		}
	}
	return q;
}

int cg_set_v2(struct cgroups *c, const struct cg_hierarchy *h, const struct spec_resources *r,
	      struct err **e)
{
	char file[128];
	size_t i;
	int q = 0;

	if (h->controllers & CG_MEMORY)
		q = set_memory(h, r, e);
	if (q == 0 && h->controllers & CG_CPU)
		q = set_cpu(h, r, e);
	if (q == 0 && h->controllers & CG_BLKIO)
		q = set_io(h, r, e);
	if (q == 0 && h->controllers & CG_CPUSET && r->cpus && *r->cpus)
		q = cg_writef(h, "cpuset.cpus", e, "%s", r->cpus);
	if (q == 0 && h->controllers & CG_CPUSET && r->mems && *r->mems)
		q = cg_writef(h, "cpuset.mems", e, "%s", r->mems);
	if (q == 0 && h->controllers & CG_PIDS && r->pids.set)
		q = put_max(h, "pids.max", r->pids.v > 0 ? r->pids.v : -1, e);
	for (i = 0; q == 0 && h->controllers & CG_HUGETLB && i < r->n_huge; i++) {
		snprintf(file, sizeof(file), "hugetlb.%s.max", r->huge[i].size);
		q = cg_writef(h, file, e, "%llu", (unsigned long long)r->huge[i].limit);
		snprintf(file, sizeof(file), "hugetlb.%s.rsvd.max", r->huge[i].size);
		if (q == 0)
			cg_writef(h, file, NULL, "%llu", (unsigned long long)r->huge[i].limit);
	}
	for (i = 0; q == 0 && h->controllers & CG_RDMA && i < r->n_rdma; i++) {
		char text[128] = "";

		if (r->rdma[i].has_handles)
			snprintf(text, sizeof(text), " hca_handle=%u", r->rdma[i].handles);
		if (r->rdma[i].has_objects)
			snprintf(text + strlen(text), sizeof(text) - strlen(text), " hca_object=%u",
				 r->rdma[i].objects);
		q = cg_writef(h, "rdma.max", e, "%s%s", r->rdma[i].device, text);
	}
	for (i = 0; q == 0 && i < r->unified.n; i++) {
		/* A value may have several lines (io.max): each is a write of its own. */
		char text[4096], *line, *save = NULL;
		const char *key = r->unified.v[i].key;

		if (strchr(key, '/') || faccessat(h->fd, key, F_OK, 0) < 0)
			return err_set(
				e, EINVAL, "config.field",
				"invalid configuration: linux.resources.unified: cgroup v2 has no '%s' here",
				key);
		snprintf(text, sizeof(text), "%s", r->unified.v[i].value);
		for (line = strtok_r(text, "\n", &save); line && q == 0;
		     line = strtok_r(NULL, "\n", &save))
			q = cg_writef(h, key, e, "%s", line);
		if (q < 0)
			q = err_wrap(e, q, "linux.resources.unified");
	}
	/* With a v1 devices hierarchy beside us that one does the work. */
	if (q == 0 && r->devices && !cg_find(c, CG_DEVICES))
		q = cg_devices_bpf(h, r, c->user_ns, e);
	return q;
}
