/* Status files; see status.h. */
#include "container/status.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "base/atomicfile.h"
#include "base/str.h"
#include "base/xalloc.h"
#include "sys/proc.h"

const char *const ct_status_names[] = { "creating", "created", "running", "paused", "stopped" };

bool container_id_valid(const char *id)
{
	const char *p;

	if (!*id || strlen(id) > 255 || streq(id, ".") || streq(id, ".."))
		return false;
	for (p = id; *p; p++)
		if (!((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
		      (*p >= '0' && *p <= '9') || strchr("_+-.", *p)))
			return false;
	return true;
}

static int open_dir(struct container *c, struct err **e)
{
	char path[PATH_MAX];

	if (!container_id_valid(c->id))
		return err_set(e, EINVAL, "container.id",
			       "'%s' is not a container id: letters, digits and _+-. are allowed",
			       c->id);
	snprintf(path, sizeof(path), "%s/%s", c->root, c->id);
	c->dir = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return c->dir < 0 ? -errno : 0;
}

static int mkdirs(const char *path)
{
	char buf[PATH_MAX], *p;

	if (mkdir(path, 0711) == 0 || errno == EEXIST)
		return 0;
	if (errno != ENOENT || strlen(path) >= sizeof(buf))
		return -errno;
	strcpy(buf, path);
	for (p = buf + 1;; p++) {
		char end = *p;

		if (end == '/' || !end) {
			*p = '\0';
			if (mkdir(buf, 0711) < 0 && errno != EEXIST)
				return -errno;
			*p = end;
		}
		if (!end)
			return 0;
	}
}

int container_create_dir(struct container *c, const char *root, const char *id, struct err **e)
{
	char path[PATH_MAX];
	int r;

	c->dir = -1;
	c->id = id;
	c->root = root;
	if (!container_id_valid(id))
		return err_set(e, EINVAL, "container.id",
			       "'%s' is not a container id: letters, digits and _+-. are allowed",
			       id);
	snprintf(path, sizeof(path), "%s/%s", root, id);
	if (mkdir(path, 0711) < 0) {
		if (errno == ENOENT) {
			r = mkdirs(root);
			if (r < 0)
				return err_sys(e, -r, "make '%s'", root);
			errno = mkdir(path, 0711) < 0 ? errno : 0;
		}
		if (errno == EEXIST)
			return err_set(e, EEXIST, "container.exists",
				       "container with id '%s' exists already", id);
		if (errno)
			return err_sys(e, errno, "make '%s'", path);
	}
	r = open_dir(c, e);
	return r < 0 ? err_sys(e, -r, "open '%s'", path) : 0;
}

/* Not atomicfile.h: that syncs, and a start would wait for a disk where ROOT is not on tmpfs. */
static int write_file(int dir, const char *name, const char *data, size_t len)
{
	char temp[64];
	int fd, r;

	snprintf(temp, sizeof(temp), ".%s.new", name);
	fd = openat(dir, temp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	r = write_all(fd, data, len);
	close(fd);
	if (r == 0 && renameat(dir, temp, dir, name) < 0)
		r = -errno;
	return r;
}

static void add_str(struct buf *b, const char *key, const char *v)
{
	if (!v)
		return;
	buf_addf(b, ",\"%s\":", key);
	buf_add_json(b, v);
}

int container_save(struct container *c, struct err **e)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	size_t i;
	int r;

	buf_addf(&b, "{\"version\":1,\"pid\":%d,\"start\":%llu,\"nsFlags\":%u", (int)c->pid,
		 (unsigned long long)c->start, c->ns_flags);
	add_str(&b, "id", c->id);
	add_str(&b, "ociVersion", c->oci_version);
	add_str(&b, "bundle", c->bundle);
	add_str(&b, "rootfs", c->rootfs);
	add_str(&b, "created", c->created);
	add_str(&b, "owner", c->owner);
	add_str(&b, "scope", c->scope);
	add_str(&b, "slice", c->slice);
	add_str(&b, "mountsBelow", c->mounts_below);
	if (c->mounts_below)
		buf_addf(&b, ",\"mountId\":%d", (int)c->mount_id);
	buf_addf(&b, ",\"cgroupDisabled\":%s,\"cgroupJoined\":%s,\"rootless\":%s,\"cgroups\":[",
		 c->cgroup_disabled ? "true" : "false", c->cgroup_joined ? "true" : "false",
		 c->rootless ? "true" : "false");
	for (i = 0; c->cgroup_paths && c->cgroup_paths[i]; i++) {
		if (i)
			buf_addc(&b, ',');
		buf_add_json(&b, c->cgroup_paths[i]);
	}
	buf_adds(&b, "],\"annotations\":{");
	for (i = 0; i < c->annotations.n; i++) {
		if (i)
			buf_addc(&b, ',');
		buf_add_json(&b, c->annotations.v[i].key);
		buf_addc(&b, ':');
		buf_add_json(&b, c->annotations.v[i].value);
	}
	buf_adds(&b, "}}\n");
	r = buf_error(&b) ? buf_error(&b) : write_file(c->dir, "status.json", b.s, b.len);
	return r < 0 ? err_sys(e, -r, "write the status of '%s'", c->id) : 0;
}

int container_save_config(struct container *c, const char *text, size_t len, struct err **e)
{
	int r = write_file(c->dir, "config.json", text, len);

	return r < 0 ? err_sys(e, -r, "keep the configuration of '%s'", c->id) : 0;
}

static int read_text(struct container *c, const char *name, const char **ret, size_t *len)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	_cleanup_(closep) int fd = openat(c->dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	int r;

	if (fd < 0)
		return -errno;
	r = fd_read_all(fd, JDOC_TEXT_MAX, &b, NULL);
	if (r < 0)
		return r;
	*ret = arena_strndup(&c->arena, buf_str(&b), b.len);
	*len = b.len;
	return 0;
}

int container_load(struct container *c, const char *root, const char *id, struct err **e)
{
	struct jr r = { .a = &c->arena, .e = e };
	struct jval *o = NULL, *v;
	const char *text;
	uint32_t flags = 0;
	int32_t pid = 0;
	size_t len;
	int q;

	c->dir = -1;
	c->id = id;
	c->root = root;
	q = open_dir(c, e);
	if (q == -ENOENT || q == -ENOTDIR || q == -ELOOP)
		return err_set(e, ENOENT, "container.none", "container '%s' does not exist", id);
	if (q < 0)
		return e && *e ? q : err_sys(e, -q, "open the status of '%s'", id);
	q = read_text(c, "status.json", &text, &len);
	if (q < 0 || jdoc_parse(&c->arena, text, len, &o, NULL) < 0) {
		/* Killed before the first write: an empty container that only delete --force wants. */
		c->created = c->bundle = c->rootfs = "";
		c->oci_version = SPEC_VERSION;
		c->cgroup_disabled = true;
		return 0;
	}
	jr_i32(&r, o, "pid", &pid);
	c->pid = pid;
	jr_u64(&r, o, "start", &c->start);
	jr_u32(&r, o, "nsFlags", &flags);
	c->ns_flags = flags;
	c->bundle = c->rootfs = c->created = "";
	c->oci_version = SPEC_VERSION;
	jr_str(&r, o, "ociVersion", &c->oci_version);
	jr_str(&r, o, "bundle", &c->bundle);
	jr_str(&r, o, "rootfs", &c->rootfs);
	jr_str(&r, o, "created", &c->created);
	jr_str(&r, o, "owner", &c->owner);
	jr_str(&r, o, "scope", &c->scope);
	jr_str(&r, o, "slice", &c->slice);
	jr_str(&r, o, "mountsBelow", &c->mounts_below);
	jr_i32(&r, o, "mountId", &c->mount_id);
	jr_bool(&r, o, "cgroupDisabled", &c->cgroup_disabled);
	jr_bool(&r, o, "cgroupJoined", &c->cgroup_joined);
	jr_bool(&r, o, "rootless", &c->rootless);
	jr_strv(&r, o, "cgroups", &c->cgroup_paths, NULL);
	v = jr_obj(&r, o, "annotations");
	c->annotations.v = arena_alloc(&c->arena, ((v ? v->n : 0) + 1) * sizeof(struct kv));
	jfor(item, v) if (item->kind == J_STRING)
		c->annotations.v[c->annotations.n++] = (struct kv){ item->key, item->text };
	return r.r < 0 ? err_wrap(e, r.r, "status of '%s'", id) : 0;
}

int container_load_config(struct container *c, struct spec *s, struct err **e)
{
	int r = read_text(c, "config.json", &c->config_text, &c->config_len);

	if (r < 0)
		return err_sys(e, -r, "read the configuration of '%s'", c->id);
	r = spec_parse(s, c->config_text, c->config_len, e);
	return r < 0 ? err_wrap(e, r, "configuration of '%s'", c->id) : 0;
}

int container_load_cgroups(struct container *c, struct cgroups *ret, struct err **e)
{
	int r = cgroups_load(&c->arena, c->cgroup_disabled ? NULL : c->cgroup_paths, ret, e);

	ret->systemd = c->scope != NULL;
	ret->scope = c->scope;
	ret->slice = c->slice;
	ret->joined = c->cgroup_joined;
	return r < 0 ? r : cgroups_open(ret, e);
}

int container_pidfd(struct container *c)
{
	return c->pid > 0 ? proc_open(c->pid, c->start) : -ESRCH;
}

enum ct_status container_status(struct container *c)
{
	int fd = container_pidfd(c);
	struct cgroups cg;
	bool frozen;

	if (fd < 0)
		return c->pid == 0 && c->start == 0 && faccessat(c->dir, "status.json", F_OK, 0) < 0
			       ? CT_CREATING
			       : CT_STOPPED;
	close(fd);
	if (faccessat(c->dir, "start.sock", F_OK, 0) == 0)
		return CT_CREATED;
	if (container_load_cgroups(c, &cg, NULL) < 0)
		return CT_RUNNING;
	frozen = cgroups_frozen(&cg);
	cgroups_close(&cg);
	return frozen ? CT_PAUSED : CT_RUNNING;
}

void container_remove_dir(struct container *c)
{
	static const char *const files[] = { "start.sock",	 "config.json",	     "status.json",
					     ".status.json.new", ".config.json.new", "notify.sock" };
	char path[PATH_MAX];
	size_t i;

	if (c->dir < 0)
		return;
	for (i = 0; i < ARRAY_SIZE(files); i++)
		unlinkat(c->dir, files[i], 0);
	snprintf(path, sizeof(path), "%s/%s", c->root, c->id);
	rmdir(path);
}

void container_done(struct container *c)
{
	c->dir = safe_close(c->dir);
	arena_done(&c->arena);
}

void container_state_json(struct container *c, const char *status, bool full, struct buf *b)
{
	bool alive = !streq(status, "stopped");
	size_t i;

	buf_adds(b, full ? "{\n  \"ociVersion\": " : "{\"ociVersion\":");
	buf_add_json(b, c->oci_version ? c->oci_version : SPEC_VERSION);
#define FIELD(name) buf_adds(b, full ? ",\n  \"" name "\": " : ",\"" name "\":")
	FIELD("id");
	buf_add_json(b, c->id);
	FIELD("pid");
	buf_addf(b, "%d", alive ? (int)c->pid : 0);
	FIELD("status");
	buf_add_json(b, status);
	FIELD("bundle");
	buf_add_json(b, c->bundle);
	if (full) {
		FIELD("rootfs");
		buf_add_json(b, c->rootfs);
		FIELD("created");
		buf_add_json(b, c->created);
		FIELD("owner");
		buf_add_json(b, c->owner ? c->owner : "");
	}
	if (c->annotations.n || full) {
		FIELD("annotations");
		buf_addc(b, '{');
		for (i = 0; i < c->annotations.n; i++) {
			if (i)
				buf_addc(b, ',');
			buf_add_json(b, c->annotations.v[i].key);
			buf_addc(b, ':');
			buf_add_json(b, c->annotations.v[i].value);
		}
		buf_addc(b, '}');
	}
#undef FIELD
	buf_adds(b, full ? "\n}\n" : "}");
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

char **container_list(const char *root, struct err **e)
{
	DIR *dir = opendir(root);
	struct dirent *d;
	char **v = xcalloc(1, sizeof(*v));
	size_t n = 0;

	if (!dir) {
		if (errno == ENOENT)
			return v;
		err_sys(e, errno, "read '%s'", root);
		free(v);
		return NULL;
	}
	while ((d = readdir(dir))) {
		if (d->d_type != DT_DIR || !container_id_valid(d->d_name))
			continue;
		v = xrealloc(v, (n + 2) * sizeof(*v));
		v[n++] = xstrdup(d->d_name);
		v[n] = NULL;
	}
	closedir(dir);
	qsort(v, n, sizeof(*v), by_name);
	return v;
}
