/* The descriptor: volume.json, and what follows from it.  docs/internals/storage.md has the form. */
#include <string.h>
#include "base/atomicfile.h"
#include "base/buf.h"
#include "ext/json.h"
#include "storage/volume/volume_int.h"

#define MAX_DESC (64 * MIB)

const char *const volume_kinds[] = { "row", "cow", "full", "reflink", NULL };

void vdesc_done(struct vdesc *d)
{
	for (size_t i = 0; i < d->points.n; i++)
		free(d->points.v[i].name);
	for (size_t i = 0; i < d->clones.n; i++)
		free(d->clones.v[i].dir);
	vec_done(&d->files);
	vec_done(&d->points);
	vec_done(&d->clones);
	vec_done(&d->mend);
	free(d->base.dir);
	free(d->base.file);
	free(d->base.format);
	free(d->job.type);
	*d = (struct vdesc){ 0 };
}

/* ---- reading ---- */

static int get_id(const struct json_in *o, const char *key, bool need, char *out, struct err **e)
{
	const char *s = "";
	struct uuid u;
	int r = need ? json_need_str(o, key, &s, e) : json_opt_str(o, key, &s, e);
	struct json_in at = json_in_field(o, key);

	if (r < 0)
		return r;
	if (!need && !s[0]) {
		out[0] = '\0';
		return 0;
	}
	if (uuid_parse(s, &u) < 0)
		return json_bad(&at, e, "volume.damaged", "'%s' is no id", s);
	uuid_format(&u, out);
	return 0;
}

static int get_num(const struct json_in *o, const char *key, uint64_t max, uint64_t *out,
		   struct err **e)
{
	int64_t v = 0;
	int r = json_opt_int(o, key, 0, (int64_t)MIN(max, (uint64_t)INT64_MAX), &v, e);

	*out = (uint64_t)v;
	return r < 0 ? r : 0;
}

static int get_u(const struct json_in *o, const char *key, unsigned int *out, struct err **e)
{
	uint64_t v;
	int r = get_num(o, key, INT32_MAX, &v, e);

	*out = (unsigned int)v;
	return r;
}

static int get_str(const struct json_in *o, const char *key, char **out, struct err **e)
{
	const char *s = NULL;
	int r = json_opt_str(o, key, &s, e);

	if (r < 0 || !s)
		return MIN(r, 0);
	*out = strdup(s);
	return *out ? 0 : -ENOMEM;
}

static int read_file(struct vdesc *d, const struct json_in *o, struct err **e)
{
	struct vfile f = { 0 };
	const char *format = "qcow2";
	int r = get_u(o, "n", &f.n, e);

	if (r == 0)
		r = MIN(json_opt_str(o, "format", &format, e), 0);
	f.raw = strcmp(format, "raw") == 0;
	r = r ?: get_u(o, "backing", &f.backing, e);
	r = r ?: MIN(json_opt_bool(o, "external", &f.external, e), 0);
	if (r == 0 && (f.n == 0 || vdesc_file(d, f.n)))
		return json_bad(o, e, "volume.damaged", "a file twice, or of number 0");
	return r ?: vec_push(&d->files, f);
}

static int read_point(struct vdesc *d, const struct json_in *o, struct err **e)
{
	struct vpoint p = { .complete = true };
	const char *kind = "";
	int64_t created = 0;
	int r = get_id(o, "id", true, p.id, e);

	r = r ?: get_id(o, "parent", false, p.parent, e);
	r = r ?: json_need_str(o, "kind", &kind, e);
	r = r ?: get_u(o, "file", &p.file, e);
	r = r ?: get_num(o, "size", INT64_MAX, &p.size, e);
	r = r ?: MIN(json_opt_bool(o, "complete", &p.complete, e), 0);
	r = r ?: MIN(json_opt_int(o, "created", 0, INT64_MAX, &created, e), 0);
	p.created = created;
	while (r == 0 && p.kind < VOLUME_N_KINDS && strcmp(kind, volume_kinds[p.kind]) != 0)
		p.kind++;
	if (r == 0 && p.kind == VOLUME_N_KINDS)
		return json_bad(o, e, "volume.damaged", "unknown kind '%s'", kind);
	r = r ?: get_str(o, "name", &p.name, e);
	if (r == 0 && !p.name)
		return json_bad(o, e, "volume.damaged", "a point without a name");
	r = r ?: vec_push(&d->points, p);
	if (r < 0)
		free(p.name);
	return r;
}

