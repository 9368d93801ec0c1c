/* The mounts of config.json; see rootfs.h. */
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>
#include "base/str.h"
#include "container/idmap.h"
#include "container/rootfs.h"
#include "sys/mountapi.h"
#include "sys/openat2.h"

#define PROC_MAGIC 0x9fa0

static int set_attr(int fd, bool recursive, uint64_t set, uint64_t clr, uint64_t prop)
{
	struct sys_mount_attr a = { .set = set, .clr = clr, .propagation = prop };

	if (!set && !clr && !prop)
		return 0;
	return sys_mount_setattr(fd, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &a);
}

/* Attributes and propagation that the options ask for, on an attached or detached tree. */
static int apply_opts(int fd, const struct mount_opts *o, bool attrs)
{
	int r = 0;

	if (attrs)
		r = set_attr(fd, false, o->attr_set, o->attr_clr, 0);
	if (r == 0)
		r = set_attr(fd, true, o->rattr_set, o->rattr_clr, 0);
	return r;
}

static int apply_propagation(int fd, const struct mount_opts *o)
{
	if (!o->propagation)
		return 0;
	return set_attr(fd, o->propagation & MS_REC, 0, 0, o->propagation & ~(unsigned long)MS_REC);
}

int bind_prepare(const struct spec *s, const struct spec_mount *m, bool from_host, struct err **e)
{
	_cleanup_(closep) int fd = -1;
	int r;

	fd = sys_open_tree(AT_FDCWD, m->source, OPEN_TREE_CLONE | (m->o.rbind ? AT_RECURSIVE : 0));
	if (fd < 0)
		return err_sys(e, -fd, "mount '%s': source '%s'", m->dest, m->source);
	if (from_host) {
		/* A copy of a shared mount is shared: what the container mounts below would appear on the host. */
		r = set_attr(fd, true, 0, 0, MS_SLAVE);
		if (r < 0)
			return err_sys(e, -r, "mount '%s': propagation", m->dest);
	}
	r = apply_opts(fd, &m->o, true);
	if (r < 0)
		return err_sys(e, -r, "mount '%s': options", m->dest);
	if (m->has_maps || m->o.idmap) {
		const struct idmaps *u = m->has_maps ? &m->uids : &s->uids,
				    *g = m->has_maps ? &m->gids : &s->gids;
		struct sys_mount_attr a = { .set = MOUNT_ATTR_IDMAP };
		_cleanup_(closep) int ns = -1;

		if (u->n == 0)
			return err_set(
				e, EINVAL, "config.field",
				"mount '%s': idmap needs mappings, of the mount or of the container",
				m->dest);
		ns = idmap_userns(u, g, e);
		if (ns < 0)
			return err_wrap(e, ns, "mount '%s'", m->dest);
		a.userns_fd = (uint64_t)ns;
		r = sys_mount_setattr(fd, "", AT_EMPTY_PATH | (m->o.ridmap ? AT_RECURSIVE : 0), &a);
		if (r < 0)
			return err_sys(e, -r, "mount '%s': map ids of '%s'", m->dest, m->source);
	}
	r = apply_propagation(fd, &m->o);
	if (r < 0)
		return err_sys(e, -r, "mount '%s': propagation", m->dest);
	return TAKE_FD(fd);
}

/* "a/b" of "//a/./b/", for comparing; symlinks are not looked at. */
static void clean(const char *path, char *buf, size_t len)
{
	size_t n = 0;

	buf[0] = '\0';
	while (*path) {
		size_t l = strcspn(path, "/");

		if (l == 2 && path[0] == '.' && path[1] == '.') {
			while (n > 0 && buf[--n] != '/')
				;
			buf[n] = '\0';
		} else if (l > 0 && !(l == 1 && path[0] == '.')) {
			n += (size_t)snprintf(buf + n, len - n, "%s%.*s", n ? "/" : "", (int)l,
					      path);
			if (n >= len)
				n = len - 1;
		}
		path += l;
		while (*path == '/')
			path++;
	}
}

