/* Refcounts and allocation.  Writers hold all refcount blocks in memory; see qcow2.h for the invariants.
 * Called with the lock held. */
#include <string.h>
#include "base/checked.h"
#include "storage/formats/qcow2/qcow2.h"

uint64_t q_refblock_get(const struct qcow2 *s, const void *data, uint64_t i)
{
	const uint8_t *b = data;

	switch (s->h.refcount_order) {
	case 0:
		return b[i / 8] >> i % 8 & 1;
	case 1:
		return b[i / 4] >> i % 4 * 2 & 3;
	case 2:
		return b[i / 2] >> i % 2 * 4 & 15;
	case 3:
		return b[i];
	case 4:
		return be16toh(((const uint16_t *)data)[i]);
	case 5:
		return be32toh(((const uint32_t *)data)[i]);
	default:
		return be64toh(((const uint64_t *)data)[i]);
	}
}

void q_refblock_set(const struct qcow2 *s, void *data, uint64_t i, uint64_t v)
{
	uint8_t *b = data;

	switch (s->h.refcount_order) {
	case 0:
		b[i / 8] = (uint8_t)((b[i / 8] & ~(1U << i % 8)) | v << i % 8);
		break;
	case 1:
		b[i / 4] = (uint8_t)((b[i / 4] & ~(3U << i % 4 * 2)) | v << i % 4 * 2);
		break;
	case 2:
		b[i / 2] = (uint8_t)((b[i / 2] & ~(15U << i % 2 * 4)) | v << i % 2 * 4);
		break;
	case 3:
		b[i] = (uint8_t)v;
		break;
	case 4:
		((uint16_t *)data)[i] = htobe16((uint16_t)v);
		break;
	case 5:
		((uint32_t *)data)[i] = htobe32((uint32_t)v);
		break;
	default:
		((uint64_t *)data)[i] = htobe64(v);
	}
}

void q_refs_done(struct qcow2 *s)
{
	for (uint64_t i = 0; s->refblocks && i < s->n_reftable; i++)
		free(s->refblocks[i].data);
	free(s->refblocks);
	free(s->reftable);
	free(s->pending);
	free(s->frees);
	s->refblocks = NULL;
	s->reftable = NULL;
	s->pending = s->frees = NULL;
	s->n_pending = s->cap_pending = s->n_frees = s->cap_frees = 0;
	s->n_reftable = 0;
	s->refs_loaded = false;
}

int q_refs_load(struct qcow2 *s, struct err **e)
{
	uint64_t n = (uint64_t)s->h.reftable_clusters << (s->h.cluster_bits - 3), blocks = 0,
		 size = s->file->size;
	int r;

	q_refs_done(s);
	s->reftable = calloc(n, 8);
	s->refblocks = calloc(n, sizeof(*s->refblocks));
	if (!s->reftable || !s->refblocks)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	s->n_reftable = n;
	if (!range_inside(s->h.reftable_off, 1, size))
		return err_set(e, EINVAL, "disk.corrupt",
			       "the refcount table lies behind the end of the file");
	r = node_pread(s->file, s->reftable, n * 8, s->h.reftable_off);
	if (r < 0)
		return err_sys(e, -r, "read the refcount table");
	s->rb_entries = (uint64_t)s->cluster_size * 8 >> s->h.refcount_order;
	s->file_end = s->cluster_size;
	for (uint64_t i = 0; i < n; i++) {
		uint64_t off = s->reftable[i] = be64toh(s->reftable[i]);

		if (!off)
			continue;
		if (off & (s->cluster_size - 1) || off >= size)
			return err_set(e, EINVAL, "disk.corrupt",
				       "refcount block %llu at offset %llu: check --repair",
				       (unsigned long long)i, (unsigned long long)off);
		if (++blocks > Q_MAX_REFMEM >> s->h.cluster_bits)
			return err_set(e, ENOMEM, "disk.limit",
				       "the refcounts take more than 2 GiB");
		s->refblocks[i].data = malloc(s->cluster_size);
		if (!s->refblocks[i].data)
			return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
		r = node_pread(s->file, s->refblocks[i].data, s->cluster_size, off);
		if (r < 0)
			return err_sys(e, -r, "read refcount block %llu", (unsigned long long)i);
		for (uint64_t k = s->rb_entries; k-- > 0;) {
			if (q_refblock_get(s, s->refblocks[i].data, k) == 0)
				continue;
			s->file_end =
				MAX(s->file_end, (i * s->rb_entries + k + 1) << s->h.cluster_bits);
			break;
		}
	}
	s->virgin = ALIGN_UP(MAX(size, s->file_end), (uint64_t)s->cluster_size);
	s->free_hint = 1;
	s->rt_dirty_lo = UINT64_MAX;
	s->rt_dirty_hi = 0;
	s->refs_loaded = true;
	return 0;
}

