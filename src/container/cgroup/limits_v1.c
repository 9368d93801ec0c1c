/* linux.resources on cgroup v1 hierarchies.            Spec: Documentation/admin-guide/cgroup-v1/, runtime-spec 1.1 */
#include "container/cgroup/cgroup.h"

#include <string.h>
#include "base/str.h"

struct todo {
	struct cgroups *c;
	struct err **e;
	int r; /* the first error */
};

/* Write to the v1 hierarchy that has this controller; a missing one is an error that names the field. */
static const struct cg_hierarchy *need(struct todo *t, enum cg_controller which, const char *field)
{
	const struct cg_hierarchy *h;

	if (t->r < 0)
		return NULL;
	h = cg_find(t->c, which);
	if (!h)
		t->r = err_set(t->e, EOPNOTSUPP, "cgroup.controller",
			       "linux.resources.%s: this host has no cgroup controller for it",
			       field);
	return h && !h->v2 ? h : NULL; /* v2 has done its part already */
}

static void put_i64(struct todo *t, enum cg_controller which, const char *field, const char *file,
		    int64_t v)
{
	const struct cg_hierarchy *h = need(t, which, field);

	if (h)
		t->r = cg_writef(h, file, t->e, "%lld", (long long)v);
}

static void put(struct todo *t, enum cg_controller which, const char *field, const char *file,
		const struct lim *l)
{
	if (l->set)
		put_i64(t, which, field, file, l->v);
}

static void set_memory(struct todo *t, const struct spec_resources *r)
{
	const struct cg_hierarchy *h;
	const char *const limit = "memory.limit_in_bytes", *const swap =
								   "memory.memsw.limit_in_bytes";
	int64_t mem = r->mem_limit.v, sw = r->mem_swap.v;
	bool set_mem = r->mem_limit.set && mem != 0, set_swap = r->mem_swap.set && sw != 0;

	if (set_mem && mem == -1 && !r->mem_swap.set) {
		/* No limit on memory means none on memory and swap together. */
		h = cg_find(t->c, CG_MEMORY);
		if (h && !h->v2)
			cg_write(h, swap, "-1");
	}
	if (set_mem && set_swap) {
		char now[64];

		/* limit <= memory+swap at every moment: raise the outer one first, lower it last. */
		h = need(t, CG_MEMORY, "memory.limit");
		if (!h)
			return;
		if (cg_read(h, swap, now, sizeof(now)) < 0) {
			if (sw != mem && sw != -1)
				t->r = err_set(
					t->e, EOPNOTSUPP, "cgroup.swap",
					"linux.resources.memory.swap: this kernel does not account swap");
			else
				put_i64(t, CG_MEMORY, "memory.limit", limit, mem);
			return;
		}
		if (sw == -1 || (uint64_t)sw >= strtoull(now, NULL, 10)) {
			put_i64(t, CG_MEMORY, "memory.swap", swap, sw);
			put_i64(t, CG_MEMORY, "memory.limit", limit, mem);
		} else {
			put_i64(t, CG_MEMORY, "memory.limit", limit, mem);
			put_i64(t, CG_MEMORY, "memory.swap", swap, sw);
		}
	} else if (set_mem) {
		put_i64(t, CG_MEMORY, "memory.limit", limit, mem);
	} else if (set_swap) {
		put_i64(t, CG_MEMORY, "memory.swap", swap, sw);
	}
	if (r->mem_reservation.v)
		put(t, CG_MEMORY, "memory.reservation", "memory.soft_limit_in_bytes",
		    &r->mem_reservation);
	if (r->mem_kernel_tcp.v)
		put(t, CG_MEMORY, "memory.kernelTCP", "memory.kmem.tcp.limit_in_bytes",
		    &r->mem_kernel_tcp);
	/* memory.kmem.limit_in_bytes is gone from current kernels and ignored by the specification's readers. */
	if (r->mem_swappiness.set && r->mem_swappiness.v >= 0)
		put(t, CG_MEMORY, "memory.swappiness", "memory.swappiness", &r->mem_swappiness);
	if (r->oom_disable)
		put_i64(t, CG_MEMORY, "memory.disableOOMKiller", "memory.oom_control", 1);
}

