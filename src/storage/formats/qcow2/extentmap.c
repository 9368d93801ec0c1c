/* What the backing chain shows, flattened into one sorted array when the image is opened: a read below costs one
 * binary search, whatever the depth.  The files below do not change while they are open (they are locked), so the
 * array needs no lock.
 *
 * Built from the bottom up: each layer's own extents are laid over the array of the layers below it. */
#include <string.h>
#include "storage/disk.h"
#include "storage/formats/qcow2/qcow2.h"

#define MAX_EXTENTS (64U << 20) /* of 40 bytes; more fragments than that are refused */

void q_map_done(struct q_map *m)
{
	free(m->v);
	*m = (struct q_map){ 0 };
}

static int map_add(struct q_map *m, const struct q_extent *x)
{
	struct q_extent *l = m->n ? &m->v[m->n - 1] : NULL;

	if (x->len == 0)
		return 0;
	if (l && l->kind == x->kind && l->depth == x->depth && l->node == x->node &&
	    x->kind != Q_EXTENT_COMPR &&
	    (x->kind == Q_EXTENT_ZERO || l->host + l->len == x->host)) {
		l->len += x->len;
		return 0;
	}
	if (m->n == m->cap) {
		size_t cap = m->cap ? m->cap * 2 : 64;
		void *p = m->n >= MAX_EXTENTS ? NULL : reallocarray(m->v, cap, sizeof(*m->v));

		if (!p)
			return -ENOMEM;
		m->v = p;
		m->cap = cap;
	}
	m->v[m->n++] = *x;
	return 0;
}

/* Copy [off, end) of src, where dst leaves off. */
static int map_copy(struct q_map *dst, const struct q_map *src, uint64_t off, uint64_t end)
{
	const struct q_extent *x = off < end ? q_map_find(src, off) : NULL;
	int r = 0;

	for (; off < end && r == 0; x++) {
		struct q_extent y;

		if (!x || x == src->v + src->n) /* behind the end of what lies below */
			return map_add(dst, &(struct q_extent){ .off = off,
								.len = end - off,
								.kind = Q_EXTENT_ZERO });
		y = *x;
		y.len = MIN(x->off + x->len, end) - off;
		if (y.kind != Q_EXTENT_COMPR)
			y.host += off - x->off;
		if (y.depth > 0)
			y.depth++;
		y.off = off;
		r = map_add(dst, &y);
		off += y.len;
	}
	return r;
}

const struct q_extent *q_map_find(const struct q_map *m, uint64_t off)
{
	size_t lo = 0, hi = m->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (m->v[mid].off + m->v[mid].len <= off)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < m->n ? &m->v[lo] : NULL;
}

/* Lay the image s over `under`, for the first `size` bytes. */
static int lay(struct qcow2 *s, const struct q_map *under, uint64_t size, uint16_t depth,
	       struct q_table *room, struct q_map *out)
{
	uint64_t off = 0, per_table = (uint64_t)s->l2_entries << s->h.cluster_bits,
		 mine = atomic_load(&s->node.size);
	int r = 0;

	for (uint64_t end = MIN(size, mine); off < end && r == 0;) {
		uint64_t stop = MIN((off / per_table + 1) * per_table, end);
		struct q_table *t;

		r = q_table_peek(s, off, room, &t);
		if (r < 0)
			return r;
		while (off < stop && r == 0) {
			struct q_extent x = { .off = off, .depth = depth };
			struct q_span sp;

			r = q_span(s, t, off, stop - off, &sp);
			if (r < 0)
				return r;
			x.len = t ? sp.len : stop - off;
			x.host = sp.host;
			switch (sp.kind) {
			case Q_UNALLOC:
				r = map_copy(out, under, off, off + x.len);
				off += x.len;
				continue;
			case Q_ZEROES:
				x.kind = Q_EXTENT_ZERO;
				break;
			case Q_NORMAL:
				x.kind = Q_EXTENT_DATA;
				x.node = s->dfile;
				break;
			case Q_COMPR:
				x.kind = Q_EXTENT_COMPR;
				x.node = &s->node;
				break;
			}
			r = map_add(out, &x);
			off += x.len;
		}
	}
	if (r == 0 && off < size)
		r = map_add(out, &(struct q_extent){ .off = off,
						     .len = size - off,
						     .kind = Q_EXTENT_ZERO,
						     .depth = depth });
	return r;
}

