/* Guest requests.  A request walks over its range; where a table is missing or a neighbour's allocation is under way
 * it waits and goes on from io->cookie (bytes dealt with so far).  A write that needs space writes data first, with
 * what it must copy around it, and changes the entry when the data is there. */
#include <string.h>
#include "storage/formats/qcow2/qcow2.h"

#define MAX_RUN (4 * MIB) /* one allocation */

struct q_alloc {
	struct list link;    /* in s->allocs */
	struct list waiters; /* disk_io.link */
	struct qcow2 *s;
	struct disk_io *io;
	struct q_table *t;
	uint64_t guest, host, clusters; /* first cluster: guest and host offset; how many */
	uint64_t off, len, iov_off;	/* the guest's part of it; len 0: a copy of what is below */
	uint64_t lo, hi;		/* guest range that gets written: with what is copied */
	bool fresh;			/* host is new */
	bool subs;			/* only subclusters [lo, hi) become allocated */
	bool zero;			/* populate: it is all zeroes, nothing was written */
	uint8_t *head, *tail;
	struct iovec *iov;
	uint32_t niov;
};

static uint8_t zeroes[2 * MIB] __attribute__((aligned(4096)));

static void read_go(struct disk_io *io);
static void write_go(struct disk_io *io);
static void zero_go(struct disk_io *io);

/* ---- reads ---- */

struct q_inflate {
	struct disk_io *io; /* the request to serve */
	struct qcow2 *s;
	uint8_t *raw;
	struct iovec iov;
	uint64_t in, len, iov_off;
};

static void inflate_done(struct disk_io *k, int r)
{
	struct q_inflate *c = k->data;
	uint8_t *out = r == 0 ? malloc(c->s->cluster_size) : NULL;

	if (r == 0)
		r = out ? q_decompress(c->s, c->raw, c->iov.iov_len, out) : -ENOMEM;
	if (r == 0)
		iov_from_buf(c->io->iov, c->io->niov, c->iov_off, out + c->in, c->len);
	free(out);
	free(c->raw);
	io_fan_end(c->io, r);
	free(c);
}

static void read_compressed(struct disk_io *io, struct qcow2 *s, uint64_t desc, uint64_t in,
			    uint64_t len, uint64_t iov_off)
{
	struct q_inflate *c = calloc(1, sizeof(*c));
	struct disk_io *k = NULL;
	uint64_t off, n;

	q_compr_range(s, desc, &off, &n);
	n = MIN(n, (uint64_t)s->cluster_size * 2);
	if (c)
		c->raw = calloc(1, n);
	if (c && c->raw) {
		*c = (struct q_inflate){ io, s, c->raw, { c->raw, n }, in, len, iov_off };
		k = io_child(io->q, DISK_READ, 0, off, n, &c->iov, 1, inflate_done, c);
	}
	io->pending++;
	if (k) {
		node_pass(k, s->file);
		return;
	}
	if (c)
		free(c->raw);
	free(c);
	io_fan_end(io, -ENOMEM);
}

static void read_below(struct disk_io *io, struct qcow2 *s, uint64_t off, uint64_t len)
{
	if (unlikely(s->below_direct) && off < s->below_size) {
		uint64_t n = MIN(len, s->below_size - off);

		if (!s->node.backing) { /* see disk_ops.adopt */
			io->result = -EIO;
			return;
		}
		io_fan(io, s->node.backing, DISK_READ, 0, off, n, off - io->off);
		off += n;
		len -= n;
	}
	for (uint64_t end = off + len; off < end;) {
		const struct q_extent *x = q_map_find(&s->below, off);
		uint64_t n = x ? MIN(end, x->off + x->len) - off : end - off, at = off - io->off;

		if (!x || x->kind == Q_EXTENT_ZERO)
			iov_zero(io->iov, io->niov, at, n);
		else if (x->kind == Q_EXTENT_DATA)
			io_fan(io, x->node, DISK_READ, 0, x->host + (off - x->off), n, at);
		else
			read_compressed(io, to_qcow2(x->node), x->host,
					off & (to_qcow2(x->node)->cluster_size - 1), n, at);
		off += n;
	}
}

