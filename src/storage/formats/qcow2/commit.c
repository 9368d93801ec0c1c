/* Group commit: what changed in memory since the last one reaches the disk in the order that the invariants of
 * qcow2.h ask for, for all flushes that wait together.
 *
 *   1  refcount blocks, new L2 tables (nothing on the disk leads to them yet), a moved refcount table; flush, which
 *      also makes the guest's data stable
 *   2  refcount table entries or, when it moved, the header; flush                    (rare)
 *   3  changed pieces of existing L2 tables, L1 entries; flush
 *   4  clusters whose last reference went in 3 are punched out of the file, then their refcounts are lowered in memory
 *
 * Everything is copied when the commit begins, so requests go on changing tables meanwhile.  A failed commit puts
 * back all the dirty marks. */
#include <string.h>
#include "storage/formats/qcow2/qcow2.h"

struct piece {
	uint64_t off;
	size_t at, len; /* in `bytes` */
	int phase;
};

struct kept { /* to put back after a failure */
	struct q_table *t;
	uint64_t dirty;
	bool fresh;
};

struct commit {
	struct qcow2 *s;
	struct disk_queue *q;
	struct list ios; /* disk_io.link */
	struct buf bytes;
	struct piece *pieces;
	size_t n_pieces, cap_pieces;
	struct kept *kept;
	size_t n_kept, cap_kept;
	uint64_t *blocks; /* reftable indexes */
	size_t n_blocks, cap_blocks;
	uint64_t l1_lo, l1_hi, rt_lo, rt_hi;
	bool rt_moved, writing, flushing;
	struct q_free *frees;
	size_t n_frees;
	int phase;
};

static void step(struct commit *c, int r);

#define PUSH(arr, n, cap, ...)                                            \
	({                                                                \
		int _p = 0;                                               \
		if ((n) == (cap)) {                                       \
			size_t _c = (cap) ? (cap)*2 : 32;                 \
			void *_v = reallocarray(arr, _c, sizeof(*(arr))); \
			if (_v) {                                         \
				(arr) = _v;                               \
				(cap) = _c;                               \
			} else {                                          \
				_p = -ENOMEM;                             \
			}                                                 \
		}                                                         \
		if (_p == 0)                                              \
			(arr)[(n)++] = __VA_ARGS__;                       \
		_p;                                                       \
	})

static int add(struct commit *c, int phase, uint64_t off, const void *p, size_t len)
{
	size_t at = c->bytes.len;
	int r = buf_add(&c->bytes, p, len);

	return r
		       ?: PUSH(c->pieces, c->n_pieces, c->cap_pieces,
			       (struct piece){ off, at, len, phase });
}

static int add_be64(struct commit *c, int phase, uint64_t off, const uint64_t *v, uint64_t n)
{
	size_t at = c->bytes.len;

	for (uint64_t i = 0; i < n; i++) {
		uint64_t be = htobe64(v[i]);

		buf_add(&c->bytes, &be, 8);
	}
	return buf_error(&c->bytes)
		       ?: PUSH(c->pieces, c->n_pieces, c->cap_pieces,
			       (struct piece){ off, at, n * 8, phase });
}

/* Lock held. */
static int collect(struct commit *c)
{
	struct qcow2 *s = c->s;
	uint32_t piece = MAX(s->cluster_size / 64, 512U);
	int r = 0;

	for (uint64_t i = 0; s->refs_dirty && i < s->n_reftable && r == 0; i++) {
		if (!s->refblocks[i].dirty)
			continue;
		r = add(c, 1, s->reftable[i], s->refblocks[i].data, s->cluster_size)
			    ?: PUSH(c->blocks, c->n_blocks, c->cap_blocks, i);
		if (r == 0)
			s->refblocks[i].dirty = false;
	}
	if (r == 0)
		s->refs_dirty = false;
	for (uint64_t i = 0; s->n_dirty && i < s->h.l1_size && r == 0; i++) {
		struct q_table *t = s->tables[i];

		if (!t || !t->dirty)
			continue;
		r = PUSH(c->kept, c->n_kept, c->cap_kept, (struct kept){ t, t->dirty, t->fresh });
		if (r < 0)
			break;
		if (t->fresh) {
			r = add(c, 1, t->off, t->data, s->cluster_size);
		} else {
			for (uint32_t p = 0; p < 64 && r == 0; p++) {
				uint32_t k = p;

				if (!(t->dirty >> p & 1))
					continue;
				while (k < 63 && t->dirty >> (k + 1) & 1)
					k++;
				r = add(c, 3, t->off + (uint64_t)p * piece,
					(char *)t->data + (size_t)p * piece,
					(size_t)(k - p + 1) * piece);
				p = k;
			}
		}
		t->pins++;
		t->dirty = 0;
		t->fresh = false;
		s->n_dirty--;
	}
	c->l1_lo = s->l1_dirty_lo;
	c->l1_hi = s->l1_dirty_hi;
	c->rt_lo = s->rt_dirty_lo;
	c->rt_hi = s->rt_dirty_hi;
	c->rt_moved = s->rt_moved;
	s->l1_dirty_lo = s->rt_dirty_lo = UINT64_MAX;
	s->l1_dirty_hi = s->rt_dirty_hi = 0;
	s->rt_moved = false;
	c->frees = s->pending;
	c->n_frees = s->n_pending;
	s->pending = NULL;
	s->n_pending = s->cap_pending = 0;
	if (r == 0 && c->rt_moved) {
		uint64_t head[2] = { s->h.reftable_off };
		uint32_t n = htobe32(s->h.reftable_clusters);
		size_t at;

		/* the offset and the length that follows it change in one sector write */
		r = add_be64(c, 1, s->h.reftable_off, s->reftable, s->n_reftable);
		at = c->bytes.len;
		if (r == 0)
			r = add_be64(c, 2, 48, head, 1) ?: buf_add(&c->bytes, &n, 4);
		if (r == 0)
			c->pieces[c->n_pieces - 1].len = c->bytes.len - at;
	} else if (r == 0 && c->rt_lo < c->rt_hi) {
		r = add_be64(c, 2, s->h.reftable_off + c->rt_lo * 8, s->reftable + c->rt_lo,
			     c->rt_hi - c->rt_lo);
	}
	if (r == 0 && c->l1_lo < c->l1_hi)
		r = add_be64(c, 3, s->h.l1_off + c->l1_lo * 8, s->l1 + c->l1_lo,
			     c->l1_hi - c->l1_lo);
	return r;
}

