/* Which device nodes a container may use: the list of cgroup v1 and the eBPF program of cgroup v2.
 *                                                 Spec: bpf(2), BPF_PROG_TYPE_CGROUP_DEVICE; cgroup-v1/devices.rst */
#include "container/cgroup/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ALL (DEV_READ | DEV_WRITE | DEV_MKNOD)

static const struct dev_rule always[] = {
	{ true, 'c', -1, -1, DEV_MKNOD }, /* making a node opens nothing */
	{ true, 'b', -1, -1, DEV_MKNOD }, { true, 'c', 1, 3, ALL }, /* null */
	{ true, 'c', 1, 5, ALL },				    /* zero */
	{ true, 'c', 1, 7, ALL },				    /* full */
	{ true, 'c', 1, 8, ALL },				    /* random */
	{ true, 'c', 1, 9, ALL },				    /* urandom */
	{ true, 'c', 5, 0, ALL },				    /* tty */
	{ true, 'c', 5, 2, ALL },				    /* ptmx */
	{ true, 'c', 136, -1, ALL },				    /* its terminals */
};

struct dev_rule *cg_device_rules(struct arena *a, const struct spec_resources *r, size_t *n)
{
	struct dev_rule *v = arena_alloc(a, (r->n_devices + ARRAY_SIZE(always)) * sizeof(*v));

	memcpy(v, r->devices, r->n_devices * sizeof(*v));
	memcpy(v + r->n_devices, always, sizeof(always));
	*n = r->n_devices + ARRAY_SIZE(always);
	return v;
}

static void num(char *buf, size_t len, int64_t v)
{
	if (v < 0)
		snprintf(buf, len, "*");
	else
		snprintf(buf, len, "%lld", (long long)v);
}

int cg_devices_v1(const struct cg_hierarchy *h, const struct spec_resources *res, bool user_ns,
		  struct err **e)
{
	struct arena a = { 0 };
	size_t n, i;
	const struct dev_rule *v = cg_device_rules(&a, res, &n);
	int r = 0;

	for (i = 0; i < n && r == 0; i++) {
		const struct dev_rule *d = &v[i];
		char major[24], minor[24];

		num(major, sizeof(major), d->major);
		num(minor, sizeof(minor), d->minor);
		if (d->type == 'a')
			r = cg_writef(h, d->allow ? "devices.allow" : "devices.deny", e, "a");
		else
			r = cg_writef(h, d->allow ? "devices.allow" : "devices.deny", e,
				      "%c %s:%s %s%s%s", d->type, major, minor,
				      d->access & DEV_READ ? "r" : "",
				      d->access & DEV_WRITE ? "w" : "",
				      d->access & DEV_MKNOD ? "m" : "");
	}
	arena_done(&a);
	return r < 0 && user_ns && r == -EPERM ? 0 : r;
}

static size_t attached(int dir, uint32_t *ids, size_t max)
{
	union bpf_attr attr = { 0 };

	attr.query.target_fd = (uint32_t)dir;
	attr.query.attach_type = BPF_CGROUP_DEVICE;
	attr.query.prog_ids = (uint64_t)(uintptr_t)ids;
	attr.query.prog_cnt = (uint32_t)max;
	return syscall(SYS_bpf, BPF_PROG_QUERY, &attr, sizeof(attr)) < 0 ? 0 : attr.query.prog_cnt;
}

static void detach(int dir, uint32_t id)
{
	union bpf_attr attr = { 0 };
	int fd;

	attr.prog_id = id;
	fd = (int)syscall(SYS_bpf, BPF_PROG_GET_FD_BY_ID, &attr, sizeof(attr));
	if (fd < 0)
		return;
	memset(&attr, 0, sizeof(attr));
	attr.target_fd = (uint32_t)dir;
	attr.attach_bpf_fd = (uint32_t)fd;
	attr.attach_type = BPF_CGROUP_DEVICE;
	syscall(SYS_bpf, BPF_PROG_DETACH, &attr, sizeof(attr));
	close(fd);
}

