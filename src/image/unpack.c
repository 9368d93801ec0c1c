/* See unpack.h. */
#include "image/unpack.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include "base/atomicfile.h"
#include "base/fault.h"
#include "image/fsutil.h"

struct layer_info { /* layer.json */
	uint64_t tar_bytes;
	char **implicit;
};

static void info_done(struct layer_info *i)
{
	strv_free(i->implicit);
	i->implicit = NULL;
}

static int info_read(struct image_store *s, const char *name, struct layer_info *ret,
		     struct err **e)
{
	_cleanup_(json_freep) struct json *v = NULL;
	_cleanup_(buf_done) struct buf text = { 0 };
	char path[LAYER_NAME_MAX + 24];
	struct layer_info info = { 0 };
	struct json_in root;
	int64_t bytes = 0;
	int r;

	snprintf(path, sizeof(path), "layers/%s/layer.json", name);
	if (faccessat(s->dir, path, F_OK, 0) < 0)
		return -ENOENT;
	r = file_read(s->dir, path, 16 * MIB, &text, e);
	if (r == 0)
		r = json_parse(buf_str(&text), text.len, NULL, &v, e);
	if (r < 0)
		return err_wrap(e, r, "'%s'", path);
	root = json_in(v, "layer");
	r = json_opt_int(&root, "tar_bytes", 0, INT64_MAX, &bytes, e);
	if (r >= 0)
		r = json_need_strv(&root, "implicit", &info.implicit, e);
	if (r < 0)
		return err_wrap(e, r, "'%s'", path);
	info.tar_bytes = (uint64_t)bytes;
	*ret = info;
	return 0;
}