static void set_cpu(struct todo *t, const struct spec_resources *r)
{
	const struct cg_hierarchy *h = cg_find(t->c, CG_CPU);

	if (r->cpu_shares.set && r->cpu_shares.v)
		put(t, CG_CPU, "cpu.shares", "cpu.shares", &r->cpu_shares);
	if (r->cpu_rt_period.set && r->cpu_rt_period.v)
		put(t, CG_CPU, "cpu.realtimePeriod", "cpu.rt_period_us", &r->cpu_rt_period);
	if (r->cpu_rt_runtime.set && r->cpu_rt_runtime.v)
		put(t, CG_CPU, "cpu.realtimeRuntime", "cpu.rt_runtime_us", &r->cpu_rt_runtime);
	if (r->cpu_burst.set && h && !h->v2 && t->r == 0)
		cg_write(h, "cpu.cfs_burst_us", "0"); /* quota may go below the old burst */
	if (r->cpu_period.set && r->cpu_period.v && h && !h->v2 && t->r == 0) {
		int q = 0;

		/* Shrinking the period with an old quota may pass the limit of the parent: quota first, then again. */
		if (cg_writef(h, "cpu.cfs_period_us", NULL, "%lld", (long long)r->cpu_period.v) <
		    0) {
			if (r->cpu_quota.set)
				q = cg_writef(h, "cpu.cfs_quota_us", t->e, "%lld",
					      (long long)r->cpu_quota.v);
			if (q == 0)
				q = cg_writef(h, "cpu.cfs_period_us", t->e, "%lld",
					      (long long)r->cpu_period.v);
		}
		t->r = q;
	} else if (r->cpu_period.set && r->cpu_period.v) {
		put(t, CG_CPU, "cpu.period", "cpu.cfs_period_us", &r->cpu_period);
	}
	if (r->cpu_quota.v)
		put(t, CG_CPU, "cpu.quota", "cpu.cfs_quota_us", &r->cpu_quota);
	put(t, CG_CPU, "cpu.burst", "cpu.cfs_burst_us", &r->cpu_burst);
	put(t, CG_CPU, "cpu.idle", "cpu.idle", &r->cpu_idle);
}

static void set_cpuset(struct todo *t, const struct spec_resources *r)
{
	const struct cg_hierarchy *h;

	if (r->cpus && *r->cpus && (h = need(t, CG_CPUSET, "cpu.cpus")))
		t->r = cg_writef(h, "cpuset.cpus", t->e, "%s", r->cpus);
	if (r->mems && *r->mems && (h = need(t, CG_CPUSET, "cpu.mems")))
		t->r = cg_writef(h, "cpuset.mems", t->e, "%s", r->mems);
}

static void set_devs(struct todo *t, const struct blkio_devs *d, const char *file,
		     const char *field)
{
	const struct cg_hierarchy *h;
	size_t i;

	for (i = 0; i < d->n && (h = need(t, CG_BLKIO, field)); i++)
		t->r = cg_writef(h, file, t->e, "%lld:%lld %llu", (long long)d->v[i].major,
				 (long long)d->v[i].minor, (unsigned long long)d->v[i].value);
}

