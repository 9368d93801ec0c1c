/* What is known of the images in the store; see image.h.  The long operations are in image_verbs.c. */
#include "node/service/image.h"

#include <sys/stat.h>
#include "base/str.h"

/* Is the index the one that we have read? */
struct index_mark {
	ino_t ino;
	off_t size;
	struct timespec mtime;
};

struct images {
	struct node *node;
	struct image_store *store;
	struct index_mark mark;
	struct list known; /* image_entry, by the index of `mark` */
};

int images_open(struct node *n, struct images **ret, struct err **e)
{
	struct images *im = calloc(1, sizeof(*im));
	char *path = NULL;
	int r;

	if (!im || asprintf(&path, "%s/images", n->paths.state) < 0) {
		free(im);
		return err_sys(e, ENOMEM, "images");
	}
	im->node = n;
	list_init(&im->known);
	r = store_open(path, &im->store, e);
	free(path);
	if (r < 0) {
		free(im);
		return err_wrap(e, r, "images");
	}
	*ret = im;
	return 0;
}

struct image_entry *image_entry_ref(struct image_entry *i)
{
	i->refs++;
	return i;
}

void image_entry_unref(struct image_entry *i)
{
	if (!i || --i->refs > 0)
		return;
	parts_done(&i->parts);
	free(i->name);
	free(i);
}

static void forget(struct images *im)
{
	struct image_entry *i, *tmp;

	list_for_each_entry_safe(i, tmp, &im->known, node) {
		list_del(&i->node);
		i->listed = false;
		image_entry_unref(i);
	}
}

void images_close(struct images *im)
{
	if (!im)
		return;
	forget(im);
	store_close(im->store);
	free(im);
}

struct image_store *images_store(struct images *im)
{
	return im->store;
}

/* The index may be changed by strata-image, too. */
static void check_mark(struct images *im)
{
	struct index_mark now = { 0 };
	struct stat st;

	if (fstatat(im->store->dir, "index.json", &st, 0) == 0)
		now = (struct index_mark){ st.st_ino, st.st_size, st.st_mtim };
	if (now.ino == im->mark.ino && now.size == im->mark.size &&
	    now.mtime.tv_sec == im->mark.mtime.tv_sec &&
	    now.mtime.tv_nsec == im->mark.mtime.tv_nsec)
		return;
	forget(im);
	im->mark = now;
}

static int entry_make(struct images *im, const char *asked, struct image_entry **ret,
		      struct err **e)
{
	struct image_entry *i = calloc(1, sizeof(*i));
	struct image_desc d;
	int r = i ? index_find(im->store, asked, &d, e) : err_sys(e, ENOMEM, "image '%s'", asked);

	if (r == 0)
		r = parts_read(im->store, &d, NULL, &i->parts, e);
	if (r == 0 && !(i->name = strdup(asked))) {
		parts_done(&i->parts);
		r = err_sys(e, ENOMEM, "image '%s'", asked);
	}
	if (r < 0) {
		free(i);
		return r;
	}
	i->refs = 1;
	i->listed = true;
	list_add_tail(&im->known, &i->node);
	*ret = i;
	return 0;
}

int images_find(struct images *im, const char *ref, struct image_entry **ret, struct err **e)
{
	struct image_entry *i;
	int r;

	check_mark(im);
	list_for_each_entry(i, &im->known, node) {
		if (streq(i->name, ref)) {
			*ret = image_entry_ref(i);
			return 0;
		}
	}
	r = entry_make(im, ref, &i, e);
	if (r == -ENOENT) {
		err_clear(e);
		return err_set(e, ENOENT, "image.missing", "there is no image '%s' here", ref);
	}
	if (r == 0)
		*ret = image_entry_ref(i);
	return r;
}

/* -- holds ---------------------------------------------------------------------------------------- */

static void hold_owner(char owner[96], const char *digest)
{
	const char *hex = strchr(digest, ':');

	snprintf(owner, 96, "node-%.64s", hex ? hex + 1 : digest);
}

int images_hold(struct images *im, const struct image_entry *i, struct err **e)
{
	char owner[96], path[128];

	hold_owner(owner, i->parts.desc.digest.s);
	snprintf(path, sizeof(path), "holds/%s", owner);
	if (faccessat(im->store->dir, path, F_OK, 0) == 0)
		return 0;
	return hold_set(im->store, owner, &i->parts.desc.digest, e);
}

void images_unhold(struct images *im, const char *digest)
{
	struct inventory *inv = im->node->inventory;
	char owner[96];

	for (struct object *o = inventory_next(inv, "instance", NULL); o;
	     o = inventory_next(inv, "instance", o)) {
		const char *d = json_str(json_get(o->status, "image_digest"));

		if (d && streq(d, digest))
			return;
	}
	hold_owner(owner, digest);
	hold_drop(im->store, owner, NULL);
}

/* -- as the API shows them ------------------------------------------------------------------------ */

static void set_strv(struct json *o, const char *key, char *const *v)
{
	if (v && *v)
		json_set(o, key, json_new_strv(v));
}

static struct json *config_json(const struct image_config *c)
{
	struct json *o = json_new_obj();

