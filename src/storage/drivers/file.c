/* Driver "file": a regular file or a block device through sys/aio.
 * Between: formats above (offsets in the file); the kernel below.
 * Threads: submit() on any queue's thread; the file keeps no state but its size.
 *
 * Reads past the end give zeroes; writes past it make the file longer.  Short transfers are continued until they
 * make no progress.  Zeroes: FALLOC_FL_ZERO_RANGE, else a hole and a new reservation, else written zeroes; what the
 * file system refused once is not asked again. */
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include "base/checked.h"
#include "storage/disk_ops.h"
#include "storage/lock.h"
#include "sys/aio.h"

#define ZERO_CHUNK (1 * MIB)

struct file {
	struct disk_node node;
	int fd;
	bool own_fd, block, direct, locked;
	atomic_bool no_zero_range, no_punch;
	bool no_discard, no_flush;
};

/* Lives in disk_io.room. */
struct file_req {
	struct aio_op op;
	uint64_t moved;	   /* bytes so far */
	struct iovec *iov; /* rest of a short transfer, or NULL */
	uint8_t *bounce;   /* O_DIRECT, or NULL */
};
_Static_assert(sizeof(struct file_req) <= sizeof(((struct disk_io *)0)->room), "room is too small");

static uint8_t zero_chunk[ZERO_CHUNK] __attribute__((aligned(4096)));

static struct file *to_file(struct disk_node *n)
{
	return container_of(n, struct file, node);
}

static struct file_req *to_req(struct disk_io *io)
{
	return (struct file_req *)io->room;
}

static int file_open_fd(struct disk_node *n, const struct disk_cfg *cfg, struct err **e)
{
	struct file *f = to_file(n);
	int flags = (cfg->readonly ? O_RDONLY : O_RDWR) | (cfg->direct ? O_DIRECT : 0) | O_CLOEXEC;

	if (cfg->use_fd) {
		f->fd = cfg->fd;
		return 0;
	}
	if (!cfg->path)
		return err_set(e, EINVAL, "disk.path", "no path given");
	f->fd = cfg->open_file ? cfg->open_file(cfg->open_arg, cfg->path, flags)
			       : open(cfg->path, flags);
	if (f->fd < 0)
		return err_sys(e, cfg->open_file ? -f->fd : errno, "open");
	f->own_fd = true;
	return 0;
}

static int file_open(struct disk_node *n, const struct disk_cfg *cfg, struct err **e)
{
	struct file *f = to_file(n);
	unsigned int lbs = 512;
	struct stat st;
	int r;

	f->fd = -1;
	r = file_open_fd(n, cfg, e);
	if (r < 0)
		return r;
	if (fstat(f->fd, &st) < 0)
		return err_sys(e, errno, "stat");
	if (S_ISBLK(st.st_mode)) {
		uint64_t size;

		f->block = true;
		if (ioctl(f->fd, BLKGETSIZE64, &size) < 0 || ioctl(f->fd, BLKSSZGET, &lbs) < 0)
			return err_sys(e, errno, "read the device's size");
		n->size = size;
	} else if (S_ISREG(st.st_mode)) {
		n->size = (uint64_t)st.st_size;
		n->grows = true;
	} else {
		return err_set(e, EINVAL, "disk.path", "neither a regular file nor a block device");
	}
	f->direct = cfg->direct;
	f->no_flush = cfg->sync == DISK_SYNC_NONE;
	f->no_discard = cfg->discard_off;
	n->limits.block = f->direct ? MAX(lbs, 512U) : 512;
	if (f->direct && !f->block)
		n->limits.block = 4096; /* no file system of ours needs more */
	n->limits.can_discard = !f->no_discard;
	n->limits.can_zero = true;
	if (cfg->no_lock || cfg->share_own)
		return 0;
	r = image_lock(f->fd, cfg->path ?: "fd", cfg->readonly ? IMAGE_LOCK_READ : IMAGE_LOCK_WRITE,
		       e);
	f->locked = r == 0;
	return r;
}

