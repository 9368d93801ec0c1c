/* Writing archives: see archive.h. */
#include "image/archive.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include "base/atomicfile.h"
#include "image/fsutil.h"
#include "image/layer.h"
#include "image/ref.h"
#include "image/tarw.h"
#include "image/unpack.h"

#define LAYOUT_TEXT "{\"imageLayoutVersion\":\"1.0.0\"}"

struct sink { /* a tar, or a directory */
	struct image_store *s;
	struct image_op *op;
	int dir; /* -1: tar */
	int fd;
	struct tarw tar;
	char **done; /* names already written, NULL-terminated */
	size_t n_done;
};

static int to_fd(void *arg, const void *data, size_t len, struct err **e)
{
	int r = write_all(*(int *)arg, data, len);

	return r < 0 ? err_sys(e, -r, "write archive") : 0;
}

/* 1: to be written; 0: was already. */
static int first_time(struct sink *k, const char *name, struct err **e)
{
	char **v;

	if (k->done && strv_contains(k->done, name))
		return 0;
	v = reallocarray(k->done, k->n_done + 2, sizeof(char *));
	if (!v)
		return err_sys(e, ENOMEM, "export");
	k->done = v;
	v[k->n_done] = strdup(name);
	v[k->n_done + 1] = NULL;
	return v[k->n_done++] ? 1 : err_sys(e, ENOMEM, "export");
}

static int put_text(struct sink *k, const char *name, const char *text, size_t len, struct err **e)
{
	int r;

	if (k->dir >= 0)
		return file_write_atomic(k->dir, name, text, len, 0644, e);
	r = tarw_file(&k->tar, name, 0644, len, 0, e);
	return r < 0 || len == 0 ? r : tarw_data(&k->tar, text, len, e);
}

static int copy_to_tar(struct sink *k, int fd, struct err **e)
{
	_cleanup_(freep) char *block = malloc(MIB);
	ssize_t n = 0;
	int r = block ? 0 : err_sys(e, ENOMEM, "export");

	while (r == 0 && (n = fd_read(fd, block, MIB)) > 0) {
		r = tarw_data(&k->tar, block, (size_t)n, e);
		if (r == 0)
			r = image_op_check(k->op, e);
	}
	return r == 0 && n < 0 ? err_sys(e, (int)-n, "read blob") : r;
}

static int put_blob(struct sink *k, const struct digest *d, struct err **e)
{
	_cleanup_(closep) int fd = -1, to = -1;
	struct image_progress p = { IMAGE_PACK, d->s, 0, 0, true, false };
	char path[DIGEST_MAX + 8];
	struct stat st;
	int r;

	blob_path(d, path);
	r = first_time(k, path, e);
	if (r <= 0)
		return r;
	fd = blob_open(k->s, d, e);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return err_sys(e, errno, "export blob");
	p.done = p.total = (uint64_t)st.st_size;
	if (k->dir < 0) {
		r = tarw_file(&k->tar, path, 0644, (uint64_t)st.st_size, 0, e);
		if (r == 0)
			r = copy_to_tar(k, fd, e);
	} else {
		if (digest_alg(d) == HASH_SHA512 && mkdirat(k->dir, "blobs/sha512", 0755) < 0 &&
		    errno != EEXIST)
			return err_sys(e, errno, "make 'blobs/sha512'");
		to = openat(k->dir, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
			    0644);
		r = to < 0 ? err_sys(e, errno, "create '%s'", path) : fd_copy(fd, to, e);
	}
	if (r == 0)
		image_op_report(k->op, &p);
	return r;
}

static int put_closure(struct sink *k, const struct image_desc *d, int depth, struct err **e)
{
	_cleanup_(doc_done) struct image_doc doc = { 0 };
	_cleanup_(buf_done) struct buf text = { 0 };
	int r;

	if (depth > 0 && !blob_exists(k->s, &d->digest, UINT64_MAX))
		return 0; /* another platform, never pulled */
	r = blob_read(k->s, &d->digest, MANIFEST_MAX, &text, e);
	if (r == 0)
		r = doc_parse(buf_str(&text), text.len, d->media_type[0] ? d->media_type : NULL,
			      &doc, e);
	if (r == 0)
		r = put_blob(k, &d->digest, e);
	if (r == 0 && doc.kind == DOC_MANIFEST)
		r = put_blob(k, &doc.config.digest, e);
	for (size_t i = 0; r == 0 && i < doc.list.n; i++) {
		if (doc.kind == DOC_MANIFEST)
			r = put_blob(k, &doc.list.v[i].digest, e);
		else if (depth < 4)
			r = put_closure(k, &doc.list.v[i], depth + 1, e);
	}
	return r;
}