/* A mount over files of proc could feed false data to whoever trusts them inside; only the usual views may lie there. */
static int check_proc(const struct spec_mount *m, const char *dest, struct err **e)
{
	static const char *const fine[] = { "proc/cpuinfo",
					    "proc/diskstats",
					    "proc/meminfo",
					    "proc/stat",
					    "proc/swaps",
					    "proc/uptime",
					    "proc/loadavg",
					    "proc/slabinfo",
					    "proc/net/dev",
					    "proc/sys/kernel/ns_last_pid",
					    "proc/sys/crypto/fips_enabled" };
	struct statfs st;
	size_t i;

	if (streq(dest, "proc")) {
		if (streq(m->type, "proc") || !m->o.bind)
			return streq(m->type, "proc")
				       ? 0
				       : err_set(e, EPERM, "mount.proc",
						 "mount '%s': only proc can be mounted there",
						 m->dest);
		if (statfs(m->source, &st) == 0 && st.f_type == PROC_MAGIC)
			return 0;
		return err_set(e, EPERM, "mount.proc", "mount '%s': '%s' is not a proc file system",
			       m->dest, m->source);
	}
	if (!str_starts(dest, "proc/"))
		return 0;
	for (i = 0; i < ARRAY_SIZE(fine); i++)
		if (streq(dest, fine[i]))
			return 0;
	return err_set(e, EPERM, "mount.proc",
		       "mount '%s': inside /proc only the files of lxcfs may be replaced", m->dest);
}

/* The target as an O_PATH descriptor, made when missing: a folder, or an empty file for a bind of a file. */
static int target(struct rootfs *r, const struct spec_mount *m, const char *dest, bool file,
		  bool no_links, struct err **e)
{
	int fd;

	if (no_links) {
		fd = sys_openat2(r->rootfd, *dest ? dest : ".", O_PATH, 0,
				 SYS_RESOLVE_IN_ROOT | SYS_RESOLVE_NO_SYMLINKS);
		if (fd == -ELOOP)
			return err_set(
				e, ELOOP, "mount.symlink",
				"mount '%s': must be mounted on ordinary directory, the path goes over a symlink",
				m->dest);
		if (fd >= 0)
			return fd;
	}
	fd = file ? root_mkfile(r->rootfd, dest, 0755, 0644) : root_mkdirs(r->rootfd, dest, 0755);
	if (fd == -ENOTDIR && !file)
		return err_sys(e, ENOTDIR, "mount '%s': the target is a file", m->dest);
	return fd < 0 ? err_sys(e, -fd, "mount '%s': target", m->dest) : fd;
}

static int attach(int tree, int to, const struct spec_mount *m, struct err **e)
{
	int r = sys_move_mount(tree, to);

	return r < 0 ? err_sys(e, -r, "mount '%s'", m->dest) : 0;
}

/* A new super block, configured but not attached. */
static int new_fs(const char *type, const char *source, char *const *opts, const char *label,
		  uint64_t attr, const char *dest, struct err **e)
{
	_cleanup_(closep) int fs = sys_fsopen(type);
	char msg[256];
	int r = 0, fd;

	if (fs < 0)
		return err_sys(e, -fs, "mount '%s': file system '%s'", dest, type);
	if (source && *source)
		r = sys_fsconfig(fs, SYS_FSCONFIG_STRING, "source", source);
	for (; r == 0 && opts && *opts; opts++) {
		const char *eq = strchr(*opts, '=');
		char key[256];

		if (!eq) {
			r = sys_fsconfig(fs, SYS_FSCONFIG_FLAG, *opts, NULL);
		} else {
			snprintf(key, sizeof(key), "%.*s", (int)(eq - *opts), *opts);
			r = sys_fsconfig(fs, SYS_FSCONFIG_STRING, key, eq + 1);
		}
		if (r < 0) {
			sys_fs_message(fs, msg, sizeof(msg));
			return err_sys(e, -r, "mount '%s': option '%s'%s%s", dest, *opts,
				       *msg ? ": " : "", msg);
		}
	}
	if (r == 0 && label && *label)
		r = sys_fsconfig(fs, SYS_FSCONFIG_STRING, "context", label);
	if (r == 0)
		r = sys_fsconfig(fs, SYS_FSCONFIG_CREATE, NULL, NULL);
	if (r < 0) {
		sys_fs_message(fs, msg, sizeof(msg));
		return err_sys(e, -r, "mount '%s' (%s)%s%s", dest, type, *msg ? ": " : "", msg);
	}
	fd = sys_fsmount(fs, (unsigned int)attr);
	return fd < 0 ? err_sys(e, -fd, "mount '%s' (%s)", dest, type) : fd;
}

