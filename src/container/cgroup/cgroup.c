/* Layout, folders, membership, freezing; see cgroup.h. */
#include "container/cgroup/cgroup.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>
#include "base/str.h"
#include "container/warn.h"
#include "base/xalloc.h"
#include "sys/proc.h"

#define ROOT	      "/sys/fs/cgroup"
#define CGROUP_MAGIC  0x27e0eb
#define CGROUP2_MAGIC 0x63677270

static const struct {
	const char *name;
	unsigned int bit;
} controllers[] = {
	{ "cpu", CG_CPU },	   { "cpuacct", CG_CPUACCT }, { "cpuset", CG_CPUSET },
	{ "memory", CG_MEMORY },   { "devices", CG_DEVICES }, { "freezer", CG_FREEZER },
	{ "blkio", CG_BLKIO },	   { "io", CG_BLKIO },	      { "pids", CG_PIDS },
	{ "hugetlb", CG_HUGETLB }, { "net_cls", CG_NET_CLS }, { "net_prio", CG_NET_PRIO },
	{ "perf_event", CG_PERF }, { "rdma", CG_RDMA },	      { "misc", CG_MISC },
};

/* "cpu,cpuacct" or "cpu io memory". */
static unsigned int parse_controllers(const char *s)
{
	unsigned int mask = 0;

	while (*s) {
		size_t len = strcspn(s, ", \n"), i;

		for (i = 0; i < ARRAY_SIZE(controllers); i++)
			if (strlen(controllers[i].name) == len &&
			    memcmp(s, controllers[i].name, len) == 0)
				mask |= controllers[i].bit;
		s += len;
		while (*s == ',' || *s == ' ' || *s == '\n')
			s++;
	}
	return mask;
}

/* A process's cgroups: calls fn for each line. */
static int own_cgroups(struct arena *a, char **text)
{
	char buf[8192];
	int fd = open("/proc/self/cgroup", O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, buf, sizeof(buf) - 1);
	close(fd);
	if (n < 0)
		return -errno;
	*text = arena_strndup(a, buf, (size_t)n);
	return 0;
}

static const char *join(struct arena *a, const char *mount, const char *own, const char *path)
{
	char buf[PATH_MAX * 2], *o = buf;
	const char *p;

	snprintf(buf, sizeof(buf), "%s/%s/%s", mount, own, path);
	/* One slash between names, none at the end. */
	for (p = buf; *p; p++)
		if (*p != '/' || (p[1] != '/' && p[1] != '\0'))
			*o++ = *p;
	*o = '\0';
	return arena_strdup(a, buf);
}

static bool path_ok(const char *p)
{
	while (*p) {
		size_t len = strcspn(p, "/");

		if ((len == 2 && p[0] == '.' && p[1] == '.') || (len == 1 && p[0] == '.') ||
		    len > NAME_MAX)
			return false;
		p += len;
		while (*p == '/')
			p++;
	}
	return true;
}

static const char *dir_of(struct arena *a, const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash && slash != path ? arena_strndup(a, path, (size_t)(slash - path)) : "/";
}

/* Where systemd puts a unit: "a-b.slice" lies in "a.slice". */
static const char *slice_path(struct arena *a, const char *slice)
{
	struct buf b = { 0 };
	const char *p = slice, *dash;
	char *ret;

	if (streq(slice, "-.slice") || !*slice)
		return "";
	while ((dash = strchr(p, '-'))) {
		buf_addf(&b, "/%.*s.slice", (int)(dash - slice), slice);
		p = dash + 1;
	}
	buf_addf(&b, "/%s", slice);
	ret = arena_strdup(a, buf_str(&b));
	buf_done(&b);
	return ret;
}

static int plan_systemd(struct arena *a, const char **path, const char *id, struct cgroups *c,
			struct err **e)
{
	/* "slice:prefix:name" */
	const char *p = *path ? *path : "", *c1, *c2,
		   *slice = geteuid() == 0 ? "system.slice" : "user.slice";
	const char *prefix = "strata", *name = id;

