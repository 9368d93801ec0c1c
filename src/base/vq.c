/* Virtqueues, device side: see vq.h.
 *
 * Invariants
 * (1) No field of guest memory is looked at twice where the second look could contradict a check: a descriptor
 *     is copied whole into `struct desc` and only the copy is used.
 * (2) inflight + uncommitted <= size, always: a driver that makes more available than the ring holds has broken it.
 *     So pools of `size` requests cannot run dry and popping until empty ends.
 * (3) The used index (split) or the first entry's flags (packed) are stored last, with release order, after all
 *     entries of the batch and all data.
 * (4) Each write to guest memory is marked in the dirty log. */
#include <string.h>
#include <linux/virtio_ring.h>
#include "base/checked.h"
#include "base/gmem.h"
#include "base/vq.h"

/* One descriptor, private and in host byte order. */
struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t next; /* packed: the buffer id, of the last descriptor */
};

#define PACKED_AVAIL (1U << VRING_PACKED_DESC_F_AVAIL)
#define PACKED_USED  (1U << VRING_PACKED_DESC_F_USED)

static inline uint16_t load16(const uint8_t *p)
{
	return le16toh(__atomic_load_n((const uint16_t *)(const void *)p, __ATOMIC_RELAXED));
}

static inline uint16_t load16_acquire(const uint8_t *p)
{
	return le16toh(__atomic_load_n((const uint16_t *)(const void *)p, __ATOMIC_ACQUIRE));
}

static inline void store16(uint8_t *p, uint16_t v)
{
	__atomic_store_n((uint16_t *)(void *)p, htole16(v), __ATOMIC_RELAXED);
}

static inline void store16_release(uint8_t *p, uint16_t v)
{
	__atomic_store_n((uint16_t *)(void *)p, htole16(v), __ATOMIC_RELEASE);
}

/* Full barrier: our index store against the load of the other side's event wish (2.7.7.2, 2.7.10). */
static inline void barrier_full(void)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static int broken(struct vq *q)
{
	q->broken = true;
	return -EBADMSG;
}

/* -- set-up --------------------------------------------------------------------------------------- */

int vq_init(struct vq *q, struct guest_mem *m, uint16_t max_size, struct err **e)
{
	if (!is_pow2(max_size) || max_size > VQ_MAX_SIZE)
		return err_set(e, EINVAL, "virtio.queue_size",
			       "queue size %u is not a power of two up to %d", max_size,
			       VQ_MAX_SIZE);
	*q = (struct vq){ .mem = m, .max_size = max_size };
	vq_reset(q);
	return 0;
}

void vq_done(struct vq *q)
{
	if (q)
		*q = (struct vq){ 0 };
}

void vq_reset(struct vq *q)
{
	q->size = q->max_size;
	q->enabled = q->broken = false;
	q->packed = q->event_idx = q->indirect = false;
	q->addr = (struct vq_addr){ 0 };
	q->desc = q->driver = q->device = NULL;
	q->avail_idx = q->used_idx = q->avail_seen = q->inflight = 0;
	q->avail_wrap = q->used_wrap = true;
	q->uncommitted = 0;
}

static int map_area(struct vq *q, const char *what, gpa_t gpa, size_t len, unsigned int align,
		    uint8_t **ret, struct err **e)
{
	if (!IS_ALIGNED(gpa, align))
		return err_set(e, EINVAL, "virtio.queue_align", "%s at %#llx is not aligned to %u",
			       what, (unsigned long long)gpa, align);
	*ret = gmem_ptr(q->mem, gpa, len);
	if (!*ret)
		return err_set(e, EFAULT, "virtio.queue_address", "%s at %#llx is not in RAM", what,
			       (unsigned long long)gpa);
	return 0;
}

/* Bytes of the three areas (2.7, 2.8); the event words of the split ring are there whether used or not. */
static size_t desc_len(const struct vq *q)
{
	return sizeof(struct vring_desc) * q->size;
}

