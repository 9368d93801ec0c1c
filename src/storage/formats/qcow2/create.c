/* A new image: header, refcount table, refcount blocks, L1 table and, when space is taken in advance, all L2 tables
 * and data clusters, one after the other. */
#include <fcntl.h>
#include <string.h>
#include "base/str.h"
#include "storage/formats/qcow2/qcow2.h"

enum prealloc { PRE_OFF, PRE_METADATA, PRE_FALLOC, PRE_FULL };

struct opts {
	uint64_t cluster, refbits;
	bool v2, lazy, ext_l2, data_raw, zstd;
	enum prealloc pre;
	const char *data_file;
};

static int parse(const struct disk_create *c, struct opts *o, struct err **e)
{
	static const char *const pre[] = { "off", "metadata", "falloc", "full" };
	bool have_cluster = false;
	int r = 0;

	*o = (struct opts){ .cluster = 65536,
			    .refbits = 16,
			    .pre = c->provision == DISK_LAZY	? PRE_FALLOC
				   : c->provision == DISK_EAGER ? PRE_FULL
								: PRE_OFF };
	for (const char *const *p = c->params; p && p[0] && r == 0; p += 2) {
		const char *k = p[0], *v = p[1];

		if (streq(k, "cluster_size")) {
			r = parse_size(v, &o->cluster);
			have_cluster = true;
		} else if (streq(k, "refcount_bits")) {
			r = parse_u64(v, 64, &o->refbits);
		} else if (streq(k, "compat")) {
			o->v2 = streq(v, "0.10") || streq(v, "v2");
			if (!o->v2 && !streq(v, "1.1") && !streq(v, "v3"))
				r = -EINVAL;
		} else if (streq(k, "lazy_refcounts")) {
			r = parse_bool(v, &o->lazy);
		} else if (streq(k, "extended_l2")) {
			r = parse_bool(v, &o->ext_l2);
		} else if (streq(k, "data_file")) {
			o->data_file = v;
		} else if (streq(k, "data_file_raw")) {
			r = parse_bool(v, &o->data_raw);
		} else if (streq(k, "compression_type")) {
			o->zstd = streq(v, "zstd");
			if (!o->zstd && !streq(v, "zlib"))
				r = -EINVAL;
		} else if (streq(k, "preallocation")) {
			r = -EINVAL;
			for (int i = 0; i < 4; i++)
				if (streq(v, pre[i]))
					o->pre = (enum prealloc)i, r = 0;
		} else {
			return err_set(e, EINVAL, "disk.create", "qcow2 has no option '%s'", k);
		}
		if (r < 0)
			return err_set(e, EINVAL, "disk.create", "option %s: '%s' is not usable", k,
				       v);
	}
	if (o->ext_l2 && !have_cluster)
		o->cluster = 128 * KIB; /* subclusters of 4 KiB */
	if (!is_pow2(o->cluster) || o->cluster < 512 || o->cluster > 2 * MIB)
		return err_set(e, EINVAL, "disk.create",
			       "the cluster size must be a power of two from 512 to 2M");
	if (!is_pow2(o->refbits) || o->refbits > 64)
		return err_set(e, EINVAL, "disk.create",
			       "refcount_bits must be a power of two up to 64");
	if (o->v2 && (o->refbits != 16 || o->lazy || o->ext_l2 || o->data_file || o->zstd))
		return err_set(e, EINVAL, "disk.create", "that option needs compat=1.1");
	if (o->ext_l2 && o->cluster < 16 * KIB)
		return err_set(e, EINVAL, "disk.create",
			       "extended_l2 needs clusters of 16K or more");
	if (o->data_raw && (!o->data_file || c->backing))
		return err_set(e, EINVAL, "disk.create",
			       "data_file_raw needs a data file and no backing file");
	if (c->backing && o->pre != PRE_OFF && !o->ext_l2)
		return err_set(
			e, EINVAL, "disk.create",
			"space for an overlay can be taken in advance only with extended_l2");
	return 0;
}

static int make_data_file(const struct disk_create *c, const struct opts *o, struct err **e)
{
	_cleanup_(freep) char *path = NULL;
	_cleanup_(closep) int fd = -1;
	const char *slash = strrchr(c->path, '/');
	int r;

	r = o->data_file[0] == '/' || !slash
		    ? asprintf(&path, "%s", o->data_file)
		    : asprintf(&path, "%.*s%s", (int)(slash - c->path + 1), c->path, o->data_file);
	if (r < 0)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0 || ftruncate(fd, 0) < 0 || ftruncate(fd, (off_t)c->size) < 0)
		return err_sys(e, errno, "data file '%s'", path);
	if (o->pre >= PRE_FALLOC && fallocate(fd, 0, 0, (off_t)c->size) < 0)
		return err_sys(e, errno, "reserve space in data file '%s'", path);
	return 0;
}

