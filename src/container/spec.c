/* config.json; see spec.h. */
#include "container/spec.h"
#include "container/warn.h"

#include <limits.h>
#include <sched.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include "base/str.h"
#include "sys/caps.h"
#include "sys/mountapi.h"
#include "sys/proc.h"

#define MAPS_MAX 340  /* the kernel's own limit of lines in a map */
#define LIST_MAX 4096 /* of anything that is listed */

const char *const ns_names[NS_KINDS] = { "user", "mount", "pid",    "network",
					 "uts",	 "ipc",	  "cgroup", "time" };
const char *const ns_files[NS_KINDS] = {
	"user", "mnt", "pid", "net", "uts", "ipc", "cgroup", "time"
};
const int ns_flags[NS_KINDS] = { CLONE_NEWUSER, CLONE_NEWNS,  CLONE_NEWPID,    CLONE_NEWNET,
				 CLONE_NEWUTS,	CLONE_NEWIPC, CLONE_NEWCGROUP, CLONE_NEWTIME };
const char *const hook_names[HOOK_KINDS] = { "prestart",       "createRuntime", "createContainer",
					     "startContainer", "poststart",	"poststop" };

static const struct {
	const char *name;
	int resource;
} rlimits[] = {
	{ "RLIMIT_AS", RLIMIT_AS },
	{ "RLIMIT_CORE", RLIMIT_CORE },
	{ "RLIMIT_CPU", RLIMIT_CPU },
	{ "RLIMIT_DATA", RLIMIT_DATA },
	{ "RLIMIT_FSIZE", RLIMIT_FSIZE },
	{ "RLIMIT_LOCKS", 10 },
	{ "RLIMIT_MEMLOCK", RLIMIT_MEMLOCK },
	{ "RLIMIT_MSGQUEUE", 12 },
	{ "RLIMIT_NICE", 13 },
	{ "RLIMIT_NOFILE", RLIMIT_NOFILE },
	{ "RLIMIT_NPROC", RLIMIT_NPROC },
	{ "RLIMIT_RSS", RLIMIT_RSS },
	{ "RLIMIT_RTPRIO", 14 },
	{ "RLIMIT_RTTIME", 15 },
	{ "RLIMIT_SIGPENDING", 11 },
	{ "RLIMIT_STACK", RLIMIT_STACK },
};

int rlimit_from_name(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(rlimits); i++)
		if (streq(name, rlimits[i].name))
			return rlimits[i].resource;
	return -1;
}

static void *list(struct jr *r, const struct jval *v, size_t size, size_t *n)
{
	*n = 0;
	if (!v)
		return NULL;
	if (v->n > LIST_MAX) {
		jr_fail(r, v, NULL, "more than %d entries", LIST_MAX);
		return NULL;
	}
	return arena_alloc(r->a, v->n * size);
}

static void read_kvs(struct jr *r, const struct jval *o, const char *key, struct kvs *ret)
{
	struct jval *v = jr_obj(r, o, key);

	ret->v = list(r, v, sizeof(*ret->v), &ret->n);
	if (!ret->v)
		return;
	jfor(item, v)
	{
		if (item->kind != J_STRING) {
			jr_fail(r, item, NULL, "not a string");
			return;
		}
		ret->v[ret->n++] = (struct kv){ item->key, item->text };
	}
}

static void read_maps(struct jr *r, const struct jval *o, const char *key, struct idmaps *ret)
{
	struct jval *v = jr_arr(r, o, key);

	if (v && v->n > MAPS_MAX) {
		jr_fail(r, v, NULL, "more than %d lines", MAPS_MAX);
		return;
	}
	ret->v = list(r, v, sizeof(*ret->v), &ret->n);
	if (!ret->v)
		return;
	jfor(item, v)
	{
		struct idmap m = { 0 };

		jr_u32(r, item, "containerID", &m.inside);
		jr_u32(r, item, "hostID", &m.outside);
		jr_u32(r, item, "size", &m.size);
		if (m.size == 0)
			jr_fail(r, item, "size", "must be 1 or more");
		if ((uint64_t)m.inside + m.size > UINT32_MAX ||
		    (uint64_t)m.outside + m.size > UINT32_MAX)
			jr_fail(r, item, NULL, "the range ends beyond the last id");
		ret->v[ret->n++] = m;
	}
}