static void read_go(struct disk_io *io)
{
	struct qcow2 *s = to_qcow2(io->node);

	while (io->result == 0 && io->cookie < io->len) {
		uint64_t off = io->off + io->cookie, left = io->len - io->cookie;
		struct q_table *t;
		struct q_span sp = { 0 }, next;
		int r;

		pthread_mutex_lock(&s->lock);
		r = q_table_get(s, io, off, &t, read_go);
		if (r == -EINPROGRESS) {
			pthread_mutex_unlock(&s->lock);
			return;
		}
		if (r == 0)
			r = q_span(s, t, off, left, &sp);
		/* go on while it is the same kind and, for data, the next bytes of the file */
		while (r == 0 && t && sp.kind != Q_COMPR && sp.len < left &&
		       (off + sp.len) & (((uint64_t)s->l2_entries << s->h.cluster_bits) - 1)) {
			if (q_span(s, t, off + sp.len, left - sp.len, &next) < 0 ||
			    next.kind != sp.kind ||
			    (sp.kind == Q_NORMAL && next.host != sp.host + sp.len))
				break;
			sp.len += next.len;
		}
		pthread_mutex_unlock(&s->lock);
		if (r < 0) {
			io->result = r;
			break;
		}
		switch (sp.kind) {
		case Q_NORMAL:
			if (sp.len == io->len &&
			    io->pending == 1) { /* all of it: no child needed */
				io->off = sp.host;
				node_pass(io, s->dfile);
				return;
			}
			io_fan(io, s->dfile, DISK_READ, 0, sp.host, sp.len, io->cookie);
			break;
		case Q_ZEROES:
			iov_zero(io->iov, io->niov, io->cookie, sp.len);
			break;
		case Q_UNALLOC:
			read_below(io, s, off, sp.len);
			break;
		case Q_COMPR:
			read_compressed(io, s, sp.host, off & (s->cluster_size - 1), sp.len,
					io->cookie);
			break;
		}
		io->cookie += sp.len;
	}
	io_fan_end(io, 0);
}

/* ---- allocating writes ---- */

static bool below_is_zero(struct qcow2 *s, uint64_t off, uint64_t len)
{
	if (unlikely(s->below_direct) && off < s->below_size)
		return false; /* not known */
	for (uint64_t end = off + len; off < end;) {
		const struct q_extent *x = q_map_find(&s->below, off);

		if (!x)
			return true;
		if (x->kind != Q_EXTENT_ZERO)
			return false;
		off = x->off + x->len;
	}
	return true;
}

static bool reads_zero(struct qcow2 *s, struct q_table *t, uint64_t off, uint64_t len)
{
	for (uint64_t end = off + len; off < end;) {
		struct q_span sp;

		if (q_span(s, t, off, end - off, &sp) < 0 || sp.kind == Q_NORMAL ||
		    sp.kind == Q_COMPR)
			return false;
		if (sp.kind == Q_UNALLOC && !below_is_zero(s, off, sp.len))
			return false;
		off += sp.len;
	}
	return true;
}

static void commit_in_background(struct qcow2 *s, struct disk_queue *q);

