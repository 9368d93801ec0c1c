/* check: count every reference from scratch, compare with the refcounts, repair.  Alone (quiesced), blocking.
 *
 * Repair: leaks are lowered in place.  Refcounts that are too low (or blocks that make no sense) mean that new blocks
 * and a new table are written behind everything that is in use; one write of the header switches to them.  Then the
 * copied flags are set right and the dirty and corrupt bits cleared.
 * Memory: 4 bytes a cluster of the file; a file with more than MAX_CLUSTERS is refused. */
#include <inttypes.h>
#include <string.h>
#include "base/checked.h"
#include "storage/formats/qcow2/qcow2.h"

#define MAX_CLUSTERS (1ULL << 28)

struct check {
	struct qcow2 *s;
	struct disk_check *ret;
	uint32_t *count;
	uint64_t n, high; /* clusters of the file; end of those in use */
	bool bad_blocks, quiet;
	bool mend;	/* entries that lead nowhere are cut off */
	uint64_t l1_at; /* of the L1 table being walked, in the file */
	int r;		/* the first failure to mend */
};

static void _printf_(2, 3) say(struct check *c, const char *fmt, ...)
{
	char *text = NULL;
	va_list ap;

	if (!c->ret->message || c->quiet)
		return;
	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	c->ret->message(c->ret->arg, text ?: fmt);
	free(text);
}

/* Clusters of [off, off+len) get one reference more. */
static int mark(void *arg, uint64_t off, uint64_t len)
{
	struct check *c = arg;
	uint64_t first = off >> c->s->h.cluster_bits, last;

	if (len == 0)
		return 0;
	if (off > INT64_MAX || len > INT64_MAX || (off + len - 1) >> c->s->h.cluster_bits >= c->n) {
		say(c,
		    "ERROR: a reference to offset %" PRIu64 " (%" PRIu64
		    " bytes) lies outside the file",
		    off, len);
		c->ret->corruptions++;
		return -ERANGE;
	}
	last = (off + len - 1) >> c->s->h.cluster_bits;
	for (; first <= last; first++)
		if (c->count[first] < UINT32_MAX)
			c->count[first]++;
	c->high = MAX(c->high, first);
	return 0;
}

static int mark_soft(void *arg, uint64_t off, uint64_t len)
{
	int r = mark(arg, off, len);

	return r == -ERANGE ? 0 : r;
}

/* As mark(); when it mends, also -ERANGE where the refcounts are too narrow to count one more reference. */
static int mark_once_more(struct check *c, uint64_t off, uint64_t len)
{
	struct qcow2 *s = c->s;
	uint64_t max = s->h.refcount_order >= 5 ? UINT32_MAX - 1
						: (1ULL << (1U << s->h.refcount_order)) - 1;

	for (uint64_t i = off >> s->h.cluster_bits;
	     c->mend && i < c->n && i <= (off + len - 1) >> s->h.cluster_bits; i++) {
		if (c->count[i] < max)
			continue;
		say(c, "ERROR: cluster %" PRIu64 " has more references than can be counted", i);
		c->ret->corruptions++;
		return -ERANGE;
	}
	return mark(c, off, len);
}

/* An entry of an L1 table that cannot be followed: what it stood for reads as unallocated from now on. */
static void cut_l1(struct check *c, uint64_t *l1, uint32_t i)
{
	uint64_t zero = 0;
	int r;

	if (!c->mend)
		return;
	r = node_pwrite(c->s->file, &zero, 8, c->l1_at + (uint64_t)i * 8);
	if (r < 0) {
		c->r = c->r ?: r;
		return;
	}
	say(c, "Repairing L1 entry %u: what it led to is lost", i);
	l1[i] = 0;
	c->ret->corruptions_fixed++;
}