/* Later rules win, so the program tests them from the last to the first and the first match decides. */
int cg_devices_bpf(const struct cg_hierarchy *h, const struct spec_resources *res, bool user_ns,
		   struct err **e)
{
	struct arena a = { 0 };
	uint32_t old[16];
	size_t n, i, k = 0, n_old;
	const struct dev_rule *v = cg_device_rules(&a, res, &n);
	struct bpf_insn *p = arena_alloc(&a, (n * 10 + 16) * sizeof(*p));
	union bpf_attr attr = { 0 };
	int fd, dir;
	bool ended = false;
	long r;

#define I(c, d, s, o, im)                                 \
	(p[k++] = (struct bpf_insn){ .code = (c),         \
				     .dst_reg = (d),      \
				     .src_reg = (s),      \
				     .off = (int16_t)(o), \
				     .imm = (int32_t)(im) })
	/* r2 = type (low half of access_type), r3 = access (high half), r4 = major, r5 = minor */
	I(BPF_LDX | BPF_MEM | BPF_W, 2, 1, 0, 0);
	I(BPF_ALU | BPF_AND | BPF_K, 2, 0, 0, 0xffff);
	I(BPF_LDX | BPF_MEM | BPF_W, 3, 1, 0, 0);
	I(BPF_ALU | BPF_RSH | BPF_K, 3, 0, 0, 16);
	I(BPF_LDX | BPF_MEM | BPF_W, 4, 1, 4, 0);
	I(BPF_LDX | BPF_MEM | BPF_W, 5, 1, 8, 0);
	for (i = n; i-- > 0;) {
		const struct dev_rule *d = &v[i];
		size_t at[6], n_at = 0, j;
		bool any = d->type == 'a';

		if (any && !(d->access & ALL))
			continue;
		if (!any) {
			at[n_at++] = k;
			I(BPF_JMP | BPF_JNE | BPF_K, 2, 0, 0,
			  d->type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR);
		}
		if ((d->access & ALL) != ALL && !any) {
			I(BPF_ALU | BPF_MOV | BPF_X, 6, 3, 0, 0);
			I(BPF_ALU | BPF_AND | BPF_K, 6, 0, 0, d->access);
			if (d->allow) {
				/* allowed when every access asked for is in the rule */
				at[n_at++] = k;
				I(BPF_JMP | BPF_JNE | BPF_X, 6, 3, 0, 0);
			} else {
				/* denied when any of them is */
				at[n_at++] = k;
				I(BPF_JMP | BPF_JEQ | BPF_K, 6, 0, 0, 0);
			}
		}
		if (!any && d->major >= 0) {
			at[n_at++] = k;
			I(BPF_JMP | BPF_JNE | BPF_K, 4, 0, 0, d->major);
		}
		if (!any && d->minor >= 0) {
			at[n_at++] = k;
			I(BPF_JMP | BPF_JNE | BPF_K, 5, 0, 0, d->minor);
		}
		I(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, d->allow);
		I(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
		for (j = 0; j < n_at; j++)
			p[at[j]].off = (int16_t)(k - at[j] - 1);
		if (any) {
			ended = true; /* what comes before it cannot matter */
			break;
		}
	}
	if (!ended) { /* nothing was said about the rest: the kernel's own default is to allow */
		I(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 1);
		I(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
	}
#undef I
	attr.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
	attr.insns = (uint64_t)(uintptr_t)p;
	attr.insn_cnt = (uint32_t)k;
	attr.license = (uint64_t)(uintptr_t) "LGPL";
	r = syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof(attr));
	if (r < 0) {
		r = user_ns && errno == EPERM
			    ? 0
			    : err_sys(e, errno, "load the device filter of '%s'", h->path);
		arena_done(&a);
		return (int)r;
	}
	fd = (int)r;
	arena_done(&a);
	dir = openat(h->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	n_old = attached(dir, old, ARRAY_SIZE(old));
	memset(&attr, 0, sizeof(attr));
	attr.target_fd = (uint32_t)dir;
	attr.attach_bpf_fd = (uint32_t)fd;
	attr.attach_type = BPF_CGROUP_DEVICE;
	attr.attach_flags = BPF_F_ALLOW_MULTI;
	r = syscall(SYS_bpf, BPF_PROG_ATTACH, &attr, sizeof(attr));
	if (r < 0)
		r = user_ns && errno == EPERM
			    ? 0
			    : err_sys(e, errno, "attach the device filter to '%s'", h->path);
	/* All attached programs must agree, so an update has to take the older ones away. */
	for (i = 0; r == 0 && i < n_old; i++)
		detach(dir, old[i]);
	close(fd);
	close(dir);
	return (int)r;
}