static int layer_over(struct qcow2 *s, const struct q_map *under, uint64_t size, uint16_t depth,
		      struct q_map *out)
{
	struct q_table room = { 0 };
	int r;

	pthread_mutex_lock(&s->lock);
	r = lay(s, under, size, depth, &room, out);
	pthread_mutex_unlock(&s->lock);
	free(room.data);
	return r;
}

/* The map of b and what lies below it, for an image on top. */
static int map_of(struct disk_node *b, struct q_map *ret, struct err **e)
{
	struct q_map m = { 0 };
	int r;

	if (b->ops != &disk_format_qcow2) {
		r = map_add(&m, &(struct q_extent){ .len = atomic_load(&b->size),
						    .node = b->next ?: b,
						    .kind = Q_EXTENT_DATA,
						    .depth = 1 });
	} else {
		struct qcow2 *o = to_qcow2(b);

		r = layer_over(o, &o->below, atomic_load(&b->size), 1, &m);
	}
	if (r < 0) {
		q_map_done(&m);
		return err_set(e, -r, "disk.corrupt",
			       "the map of backing file '%s' cannot be read: %s", b->path,
			       strerror(-r));
	}
	*ret = m;
	return 0;
}

/* What a chain that has been mapped keeps: nothing, the array says it all. */
static void unburden(struct disk_node *b)
{
	if (b && b->ops == &disk_format_qcow2) {
		q_tables_drop(to_qcow2(b));
		q_map_done(&to_qcow2(b)->below);
	}
}

int q_below_build(struct qcow2 *s, struct err **e)
{
	struct disk_node *b = s->node.backing;
	int r;

	q_map_done(&s->below);
	s->below_size = 0;
	if (!b)
		return 0;
	s->below_size = atomic_load(&b->size);
	r = map_of(b, &s->below, e);
	unburden(b);
	return r;
}

/* ---- another chain for an image in use ---- */

struct chain {
	struct disk_node *backing;
	struct q_map map;
};

void q_chain_drop(void *chain)
{
	struct chain *c = chain;

	if (!c)
		return;
	q_map_done(&c->map);
	node_close(c->backing);
	free(c);
}

int q_chain_open(struct disk_node *n, void **ret, struct err **e)
{
	struct qcow2 *s = to_qcow2(n);
	struct chain *c = calloc(1, sizeof(*c));
	struct disk *d = n->disk;
	unsigned int depth = d->opening_depth;
	int r = 0;

	if (!c)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	if (s->h.backing && s->h.backing[0]) {
		d->opening_depth = n->chain_depth + 1;
		r = node_open_named(n, s->h.backing, s->h.backing_format, true, &c->backing, e);
		d->opening_depth = depth;
		if (r == 0)
			r = map_of(c->backing, &c->map, e);
		if (r < 0) {
			q_chain_drop(c);
			return err_wrap(e, r, "backing file '%s'", s->h.backing);
		}
	}
	*ret = c;
	return 0;
}

int q_chain_fold(struct disk_node *n, void **ret, struct err **e)
{
	struct qcow2 *s = to_qcow2(n);
	struct disk_node *b = n->backing;
	struct chain *c;
	int r;

	if (!s->below_direct || !b || (b->ops == &disk_format_qcow2 && to_qcow2(b)->below_direct))
		return q_chain_open(n, ret, e);
	c = calloc(1, sizeof(*c));
	if (!c)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	r = map_of(b, &c->map, e); /* it is sealed: its map stands still */
	if (r < 0) {
		free(c);
		return r;
	}
	c->backing = b;
	*ret = c;
	return 0;
}

struct disk_node *q_chain_swap(struct disk_node *n, void *chain)
{
	struct qcow2 *s = to_qcow2(n);
	struct chain *c = chain;
	struct disk_node *old = n->backing;