/* The same of an L2 table in memory: it reads as zeroes. */
static bool cut_l2(struct check *c, uint64_t *t, uint32_t k, uint32_t table)
{
	struct qcow2 *s = c->s;

	if (!c->mend)
		return false;
	say(c, "Repairing entry %u of L2 table %u: its data are lost", k, table);
	t[(size_t)k * s->entry_words] = s->h.version >= 3 && !s->ext_l2 ? htobe64(Q_ZERO) : 0;
	if (s->ext_l2)
		t[(size_t)k * 2 + 1] = htobe64((uint64_t)UINT32_MAX << 32);
	c->ret->corruptions_fixed++;
	return true;
}

static int count_l1(struct check *c, uint64_t *l1, uint32_t n, bool active)
{
	struct qcow2 *s = c->s;
	_cleanup_(freep) uint64_t *t = malloc(s->cluster_size);
	uint64_t next = 0;
	bool changed;

	for (uint32_t i = 0; t && i < n; i++) {
		uint64_t off = l1[i] & Q_OFFSET;
		int r;

		if (!off)
			continue;
		if (off & (s->cluster_size - 1)) {
			say(c, "ERROR: L2 table %u is not aligned (offset %" PRIu64 ")", i, off);
			c->ret->corruptions++;
			cut_l1(c, l1, i);
			continue;
		}
		if (mark_once_more(c, off, s->cluster_size) < 0) {
			cut_l1(c, l1, i);
			continue;
		}
		changed = false;
		r = node_pread(s->file, t, s->cluster_size, off);
		if (r < 0) {
			c->ret->errors++;
			continue;
		}
		for (uint32_t k = 0; k < s->l2_entries; k++) {
			uint64_t desc = be64toh(t[(size_t)k * s->entry_words]), host, len;

			if (desc & Q_COMPRESSED) {
				q_compr_range(s, desc, &host, &len);
				/* the last sector may be cut off by the end of the file */
				if (mark_once_more(c, host & ~511ULL,
						   ALIGN_UP(host + len, (uint64_t)512) -
							   (host & ~511ULL)) < 0) {
					changed |= cut_l2(c, t, k, i);
					continue;
				}
				if (active) {
					c->ret->compressed++;
					c->ret->allocated++;
					c->ret->fragmented++;
				}
				continue;
			}
			host = desc & Q_OFFSET;
			if (s->data_file) {
				if (active && desc & Q_COPIED)
					c->ret->allocated++;
				continue;
			}
			if (!host)
				continue;
			if (host & (s->cluster_size - 1)) {
				say(c, "ERROR: cluster %" PRIu64 " of L2 table %u is not aligned",
				    (uint64_t)k, i);
				c->ret->corruptions++;
				changed |= cut_l2(c, t, k, i);
				continue;
			}
			if (mark_once_more(c, host, s->cluster_size) < 0) {
				changed |= cut_l2(c, t, k, i);
				continue;
			}
			if (active) {
				c->ret->allocated++;
				if (next && host != next)
					c->ret->fragmented++;
				next = host + s->cluster_size;
			}
		}
		r = changed ? node_pwrite(s->file, t, s->cluster_size, off) : 0;
		c->r = c->r ?: r;
	}
	return t ? c->r : -ENOMEM;
}

static int count_all(struct check *c, struct err **e)
{
	struct qcow2 *s = c->s;
	struct q_snapshot *v = NULL;
	uint64_t bytes;
	uint32_t n;
	int r;

	mark(c, 0, s->cluster_size);
	mark(c, s->h.l1_off, (uint64_t)s->h.l1_size * 8);
	c->l1_at = s->h.l1_off;
	r = count_l1(c, s->l1, s->h.l1_size, true);
	if (r < 0)
		return err_sys(e, -r, "walk the L1 table");
	if (s->h.nb_snapshots) {
		r = q_snapshots_load(s, &v, &n, &bytes, e);
		if (r < 0)
			return r;
		mark(c, s->h.snap_off, bytes);
		for (uint32_t i = 0; i < n && r == 0; i++) {
			_cleanup_(freep) uint64_t *l1 = calloc(MAX(v[i].l1_size, 1U), 8);

			mark(c, v[i].l1_off, (uint64_t)v[i].l1_size * 8);
			r = l1 ? node_pread(s->file, l1, (size_t)v[i].l1_size * 8, v[i].l1_off)
			       : -ENOMEM;
			for (uint32_t k = 0; r == 0 && k < v[i].l1_size; k++)
				l1[k] = be64toh(l1[k]);
			c->l1_at = v[i].l1_off;
			if (r == 0)
				r = count_l1(c, l1, v[i].l1_size, false);
		}
		q_snapshots_free(v, n);
		if (r < 0)
			return err_sys(e, -r, "walk a snapshot");
	}
	r = q_bitmaps_clusters(s, mark_soft, c);
	if (r < 0) {
		say(c, "ERROR: the bitmaps cannot be read");
		c->ret->corruptions++;
	}
	return 0;
}

