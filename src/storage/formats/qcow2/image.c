/* Opening and closing a qcow2 image, and its table of operations. */
#include <inttypes.h>
#include <string.h>
#include "base/checked.h"
#include "storage/disk.h"
#include "storage/formats/qcow2/qcow2.h"

static int q_probe(const uint8_t *head, size_t len, uint64_t size)
{
	return len >= 8 && memcmp(head, "QFI\xfb\0\0\0", 7) == 0 && (head[7] == 2 || head[7] == 3)
		       ? 100
		       : 0;
}

static int load_l1(struct qcow2 *s, struct err **e)
{
	uint64_t need = DIV_ROUND_UP(s->h.size, (uint64_t)s->l2_entries << s->h.cluster_bits);
	int r;

	if (s->h.l1_size < need)
		return err_set(e, EINVAL, "disk.corrupt",
			       "the L1 table has %u entries, the size needs %llu", s->h.l1_size,
			       (unsigned long long)need);
	free(s->l1);
	free(s->tables);
	s->l1 = calloc(MAX(s->h.l1_size, 1U), 8);
	s->tables = calloc(MAX(s->h.l1_size, 1U), sizeof(*s->tables));
	if (!s->l1 || !s->tables)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	if (s->h.l1_size && !range_inside(s->h.l1_off, 1, atomic_load(&s->file->size)))
		return err_set(e, EINVAL, "disk.corrupt",
			       "the L1 table lies behind the end of the file");
	r = node_pread(s->file, s->l1, (size_t)s->h.l1_size * 8, s->h.l1_off);
	if (r < 0)
		return err_sys(e, -r, "read the L1 table");
	for (uint32_t i = 0; i < s->h.l1_size; i++)
		s->l1[i] = be64toh(s->l1[i]);
	s->l1_dirty_lo = UINT64_MAX;
	s->l1_dirty_hi = 0;
	return 0;
}

int q_reload(struct qcow2 *s, struct err **e)
{
	q_tables_drop(s);
	return load_l1(s, e);
}

int q_set_dirty(struct qcow2 *s, bool on)
{
	uint64_t be;
	int r;

	if (s->h.version < 3)
		return 0;
	s->h.incompat = on ? s->h.incompat | Q_INCOMPAT_DIRTY : s->h.incompat & ~Q_INCOMPAT_DIRTY;
	be = htobe64(s->h.incompat);
	r = node_sync_op(s->file, DISK_FLUSH, 0, 0, 0);
	if (r == 0)
		r = node_pwrite(s->file, &be, 8, 72);
	return r ?: node_sync_op(s->file, DISK_FLUSH, 0, 0, 0);
}

/* A chain that comes back to a file it has passed would never end. */
static int chain_check(struct disk_node *n, const char *name, struct err **e)
{
	if (n->chain_depth >= DISK_MAX_DEPTH)
		return err_set(e, ELOOP, "disk.chain-loop",
			       "the backing chain of '%s' is longer than %d files, or a loop", name,
			       DISK_MAX_DEPTH);
	return 0;
}

static int open_below(struct qcow2 *s, const struct disk_cfg *cfg, struct err **e)
{
	struct disk_node *n = &s->node;
	const char *name = cfg->backing ?: s->h.backing,
		   *format = cfg->backing ? cfg->backing_format : s->h.backing_format;
	unsigned int depth = n->disk->opening_depth;
	int r;

	if (!name || !name[0])
		return 0;
	n->chain_depth = depth;
	r = chain_check(n, name, e);
	if (r < 0)
		return r;
	n->disk->opening_depth = depth + 1;
	r = node_open_named(n, name, format, true, &n->backing, e);
	n->disk->opening_depth = depth;
	if (r < 0)
		return err_wrap(e, r, "backing file '%s'", name);
	s->has_below = true;
	return q_below_build(s, e);
}