static int file_close(struct disk_node *n)
{
	struct file *f = to_file(n);

	/* explicitly: rings may hold the open file a little longer */
	if (f->fd >= 0 && f->locked)
		image_lock(f->fd, n->path, IMAGE_UNLOCKED, NULL);
	if (f->own_fd)
		f->fd = safe_close(f->fd);
	return 0;
}

static int file_seal(struct disk_node *n, struct err **e)
{
	struct file *f = to_file(n);
	int r = f->locked ? image_lock(f->fd, n->path, IMAGE_LOCK_READ, e) : 0;

	if (r == 0)
		n->readonly = true;
	return r;
}

static int file_claim(struct disk_node *n, struct err **e)
{
	struct file *f = to_file(n);
	int r = image_lock(f->fd, n->path, n->readonly ? IMAGE_LOCK_READ : IMAGE_LOCK_WRITE, e);

	f->locked |= r == 0;
	return r;
}

static int file_attach(struct disk_node *n, struct disk_queue *q, void **slot)
{
	*slot = (void *)(intptr_t)(aio_register(queue_aio(q), to_file(n)->fd) + 1);
	return 0;
}

static void file_detach(struct disk_node *n, struct disk_queue *q, void *slot)
{
	aio_unregister(queue_aio(q), (int)(intptr_t)slot - 1);
}

static void size_at_least(struct disk_node *n, uint64_t end)
{
	uint64_t size = atomic_load_explicit(&n->size, memory_order_relaxed);

	while (end > size && !atomic_compare_exchange_weak(&n->size, &size, end))
		;
}

static void file_finish(struct disk_io *io, int r)
{
	struct file_req *q = to_req(io);

	free(q->iov);
	free(q->bounce);
	if (r == 0 && (io->op == DISK_WRITE || io->op == DISK_WRITE_ZEROES))
		size_at_least(io->node, io->off + io->len);
	disk_io_done(io, r);
}

static void file_zero_next(struct disk_io *io);

/* The rest of a transfer that moved less than asked. */
static void file_continue(struct disk_io *io)
{
	struct file_req *q = to_req(io);
	struct iovec *v = malloc(io->niov * sizeof(*v));

	if (!v) {
		file_finish(io, -ENOMEM);
		return;
	}
	q->op.niov = iov_slice(io->iov, io->niov, q->moved, io->len - q->moved, v);
	free(q->iov);
	q->iov = v;
	q->op.iov = v;
	q->op.off = io->off + q->moved;
	aio_submit(queue_aio(io->q), &q->op);
}

static void file_moved(struct aio_op *op)
{
	struct file_req *q = container_of(op, struct file_req, op);
	struct disk_io *io = container_of((unsigned char(*)[128])(void *)q, struct disk_io, room);

	if (op->res < 0) {
		file_finish(io, (int)op->res);
		return;
	}
	q->moved += (uint64_t)op->res;
	if (likely(q->moved >= io->len)) {
		file_finish(io, 0);
	} else if (op->res > 0) {
		file_continue(io);
	} else if (io->op == DISK_READ) {
		iov_zero(io->iov, io->niov, q->moved, io->len - q->moved); /* past the end */
		file_finish(io, 0);
	} else {
		file_finish(io, -ENOSPC);
	}
}

static void file_flushed(struct aio_op *op)
{
	struct file_req *q = container_of(op, struct file_req, op);

	file_finish(container_of((unsigned char(*)[128])(void *)q, struct disk_io, room),
		    (int)op->res);
}

/* A file descriptor with O_DIRECT wants aligned memory, offset and length; anything else goes through an aligned
 * copy.  Formats keep their metadata and data aligned to n->limits.block, so a partial block can only be the file's
 * last one or a guest's request that is smaller than a block: those are read, changed and written back whole. */
static bool direct_ok(const struct disk_node *n, const struct disk_io *io)
{
	uint32_t block = n->limits.block;

	if ((io->off | io->len) & (block - 1))
		return false;
	for (uint32_t i = 0; i < io->niov; i++)
		if (((uintptr_t)io->iov[i].iov_base | io->iov[i].iov_len) & (block - 1))
			return false;
	return true;
}

static void file_rw(struct disk_node *n, struct disk_io *io);

struct bounce {
	struct disk_io *io;
	struct iovec iov;
	uint64_t start, len;
	bool writing;
};