static bool absolute(struct jr *r, const struct jval *o, const char *key, const char *path)
{
	if (path[0] == '/')
		return true;
	jr_fail(r, o, key, "'%s' is not an absolute path", path);
	return false;
}

static void read_mounts(struct jr *r, const struct jval *o, struct spec *s)
{
	struct jval *v = jr_arr(r, o, "mounts");

	s->mounts = list(r, v, sizeof(*s->mounts), &s->n_mounts);
	if (!s->mounts)
		return;
	jfor(item, v)
	{
		struct spec_mount *m = &s->mounts[s->n_mounts++];

		m->type = m->source = "";
		if (item->kind != J_OBJECT)
			jr_fail(r, item, NULL, "not an object");
		if (!jr_str(r, item, "destination", &m->dest) || !*m->dest)
			jr_fail(r, item, "destination", "is missing");
		jr_str(r, item, "type", &m->type);
		jr_str(r, item, "source", &m->source);
		jr_strv(r, item, "options", &m->options, NULL);
		read_maps(r, item, "uidMappings", &m->uids);
		read_maps(r, item, "gidMappings", &m->gids);
		m->has_maps = m->uids.n > 0 || m->gids.n > 0;
		if (r->r < 0)
			return;
		if ((m->uids.n > 0) != (m->gids.n > 0))
			jr_fail(r, item, m->uids.n ? "gidMappings" : "uidMappings",
				"is missing beside the other");
		mount_opts_parse(r->a, m->options, &m->o);
		if (streq(m->type, "bind"))
			m->o.bind = true;
		if (m->o.bind && !*m->source && !m->o.remount)
			jr_fail(r, item, "source", "is missing for a bind mount");
		if (!m->o.bind && !m->o.remount && !*m->type)
			jr_fail(r, item, "type", "is missing");
		if (m->has_maps && !m->o.bind)
			jr_fail(r, item, "uidMappings", "only a bind mount can be mapped");
	}
}

static uint64_t read_cap_list(struct jr *r, const struct jval *o, const char *key)
{
	char **v = NULL;
	uint64_t mask = 0;
	size_t i;

	if (!jr_strv(r, o, key, &v, NULL))
		return 0;
	for (i = 0; v[i]; i++) {
		int c = str_starts(v[i], "CAP_") ? cap_from_name(v[i]) : -1;

		/* An unknown name (a newer kernel's, or nonsense) cannot be granted: say so once, go on without. */
		if (c < 0)
			ct_warn("%s[%zu]: unknown capability '%s' is ignored",
				jpath(r->a, jget(o, key), NULL), i, v[i]);
		else
			mask |= 1ULL << c;
	}
	return mask;
}

static void read_caps(struct jr *r, const struct jval *o, struct spec_caps *c)
{
	struct jval *v = jr_obj(r, o, "capabilities");

	if (!v)
		return;
	c->set = true;
	c->bounding = read_cap_list(r, v, "bounding");
	c->effective = read_cap_list(r, v, "effective");
	c->permitted = read_cap_list(r, v, "permitted");
	c->inheritable = read_cap_list(r, v, "inheritable");
	c->ambient = read_cap_list(r, v, "ambient");
}

static void read_rlimits(struct jr *r, const struct jval *o, struct spec_process *p)
{
	struct jval *v = jr_arr(r, o, "rlimits");

	p->rlimits = list(r, v, sizeof(*p->rlimits), &p->n_rlimits);
	if (!p->rlimits)
		return;
	jfor(item, v)
	{
		struct spec_rlimit *l = &p->rlimits[p->n_rlimits];
		size_t i;

		l->name = "";
		jr_str(r, item, "type", &l->name);
		jr_u64(r, item, "soft", &l->soft);
		jr_u64(r, item, "hard", &l->hard);
		l->resource = rlimit_from_name(l->name);
		if (l->resource < 0)
			jr_fail(r, item, "type", "'%s' is not a limit of this system", l->name);
		if (l->soft > l->hard)
			jr_fail(r, item, "soft", "is above hard");
		for (i = 0; i < p->n_rlimits; i++)
			if (p->rlimits[i].resource == l->resource)
				jr_fail(r, item, "type", "'%s' is given twice", l->name);
		p->n_rlimits++;
	}
}

