/* L1 and L2 tables in memory, and what their entries mean.  Called with the lock held. */
#include <string.h>
#include "base/checked.h"
#include "storage/formats/qcow2/qcow2.h"

static uint64_t l1_index(const struct qcow2 *s, uint64_t off)
{
	return off >> (s->h.cluster_bits + s->l2_bits);
}

static uint32_t l2_index(const struct qcow2 *s, uint64_t off)
{
	return (uint32_t)(off >> s->h.cluster_bits) & (s->l2_entries - 1);
}

void q_compr_range(const struct qcow2 *s, uint64_t desc, uint64_t *off, uint64_t *len)
{
	uint64_t sectors = (desc & (Q_COMPRESSED - 1)) >> s->csize_shift;

	*off = desc & ((1ULL << s->csize_shift) - 1) & 0x00ffffffffffffffULL;
	*len = (sectors + 1) * 512 - (*off & 511);
}

/* Drop clean tables that nobody asked for lately, a few at a time. */
static void sweep(struct qcow2 *s)
{
	for (int i = 0; i < 64 && s->n_loaded > Q_L2_CACHE >> s->h.cluster_bits; i++) {
		uint32_t at = s->sweep++ % s->h.l1_size;
		struct q_table *t = s->tables[at];

		if (!t || !t->data || t->dirty || t->fresh || t->loading || t->pins)
			continue;
		if (t->touched) {
			t->touched = false;
			continue;
		}
		free(t->data);
		free(t);
		s->tables[at] = NULL;
		s->n_loaded--;
	}
}

static int table_new(struct qcow2 *s, uint64_t i, struct q_table **ret)
{
	struct q_table *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	list_init(&t->waiters);
	t->off = s->l1[i] & Q_OFFSET;
	s->tables[i] = t;
	*ret = t;
	return 0;
}

static int l1_check(struct qcow2 *s, uint64_t i)
{
	uint64_t off = s->l1[i] & Q_OFFSET;

	if (off & (s->cluster_size - 1) ||
	    !range_inside(off, 1, MAX(atomic_load(&s->file->size), s->file_end)))
		return -EIO;
	return 0;
}

struct load {
	struct qcow2 *s;
	uint64_t i;
	struct iovec iov;
	void (*again)(struct disk_io *io);
};

static void loaded(struct disk_io *k, int r)
{
	struct load *l = k->data;
	struct qcow2 *s = l->s;
	struct q_table *t;
	struct list wake, *w;

	list_init(&wake);
	pthread_mutex_lock(&s->lock);
	t = s->tables[l->i];
	list_splice_tail(&wake, &t->waiters);
	t->loading = false;
	if (r == 0) {
		t->data = l->iov.iov_base;
		s->n_loaded++;
	} else {
		free(l->iov.iov_base);
		free(t);
		s->tables[l->i] = NULL;
	}
	pthread_mutex_unlock(&s->lock);
	free(l);
	while ((w = list_pop(&wake))) {
		struct disk_io *io = list_entry(w, struct disk_io, link);

		if (r < 0)
			io->result = r;
		io_resume_later(io, io->resume);
	}
}