/* Lock held. */
static void put_back(struct commit *c)
{
	struct qcow2 *s = c->s;

	for (size_t i = 0; i < c->n_blocks; i++)
		s->refblocks[c->blocks[i]].dirty = s->refs_dirty = true;
	for (size_t i = 0; i < c->n_kept; i++) {
		struct kept *k = &c->kept[i];

		if (!k->t->dirty)
			s->n_dirty++;
		k->t->dirty |= k->dirty;
		k->t->fresh |= k->fresh;
	}
	s->l1_dirty_lo = MIN(s->l1_dirty_lo, c->l1_lo);
	s->l1_dirty_hi = MAX(s->l1_dirty_hi, c->l1_hi);
	s->rt_dirty_lo = MIN(s->rt_dirty_lo, c->rt_lo);
	s->rt_dirty_hi = MAX(s->rt_dirty_hi, c->rt_hi);
	s->rt_moved |= c->rt_moved;
	for (size_t i = 0; i < c->n_frees; i++)
		q_free_later(s, c->frees[i].off, c->frees[i].n, c->frees[i].discard);
}

/* ---- space that nobody refers to any more ---- */

struct punch {
	struct qcow2 *s;
	struct q_free f;
};

static void drop(struct qcow2 *s, const struct q_free *f)
{
	for (uint64_t i = 0; i < f->n; i++)
		q_ref_add(s, (f->off >> s->h.cluster_bits) + i, -1);
}

static void punched(struct disk_io *io, int r)
{
	struct punch *p = io->data;

	pthread_mutex_lock(&p->s->lock);
	drop(p->s, &p->f);
	p->s->discarding--;
	pthread_mutex_unlock(&p->s->lock);
	free(p);
}

/* Lock held.  Cluster runs that are really free after this are punched first: later they may be in use again. */
static void release(struct qcow2 *s, struct disk_queue *q)
{
	uint64_t now = disk_epoch(s->node.disk);
	size_t kept = 0;

	for (size_t i = 0; i < s->n_frees; i++) {
		struct q_free f = s->frees[i];
		bool last = f.discard && !s->no_discard;
		struct punch *p = NULL;
		struct disk_io *k = NULL;

		if (f.epoch + 2 > now || s->keep_freed) {
			s->frees[kept++] = f;
			continue;
		}
		for (uint64_t c = 0; last && c < f.n; c++)
			last = q_ref_get(s, (f.off >> s->h.cluster_bits) + c) == 1;
		if (last)
			p = malloc(sizeof(*p));
		if (p)
			k = io_child(q, DISK_DISCARD, 0, f.off, f.n << s->h.cluster_bits, NULL, 0,
				     punched, p);
		if (!k) {
			free(p);
			drop(s, &f);
			continue;
		}
		*p = (struct punch){ s, f };
		k->node = s->file;
		io_hold_gate(k);
		s->discarding++;
		io_resume_later(k, q_start_child); /* not under the lock */
	}
	s->n_frees = kept;
}

/* ---- the steps ---- */

static void end_io(struct disk_io *io)
{
	disk_io_done(io, io->result);
}