static int read_clone(struct vdesc *d, const struct json_in *o, struct err **e)
{
	struct vclone c = { 0 };
	int r = get_id(o, "id", true, c.id, e);

	r = r ?: get_id(o, "point", true, c.point, e);
	r = r ?: get_str(o, "dir", &c.dir, e);
	if (r == 0 && !c.dir)
		return json_bad(o, e, "volume.damaged", "a clone without a directory");
	r = r ?: vec_push(&d->clones, c);
	if (r < 0)
		free(c.dir);
	return r;
}

static int each(struct vdesc *d, const struct json_in *root, const char *key,
		int (*fn)(struct vdesc *d, const struct json_in *o, struct err **e), struct err **e)
{
	struct json_in arr;
	int r = json_opt_arr(root, key, &arr, e);

	for (size_t i = 0; r > 0 && i < json_in_len(&arr); i++) {
		struct json_in o = json_in_item(&arr, i);
		int k = fn(d, &o, e);

		if (k < 0)
			r = k;
	}
	return MIN(r, 0);
}

static int read_mend(struct vdesc *d, const struct json_in *o, struct err **e)
{
	int64_t n;
	int r = json_in_int(o, 1, INT32_MAX, &n, e);

	return r < 0 ? r : vec_push(&d->mend, (unsigned int)n);
}

/* Names lead to something, and chains end. */
static int check(const struct vdesc *d, const char *dir, struct err **e)
{
	const char *what = NULL;

	if (!vdesc_file(d, d->current))
		what = "the current file is not listed";
	for (size_t i = 0; i < d->files.n && !what; i++) {
		const struct vfile *f = &d->files.v[i];
		size_t steps = 0;

		if (f->n >= d->next)
			what = "a file number that was not given out";
		if (f->external && (f->backing || !d->base.file))
			what = "a file with two backing files";
		while (f->backing && !what) {
			f = vdesc_file(d, f->backing);
			if (!f) {
				what = "a backing file that is not listed";
				break;
			}
			if (steps++ > d->files.n)
				what = "a loop in the chain";
		}
	}
	for (size_t i = 0; i < d->points.n && !what; i++)
		if (!vdesc_file(d, d->points.v[i].file))
			what = "a point without its file";
	return what ? err_set(e, EINVAL, "volume.damaged", "'%s/" VOLUME_FILE "': %s", dir, what)
		    : 0;
}

static int parse(const struct json *v, struct vdesc *d, struct err **e)
{
	struct json_in root = json_in(v, "volume"), o;
	uint64_t version;
	int r = get_num(&root, "version", INT64_MAX, &version, e);

	if (r == 0 && version != 1)
		return json_bad(&root, e, "volume.damaged", "version %llu is not known",
				(unsigned long long)version);
	r = r ?: get_id(&root, "id", true, d->id, e);
	r = r ?: get_id(&root, "parent", false, d->parent, e);
	r = r ?: get_num(&root, "size", INT64_MAX, &d->size, e);
	r = r ?: get_u(&root, "max_depth", &d->max_depth, e);
	r = r ?: get_u(&root, "next", &d->next, e);
	r = r ?: get_u(&root, "current", &d->current, e);
	r = r ?: each(d, &root, "files", read_file, e);
	r = r ?: each(d, &root, "points", read_point, e);
	r = r ?: each(d, &root, "clones", read_clone, e);
	r = r ?: each(d, &root, "mend", read_mend, e);
	if (r < 0)
		return r;
	r = json_opt_obj(&root, "base", &o, e);
	if (r > 0) {
		r = get_str(&o, "dir", &d->base.dir, e);
		r = r ?: get_str(&o, "file", &d->base.file, e);
		r = r ?: get_str(&o, "format", &d->base.format, e);
		r = r ?: get_id(&o, "id", true, d->base.id, e);
		r = r ?: get_id(&o, "point", true, d->base.point, e);
	}
	if (r < 0)
		return r;
	r = json_opt_obj(&root, "job", &o, e);
	if (r > 0) {
		r = get_str(&o, "type", &d->job.type, e);
		r = r ?: get_id(&o, "point", false, d->job.point, e);
		r = r ?: get_u(&o, "from", &d->job.from, e);
		r = r ?: get_u(&o, "to", &d->job.to, e);
		r = r ?: get_num(&o, "done", INT64_MAX, &d->job.done, e);
		r = r ?: get_num(&o, "total", INT64_MAX, &d->job.total, e);
	}
	return MIN(r, 0);
}