int q_table_get(struct qcow2 *s, struct disk_io *io, uint64_t off, struct q_table **ret,
		void (*again)(struct disk_io *io))
{
	uint64_t i = l1_index(s, off);
	struct q_table *t;
	struct disk_io *k;
	struct load *l;
	int r;

	*ret = NULL;
	if (i >= s->h.l1_size)
		return 0;
	t = s->tables[i];
	if (t && t->data) {
		t->touched = true;
		*ret = t;
		return 0;
	}
	if (!t && !(s->l1[i] & Q_OFFSET))
		return 0;
	if (!t) {
		r = l1_check(s, i);
		if (r < 0)
			return r;
		sweep(s);
		r = table_new(s, i, &t);
		if (r < 0)
			return r;
	}
	io->resume = again;
	list_add_tail(&t->waiters, &io->link);
	if (t->loading)
		return -EINPROGRESS;
	l = calloc(1, sizeof(*l));
	if (l)
		l->iov = (struct iovec){ aligned_alloc(4096, MAX(s->cluster_size, 4096U)),
					 s->cluster_size };
	k = l && l->iov.iov_base
		    ? io_child(io->q, DISK_READ, 0, t->off, s->cluster_size, &l->iov, 1, loaded, l)
		    : NULL;
	if (!k) {
		if (l)
			free(l->iov.iov_base);
		free(l);
		list_del(&io->link);
		free(t);
		s->tables[i] = NULL;
		return -ENOMEM;
	}
	l->s = s;
	l->i = i;
	t->loading = true;
	/* A driver that ends requests at once would take the lock again: start it from the queue. */
	k->node = s->file;
	k->resume = NULL;
	io_resume_later(k, q_start_child);
	return -EINPROGRESS;
}

void q_start_child(struct disk_io *k)
{
	node_pass(k, k->node);
}

int q_table_load_sync(struct qcow2 *s, uint64_t i, struct q_table **ret)
{
	struct q_table *t = s->tables[i];
	int r;

	*ret = NULL;
	if (t || !(s->l1[i] & Q_OFFSET)) {
		*ret = t;
		return 0;
	}
	r = l1_check(s, i);
	if (r < 0)
		return r;
	sweep(s);
	r = table_new(s, i, &t);
	if (r < 0)
		return r;
	t->data = aligned_alloc(4096, MAX(s->cluster_size, 4096U));
	r = t->data ? node_pread(s->file, t->data, s->cluster_size, t->off) : -ENOMEM;
	if (r < 0) {
		free(t->data);
		free(t);
		s->tables[i] = NULL;
		return r;
	}
	s->n_loaded++;
	*ret = t;
	return 0;
}

int q_table_peek(struct qcow2 *s, uint64_t off, struct q_table *room, struct q_table **ret)
{
	uint64_t i = l1_index(s, off);

	*ret = NULL;
	while (i < s->h.l1_size) {
		struct q_table *t = s->tables[i];
		uint64_t at = s->l1[i] & Q_OFFSET;
		int r;

		if (t && t->data) {
			*ret = t;
			return 0;
		}
		if (!at)
			return 0;
		if (room->data &&
		    room->off == at) { /* as it is on the disk: nobody has changed it */
			*ret = room;
			return 0;
		}
		r = l1_check(s, i);
		if (r < 0)
			return r;
		pthread_mutex_unlock(&s->lock);
		if (!room->data)
			room->data = aligned_alloc(4096, MAX(s->cluster_size, 4096U));
		r = room->data ? node_pread(s->file, room->data, s->cluster_size, at) : -ENOMEM;
		pthread_mutex_lock(&s->lock);
		room->off = r < 0 ? 0 : at;
		if (r < 0)
			return r;
	}
	return 0;
}

void q_tables_drop(struct qcow2 *s)
{
	for (uint64_t i = 0; s->tables && i < s->h.l1_size; i++) {
		if (s->tables[i])
			free(s->tables[i]->data);
		free(s->tables[i]);
		s->tables[i] = NULL;
	}
	s->n_loaded = s->n_dirty = 0;
}

struct q_entry q_entry_get(const struct qcow2 *s, const struct q_table *t, uint64_t off)
{
	const uint64_t *p = t->data + (size_t)l2_index(s, off) * s->entry_words;

	return (struct q_entry){ be64toh(p[0]), s->ext_l2 ? be64toh(p[1]) : 0 };
}

void q_entry_set(struct qcow2 *s, struct q_table *t, uint64_t off, struct q_entry v)
{
	uint32_t i = l2_index(s, off);
	uint64_t *p = t->data + (size_t)i * s->entry_words;
	uint32_t piece = MAX(s->cluster_size / 64, 512U);

	p[0] = htobe64(v.desc);
	if (s->ext_l2)
		p[1] = htobe64(v.bitmap);
	if (!t->dirty)
		s->n_dirty++;
	t->dirty |= 1ULL << (i * s->entry_words * 8 / piece);
}