static int mount_cgroup_v2(struct rootfs *r, const struct spec_mount *m, const char *dest,
			   struct err **e)
{
	_cleanup_(closep) int to = target(r, m, dest, false, true, e), tree = -1;
	_cleanup_(err_freep) struct err *why = NULL;
	size_t i;
	int q;

	if (to < 0)
		return to;
	if (r->cgroup_ns)
		tree = new_fs("cgroup2", "cgroup", NULL, NULL,
			      m->o.attr_set & ~(uint64_t)MOUNT_ATTR_RDONLY, m->dest, &why);
	if (tree < 0) {
		/* Without a namespace of its own (or the right to mount it): its own folder alone. */
		const char *path = "/sys/fs/cgroup";

		for (i = 0; i < r->cg->n && !r->cgroup_ns; i++)
			if (r->cg->h[i].v2)
				path = r->cg->h[i].path;
		tree = sys_open_tree(AT_FDCWD, path,
				     OPEN_TREE_CLONE | (r->cgroup_ns ? AT_RECURSIVE : 0));
		if (tree < 0)
			return err_sys(e, -tree, "mount '%s'", m->dest);
		q = set_attr(tree, false, m->o.attr_set & ~(uint64_t)MOUNT_ATTR_RDONLY, 0, 0);
		if (q < 0)
			return err_sys(e, -q, "mount '%s': options", m->dest);
	}
	q = set_attr(tree, true, m->o.attr_set & MOUNT_ATTR_RDONLY, 0, 0);
	if (q < 0)
		return err_sys(e, -q, "mount '%s': read-only", m->dest);
	return attach(tree, to, m, e);
}

/* cpu -> cpu,cpuacct and so on. */
static void name_parts(int dir, const char *name)
{
	const char *p = name;

	while (strchr(name, ',') && *p) {
		size_t len = strcspn(p, ",");
		char part[64];

		snprintf(part, sizeof(part), "%.*s", (int)len, p);
		if (symlinkat(name, dir, part) < 0)
			return; /* only a convenience */
		p += len + (p[len] == ',');
	}
}

static int mount_cgroup_v1(struct rootfs *r, const struct spec_mount *m, const char *dest,
			   struct err **e)
{
	static char *const tmpfs_opts[] = { (char *)"mode=755", (char *)"size=65536k", NULL };
	_cleanup_(closep) int to = target(r, m, dest, false, true, e), top = -1;
	uint64_t attr = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
	size_t i;
	int q;