int vdesc_load(int dir_fd, const char *dir, struct vdesc *ret, struct err **e)
{
	_cleanup_(json_freep) struct json *v = NULL;
	_cleanup_(buf_done) struct buf b = { 0 };
	struct vdesc d = { 0 };
	int r = file_read(dir_fd, VOLUME_FILE, MAX_DESC, &b, e);

	if (r == -ENOENT) {
		if (e)
			err_clear(e);
		return err_set(e, ENOENT, "volume.missing", "'%s' is no volume", dir);
	}
	r = r < 0 ? r : json_parse(buf_str(&b), b.len, NULL, &v, e);
	r = r < 0 ? r : parse(v, &d, e);
	r = r < 0 ? r : check(&d, dir, e);
	if (r < 0) {
		vdesc_done(&d);
		return err_wrap(e, r, "volume '%s'", dir);
	}
	*ret = d;
	return 0;
}

/* ---- writing ---- */

static struct json *num(uint64_t v)
{
	return json_new_int((int64_t)v);
}

static struct json *files_json(const struct vdesc *d)
{
	struct json *a = json_new_arr();

	for (size_t i = 0; i < d->files.n; i++) {
		const struct vfile *f = &d->files.v[i];
		struct json *o = json_new_obj();

		json_set(o, "n", num(f->n));
		json_set(o, "format", json_new_str(f->raw ? "raw" : "qcow2"));
		json_set(o, "backing", num(f->backing));
		json_set(o, "external", json_new_bool(f->external));
		if (json_push(a, o) < 0)
			break;
	}
	return a;
}

static struct json *points_json(const struct vdesc *d)
{
	struct json *a = json_new_arr();

	for (size_t i = 0; i < d->points.n; i++) {
		const struct vpoint *p = &d->points.v[i];
		struct json *o = json_new_obj();

		json_set(o, "id", json_new_str(p->id));
		json_set(o, "name", json_new_str(p->name));
		json_set(o, "kind", json_new_str(volume_kinds[p->kind]));
		json_set(o, "complete", json_new_bool(p->complete));
		json_set(o, "parent", json_new_str(p->parent));
		json_set(o, "file", num(p->file));
		json_set(o, "size", num(p->size));
		json_set(o, "created", json_new_int(p->created));
		if (json_push(a, o) < 0)
			break;
	}
	return a;
}

int vdesc_save(int dir_fd, const struct vdesc *d, struct err **e)
{
	_cleanup_(json_freep) struct json *v = json_new_obj();
	_cleanup_(buf_done) struct buf b = { 0 };
	struct json *o;
	int r;

	json_set(v, "version", num(1));
	json_set(v, "id", json_new_str(d->id));
	json_set(v, "size", num(d->size));
	json_set(v, "max_depth", num(d->max_depth));
	json_set(v, "next", num(d->next));
	json_set(v, "current", num(d->current));
	json_set(v, "parent", json_new_str(d->parent));
	if (d->base.dir) {
		o = json_new_obj();
		json_set(o, "dir", json_new_str(d->base.dir));
		json_set(o, "id", json_new_str(d->base.id));
		json_set(o, "point", json_new_str(d->base.point));
		json_set(o, "file", json_new_str(d->base.file));
		json_set(o, "format", json_new_str(d->base.format));
		json_set(v, "base", o);
	}
	json_set(v, "files", files_json(d));
	json_set(v, "points", points_json(d));
	o = json_new_arr();
	for (size_t i = 0; i < d->clones.n; i++) {
		struct json *c = json_new_obj();

		json_set(c, "id", json_new_str(d->clones.v[i].id));
		json_set(c, "point", json_new_str(d->clones.v[i].point));
		json_set(c, "dir", json_new_str(d->clones.v[i].dir));
		json_push(o, c);
	}
	json_set(v, "clones", o);
	o = json_new_arr();
	for (size_t i = 0; i < d->mend.n; i++)
		json_push(o, num(d->mend.v[i]));
	json_set(v, "mend", o);
	if (d->job.type) {
		o = json_new_obj();
		json_set(o, "type", json_new_str(d->job.type));
		json_set(o, "point", json_new_str(d->job.point));
		json_set(o, "from", num(d->job.from));
		json_set(o, "to", num(d->job.to));
		json_set(o, "done", num(d->job.done));
		json_set(o, "total", num(d->job.total));
		json_set(v, "job", o);
	}
	/* what ran out of memory is missing: the text is read back before it counts */
	r = v ? json_print(v, JSON_PRETTY, &b) : -ENOMEM;
	if (r == 0) {
		struct vdesc again = { 0 };
		_cleanup_(json_freep) struct json *w = NULL;

		r = json_parse(buf_str(&b), b.len, NULL, &w, NULL);
		r = r ?: parse(w, &again, NULL);
		if (r == 0 && (again.files.n != d->files.n || again.points.n != d->points.n ||
			       again.clones.n != d->clones.n || again.mend.n != d->mend.n))
			r = -ENOMEM;
		vdesc_done(&again);
	}
	if (r < 0)
		return err_sys(e, -r, "print the descriptor");
	return file_write_atomic(dir_fd, VOLUME_FILE, b.s, b.len, 0644, e);
}