	if (*p) {
		c1 = strchr(p, ':');
		c2 = c1 ? strchr(c1 + 1, ':') : NULL;
		if (!c2)
			return err_set(
				e, EINVAL, "config.field",
				"linux.cgroupsPath: '%s' is not slice:prefix:name, which the systemd driver needs",
				p);
		if (c1 > p)
			slice = arena_strndup(a, p, (size_t)(c1 - p));
		prefix = arena_strndup(a, c1 + 1, (size_t)(c2 - c1 - 1));
		name = c2 + 1;
	}
	if (strchr(slice, '/') || strchr(prefix, '/') || strchr(name, '/') || !*name)
		return err_set(e, EINVAL, "config.field", "linux.cgroupsPath: '%s' holds a '/'", p);
	c->systemd = true;
	c->slice = slice;
	c->scope = str_ends(name, ".slice") ? name
		   : *prefix		    ? arena_printf(a, "%s-%s.scope", prefix, name)
					    : arena_printf(a, "%s.scope", name);
	*path = arena_printf(a, "%s/%s", slice_path(a, slice), c->scope);
	return 0;
}

static void add_hierarchy(struct cgroups *c, bool v2, const char *name, const char *mount,
			  const char *path)
{
	struct cg_hierarchy *h;

	if (c->n == CG_HIERARCHIES_MAX)
		return;
	h = &c->h[c->n++];
	*h = (struct cg_hierarchy){ .v2 = v2, .name = name, .mount = mount, .path = path, .fd = -1 };
	if (!v2) {
		h->controllers = parse_controllers(name);
		if (!h->controllers)
			h->controllers = CG_NAMED;
	}
}

static bool fs_is(const char *path, long magic)
{
	struct statfs st;

	return statfs(path, &st) == 0 && st.f_type == magic;
}

int cgroups_plan(struct arena *a, const char *path, const char *id, enum cg_manager manager,
		 struct cgroups *c, struct err **e)
{
	char *text, *line, *save = NULL;
	bool absolute, unified;
	struct statfs st;
	int r;

	memset(c, 0, sizeof(*c));
	c->arena = a;
	c->user_ns = geteuid() != 0;
	if (manager == CG_DISABLED) {
		c->disabled = true;
		return 0;
	}
	/* Everything in the container's folders dies with it: they are never the root of a hierarchy. */
	if (path && (!path_ok(path) || !path[strspn(path, "/")]))
		return err_set(e, EINVAL, "config.field",
			       "linux.cgroupsPath: '%s' is not a clean path", path);
	if (manager == CG_SYSTEMD) {
		r = plan_systemd(a, &path, id, c, e);
		if (r < 0)
			return r;
	}
	absolute = path && (path[0] == '/' || c->systemd);
	if (statfs(ROOT, &st) < 0)
		return err_sys(e, errno, "no control groups: " ROOT);
	unified = st.f_type == CGROUP2_MAGIC;
	r = own_cgroups(a, &text);
	if (r < 0)
		return err_sys(e, -r, "read /proc/self/cgroup");
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *names = strchr(line, ':'), *own = names ? strchr(names + 1, ':') : NULL;
		const char *mount;

		if (!own)
			continue;
		*own++ = '\0';
		names++;
		if (!*names) { /* v2 */
			const char *mine = own;

			if (unified) {
				mount = ROOT;
				/* Ours holds processes, so it cannot pass controllers on: a sibling. */
				mine = dir_of(a, own);
			} else if (fs_is(ROOT "/unified", CGROUP2_MAGIC)) {
				mount = ROOT "/unified";
			} else {
				continue;
			}
			add_hierarchy(c, true, "", mount,
				      join(a, mount, absolute ? "" : mine, path ? path : id));
			continue;
		}
		if (unified)
			continue;
		if (str_starts(names, "name="))
			names += 5;
		mount = arena_printf(a, ROOT "/%s", names);
		if (!fs_is(mount, CGROUP_MAGIC))
			continue;
		add_hierarchy(c, false, names, mount,
			      join(a, mount, absolute ? "" : own, path ? path : id));
	}
	if (c->n == 0)
		return err_set(e, ENOENT, "cgroup.none",
			       "no control group hierarchy is mounted at " ROOT);
	return 0;
}

