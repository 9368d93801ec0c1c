/* The driver's side of virtqueues, for tests: see drv.h. */
#include "unit.h"
#include <string.h>
#include <linux/virtio_ring.h>
#include "drv.h"

gpa_t drv_alloc(struct drv_mem *m, size_t len, size_t align)
{
	gpa_t p = ALIGN_UP(m->next, (gpa_t)align);

	if (p + len > m->end)
		return 0;
	m->next = p + len;
	return p;
}

void *drv_at(struct drv_mem *m, gpa_t gpa, size_t len)
{
	void *p = gmem_ptr(m->mem, gpa, len);

	assert_non_null(p);
	return p;
}

static struct vring_desc *desc(struct drv_queue *q, unsigned int i)
{
	return drv_at(q->m, q->addr.desc + i * 16, 16);
}

static struct vring_packed_desc *pdesc(struct drv_queue *q, unsigned int i)
{
	return drv_at(q->m, q->addr.desc + i * 16, 16);
}

static struct vring_avail *avail(struct drv_queue *q)
{
	return drv_at(q->m, q->addr.driver, 6 + 2U * q->size);
}

static struct vring_used *used(struct drv_queue *q)
{
	return drv_at(q->m, q->addr.device, 6 + 8U * q->size);
}

static struct vring_packed_desc_event *event(struct drv_queue *q, bool driver)
{
	return drv_at(q->m, driver ? q->addr.driver : q->addr.device, 4);
}

void drv_queue_init(struct drv_queue *q, struct drv_mem *m, uint16_t size, unsigned int flags)
{
	*q = (struct drv_queue){ .m = m, .size = size, .flags = flags };
	assert_true(size <= DRV_MAX);
	q->addr.desc = drv_alloc(m, 16U * size, 16);
	q->addr.driver = drv_alloc(m, 6 + 2U * size, 4);
	q->addr.device = drv_alloc(m, 6 + 8U * size, 4);
	assert_true(q->addr.device != 0);
	memset(drv_at(m, q->addr.desc, 16U * size), 0, 16U * size);
	memset(drv_at(m, q->addr.driver, 6 + 2U * size), 0, 6 + 2U * size);
	memset(drv_at(m, q->addr.device, 6 + 8U * size), 0, 6 + 8U * size);
	q->n_free = size;
	q->avail_wrap = q->used_wrap = true;
	for (uint16_t i = 0; i < size; i++) {
		if (!(flags & VQ_PACKED))
			desc(q, i)->next = (uint16_t)(i + 1);
		q->ids[i] = (uint16_t)(size - 1 - i);
	}
	q->n_ids = size;
}

static void fill(const struct drv_buf *out, unsigned int n_out, const struct drv_buf *in,
		 unsigned int i, uint64_t *addr, uint32_t *len, uint16_t *flags)
{
	const struct drv_buf *b = i < n_out ? &out[i] : &in[i - n_out];

	*addr = b->gpa;
	*len = b->len;
	*flags = i < n_out ? 0 : VRING_DESC_F_WRITE;
}

/* A table for n descriptors; freed never: the allocator only goes up. */
static gpa_t make_table(struct drv_queue *q, const struct drv_buf *out, unsigned int n_out,
			const struct drv_buf *in, unsigned int n_in)
{
	unsigned int n = n_out + n_in;
	gpa_t table = drv_alloc(q->m, 16U * n, 16);

	if (!table)
		return 0;
	for (unsigned int i = 0; i < n; i++) {
		uint64_t addr;
		uint32_t len;
		uint16_t flags;

		fill(out, n_out, in, i, &addr, &len, &flags);
		if (q->flags & VQ_PACKED) {
			struct vring_packed_desc d = { addr, len, 0, flags };

			memcpy(drv_at(q->m, table + i * 16, 16), &d, 16);
		} else {
			struct vring_desc d = { addr, len, flags, 0 };

			if (i + 1 < n) {
				d.flags |= VRING_DESC_F_NEXT;
				d.next = (uint16_t)(i + 1);
			}
			memcpy(drv_at(q->m, table + i * 16, 16), &d, 16);
		}
	}
	return table;
}

static bool add_split(struct drv_queue *q, const struct drv_buf *out, unsigned int n_out,
		      const struct drv_buf *in, unsigned int n, gpa_t table, void *cookie)
{
	uint16_t head = q->free_head, i = head;
	unsigned int slots = table ? 1 : n;

	if (slots > q->n_free)
		return false;
	for (unsigned int k = 0; k < slots; k++) {
		struct vring_desc *d = desc(q, i);
		uint64_t addr;
		uint32_t len;
		uint16_t flags;

		if (table) {
			addr = table;
			len = 16 * n;
			flags = VRING_DESC_F_INDIRECT;
		} else {
			fill(out, n_out, in, k, &addr, &len, &flags);
		}
		d->addr = addr;
		d->len = len;
		d->flags = (uint16_t)(flags | (k + 1 < slots ? VRING_DESC_F_NEXT : 0));
		i = d->next;
	}

	q->free_head = i;
	q->n_free = (uint16_t)(q->n_free - slots);
	q->chain_len[head] = (uint16_t)slots;
	q->cookie[head] = cookie;
	avail(q)->ring[q->avail_idx % q->size] = head;
	q->avail_idx++;
	__atomic_store_n(&avail(q)->idx, q->avail_idx, __ATOMIC_RELEASE);
	return true;
}