/* The refcount structures themselves, as they are now. */
static void count_refs(struct check *c)
{
	struct qcow2 *s = c->s;

	mark(c, s->h.reftable_off, (uint64_t)s->h.reftable_clusters << s->h.cluster_bits);
	for (uint64_t i = 0; i < s->n_reftable; i++) {
		uint64_t off = s->reftable[i];

		if (!off)
			continue;
		if (off & (s->cluster_size - 1) || mark(c, off, s->cluster_size) < 0) {
			say(c,
			    "ERROR: refcount block %" PRIu64 " is not aligned or outside the file",
			    i);
			c->ret->corruptions += (off & (s->cluster_size - 1)) != 0;
			c->bad_blocks = true;
		} else if (c->count[off >> s->h.cluster_bits] > 1) {
			say(c, "ERROR: refcount block %" PRIu64 " shares its cluster", i);
			c->ret->corruptions++;
			c->bad_blocks = true;
		}
	}
}

/* New blocks and a new table behind c->high. */
static int rebuild(struct check *c)
{
	struct qcow2 *s = c->s;
	uint64_t per = (uint64_t)s->cluster_size * 8 >> s->h.refcount_order, high = c->high,
		 blocks = 0, table = 0, end;
	uint64_t max = s->h.refcount_order == 6 ? UINT64_MAX
						: (1ULL << (1U << s->h.refcount_order)) - 1;
	_cleanup_(freep) uint8_t *b = malloc(s->cluster_size);
	_cleanup_(freep) uint64_t *rt = NULL;
	uint8_t head[12];
	int r = 0;

	do {
		end = high + blocks + table;
		blocks = DIV_ROUND_UP(end, per);
		table = DIV_ROUND_UP(blocks * 8, (uint64_t)s->cluster_size);
	} while (high + blocks + table != end);
	if (table << s->h.cluster_bits > Q_MAX_REFTABLE)
		return -EFBIG;
	rt = calloc(table, s->cluster_size);
	if (!b || !rt)
		return -ENOMEM;
	for (uint64_t i = 0; i < blocks && r == 0; i++) {
		memset(b, 0, s->cluster_size);
		for (uint64_t k = 0; k < per && i * per + k < end; k++) {
			uint64_t v = i * per + k >= high ? 1 : c->count[i * per + k];

			if (v > max)
				return -EOVERFLOW;
			q_refblock_set(s, b, k, v);
		}
		rt[i] = htobe64((high + i) << s->h.cluster_bits);
		r = node_pwrite(s->file, b, s->cluster_size, (high + i) << s->h.cluster_bits);
	}
	if (r == 0)
		r = node_pwrite(s->file, rt, table << s->h.cluster_bits,
				(high + blocks) << s->h.cluster_bits);
	if (r == 0)
		r = node_sync_op(s->file, DISK_FLUSH, 0, 0, 0);
	for (int i = 0; i < 8; i++)
		head[i] = (uint8_t)((high + blocks) << s->h.cluster_bits >> (56 - i * 8));
	for (int i = 0; i < 4; i++)
		head[8 + i] = (uint8_t)(table >> (24 - i * 8));
	if (r == 0)
		r = node_pwrite(s->file, head, 12, 48);
	if (r == 0)
		r = node_sync_op(s->file, DISK_FLUSH, 0, 0, 0);
	if (r == 0) {
		s->h.reftable_off = (high + blocks) << s->h.cluster_bits;
		s->h.reftable_clusters = (uint32_t)table;
	}
	return r;
}

