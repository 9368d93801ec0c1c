/* See memory.h. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include "base/checked.h"
#include "vmm/memory.h"

#define HUGE_PAGE (2 * MIB)

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
	struct gmem_region *r = gmem_insert(m, 0);

	r->size = low;
	r->host = host;
	r->fd = fd;
	r->fd_offset = offset;
	if (size > low) {
		r = gmem_insert(m, GMEM_HIGH_BASE);
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
	r = gmem_insert(m, gpa);
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