	set_strv(o, "entrypoint", c->entrypoint);
	set_strv(o, "command", c->cmd);
	set_strv(o, "env", c->env);
	set_strv(o, "ports", c->ports);
	set_strv(o, "volumes", c->volumes);
	if (c->user && *c->user)
		json_set(o, "user", json_new_str(c->user));
	if (c->working_dir && *c->working_dir)
		json_set(o, "workdir", json_new_str(c->working_dir));
	if (c->labels)
		json_set(o, "labels", json_clone(c->labels));
	if (c->stop_signal)
		json_set(o, "stop_signal", json_new_str(c->stop_signal));
	return o;
}

static struct json *name_json(const char *full)
{
	char shown[REF_MAX];
	struct image_ref ref;

	return json_new_str(ref_parse(full, &ref, NULL) == 0 ? ref_familiar(&ref, shown) : full);
}

/* names: of the same digest, an array; taken. */
static struct json *image_json(struct images *im, const struct image_parts *p, struct json *names)
{
	struct json *o = json_new_obj(), *layers = json_new_arr();
	uint64_t size = p->manifest.config.size + p->desc.size, unpacked = 0;
	const struct image_desc *l;
	const struct digest *d;

	vec_for_each(l, &p->manifest.list) {
		size += l->size;
		json_push(layers, json_new_str(l->digest.s));
	}
	vec_for_each(d, &p->config.diff_ids) {
		uint64_t one;

		if (unpack_tar_size(im->store, d, &one) == 0)
			unpacked += one;
	}
	json_set(o, "id", json_new_str(p->desc.digest.s));
	json_set(o, "names", names);
	json_set(o, "kind", json_new_str("oci"));
	if (p->config.created && *p->config.created)
		json_set(o, "created", json_new_str(p->config.created));
	json_set(o, "architecture", json_new_str(p->config.platform.arch));
	json_set(o, "os", json_new_str(p->config.platform.os));
	json_set(o, "size", json_new_int((int64_t)size));
	if (unpacked)
		json_set(o, "virtual_size", json_new_int((int64_t)unpacked));
	json_set(o, "layers", layers);
	json_set(o, "config", config_json(&p->config));
	return o;
}

static struct json *names_of(const struct image_doc *index, const struct digest *d)
{
	struct json *names = json_new_arr();
	const struct image_desc *x;

	vec_for_each(x, &index->list) {
		if (x->ref_name[0] && digest_eq(&x->digest, d))
			json_push(names, name_json(x->ref_name));
	}
	return names;
}

static bool seen_before(const struct image_doc *index, const struct image_desc *d)
{
	for (const struct image_desc *x = index->list.v; x < d; x++) {
		if (digest_eq(&x->digest, &d->digest))
			return true;
	}
	return false;
}

struct json *images_list(struct images *im, struct err **e)
{
	_cleanup_(doc_done) struct image_doc index = { 0 };
	struct json *all = json_new_arr();
	const struct image_desc *d;

	if (index_read(im->store, &index, e) < 0) {
		json_free(all);
		return NULL;
	}
	vec_for_each(d, &index.list) {
		_cleanup_(parts_done) struct image_parts p = { 0 };

		if (seen_before(&index, d) || parts_read(im->store, d, NULL, &p, NULL) < 0)
			continue; /* a damaged one is named by whoever asks for it */
		json_push(all, image_json(im, &p, names_of(&index, &d->digest)));
	}
	return all;
}

struct json *images_show(struct images *im, const char *ref, struct err **e)
{
	_cleanup_(image_entry_unrefp) struct image_entry *i = NULL;
	_cleanup_(doc_done) struct image_doc index = { 0 };

	if (images_find(im, ref, &i, e) < 0 || !i || index_read(im->store, &index, e) < 0)
		return NULL;
	return image_json(im, &i->parts, names_of(&index, &i->parts.desc.digest));
}

int images_tag(struct images *im, const char *ref, const char *name, struct err **e)
{
	struct image_ref to;
	struct image_desc d;
	int r = ref_parse(name, &to, e);

	if (r == 0)
		r = index_find(im->store, ref, &d, e);
	if (r == 0) {
		ref_name(&to, d.ref_name);
		r = index_set(im->store, &d, e);
	}
	return r;
}

static uint64_t file_size(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? (uint64_t)st.st_size : 0;
}

struct json *kernels_list(struct images *im, struct err **e)
{
	struct json *all = json_new_arr();
	struct kernel_info *v = NULL;
	size_t n = 0;

	if (kernel_list(im->store, &v, &n, e) < 0) {
		json_free(all);
		return NULL;
	}
	for (size_t k = 0; k < n; k++) {
		struct json *o = json_new_obj();

		json_set(o, "version", json_new_str(v[k].version));
		json_set(o, "size",
			 json_new_int((int64_t)(file_size(v[k].vmlinuz) + file_size(v[k].initrd))));
		json_set(o, "default", json_new_bool(k == 0));
		json_push(all, o);
	}
	free(v);
	return all;
}

int kernels_remove(struct images *im, const char *version, struct err **e)
{
	return kernel_remove(im->store, version, e);
}
