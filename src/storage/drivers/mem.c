/* Driver "mem": bytes in this process, for tests and throw-away disks; the fake that keeps the driver seam honest.
 * Threads: one mutex.  Pages of 64 KiB are made when first written and freed by discard. */
#include <string.h>
#include "base/checked.h"
#include "storage/disk_ops.h"
#include "storage/drivers/mem.h"

#define PAGE (64 * KIB)

struct mem {
	struct disk_node node;
	pthread_mutex_t lock;
	uint8_t **pages;
	size_t n_pages;
	struct mem_journal *journal;
};

_Thread_local struct mem_journal *mem_journal_next;

static struct mem *to_mem(struct disk_node *n)
{
	return container_of(n, struct mem, node);
}

static int mem_close(struct disk_node *n)
{
	struct mem *m = to_mem(n);

	for (size_t i = 0; i < m->n_pages; i++)
		free(m->pages[i]);
	free(m->pages);
	pthread_mutex_destroy(&m->lock);
	return 0;
}

static int mem_reach(struct mem *m, uint64_t end)
{
	size_t want = DIV_ROUND_UP(end, PAGE);
	void *p;

	if (want <= m->n_pages)
		return 0;
	want = MAX(want, m->n_pages * 2);
	p = reallocarray(m->pages, want, sizeof(*m->pages));
	if (!p)
		return -ENOMEM;
	m->pages = p;
	memset(m->pages + m->n_pages, 0, (want - m->n_pages) * sizeof(*m->pages));
	m->n_pages = want;
	return 0;
}

static int mem_move(struct mem *m, struct disk_io *io)
{
	uint64_t done = 0;

	for (; done < io->len;) {
		uint64_t at = io->off + done, in = at % PAGE;
		size_t part = MIN(PAGE - in, io->len - done), i = at / PAGE;

		if (io->op == DISK_WRITE && !m->pages[i]) {
			m->pages[i] = calloc(1, PAGE);
			if (!m->pages[i])
				return -ENOSPC;
		}
		if (io->op == DISK_WRITE)
			iov_to_buf(io->iov, io->niov, done, m->pages[i] + in, part);
		else if (io->op != DISK_READ && i < m->n_pages && m->pages[i] && part < PAGE)
			memset(m->pages[i] + in, 0, part);
		else if (io->op != DISK_READ && i < m->n_pages && m->pages[i])
			free(TAKE(m->pages[i]));
		else if (io->op == DISK_READ && i < m->n_pages && m->pages[i])
			iov_from_buf(io->iov, io->niov, done, m->pages[i] + in, part);
		else if (io->op == DISK_READ)
			iov_zero(io->iov, io->niov, done, part);
		done += part;
	}
	return 0;
}

static int mem_open(struct disk_node *n, const struct disk_cfg *cfg, struct err **e)
{
	struct mem *m = to_mem(n);

	pthread_mutex_init(&m->lock, NULL);
	if (cfg->mem_size > 64 * TIB)
		return err_set(e, EFBIG, "disk.limit", "a memory disk of more than 64 TiB");
	n->size = cfg->mem_size;
	m->journal = TAKE(mem_journal_next);
	if (m->journal && m->journal->initial) {
		struct iovec iov = { (void *)(uintptr_t)m->journal->initial,
				     m->journal->initial_len };
		struct disk_io io = { .op = DISK_WRITE, .len = iov.iov_len, .iov = &iov, .niov = 1 };

		if (mem_reach(m, io.len) < 0 || mem_move(m, &io) < 0)
			return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
		n->size = io.len;
	}
	n->grows = true;
	n->limits.can_discard = n->limits.can_zero = true;
	n->limits.discard_align = PAGE;
	return 0;
}

static int mem_note(struct mem_journal *j, const struct disk_io *io)
{
	struct mem_event ev = { .op = (enum disk_op)io->op, .off = io->off, .len = io->len };

	if (j->n == j->cap) {
		size_t cap = j->cap ? j->cap * 2 : 64;
		void *p = reallocarray(j->v, cap, sizeof(*j->v));

		if (!p)
			return -ENOMEM;
		j->v = p;
		j->cap = cap;
	}
	if (io->op == DISK_WRITE) {
		ev.data = malloc(io->len);
		if (!ev.data)
			return -ENOMEM;
		iov_to_buf(io->iov, io->niov, 0, ev.data, io->len);
	}
	j->v[j->n++] = ev;
	return 0;
}