struct word {
	const char *name;
	uint64_t v;
};

static bool word_of(const struct word *w, size_t n, const char *name, uint64_t *ret)
{
	size_t i;

	for (i = 0; i < n; i++) {
		if (streq(w[i].name, name)) {
			*ret = w[i].v;
			return true;
		}
	}
	return false;
}

static void read_sched(struct jr *r, const struct jval *o, struct spec_sched *s)
{
	static const struct word policies[] = { { "SCHED_OTHER", 0 },	{ "SCHED_FIFO", 1 },
						{ "SCHED_RR", 2 },	{ "SCHED_BATCH", 3 },
						{ "SCHED_ISO", 4 },	{ "SCHED_IDLE", 5 },
						{ "SCHED_DEADLINE", 6 } };
	static const struct word flags[] = {
		{ "SCHED_FLAG_RESET_ON_FORK", 1 },  { "SCHED_FLAG_RECLAIM", 2 },
		{ "SCHED_FLAG_DL_OVERRUN", 4 },	    { "SCHED_FLAG_KEEP_POLICY", 8 },
		{ "SCHED_FLAG_KEEP_PARAMS", 16 },   { "SCHED_FLAG_UTIL_CLAMP_MIN", 32 },
		{ "SCHED_FLAG_UTIL_CLAMP_MAX", 64 }
	};
	struct jval *v = jr_obj(r, o, "scheduler");
	const char *name = "";
	char **fl = NULL;
	uint64_t n;
	size_t i;

	if (!v)
		return;
	s->set = true;
	jr_str(r, v, "policy", &name);
	if (!word_of(policies, ARRAY_SIZE(policies), name, &n)) {
		jr_fail(r, v, "policy", "'%s' is not a scheduling policy", name);
		return;
	}
	s->policy = (uint32_t)n;
	jr_i32(r, v, "nice", &s->nice);
	jr_i32(r, v, "priority", &s->priority);
	jr_u64(r, v, "runtime", &s->runtime);
	jr_u64(r, v, "deadline", &s->deadline);
	jr_u64(r, v, "period", &s->period);
	jr_strv(r, v, "flags", &fl, NULL);
	for (i = 0; fl && fl[i]; i++) {
		if (!word_of(flags, ARRAY_SIZE(flags), fl[i], &n))
			jr_fail(r, v, "flags", "'%s' is not a scheduling flag", fl[i]);
		else
			s->flags |= n;
	}
	if (s->nice < -20 || s->nice > 19)
		jr_fail(r, v, "nice", "%d is not within -20 to 19", s->nice);
	if (s->priority != 0 && s->policy != 1 && s->policy != 2)
		jr_fail(r, v, "priority", "is only for SCHED_FIFO and SCHED_RR");
	if ((s->runtime || s->deadline || s->period) && s->policy != 6)
		jr_fail(r, v, "runtime",
			"runtime, deadline and period are only for SCHED_DEADLINE");
}

static void read_ioprio(struct jr *r, const struct jval *o, struct spec_process *p)
{
	static const struct word classes[] = { { "IOPRIO_CLASS_RT", 1 },
					       { "IOPRIO_CLASS_BE", 2 },
					       { "IOPRIO_CLASS_IDLE", 3 } };
	struct jval *v = jr_obj(r, o, "ioPriority");
	const char *name = "";
	int32_t prio = 0;
	uint64_t class;

	if (!v)
		return;
	jr_str(r, v, "class", &name);
	jr_i32(r, v, "priority", &prio);
	if (!word_of(classes, ARRAY_SIZE(classes), name, &class)) {
		jr_fail(r, v, "class", "'%s' is not an I/O priority class", name);
		return;
	}
	if (prio < 0 || prio > 7)
		jr_fail(r, v, "priority", "%d is not within 0 to 7", prio);
	p->has_ioprio = true;
	p->ioprio = (int)(class << 13) | prio;
}