static size_t driver_len(const struct vq *q)
{
	return q->packed ? sizeof(struct vring_packed_desc_event)
			 : sizeof(struct vring_avail) + 2U * q->size + (q->event_idx ? 2 : 0);
}

static size_t device_len(const struct vq *q)
{
	return q->packed ? sizeof(struct vring_packed_desc_event)
			 : sizeof(struct vring_used) + 8U * q->size + (q->event_idx ? 2 : 0);
}

int vq_enable(struct vq *q, uint16_t size, unsigned int flags, const struct vq_addr *a,
	      struct err **e)
{
	struct vq n = *q;
	int r;

	n.size = size;
	n.addr = *a;
	n.packed = flags & VQ_PACKED;
	n.event_idx = flags & VQ_EVENT_IDX;
	n.indirect = flags & VQ_INDIRECT;
	/* a packed ring may have any size (2.8.10.1) */
	if (size == 0 || size > q->max_size || (!n.packed && !is_pow2(size)))
		return err_set(e, EINVAL, "virtio.queue_size", "queue size %u (at most %u)", size,
			       q->max_size);
	if (n.packed && (n.avail_idx >= size || n.used_idx >= size))
		return err_set(e, EINVAL, "virtio.queue_index", "ring position outside the ring");
	r = map_area(&n, "descriptor area", a->desc, desc_len(&n), 16, &n.desc, e);
	if (r == 0)
		r = map_area(&n, "driver area", a->driver, driver_len(&n), n.packed ? 4 : 2,
			     &n.driver, e);
	if (r == 0)
		r = map_area(&n, "device area", a->device, device_len(&n), 4, &n.device, e);
	if (r < 0)
		return r;
	n.avail_seen = n.avail_idx;
	n.inflight = 0;
	n.uncommitted = 0;
	n.broken = false;
	n.enabled = true;
	*q = n;
	return 0;
}

void vq_sync_used(struct vq *q)
{
	if (q->enabled && !q->packed)
		q->used_idx = load16_acquire(q->device + offsetof(struct vring_used, idx));
}

void vq_seek(struct vq *q, uint16_t avail)
{
	q->avail_idx = q->avail_seen = avail;
}

static void dirty(struct vq *q, gpa_t base, const uint8_t *area, const uint8_t *p, size_t len)
{
	gmem_mark_dirty(q->mem, base + (gpa_t)(p - area), len);
}

/* -- chains --------------------------------------------------------------------------------------- */

/* The one look at descriptor i of a table, which need not be aligned (indirect tables have no alignment rule). */
static struct desc copy_desc(const struct vq *q, const uint8_t *table, unsigned int i)
{
	union {
		struct vring_desc split;
		struct vring_packed_desc packed;
	} d;

	memcpy(&d, table + i * sizeof(d), sizeof(d));
	__asm__ volatile("" : "+m"(d)); /* the copy is what is used below, not a second load */
	if (q->packed)
		return (struct desc){ le64toh(d.packed.addr), le32toh(d.packed.len),
				      le16toh(d.packed.flags), le16toh(d.packed.id) };
	return (struct desc){ le64toh(d.split.addr), le32toh(d.split.len), le16toh(d.split.flags),
			      le16toh(d.split.next) };
}

/* Append a buffer; a buffer over two pieces of RAM becomes two segments. */
static int add_segment(struct vq *q, struct vq_chain *c, const struct desc *d)
{
	bool in = d->flags & VRING_DESC_F_WRITE;
	uint64_t gpa = d->addr, left = d->len, end;

	if (!in && c->n_in > 0) /* 2.7.4.2: device-readable ones come first */
		return broken(q);
	if (add_of(gpa, left, &end))
		return broken(q);
	while (left > 0) {
		uint64_t n = left;
		void *p;

		if (c->n_out + c->n_in == VQ_MAX_SEG)
			return broken(q);
		p = gmem_ptr(q->mem, gpa, n);
		if (!p) {
			const struct gmem_region *r = gmem_find(q->mem, gpa);

			n = r ? r->gpa + r->size - gpa : 0;
			p = n < left ? gmem_ptr(q->mem, gpa, n) : NULL;
			if (!p)
				return broken(q);
		}
		c->iov[c->n_out + c->n_in] = (struct iovec){ p, n };
		if (in) {
			c->n_in++;
			c->in_len += n;
		} else {
			c->n_out++;
			c->out_len += n;
		}
		gpa += n;
		left -= n;
	}
	/* 2.7.5.2: a chain is at most 2^32 bytes; the used length could not tell more either */
	if (c->in_len + c->out_len > (uint64_t)UINT32_MAX + 1)
		return broken(q);
	return 0;
}

