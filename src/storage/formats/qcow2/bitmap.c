/* Persistent dirty bitmaps.  Those with the "auto" flag promise to show every write, whoever makes it: a writer loads
 * them, marks them "in use" in the file (so that a crash leaves them known to be unusable rather than wrong), sets
 * bits as it writes, and stores them at the end.  The others are left as they are.
 *
 * The bits are set before the write is made, by any queue's thread: atomic byte operations. */
#include <string.h>
#include "base/checked.h"
#include "storage/formats/qcow2/qcow2.h"

#define MAX_DIR	   (64 * MIB)
#define MAX_TABLE  (8U << 20)
#define MAX_BITS   (1 * GIB)
#define IN_USE	   1U
#define AUTO	   2U
#define ENTRY_OFF  0x00fffffffffffe00ULL
#define ENTRY_ONES 1ULL

static uint64_t get(const uint8_t *p, int n)
{
	uint64_t v = 0;

	while (n-- > 0)
		v = v << 8 | *p++;
	return v;
}

static int bad(struct err **e, const char *what)
{
	return err_set(e, EINVAL, "disk.corrupt", "bitmap directory: %s", what);
}

/* The whole directory, checked enough to walk it. */
static int dir_load(struct qcow2 *s, uint8_t **ret, struct err **e)
{
	uint64_t size = s->h.bitmap_dir_size;
	uint8_t *p;
	int r;

	if (size > MAX_DIR || s->h.bitmap_dir_off & (s->cluster_size - 1) ||
	    !range_inside(s->h.bitmap_dir_off, size, atomic_load(&s->file->size)))
		return bad(e, "outside the file");
	p = malloc(size + 1);
	r = p ? node_pread(s->file, p, size, s->h.bitmap_dir_off) : -ENOMEM;
	if (r < 0) {
		free(p);
		return err_sys(e, -r, "read the bitmap directory");
	}
	*ret = p;
	return 0;
}

/* The entry at *at; moves on.  0, or -EINVAL. */
static int dir_next(const struct qcow2 *s, const uint8_t *dir, uint64_t *at, struct q_bitmap *b,
		    uint32_t *flags)
{
	const uint8_t *p = dir + *at;
	uint64_t len;

	if (s->h.bitmap_dir_size - *at < 24)
		return -EINVAL;
	*b = (struct q_bitmap){ .dir_at = *at,
				.table_off = get(p, 8),
				.n_table = (uint32_t)get(p + 8, 4),
				.granularity = p[17] };
	*flags = (uint32_t)get(p + 12, 4);
	len = 24 + get(p + 18, 2) + get(p + 20, 4);
	len = ALIGN_UP(len, (uint64_t)8);
	if (len > s->h.bitmap_dir_size - *at || b->n_table > MAX_TABLE || b->granularity > 63 ||
	    b->table_off & (s->cluster_size - 1) ||
	    !range_inside(b->table_off, (uint64_t)b->n_table * 8, atomic_load(&s->file->size)))
		return -EINVAL;
	*at += len;
	return 0;
}

static int table_load(struct qcow2 *s, const struct q_bitmap *b, uint64_t **ret)
{
	uint64_t *t = calloc(MAX(b->n_table, 1U), 8);
	int r = t ? node_pread(s->file, t, (size_t)b->n_table * 8, b->table_off) : -ENOMEM;

	for (uint32_t i = 0; r == 0 && i < b->n_table; i++) {
		t[i] = be64toh(t[i]);
		if (t[i] & ENTRY_OFF & (s->cluster_size - 1))
			r = -EIO;
	}
	if (r < 0)
		free(t);
	else
		*ret = t;
	return r;
}

int q_bitmaps_clusters(struct qcow2 *s, int (*fn)(void *arg, uint64_t off, uint64_t len), void *arg)
{
	_cleanup_(freep) uint8_t *dir = NULL;
	uint64_t at = 0;
	int r;

	if (!s->h.nb_bitmaps)
		return 0;
	r = dir_load(s, &dir, NULL);
	if (r == 0)
		r = fn(arg, s->h.bitmap_dir_off, s->h.bitmap_dir_size);
	for (uint32_t i = 0; i < s->h.nb_bitmaps && r == 0; i++) {
		_cleanup_(freep) uint64_t *t = NULL;
		struct q_bitmap b;
		uint32_t flags;

		r = dir_next(s, dir, &at, &b, &flags);
		if (r == 0)
			r = fn(arg, b.table_off, (uint64_t)b.n_table * 8);
		if (r == 0)
			r = table_load(s, &b, &t);
		for (uint32_t k = 0; r == 0 && k < b.n_table; k++)
			if (t[k] & ENTRY_OFF)
				r = fn(arg, t[k] & ENTRY_OFF, s->cluster_size);
	}
	return r;
}