static int q_open(struct disk_node *n, const struct disk_cfg *cfg, struct err **e)
{
	struct qcow2 *s = to_qcow2(n);
	_cleanup_(freep) uint8_t *head = NULL;
	uint64_t fsize = atomic_load(&n->next->size);
	size_t len;
	int r;

	pthread_mutex_init(&s->lock, NULL);
	list_init(&s->allocs);
	list_init(&s->commit_wait);
	s->file = s->dfile = n->next;
	s->no_discard = cfg->discard_off;
	s->keep_freed = cfg->keep_freed;
	n->detect_zeroes = cfg->detect_zeroes;
	len = MIN(fsize, (uint64_t)(64 * KIB));
	head = calloc(1, 64 * KIB);
	if (!head)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	r = node_pread(s->file, head, len, 0);
	if (r == 0 && len == 64 * KIB && head[23] > 16 &&
	    head[23] <= 21) { /* its first cluster is larger */
		len = MIN(fsize, 1ULL << head[23]);
		free(head);
		head = calloc(1, len);
		r = head ? node_pread(s->file, head, len, 0) : -ENOMEM;
	}
	if (r < 0)
		return err_sys(e, -r, "read the header");
	r = q_header_parse(&s->h, head, len, e);
	if (r < 0)
		return r;
	s->cluster_size = 1U << s->h.cluster_bits;
	s->ext_l2 = s->h.incompat & Q_INCOMPAT_EXTL2;
	s->entry_words = s->ext_l2 ? 2 : 1;
	s->l2_bits = s->h.cluster_bits - (s->ext_l2 ? 4 : 3);
	s->l2_entries = 1U << s->l2_bits;
	s->sub_bits = s->ext_l2 ? s->h.cluster_bits - 5 : s->h.cluster_bits;
	s->subs = s->ext_l2 ? 32 : 1;
	s->csize_shift = 62 - (s->h.cluster_bits - 8);
	s->data_file = s->h.incompat & Q_INCOMPAT_DATAFILE;
	s->data_raw = s->h.autoclear & Q_AUTO_RAWDATA;
	s->corrupt = s->h.incompat & Q_INCOMPAT_CORRUPT;
	n->size = s->h.size;
	n->limits.opt_io = s->cluster_size;
	n->limits.discard_align = s->cluster_size;
	n->limits.can_zero = s->h.version >= 3;
	n->limits.can_discard = !s->no_discard;
	if (s->corrupt && !n->readonly && !n->disk->repairing)
		return err_set(
			e, EROFS, "disk.corrupt",
			"the image is marked corrupt: strata-disk check --repair, or open it "
			"read-only");
	if (s->data_file) {
		const char *name = cfg->data_file ?: s->h.data_file;

		if (!name)
			return err_set(e, EINVAL, "disk.corrupt",
				       "the image needs a data file but does not name one");
		r = node_open_file(n, name, n->readonly, &n->data, e);
		if (r < 0)
			return err_wrap(e, r, "data file '%s'", name);
		s->dfile = n->data;
	}
	r = load_l1(s, e);
	if (r < 0)
		return r;
	if (!n->readonly) {
		r = q_refs_load(s, e);
		if (r < 0 && !n->disk->repairing)
			return r;
		if (r < 0)
			err_clear(e);
		s->file_grows = s->dfile == s->file && s->file->grows;
		if (!n->disk->repairing && s->h.incompat & Q_INCOMPAT_DIRTY) {
			struct disk_check c = { 0 };

			r = q_check(n, DISK_REPAIR_ALL, &c, e);
			if (r < 0)
				return err_wrap(
					e, r,
					"rebuild the refcounts of an image that was not closed");
		}
		if (s->h.autoclear & ~(Q_AUTO_BITMAPS | Q_AUTO_RAWDATA)) {
			s->h.autoclear &= Q_AUTO_BITMAPS | Q_AUTO_RAWDATA;
			r = q_header_write(s);
			if (r < 0)
				return err_sys(e, -r, "write the header");
		}
		r = q_bitmaps_open(s, e);
		if (r < 0)
			return r;
	}
	return open_below(s, cfg, e);
}

static int q_close(struct disk_node *n)
{
	struct qcow2 *s = to_qcow2(n);
	int r = 0, k;

	s->keep_freed = false;
	if (s->l1 && !n->readonly && s->refs_loaded) {
		r = q_sync(s);
		k = q_bitmaps_close(s);
		r = r ?: k;
	}
	q_tables_drop(s);
	q_refs_done(s);
	q_map_done(&s->below);
	q_header_done(&s->h);
	free(s->l1);
	free(s->tables);
	pthread_mutex_destroy(&s->lock);
	return r;
}

static int q_usage(struct disk_node *n, uint64_t *allocated, uint64_t *apparent)
{
	return n->next->ops->usage(n->next, allocated, apparent);
}

static int q_sync_op(struct disk_node *n, struct err **e)
{
	int r = q_sync(to_qcow2(n));

	return r < 0 ? err_sys(e, -r, "write back metadata") : 0;
}

