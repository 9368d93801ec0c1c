/* Mark from names and holds, then sweep under the exclusive lock. */
#include "image/gc.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include "base/atomicfile.h"
#include "base/clock.h"
#include "base/fault.h"
#include "image/fsutil.h"
#include "image/unpack.h"

static struct usage_entry *find_blob(const struct usage *u, const struct digest *d)
{
	hmap_for_each(n, &u->blobs, hash_str(d->s)) {
		struct usage_entry *b = container_of(n, struct usage_entry, node);

		if (digest_eq(&b->digest, d))
			return b;
	}
	return NULL;
}

unsigned int usage_refs(const struct usage *u, const struct digest *d)
{
	const struct usage_entry *b = find_blob(u, d);

	return b ? b->refs : 0;
}

/* 1: seen for the first time; 0: counted again. */
static int mark(struct usage *u, const struct image_desc *d, struct err **e)
{
	struct usage_entry *b = find_blob(u, &d->digest);

	if (b) {
		b->refs++;
		return 0;
	}
	b = calloc(1, sizeof(*b));
	if (!b)
		return err_sys(e, ENOMEM, "count references");
	b->digest = d->digest;
	b->size = d->size;
	b->refs = 1;
	hmap_add(&u->blobs, &b->node, hash_str(d->digest.s));
	return 1;
}

static bool layer_marked(const struct usage *u, const char *name)
{
	hmap_for_each(n, &u->layers, hash_str(name)) {
		if (streq(container_of(n, struct usage_layer, node)->name, name))
			return true;
	}
	return false;
}

static int mark_layer(struct usage *u, const char *prefix, const struct digest *d, struct err **e)
{
	struct usage_layer *l = calloc(1, sizeof(*l));

	if (!l)
		return err_sys(e, ENOMEM, "count references");
	snprintf(l->name, sizeof(l->name), "%s%s", prefix, digest_hex(d));
	if (layer_marked(u, l->name))
		free(l);
	else
		hmap_add(&u->layers, &l->node, hash_str(l->name));
	return 0;
}

static int mark_config(struct image_store *s, struct usage *u, const struct digest *d,
		       struct err **e)
{
	_cleanup_(config_done) struct image_config c = { 0 };
	_cleanup_(buf_done) struct buf text = { 0 };
	int r = blob_read(s, d, MANIFEST_MAX, &text, e);

	if (r == 0)
		r = config_parse(buf_str(&text), text.len, &c, e);
	for (size_t i = 0; r == 0 && i < c.diff_ids.n; i++) {
		struct digest id;

		chain_id(c.diff_ids.v, i + 1, &id);
		r = mark_layer(u, "", &c.diff_ids.v[i], e);
		if (r == 0)
			r = mark_layer(u, "chain-", &id, e);
	}
	return r;
}

static int mark_doc(struct image_store *s, struct usage *u, const struct image_desc *d, int depth,
		    struct err **e)
{
	_cleanup_(doc_done) struct image_doc doc = { 0 };
	_cleanup_(buf_done) struct buf text = { 0 };
	int r = mark(u, d, e);

	if (r <= 0 || depth > 4)
		return r;
	if (!blob_exists(s, &d->digest, UINT64_MAX))
		return 0; /* other platforms of an index are usually not here */
	r = blob_read(s, &d->digest, MANIFEST_MAX, &text, e);
	if (r == 0)
		r = doc_parse(buf_str(&text), text.len, d->media_type[0] ? d->media_type : NULL,
			      &doc, e);
	if (r < 0)
		return r;
	if (doc.kind == DOC_MANIFEST) {
		r = mark(u, &doc.config, e);
		if (r == 1 && blob_exists(s, &doc.config.digest, UINT64_MAX) &&
		    (streq(doc.config.media_type, MT_OCI_CONFIG) ||
		     streq(doc.config.media_type, MT_DOCKER_CONFIG)))
			r = mark_config(s, u, &doc.config.digest, e);
	}
	for (size_t i = 0; r >= 0 && i < doc.list.n; i++)
		r = doc.kind == DOC_INDEX ? mark_doc(s, u, &doc.list.v[i], depth + 1, e)
					  : mark(u, &doc.list.v[i], e);
	return r < 0 ? r : 0;
}