static uint64_t run(uint64_t bits, uint32_t from, uint32_t to)
{
	uint32_t n = from;

	while (n < to && (bits >> n & 1) == (bits >> from & 1))
		n++;
	return n;
}

int q_span(struct qcow2 *s, const struct q_table *t, uint64_t off, uint64_t max, struct q_span *ret)
{
	uint64_t in = off & (s->cluster_size - 1), host;
	struct q_entry v;

	ret->len = MIN(s->cluster_size - in, max);
	ret->shared = false;
	ret->host = 0;
	if (!t) {
		ret->kind = Q_UNALLOC;
		return 0;
	}
	v = q_entry_get(s, t, off);
	if (v.desc & Q_COMPRESSED) {
		if (s->data_file)
			return -EIO;
		ret->kind = Q_COMPR;
		ret->host = v.desc;
		return 0;
	}
	host = v.desc & Q_OFFSET;
	if (host & (s->cluster_size - 1) || (v.desc & Q_ZERO && (s->ext_l2 || s->h.version < 3)))
		return -EIO;
	ret->shared = !(v.desc & Q_COPIED);
	if (s->ext_l2) {
		uint32_t alloc = (uint32_t)v.bitmap, zero = (uint32_t)(v.bitmap >> 32),
			 from = (uint32_t)(in >> s->sub_bits), to;

		if (alloc & zero || (alloc && !host && !s->data_file))
			return -EIO;
		to = (uint32_t)MIN(run(alloc, from, 32), run(zero, from, 32));
		ret->len = MIN(((uint64_t)to << s->sub_bits) - in, max);
		ret->kind = zero >> from & 1 ? Q_ZEROES : alloc >> from & 1 ? Q_NORMAL : Q_UNALLOC;
	} else if (v.desc & Q_ZERO) {
		ret->kind = Q_ZEROES;
	} else if (host || (s->data_file && v.desc & Q_COPIED)) {
		ret->kind = Q_NORMAL;
	} else {
		ret->kind = Q_UNALLOC;
	}
	ret->host = host + in;
	if (ret->kind == Q_NORMAL && s->data_file && ret->host != off)
		return -EIO;
	return 0;
}

int q_table_own(struct qcow2 *s, uint64_t off, struct q_table **ret)
{
	uint64_t i = l1_index(s, off), at;
	struct q_table *t;
	int64_t r;

	if (i >= s->h.l1_size)
		return -EIO;
	t = s->tables[i];
	if (t && (t->fresh || s->l1[i] & Q_COPIED)) {
		*ret = t;
		return 0;
	}
	r = q_alloc(s, 1, false, &at);
	if (r < 0)
		return (int)r;
	if (!t) {
		int k = table_new(s, i, &t);

		if (k == 0) {
			t->data = aligned_alloc(4096, MAX(s->cluster_size, 4096U));
			if (!t->data) {
				free(t);
				s->tables[i] = NULL;
				k = -ENOMEM;
			}
		}
		if (k < 0) {
			q_free_later(s, at, 1, false);
			return k;
		}
		memset(t->data, 0, s->cluster_size);
		s->n_loaded++;
	} else {
		/* shared with a snapshot: this one becomes ours */
		q_free_later(s, s->l1[i] & Q_OFFSET, 1, false);
	}
	if (!t->dirty)
		s->n_dirty++;
	t->dirty = UINT64_MAX;
	t->fresh = true;
	t->off = at;
	s->l1[i] = at | Q_COPIED;
	s->l1_dirty_lo = MIN(s->l1_dirty_lo, i);
	s->l1_dirty_hi = MAX(s->l1_dirty_hi, i + 1);
	*ret = t;
	return 0;
}