static void set_blkio(struct todo *t, const struct spec_resources *r)
{
	const struct cg_hierarchy *h;
	size_t i;

	if (r->blkio_weight.set && r->blkio_weight.v && (h = need(t, CG_BLKIO, "blockIO.weight"))) {
		int q = cg_writef(h, "blkio.weight", NULL, "%lld", (long long)r->blkio_weight.v);

		if (q < 0) /* CFQ is gone, BFQ took over its job under another name */
			q = cg_writef(h, "blkio.bfq.weight", t->e, "%lld",
				      (long long)r->blkio_weight.v);
		t->r = q;
	}
	if (r->blkio_leaf_weight.set && r->blkio_leaf_weight.v)
		put(t, CG_BLKIO, "blockIO.leafWeight", "blkio.leaf_weight", &r->blkio_leaf_weight);
	for (i = 0; i < r->weight_devs.n && (h = need(t, CG_BLKIO, "blockIO.weightDevice")); i++) {
		const struct blkio_dev *d = &r->weight_devs.v[i];
		const char *const fmt = "%lld:%lld %llu";
		int q = 0;

		if (d->value) {
			q = cg_writef(h, "blkio.weight_device", NULL, fmt, (long long)d->major,
				      (long long)d->minor, (unsigned long long)d->value);
			if (q < 0)
				q = cg_writef(h, "blkio.bfq.weight_device", t->e, fmt,
					      (long long)d->major, (long long)d->minor,
					      (unsigned long long)d->value);
		}
		if (q == 0 && d->leaf)
			q = cg_writef(h, "blkio.leaf_weight_device", t->e, fmt, (long long)d->major,
				      (long long)d->minor, (unsigned long long)d->leaf);
		t->r = q;
	}
	set_devs(t, &r->read_bps, "blkio.throttle.read_bps_device",
		 "blockIO.throttleReadBpsDevice");
	set_devs(t, &r->write_bps, "blkio.throttle.write_bps_device",
		 "blockIO.throttleWriteBpsDevice");
	set_devs(t, &r->read_iops, "blkio.throttle.read_iops_device",
		 "blockIO.throttleReadIOPSDevice");
	set_devs(t, &r->write_iops, "blkio.throttle.write_iops_device",
		 "blockIO.throttleWriteIOPSDevice");
}

static void set_rest(struct todo *t, const struct spec_resources *r)
{
	const struct cg_hierarchy *h;
	char file[128];
	size_t i;

	/* Zero was "none" before 1.2 of the specification and -1 is now: both mean no limit. */
	if (r->pids.set && (h = need(t, CG_PIDS, "pids.limit")))
		t->r = r->pids.v > 0 ? cg_writef(h, "pids.max", t->e, "%lld", (long long)r->pids.v)
				     : cg_writef(h, "pids.max", t->e, "max");
	for (i = 0; i < r->n_huge && (h = need(t, CG_HUGETLB, "hugepageLimits")); i++) {
		snprintf(file, sizeof(file), "hugetlb.%s.limit_in_bytes", r->huge[i].size);
		t->r = cg_writef(h, file, t->e, "%llu", (unsigned long long)r->huge[i].limit);
		snprintf(file, sizeof(file), "hugetlb.%s.rsvd.limit_in_bytes", r->huge[i].size);
		if (t->r == 0)
			cg_writef(h, file, NULL, "%llu", (unsigned long long)r->huge[i].limit);
	}
	put(t, CG_NET_CLS, "network.classID", "net_cls.classid", &r->net_class);
	for (i = 0; i < r->n_net_prio && (h = need(t, CG_NET_PRIO, "network.priorities")); i++)
		t->r = cg_writef(h, "net_prio.ifpriomap", t->e, "%s %u", r->net_prio[i].name,
				 r->net_prio[i].prio);
	for (i = 0; i < r->n_rdma && (h = need(t, CG_RDMA, "rdma")); i++) {
		char text[128] = "";

		if (r->rdma[i].has_handles)
			snprintf(text, sizeof(text), " hca_handle=%u", r->rdma[i].handles);
		if (r->rdma[i].has_objects)
			snprintf(text + strlen(text), sizeof(text) - strlen(text), " hca_object=%u",
				 r->rdma[i].objects);
		t->r = cg_writef(h, "rdma.max", t->e, "%s%s", r->rdma[i].device, text);
	}
}

int cg_set_v1(struct cgroups *c, const struct spec_resources *r, struct err **e)
{
	struct todo t = { .c = c, .e = e };
	const struct cg_hierarchy *h;

	set_memory(&t, r);
	set_cpu(&t, r);
	set_cpuset(&t, r);
	set_blkio(&t, r);
	set_rest(&t, r);
	h = cg_find(c, CG_DEVICES);
	if (t.r == 0 && h && r->devices)
		t.r = cg_devices_v1(h, r, c->user_ns, e);
	return t.r;
}