static void bounce_end(struct bounce *b, int r)
{
	struct disk_io *io = b->io;

	free(b->iov.iov_base);
	free(b);
	disk_io_done(io, r);
}

static void bounce_done(struct disk_io *k, int r)
{
	struct bounce *b = k->data;
	struct disk_io *io = b->io, *w;

	if (r < 0 || b->writing) {
		bounce_end(b, r);
		return;
	}
	if (io->op == DISK_READ) {
		iov_from_buf(io->iov, io->niov, 0, (char *)b->iov.iov_base + (io->off - b->start),
			     io->len);
		bounce_end(b, 0);
		return;
	}
	iov_to_buf(io->iov, io->niov, 0, (char *)b->iov.iov_base + (io->off - b->start), io->len);
	b->writing = true;
	w = io_child(io->q, DISK_WRITE, 0, b->start, b->len, &b->iov, 1, bounce_done, b);
	if (!w) {
		bounce_end(b, -ENOMEM);
		return;
	}
	w->node = io->node;
	file_rw(io->node, w);
}

static void file_bounce(struct disk_node *n, struct disk_io *io)
{
	uint64_t mask = n->limits.block - 1;
	struct bounce *b = calloc(1, sizeof(*b));
	struct disk_io *k;

	if (!b) {
		disk_io_done(io, -ENOMEM);
		return;
	}
	b->io = io;
	b->start = io->off & ~mask;
	b->len = ALIGN_UP(io->off + io->len, mask + 1) - b->start;
	b->iov.iov_base = aligned_alloc(4096, ALIGN_UP(b->len, 4096));
	b->iov.iov_len = b->len;
	if (!b->iov.iov_base) {
		bounce_end(b, -ENOMEM);
		return;
	}
	k = io_child(io->q, DISK_READ, 0, b->start, b->len, &b->iov, 1, bounce_done, b);
	if (!k) {
		bounce_end(b, -ENOMEM);
		return;
	}
	k->node = n;
	file_rw(n, k);
}

static void file_rw(struct disk_node *n, struct disk_io *io)
{
	struct file *f = to_file(n);
	struct file_req *q = to_req(io);

	q->moved = 0;
	q->iov = NULL;
	q->bounce = NULL;
	q->op.kind = io->op == DISK_READ ? AIO_READ : AIO_WRITE;
	q->op.fd = f->fd;
	q->op.slot = (int)(intptr_t)queue_slot(io->q, n) - 1;
	q->op.iov = io->iov;
	q->op.niov = io->niov;
	q->op.off = io->off;
	q->op.done = file_moved;
	aio_submit(queue_aio(io->q), &q->op);
}

/* ---- zeroes and discard ---- */

enum { ZERO_RANGE, ZERO_PUNCH, ZERO_RESERVE, ZERO_WRITE, DISCARD_PUNCH };

static void file_falloc(struct disk_io *io, int mode, void (*done)(struct aio_op *op))
{
	struct file *f = to_file(io->node);
	struct file_req *q = to_req(io);

	q->op.kind = AIO_FALLOCATE;
	q->op.fd = f->fd;
	q->op.slot = (int)(intptr_t)queue_slot(io->q, io->node) - 1;
	q->op.mode = mode;
	q->op.off = io->off;
	q->op.len = io->len;
	q->op.done = done;
	aio_submit(queue_aio(io->q), &q->op);
}

static bool refused(int64_t r)
{
	return r == -EOPNOTSUPP || r == -ENOSYS || r == -EINVAL || r == -EPERM || r == -ENODEV;
}

