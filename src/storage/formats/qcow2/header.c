/* The qcow2 header and its extensions: bytes to struct and back.  Every number is hostile. */
#include <string.h>
#include "base/checked.h"
#include "storage/formats/qcow2/qcow2.h"

static uint32_t be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static uint64_t be64(const uint8_t *p)
{
	return (uint64_t)be32(p) << 32 | be32(p + 4);
}

static void put32(uint8_t *p, uint32_t v)
{
	v = htobe32(v);
	memcpy(p, &v, 4);
}

static void put64(uint8_t *p, uint64_t v)
{
	v = htobe64(v);
	memcpy(p, &v, 8);
}

void q_header_done(struct q_header *h)
{
	free(h->backing);
	free(h->backing_format);
	free(h->data_file);
	buf_done(&h->unknown_ext);
	buf_done(&h->extra);
	*h = (struct q_header){ 0 };
}

static char *text(const uint8_t *p, size_t len)
{
	return strndup((const char *)p, len);
}

/* The names of the bits that we do not know: from the image's own table where it has them. */
static int refuse_features(uint64_t bits, const uint8_t *names, size_t len, struct err **e)
{
	_cleanup_(buf_done) struct buf b = { 0 };

	for (unsigned int bit = 0; bit < 64; bit++) {
		bool named = false;

		if (!(bits & 1ULL << bit))
			continue;
		buf_adds(&b, b.len ? ", " : "");
		for (size_t i = 0; names && i + 48 <= len && !named; i += 48) {
			if (names[i] != 0 || names[i + 1] != bit)
				continue;
			buf_addf(&b, "%.46s", (const char *)names + i + 2);
			named = true;
		}
		if (!named)
			buf_addf(&b, "incompatible feature bit %u", bit);
	}
	return err_set(e, ENOTSUP, "disk.feature", "the image needs what is not supported: %s",
		       buf_str(&b));
}

static int parse_extensions(struct q_header *h, const uint8_t *p, size_t len, const uint8_t **names,
			    size_t *names_len, struct err **e)
{
	for (size_t at = h->header_length; at + 8 <= len;) {
		uint32_t type = be32(p + at), n = be32(p + at + 4);
		const uint8_t *d = p + at + 8;

		if (type == Q_EXT_END)
			break;
		if (n > len - at - 8)
			return err_set(e, EINVAL, "disk.corrupt",
				       "header extension %08x runs over its end", type);
		switch (type) {
		case Q_EXT_BACKFMT:
			if (n > 64)
				return err_set(e, EINVAL, "disk.corrupt",
					       "the backing format's name has %u bytes", n);
			free(h->backing_format);
			h->backing_format = text(d, n);
			break;
		case Q_EXT_DATA:
			if (n > 1023)
				return err_set(e, EINVAL, "disk.corrupt",
					       "the data file's name has %u bytes", n);
			free(h->data_file);
			h->data_file = text(d, n);
			break;
		case Q_EXT_NAMES:
			*names = d;
			*names_len = n;
			break;
		case Q_EXT_BITMAPS:
			if (n != 24)
				return err_set(e, EINVAL, "disk.corrupt",
					       "the bitmaps extension has %u bytes", n);
			h->nb_bitmaps = be32(d);
			h->bitmap_dir_size = be64(d + 8);
			h->bitmap_dir_off = be64(d + 16);
			break;
		default:
			buf_add(&h->unknown_ext, p + at,
				MIN((size_t)(8 + ALIGN_UP((uint64_t)n, 8)), len - at));
			if (h->unknown_ext.len % 8)
				buf_add(&h->unknown_ext, "\0\0\0\0\0\0\0",
					8 - h->unknown_ext.len % 8);
		}
		at += 8 + (size_t)ALIGN_UP((uint64_t)n, 8);
	}
	return 0;
}

static int bad(struct err **e, const char *what, uint64_t v)
{
	return err_set(e, EINVAL, "disk.corrupt", "%s: %llu", what, (unsigned long long)v);
}