int cgroups_load(struct arena *a, char *const *paths, struct cgroups *c, struct err **e)
{
	bool unified = fs_is(ROOT, CGROUP2_MAGIC);

	memset(c, 0, sizeof(*c));
	c->arena = a;
	c->user_ns = geteuid() != 0;
	c->disabled = !paths || !paths[0];
	for (; paths && *paths; paths++) {
		const char *p = *paths, *name;

		if (!str_starts(p, ROOT "/") || !path_ok(p + 1))
			return err_set(e, EINVAL, "status.broken", "'%s' is not a control group",
				       p);
		name = p + strlen(ROOT "/");
		if (unified) {
			add_hierarchy(c, true, "", ROOT, p);
		} else {
			name = arena_strndup(a, name, strcspn(name, "/"));
			add_hierarchy(c, streq(name, "unified"), name,
				      arena_printf(a, ROOT "/%s", name), p);
		}
	}
	return 0;
}

const struct cg_hierarchy *cg_find(const struct cgroups *c, enum cg_controller which)
{
	size_t i;

	for (i = 0; i < c->n; i++)
		if (c->h[i].fd >= 0 && c->h[i].controllers & (unsigned int)which)
			return &c->h[i];
	return NULL;
}

int cg_write(const struct cg_hierarchy *h, const char *file, const char *text)
{
	int fd = openat(h->fd, file, O_WRONLY | O_CLOEXEC), r = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		r = -errno;
	close(fd);
	return r;
}

int cg_writef(const struct cg_hierarchy *h, const char *file, struct err **e, const char *fmt, ...)
{
	char text[512];
	va_list ap;
	int r;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	r = cg_write(h, file, text);
	return r < 0 ? err_sys(e, -r, "write '%s' to %s/%s", text, h->path, file) : 0;
}

int cg_read(const struct cg_hierarchy *h, const char *file, char *buf, size_t len)
{
	int fd = openat(h->fd, file, O_RDONLY | O_CLOEXEC);
	size_t got = 0;

	if (fd < 0)
		return -errno;
	while (got + 1 < len) {
		ssize_t n = read(fd, buf + got, len - 1 - got);

		if (n < 0) {
			int r = -errno;

			close(fd);
			return r;
		}
		if (n == 0)
			break;
		got += (size_t)n;
	}
	close(fd);
	buf[got] = '\0';
	while (got > 0 && buf[got - 1] == '\n')
		buf[--got] = '\0';
	return (int)got;
}