static void alloc_end(struct q_alloc *a, int r)
{
	struct qcow2 *s = a->s;
	struct disk_io *io = a->io;
	uint64_t cs = s->cluster_size, threshold;
	struct list wake, *w;
	bool many, low;

	list_init(&wake);
	pthread_mutex_lock(&s->lock);
	for (uint64_t i = 0; r == 0 && i < a->clusters; i++) {
		uint64_t at = a->guest + i * cs;
		struct q_entry old = q_entry_get(s, a->t, at),
			       v = { (a->host + i * cs) | Q_COPIED, 0 };

		if (s->ext_l2 && a->subs) {
			uint64_t from = (MAX(a->lo, at) - at) >> s->sub_bits,
				 to = (MIN(a->hi, at + cs) - at) >> s->sub_bits;
			uint64_t bits = ((1ULL << to) - 1) & ~((1ULL << from) - 1);

			v.bitmap = (old.bitmap | bits) & ~(bits << 32);
			if (a->zero)
				v.bitmap = (old.bitmap | bits << 32) & ~bits;
			if (a->zero && a->fresh)
				v.desc = old.desc;
		} else if (a->zero) {
			v.desc = Q_ZERO;
		} else if (s->ext_l2) {
			v.bitmap = UINT32_MAX;
		}
		if (a->fresh && (old.desc & Q_COMPRESSED || old.desc & Q_OFFSET))
			q_entry_release(s, old.desc);
		q_entry_set(s, a->t, at, v);
	}
	if ((r < 0 || a->zero) && a->fresh && !s->data_file)
		q_free_later(s, a->host, a->clusters, true);
	a->t->pins--;
	list_del(&a->link);
	list_splice_tail(&wake, &a->waiters);
	many = s->n_dirty > Q_COMMIT_TABLES && !s->committing;
	threshold = disk_threshold(s->node.disk);
	low = !s->threshold_sent && threshold && s->file_end > threshold;
	s->threshold_sent |= low;
	pthread_mutex_unlock(&s->lock);
	while ((w = list_pop(&wake))) {
		struct disk_io *k = list_entry(w, struct disk_io, link);

		io_resume_later(k, k->resume);
	}
	if (many)
		commit_in_background(s, io->q);
	if (low)
		disk_emit(s->node.disk, DISK_SPACE_LOW, (int64_t)s->file_end);
	if (r < 0)
		disk_emit(s->node.disk, DISK_WRITE_FAILED, -r);
	free(a->head);
	free(a->tail);
	free(a->iov);
	free(a);
	io_fan_end(io, r);
}

static void alloc_written(struct disk_io *k, int r)
{
	alloc_end(k->data, r);
}

static void alloc_write(struct q_alloc *a)
{
	struct disk_io *k;
	uint32_t n = 0;

	a->iov = malloc((a->io->niov + 2) * sizeof(*a->iov));
	if (!a->iov) {
		alloc_end(a, -ENOMEM);
		return;
	}
	if (a->head)
		a->iov[n++] = (struct iovec){ a->head, a->off - a->lo };
	else
		a->lo = a->off;
	n += iov_slice(a->io->iov, a->io->niov, a->iov_off, a->len, a->iov + n);
	if (a->tail)
		a->iov[n++] = (struct iovec){ a->tail, a->hi - a->off - a->len };
	k = io_child(a->io->q, DISK_WRITE, 0, a->host + (a->lo - a->guest),
		     a->tail ? a->hi - a->lo : a->off + a->len - a->lo, a->iov, n, alloc_written,
		     a);
	if (!k) {
		alloc_end(a, -ENOMEM);
		return;
	}
	/* lo and hi go back to whole subclusters for the entry */
	a->lo &= ~((1ULL << a->s->sub_bits) - 1);
	node_pass(k, a->s->dfile);
}

static void alloc_copied(struct disk_io *k, int r)
{
	struct q_alloc *a = k->data;

	if (r >= 0 && a->len == 0 &&
	    (a->subs || (a->fresh && !a->s->ext_l2 && a->s->h.version >= 3)) &&
	    mem_is_zero(a->head, a->off - a->lo)) {
		a->zero = true;
		alloc_end(a, 0);
	} else if (r < 0) {
		alloc_end(a, r);
	} else {
		alloc_write(a);
	}
}

/* Lock held; gives it back.  Begins the allocation for the guest's bytes from off on; 0 or -errno (then nothing was begun;
 * a positive count of bytes else). */