	if (to < 0)
		return to;
	top = new_fs("tmpfs", "cgroup", tmpfs_opts, r->s->mount_label, attr, m->dest, e);
	if (top < 0)
		return top;
	q = attach(top, to, m, e);
	if (q < 0)
		return q;
	for (i = 0; i < r->cg->n; i++) {
		const struct cg_hierarchy *h = &r->cg->h[i];
		const char *name = h->v2 ? "unified" : h->name;
		_cleanup_(closep) int dir = -1, tree = -1;

		if (mkdirat(top, name, 0755) < 0)
			return err_sys(e, errno, "mount '%s/%s'", m->dest, name);
		dir = openat(top, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (r->cgroup_ns && h->v2) {
			tree = new_fs("cgroup2", "cgroup", NULL, NULL, attr, m->dest, e);
		} else if (r->cgroup_ns) {
			char opts[256], *v[24], *save = NULL, *w;
			size_t n = 0;

			if (h->controllers == CG_NAMED) {
				snprintf(opts, sizeof(opts), "none,name=%s", h->name);
			} else {
				snprintf(opts, sizeof(opts), "%s", h->name);
			}
			for (w = strtok_r(opts, ",", &save); w && n < ARRAY_SIZE(v) - 1;
			     w = strtok_r(NULL, ",", &save))
				v[n++] = w;
			v[n] = NULL;
			tree = new_fs("cgroup", "cgroup", v, NULL, attr, m->dest, e);
		} else {
			tree = sys_open_tree(AT_FDCWD, h->path, OPEN_TREE_CLONE);
			if (tree >= 0)
				set_attr(tree, false, attr, 0, 0);
			else
				err_sys(e, -tree, "mount '%s/%s'", m->dest, name);
		}
		if (tree < 0)
			return tree;
		q = m->o.attr_set & MOUNT_ATTR_RDONLY
			    ? set_attr(tree, false, MOUNT_ATTR_RDONLY, 0, 0)
			    : 0;
		if (q < 0)
			return err_sys(e, -q, "mount '%s/%s': read-only", m->dest, name);
		q = attach(tree, dir, m, e);
		if (q < 0)
			return q;
		name_parts(top, name);
	}
	if (m->o.attr_set & MOUNT_ATTR_RDONLY) {
		q = set_attr(top, false, MOUNT_ATTR_RDONLY, 0, 0);
		if (q < 0)
			return err_sys(e, -q, "mount '%s': read-only", m->dest);
	}
	return 0;
}

static int mount_bind(struct rootfs *r, const struct spec_mount *m, int prepared, const char *dest,
		      struct err **e)
{
	_cleanup_(closep) int tree = prepared, to = -1;
	struct stat st;

