/* A new size, and space taken in advance.  Alone (quiesced), blocking. */
#include <string.h>
#include "storage/formats/qcow2/qcow2.h"

static int header_switch(struct qcow2 *s, uint64_t size, uint32_t n_l1, uint64_t l1_off)
{
	uint8_t head[24] = { 0 };
	uint64_t b64 = htobe64(size);
	uint32_t b32 = htobe32(n_l1);
	int r;

	memcpy(head, &b64, 8);
	memcpy(head + 12, &b32, 4);
	b64 = htobe64(l1_off);
	memcpy(head + 16, &b64, 8);
	r = node_sync_op(s->file, DISK_FLUSH, 0, 0, 0);
	if (r == 0)
		r = node_pwrite(s->file, head, 24,
				24); /* size, crypt method, L1 entries and offset: one sector */
	if (r == 0)
		r = node_sync_op(s->file, DISK_FLUSH, 0, 0, 0);
	if (r == 0) {
		s->h.size = size;
		s->h.l1_size = n_l1;
		s->h.l1_off = l1_off;
	}
	return r;
}

/* Clusters for [off, end), marked as zeroes, their space taken in the file. */
static int reserve(struct qcow2 *s, uint64_t off, uint64_t end)
{
	uint64_t cs = s->cluster_size;
	int r = 0;

	for (off &= ~(cs - 1); off < end && r == 0; off += cs) {
		struct q_table *t;
		struct q_entry v;
		uint64_t host;

		r = q_table_load_sync(s, off >> (s->h.cluster_bits + s->l2_bits), &t);
		if (r == 0)
			r = q_table_own(s, off, &t);
		if (r < 0)
			return r;
		v = q_entry_get(s, t, off);
		if (v.desc & (Q_OFFSET | Q_COMPRESSED))
			continue;
		if (s->data_file) {
			host = off;
		} else {
			int64_t k = q_alloc(s, 1, true, &host);

			if (k < 0)
				return (int)k;
		}
		r = node_sync_op(s->dfile, DISK_WRITE_ZEROES, 0, host, cs);
		q_entry_set(
			s, t, off,
			s->ext_l2
				? (struct q_entry){ host | Q_COPIED, (uint64_t)UINT32_MAX << 32 }
				: (struct q_entry){
					  host | Q_COPIED | (s->h.version >= 3 ? Q_ZERO : 0), 0 });
		if (s->n_dirty > Q_COMMIT_TABLES)
			r = r ?: q_sync(s);
	}
	return r;
}

int q_resize(struct disk_node *n, uint64_t size, enum disk_provision prov, bool shrink,
	     struct err **e)
{
	struct qcow2 *s = to_qcow2(n);
	uint64_t old = s->h.size, per = (uint64_t)s->l2_entries << s->h.cluster_bits,
		 need = DIV_ROUND_UP(size, per);
	int r;

	if (need > Q_MAX_L1 / 8)
		return err_set(e, EFBIG, "disk.limit",
			       "clusters of %u bytes allow at most %llu bytes", s->cluster_size,
			       (unsigned long long)(Q_MAX_L1 / 8 * per));
	if (s->n_bitmaps || s->h.nb_bitmaps)
		return err_set(e, ENOTSUP, "disk.bitmap",
			       "the image has persistent bitmaps; their size would change");
	r = q_sync(s);
	if (r == 0 && size < old)
		r = node_sync_op(n, DISK_WRITE_ZEROES, DISK_MAY_UNMAP, size, old - size)
			    ?: q_sync(s);
	if (r == 0 && need > s->h.l1_size) {
		uint64_t *l1 = calloc(need, 8), *be = calloc(need, 8), off, old_off = s->h.l1_off;
		struct q_table **tables = calloc(need, sizeof(*tables));
		uint32_t old_n = s->h.l1_size;
		int64_t k = l1 && be && tables
				    ? q_alloc(s, DIV_ROUND_UP(need * 8, (uint64_t)s->cluster_size),
					      false, &off)
				    : -ENOMEM;

		r = k < 0 ? (int)k : 0;
		for (uint32_t i = 0; r == 0 && i < old_n; i++) {
			l1[i] = s->l1[i];
			be[i] = htobe64(l1[i]);
			tables[i] = s->tables[i];
		}
		if (r == 0)
			r = node_pwrite(s->file, be, need * 8, off) ?: q_sync(s);
		if (r == 0)
			r = header_switch(s, size, (uint32_t)need, off);
		if (r == 0) {
			free(s->l1);
			free(s->tables);
			s->l1 = TAKE(l1);
			s->tables = TAKE(tables);
			if (old_n)
				q_free_later(s, old_off,
					     DIV_ROUND_UP((uint64_t)old_n * 8,
							  (uint64_t)s->cluster_size),
					     false);
		}
		free(l1);
		free(be);
		free(tables);
	} else if (r == 0) {
		r = header_switch(s, size, s->h.l1_size, s->h.l1_off);
	}
	if (r < 0)
		return err_sys(e, -r, "change the size of '%s'", n->path);
	if (s->data_file) {
		r = node_resize(s->dfile, size, prov, true, e);
		if (r < 0)
			return r;
	}
	atomic_store(&n->size, size);
	if (size > old &&
	    s->below_size > old) /* what the backing file has there was never part of this disk */
		r = node_sync_op(n, DISK_WRITE_ZEROES, DISK_MAY_UNMAP, old,
				 MIN(size, s->below_size) - old);
	if (r == 0 && size > old && prov != DISK_THIN)
		r = reserve(s, ALIGN_UP(old, (uint64_t)s->cluster_size), size);
	if (r == 0)
		r = q_sync(s);
	return r < 0 ? err_sys(e, -r, "take space for '%s'", n->path) : 0;
}