uint64_t q_ref_get(struct qcow2 *s, uint64_t c)
{
	uint64_t i = s->refs_loaded ? c / s->rb_entries : 0;

	if (!s->refs_loaded || i >= s->n_reftable || !s->refblocks[i].data)
		return 0;
	return q_refblock_get(s, s->refblocks[i].data, c % s->rb_entries);
}

static int grow_reftable(struct qcow2 *s, uint64_t want);

/* The refcount block that counts cluster c exists afterwards.  A new block lies in the first cluster that it counts
 * itself, unless that is in use. */
static int need_block(struct qcow2 *s, uint64_t c)
{
	uint64_t i = c / s->rb_entries, at;
	void *data;
	int r;

	if (i >= s->n_reftable) {
		r = grow_reftable(s, i + 1);
		if (r < 0)
			return r;
	}
	if (s->refblocks[i].data)
		return 0;
	data = calloc(1, s->cluster_size);
	if (!data)
		return -ENOMEM;
	s->refblocks[i].data = data;
	s->refblocks[i].dirty = s->refs_dirty = true;
	/* c is free and counted by this block: the block takes it, the caller looks for another */
	at = c;
	q_refblock_set(s, data, at % s->rb_entries, 1);
	s->file_end = MAX(s->file_end, (at + 1) << s->h.cluster_bits);
	s->virgin = MAX(s->virgin, s->file_end);
	s->reftable[i] = at << s->h.cluster_bits;
	s->rt_dirty_lo = MIN(s->rt_dirty_lo, i);
	s->rt_dirty_hi = MAX(s->rt_dirty_hi, i + 1);
	return 1;
}

/* A larger refcount table, placed at the end of the file; the header is changed by the next commit. */
static int grow_reftable(struct qcow2 *s, uint64_t want)
{
	uint64_t per = s->cluster_size / 8,
		 clusters = DIV_ROUND_UP(MAX(want, s->n_reftable + s->n_reftable / 2 + per), per);
	uint64_t n = clusters * per, old_n = s->n_reftable, old_off = s->h.reftable_off,
		 old_c = s->h.reftable_clusters, at;
	uint64_t *rt;
	struct q_refblock *rb;
	int r;

	if (n * 8 > Q_MAX_REFTABLE) {
		clusters = Q_MAX_REFTABLE >> s->h.cluster_bits;
		n = clusters * per;
		if (n < want)
			return -EFBIG;
	}
	rt = calloc(n, 8);
	rb = calloc(n, sizeof(*rb));
	if (!rt || !rb) {
		free(rt);
		free(rb);
		return -ENOMEM;
	}
	memcpy(rt, s->reftable, old_n * 8);
	memcpy(rb, s->refblocks, old_n * sizeof(*rb));
	free(s->reftable);
	free(s->refblocks);
	s->reftable = rt;
	s->refblocks = rb;
	s->n_reftable = n;
	/* Its own clusters: at the end, with the blocks that count them. */
	at = s->file_end >> s->h.cluster_bits;
	for (uint64_t i = 0; i < clusters;) {
		r = need_block(s, at + i);
		if (r < 0)
			return r;
		if (r > 0) { /* the block took a cluster of ours: start behind it */
			at = at + i + 1;
			i = 0;
			continue;
		}
		i++;
	}
	for (uint64_t i = 0; i < clusters; i++) {
		struct q_refblock *b = &s->refblocks[(at + i) / s->rb_entries];

		q_refblock_set(s, b->data, (at + i) % s->rb_entries, 1);
		b->dirty = s->refs_dirty = true;
	}
	s->file_end = (at + clusters) << s->h.cluster_bits;
	s->virgin = MAX(s->virgin, s->file_end);
	s->h.reftable_off = at << s->h.cluster_bits;
	s->h.reftable_clusters = (uint32_t)clusters;
	s->rt_moved = true;
	return q_free_later(s, old_off, old_c, false);
}