static void mem_submit(struct disk_node *n, struct disk_io *io)
{
	struct mem *m = to_mem(n);
	uint64_t end;
	int r = 0;

	if (add_of(io->off, io->len, &end) || end > 64 * TIB) {
		disk_io_done(io, -ENOSPC);
		return;
	}
	pthread_mutex_lock(&m->lock);
	if (m->journal && io->op != DISK_READ && ++m->journal->seen >= m->journal->fail_from &&
	    m->journal->seen < m->journal->fail_from + m->journal->fail_n) {
		m->journal->failed++;
		r = -m->journal->fail_errno;
	}
	if (r == 0 && m->journal && m->journal->record && io->op != DISK_READ)
		r = mem_note(m->journal, io);
	if (r == 0 && io->op == DISK_WRITE)
		r = mem_reach(m, end);
	if (r == 0 && io->op != DISK_FLUSH)
		r = mem_move(m, io);
	if (r == 0 && (io->op == DISK_WRITE || io->op == DISK_WRITE_ZEROES) &&
	    end > atomic_load(&n->size))
		atomic_store(&n->size, end);
	pthread_mutex_unlock(&m->lock);
	disk_io_done(io, r);
}

static int mem_extents(struct disk_node *n, uint64_t off, uint64_t len, struct extent_list *ret)
{
	struct mem *m = to_mem(n);
	int r = 0;

	pthread_mutex_lock(&m->lock);
	for (uint64_t end = off + len; off < end && r == 0;) {
		uint64_t part = MIN(PAGE - off % PAGE, end - off);
		bool data = off / PAGE < m->n_pages && m->pages[off / PAGE];

		r = extent_add(ret,
			       &(struct extent){ .off = off,
						 .len = part,
						 .host = off,
						 .file = n->path,
						 .flags = (data ? EXTENT_DATA | EXTENT_ALLOCATED
								: EXTENT_ZERO) |
							  EXTENT_OFFSET });
		off += part;
	}
	pthread_mutex_unlock(&m->lock);
	return r;
}

static int mem_resize(struct disk_node *n, uint64_t size, enum disk_provision prov, bool shrink,
		      struct err **e)
{
	struct mem *m = to_mem(n);

	if (size > 64 * TIB)
		return err_set(e, EFBIG, "disk.limit", "a memory disk of more than 64 TiB");
	pthread_mutex_lock(&m->lock);
	for (size_t i = size / PAGE; i < m->n_pages; i++) {
		uint64_t in = i == size / PAGE ? size % PAGE : 0;

		if (in && m->pages[i])
			memset(m->pages[i] + in, 0, PAGE - in);
		else if (!in)
			free(TAKE(m->pages[i]));
	}
	atomic_store(&n->size, size);
	pthread_mutex_unlock(&m->lock);
	return 0;
}

static int mem_usage(struct disk_node *n, uint64_t *allocated, uint64_t *apparent)
{
	struct mem *m = to_mem(n);

	*allocated = 0;
	pthread_mutex_lock(&m->lock);
	for (size_t i = 0; i < m->n_pages; i++)
		*allocated += m->pages[i] ? PAGE : 0;
	pthread_mutex_unlock(&m->lock);
	*apparent = atomic_load(&n->size);
	return 0;
}

static int mem_claim(struct disk_node *n, struct err **e)
{
	return 0; /* nobody else can have it */
}

static int mem_seal(struct disk_node *n, struct err **e)
{
	n->readonly = true;
	return 0;
}

const struct disk_ops disk_driver_mem = {
	.name = "mem",
	.kind = DISK_DRIVER,
	.instance_size = sizeof(struct mem),
	.open = mem_open,
	.close = mem_close,
	.submit = mem_submit,
	.extents = mem_extents,
	.resize = mem_resize,
	.usage = mem_usage,
	.seal = mem_seal,
	.claim = mem_claim,
};