void spec_read_process(struct jr *r, const struct jval *o, struct spec_process *p)
{
	struct jval *user, *size, *groups;
	size_t i;

	jr_bool(r, o, "terminal", &p->terminal);
	size = jr_obj(r, o, "consoleSize");
	jr_u32(r, size, "height", &p->rows);
	jr_u32(r, size, "width", &p->cols);
	user = jr_obj(r, o, "user");
	jr_u32(r, user, "uid", &p->uid);
	jr_u32(r, user, "gid", &p->gid);
	p->has_umask = jr_u32(r, user, "umask", &p->umask);
	if (p->has_umask && p->umask > 0777)
		jr_fail(r, user, "umask", "is above 0777");
	groups = jr_arr(r, user, "additionalGids");
	p->groups = list(r, groups, sizeof(*p->groups), &p->n_groups);
	jfor(item, p->groups ? groups : NULL)
	{
		uint64_t g;

		if (!jval_u64(item, &g) || g > UINT32_MAX) {
			jr_fail(r, item, NULL, "not a group id");
			break;
		}
		p->groups[p->n_groups++] = (uint32_t)g;
	}
	jr_strv(r, o, "args", &p->args, &p->n_args);
	jr_strv(r, o, "env", &p->env, &p->n_env);
	for (i = 0; i < p->n_env; i++)
		if (!strchr(p->env[i], '='))
			jr_fail(r, jget(o, "env"), NULL, "'%s' has no '='", p->env[i]);
	if (jr_str(r, o, "cwd", &p->cwd))
		absolute(r, o, "cwd", p->cwd);
	else
		jr_fail(r, o, "cwd", "is missing");
	read_caps(r, o, &p->caps);
	read_rlimits(r, o, p);
	jr_bool(r, o, "noNewPrivileges", &p->no_new_privs);
	jr_str(r, o, "apparmorProfile", &p->apparmor);
	jr_str(r, o, "selinuxLabel", &p->selinux);
	p->has_oom_score = jr_i32(r, o, "oomScoreAdj", &p->oom_score);
	if (p->has_oom_score && (p->oom_score < -1000 || p->oom_score > 1000))
		jr_fail(r, o, "oomScoreAdj", "%d is not within -1000 to 1000", p->oom_score);
	read_sched(r, o, &p->sched);
	read_ioprio(r, o, p);
}

static void read_hooks(struct jr *r, const struct jval *o, struct spec *s)
{
	struct jval *hooks = jr_obj(r, o, "hooks");
	int k;

	for (k = 0; k < HOOK_KINDS; k++) {
		struct jval *v = jr_arr(r, hooks, hook_names[k]);

		s->hooks[k] = list(r, v, sizeof(*s->hooks[k]), &s->n_hooks[k]);
		jfor(item, s->hooks[k] ? v : NULL)
		{
			struct spec_hook *h = &s->hooks[k][s->n_hooks[k]++];

			h->path = "";
			if (jr_str(r, item, "path", &h->path))
				absolute(r, item, "path", h->path);
			else
				jr_fail(r, item, "path", "is missing");
			if (!jr_strv(r, item, "args", &h->args, NULL) || !h->args[0]) {
				h->args = arena_alloc(r->a, 2 * sizeof(char *));
				h->args[0] = (char *)(uintptr_t)h->path;
			}
			if (!jr_strv(r, item, "env", &h->env, NULL))
				h->env = arena_alloc(r->a, sizeof(char *));
			if (jr_i32(r, item, "timeout", &h->timeout) && h->timeout <= 0)
				jr_fail(r, item, "timeout", "must be above 0");
		}
	}
}

static void read_namespaces(struct jr *r, const struct jval *o, struct spec *s)
{
	struct jval *v = jr_arr(r, o, "namespaces");

	jfor(item, v)
	{
		const char *type = "", *path = NULL;
		int k;

		jr_str(r, item, "type", &type);
		for (k = 0; k < NS_KINDS; k++)
			if (streq(type, ns_names[k]))
				break;
		if (k == NS_KINDS) {
			jr_fail(r, item, "type", "'%s' is not a namespace", type);
			return;
		}
		if (s->ns[k].present)
			jr_fail(r, item, "type", "'%s' is given twice", type);
		if (jr_str(r, item, "path", &path) && *path)
			absolute(r, item, "path", path);
		s->ns[k].present = true;
		s->ns[k].path = path && *path ? path : NULL;
	}
}