static int bits_load(struct qcow2 *s, struct q_bitmap *b)
{
	uint64_t bits = DIV_ROUND_UP(s->h.size, 1ULL << b->granularity), cs = s->cluster_size;
	_cleanup_(freep) uint64_t *t = NULL;
	int r = 0;

	b->n_bytes = DIV_ROUND_UP(bits, 8);
	if (b->granularity < 9 || b->granularity > 31 || b->n_bytes > MAX_BITS ||
	    DIV_ROUND_UP(b->n_bytes, cs) > b->n_table)
		return -EINVAL;
	b->bits = calloc(1, ALIGN_UP(MAX(b->n_bytes, 1UL), cs));
	if (!b->bits)
		return -ENOMEM;
	r = table_load(s, b, &t);
	for (uint64_t i = 0; r == 0 && i < DIV_ROUND_UP(b->n_bytes, cs); i++) {
		if (t[i] & ENTRY_OFF)
			r = node_pread(s->file, b->bits + i * cs, cs, t[i] & ENTRY_OFF);
		else if (t[i] & ENTRY_ONES)
			memset(b->bits + i * cs, 0xff, cs);
	}
	return r;
}

static int flags_write(struct qcow2 *s, const struct q_bitmap *b, uint32_t flags)
{
	uint32_t be = htobe32(flags);

	return node_pwrite(s->file, &be, 4, s->h.bitmap_dir_off + b->dir_at + 12);
}

int q_bitmaps_open(struct qcow2 *s, struct err **e)
{
	_cleanup_(freep) uint8_t *dir = NULL;
	uint64_t at = 0;
	int r;

	if (!s->h.nb_bitmaps || !(s->h.autoclear & Q_AUTO_BITMAPS) || s->node.disk == NULL)
		return 0;
	r = dir_load(s, &dir, e);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < s->h.nb_bitmaps; i++) {
		struct q_bitmap b, *v;
		uint32_t flags;

		if (dir_next(s, dir, &at, &b, &flags) < 0)
			return bad(e, "a damaged entry");
		if (!(flags & AUTO) || flags & IN_USE)
			continue;
		r = bits_load(s, &b);
		v = r == 0 ? reallocarray(s->bitmaps, s->n_bitmaps + 1, sizeof(*v)) : NULL;
		if (!v) {
			free(b.bits);
			return err_set(e, r < 0 ? -r : ENOMEM, "disk.corrupt",
				       "a dirty bitmap cannot be loaded");
		}
		s->bitmaps = v;
		v[s->n_bitmaps++] = b;
		r = flags_write(s, &b, flags | IN_USE);
		if (r < 0)
			return err_sys(e, -r, "mark a bitmap in use");
	}
	r = s->n_bitmaps ? node_sync_op(s->file, DISK_FLUSH, 0, 0, 0) : 0;
	return r < 0 ? err_sys(e, -r, "mark bitmaps in use") : 0;
}

void q_bitmaps_mark(struct qcow2 *s, uint64_t off, uint64_t len)
{
	for (unsigned int i = 0; i < s->n_bitmaps && len > 0; i++) {
		const struct q_bitmap *b = &s->bitmaps[i];

		for (uint64_t bit = off >> b->granularity; bit <= (off + len - 1) >> b->granularity;
		     bit++)
			if (bit / 8 < b->n_bytes)
				__atomic_fetch_or(&b->bits[bit / 8], (uint8_t)(1U << bit % 8),
						  __ATOMIC_RELAXED);
	}
}

static int bits_store(struct qcow2 *s, struct q_bitmap *b)
{
	_cleanup_(freep) uint64_t *t = NULL;
	uint64_t cs = s->cluster_size;
	int r = table_load(s, b, &t);

	for (uint64_t i = 0; r == 0 && i < DIV_ROUND_UP(b->n_bytes, cs); i++) {
		uint64_t off = t[i] & ENTRY_OFF;

		if (!off && !(t[i] & ENTRY_ONES) && mem_is_zero(b->bits + i * cs, cs))
			continue;
		if (!off) {
			int64_t k = q_alloc(s, 1, true, &off);

			if (k < 0)
				return (int)k;
			t[i] = off;
		}
		r = node_pwrite(s->file, b->bits + i * cs, cs, off);
	}
	if (r == 0)
		r = q_sync(s) ?: node_sync_op(s->file, DISK_FLUSH, 0, 0, 0);
	for (uint32_t i = 0; r == 0 && i < b->n_table; i++)
		t[i] = htobe64(t[i]);
	return r ?: node_pwrite(s->file, t, (size_t)b->n_table * 8, b->table_off);
}

int q_bitmaps_close(struct qcow2 *s)
{
	int r = 0;

	for (unsigned int i = 0; i < s->n_bitmaps && r == 0; i++)
		r = bits_store(s, &s->bitmaps[i]);
	if (r == 0 && s->n_bitmaps)
		r = node_sync_op(s->file, DISK_FLUSH, 0, 0, 0);
	for (unsigned int i = 0; i < s->n_bitmaps; i++) {
		if (r == 0)
			r = flags_write(s, &s->bitmaps[i], AUTO);
		free(s->bitmaps[i].bits);
	}
	free(s->bitmaps);
	s->bitmaps = NULL;
	s->n_bitmaps = 0;
	return r;
}