static int64_t alloc_begin(struct qcow2 *s, struct disk_io *io, uint64_t off, uint64_t left)
{
	uint64_t cs = s->cluster_size, mask = cs - 1, guest = off & ~mask, end, granule, head, tail;
	struct q_alloc *a = calloc(1, sizeof(*a));
	bool zero_head, zero_tail, virgin = false;
	struct disk_io *k = NULL;
	struct q_entry old;
	int64_t n;
	int r;

	if (!a)
		return -ENOMEM;
	r = q_table_own(s, off, &a->t);
	if (r < 0) {
		free(a);
		return r;
	}
	list_init(&a->waiters);
	old = q_entry_get(s, a->t, off);
	a->s = s;
	a->io = io;
	a->guest = guest;
	if (s->data_file) {
		a->host = guest;
		a->clusters = 1;
		a->subs = s->ext_l2;
	} else if (!(old.desc & Q_COMPRESSED) && old.desc & Q_OFFSET && old.desc & Q_COPIED) {
		a->host = old.desc &
			  Q_OFFSET; /* reserved: zero flag, or other subclusters are in use */
		a->clusters = 1;
		a->subs = s->ext_l2;
	} else {
		uint64_t want = 1, max = MIN(left + (off - guest), MAX_RUN);

		/* neighbours that need a cluster too, and whose old contents do not matter at the seams */
		while (want * cs < max &&
		       ((guest >> s->h.cluster_bits) + want) & (s->l2_entries - 1)) {
			struct q_entry e = q_entry_get(s, a->t, guest + want * cs);
			struct q_alloc *o;
			bool busy = false;

			if (e.desc & Q_OFFSET && e.desc & Q_COPIED && !(e.desc & Q_COMPRESSED))
				break;
			list_for_each_entry(o, &s->allocs, link)
				busy |= guest + want * cs >= o->guest &&
					guest + want * cs < o->guest + o->clusters * cs;
			if (busy)
				break;
			want++;
		}
		a->subs = s->ext_l2;
		for (uint64_t i = 0; i < want; i++) {
			struct q_entry e = q_entry_get(s, a->t, guest + i * cs);

			if (e.desc & Q_COMPRESSED || (e.desc & Q_OFFSET && (uint32_t)e.bitmap)) {
				if (i > 0 && a->subs) {
					want = i;
					break;
				}
				a->subs = false; /* its data moves as a whole */
			} else if (!a->subs && s->ext_l2) {
				want = i;
				break;
			}
		}
		n = q_alloc(s, want, true, &a->host);
		if (n < 0) {
			free(a);
			return n;
		}
		a->clusters = (uint64_t)n;
		a->fresh = true;
		virgin = s->alloc_virgin && !s->dfile->readonly && s->file_grows;
	}
	end = MIN(guest + a->clusters * cs, off + left);
	granule = a->subs ? 1ULL << s->sub_bits : cs;
	a->off = off;
	a->len = end - off;
	a->iov_off = io->cookie;
	a->lo = off & ~(granule - 1);
	a->hi = ALIGN_UP(end, granule);
	head = off - a->lo;
	tail = a->hi - end;
	zero_head = head > 0 && reads_zero(s, a->t, a->lo, head);
	zero_tail = tail > 0 && reads_zero(s, a->t, end, tail);
	if (head > 0 && !(zero_head && virgin))
		a->head = calloc(1, head);
	if (tail > 0 && !(zero_tail && virgin))
		a->tail = calloc(1, tail);
	a->t->pins++;
	list_add_tail(&s->allocs, &a->link);
	n = (int64_t)a->len;
	io->pending++;
	pthread_mutex_unlock(&s->lock);
	if ((head > 0 && !a->head && !(zero_head && virgin)) ||
	    (tail > 0 && !a->tail && !(zero_tail && virgin))) {
		alloc_end(a, -ENOMEM);
	} else if ((a->head && !zero_head) || (a->tail && !zero_tail)) {
		k = io_child(io->q, DISK_READ, 0, 0, 0, NULL, 0, alloc_copied, a);
		if (!k) {
			alloc_end(a, -ENOMEM);
		} else {
			io_fan_begin(k);
			if (a->head && !zero_head)
				io_fan_buf(k, &s->node, DISK_READ, a->lo, a->head, head);
			if (a->tail && !zero_tail)
				io_fan_buf(k, &s->node, DISK_READ, end, a->tail, tail);
			io_fan_end(k, 0);
		}
	} else {
		alloc_write(a);
	}
	pthread_mutex_lock(&s->lock);
	return n;
}

/* Lock held.  True: io waits for somebody's allocation that touches the cluster of off. */
static bool wait_for_alloc(struct qcow2 *s, struct disk_io *io, uint64_t off,
			   void (*again)(struct disk_io *io))
{
	struct q_alloc *a;

	list_for_each_entry(a, &s->allocs, link) {
		if (off < a->guest || off >= a->guest + a->clusters * s->cluster_size)
			continue;
		io->resume = again;
		list_add_tail(&a->waiters, &io->link);
		return true;
	}
	return false;
}