static void read_devices(struct jr *r, const struct jval *o, struct spec *s)
{
	struct jval *v = jr_arr(r, o, "devices");

	s->devices = list(r, v, sizeof(*s->devices), &s->n_devices);
	jfor(item, s->devices ? v : NULL)
	{
		struct spec_device *d = &s->devices[s->n_devices++];
		const char *type = "";
		uint32_t mode = 0666;

		d->path = "";
		if (jr_str(r, item, "path", &d->path))
			absolute(r, item, "path", d->path);
		else
			jr_fail(r, item, "path", "is missing");
		jr_str(r, item, "type", &type);
		if (streq(type, "c") || streq(type, "u"))
			d->type = S_IFCHR;
		else if (streq(type, "b"))
			d->type = S_IFBLK;
		else if (streq(type, "p"))
			d->type = S_IFIFO;
		else
			jr_fail(r, item, "type", "'%s' is not c, b, u or p", type);
		if (!jr_i64(r, item, "major", &d->major) && d->type != S_IFIFO)
			jr_fail(r, item, "major", "is missing");
		if (!jr_i64(r, item, "minor", &d->minor) && d->type != S_IFIFO)
			jr_fail(r, item, "minor", "is missing");
		jr_u32(r, item, "fileMode", &mode);
		d->mode = mode & 07777;
		jr_u32(r, item, "uid", &d->uid);
		jr_u32(r, item, "gid", &d->gid);
	}
}

static void lim(struct jr *r, const struct jval *o, const char *key, struct lim *l)
{
	l->set |= jr_i64(r, o, key, &l->v);
}

/* A number that may be as large as 2^64-1 ("no limit" in some writers): held as -1 then. */
static void lim_u(struct jr *r, const struct jval *o, const char *key, struct lim *l)
{
	uint64_t v;

	if (jr_u64(r, o, key, &v)) {
		l->set = true;
		l->v = v > INT64_MAX ? -1 : (int64_t)v;
	}
}

static void read_dev_rules(struct jr *r, const struct jval *o, struct spec_resources *s)
{
	struct jval *v = jr_arr(r, o, "devices");

	if (!v)
		return;
	s->devices = list(r, v, sizeof(*s->devices), &s->n_devices);
	jfor(item, s->devices ? v : NULL)
	{
		struct dev_rule *d = &s->devices[s->n_devices++];
		const char *type = "a", *access = "rwm";

		d->major = d->minor = -1;
		jr_bool(r, item, "allow", &d->allow);
		jr_str(r, item, "type", &type);
		if (!*type)
			type = "a";
		if (strlen(type) != 1 || !strchr("abcu", type[0]))
			jr_fail(r, item, "type", "'%s' is not a, b or c", type);
		d->type = type[0] == 'u' ? 'c' : type[0];
		jr_i64(r, item, "major", &d->major);
		jr_i64(r, item, "minor", &d->minor);
		if (d->major < -1)
			jr_fail(r, item, "major", "is below -1");
		if (d->minor < -1)
			jr_fail(r, item, "minor", "is below -1");
		jr_str(r, item, "access", &access);
		for (; *access; access++) {
			if (*access == 'r')
				d->access |= DEV_READ;
			else if (*access == 'w')
				d->access |= DEV_WRITE;
			else if (*access == 'm')
				d->access |= DEV_MKNOD;
			else if (*access == 'a') /* met in the wild, and read as nothing by runc */
				ct_warn("linux.resources.devices: access 'a' means nothing and is ignored");
			else
				jr_fail(r, item, "access", "'%c' is not r, w or m", *access);
		}
	}
}

static void read_blkio_devs(struct jr *r, const struct jval *o, const char *key, const char *field,
			    struct blkio_devs *ret)
{
	struct jval *v = jr_arr(r, o, key);