static bool add_packed(struct drv_queue *q, const struct drv_buf *out, unsigned int n_out,
		       const struct drv_buf *in, unsigned int n, gpa_t table, void *cookie)
{
	unsigned int slots = table ? 1 : n;
	uint16_t head = q->slot, head_flags = 0, id;

	if (slots > q->n_free || q->n_ids == 0)
		return false;
	id = q->ids[--q->n_ids];
	for (unsigned int k = 0; k < slots; k++) {
		struct vring_packed_desc *d = pdesc(q, q->slot);
		uint64_t addr;
		uint32_t len;
		uint16_t flags;

		if (table) {
			addr = table;
			len = 16 * n;
			flags = VRING_DESC_F_INDIRECT;
		} else {
			fill(out, n_out, in, k, &addr, &len, &flags);
		}
		flags |= (uint16_t)(k + 1 < slots ? VRING_DESC_F_NEXT : 0);
		flags |= (uint16_t)(q->avail_wrap ? 1U << VRING_PACKED_DESC_F_AVAIL
						  : 1U << VRING_PACKED_DESC_F_USED);
		d->addr = addr;
		d->len = len;
		d->id = id;
		if (k == 0)
			head_flags = flags;
		else
			d->flags = flags;
		if (++q->slot == q->size) {
			q->slot = 0;
			q->avail_wrap = !q->avail_wrap;
		}
	}
	q->n_free = (uint16_t)(q->n_free - slots);
	q->chain_len[id] = (uint16_t)slots;
	q->cookie[id] = cookie;
	q->avail_idx = (uint16_t)(q->avail_idx + slots);
	__atomic_store_n(&pdesc(q, head)->flags, head_flags, __ATOMIC_RELEASE);
	return true;
}

bool drv_add(struct drv_queue *q, const struct drv_buf *out, unsigned int n_out,
	     const struct drv_buf *in, unsigned int n_in, bool indirect, void *cookie)
{
	gpa_t table = 0;

	if (indirect && !(table = make_table(q, out, n_out, in, n_in)))
		return false;
	return q->flags & VQ_PACKED ? add_packed(q, out, n_out, in, n_out + n_in, table, cookie)
				    : add_split(q, out, n_out, in, n_out + n_in, table, cookie);
}

bool drv_wants_kick(struct drv_queue *q)
{
	uint16_t old = q->kick_old, new = q->avail_idx;

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	q->kick_old = new;
	if (old == new)
		return false;
	if (q->flags & VQ_PACKED) {
		struct vring_packed_desc_event *e = event(q, false);
		int off;

		if (e->flags != VRING_PACKED_EVENT_FLAG_DESC)
			return e->flags == VRING_PACKED_EVENT_FLAG_ENABLE;
		off = e->off_wrap & 0x7fff;
		if (e->off_wrap >> 15 != q->avail_wrap)
			off -= q->size;
		return vring_need_event((uint16_t)off, q->slot,
					(uint16_t)(q->slot - (uint16_t)(new - old)));
	}
	if (q->flags & VQ_EVENT_IDX)
		return vring_need_event(*(uint16_t *)(void *)&used(q)->ring[q->size], new, old);
	return !(used(q)->flags & VRING_USED_F_NO_NOTIFY);
}

void *drv_used(struct drv_queue *q, uint32_t *len)
{
	uint16_t id, slots;

	if (q->flags & VQ_PACKED) {
		struct vring_packed_desc *d = pdesc(q, q->used_slot);
		uint16_t f = __atomic_load_n(&d->flags, __ATOMIC_ACQUIRE);
		bool a = f >> VRING_PACKED_DESC_F_AVAIL & 1, u = f >> VRING_PACKED_DESC_F_USED & 1;

		if (a != u || u != q->used_wrap)
			return NULL;
		id = d->id;
		*len = d->len;
		assert_true(id < q->size);
		slots = q->chain_len[id];
		q->ids[q->n_ids++] = id;
		q->used_slot = (uint16_t)(q->used_slot + slots);
		if (q->used_slot >= q->size) {
			q->used_slot = (uint16_t)(q->used_slot - q->size);
			q->used_wrap = !q->used_wrap;
		}
	} else {
		struct vring_used_elem *e = &used(q)->ring[q->last_used % q->size];
		uint16_t i;

		if (__atomic_load_n(&used(q)->idx, __ATOMIC_ACQUIRE) == q->last_used)
			return NULL;
		id = (uint16_t)e->id;
		*len = e->len;
		assert_true(id < q->size);
		slots = q->chain_len[id];
		for (i = id; desc(q, i)->flags & VRING_DESC_F_NEXT;)
			i = desc(q, i)->next;
		desc(q, i)->next = q->free_head;
		q->free_head = id;
		q->last_used++;
	}
	assert_true(slots > 0); /* it was outstanding */
	q->chain_len[id] = 0;
	q->n_free = (uint16_t)(q->n_free + slots);
	return q->cookie[id];
}

void drv_interrupt(struct drv_queue *q, bool on)
{
	if (q->flags & VQ_PACKED) {
		struct vring_packed_desc_event *e = event(q, true);

		if (!on) {
			e->flags = VRING_PACKED_EVENT_FLAG_DISABLE;
		} else if (q->flags & VQ_EVENT_IDX) {
			e->off_wrap = (uint16_t)(q->used_slot | q->used_wrap << 15);
			e->flags = VRING_PACKED_EVENT_FLAG_DESC;
		} else {
			e->flags = VRING_PACKED_EVENT_FLAG_ENABLE;
		}
		return;
	}
	if (q->flags & VQ_EVENT_IDX) {
		/* off: half the counter away */
		avail(q)->ring[q->size] = (uint16_t)(q->last_used + (on ? 0 : 0x8000));
		return;
	}
	avail(q)->flags = on ? 0 : VRING_AVAIL_F_NO_INTERRUPT;
}
