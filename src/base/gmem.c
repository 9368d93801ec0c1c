/* See gmem.h. */
#include <string.h>
#include "base/gmem.h"

struct gmem_region *gmem_insert(struct guest_mem *m, gpa_t gpa)
{
	unsigned int i = m->n;

	if (m->n == GMEM_MAX_REGIONS)
		return NULL;
	while (i > 0 && m->region[i - 1].gpa > gpa) {
		m->region[i] = m->region[i - 1];
		i--;
	}
	m->region[i] = (struct gmem_region){ .gpa = gpa, .fd = -1, .slot = m->n };
	m->n++;
	return &m->region[i];
}

void gmem_remove(struct guest_mem *m, unsigned int i)
{
	m->n--;
	memmove(&m->region[i], &m->region[i + 1], (m->n - i) * sizeof(m->region[0]));
}

const struct gmem_region *gmem_find(const struct guest_mem *m, gpa_t gpa)
{
	for (unsigned int i = 0; i < m->n; i++) {
		const struct gmem_region *r = &m->region[i];

		if (gpa - r->gpa < r->size && gpa >= r->gpa)
			return r->readonly ? NULL : r;
	}
	return NULL;
}

void *gmem_ptr(const struct guest_mem *m, gpa_t gpa, uint64_t len)
{
	const struct gmem_region *r = gmem_find(m, gpa);

	if (!r || MAX(len, 1U) > r->size - (gpa - r->gpa))
		return NULL;
	return r->host + (gpa - r->gpa);
}

int gmem_read(const struct guest_mem *m, gpa_t gpa, void *dst, uint64_t len)
{
	const void *p = gmem_ptr(m, gpa, len);

	if (!p)
		return -EFAULT;
	memcpy(dst, p, len);
	return 0;
}

int gmem_write(struct guest_mem *m, gpa_t gpa, const void *src, uint64_t len)
{
	void *p = gmem_ptr(m, gpa, len);

	if (!p)
		return -EFAULT;
	memcpy(p, src, len);
	gmem_mark_dirty(m, gpa, len);
	return 0;
}

static void mark(const struct gmem_region *r, uint64_t off, uint64_t len)
{
	uint64_t first = off / GMEM_PAGE, last = (off + len - 1) / GMEM_PAGE;

	for (uint64_t page = first; page <= last; page++)
		atomic_fetch_or_explicit(&r->dirty[page / 64], 1ULL << page % 64,
					 memory_order_relaxed);
}

void gmem_mark_dirty(struct guest_mem *m, gpa_t gpa, uint64_t len)
{
	const struct gmem_region *r;

	if (likely(!atomic_load_explicit(&m->logging, memory_order_acquire)) || len == 0)
		return;
	r = gmem_find(m, gpa);
	if (r && len <= r->size - (gpa - r->gpa))
		mark(r, gpa - r->gpa, len);
}

void gmem_mark_dirty_host(struct guest_mem *m, const void *host, uint64_t len)
{
	const uint8_t *p = host;

	if (likely(!atomic_load_explicit(&m->logging, memory_order_acquire)) || len == 0)
		return;
	for (unsigned int i = 0; i < m->n; i++) {
		const struct gmem_region *r = &m->region[i];

		if (!r->readonly && p >= r->host && p < r->host + r->size) {
			mark(r, (uint64_t)(p - r->host),
			     MIN(len, r->size - (uint64_t)(p - r->host)));
			return;
		}
	}
}

static size_t log_words(const struct gmem_region *r)
{
	return DIV_ROUND_UP(r->size / GMEM_PAGE, 64);
}

int gmem_log_start(struct guest_mem *m)
{
	if (m->logging)
		return 0;
	for (unsigned int i = 0; i < m->n; i++) {
		struct gmem_region *r = &m->region[i];

		if (r->readonly)
			continue;
		r->dirty = calloc(log_words(r), sizeof(*r->dirty));
		if (!r->dirty) {
			gmem_log_stop(m);
			return -ENOMEM;
		}
	}
	atomic_store_explicit(&m->logging, true, memory_order_release);
	return 0;
}

void gmem_log_stop(struct guest_mem *m)
{
	atomic_store_explicit(&m->logging, false, memory_order_release);
	for (unsigned int i = 0; i < m->n; i++) {
		free((void *)m->region[i].dirty);
		m->region[i].dirty = NULL;
	}
}

void gmem_log_take(struct guest_mem *m, const struct gmem_region *r, uint64_t *bitmap)
{
	if (!r->dirty)
		return;
	for (size_t w = 0; w < log_words(r); w++)
		if (atomic_load_explicit(&r->dirty[w], memory_order_relaxed))
			bitmap[w] |=
				atomic_exchange_explicit(&r->dirty[w], 0, memory_order_relaxed);
}