/* What goes into index.json: the tag under the OCI name, the whole name under containerd's. */
static struct json *index_entry(const struct image_desc *d, bool only)
{
	struct image_desc plain = *d;
	struct json *o, *a = json_new_obj();
	struct image_ref ref;
	int r;

	plain.ref_name[0] = '\0';
	o = desc_build(&plain);
	if (ref_parse(d->ref_name, &ref, NULL) < 0)
		ref.tag[0] = '\0';
	r = json_set(a, ANNOTATION_REF, json_new_str(only && ref.tag[0] ? ref.tag : d->ref_name));
	r = json_set(a, ANNOTATION_FULL_NAME, json_new_str(d->ref_name)) ?: r;
	r = json_set(o, "annotations", a) ?: r;
	if (r < 0) {
		json_free(o);
		return NULL;
	}
	return o;
}

static int export_oci(struct sink *k, const struct image_desc *list, size_t n, struct err **e)
{
	_cleanup_(json_freep) struct json *root = json_new_obj();
	_cleanup_(buf_done) struct buf text = { 0 };
	struct json *arr = json_new_arr();
	int r = put_text(k, "oci-layout", LAYOUT_TEXT, strlen(LAYOUT_TEXT), e), j = 0;

	if (r == 0 && k->dir < 0) {
		r = tarw_dir(&k->tar, "blobs/", 0755, 0, e);
		if (r == 0)
			r = tarw_dir(&k->tar, "blobs/sha256/", 0755, 0, e);
	}
	for (size_t i = 0; i < n; i++)
		j = json_push(arr, index_entry(&list[i], n == 1)) ?: j;
	j = json_set(root, "schemaVersion", json_new_int(2)) ?: j;
	j = json_set(root, "mediaType", json_new_str(MT_OCI_INDEX)) ?: j;
	j = json_set(root, "manifests", arr) ?: j;
	j = j < 0 ? j : json_print(root, JSON_COMPACT, &text);
	if (r == 0 && j < 0)
		r = err_sys(e, -j, "export");
	/* A tar is better read with the index first; a directory is complete once it has one. */
	if (r == 0 && k->dir < 0)
		r = put_text(k, "index.json", buf_str(&text), text.len, e);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = put_closure(k, &list[i], 0, e);
	if (r == 0 && k->dir >= 0)
		r = put_text(k, "index.json", buf_str(&text), text.len, e);
	return r;
}

/* ---- docker save ---- */

/* Uncompressed; its size must be known before its first byte. */
static int put_layer_tar(struct sink *k, const struct image_desc *l, const struct digest *diff_id,
			 struct err **e)
{
	_cleanup_(decomp_freep) struct decomp *d = NULL;
	_cleanup_(freep) char *block = malloc(MIB);
	_cleanup_(closep) int fd = -1;
	enum compression c = COMP_NONE;
	char path[DIGEST_MAX + 16];
	uint64_t size = 0;
	ssize_t n = 0;
	int r;

	snprintf(path, sizeof(path), "%s/layer.tar", digest_hex(diff_id));
	r = first_time(k, path, e);
	if (r <= 0)
		return r;
	if (!block)
		return err_sys(e, ENOMEM, "export");
	media_type_layer(l->media_type, &c);
	fd = blob_open(k->s, &l->digest, e);
	if (fd < 0)
		return fd;
	if (c == COMP_NONE) {
		size = l->size;
	} else if (unpack_tar_size(k->s, diff_id, &size) < 0) {
		r = decomp_new(c, layer_read_fd, &fd, &d, e);
		while (r == 0 && (n = decomp_read(d, block, MIB, e)) > 0)
			size += (uint64_t)n;
		if (r < 0 || n < 0)
			return r < 0 ? r : (int)n;
		decomp_free(TAKE(d));
		if (lseek(fd, 0, SEEK_SET) < 0)
			return err_sys(e, errno, "rewind blob");
	}
	r = tarw_file(&k->tar, path, 0644, size, 0, e);
	if (r == 0)
		r = decomp_new(c, layer_read_fd, &fd, &d, e);
	while (r == 0 && (n = decomp_read(d, block, MIB, e)) > 0) {
		r = tarw_data(&k->tar, block, (size_t)n, e);
		if (r == 0)
			r = image_op_check(k->op, e);
	}
	return r == 0 && n < 0 ? (int)n : r;
}