	if (tree < 0)
		tree = bind_prepare(r->s, m, false, e);
	if (tree < 0)
		return tree;
	if (fstat(tree, &st) < 0)
		return err_sys(e, errno, "mount '%s': source", m->dest);
	to = target(r, m, dest, !S_ISDIR(st.st_mode), false, e);
	return to < 0 ? to : attach(tree, to, m, e);
}

static int remount(struct rootfs *r, const struct spec_mount *m, const char *dest, struct err **e)
{
	_cleanup_(closep) int fd = root_open(r->rootfd, dest, O_PATH, 0);
	int q;

	if (fd < 0)
		return err_sys(e, -fd, "remount '%s'", m->dest);
	q = apply_opts(fd, &m->o, true);
	if (q == 0)
		q = apply_propagation(fd, &m->o);
	return q < 0 ? err_sys(e, -q, "remount '%s'", m->dest) : 0;
}

/* In a user namespace without a network or pid namespace of its own sysfs and proc are refused: the host's is bound. */
static int host_view(const struct spec_mount *m, int to, struct err **e)
{
	const char *src = streq(m->type, "sysfs")    ? "/sys"
			  : streq(m->type, "proc")   ? "/proc"
			  : streq(m->type, "mqueue") ? "/dev/mqueue"
						     : NULL;
	_cleanup_(closep) int tree = -1;

	if (!src)
		return -EPERM;
	tree = sys_open_tree(AT_FDCWD, src, OPEN_TREE_CLONE | AT_RECURSIVE);
	if (tree < 0)
		return tree;
	apply_opts(tree, &m->o, true);
	return attach(tree, to, m, e);
}

static int mount_fs(struct rootfs *r, const struct spec_mount *m, const char *dest, struct err **e)
{
	bool kernel = streq(m->type, "proc") || streq(m->type, "sysfs");
	const char *label = streq(m->type, "tmpfs") || streq(m->type, "devpts") ||
					    streq(m->type, "mqueue")
				    ? r->s->mount_label
				    : NULL;
	_cleanup_(err_freep) struct err *why = NULL;
	_cleanup_(closep) int to = target(r, m, dest, false, kernel, e), tree = -1;
	uint64_t attr = m->o.attr_set;
	char *opts[68], own_mode[16];
	size_t n = 0, i;
	bool mode = false;
	struct stat st;
	int q;

	if (to < 0)
		return to;
	for (i = 0; m->o.sb[i] && n < 64; i++) {
		/* A tmpfs that others still have to be copied or mounted into turns read-only as a mount, later. */
		if (streq(m->o.sb[i], "ro"))
			continue;
		if (r->user_ns && streq(m->type, "devpts") && str_starts(m->o.sb[i], "gid=")) {
			uint64_t gid, k;
			bool mapped = r->s->gids.n == 0;

			parse_u64(m->o.sb[i] + 4, UINT32_MAX, &gid);
			for (k = 0; k < r->s->gids.n; k++)
				mapped |= gid >= r->s->gids.v[k].inside &&
					  gid - r->s->gids.v[k].inside < r->s->gids.v[k].size;
			if (!mapped)
				continue;
		}
		mode |= str_starts(m->o.sb[i], "mode=");
		opts[n++] = m->o.sb[i];
	}
	/* A tmpfs looks like the folder it covers, unless told otherwise. */
	if (streq(m->type, "tmpfs") && !mode && fstat(to, &st) == 0) {
		snprintf(own_mode, sizeof(own_mode), "mode=%o", (unsigned int)st.st_mode & 07777);
		opts[n++] = own_mode;
	}
	opts[n] = NULL;
	tree = new_fs(m->type, m->source, opts, label, attr & ~(uint64_t)MOUNT_ATTR_RDONLY, m->dest,
		      &why);
	if (tree == -EPERM && r->user_ns && host_view(m, to, NULL) == 0)
		return 0;
	if (tree < 0) {
		err_move(e, &why);
		return tree;
	}
	if (m->o.tmpcopyup) {
		_cleanup_(closep) int below = openat(to, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		if (below < 0)
			return err_sys(e, errno, "mount '%s': tmpcopyup", m->dest);
		q = copy_tree(below, tree, e);
		if (q < 0)
			return err_wrap(e, q, "mount '%s'", m->dest);
	}
	q = set_attr(tree, false, attr & MOUNT_ATTR_RDONLY, 0, 0);
	if (q == 0)
		q = apply_opts(tree, &m->o, false);
	if (q == 0)
		q = apply_propagation(tree, &m->o);
	if (q < 0)
		return err_sys(e, -q, "mount '%s': options", m->dest);
	return attach(tree, to, m, e);
}

int rootfs_mounts(struct rootfs *r, struct err **e)
{
	char dest[PATH_MAX];
	size_t i;
	int q = 0;

	for (i = 0; i < r->s->n_mounts && q == 0; i++) {
		const struct spec_mount *m = &r->s->mounts[i];
		struct spec_mount later;

		clean(m->dest, dest, sizeof(dest));
		q = check_proc(m, dest, e);
		if (q < 0)
			return q;
		if (streq(dest, "dev"))
			r->dev_is_bind = m->o.bind;
		if (streq(dest, "dev") && !m->o.bind && m->o.attr_set & MOUNT_ATTR_RDONLY) {
			later = *m;
			later.o.attr_set &= ~(uint64_t)MOUNT_ATTR_RDONLY;
			r->dev_read_only = true;
			m = &later;
		}
		if (m->o.remount)
			q = remount(r, m, dest, e);
		else if (m->o.bind)
			q = mount_bind(r, m, TAKE_FD(r->trees[i]), dest, e);
		else if (streq(m->type, "cgroup") || streq(m->type, "cgroup2"))
			q = r->cg->n > 0 && (r->cg->n > 1 || !r->cg->h[0].v2) &&
					    streq(m->type, "cgroup")
				    ? mount_cgroup_v1(r, m, dest, e)
				    : mount_cgroup_v2(r, m, dest, e);
		else
			q = mount_fs(r, m, dest, e);
	}
	return q;
}