static void write_go(struct disk_io *io)
{
	struct qcow2 *s = to_qcow2(io->node);

	pthread_mutex_lock(&s->lock);
	while (io->result == 0 && io->cookie < io->len) {
		uint64_t off = io->off + io->cookie, left = io->len - io->cookie;
		struct q_span sp, next;
		struct q_table *t;
		int64_t n;
		int r = q_table_get(s, io, off, &t, write_go);

		if (r == -EINPROGRESS ||
		    (r == 0 && !list_empty(&s->allocs) && wait_for_alloc(s, io, off, write_go))) {
			pthread_mutex_unlock(&s->lock);
			return;
		}
		if (r == 0)
			r = q_span(s, t, off, left, &sp);
		if (r < 0) {
			io->result = r;
			break;
		}
		if (sp.kind != Q_NORMAL || sp.shared) {
			n = alloc_begin(s, io, off, left);
			if (n < 0)
				io->result = (int)n;
			else
				io->cookie += (uint64_t)n;
			continue;
		}
		while (sp.len < left &&
		       (off + sp.len) & (((uint64_t)s->l2_entries << s->h.cluster_bits) - 1)) {
			if (q_span(s, t, off + sp.len, left - sp.len, &next) < 0 ||
			    next.kind != Q_NORMAL || next.shared || next.host != sp.host + sp.len)
				break;
			sp.len += next.len;
		}
		pthread_mutex_unlock(&s->lock);
		if (sp.len == io->len && io->pending == 1) {
			io->off = sp.host;
			node_pass(io, s->dfile);
			return;
		}
		io_fan(io, s->dfile, DISK_WRITE, 0, sp.host, sp.len, io->cookie);
		pthread_mutex_lock(&s->lock);
		io->cookie += sp.len;
	}
	pthread_mutex_unlock(&s->lock);
	io_fan_end(io, 0);
}

/* ---- zeroes and discard ---- */

/* One whole cluster (lock held); 0, -errno, or 1: real zeroes must be written. */
static int zero_cluster(struct qcow2 *s, struct disk_io *io, struct q_table *t, uint64_t off)
{
	bool below = !below_is_zero(s, off, s->cluster_size),
	     unmap = io->op == DISK_DISCARD || io->flags & DISK_MAY_UNMAP;
	struct q_entry old = t ? q_entry_get(s, t, off) : (struct q_entry){ 0 }, v = { 0 };
	int r;

	if (!old.desc && !old.bitmap && !below)
		return 0;
	if (s->h.version < 3 && below)
		return io->op == DISK_DISCARD ? 0 : 1;
	if (below || !unmap || s->data_file) {
		if (s->ext_l2)
			v.bitmap = (uint64_t)UINT32_MAX << 32;
		else if (s->h.version >= 3)
			v.desc = Q_ZERO;
		if (s->data_file)
			v.desc |= off | Q_COPIED;
		else if (!unmap && s->h.version >= 3 && !(old.desc & Q_COMPRESSED) &&
			 old.desc & Q_COPIED)
			v.desc |= (old.desc & Q_OFFSET) | Q_COPIED;
	}
	if (v.desc == old.desc && v.bitmap == old.bitmap)
		return 0;
	r = q_table_own(s, off, &t);
	if (r < 0)
		return r;
	if (old.desc & Q_COMPRESSED || (old.desc & Q_OFFSET) != (v.desc & Q_OFFSET))
		q_entry_release(s, old.desc);
	q_entry_set(s, t, off, v);
	return 0;
}