int q_header_parse(struct q_header *h, const uint8_t *p, size_t len, struct err **e)
{
	const uint8_t *names = NULL;
	size_t names_len = 0;
	uint64_t cs, backing_off;
	uint32_t backing_len;
	int r;

	*h = (struct q_header){ 0 };
	if (len < 72 || be32(p) != Q_MAGIC)
		return err_set(e, EINVAL, "disk.format", "not a qcow2 image");
	h->version = be32(p + 4);
	if (h->version != 2 && h->version != 3)
		return err_set(e, ENOTSUP, "disk.feature", "qcow2 version %u is not supported",
			       h->version);
	backing_off = be64(p + 8);
	backing_len = be32(p + 16);
	h->cluster_bits = be32(p + 20);
	h->size = be64(p + 24);
	h->crypt_method = be32(p + 32);
	h->l1_size = be32(p + 36);
	h->l1_off = be64(p + 40);
	h->reftable_off = be64(p + 48);
	h->reftable_clusters = be32(p + 56);
	h->nb_snapshots = be32(p + 60);
	h->snap_off = be64(p + 64);
	h->refcount_order = 4;
	h->header_length = 72;
	if (h->version >= 3) {
		if (len < 104)
			return bad(e, "short header", len);
		h->incompat = be64(p + 72);
		h->compat = be64(p + 80);
		h->autoclear = be64(p + 88);
		h->refcount_order = be32(p + 96);
		h->header_length = be32(p + 100);
		if (h->header_length < 104 || h->header_length % 8)
			return bad(e, "header length", h->header_length);
	}
	if (h->cluster_bits < 9 || h->cluster_bits > 21)
		return bad(e, "cluster bits", h->cluster_bits);
	cs = 1ULL << h->cluster_bits;
	if (h->header_length > cs || h->header_length > len)
		return bad(e, "header length", h->header_length);
	if (h->header_length > 104)
		h->compression = p[104];
	if (h->header_length > 112)
		buf_add(&h->extra, p + 112, h->header_length - 112);
	r = parse_extensions(h, p, (size_t)MIN(cs, (uint64_t)len), &names, &names_len, e);
	if (r < 0)
		return r;
	if (h->incompat & ~Q_INCOMPAT_KNOWN)
		return refuse_features(h->incompat & ~Q_INCOMPAT_KNOWN, names, names_len, e);
	if (h->crypt_method)
		return err_set(e, ENOTSUP, "disk.feature",
			       "encrypted images (method %u) are not supported", h->crypt_method);
	if (h->incompat & Q_INCOMPAT_COMPR ? h->compression != 1 : h->compression != 0)
		return err_set(e, ENOTSUP, "disk.feature", "compression type %u is not supported",
			       h->compression);
	if (h->refcount_order > 6)
		return bad(e, "refcount order", h->refcount_order);
	if (h->incompat & Q_INCOMPAT_EXTL2 && h->cluster_bits < 14)
		return bad(e, "cluster bits with extended L2 entries", h->cluster_bits);
	if (h->size > INT64_MAX)
		return bad(e, "size", h->size);
	if ((h->l1_off | h->reftable_off | h->snap_off) & (cs - 1))
		return err_set(e, EINVAL, "disk.corrupt", "a table does not start at a cluster");
	if (h->l1_size > Q_MAX_L1 / 8)
		return bad(e, "L1 entries", h->l1_size);
	if (h->reftable_clusters == 0 || h->reftable_clusters > Q_MAX_REFTABLE >> h->cluster_bits ||
	    !h->reftable_off)
		return bad(e, "refcount table clusters", h->reftable_clusters);
	if (h->nb_snapshots > Q_MAX_SNAPSHOTS)
		return bad(e, "snapshots", h->nb_snapshots);
	if (h->l1_off > INT64_MAX - Q_MAX_L1 || h->reftable_off > INT64_MAX - Q_MAX_REFTABLE ||
	    h->snap_off > INT64_MAX - Q_MAX_SNAPTABLE)
		return err_set(e, EINVAL, "disk.corrupt", "a table lies outside any file");
	if (h->l1_size > 0 && h->l1_off == 0)
		return bad(e, "L1 table offset", 0);
	if (h->incompat & Q_INCOMPAT_DATAFILE && h->nb_snapshots)
		return bad(e, "snapshots with an external data file", h->nb_snapshots);
	if (backing_off) {
		if (backing_len > 1023 ||
		    !range_inside(backing_off, backing_len, MIN(cs, (uint64_t)len)))
			return bad(e, "backing file name length", backing_len);
		if (backing_len > 0)
			h->backing = text(p + backing_off, backing_len);
	}
	return buf_error(&h->unknown_ext) || buf_error(&h->extra)
		       ? err_set(e, ENOMEM, "sys.ENOMEM", "out of memory")
		       : 0;
}