/* A table of descriptors elsewhere (2.7.5.3, 2.8.7).  split: linked by next; packed: in order. */
static int add_indirect(struct vq *q, struct vq_chain *c, const struct desc *ref)
{
	unsigned int n = ref->len / sizeof(struct vring_desc), i = 0, seen = 0;
	const uint8_t *table;

	/* 2.7.5.3.1: never together with NEXT */
	if (!q->indirect || (ref->flags & VRING_DESC_F_NEXT) || n == 0 ||
	    ref->len % sizeof(struct vring_desc) != 0)
		return broken(q);
	table = gmem_ptr(q->mem, ref->addr, ref->len);
	if (!table)
		return broken(q);
	for (;;) {
		struct desc d = copy_desc(q, table, i);

		if (d.flags & VRING_DESC_F_INDIRECT)
			return broken(q);
		/* the segment limit ends long tables, the count those of empty buffers in a circle */
		if (++seen > n || add_segment(q, c, &d) < 0)
			return broken(q);
		if (q->packed) { /* WRITE is the only flag with a meaning here (2.8.7) */
			if (++i == n)
				return 0;
			continue;
		}
		if (!(d.flags & VRING_DESC_F_NEXT))
			return 0;
		if (d.next >= n)
			return broken(q);
		i = d.next;
	}
}

static void chain_begin(struct vq_chain *c)
{
	c->n_out = c->n_in = 0;
	c->out_len = c->in_len = 0;
}

/* -- split ring ----------------------------------------------------------------------------------- */

static uint16_t split_avail_idx(const struct vq *q)
{
	return load16_acquire(q->driver + offsetof(struct vring_avail, idx));
}

/* The driver's used_event (2.7.7) and our avail_event (2.7.10) lie behind the rings. */
static uint8_t *split_used_event(const struct vq *q)
{
	return q->driver + sizeof(struct vring_avail) + 2U * q->size;
}

static uint8_t *split_avail_event(const struct vq *q)
{
	return q->device + sizeof(struct vring_used) + 8U * q->size;
}

static int split_chain(struct vq *q, uint16_t head, struct vq_chain *c)
{
	unsigned int seen = 0;
	uint16_t i = head;

	chain_begin(c);
	for (;;) {
		struct desc d;

		if (i >= q->size || ++seen > q->size)
			return broken(q);
		d = copy_desc(q, q->desc, i);
		if (d.flags & VRING_DESC_F_INDIRECT) {
			if (add_indirect(q, c, &d) < 0)
				return broken(q);
			break;
		}
		if (add_segment(q, c, &d) < 0)
			return broken(q);
		if (!(d.flags & VRING_DESC_F_NEXT))
			break;
		i = d.next;
	}
	c->head = head;
	c->slots = 1;
	return 0;
}

static int split_pop(struct vq *q, struct vq_chain *c)
{
	uint16_t mask = (uint16_t)(q->size - 1), head;

	if (q->avail_idx == q->avail_seen) {
		q->avail_seen = split_avail_idx(q);
		if (q->avail_idx == q->avail_seen)
			return 0;
		if ((uint16_t)(q->avail_seen - q->avail_idx) > q->size)
			return broken(q);
	}
	if (q->inflight + q->uncommitted >= q->size)
		return broken(q);
	head = load16(q->driver + sizeof(struct vring_avail) + 2U * (q->avail_idx & mask));
	if (split_chain(q, head, c) < 0)
		return -EBADMSG;
	q->avail_idx++;
	return 1;
}