static int export_docker_image(struct sink *k, const struct image_desc *d, struct json *list,
			       struct err **e)
{
	_cleanup_(parts_done) struct image_parts p = { 0 };
	_cleanup_(buf_done) struct buf text = { 0 };
	char name[DIGEST_MAX + 16], tag[REF_MAX];
	struct json *o = json_new_obj(), *layers = json_new_arr(), *tags = json_new_arr();
	struct image_ref ref;
	int r, j = 0;

	r = parts_read(k->s, d, NULL, &p, e);
	if (r == 0)
		r = blob_read(k->s, &p.manifest.config.digest, MANIFEST_MAX, &text, e);
	snprintf(name, sizeof(name), "%s.json", digest_hex(&p.manifest.config.digest));
	if (r == 0)
		r = first_time(k, name, e);
	if (r == 1)
		r = put_text(k, name, buf_str(&text), text.len, e);
	j = json_set(o, "Config", json_new_str(name)) ?: j;
	if (ref_parse(d->ref_name, &ref, NULL) == 0 && ref.tag[0])
		j = json_push(tags, json_new_str(ref_familiar(&ref, tag))) ?: j;
	for (size_t i = 0; r >= 0 && i < p.manifest.list.n; i++) {
		snprintf(name, sizeof(name), "%s/layer.tar", digest_hex(&p.config.diff_ids.v[i]));
		j = json_push(layers, json_new_str(name)) ?: j;
		r = put_layer_tar(k, &p.manifest.list.v[i], &p.config.diff_ids.v[i], e);
	}
	j = json_set(o, "RepoTags", tags) ?: j;
	j = json_set(o, "Layers", layers) ?: j;
	j = json_push(list, o) ?: j;
	return r < 0 ? r : j < 0 ? err_sys(e, -j, "export") : 0;
}

static int export_docker(struct sink *k, const struct image_desc *list, size_t n, struct err **e)
{
	_cleanup_(json_freep) struct json *arr = json_new_arr();
	_cleanup_(buf_done) struct buf text = { 0 };
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++)
		r = export_docker_image(k, &list[i], arr, e);
	if (r == 0 && json_print(arr, JSON_COMPACT, &text) < 0)
		r = err_sys(e, ENOMEM, "export");
	return r < 0 ? r : put_text(k, "manifest.json", buf_str(&text), text.len, e);
}

/* ---- */

static int open_sink(struct sink *k, const char *path, enum archive_format f, struct err **e)
{
	if (f == ARCHIVE_OCI_DIR) {
		int r = dir_make(AT_FDCWD, path, 0755);

		if (r < 0)
			return err_sys(e, -r, "make '%s'", path);
		k->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (k->dir < 0)
			return err_sys(e, errno, "open '%s'", path);
		if (faccessat(k->dir, "index.json", F_OK, 0) == 0)
			return err_set(e, EEXIST, "image.exists",
				       "'%s' holds an image layout already", path);
		r = dir_make(k->dir, "blobs/sha256", 0755);
		return r < 0 ? err_sys(e, -r, "make '%s/blobs'", path) : 0;
	}
	k->fd = streq(path, "-")
			? fcntl(1, F_DUPFD_CLOEXEC, 3)
			: open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0644);
	if (k->fd < 0)
		return err_sys(e, errno, "create '%s'", path);
	tarw_init(&k->tar, to_fd, &k->fd);
	return 0;
}

int archive_export(struct image_store *s, const char *const *names, const char *path,
		   enum archive_format f, struct image_op *op, struct err **e)
{
	_cleanup_(closep) int lock = store_lock(s, "lock", LOCK_SH, op, e);
	struct sink k = { .s = s, .op = op, .dir = -1, .fd = -1 };
	VEC(struct image_desc) list = { 0 };
	int r = lock < 0 ? lock : 0;

	for (; r == 0 && *names; names++) {
		struct image_desc d;

		r = index_find(s, *names, &d, e);
		if (r == 0 && vec_push(&list, d) < 0)
			r = err_sys(e, ENOMEM, "export");
	}
	if (r == 0)
		r = open_sink(&k, path, f, e);
	if (r == 0)
		r = f == ARCHIVE_DOCKER ? export_docker(&k, list.v, list.n, e)
					: export_oci(&k, list.v, list.n, e);
	if (r == 0 && k.dir < 0)
		r = tarw_finish(&k.tar, e);
	if (r < 0 && k.fd >= 0 && !streq(path, "-"))
		unlink(path);
	safe_close(k.fd);
	safe_close(k.dir);
	strv_free(k.done);
	vec_done(&list);
	return r < 0 ? err_wrap(e, r, "export to '%s'", path) : 0;
}