static void zero_go(struct disk_io *io)
{
	struct qcow2 *s = to_qcow2(io->node);
	uint64_t cs = s->cluster_size, span = (uint64_t)s->l2_entries << s->h.cluster_bits,
		 size = atomic_load(&s->node.size);

	pthread_mutex_lock(&s->lock);
	while (io->result == 0 && io->cookie < io->len) {
		uint64_t off = io->off + io->cookie, left = io->len - io->cookie,
			 n = MIN(cs - (off & (cs - 1)), left);
		bool whole = n == cs || ((off & (cs - 1)) == 0 && off + n == size);
		struct q_table *t;
		int r = q_table_get(s, io, off, &t, zero_go);

		if (r == -EINPROGRESS ||
		    (r == 0 && !list_empty(&s->allocs) && wait_for_alloc(s, io, off, zero_go))) {
			pthread_mutex_unlock(&s->lock);
			return;
		}
		if (r == 0 && !t && (!s->has_below || off >= s->below_size)) {
			io->cookie += MIN(left, (off / span + 1) * span -
							off); /* nothing in this table */
			continue;
		}
		if (r == 0 && whole) {
			r = zero_cluster(s, io, t, off);
			if (r == 0 && s->data_file) {
				pthread_mutex_unlock(&s->lock);
				io_fan(io, s->dfile, DISK_WRITE_ZEROES, io->flags, off, n, 0);
				pthread_mutex_lock(&s->lock);
			}
		} else if (r == 0) {
			r = io->op != DISK_DISCARD && !reads_zero(s, t, off, n);
		}
		if (r == 1) {
			pthread_mutex_unlock(&s->lock);
			io_fan_buf(io, &s->node, DISK_WRITE, off, zeroes, n);
			pthread_mutex_lock(&s->lock);
		} else if (r < 0) {
			io->result = r;
		}
		io->cookie += n;
	}
	pthread_mutex_unlock(&s->lock);
	io_fan_end(io, 0);
}

/* ---- */

static void background_done(struct disk_io *io, int r)
{
	/* what failed stays dirty; the next flush reports it */
}

static void commit_in_background(struct qcow2 *s, struct disk_queue *q)
{
	struct disk_io *k = io_child(q, DISK_FLUSH, 0, 0, 0, NULL, 0, background_done, NULL);

	if (!k)
		return;
	k->node = &s->node;
	io_hold_gate(k);
	q_commit(s, k);
}

/* ---- populate: what lies below moves into the image ---- */

/* Lock held; as alloc_begin(): [off, off+len) is one unallocated piece of one cluster and whole subclusters. */
static int populate_begin(struct qcow2 *s, struct disk_io *io, uint64_t off, uint64_t len)
{
	struct q_alloc *a = calloc(1, sizeof(*a));
	uint64_t guest = off & ~(uint64_t)(s->cluster_size - 1);
	struct disk_io *k = NULL;
	struct q_entry old;
	int64_t n;
	int r;

	if (!a)
		return -ENOMEM;
	r = q_table_own(s, off, &a->t);
	if (r < 0) {
		free(a);
		return r;
	}
	list_init(&a->waiters);
	old = q_entry_get(s, a->t, off);
	*a = (struct q_alloc){ .link = a->link,
			       .s = s,
			       .io = io,
			       .t = a->t,
			       .guest = guest,
			       .clusters = 1,
			       .subs = s->ext_l2,
			       .lo = off,
			       .hi = off + len,
			       .off = off + len };
	list_init(&a->waiters);
	if (s->data_file) {
		a->host = guest;
	} else if (old.desc & Q_OFFSET && old.desc & Q_COPIED) {
		a->host = old.desc & Q_OFFSET;
	} else if (old.desc & Q_OFFSET && (uint32_t)old.bitmap) {
		/* some subclusters are here, in a cluster that a snapshot shares: all of it moves */
		a->subs = false;
		a->lo = guest;
		a->hi = a->off = guest + s->cluster_size;
		n = q_alloc(s, 1, true, &a->host);
		a->fresh = true;
	} else {
		n = q_alloc(s, 1, true, &a->host);
		a->fresh = true;
	}
	if (a->fresh && n < 0) {
		free(a);
		return (int)n;
	}
	a->t->pins++;
	list_add_tail(&s->allocs, &a->link);
	io->pending++;
	pthread_mutex_unlock(&s->lock);
	a->head = calloc(1, a->hi - a->lo);
	if (a->head)
		k = io_child(io->q, DISK_READ, 0, 0, 0, NULL, 0, alloc_copied, a);
	if (k) {
		uint64_t size = atomic_load(&s->node.size);

		io_fan_begin(k);
		io_fan_buf(k, &s->node, DISK_READ, a->lo, a->head, MIN(a->hi, size) - a->lo);
		io_fan_end(k, 0);
	} else {
		alloc_end(a, -ENOMEM);
	}
	pthread_mutex_lock(&s->lock);
	return 0;
}