int volume_save(struct volume *v, struct err **e)
{
	struct vdesc was = { 0 };
	int r = vdesc_save(v->dir_fd, &v->d, e);

	if (r < 0 && vdesc_load(v->dir_fd, v->dir, &was, NULL) == 0) {
		vdesc_done(&v->d);
		v->d = was;
	}
	return r < 0 ? err_wrap(e, r, "volume '%s'", v->dir) : 0;
}

/* ---- what follows from it ---- */

struct vfile *vdesc_file(const struct vdesc *d, unsigned int n)
{
	for (size_t i = 0; i < d->files.n; i++)
		if (d->files.v[i].n == n)
			return &d->files.v[i];
	return NULL;
}

struct vpoint *vdesc_point(const struct vdesc *d, const char *which)
{
	for (size_t i = 0; i < d->points.n; i++)
		if (strcmp(d->points.v[i].id, which) == 0 ||
		    strcmp(d->points.v[i].name, which) == 0)
			return &d->points.v[i];
	return NULL;
}

int vdesc_need_point(const struct vdesc *d, const char *which, struct vpoint **ret, struct err **e)
{
	*ret = vdesc_point(d, which);
	return *ret ? 0 : err_set(e, ENOENT, "volume.point", "no point '%s'", which);
}

unsigned int vdesc_children(const struct vdesc *d, unsigned int n, unsigned int *one)
{
	unsigned int count = 0;

	for (size_t i = 0; i < d->files.n; i++) {
		if (d->files.v[i].backing != n)
			continue;
		count++;
		if (one)
			*one = d->files.v[i].n;
	}
	return count;
}

bool vdesc_used(const struct vdesc *d, unsigned int n)
{
	for (size_t i = 0; i < d->points.n; i++)
		if (d->points.v[i].file == n)
			return true;
	return d->current == n;
}

unsigned int vdesc_depth(const struct vdesc *d, unsigned int n)
{
	unsigned int depth = 0;

	for (const struct vfile *f; n && (f = vdesc_file(d, n)); n = f->backing)
		depth++;
	return depth;
}

bool vdesc_reaches(const struct vdesc *d, unsigned int from, unsigned int to)
{
	for (const struct vfile *f; from && (f = vdesc_file(d, from)); from = f->backing)
		if (from == to)
			return true;
	return false;
}

unsigned int vdesc_save_file(const struct vdesc *d)
{
	unsigned int n = 0;

	vdesc_children(d, d->current, &n);
	return n;
}

int vdesc_add_file(struct vdesc *d, bool raw, unsigned int backing, bool external, unsigned int *n)
{
	*n = d->next++;
	return vec_push(&d->files, ((struct vfile){ *n, raw, backing, external }));
}

void vdesc_remove_file(struct vdesc *d, unsigned int n)
{
	for (size_t i = 0; i < d->files.n; i++) {
		if (d->files.v[i].n != n)
			continue;
		memmove(&d->files.v[i], &d->files.v[i + 1],
			(d->files.n - i - 1) * sizeof(d->files.v[0]));
		d->files.n--;
		break;
	}
	for (size_t i = 0; i < d->mend.n; i++)
		if (d->mend.v[i] == n)
			d->mend.v[i--] = d->mend.v[--d->mend.n];
}

void vdesc_remove_point(struct vdesc *d, struct vpoint *p)
{
	size_t at = (size_t)(p - d->points.v);

	for (size_t i = 0; i < d->points.n; i++)
		if (strcmp(d->points.v[i].parent, p->id) == 0)
			memcpy(d->points.v[i].parent, p->parent, UUID_TEXT);
	if (strcmp(d->parent, p->id) == 0)
		memcpy(d->parent, p->parent, UUID_TEXT);
	free(p->name);
	memmove(p, p + 1, (d->points.n - at - 1) * sizeof(*p));
	d->points.n--;
}

int vdesc_set_backing(struct vdesc *d, unsigned int n, unsigned int backing, bool external)
{
	struct vfile *f = vdesc_file(d, n);

	f->backing = backing;
	f->external = external;
	for (size_t i = 0; i < d->mend.n; i++)
		if (d->mend.v[i] == n)
			return 0;
	return vec_push(&d->mend, n);
}

void vfile_name(const struct vfile *f, char name[32])
{
	snprintf(name, 32, "f%u.%s", f->n, f->raw ? "raw" : "qcow2");
}