static int mark_holds(struct image_store *s, struct usage *u, struct err **e)
{
	int fd = openat(s->dir, "holds", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	_cleanup_(closedirp) DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;

	if (!d) {
		safe_close(fd);
		return err_sys(e, errno, "list holds");
	}
	while (r == 0 && (de = readdir(d))) {
		_cleanup_(buf_done) struct buf text = { 0 };
		struct image_desc desc = { 0 };

		if (de->d_name[0] == '.' || strchr(de->d_name, '~'))
			continue;
		if (file_read(dirfd(d), de->d_name, 4096, &text, NULL) < 0 ||
		    digest_parse(buf_str(&text), &desc.digest) < 0)
			continue; /* removed meanwhile, or a temporary of file_write_atomic() */
		r = mark_doc(s, u, &desc, 0, e);
	}
	return r;
}

int usage_scan(struct image_store *s, struct usage *ret, struct err **e)
{
	_cleanup_(doc_done) struct image_doc index = { 0 };
	_cleanup_(usage_done) struct usage u = { 0 };
	int r = hmap_init(&u.blobs);

	if (r == 0)
		r = hmap_init(&u.layers);
	if (r < 0)
		return err_sys(e, -r, "count references");
	r = index_read(s, &index, e);
	for (size_t i = 0; r == 0 && i < index.list.n; i++) {
		r = mark_doc(s, &u, &index.list.v[i], 0, e);
		if (r < 0)
			err_wrap(e, r, "image '%s'", index.list.v[i].ref_name);
	}
	if (r == 0)
		r = mark_holds(s, &u, e);
	if (r < 0)
		return r;
	*ret = u;
	u = (struct usage){ 0 };
	return 0;
}

void usage_done(struct usage *u)
{
	struct hnode *n, *next;

	for (n = hmap_walk(&u->blobs, NULL); n; n = next) {
		next = hmap_walk(&u->blobs, n);
		free(container_of(n, struct usage_entry, node));
	}
	for (n = hmap_walk(&u->layers, NULL); n; n = next) {
		next = hmap_walk(&u->layers, n);
		free(container_of(n, struct usage_layer, node));
	}
	hmap_done(&u->blobs);
	hmap_done(&u->layers);
}

/* ---- sweep ---- */

struct sweep {
	struct image_store *s;
	const struct usage *u;
	const struct gc_options *o;
	struct gc_result res;
};

/* true: remove; the counters are the callback's. */
typedef bool sweep_fn(struct sweep *w, const char *folder, const char *name, const struct stat *st);

static bool sweep_blob(struct sweep *w, const char *folder, const char *name, const struct stat *st)
{
	struct digest d;
	char text[DIGEST_MAX + 16];

	snprintf(text, sizeof(text), "%s:%.130s", folder + strlen("blobs/"), name);
	if (digest_parse(text, &d) == 0 && find_blob(w->u, &d))
		return false;
	w->res.blobs++;
	w->res.bytes += (uint64_t)st->st_size;
	return true;
}

static bool sweep_layer(struct sweep *w, const char *folder, const char *name,
			const struct stat *st)
{
	if (layer_marked(w->u, name))
		return false;
	w->res.layers++;
	return true;
}

/* disks/<layer name>.<kind> */
static bool sweep_disk(struct sweep *w, const char *folder, const char *name, const struct stat *st)
{
	char layer[160];

	snprintf(layer, sizeof(layer), "%.*s", (int)strcspn(name, "."), name);
	if (layer_marked(w->u, layer))
		return false;
	w->res.disks++;
	w->res.bytes += (uint64_t)st->st_size;
	return true;
}

static bool sweep_part(struct sweep *w, const char *folder, const char *name, const struct stat *st)
{
	nsec_t age = now_real() - (nsec_t)st->st_mtim.tv_sec * NSEC_PER_SEC;

	if (w->o->keep_parts && age < w->o->keep_parts && str_ends(name, ".part"))
		return false;
	w->res.parts++;
	w->res.bytes += (uint64_t)st->st_size;
	return true;
}

static bool sweep_temp(struct sweep *w, const char *folder, const char *name, const struct stat *st)
{
	w->res.temps++;
	return true;
}

static int sweep_folder(struct sweep *w, const char *folder, sweep_fn *fn, struct image_op *op,
			struct err **e)
{
	int fd = openat(w->s->dir, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	_cleanup_(closedirp) DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;

	if (!d) {
		safe_close(fd);
		return err_sys(e, errno, "list '%s'", folder);
	}
	while (r == 0 && (de = readdir(d))) {
		struct stat st;

		if (streq(de->d_name, ".") || streq(de->d_name, "..") ||
		    fstatat(dirfd(d), de->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		    !fn(w, folder, de->d_name, &st) || w->o->dry_run)
			continue;
		r = FAULT_POINT("image.gc_remove");
		if (r == 0)
			r = tree_remove(dirfd(d), de->d_name);
		if (r < 0)
			return err_sys(e, -r, "remove '%s/%s'", folder, de->d_name);
		r = image_op_check(op, e);
	}
	return r;
}

int gc_run(struct image_store *s, const struct gc_options *o, struct image_op *op,
	   struct gc_result *ret, struct err **e)
{
	static const struct {
		const char *folder;
		sweep_fn *fn;
	} plan[] = {
		{ "disks", sweep_disk },	{ "layers", sweep_layer },
		{ "blobs/sha256", sweep_blob }, { "blobs/sha512", sweep_blob },
		{ "ingest", sweep_part },	{ "tmp", sweep_temp },
	};
	_cleanup_(usage_done) struct usage u = { 0 };
	_cleanup_(closep) int lock = store_lock(s, "lock", LOCK_EX, op, e);
	struct sweep w = { .s = s, .u = &u, .o = o };
	int r;

	if (lock < 0)
		return lock;
	r = usage_scan(s, &u, e);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(plan); i++)
		r = sweep_folder(&w, plan[i].folder, plan[i].fn, op, e);
	if (r < 0)
		return err_wrap(e, r, "collect garbage in '%s'", s->path);
	*ret = w.res;
	return 0;
}