static void file_zeroed(struct aio_op *op)
{
	struct file_req *q = container_of(op, struct file_req, op);
	struct disk_io *io = container_of((unsigned char(*)[128])(void *)q, struct disk_io, room);
	struct file *f = to_file(io->node);

	switch (io->state) {
	case ZERO_RANGE:
		if (!refused(op->res)) {
			file_finish(io, (int)op->res);
			return;
		}
		atomic_store(&f->no_zero_range, true);
		break;
	case ZERO_PUNCH:
		if (refused(op->res)) {
			atomic_store(&f->no_punch, true);
			break;
		}
		if (op->res < 0 || (io->flags & DISK_MAY_UNMAP &&
				    io->off + io->len <= atomic_load(&io->node->size))) {
			file_finish(io, (int)op->res);
			return;
		}
		io->state = ZERO_RESERVE; /* also makes the file longer */
		file_falloc(io, 0, file_zeroed);
		return;
	case ZERO_RESERVE:
		if (!refused(op->res)) {
			file_finish(io, (int)op->res);
			return;
		}
		break;
	case ZERO_WRITE:
		if (op->res <= 0) {
			file_finish(io, op->res < 0 ? (int)op->res : -ENOSPC);
			return;
		}
		q->moved += (uint64_t)op->res;
		if (q->moved >= io->len) {
			file_finish(io, 0);
			return;
		}
		break;
	case DISCARD_PUNCH:
		file_finish(io, refused(op->res) ? 0 : (int)op->res); /* advice */
		return;
	}
	file_zero_next(io);
}

static void file_zero_next(struct disk_io *io)
{
	struct file *f = to_file(io->node);
	struct file_req *q = to_req(io);
	size_t len;

	if (io->state == ZERO_WRITE)
		goto write;
	if (io->flags & DISK_MAY_UNMAP && !f->no_discard && !atomic_load(&f->no_punch)) {
		io->state = ZERO_PUNCH;
		file_falloc(io, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, file_zeroed);
		return;
	}
	if (!atomic_load(&f->no_zero_range)) {
		io->state = ZERO_RANGE;
		file_falloc(io, FALLOC_FL_ZERO_RANGE, file_zeroed);
		return;
	}
	if (!atomic_load(&f->no_punch) && !f->block && io->state != ZERO_RESERVE) {
		io->state = ZERO_PUNCH;
		file_falloc(io, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, file_zeroed);
		return;
	}
	if (io->flags & DISK_NO_FALLBACK) {
		file_finish(io, -EOPNOTSUPP);
		return;
	}
	io->state = ZERO_WRITE;
write:
	len = MIN(io->len - q->moved, (uint64_t)ZERO_CHUNK);
	q->iov = q->iov ?: malloc(sizeof(*q->iov));
	if (!q->iov) {
		file_finish(io, -ENOMEM);
		return;
	}
	*q->iov = (struct iovec){ zero_chunk, len };
	q->op.kind = AIO_WRITE;
	q->op.fd = f->fd;
	q->op.slot = (int)(intptr_t)queue_slot(io->q, io->node) - 1;
	q->op.iov = q->iov;
	q->op.niov = 1;
	q->op.off = io->off + q->moved;
	q->op.done = file_zeroed;
	aio_submit(queue_aio(io->q), &q->op);
}

static void file_submit(struct disk_node *n, struct disk_io *io)
{
	struct file *f = to_file(n);
	struct file_req *q = to_req(io);
	uint64_t end;

	if (add_of(io->off, io->len, &end) || end > INT64_MAX ||
	    (f->block && end > atomic_load_explicit(&n->size, memory_order_relaxed))) {
		disk_io_done(io, f->block ? -ENOSPC : -EFBIG);
		return;
	}
	switch ((enum disk_op)io->op) {
	case DISK_READ:
	case DISK_WRITE:
		if (unlikely(f->direct) && !direct_ok(n, io))
			file_bounce(n, io);
		else
			file_rw(n, io);
		return;
	case DISK_FLUSH:
		if (f->no_flush || n->readonly) {
			disk_io_done(io, 0);
			return;
		}
		*q = (struct file_req){ .op = { .kind = AIO_FDATASYNC,
						.fd = f->fd,
						.done = file_flushed,
						.slot = (int)(intptr_t)queue_slot(io->q, n) - 1 } };
		aio_submit(queue_aio(io->q), &q->op);
		return;
	case DISK_DISCARD:
		if (f->no_discard || atomic_load(&f->no_punch)) {
			disk_io_done(io, 0);
			return;
		}
		q->iov = NULL;
		q->bounce = NULL;
		io->state = DISCARD_PUNCH;
		file_falloc(io, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, file_zeroed);
		return;
	case DISK_WRITE_ZEROES:
		q->iov = NULL;
		q->bounce = NULL;
		q->moved = 0;
		io->state = ZERO_RANGE;
		file_zero_next(io);
		return;
	case DISK_N_OPS:
		break;
	}
	disk_io_done(io, -EINVAL);
}

