/* A plain root tarball becomes an image of one layer: one pass over the stream makes the blob, the unpacked layer
 * and both digests. */
#include "image/archive.h"

#include <fcntl.h>
#include <sys/file.h>
#include "base/clock.h"
#include "ext/untar.h"
#include "image/fsutil.h"
#include "image/ref.h"
#include "image/unpack.h"

struct headed { /* the sniffed bytes, then the fd */
	int fd;
	uint8_t head[16];
	size_t len, pos;
};

struct tee { /* bytes on their way to the extractor, copied into the blob */
	struct headed h;
	struct untar *raw; /* for xz and others: delivers what they hold */
	const void *rest;
	size_t rest_len;
	struct blob_writer *w;
	struct comp *comp; /* NULL: as they come */
	struct image_op *op;
};

static int to_blob(void *arg, const void *data, size_t len, struct err **e)
{
	return blob_write(arg, data, len, e);
}

static ssize_t head_read(void *arg, void *data, size_t len, struct err **e)
{
	struct headed *h = arg;

	if (h->pos == h->len)
		return layer_read_fd(&h->fd, data, len, e);
	len = MIN(len, h->len - h->pos);
	memcpy(data, h->head + h->pos, len);
	h->pos += len;
	return (ssize_t)len;
}

static ssize_t tee_source(struct tee *t, void *data, size_t len, struct err **e)
{
	uint64_t off;
	int r;

	if (!t->raw)
		return head_read(&t->h, data, len, e);
	while (t->rest_len == 0) {
		r = untar_data(t->raw, &t->rest, &t->rest_len, &off, e);
		if (r <= 0)
			return r;
	}
	len = MIN(len, t->rest_len);
	memcpy(data, t->rest, len);
	t->rest = (const char *)t->rest + len;
	t->rest_len -= len;
	return (ssize_t)len;
}

static ssize_t tee_read(void *arg, void *data, size_t len, struct err **e)
{
	struct tee *t = arg;
	ssize_t n = tee_source(t, data, len, e);
	int r;

	if (n <= 0)
		return n;
	r = image_op_check(t->op, e);
	if (r == 0)
		r = t->comp ? comp_write(t->comp, data, (size_t)n, e)
			    : blob_write(t->w, data, (size_t)n, e);
	return r < 0 ? r : n;
}