	if (!v)
		return;
	ret->v = list(r, v, sizeof(*ret->v), &ret->n);
	jfor(item, ret->v ? v : NULL)
	{
		struct blkio_dev *d = &ret->v[ret->n++];

		jr_i64(r, item, "major", &d->major);
		jr_i64(r, item, "minor", &d->minor);
		jr_u64(r, item, field, &d->value);
		jr_u64(r, item, "leafWeight", &d->leaf);
	}
}

static void read_rdma(struct jr *r, const struct jval *o, struct spec_resources *s)
{
	struct jval *v = jr_obj(r, o, "rdma");

	if (!v)
		return;
	s->rdma = list(r, v, sizeof(*s->rdma), &s->n_rdma);
	jfor(item, s->rdma ? v : NULL)
	{
		struct rdma_limit *l = &s->rdma[s->n_rdma++];

		l->device = item->key;
		l->has_handles = jr_u32(r, item, "hcaHandles", &l->handles);
		l->has_objects = jr_u32(r, item, "hcaObjects", &l->objects);
	}
}

void spec_read_resources(struct jr *r, const struct jval *o, struct spec_resources *s)
{
	struct jval *v;

	if (!o)
		return;
	s->present = true;
	read_dev_rules(r, o, s);
	v = jr_obj(r, o, "memory");
	lim(r, v, "limit", &s->mem_limit);
	lim(r, v, "reservation", &s->mem_reservation);
	lim(r, v, "swap", &s->mem_swap);
	lim(r, v, "kernel", &s->mem_kernel);
	lim(r, v, "kernelTCP", &s->mem_kernel_tcp);
	lim_u(r, v, "swappiness", &s->mem_swappiness);
	if (s->mem_swappiness.set && s->mem_swappiness.v > 100)
		jr_fail(r, v, "swappiness", "is above 100");
	jr_bool(r, v, "disableOOMKiller", &s->oom_disable);
	jr_bool(r, v, "useHierarchy", &s->use_hierarchy);
	jr_bool(r, v, "checkBeforeUpdate", &s->check_before_update);
	v = jr_obj(r, o, "cpu");
	lim_u(r, v, "shares", &s->cpu_shares);
	lim(r, v, "quota", &s->cpu_quota);
	lim_u(r, v, "burst", &s->cpu_burst);
	lim_u(r, v, "period", &s->cpu_period);
	lim(r, v, "realtimeRuntime", &s->cpu_rt_runtime);
	lim_u(r, v, "realtimePeriod", &s->cpu_rt_period);
	lim(r, v, "idle", &s->cpu_idle);
	jr_str(r, v, "cpus", &s->cpus);
	jr_str(r, v, "mems", &s->mems);
	v = jr_obj(r, o, "pids");
	lim(r, v, "limit", &s->pids);
	v = jr_obj(r, o, "blockIO");
	lim_u(r, v, "weight", &s->blkio_weight);
	lim_u(r, v, "leafWeight", &s->blkio_leaf_weight);
	read_blkio_devs(r, v, "weightDevice", "weight", &s->weight_devs);
	read_blkio_devs(r, v, "throttleReadBpsDevice", "rate", &s->read_bps);
	read_blkio_devs(r, v, "throttleWriteBpsDevice", "rate", &s->write_bps);
	read_blkio_devs(r, v, "throttleReadIOPSDevice", "rate", &s->read_iops);
	read_blkio_devs(r, v, "throttleWriteIOPSDevice", "rate", &s->write_iops);
	v = jr_arr(r, o, "hugepageLimits");
	if (v) {
		s->huge = list(r, v, sizeof(*s->huge), &s->n_huge);
		jfor(item, s->huge ? v : NULL)
		{
			struct hugepage_limit *h = &s->huge[s->n_huge++];

			h->size = "";
			jr_str(r, item, "pageSize", &h->size);
			jr_u64(r, item, "limit", &h->limit);
			if (!*h->size || strchr(h->size, '/'))
				jr_fail(r, item, "pageSize", "'%s' is not a page size", h->size);
		}
	}
	v = jr_obj(r, o, "network");
	lim_u(r, v, "classID", &s->net_class);
	v = jr_arr(r, v, "priorities");
	if (v) {
		s->net_prio = list(r, v, sizeof(*s->net_prio), &s->n_net_prio);
		jfor(item, s->net_prio ? v : NULL)
		{
			struct ifprio *p = &s->net_prio[s->n_net_prio++];

			p->name = "";
			jr_str(r, item, "name", &p->name);
			jr_u32(r, item, "priority", &p->prio);
		}
	}
	read_rdma(r, o, s);
	read_kvs(r, o, "unified", &s->unified);
	for (size_t i = 0; i < s->unified.n; i++)
		if (strchr(s->unified.v[i].key, '/') || !strchr(s->unified.v[i].key, '.') ||
		    s->unified.v[i].key[0] == '.')
			jr_fail(r, jget(o, "unified"), s->unified.v[i].key,
				"is not a cgroup file name");
}