static void finish(struct commit *c, int r)
{
	struct qcow2 *s = c->s;
	struct list *l, next;

	list_init(&next);
	pthread_mutex_lock(&s->lock);
	if (r < 0)
		put_back(c);
	for (size_t i = 0; i < c->n_kept; i++)
		c->kept[i].t->pins--;
	for (size_t i = 0; r == 0 && i < c->n_frees; i++) {
		c->frees[i].epoch = disk_epoch(s->node.disk);
		if (PUSH(s->frees, s->n_frees, s->cap_frees, c->frees[i]) < 0)
			break; /* a leak */
	}
	disk_epoch_advance(s->node.disk);
	release(s, c->q);
	s->committing = false;
	list_splice_tail(&next, &s->commit_wait);
	pthread_mutex_unlock(&s->lock);
	if (r < 0)
		disk_emit(s->node.disk, DISK_WRITE_FAILED, -r);
	/* the next group, led by its first */
	l = list_pop(&next);
	if (l) {
		struct list *m;

		pthread_mutex_lock(&s->lock);
		while ((m = list_pop(&next)))
			list_add_tail(&s->commit_wait, m);
		pthread_mutex_unlock(&s->lock);
		io_resume_later(list_entry(l, struct disk_io, link), q_commit_go);
	}
	while ((l = list_pop(&c->ios))) {
		struct disk_io *io = list_entry(l, struct disk_io, link);

		io->result = r;
		if (io->q == c->q)
			disk_io_done(io, r);
		else
			io_resume_later(io, end_io);
	}
	free(c->frees);
	free(c->blocks);
	free(c->kept);
	free(c->pieces);
	buf_done(&c->bytes);
	free(c);
}

static void step_done(struct disk_io *io, int r)
{
	step(io->data, r);
}

/* Each phase: write its pieces, then flush; phases without pieces are skipped but for the first flush. */
static void step(struct commit *c, int r)
{
	struct qcow2 *s = c->s;
	struct disk_io *k;

	if (r < 0) {
		finish(c, r);
		return;
	}
	if (c->writing) {
		c->writing = false;
		k = io_child(c->q, DISK_FLUSH, 0, 0, 0, NULL, 0, step_done, c);
		if (!k) {
			finish(c, -ENOMEM);
			return;
		}
		io_fan_begin(k);
		io_fan(k, s->file, DISK_FLUSH, 0, 0, 0, 0);
		if (s->dfile != s->file)
			io_fan(k, s->dfile, DISK_FLUSH, 0, 0, 0, 0);
		io_fan_end(k, 0);
		return;
	}
	while (++c->phase <= 3) {
		bool any = c->phase == 1;

		for (size_t i = 0; i < c->n_pieces && !any; i++)
			any = c->pieces[i].phase == c->phase;
		if (any)
			break;
	}
	if (c->phase > 3) {
		finish(c, 0);
		return;
	}
	c->writing = true;
	k = io_child(c->q, DISK_FLUSH, 0, 0, 0, NULL, 0, step_done, c);
	if (!k) {
		finish(c, -ENOMEM);
		return;
	}
	io_fan_begin(k);
	for (size_t i = 0; i < c->n_pieces; i++)
		if (c->pieces[i].phase == c->phase)
			io_fan_buf(k, s->file, DISK_WRITE, c->pieces[i].off,
				   c->bytes.s + c->pieces[i].at, c->pieces[i].len);
	io_fan_end(k, 0);
}

void q_commit_go(struct disk_io *io)
{
	q_commit(to_qcow2(io->node), io);
}

void q_commit(struct qcow2 *s, struct disk_io *io)
{
	struct commit *c;
	int r = 0;

	if (s->node.readonly) {
		disk_io_done(io, 0);
		return;
	}
	c = calloc(1, sizeof(*c));
	if (!c) {
		disk_io_done(io, -ENOMEM);
		return;
	}
	pthread_mutex_lock(&s->lock);
	if (s->committing) {
		list_add_tail(&s->commit_wait, &io->link);
		pthread_mutex_unlock(&s->lock);
		free(c);
		return;
	}
	s->committing = true;
	c->s = s;
	c->q = io->q;
	list_init(&c->ios);
	list_add_tail(&c->ios, &io->link);
	list_splice_tail(&c->ios, &s->commit_wait);
	r = collect(c);
	pthread_mutex_unlock(&s->lock);
	step(c, r);
}

bool q_dirty(struct qcow2 *s)
{
	return s->n_dirty || s->refs_dirty || s->l1_dirty_lo < s->l1_dirty_hi ||
	       s->rt_dirty_lo < s->rt_dirty_hi || s->rt_moved || s->n_pending ||
	       (s->n_frees && !s->keep_freed) || s->discarding;
}

int q_sync(struct qcow2 *s)
{
	int r = 0;

	if (s->node.readonly)
		return 0;
	for (int i = 0; i < 64 && r == 0 && q_dirty(s);) {
		if (s->discarding) { /* its end makes refcounts dirty */
			node_wait(&s->node);
			continue;
		}
		r = node_sync_op(&s->node, DISK_FLUSH, 0, 0, 0);
		i++;
	}
	return r;
}