static void split_push(struct vq *q, const struct vq_chain *c, uint32_t written)
{
	uint8_t *p = q->device + sizeof(struct vring_used) + 8U * (q->used_idx & (q->size - 1U));
	struct vring_used_elem u = { htole32(c->head), htole32(written) };

	memcpy(p, &u, sizeof(u));
	dirty(q, q->addr.device, q->device, p, sizeof(u));
	q->used_idx++;
	q->uncommitted++;
}

static void split_publish(struct vq *q)
{
	uint8_t *p = q->device + offsetof(struct vring_used, idx);

	store16_release(p, q->used_idx);
	dirty(q, q->addr.device, q->device, p, 2);
}

static bool split_wants_interrupt(struct vq *q, uint32_t n)
{
	if (!q->event_idx)
		return !(load16(q->driver + offsetof(struct vring_avail, flags)) &
			 VRING_AVAIL_F_NO_INTERRUPT);
	if (n >= q->size)
		return true;
	return vring_need_event(load16(split_used_event(q)), q->used_idx,
				(uint16_t)(q->used_idx - n));
}

static void split_set_kick(struct vq *q, bool on)
{
	uint8_t *p;
	uint16_t v;

	if (q->event_idx) {
		if (!on) /* avail_event simply stays behind: no kick until it is passed */
			return;
		p = split_avail_event(q);
		v = q->avail_idx;
	} else {
		p = q->device + offsetof(struct vring_used, flags);
		v = on ? 0 : VRING_USED_F_NO_NOTIFY;
	}
	store16(p, v);
	dirty(q, q->addr.device, q->device, p, 2);
}

/* -- packed ring ---------------------------------------------------------------------------------- */

static uint8_t *packed_slot(const struct vq *q, uint16_t i)
{
	return q->desc + (size_t)i * sizeof(struct vring_packed_desc);
}

static bool packed_is_avail(const struct vq *q, uint16_t flags)
{
	return !!(flags & PACKED_AVAIL) == q->avail_wrap &&
	       !!(flags & PACKED_USED) != q->avail_wrap;
}

static uint16_t packed_flags(const struct vq *q, uint16_t i)
{
	return load16_acquire(packed_slot(q, i) + offsetof(struct vring_packed_desc, flags));
}

static void packed_forward(const struct vq *q, uint16_t *i, bool *wrap, uint16_t n)
{
	uint32_t next = (uint32_t)*i + n;

	if (next >= q->size) {
		next -= q->size;
		*wrap = !*wrap;
	}
	*i = (uint16_t)next;
}

static int packed_pop(struct vq *q, struct vq_chain *c)
{
	uint16_t i = q->avail_idx, slots = 0, flags = packed_flags(q, i);
	bool wrap = q->avail_wrap;
	struct desc d;

	if (!packed_is_avail(q, flags))
		return 0;
	chain_begin(c);
	for (;;) {
		if (slots + q->inflight + q->uncommitted >=
		    q->size) /* (2), and a chain longer than the ring */
			return broken(q);
		d = copy_desc(q, q->desc, i);
		slots++;
		packed_forward(q, &i, &wrap, 1);
		if (d.flags & VRING_DESC_F_INDIRECT) {
			if (slots > 1 || add_indirect(q, c, &d) < 0)
				return broken(q);
			break;
		}
		if (add_segment(q, c, &d) < 0)
			return broken(q);
		if (!(d.flags & VRING_DESC_F_NEXT))
			break;
	}
	c->head = d.next; /* the last one's id names the buffer (2.8.6) */
	c->slots = slots;
	q->avail_idx = i;
	q->avail_wrap = wrap;
	return 1;
}