static int compare(struct check *c, bool fix_leaks, uint64_t *low, uint64_t *leaks)
{
	struct qcow2 *s = c->s;
	uint64_t top = MAX(c->n, s->n_reftable * s->rb_entries);

	*low = *leaks = 0;
	for (uint64_t i = 0; i < top; i++) {
		uint64_t have, want = i < c->n ? c->count[i] : 0;

		if (i % s->rb_entries == 0 &&
		    (i / s->rb_entries >= s->n_reftable || !s->refblocks[i / s->rb_entries].data) &&
		    i >= c->n) {
			i += s->rb_entries - 1;
			continue;
		}
		have = q_ref_get(s, i);
		if (have < want) {
			if ((*low)++ < 100)
				say(c,
				    "ERROR cluster %" PRIu64 " refcount=%" PRIu64
				    " reference=%" PRIu64,
				    i, have, want);
		} else if (have > want) {
			if ((*leaks)++ < 100)
				say(c,
				    "Leaked cluster %" PRIu64 " refcount=%" PRIu64
				    " reference=%" PRIu64,
				    i, have, want);
			if (fix_leaks) {
				struct q_refblock *b = &s->refblocks[i / s->rb_entries];

				q_refblock_set(s, b->data, i % s->rb_entries, want);
				b->dirty = s->refs_dirty = true;
				if (want == 0)
					s->free_hint = MIN(s->free_hint, i);
			}
		}
	}
	return 0;
}

static uint64_t wrong_copied(struct check *c)
{
	struct qcow2 *s = c->s;
	_cleanup_(freep) uint64_t *t = malloc(s->cluster_size);
	uint64_t n = 0;

	for (uint32_t i = 0; t && i < s->h.l1_size; i++) {
		uint64_t off = s->l1[i] & Q_OFFSET;

		if (!off || off & (s->cluster_size - 1) || off >> s->h.cluster_bits >= c->n)
			continue;
		if ((q_ref_get(s, off >> s->h.cluster_bits) == 1) != !!(s->l1[i] & Q_COPIED)) {
			say(c, "ERROR OFLAG_COPIED of L2 table %u", i);
			n++;
		}
		if (node_pread(s->file, t, s->cluster_size, off) < 0)
			continue;
		for (uint32_t k = 0; k < s->l2_entries && !s->data_file; k++) {
			uint64_t d = be64toh(t[(size_t)k * s->entry_words]);
			uint64_t host = d & Q_OFFSET;

			if (d & Q_COMPRESSED ? !!(d & Q_COPIED)
					     : host && (q_ref_get(s, host >> s->h.cluster_bits) ==
							1) != !!(d & Q_COPIED)) {
				if (n++ < 100)
					say(c, "ERROR OFLAG_COPIED of cluster %" PRIu64,
					    (uint64_t)i * s->l2_entries + k);
			}
		}
	}
	return n;
}