/* xz, bzip2, lzip, lz4, compress, lzop: what compression_detect() leaves to libarchive. */
static bool foreign_compression(const uint8_t *h, size_t len)
{
	static const struct {
		const char *magic;
		size_t len;
	} known[] = {
		{ "\xfd"
		  "7zXZ",
		  5 },
		{ "BZh", 3 },
		{ "LZIP", 4 },
		{ "\x04\x22\x4d\x18", 4 },
		{ "\x1f\x9d", 2 },
		{ "\x89LZO", 4 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		if (len >= known[i].len && memcmp(h, known[i].magic, known[i].len) == 0)
			return true;
	}
	return false;
}

static int add_image(struct image_store *s, const struct image_desc *layer,
		     const struct digest *diff_id, const struct import_options *o,
		     const char *history, struct err **e)
{
	struct image_config c = { 0 };
	struct image_desc cd = { 0 }, md = { 0 };
	_cleanup_(buf_done) struct buf text = { 0 };
	static const char *const path_env[] = {
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", NULL
	};
	struct digest d = *diff_id;
	char created[40];
	struct image_ref ref;
	int r = ref_parse(o->name, &ref, e);

	if (r < 0)
		return r;
	if (o->platform)
		c.platform = *o->platform;
	else
		platform_host(&c.platform);
	c.created = format_time(now_real(), created, sizeof(created));
	c.env = (char **)(uintptr_t)(o->env ? o->env : path_env);
	c.cmd = (char **)(uintptr_t)o->cmd;
	c.diff_ids.v = &d;
	c.diff_ids.n = 1;
	r = config_build(&c, history, &text);
	if (r < 0)
		return err_sys(e, -r, "make image");
	r = blob_put(s, buf_str(&text), text.len, &cd.digest, e);
	if (r < 0)
		return r;
	strcpy(cd.media_type, MT_OCI_CONFIG);
	cd.size = text.len;
	buf_clear(&text);
	r = manifest_build(&cd, layer, 1, &text);
	if (r < 0)
		return err_sys(e, -r, "make image");
	r = blob_put(s, buf_str(&text), text.len, &md.digest, e);
	if (r < 0)
		return r;
	strcpy(md.media_type, MT_OCI_MANIFEST);
	md.size = text.len;
	md.platform = c.platform;
	ref_name(&ref, md.ref_name);
	return index_set(s, &md, e);
}

static int unpack_and_keep(struct image_store *s, struct tee *in, struct blob_writer *w,
			   bool recompress, struct image_desc *layer, struct layer_result *res,
			   struct err **e)
{
	struct layer_options lo = { .name = "root tarball", .op = in->op };
	_cleanup_(closep) int fs = -1;
	char tmp[64], path[80];
	char drain[4096];
	ssize_t n;
	int r = dir_make_temp(s->dir, "tmp/layer-", tmp, sizeof(tmp));

	if (r < 0)
		return err_sys(e, -r, "make a temporary layer");
	snprintf(path, sizeof(path), "%s/fs", tmp);
	if (mkdirat(s->dir, path, 0755) == 0)
		fs = openat(s->dir, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = fs < 0 ? err_sys(e, errno, "make a temporary layer")
		   : layer_unpack(fs, tee_read, in, &lo, res, e);
	while (r == 0 && (n = tee_read(in, drain, sizeof(drain), e)) != 0)
		r = n < 0 ? (int)n : 0;
	if (r == 0 && recompress)
		r = comp_finish(in->comp, e);
	if (r == 0) {
		layer->size = w->size;
		r = blob_commit(w, NULL, UINT64_MAX, &layer->digest, e);
	}
	if (r == 0)
		r = unpack_adopt(s, tmp, res, e);
	if (r < 0)
		tree_remove(s->dir, tmp);
	return r;
}

int archive_import_root(struct image_store *s, int fd, const struct import_options *o,
			const char *history, struct image_op *op, struct err **e)
{
	static const char *const types[] = { MT_OCI_LAYER, MT_OCI_LAYER_GZ, MT_OCI_LAYER_ZSTD };
	_cleanup_(closep) int lock = store_lock(s, "lock", LOCK_SH, op, e);
	struct tee in = { .h = { .fd = fd }, .op = op };
	struct untar_options raw = { .filters = true, .raw = true };
	struct layer_result res = { 0 };
	struct image_desc layer = { 0 };
	enum compression c;
	struct untar_entry te;
	struct blob_writer w;
	bool recompress;
	ssize_t n;
	int r;

	if (lock < 0)
		return lock;
	n = fd_read(fd, in.h.head, sizeof(in.h.head));
	if (n <= 0)
		return err_set(e, n < 0 ? (int)-n : EBADMSG, "image.archive",
			       "the root tarball is empty or unreadable");
	in.h.len = (size_t)n;
	c = compression_detect(in.h.head, in.h.len);
	r = blob_begin(s, NULL, &w, e);
	if (r < 0)
		return r;
	in.w = &w;
	recompress = c == COMP_NONE && o->compress;
	if (c == COMP_NONE && foreign_compression(in.h.head, in.h.len)) {
		recompress = true;
		r = untar_new(&raw, head_read, &in.h, &in.raw, e);
		if (r == 0 && untar_next(in.raw, &te, e) != 1)
			r = -EBADMSG;
	}
	if (r == 0 && recompress) {
		c = COMP_GZIP; /* what every other tool reads */
		r = comp_new(c, 0, to_blob, &w, &in.comp, e);
	}
	if (r == 0)
		r = unpack_and_keep(s, &in, &w, recompress, &layer, &res, e);
	blob_abort(&w);
	comp_free(in.comp);
	untar_free(in.raw);
	strcpy(layer.media_type, types[c]);
	if (r == 0)
		r = add_image(s, &layer, &res.diff_id, o, history, e);
	strv_free(res.implicit);
	return r;
}