static int file_extents(struct disk_node *n, uint64_t off, uint64_t len, struct extent_list *ret)
{
	struct file *f = to_file(n);
	uint64_t end = off + len;
	int r = 0;

	while (off < end && r == 0) {
		struct extent x = { .off = off,
				    .len = end - off,
				    .host = off,
				    .file = n->path,
				    .flags = EXTENT_DATA | EXTENT_OFFSET | EXTENT_ALLOCATED };
		off_t data = f->block ? (off_t)off : lseek(f->fd, (off_t)off, SEEK_DATA);
		off_t hole;

		if (data < 0 && errno == ENXIO) { /* nothing but a hole up to the end */
			x.flags = EXTENT_ZERO | EXTENT_OFFSET;
		} else if (data >= 0 && (uint64_t)data > off) {
			x.len = MIN((uint64_t)data, end) - off;
			x.flags = EXTENT_ZERO | EXTENT_OFFSET;
		} else if (data >= 0 && !f->block) {
			hole = lseek(f->fd, (off_t)off, SEEK_HOLE);
			if (hole > (off_t)off)
				x.len = MIN((uint64_t)hole, end) - off;
		}
		r = extent_add(ret, &x);
		off += x.len;
	}
	return r;
}

static int file_resize(struct disk_node *n, uint64_t size, enum disk_provision prov, bool shrink,
		       struct err **e)
{
	struct file *f = to_file(n);
	uint64_t old = atomic_load(&n->size);
	int r = 0;

	if (f->block) {
		uint64_t now;

		if (ioctl(f->fd, BLKGETSIZE64, &now) < 0)
			return err_sys(e, errno, "read the device's size");
		if (size > now)
			return err_set(e, ENOSPC, "disk.space", "the device has only %llu bytes",
				       (unsigned long long)now);
		atomic_store(&n->size, now);
		return 0;
	}
	if (ftruncate(f->fd, (off_t)size) < 0)
		return err_sys(e, errno, "change the size of '%s'", n->path);
	if (size > old && prov != DISK_THIN) {
		if (fallocate(f->fd, 0, (off_t)old, (off_t)(size - old)) < 0)
			r = -errno;
		if (r == -EOPNOTSUPP && prov == DISK_LAZY)
			r = err_set(e, ENOTSUP, "disk.provision",
				    "'%s': the file system cannot reserve space", n->path);
		if (prov == DISK_EAGER && (r == 0 || r == -EOPNOTSUPP)) {
			r = 0;
			for (uint64_t at = old; at < size && r == 0; at += ZERO_CHUNK)
				r = node_pwrite(n, zero_chunk, MIN(size - at, (uint64_t)ZERO_CHUNK),
						at);
		}
		if (r < 0) {
			if (ftruncate(f->fd, (off_t)old) < 0)
				errno = -r; /* the first fault counts */
			return e && *e ? r : err_sys(e, -r, "reserve space for '%s'", n->path);
		}
	}
	atomic_store(&n->size, size);
	return 0;
}

static int file_usage(struct disk_node *n, uint64_t *allocated, uint64_t *apparent)
{
	struct stat st;

	if (fstat(to_file(n)->fd, &st) < 0)
		return -errno;
	*apparent = to_file(n)->block ? atomic_load(&n->size) : (uint64_t)st.st_size;
	*allocated = to_file(n)->block ? *apparent : (uint64_t)st.st_blocks * 512;
	return 0;
}

const struct disk_ops disk_driver_file = {
	.name = "file",
	.kind = DISK_DRIVER,
	.instance_size = sizeof(struct file),
	.open = file_open,
	.close = file_close,
	.submit = file_submit,
	.attach = file_attach,
	.detach = file_detach,
	.extents = file_extents,
	.resize = file_resize,
	.usage = file_usage,
	.seal = file_seal,
	.claim = file_claim,
};