static void read_personality(struct jr *r, const struct jval *o, struct spec *s)
{
	struct jval *v = jr_obj(r, o, "personality");
	const char *domain = "";

	if (!v)
		return;
	jr_str(r, v, "domain", &domain);
	s->has_personality = true;
	if (streq(domain, "LINUX"))
		s->personality = 0;
	else if (streq(domain, "LINUX32"))
		s->personality = 8;
	else
		jr_fail(r, v, "domain", "'%s' is not LINUX or LINUX32", domain);
	v = jr_arr(r, v, "flags");
	if (v && v->n > 0)
		jr_fail(r, v, NULL, "no flag is supported");
}

static void read_time_offset(struct jr *r, const struct jval *o, const char *key,
			     struct time_offset *t)
{
	struct jval *v = jr_obj(r, o, key);

	if (!v)
		return;
	t->set = true;
	jr_i64(r, v, "secs", &t->secs);
	jr_u32(r, v, "nanosecs", &t->nanosecs);
	if (t->nanosecs > 999999999)
		jr_fail(r, v, "nanosecs", "is above 999999999");
}

static void read_linux(struct jr *r, const struct jval *o, struct spec *s)
{
	struct jval *v;
	const char *prop = NULL;

	read_namespaces(r, o, s);
	read_maps(r, o, "uidMappings", &s->uids);
	read_maps(r, o, "gidMappings", &s->gids);
	read_kvs(r, o, "sysctl", &s->sysctl);
	spec_read_resources(r, jr_obj(r, o, "resources"), &s->res);
	jr_str(r, o, "cgroupsPath", &s->cgroups_path);
	read_devices(r, o, s);
	s->seccomp = jr_obj(r, o, "seccomp");
	if (jr_str(r, o, "rootfsPropagation", &prop) && *prop) {
		s->rootfs_propagation = propagation_from_name(prop);
		if (!s->rootfs_propagation)
			jr_fail(r, o, "rootfsPropagation", "'%s' is not a mount propagation", prop);
	}
	jr_strv(r, o, "maskedPaths", &s->masked, NULL);
	jr_strv(r, o, "readonlyPaths", &s->readonly, NULL);
	jr_str(r, o, "mountLabel", &s->mount_label);
	s->intel_rdt = jr_obj(r, o, "intelRdt") != NULL;
	read_personality(r, o, s);
	v = jr_obj(r, o, "timeOffsets");
	read_time_offset(r, v, "monotonic", &s->monotonic);
	read_time_offset(r, v, "boottime", &s->boottime);
}