static void packed_push(struct vq *q, const struct vq_chain *c, uint32_t written)
{
	uint8_t *p = packed_slot(q, q->used_idx);
	uint16_t flags = (uint16_t)((q->used_wrap ? PACKED_AVAIL | PACKED_USED : 0) |
				    (written ? VRING_DESC_F_WRITE : 0));
	struct {
		uint32_t len;
		uint16_t id;
	} _packed_ u = { htole32(written), htole16(c->head) };

	memcpy(p + offsetof(struct vring_packed_desc, len), &u, sizeof(u));
	if (q->uncommitted == 0) {
		q->batch_slot = q->used_idx;
		q->batch_flags = flags;
	} else {
		store16_release(p + offsetof(struct vring_packed_desc, flags), flags);
	}
	dirty(q, q->addr.desc, q->desc, p, sizeof(struct vring_packed_desc));
	q->uncommitted += c->slots;
	packed_forward(q, &q->used_idx, &q->used_wrap, c->slots);
}

static void packed_publish(struct vq *q)
{
	store16_release(packed_slot(q, q->batch_slot) + offsetof(struct vring_packed_desc, flags),
			q->batch_flags);
}

static bool packed_wants_interrupt(struct vq *q, uint32_t n)
{
	uint16_t flags = load16(q->driver + offsetof(struct vring_packed_desc_event, flags)),
		 off_wrap;
	int off;

	if (flags == VRING_PACKED_EVENT_FLAG_DISABLE)
		return false;
	if (flags != VRING_PACKED_EVENT_FLAG_DESC || !q->event_idx || n >= q->size)
		return true;
	off_wrap = load16(q->driver + offsetof(struct vring_packed_desc_event, off_wrap));
	off = off_wrap & 0x7fff;
	if ((off_wrap >> VRING_PACKED_EVENT_F_WRAP_CTR) != q->used_wrap)
		off -= q->size;
	return vring_need_event((uint16_t)off, q->used_idx, (uint16_t)(q->used_idx - n));
}

static void packed_set_kick(struct vq *q, bool on)
{
	uint16_t flags = VRING_PACKED_EVENT_FLAG_DISABLE;

	if (on && q->event_idx) {
		store16(q->device + offsetof(struct vring_packed_desc_event, off_wrap),
			(uint16_t)(q->avail_idx | q->avail_wrap << VRING_PACKED_EVENT_F_WRAP_CTR));
		flags = VRING_PACKED_EVENT_FLAG_DESC;
	} else if (on) {
		flags = VRING_PACKED_EVENT_FLAG_ENABLE;
	}
	/* off_wrap before the flags that give it a meaning */
	store16_release(q->device + offsetof(struct vring_packed_desc_event, flags), flags);
	dirty(q, q->addr.device, q->device, q->device, sizeof(struct vring_packed_desc_event));
}

/* -- both ----------------------------------------------------------------------------------------- */

int vq_pop(struct vq *q, struct vq_chain *ret)
{
	int r;

	if (!q->enabled || q->broken)
		return 0;
	r = q->packed ? packed_pop(q, ret) : split_pop(q, ret);
	if (r == 1) {
		q->inflight = (uint16_t)(q->inflight + ret->slots);
		q->n_popped++;
	}
	return r;
}

int vq_repop(struct vq *q, uint16_t head, struct vq_chain *ret)
{
	int r;

	if (!q->enabled || q->broken || q->packed || q->inflight >= q->size)
		return -EBADMSG;
	r = split_chain(q, head, ret);
	if (r == 0) {
		q->inflight++;
		q->n_popped++;
	}
	return r;
}

void vq_unpop(struct vq *q, const struct vq_chain *c)
{
	q->inflight = (uint16_t)(q->inflight - c->slots);
	q->n_popped--;
	if (!q->packed) {
		q->avail_idx--;
		return;
	}
	if (q->avail_idx < c->slots) {
		q->avail_idx = (uint16_t)(q->avail_idx + q->size);
		q->avail_wrap = !q->avail_wrap;
	}
	q->avail_idx = (uint16_t)(q->avail_idx - c->slots);
}