/* mkdir -p below the mount point; 1: it was there already.  v1 cpusets are useless until cpus and mems are set: taken from above. */
static int make_dir(const struct cg_hierarchy *h, struct err **e)
{
	char path[PATH_MAX], *p;
	bool existed;
	int r = 0;

	if (strlen(h->path) >= sizeof(path))
		return err_set(e, ENAMETOOLONG, "cgroup.path", "'%s' is too long", h->path);
	existed = mkdir(h->path, 0755) < 0 && errno == EEXIST;
	if (errno != ENOENT && errno != EEXIST && errno != 0)
		return err_sys(e, errno, "make cgroup '%s'", h->path);
	if (errno != ENOENT && !(h->controllers & CG_CPUSET && !h->v2))
		return existed;
	strcpy(path, h->path);
	for (p = path + strlen(h->mount) + 1; p[-1]; p++) {
		char end = *p;

		if (end != '/' && end != '\0')
			continue;
		*p = '\0';
		if (mkdir(path, 0755) < 0 && errno != EEXIST)
			return err_sys(e, errno, "make cgroup '%s'", path);
		if (h->controllers & CG_CPUSET && !h->v2) {
			static const char *const files[] = { "cpuset.cpus", "cpuset.mems" };
			struct cg_hierarchy dir = { .path = path, .fd = -1 }, up = { .fd = -1 };
			char val[4096];
			size_t i;

			dir.fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
			up.fd = openat(dir.fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
			for (i = 0, r = 0; i < 2 && r >= 0 && dir.fd >= 0 && up.fd >= 0; i++) {
				r = cg_read(&dir, files[i], val, sizeof(val));
				if (r == 0 && (r = cg_read(&up, files[i], val, sizeof(val))) > 0)
					r = cg_write(&dir, files[i], val);
			}
			dir.fd = safe_close(dir.fd);
			up.fd = safe_close(up.fd);
			if (r < 0)
				return err_sys(e, -r, "fill in the cpuset of '%s'", path);
		}
		*p = end;
		if (!end)
			break;
	}
	return existed;
}

static unsigned int v2_controllers(int fd)
{
	struct cg_hierarchy h = { .fd = fd };
	char text[512];

	return cg_read(&h, "cgroup.controllers", text, sizeof(text)) > 0 ? parse_controllers(text)
									 : 0;
}

/* Pass controllers on from the root of the hierarchy down to the parent of the container's folder. */
static void enable_v2(struct cg_hierarchy *h)
{
	char path[PATH_MAX], *p, have[512];
	size_t base = strlen(h->mount);

	strcpy(path, h->path);
	for (p = path + base; p; p = strchr(p + 1, '/')) {
		struct cg_hierarchy dir = { .fd = -1 };
		char keep = *p, *word, *save = NULL, on[512] = "";

		*p = '\0';
		dir.fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (dir.fd >= 0 && cg_read(&dir, "cgroup.controllers", have, sizeof(have)) > 0 &&
		    cg_read(&dir, "cgroup.subtree_control", on, sizeof(on)) >= 0) {
			char want[600] = "";
			bool missing = false;

			for (word = strtok_r(have, " ", &save); word;
			     word = strtok_r(NULL, " ", &save)) {
				missing |= !strstr(on, word);
				snprintf(want + strlen(want), sizeof(want) - strlen(want), "+%s ",
					 word);
			}
			/* All at once; where one is refused (a threaded domain, say), one by one. */
			if (missing && cg_write(&dir, "cgroup.subtree_control", want) < 0)
				for (word = strtok_r(want, " ", &save); word;
				     word = strtok_r(NULL, " ", &save))
					cg_write(&dir, "cgroup.subtree_control", word);
		}
		dir.fd = safe_close(dir.fd);
		*p = keep;
	}
}

int cgroups_open(struct cgroups *c, struct err **e)
{
	size_t i;

	for (i = 0; i < c->n; i++) {
		struct cg_hierarchy *h = &c->h[i];

		if (h->fd >= 0)
			continue;
		h->fd = open(h->path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (h->fd < 0 && errno != ENOENT)
			return err_sys(e, errno, "open cgroup '%s'", h->path);
		if (h->fd >= 0 && h->v2)
			h->controllers = v2_controllers(h->fd);
	}
	return 0;
}

static bool busy(const struct cg_hierarchy *h)
{
	char text[64];

	return cg_read(h, "cgroup.procs", text, sizeof(text)) > 0;
}

static bool wants(const struct spec_resources *r)
{
	return r && r->present;
}

int cgroups_create(struct cgroups *c, const struct spec_resources *res, struct err **e)
{
	size_t i;
	int r;

	for (i = 0; i < c->n; i++) {
		struct cg_hierarchy *h = &c->h[i];

		errno = 0;
		r = make_dir(h, c->user_ns && !wants(res) ? NULL : e);
		if (r < 0) {
			/* Without privilege and without limits a container may live where its caller lives. */
			if (c->user_ns && !wants(res) &&
			    (r == -EACCES || r == -EPERM || r == -EROFS)) {
				memmove(h, h + 1, (c->n - i - 1) * sizeof(*h));
				c->n--;
				i--;
				continue;
			}
			return r;
		}
		safe_close(h->fd);
		h->fd = open(h->path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (h->fd < 0)
			return err_sys(e, errno, "open cgroup '%s'", h->path);
		if (r > 0 && !c->systemd && busy(h)) {
			/* As runc: shared on request.  But it is theirs then: our end neither kills nor removes it. */
			if (!c->joined)
				ct_warn("container's cgroup is not empty: '%s' has processes already",
					h->path);
			c->joined = true;
		}
		if (h->v2) {
			char top[512];
			struct cg_hierarchy m = { .fd = -1 };

			/* Everything that the root has and this folder lacks is switched on above it. */
			m.fd = open(h->mount, O_PATH | O_DIRECTORY | O_CLOEXEC);
			h->controllers = v2_controllers(h->fd);
			if (m.fd >= 0 && cg_read(&m, "cgroup.controllers", top, sizeof(top)) > 0 &&
			    parse_controllers(top) & ~h->controllers) {
				enable_v2(h);
				h->controllers = v2_controllers(h->fd);
			}
			m.fd = safe_close(m.fd);
		}
	}
	if (c->n == 0)
		c->disabled = true;
	return 0;
}

void cgroups_close(struct cgroups *c)
{
	size_t i;

	for (i = 0; i < c->n; i++)
		c->h[i].fd = safe_close(c->h[i].fd);
}

int cgroups_v2_fd(const struct cgroups *c)
{
	size_t i;

	for (i = 0; i < c->n; i++)
		if (c->h[i].v2)
			return c->h[i].fd;
	return -1;
}

/* "cpu" is in "cpu,cpuacct"; "systemd" and "name=systemd" are the same. */
static bool has_controller(const struct cg_hierarchy *h, const char *name, size_t len)
{
	const char *p = h->name;

	if (len > 5 && strncmp(name, "name=", 5) == 0) {
		name += 5;
		len -= 5;
	}
	while (*p) {
		size_t n = strcspn(p, ",");

		if (n == len && strncmp(p, name, n) == 0)
			return true;
		p += n + (p[n] == ',');
	}
	return false;
}

int cgroups_subs(const struct cgroups *c, char *const *words, const char **sub, struct err **e)
{
	size_t i;

	for (i = 0; i < c->n; i++)
		sub[i] = NULL;
	for (; words && *words; words++) {
		const char *colon = strchr(*words, ':'), *path = colon ? colon + 1 : *words,
			   *name = *words;

		path += strspn(path, "/");
		if (strstr(path, ".."))
			return err_set(e, EINVAL, "cgroup.sub", "%s is not a sub cgroup path",
				       path);
		if (!*path)
			path = ".";
		for (i = 0; !colon && i < c->n; i++)
			sub[i] = path;
		while (colon && name < colon) {
			size_t len = strcspn(name, ",:");
			bool found = false;

			for (i = 0; i < c->n; i++) {
				if (!has_controller(&c->h[i], name, len))
					continue;
				sub[i] = path;
				found = true;
			}
			if (!found)
				return err_set(e, EINVAL, "cgroup.controller",
					       "unknown controller %.*s", (int)len, name);
			name += len + 1;
		}
	}
	return 0;
}

int cgroups_sub_error(const struct cg_hierarchy *h, const char *sub, int num, struct err **e)
{
	/* In runc's words, which callers know. */
	if (num == ENOENT)
		return err_set(e, ENOENT, "cgroup.none",
			       "error adding pid to %s/%s/cgroup.procs: no such file or directory",
			       h->path, sub);
	return err_sys(e, num, "join cgroup '%s/%s'", h->path, sub);
}

int cgroups_join_fds(struct cgroups *c, const char *const *subs, int *fds, size_t max,
		     struct err **e)
{
	size_t i, n = 0;

	for (i = 0; i < c->n && n < max; i++) {
		const char *sub = subs ? subs[i] : NULL;
		char file[PATH_MAX];

		if (c->h[i].v2 || c->h[i].fd < 0)
			continue;
		/* "tasks" and not "cgroup.procs": one thread that moves itself takes no global lock. */
		snprintf(file, sizeof(file), "%s%stasks", sub ? sub : "", sub ? "/" : "");
		fds[n] = openat(c->h[i].fd, file, O_WRONLY | O_CLOEXEC);
		if (fds[n] < 0) {
			int r = cgroups_sub_error(&c->h[i], sub ? sub : ".", errno, e);

			while (n > 0)
				close(fds[--n]);
			return r;
		}
		n++;
	}
	return (int)n;
}

int cgroups_add_pid(struct cgroups *c, pid_t pid, struct err **e)
{
	size_t i;
	int r = 0;

	for (i = 0; i < c->n && r == 0; i++)
		if (c->h[i].fd >= 0)
			r = cg_writef(&c->h[i], "cgroup.procs", e, "%d", (int)pid);
	return r;
}

int cgroups_set(struct cgroups *c, const struct spec_resources *res, struct err **e)
{
	size_t i;
	int r = 0;

	if (!res->present)
		return 0;
	if (c->disabled) {
		if (res->mem_limit.set || res->pids.set || res->cpu_quota.set || res->unified.n)
			return err_set(
				e, EOPNOTSUPP, "cgroup.none",
				"linux.resources: limits were asked for, but this container has no cgroup");
		return 0;
	}
	for (i = 0; i < c->n && r == 0; i++)
		if (c->h[i].v2 && c->h[i].fd >= 0)
			r = cg_set_v2(c, &c->h[i], res, e);
	if (r == 0)
		r = cg_set_v1(c, res, e);
	return r;
}

static const struct cg_hierarchy *freezer(struct cgroups *c, bool *v2)
{
	const struct cg_hierarchy *h = cg_find(c, CG_FREEZER);
	size_t i;

	*v2 = !h;
	for (i = 0; !h && i < c->n; i++)
		if (c->h[i].v2 && c->h[i].fd >= 0)
			h = &c->h[i];
	return h;
}

bool cgroups_frozen(struct cgroups *c)
{
	char text[128];
	bool v2;
	const struct cg_hierarchy *h = freezer(c, &v2);

	if (!h)
		return false;
	if (!v2)
		return cg_read(h, "freezer.state", text, sizeof(text)) > 0 &&
		       (streq(text, "FROZEN") || streq(text, "FREEZING"));
	return cg_read(h, "cgroup.freeze", text, sizeof(text)) > 0 && streq(text, "1");
}

int cgroups_freeze(struct cgroups *c, bool on, struct err **e)
{
	char text[128];
	bool v2;
	const struct cg_hierarchy *h = freezer(c, &v2);
	int i, r;

	if (!h)
		return err_set(e, EOPNOTSUPP, "cgroup.freezer",
			       "this container has no freezer cgroup");
	r = v2 ? cg_writef(h, "cgroup.freeze", e, on ? "1" : "0")
	       : cg_writef(h, "freezer.state", e, on ? "FROZEN" : "THAWED");
	if (r < 0)
		return r;
	/* The kernel freezes each task at its next chance; v1 needs to be asked again at times. */
	for (i = 0; i < 2000; i++) {
		struct timespec ms = { .tv_nsec = 1000000 };

		if (v2) {
			r = cg_read(h, "cgroup.events", text, sizeof(text));
			if (r >= 0 && strstr(text, on ? "frozen 1" : "frozen 0"))
				return 0;
		} else {
			r = cg_read(h, "freezer.state", text, sizeof(text));
			if (r >= 0 && streq(text, on ? "FROZEN" : "THAWED"))
				return 0;
			if (i % 20 == 19)
				cg_write(h, "freezer.state", on ? "FROZEN" : "THAWED");
		}
		if (r < 0)
			return err_sys(e, -r, "read the freezer state of '%s'", h->path);
		nanosleep(&ms, NULL);
	}
	if (on)
		cg_write(h, v2 ? "cgroup.freeze" : "freezer.state", v2 ? "0" : "THAWED");
	return err_set(e, ETIMEDOUT, "cgroup.freezer", "the container did not freeze within 2 s");
}

struct pid_list {
	pid_t *v;
	size_t n, cap;
};

static void pids_below(int dirfd, struct pid_list *l)
{
	struct cg_hierarchy h = { .fd = dirfd };
	struct buf text = { 0 };
	int fd = openat(dirfd, "cgroup.procs", O_RDONLY | O_CLOEXEC);
	char chunk[8192], *line, *save = NULL;
	struct dirent *d;
	ssize_t n;
	DIR *dir;

	while (fd >= 0 && (n = read(fd, chunk, sizeof(chunk))) > 0)
		buf_add(&text, chunk, (size_t)n);
	safe_close(fd);
	for (line = text.s ? strtok_r(text.s, "\n", &save) : NULL; line;
	     line = strtok_r(NULL, "\n", &save)) {
		if (l->n == l->cap) {
			l->cap = l->cap ? l->cap * 2 : 64;
			l->v = xrealloc(l->v, l->cap * sizeof(*l->v));
		}
		l->v[l->n++] = (pid_t)strtol(line, NULL, 10);
	}
	buf_done(&text);
	fd = openat(h.fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	dir = fd >= 0 ? fdopendir(fd) : NULL;
	while (dir && (d = readdir(dir))) {
		int sub;

		if (d->d_type != DT_DIR || d->d_name[0] == '.')
			continue;
		sub = openat(dirfd, d->d_name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (sub >= 0)
			pids_below(sub, l);
		safe_close(sub);
	}
	if (dir)
		closedir(dir);
}

/* The hierarchy that counts processes: v2 where it is the only one, else pids, freezer, or any. */
static const struct cg_hierarchy *counting(struct cgroups *c)
{
	const struct cg_hierarchy *h = cg_find(c, CG_PIDS);
	size_t i;

	if (!h)
		h = cg_find(c, CG_FREEZER);
	for (i = 0; !h && i < c->n; i++)
		if (c->h[i].fd >= 0)
			h = &c->h[i];
	return h;
}

int cgroups_pids(struct cgroups *c, pid_t **ret, size_t *n, struct err **e)
{
	const struct cg_hierarchy *h = counting(c);
	struct pid_list l = { 0 };

	*ret = NULL;
	*n = 0;
	if (!h)
		return c->disabled ? err_set(e, EOPNOTSUPP, "cgroup.none",
					     "this container has no cgroup")
				   : 0;
	pids_below(h->fd, &l);
	*ret = l.v;
	*n = l.n;
	return 0;
}

int cgroups_kill(struct cgroups *c, int sig, struct err **e)
{
	int v2 = cgroups_v2_fd(c), tries;
	struct cg_hierarchy h = { .fd = v2 };
	size_t i, n;
	pid_t *pids;
	int r;

	if (sig == SIGKILL && v2 >= 0 && c->n == 1 && cg_write(&h, "cgroup.kill", "1") == 0) {
		/* fall through to the wait */
	}
	for (tries = 0; tries < 500; tries++) {
		struct timespec ms = { .tv_nsec = 1000000 };

		r = cgroups_pids(c, &pids, &n, e);
		if (r < 0)
			return r;
		for (i = 0; i < n; i++)
			if (pids[i] > 1 && pids[i] != getpid())
				kill(pids[i], sig);
		free(pids);
		if (sig != SIGKILL || n == 0)
			return 0;
		if (cgroups_frozen(c))
			cgroups_freeze(c, false, NULL);
		nanosleep(&ms, NULL);
	}
	return err_set(e, EBUSY, "cgroup.busy", "processes are left after SIGKILL");
}

static int remove_below(int parent, const char *name)
{
	int fd, dup, tries;
	struct dirent *d;
	DIR *dir;

	if (unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
		return 0;
	fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	dup = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	dir = dup >= 0 ? fdopendir(dup) : NULL;
	while (dir && (d = readdir(dir)))
		if (d->d_type == DT_DIR && d->d_name[0] != '.')
			remove_below(fd, d->d_name);
	if (dir)
		closedir(dir);
	close(fd);
	/* A task that was just reaped may still be on its way out of the folder. */
	for (tries = 0; tries < 200; tries++) {
		struct timespec ms = { .tv_nsec = tries < 20 ? 100000 : 2000000 };

		if (unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
			return 0;
		if (errno != EBUSY)
			return -errno;
		nanosleep(&ms, NULL);
	}
	return -EBUSY;
}

int cgroups_remove(struct cgroups *c, struct err **e)
{
	size_t i;
	int ret = 0;

	if (c->joined)
		return 0;
	cgroups_close(c);
	if (c->systemd)
		cg_systemd_stop(c, NULL);
	for (i = 0; i < c->n; i++) {
		int r = remove_below(AT_FDCWD, c->h[i].path);

		if (r < 0 && r != -EROFS && ret == 0)
			ret = err_sys(e, -r, "remove cgroup '%s'", c->h[i].path);
	}
	return ret;
}