	pthread_mutex_lock(&s->lock);
	q_map_done(&s->below);
	n->backing = c->backing;
	s->below = c->map;
	s->below_size = c->backing ? atomic_load(&c->backing->size) : 0;
	s->has_below = c->backing;
	s->below_direct = false;
	pthread_mutex_unlock(&s->lock);
	unburden(c->backing);
	if (old == c->backing)
		old = NULL;
	free(c);
	return old;
}

void q_adopt(struct disk_node *n, struct disk_node *b)
{
	struct qcow2 *s = to_qcow2(n);

	n->backing = b;
	s->below_size = atomic_load(b ? &b->size : &n->size);
	s->has_below = s->below_direct = true;
}

static const char *path_at(struct disk_node *n, unsigned int depth)
{
	while (depth-- > 0 && n->backing)
		n = n->backing;
	return n->path;
}

static int below_extents(struct qcow2 *s, uint64_t off, uint64_t end, struct extent_list *ret)
{
	int r = 0;

	if (s->below_direct && off < s->below_size) {
		struct extent_list l = { 0 };
		uint64_t stop = MIN(end, s->below_size);

		r = node_extents(s->node.backing, off, stop - off, &l);
		for (size_t i = 0; i < l.n && r == 0; i++) {
			l.v[i].depth++;
			r = extent_add(ret, &l.v[i]);
		}
		extent_list_done(&l);
		off = stop;
	}
	while (off < end && r == 0) {
		const struct q_extent *q = q_map_find(&s->below, off);
		struct extent x = {
			.off = off, .len = end - off, .flags = EXTENT_ZERO, .file = s->node.path
		};

		if (q) {
			x.len = MIN(end, q->off + q->len) - off;
			x.depth = q->depth;
			x.file = path_at(&s->node, q->depth);
			if (q->kind == Q_EXTENT_DATA) {
				x.flags = EXTENT_DATA | EXTENT_OFFSET | EXTENT_ALLOCATED;
				x.host = q->host + (off - q->off);
			} else if (q->kind == Q_EXTENT_COMPR) {
				x.flags = EXTENT_DATA | EXTENT_COMPRESSED | EXTENT_ALLOCATED;
			} else {
				x.flags = EXTENT_ZERO | (q->depth ? EXTENT_ALLOCATED : 0U);
			}
		}
		r = extent_add(ret, &x);
		off += x.len;
	}
	return r;
}

int q_extents(struct disk_node *n, uint64_t off, uint64_t len, struct extent_list *ret)
{
	struct qcow2 *s = to_qcow2(n);
	uint64_t per_table = (uint64_t)s->l2_entries << s->h.cluster_bits, end = off + len;
	struct q_table room = { 0 };
	int r = 0;

	pthread_mutex_lock(&s->lock);
	while (off < end && r == 0) {
		uint64_t stop = MIN((off / per_table + 1) * per_table, end);
		struct q_table *t;
		struct q_span sp;

		r = q_table_peek(s, off, &room, &t);
		for (; r == 0 && off < stop;
		     off += sp.len) { /* the lock stays: one table, no I/O */
			struct extent x = { .off = off, .file = s->dfile->path };

			r = q_span(s, t, off, stop - off, &sp);
			if (r < 0)
				break;
			if (!t)
				sp.len = stop - off;
			x.len = sp.len;
			switch (sp.kind) {
			case Q_UNALLOC:
				x.len = 0;
				if (s->below_direct) { /* may wait for I/O */
					pthread_mutex_unlock(&s->lock);
					r = below_extents(s, off, off + sp.len, ret);
					pthread_mutex_lock(&s->lock);
					stop = off; /* the table may be gone */
				} else {
					r = below_extents(s, off, off + sp.len, ret);
				}
				break;
			case Q_ZEROES:
				x.flags = EXTENT_ZERO | EXTENT_ALLOCATED;
				break;
			case Q_NORMAL:
				x.flags = EXTENT_DATA | EXTENT_OFFSET | EXTENT_ALLOCATED;
				x.host = sp.host;
				break;
			case Q_COMPR:
				x.flags = EXTENT_DATA | EXTENT_COMPRESSED | EXTENT_ALLOCATED;
				break;
			}
			if (r == 0)
				r = extent_add(ret, &x);
		}
	}
	pthread_mutex_unlock(&s->lock);
	free(room.data);
	return r;
}