static void mark_written(struct vq *q, const struct vq_chain *c, uint64_t written)
{
	for (unsigned int i = 0; i < c->n_in && written > 0; i++) {
		const struct iovec *v = &c->iov[c->n_out + i];
		size_t n = MIN(written, (uint64_t)v->iov_len);

		gmem_mark_dirty_host(q->mem, v->iov_base, n);
		written -= n;
	}
}

void vq_push(struct vq *q, const struct vq_chain *c, uint32_t written)
{
	q->inflight = (uint16_t)(q->inflight - c->slots);
	if (!q->enabled || q->broken)
		return;
	mark_written(q, c, written);
	if (q->packed)
		packed_push(q, c, written);
	else
		split_push(q, c, written);
	q->n_pushed++;
}

bool vq_commit(struct vq *q)
{
	bool wanted;
	uint32_t n;

	if (q->uncommitted == 0 || !q->enabled || q->broken)
		return false;
	if (q->packed)
		packed_publish(q);
	else
		split_publish(q);
	n = q->uncommitted;
	q->uncommitted = 0;
	barrier_full();
	wanted = q->packed ? packed_wants_interrupt(q, n) : split_wants_interrupt(q, n);
	if (wanted)
		q->n_notified++;
	else
		q->n_suppressed++;
	return wanted;
}

bool vq_empty(const struct vq *q)
{
	if (!q->enabled || q->broken)
		return true;
	if (q->packed)
		return !packed_is_avail(q, packed_flags(q, q->avail_idx));
	return split_avail_idx(q) == q->avail_idx;
}

bool vq_kick_on(struct vq *q)
{
	if (!q->enabled || q->broken)
		return false;
	if (q->packed)
		packed_set_kick(q, true);
	else
		split_set_kick(q, true);
	barrier_full();
	return !vq_empty(q);
}

void vq_kick_off(struct vq *q)
{
	if (!q->enabled || q->broken)
		return;
	if (q->packed)
		packed_set_kick(q, false);
	else
		split_set_kick(q, false);
}

/* -- data ----------------------------------------------------------------------------------------- */

/* Walk the segments from byte `off`, copying `len` bytes in the direction of `to_chain`. */
static int copy(const struct iovec *iov, unsigned int n, size_t off, uint8_t *buf, size_t len,
		bool to_chain)
{
	for (unsigned int i = 0; i < n && len > 0; i++) {
		uint8_t *p = iov[i].iov_base;
		size_t m;

		if (off >= iov[i].iov_len) {
			off -= iov[i].iov_len;
			continue;
		}
		m = MIN(iov[i].iov_len - off, len);
		if (to_chain)
			memcpy(p + off, buf, m);
		else
			memcpy(buf, p + off, m);
		buf += m;
		len -= m;
		off = 0;
	}
	return len == 0 ? 0 : -EBADMSG;
}

int vq_read(const struct vq_chain *c, size_t off, void *buf, size_t len)
{
	if (!range_inside(off, len, c->out_len))
		return -EBADMSG;
	return copy(c->iov, c->n_out, off, buf, len, false);
}

int vq_write(const struct vq_chain *c, size_t off, const void *buf, size_t len)
{
	if (!range_inside(off, len, c->in_len))
		return -EBADMSG;
	return copy(c->iov + c->n_out, c->n_in, off, (uint8_t *)(uintptr_t)buf, len, true);
}

int vq_slice(const struct iovec *iov, unsigned int n, uint64_t off, uint64_t len, struct iovec *ret,
	     unsigned int max)
{
	unsigned int k = 0;

	for (unsigned int i = 0; i < n && len > 0; i++) {
		uint64_t m;

		if (off >= iov[i].iov_len) {
			off -= iov[i].iov_len;
			continue;
		}
		if (k == max)
			return -EBADMSG;
		m = MIN((uint64_t)iov[i].iov_len - off, len);
		ret[k++] = (struct iovec){ (uint8_t *)iov[i].iov_base + off, m };
		len -= m;
		off = 0;
	}
	return len == 0 ? (int)k : -EBADMSG;
}