/* What must hold between fields. */
static void check(struct jr *r, const struct spec *s, const struct jval *linux_obj)
{
	size_t i;

	if (s->ns[NS_USER].present && !s->ns[NS_USER].path && s->uids.n == 0)
		jr_fail(r, linux_obj, "uidMappings", "a new user namespace needs mappings");
	if (s->ns[NS_USER].present && !s->ns[NS_USER].path && s->gids.n == 0)
		jr_fail(r, linux_obj, "gidMappings", "a new user namespace needs mappings");
	if ((s->uids.n || s->gids.n) && !s->ns[NS_USER].present)
		jr_fail(r, linux_obj, "uidMappings", "mappings need a user namespace");
	if (s->hostname && !s->ns[NS_UTS].present)
		jr_fail(r, s->doc, "hostname", "needs a UTS namespace of the container");
	if (s->domainname && !s->ns[NS_UTS].present)
		jr_fail(r, s->doc, "domainname", "needs a UTS namespace of the container");
	if ((s->monotonic.set || s->boottime.set) &&
	    (!s->ns[NS_TIME].present || s->ns[NS_TIME].path))
		jr_fail(r, linux_obj, "timeOffsets", "needs a new time namespace");
	if (!s->ns[NS_MNT].present &&
	    ((s->masked && s->masked[0]) || (s->readonly && s->readonly[0])))
		jr_fail(r, linux_obj, s->masked && s->masked[0] ? "maskedPaths" : "readonlyPaths",
			"needs a mount namespace");
	if (s->intel_rdt)
		jr_fail(r, linux_obj, "intelRdt", "resource director technology is not supported");
	for (i = 0; i < s->sysctl.n; i++) {
		const char *k = s->sysctl.v[i].key;
		bool ipc = str_starts(k, "kernel.msg") || str_starts(k, "kernel.sem") ||
			   str_starts(k, "kernel.shm") || str_starts(k, "fs.mqueue.") ||
			   str_starts(k, "kernel/msg") || str_starts(k, "kernel/sem") ||
			   str_starts(k, "kernel/shm") || str_starts(k, "fs/mqueue/");
		bool net = str_starts(k, "net.") || str_starts(k, "net/");
		bool uts = streq(k, "kernel.domainname") || streq(k, "kernel.hostname") ||
			   streq(k, "kernel/domainname") || streq(k, "kernel/hostname");
		int ns = ipc ? NS_IPC : net ? NS_NET : uts ? NS_UTS : -1;

		if (strstr(k, "..") || strstr(k, "//") || k[0] == '/' || !*k)
			jr_fail(r, linux_obj, "sysctl", "'%s' is not a kernel parameter", k);
		else if (ns < 0)
			jr_fail(r, linux_obj, "sysctl",
				"'%s' is not in a namespace: it would change the host", k);
		else if (!s->ns[ns].present)
			jr_fail(r, linux_obj, "sysctl",
				"'%s' needs a %s namespace of the container", k, ns_names[ns]);
		else if (uts && s->hostname && strstr(k, "hostname"))
			jr_fail(r, linux_obj, "sysctl", "'%s' stands against hostname", k);
	}
}

int spec_parse(struct spec *s, const char *text, size_t len, struct err **e)
{
	struct jr r = { .a = &s->arena, .e = e };
	struct jval *o, *root, *proc, *linux_obj;
	unsigned int major = 0, minor = 0;

	s->text = text;
	s->text_len = len;
	if (jdoc_parse(&s->arena, text, len, &s->doc, e) < 0)
		return -EINVAL;
	o = s->doc;
	if (o->kind != J_OBJECT)
		return err_set(e, EINVAL, "config.field", "not a JSON object");
	if (!jr_str(&r, o, "ociVersion", &s->version))
		jr_fail(&r, o, "ociVersion", "is missing");
	else if (sscanf(s->version, "%u.%u.", &major, &minor) != 2 || major != 1)
		jr_fail(&r, o, "ociVersion", "'%s' is not a version 1.x of the specification",
			s->version);
	root = jr_obj(&r, o, "root");
	if (!jr_str(&r, root, "path", &s->root_path) || !*s->root_path)
		jr_fail(&r, o, "root.path", "is missing");
	jr_bool(&r, root, "readonly", &s->root_readonly);
	read_mounts(&r, o, s);
	proc = jr_obj(&r, o, "process");
	if (proc) {
		s->has_process = true;
		spec_read_process(&r, proc, &s->process);
	}
	jr_str(&r, o, "hostname", &s->hostname);
	jr_str(&r, o, "domainname", &s->domainname);
	if (s->hostname && !*s->hostname)
		s->hostname = NULL;
	if (s->domainname && !*s->domainname)
		s->domainname = NULL;
	read_hooks(&r, o, s);
	read_kvs(&r, o, "annotations", &s->annotations);
	linux_obj = jr_obj(&r, o, "linux");
	read_linux(&r, linux_obj, s);
	if (r.r == 0)
		check(&r, s, linux_obj);
	return r.r;
}

void spec_done(struct spec *s)
{
	arena_done(&s->arena);
	memset(s, 0, sizeof(*s));
}