static const struct {
	uint8_t type, bit;
	const char *name;
} feature_names[] = {
	{ 0, 0, "dirty bit" },
	{ 0, 1, "corrupt bit" },
	{ 0, 2, "external data file" },
	{ 0, 3, "compression type" },
	{ 0, 4, "extended L2 entries" },
	{ 1, 0, "lazy refcounts" },
	{ 2, 0, "bitmaps" },
	{ 2, 1, "raw external data" },
};

static int ext_add(struct buf *b, uint32_t type, const void *data, size_t len)
{
	uint8_t head[8];

	put32(head, type);
	put32(head + 4, (uint32_t)len);
	buf_add(b, head, 8);
	buf_add(b, data, len);
	return buf_add(b, "\0\0\0\0\0\0\0", (8 - len % 8) % 8);
}

int q_header_build(const struct q_header *h, uint8_t *p, size_t cs)
{
	_cleanup_(buf_done) struct buf x = { 0 };
	size_t hl = h->version < 3 ? 72 : 112 + h->extra.len, at,
	       bl = h->backing ? strlen(h->backing) : 0;

	memset(p, 0, cs);
	if (h->backing_format)
		ext_add(&x, Q_EXT_BACKFMT, h->backing_format, strlen(h->backing_format));
	if (h->data_file)
		ext_add(&x, Q_EXT_DATA, h->data_file, strlen(h->data_file));
	if (h->version >= 3 && cs >= 4096) {
		uint8_t t[ARRAY_SIZE(feature_names) * 48] = { 0 };

		for (size_t i = 0; i < ARRAY_SIZE(feature_names); i++) {
			t[i * 48] = feature_names[i].type;
			t[i * 48 + 1] = feature_names[i].bit;
			strncpy((char *)t + i * 48 + 2, feature_names[i].name, 46);
		}
		ext_add(&x, Q_EXT_NAMES, t, sizeof(t));
	}
	if (h->nb_bitmaps) {
		uint8_t b[24] = { 0 };

		put32(b, h->nb_bitmaps);
		put64(b + 8, h->bitmap_dir_size);
		put64(b + 16, h->bitmap_dir_off);
		ext_add(&x, Q_EXT_BITMAPS, b, sizeof(b));
	}
	buf_add(&x, h->unknown_ext.s, h->unknown_ext.len);
	buf_add(&x, "\0\0\0\0\0\0\0", 8); /* the end */
	if (buf_error(&x))
		return -ENOMEM;
	at = hl + x.len;
	if (at + bl > cs)
		return -ENOSPC;
	put32(p, Q_MAGIC);
	put32(p + 4, h->version);
	put64(p + 8, bl ? at : 0);
	put32(p + 16, (uint32_t)bl);
	put32(p + 20, h->cluster_bits);
	put64(p + 24, h->size);
	put32(p + 36, h->l1_size);
	put64(p + 40, h->l1_off);
	put64(p + 48, h->reftable_off);
	put32(p + 56, h->reftable_clusters);
	put32(p + 60, h->nb_snapshots);
	put64(p + 64, h->snap_off);
	if (h->version >= 3) {
		put64(p + 72, h->incompat);
		put64(p + 80, h->compat);
		put64(p + 88, h->autoclear);
		put32(p + 96, h->refcount_order);
		put32(p + 100, (uint32_t)hl);
		p[104] = h->compression;
		if (h->extra.len)
			memcpy(p + 112, h->extra.s, h->extra.len);
	}
	memcpy(p + hl, x.s, x.len);
	if (bl)
		memcpy(p + at, h->backing, bl);
	return 0;
}

int q_header_write(struct qcow2 *s)
{
	_cleanup_(freep) uint8_t *p = malloc(s->cluster_size);
	int r = p ? q_header_build(&s->h, p, s->cluster_size) : -ENOMEM;

	return r < 0 ? r : node_pwrite(s->file, p, s->cluster_size, 0);
}