static int q_seal(struct disk_node *n, struct err **e)
{
	struct qcow2 *s = to_qcow2(n);
	int r = q_sync(s);

	if (r == 0)
		r = q_bitmaps_close(s);
	if (r < 0)
		return err_sys(e, -r, "write back '%s'", n->path);
	n->readonly = true;
	q_refs_done(s);
	r = s->dfile != s->file && s->dfile->ops->seal ? s->dfile->ops->seal(s->dfile, e) : 0;
	return r < 0 || !s->file->ops->seal ? r : s->file->ops->seal(s->file, e);
}

static int q_claim(struct disk_node *n, struct err **e)
{
	struct qcow2 *s = to_qcow2(n);
	int r = s->dfile != s->file ? s->dfile->ops->claim(s->dfile, e) : 0;

	return r ?: s->file->ops->claim(s->file, e);
}

static void q_info(struct disk_node *n,
		   void (*emit)(void *arg, const char *name, const char *value), void *arg)
{
	struct qcow2 *s = to_qcow2(n);
	char b[32];

	emit(arg, "compat", s->h.version >= 3 ? "1.1" : "0.10");
	snprintf(b, sizeof(b), "%u", s->cluster_size);
	emit(arg, "cluster_size", b);
	snprintf(b, sizeof(b), "%u", 1U << s->h.refcount_order);
	emit(arg, "refcount_bits", b);
	emit(arg, "compression_type", s->h.compression ? "zstd" : "zlib");
	emit(arg, "lazy_refcounts", s->h.compat & Q_COMPAT_LAZY ? "true" : "false");
	emit(arg, "extended_l2", s->ext_l2 ? "true" : "false");
	emit(arg, "corrupt", s->corrupt ? "true" : "false");
	emit(arg, "dirty", s->h.incompat & Q_INCOMPAT_DIRTY ? "true" : "false");
	if (s->h.backing)
		emit(arg, "backing_file", s->h.backing);
	if (s->h.backing_format)
		emit(arg, "backing_format", s->h.backing_format);
	if (s->data_file)
		emit(arg, "data_file", s->h.data_file ?: "");
	if (s->data_file)
		emit(arg, "data_file_raw", s->data_raw ? "true" : "false");
	snprintf(b, sizeof(b), "%u", s->h.nb_snapshots);
	emit(arg, "snapshots", b);
	snprintf(b, sizeof(b), "%u", s->h.nb_bitmaps);
	emit(arg, "bitmaps", b);
}

static int q_set_backing(struct disk_node *n, const char *path, const char *format, struct err **e)
{
	struct qcow2 *s = to_qcow2(n);
	char *old = s->h.backing, *old_format = s->h.backing_format;
	int r = q_sync(s);

	if (r < 0)
		return err_sys(e, -r, "write back metadata");
	if (path && (s->data_raw || strlen(path) > 1023 || (format && strlen(format) > 64)))
		return err_set(e, EINVAL, "disk.backing", "'%s' cannot be recorded as backing file",
			       path);
	s->h.backing = path ? strdup(path) : NULL;
	s->h.backing_format = path && format ? strdup(format) : NULL;
	r = (path && !s->h.backing) || (path && format && !s->h.backing_format) ? -ENOMEM
										: q_header_write(s);
	if (r == 0)
		r = node_sync_op(s->file, DISK_FLUSH, 0, 0, 0);
	if (r < 0) {
		free(s->h.backing);
		free(s->h.backing_format);
		s->h.backing = old;
		s->h.backing_format = old_format;
		return r == -ENOSPC ? err_set(e, ENOSPC, "disk.backing",
					      "the name does not fit into the first cluster")
				    : err_sys(e, -r, "record the backing file");
	}
	free(old);
	free(old_format);
	return 0;
}

const struct disk_ops disk_format_qcow2 = {
	.name = "qcow2",
	.kind = DISK_FORMAT,
	.instance_size = sizeof(struct qcow2),
	.probe = q_probe,
	.open = q_open,
	.close = q_close,
	.submit = q_submit,
	.extents = q_extents,
	.resize = q_resize,
	.usage = q_usage,
	.check = q_check,
	.snapshot_ls = q_snapshot_ls,
	.snapshot_create = q_snapshot_create,
	.snapshot_apply = q_snapshot_apply,
	.snapshot_rm = q_snapshot_rm,
	.create = q_create,
	.set_backing = q_set_backing,
	.write_compressed = q_write_compressed,
	.sync = q_sync_op,
	.info = q_info,
	.seal = q_seal,
	.claim = q_claim,
	.adopt = q_adopt,
	.chain_open = q_chain_open,
	.chain_fold = q_chain_fold,
	.chain_swap = q_chain_swap,
	.chain_drop = q_chain_drop,
	.populate = q_populate,
};