static void populate_go(struct disk_io *io)
{
	struct qcow2 *s = to_qcow2(io->node);
	uint64_t cs = s->cluster_size;

	pthread_mutex_lock(&s->lock);
	while (io->result == 0 && io->cookie < io->len) {
		uint64_t off = io->off + io->cookie, n;
		struct q_table *t;
		struct q_span sp;
		int r = q_table_get(s, io, off, &t, populate_go);

		if (r == -EINPROGRESS || (r == 0 && !list_empty(&s->allocs) &&
					  wait_for_alloc(s, io, off, populate_go))) {
			pthread_mutex_unlock(&s->lock);
			return;
		}
		n = cs - (off & (cs - 1)); /* up to the end of the cluster: io covers whole ones */
		if (r == 0)
			r = q_span(s, t, off, n, &sp);
		if (r == 0 && sp.kind == Q_UNALLOC) {
			struct q_entry old = t ? q_entry_get(s, t, off) : (struct q_entry){ 0 };
			bool zero = below_is_zero(s, off, sp.len);

			n = sp.len;
			if (off >= s->below_size) {
				r = 0; /* nothing is there to copy */
			} else if (zero && s->ext_l2) {
				uint32_t from = (uint32_t)((off & (cs - 1)) >> s->sub_bits),
					 to = from + (uint32_t)(n >> s->sub_bits);

				old.bitmap |= ((1ULL << to) - (1ULL << from)) << 32;
				r = q_table_own(s, off, &t);
				if (r == 0)
					q_entry_set(s, t, off, old);
			} else if (zero && s->h.version >= 3 && n == cs && !s->data_file) {
				r = q_table_own(s, off, &t);
				if (r == 0)
					q_entry_set(s, t, off, (struct q_entry){ Q_ZERO, 0 });
			} else {
				r = populate_begin(s, io, off, n);
			}
		} else if (r == 0) {
			n = sp.len;
		}
		if (r < 0)
			io->result = r;
		io->cookie += n;
	}
	pthread_mutex_unlock(&s->lock);
	io_fan_end(io, 0);
}

void q_populate(struct disk_node *n, struct disk_io *io)
{
	struct qcow2 *s = to_qcow2(n);
	uint64_t cs = s->cluster_size, end = ALIGN_UP(io->off + io->len, cs);

	if (s->corrupt || n->readonly) {
		disk_io_done(io, -EIO);
		return;
	}
	io->off &= ~(cs - 1);
	io->len = MIN(end, ALIGN_UP(atomic_load(&n->size), cs)) - io->off;
	io->cookie = 0;
	io_fan_begin(io);
	populate_go(io);
}

void q_submit(struct disk_node *n, struct disk_io *io)
{
	struct qcow2 *s = to_qcow2(n);

	if (io->op != DISK_READ && s->corrupt) {
		disk_io_done(io, -EIO);
		return;
	}
	io->cookie = 0;
	if (unlikely(s->n_bitmaps > 0) && io->op != DISK_READ && io->op != DISK_FLUSH)
		q_bitmaps_mark(s, io->off, io->len);
	switch ((enum disk_op)io->op) {
	case DISK_READ:
		io_fan_begin(io);
		read_go(io);
		return;
	case DISK_WRITE:
		io_fan_begin(io);
		if (n->detect_zeroes && iov_is_zero(io->iov, io->niov, 0, io->len))
			zero_go(io);
		else
			write_go(io);
		return;
	case DISK_DISCARD:
		if (s->no_discard) {
			disk_io_done(io, 0);
			return;
		}
		_fallthrough_;
	case DISK_WRITE_ZEROES:
		io_fan_begin(io);
		zero_go(io);
		return;
	case DISK_FLUSH:
		q_commit(s, io);
		return;
	case DISK_N_OPS:
		break;
	}
	disk_io_done(io, -EINVAL);
}