int q_ref_add(struct qcow2 *s, uint64_t c, int64_t delta)
{
	uint64_t max = s->h.refcount_order == 6 ? UINT64_MAX
						: (1ULL << (1U << s->h.refcount_order)) - 1;
	struct q_refblock *b;
	uint64_t v;

	if (!s->refs_loaded || c / s->rb_entries >= s->n_reftable ||
	    !s->refblocks[c / s->rb_entries].data)
		return -EIO;
	b = &s->refblocks[c / s->rb_entries];
	v = q_refblock_get(s, b->data, c % s->rb_entries);
	if (delta < 0 && v < (uint64_t)-delta)
		return -EIO;
	if (delta > 0 && v > max - (uint64_t)delta)
		return -EOVERFLOW;
	v += (uint64_t)delta;
	q_refblock_set(s, b->data, c % s->rb_entries, v);
	b->dirty = s->refs_dirty = true;
	if (v == 0)
		s->free_hint = MIN(s->free_hint, c);
	return 0;
}

int64_t q_alloc(struct qcow2 *s, uint64_t n, bool some, uint64_t *ret)
{
	uint64_t end, c = s->free_hint, got = 0, start = 0, limit;

	if (s->corrupt || !s->refs_loaded)
		return -EIO;
	end = s->file_end >> s->h.cluster_bits;
	limit = 1ULL << (56 - s->h.cluster_bits);
	/* a run of free clusters below the end, else from the end on */
	for (; c < end; c++) {
		if (q_ref_get(s, c)) {
			if (got > 0 && some)
				break;
			got = 0;
			continue;
		}
		if (got++ == 0)
			start = c;
		if (got == n)
			break;
	}
	if (got == 0)
		start = end;
	if (got < n && (c >= end || got == 0)) /* goes on behind the end */
		got = n;
	for (uint64_t i = 0; i < got; i++) {
		int r;

		if (start + i >= limit)
			return -ENOSPC;
		r = need_block(s, start + i);
		if (r < 0)
			return r;
		if (r > 0) /* tables moved: look again */
			return q_alloc(s, n, some, ret);
		if (q_ref_get(s, start + i)) /* a new block or table took it */
			return q_alloc(s, n, some, ret);
	}
	for (uint64_t i = 0; i < got; i++)
		q_ref_add(s, start + i, 1);
	s->alloc_virgin = start << s->h.cluster_bits >= s->virgin;
	s->virgin = MAX(s->virgin, (start + got) << s->h.cluster_bits);
	if (n == 1 || some)
		s->free_hint = MAX(s->free_hint, start + got);
	s->file_end = MAX(s->file_end, (start + got) << s->h.cluster_bits);
	*ret = start << s->h.cluster_bits;
	return (int64_t)got;
}

int q_free_later(struct qcow2 *s, uint64_t off, uint64_t n, bool discard)
{
	struct q_free *last = s->n_pending ? &s->pending[s->n_pending - 1] : NULL;

	if (last && last->off + (last->n << s->h.cluster_bits) == off && last->discard == discard) {
		last->n += n;
		return 0;
	}
	if (s->n_pending == s->cap_pending) {
		size_t cap = s->cap_pending ? s->cap_pending * 2 : 64;
		void *p = reallocarray(s->pending, cap, sizeof(*s->pending));

		if (!p)
			return -ENOMEM; /* a leak, no harm */
		s->pending = p;
		s->cap_pending = cap;
	}
	/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): cap_pending > 0 means that it is there */
	s->pending[s->n_pending++] = (struct q_free){ .off = off, .n = n, .discard = discard };
	return 0;
}

int q_entry_release(struct qcow2 *s, uint64_t desc)
{
	uint64_t off, len;

	if (s->data_file)
		return 0;
	if (desc & Q_COMPRESSED) {
		q_compr_range(s, desc, &off, &len);
		len += off & (s->cluster_size - 1);
		off &= ~(uint64_t)(s->cluster_size - 1);
		return q_free_later(s, off, DIV_ROUND_UP(len, s->cluster_size), false);
	}
	if (desc & Q_OFFSET)
		return q_free_later(s, desc & Q_OFFSET, 1, true);
	return 0;
}