static int info_write(int dirfd, const struct layer_result *res, struct err **e)
{
	_cleanup_(json_freep) struct json *o = json_new_obj();
	_cleanup_(buf_done) struct buf text = { 0 };
	struct json *implicit = json_new_arr();
	_cleanup_(closep) int fd = -1;
	int r = 0;

	/* A name that is no UTF-8 cannot be listed; its directory then keeps the plain mode. */
	for (char **p = res->implicit; p && *p; p++) {
		if (utf8_valid(*p))
			r = json_push(implicit, json_new_str(*p)) ?: r;
	}
	r = json_set(o, "diff_id", json_new_str(res->diff_id.s)) ?: r;
	r = json_set(o, "tar_bytes", json_new_int((int64_t)res->tar_bytes)) ?: r;
	r = json_set(o, "file_bytes", json_new_int((int64_t)res->file_bytes)) ?: r;
	r = json_set(o, "entries", json_new_int((int64_t)res->entries)) ?: r;
	r = json_set(o, "implicit", implicit) ?: r;
	r = r < 0 ? r : json_print(o, JSON_COMPACT, &text);
	if (r < 0)
		return err_sys(e, -r, "write layer.json");
	fd = openat(dirfd, "layer.json", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_sys(e, errno, "write layer.json");
	r = write_all(fd, buf_str(&text), text.len);
	return r < 0 ? err_sys(e, -r, "write layer.json") : 0;
}

/* tmp/<x>/ -> layers/<name>/; losing the race against another maker is as good. */
static int publish(struct image_store *s, const char *tmp, const char *name, struct err **e)
{
	char to[LAYER_NAME_MAX + 8];
	int r = FAULT_POINT("image.layer_publish");

	if (r < 0)
		return err_sys(e, -r, "publish layer");
	snprintf(to, sizeof(to), "layers/%s", name);
	if (renameat(s->dir, tmp, s->dir, to) == 0)
		return 0;
	if (errno != EEXIST && errno != ENOTEMPTY)
		return err_sys(e, errno, "rename '%s'", tmp);
	tree_remove(s->dir, tmp);
	return 0;
}

int unpack_adopt(struct image_store *s, const char *tmp, const struct layer_result *res,
		 struct err **e)
{
	_cleanup_(closep) int dir = openat(s->dir, tmp, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (dir < 0)
		return err_sys(e, errno, "open '%s'", tmp);
	/* The layer's root is seen by every user of the image, the folder around it by root alone. */
	r = info_write(dir, res, e);
	return r < 0 ? r : publish(s, tmp, digest_hex(&res->diff_id), e);
}

/* ---- implicit directories ---- */

static void copy_xattrs(int from, int to)
{
	_cleanup_(freep) char *names = malloc(65536), *value = malloc(65536);
	ssize_t n = names && value ? flistxattr(from, names, 65536) : -1;

	for (char *p = names; n > 0 && p < names + n; p += strlen(p) + 1) {
		ssize_t len = fgetxattr(from, p, value, 65536);

		if (len >= 0 && !str_starts(p, "trusted.overlay."))
			fsetxattr(to, p, value, (size_t)len, 0);
	}
}

/* Give path in the layer being made the looks it has in the layers below i. */
static int inherit(struct image_store *s, const struct image_parts *p, size_t i, int fs,
		   const char *path, struct err **e)
{
	_cleanup_(closep) int to = open_beneath(fs, path, O_RDONLY | O_DIRECTORY, 0);

	while (to >= 0 && i-- > 0) {
		_cleanup_(closep) int root = -1, from = -1;
		char name[LAYER_NAME_MAX], full[LAYER_NAME_MAX + 16];
		struct timespec ts[2] = { { .tv_nsec = UTIME_OMIT }, { 0 } };
		struct stat st;
		int r = unpack_name(s, p, i, name, e);

		if (r < 0)
			return r;
		snprintf(full, sizeof(full), "layers/%s/fs", name);
		root = openat(s->dir, full, O_PATH | O_DIRECTORY | O_CLOEXEC);
		from = root < 0 ? -1 : open_beneath(root, path, O_RDONLY | O_DIRECTORY, 0);
		if (from < 0 || fstat(from, &st) < 0)
			continue;
		if (fchown(to, st.st_uid, st.st_gid) < 0 || fchmod(to, st.st_mode & 07777) < 0)
			return err_sys(e, errno, "'%s': take over owner and mode", path);
		copy_xattrs(from, to);
		ts[1] = st.st_mtim;
		futimens(to, ts);
		return 0;
	}
	return 0;
}

/* read NULL: from the blob. */
static int make_layer(struct image_store *s, const struct image_parts *p, size_t i, bool chain,
		      stream_read_fn *read, void *arg, struct image_op *op, struct err **e)
{
	const struct image_desc *l = &p->manifest.list.v[i];
	struct layer_options o = { .name = l->digest.s, .blob_size = l->size, .op = op };
	_cleanup_(closep) int blob = read ? -1 : blob_open(s, &l->digest, e), dir = -1, fs = -1;
	struct layer_result res = { 0 };
	char tmp[64], name[LAYER_NAME_MAX];
	struct digest id;
	int r;

	if (!read) {
		if (blob < 0)
			return blob;
		read = layer_read_fd;
		arg = &blob;
	}
	r = store_mark_dirty(s, e);
	if (r < 0)
		return r;
	r = dir_make_temp(s->dir, "tmp/layer-", tmp, sizeof(tmp));
	if (r < 0)
		return err_sys(e, -r, "make a temporary layer");
	dir = openat(s->dir, tmp, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0 || mkdirat(dir, "fs", 0755) < 0)
		r = err_sys(e, errno, "make a temporary layer");
	fs = r < 0 ? -1 : openat(dir, "fs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (r == 0)
		r = fs < 0 ? err_sys(e, errno, "open a temporary layer")
			   : layer_unpack(fs, read, arg, &o, &res, e);
	if (r == 0 && !digest_eq(&res.diff_id, &p->config.diff_ids.v[i]))
		r = err_set(e, EBADMSG, "image.digest",
			    "layer '%s' unpacks to %s, the image says %s", l->digest.s,
			    res.diff_id.s, p->config.diff_ids.v[i].s);
	for (char **q = res.implicit; r == 0 && chain && q && *q; q++)
		r = inherit(s, p, i, fs, *q, e);
	if (r == 0 && chain) {
		strv_free(res.implicit);
		res.implicit = NULL;
	}
	if (r == 0)
		r = info_write(dir, &res, e);
	chain_id(p->config.diff_ids.v, i + 1, &id);
	if (chain)
		snprintf(name, sizeof(name), "chain-%s", digest_hex(&id));
	else
		snprintf(name, sizeof(name), "%s", digest_hex(&p->config.diff_ids.v[i]));
	if (r == 0)
		r = publish(s, tmp, name, e);
	if (r < 0)
		tree_remove(s->dir, tmp);
	strv_free(res.implicit);
	return r;
}

int unpack_name(struct image_store *s, const struct image_parts *p, size_t i,
		char name[LAYER_NAME_MAX], struct err **e)
{
	struct layer_info info = { 0 };
	struct digest id;
	int r;

	snprintf(name, LAYER_NAME_MAX, "%s", digest_hex(&p->config.diff_ids.v[i]));
	r = info_read(s, name, &info, e);
	if (r == -ENOENT)
		return err_set(e, ENOENT, "image.layer_missing", "layer %s is not unpacked", name);
	if (r < 0)
		return r;
	if (i > 0 && info.implicit && info.implicit[0]) {
		chain_id(p->config.diff_ids.v, i + 1, &id);
		snprintf(name, LAYER_NAME_MAX, "chain-%s", digest_hex(&id));
	}
	info_done(&info);
	return 0;
}

static bool layer_there(struct image_store *s, const char *name)
{
	char path[LAYER_NAME_MAX + 24];

	snprintf(path, sizeof(path), "layers/%s/layer.json", name);
	return faccessat(s->dir, path, F_OK, 0) == 0;
}

bool unpack_done(struct image_store *s, const struct image_parts *p)
{
	char name[LAYER_NAME_MAX];

	for (size_t i = 0; i < p->config.diff_ids.n; i++) {
		if (unpack_name(s, p, i, name, NULL) < 0 || !layer_there(s, name))
			return false;
	}
	return true;
}

int unpack_tar_size(struct image_store *s, const struct digest *diff_id, uint64_t *ret)
{
	struct layer_info info = { 0 };
	int r = info_read(s, digest_hex(diff_id), &info, NULL);

	if (r == 0)
		*ret = info.tar_bytes;
	info_done(&info);
	return r;
}

int unpack_layer(struct image_store *s, const struct image_parts *p, size_t i, struct image_op *op,
		 struct err **e)
{
	if (layer_there(s, digest_hex(&p->config.diff_ids.v[i])))
		return 0;
	return make_layer(s, p, i, false, NULL, NULL, op, e);
}

int unpack_layer_from(struct image_store *s, const struct image_parts *p, size_t i,
		      stream_read_fn *read, void *arg, struct image_op *op, struct err **e)
{
	if (layer_there(s, digest_hex(&p->config.diff_ids.v[i])))
		return 0;
	return make_layer(s, p, i, false, read, arg, op, e);
}

int unpack_finish(struct image_store *s, const struct image_parts *p, struct image_op *op,
		  struct err **e)
{
	for (size_t i = 0; i < p->config.diff_ids.n; i++) {
		char name[LAYER_NAME_MAX];
		int r = unpack_name(s, p, i, name, e);

		if (r == 0 && !layer_there(s, name))
			r = make_layer(s, p, i, true, NULL, NULL, op, e);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- all layers in parallel ---- */

struct crew {
	struct image_store *s;
	const struct image_parts *p;
	struct image_op *op;
	size_t order[IMAGE_LAYER_MAX];
	atomic_size_t next;
	atomic_bool failed;
	pthread_mutex_t lock;
	struct err *err;
	int r;
};

static void *crew_run(void *arg)
{
	struct crew *c = arg;

	for (;;) {
		_cleanup_(err_freep) struct err *e = NULL;
		size_t k = atomic_fetch_add(&c->next, 1);
		int r;

		if (k >= c->p->config.diff_ids.n || atomic_load(&c->failed))
			return NULL;
		r = unpack_layer(c->s, c->p, c->order[k], c->op, &e);
		if (r == 0)
			continue;
		pthread_mutex_lock(&c->lock);
		if (c->r == 0) {
			c->r = r;
			c->err = TAKE(e);
		}
		pthread_mutex_unlock(&c->lock);
		atomic_store(&c->failed, true);
	}
}

int unpack_image(struct image_store *s, const struct image_parts *p, unsigned int threads,
		 struct image_op *op, struct err **e)
{
	struct crew c = { .s = s, .p = p, .op = op, .lock = PTHREAD_MUTEX_INITIALIZER };
	pthread_t ids[64];
	unsigned int n = 0, want = threads ? threads
					   : (unsigned int)MAX(sysconf(_SC_NPROCESSORS_ONLN), 1L);
	size_t k = p->config.diff_ids.n;

	for (size_t i = 0; i < k;
	     i++) { /* the largest first, so that none is left over at the end */
		size_t j = i;

		for (;
		     j > 0 && p->manifest.list.v[c.order[j - 1]].size < p->manifest.list.v[i].size;
		     j--)
			c.order[j] = c.order[j - 1];
		c.order[j] = i;
	}
	want = MIN(MIN(want, (unsigned int)k), 64u);
	while (n + 1 < want && pthread_create(&ids[n], NULL, crew_run, &c) == 0)
		n++;
	crew_run(&c);
	while (n > 0)
		pthread_join(ids[--n], NULL);
	if (c.r < 0) {
		err_move(e, &c.err);
		return c.r;
	}
	return unpack_finish(s, p, op, e);
}
