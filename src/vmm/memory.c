/* See memory.h. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include "base/checked.h"
#include "vmm/memory.h"

#define HUGE_PAGE (2 * MIB)

static struct gmem_region *region_insert(struct guest_mem *m, gpa_t gpa)
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

static int check_size(uint64_t size, uint64_t unit, struct err **e)
{
	if (size == 0 || size % unit != 0)
		return err_set(e, EINVAL, "memory.size",
			       "guest memory must be a multiple of %u MiB",
			       (unsigned int)(unit / MIB));
	if (size > 64 * TIB)
		return err_set(e, EINVAL, "memory.size", "guest memory above 64 TiB");
	return 0;
}

/* One mapping for all of RAM, so that a page of RAM has one place in a snapshot file and in this process. */
static int add_ram(struct guest_mem *m, uint8_t *host, uint64_t size, int fd, uint64_t offset)
{
	uint64_t low = MIN(size, (uint64_t)GMEM_LOW_MAX);
	struct gmem_region *r = region_insert(m, 0);

	r->size = low;
	r->host = host;
	r->fd = fd;
	r->fd_offset = offset;
	if (size > low) {
		r = region_insert(m, GMEM_HIGH_BASE);
		r->size = size - low;
		r->host = host + low;
		r->fd = fd;
		r->fd_offset = offset + low;
	}
	return 0;
}

static int map_failed(struct err **e, uint64_t size)
{
	int num = errno;

	return err_sys(e, num, "map %llu MiB of guest memory", (unsigned long long)(size / MIB));
}

int gmem_init(struct guest_mem *m, uint64_t size, enum gmem_backing backing, struct err **e)
{
	_cleanup_(closep) int fd = -1;
	void *p;
	int r = check_size(size, backing == GMEM_HUGE ? HUGE_PAGE : MIB, e);

	memset(m, 0, sizeof(*m));
	if (r < 0)
		return r;
	if (backing == GMEM_ANON) {
		p = mmap(NULL, size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (p == MAP_FAILED)
			return map_failed(e, size);
		return add_ram(m, p, size, -1, 0);
	}
	fd = memfd_create("guest-ram", MFD_CLOEXEC | MFD_ALLOW_SEALING |
					       (backing == GMEM_HUGE ? MFD_HUGETLB : 0));
	if (fd < 0)
		return err_sys(e, errno, "make a file for guest memory");
	if (ftruncate(fd, (off_t)size) < 0)
		return err_sys(e, errno, "size guest memory to %llu MiB",
			       (unsigned long long)(size / MIB));
	/* A back end that got the fd must not be able to cut it under our feet. */
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0)
		return err_sys(e, errno, "seal guest memory");
	/* Huge pages are reserved here, so that too few of them is an error now and not a SIGBUS later. */
	p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		 MAP_SHARED | (backing == GMEM_HUGE ? 0 : MAP_NORESERVE), fd, 0);
	if (p == MAP_FAILED)
		return map_failed(e, size);
	return add_ram(m, p, size, TAKE_FD(fd), 0);
}

int gmem_init_private_file(struct guest_mem *m, uint64_t size, int fd, uint64_t offset,
			   struct err **e)
{
	struct stat st;
	void *p;
	int r = check_size(size, MIB, e);

	memset(m, 0, sizeof(*m));
	if (r < 0)
		return r;
	if (fstat(fd, &st) < 0)
		return err_sys(e, errno, "look at the memory file");
	if (!range_inside(offset, size, (uint64_t)st.st_size))
		return err_set(e, EINVAL, "snapshot.cut",
			       "the memory file has %lld bytes, %llu are needed",
			       (long long)st.st_size, (unsigned long long)(offset + size));
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, fd,
		 (off_t)offset);
	if (p == MAP_FAILED)
		return map_failed(e, size);
	return add_ram(m, p, size, -1, 0);
}

int gmem_add_rom(struct guest_mem *m, gpa_t gpa, uint64_t size, uint8_t **host, struct err **e)
{
	struct gmem_region *r;
	void *p;

	if (size == 0 || size % GMEM_PAGE || gpa % GMEM_PAGE)
		return err_set(e, EINVAL, "memory.rom", "a ROM must be made of whole pages");
	for (unsigned int i = 0; i < m->n; i++)
		if (range_overlaps(gpa, size, m->region[i].gpa, m->region[i].size))
			return err_set(e, EEXIST, "memory.rom", "a ROM overlaps other memory");
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return err_sys(e, errno, "map a ROM");
	r = region_insert(m, gpa);
	if (!r) {
		munmap(p, size);
		return err_set(e, ENOSPC, "memory.rom", "too many memory regions");
	}
	r->size = size;
	r->host = p;
	r->readonly = true;
	*host = p;
	return 0;
}

void gmem_done(struct guest_mem *m)
{
	int fd = -1;

	if (!m)
		return;
	gmem_log_stop(m);
	for (unsigned int i = 0; i < m->n; i++) {
		munmap(m->region[i].host, m->region[i].size);
		if (m->region[i].fd >= 0)
			fd = m->region[i].fd; /* all RAM regions share one */
	}
	safe_close(fd);
	m->n = 0;
}

uint64_t gmem_ram_size(const struct guest_mem *m)
{
	uint64_t sum = 0;

	for (unsigned int i = 0; i < m->n; i++)
		if (!m->region[i].readonly)
			sum += m->region[i].size;
	return sum;
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