int q_check(struct disk_node *n, enum disk_repair repair, struct disk_check *ret, struct err **e)
{
	struct qcow2 *s = to_qcow2(n);
	struct check c = { .s = s, .ret = ret };
	_cleanup_(freep) uint32_t *count = NULL;
	uint64_t low, leaks, copied, fsize = atomic_load(&s->file->size);
	bool rebuilt = false;
	int r;

	r = q_sync(s);
	if (r < 0)
		return err_sys(e, -r, "write back metadata");
	fsize = MAX(fsize, atomic_load(&s->file->size));
	c.n = DIV_ROUND_UP(fsize, (uint64_t)s->cluster_size);
	if (!n->readonly && s->refs_loaded)
		c.n = MAX(c.n, s->file_end >> s->h.cluster_bits);
	if (c.n > MAX_CLUSTERS)
		return err_set(e, EFBIG, "disk.limit", "the file has more than %llu clusters",
			       MAX_CLUSTERS);
	c.count = count = calloc(MAX(c.n, 1UL), sizeof(*count));
	if (!count)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	if (!s->refs_loaded) {
		r = q_refs_load(s, e);
		if (r < 0) {
			say(&c, "ERROR: %s",
			    e && *e ? err_msg(*e) : "the refcounts cannot be read");
			ret->corruptions++;
			c.bad_blocks = true;
			err_clear(e);
		}
	}
	ret->total = DIV_ROUND_UP(s->h.size, (uint64_t)s->cluster_size);
	c.mend = repair == DISK_REPAIR_ALL && !n->readonly;
	r = count_all(&c, e);
	c.mend = false;
	if (ret->corruptions_fixed) { /* tables in memory may be as they were */
		if (r == 0)
			r = node_sync_op(s->file, DISK_FLUSH, 0, 0, 0);
		q_tables_drop(s);
	}
	if (r < 0) {
		r = e && *e ? r : err_sys(e, -r, "repair");
		goto out;
	}
	if (c.bad_blocks && !s->refs_loaded) {
		low = 1;
		leaks = 0;
	} else {
		uint64_t own = c.high;

		count_refs(&c);
		r = compare(&c, repair != DISK_REPAIR_NONE && !c.bad_blocks, &low, &leaks);
		if (repair == DISK_REPAIR_ALL &&
		    (low || c.bad_blocks)) { /* the old structures go */
			memset(count, 0, c.n * sizeof(*count));
			c.high = own;
			*ret = (struct disk_check){ .corruptions = ret->corruptions,
						    .corruptions_fixed = ret->corruptions_fixed,
						    .errors = ret->errors,
						    .total = ret->total,
						    .message = ret->message,
						    .arg = ret->arg };
			c.quiet = true; /* it has been said */
			r = r ?: count_all(&c, e);
			c.quiet = false;
		}
	}
	ret->corruptions += low;
	ret->leaks += leaks;
	ret->image_end = c.high << s->h.cluster_bits;
	if (r == 0 && repair != DISK_REPAIR_NONE && leaks && !low && !c.bad_blocks) {
		r = q_sync(s);
		ret->leaks_fixed = r == 0 ? leaks : 0;
	}
	if (r == 0 && repair == DISK_REPAIR_ALL && (low || c.bad_blocks)) {
		r = rebuild(&c);
		if (r == 0)
			r = q_refs_load(s, e);
		rebuilt = r == 0;
		if (rebuilt) {
			ret->corruptions_fixed += low + c.bad_blocks;
			ret->leaks_fixed = leaks;
		}
	}
	if (r < 0) {
		r = e && *e ? r : err_sys(e, -r, "repair");
		goto out;
	}
	copied = wrong_copied(&c);
	if (!rebuilt)
		ret->corruptions += copied;
	if (repair == DISK_REPAIR_ALL && s->refs_loaded) {
		uint64_t fixed = 0;

		if (copied) {
			r = q_fix_copied(s, &fixed);
			if (r == 0)
				r = q_sync(s);
			ret->corruptions_fixed += r == 0 && !rebuilt ? copied : 0;
		}
		if (r == 0 && s->h.version >= 3 &&
		    s->h.incompat & (Q_INCOMPAT_DIRTY | Q_INCOMPAT_CORRUPT) && ret->errors == 0 &&
		    ret->corruptions <= ret->corruptions_fixed) {
			s->h.incompat &= ~Q_INCOMPAT_CORRUPT;
			s->corrupt = false;
			r = q_set_dirty(s, false);
		}
		if (r < 0)
			r = err_sys(e, -r, "repair");
	}
out:
	if (n->readonly)
		q_refs_done(s);
	return r;
}