int q_create(struct disk_node *file, const struct disk_create *c, struct err **e)
{
	struct opts o;
	struct qcow2 s = { 0 };
	struct q_header *h = &s.h;
	uint64_t cs, guest, l2, l1c, data, rt = 1, rb = 1, total, before, per, at;
	_cleanup_(freep) uint8_t *buf = NULL;
	uint64_t *be;
	int r = parse(c, &o, e);

	if (r < 0)
		return r;
	cs = o.cluster;
	s.cluster_size = (uint32_t)cs;
	h->version = o.v2 ? 2 : 3;
	h->cluster_bits = ilog2(cs);
	h->size = c->size;
	h->refcount_order = ilog2(o.refbits);
	h->compat = o.lazy ? Q_COMPAT_LAZY : 0;
	h->incompat = (o.ext_l2 ? Q_INCOMPAT_EXTL2 : 0) | (o.zstd ? Q_INCOMPAT_COMPR : 0) |
		      (o.data_file ? Q_INCOMPAT_DATAFILE : 0);
	h->autoclear = o.data_raw ? Q_AUTO_RAWDATA : 0;
	h->compression = o.zstd;
	h->backing = (char *)(uintptr_t)c->backing;
	h->backing_format = (char *)(uintptr_t)c->backing_format;
	h->data_file = (char *)(uintptr_t)o.data_file;
	s.l2_entries = (uint32_t)(cs / (o.ext_l2 ? 16 : 8));
	s.entry_words = o.ext_l2 ? 2 : 1;
	guest = DIV_ROUND_UP(c->size, cs);
	l2 = DIV_ROUND_UP(guest, s.l2_entries);
	if (l2 > Q_MAX_L1 / 8)
		return err_set(e, EFBIG, "disk.limit",
			       "clusters of %llu bytes allow at most %llu bytes",
			       (unsigned long long)cs,
			       (unsigned long long)(Q_MAX_L1 / 8 * s.l2_entries * cs));
	h->l1_size = (uint32_t)l2;
	l1c = DIV_ROUND_UP(MAX(l2 * 8, 1UL), cs);
	if (o.pre == PRE_OFF)
		l2 = 0;
	data = o.pre == PRE_OFF || o.data_file ? 0 : guest;
	per = cs * 8 >> h->refcount_order;
	do {
		before = rt + rb;
		total = 1 + rt + rb + l1c + l2 + data;
		rb = DIV_ROUND_UP(total, per);
		rt = DIV_ROUND_UP(rb * 8, cs);
	} while (rt + rb != before);
	if (rt * cs > Q_MAX_REFTABLE)
		return err_set(e, EFBIG, "disk.limit",
			       "the refcount table would be larger than 8 MiB");
	h->reftable_off = cs;
	h->reftable_clusters = (uint32_t)rt;
	h->l1_off = (1 + rt + rb) * cs;
	if (o.data_file) {
		r = make_data_file(c, &o, e);
		if (r < 0)
			return r;
	}
	buf = malloc(MAX(cs, MAX(rt, l1c) * cs));
	if (!buf)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	be = (uint64_t *)buf;
	if (data && o.pre >= PRE_FALLOC) {
		r = node_resize(file, total * cs, o.pre == PRE_FULL ? DISK_EAGER : DISK_LAZY, false,
				e);
		if (r < 0)
			return r;
	}
	for (uint64_t i = 0; i < rb && r == 0; i++) {
		memset(buf, 0, cs);
		for (uint64_t k = 0; k < per && i * per + k < total; k++)
			q_refblock_set(&s, buf, k, 1);
		r = node_pwrite(file, buf, cs, (1 + rt + i) * cs);
	}
	memset(buf, 0, rt * cs);
	for (uint64_t i = 0; i < rb; i++)
		be[i] = htobe64((1 + rt + i) * cs);
	if (r == 0)
		r = node_pwrite(file, buf, rt * cs, cs);
	at = 1 + rt + rb + l1c;
	for (uint64_t i = 0; i < l2 && r == 0; i++) {
		memset(buf, 0, cs);
		for (uint64_t k = 0; k < s.l2_entries && i * s.l2_entries + k < guest; k++) {
			uint64_t g = i * s.l2_entries + k;

			be[k * s.entry_words] =
				htobe64((o.data_file ? g * cs : (at + l2 + g) * cs) | Q_COPIED);
			if (o.ext_l2 && !c->backing)
				be[k * 2 + 1] = htobe64(UINT32_MAX);
		}
		r = node_pwrite(file, buf, cs, (at + i) * cs);
	}
	memset(buf, 0, l1c * cs);
	for (uint64_t i = 0; i < l2; i++)
		be[i] = htobe64((at + i) * cs | Q_COPIED);
	if (r == 0)
		r = node_pwrite(file, buf, l1c * cs, h->l1_off);
	if (r == 0 && data && atomic_load(&file->size) < total * cs)
		r = node_resize(file, total * cs, DISK_THIN, false, e);
	if (r == 0)
		r = q_header_build(h, buf, cs);
	if (r == -ENOSPC)
		return err_set(e, EINVAL, "disk.create", "the names do not fit into one cluster");
	if (r == 0) /* last: before it the file is no image */
		r = node_sync_op(file, DISK_FLUSH, 0, 0, 0) ?: node_pwrite(file, buf, cs, 0);
	return r < 0 && !(e && *e) ? err_sys(e, -r, "write the image") : r;
}
