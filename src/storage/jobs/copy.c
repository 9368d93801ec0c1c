/* See copy.h.  Each slot reads a piece and writes it; the piece list comes from the source's extents, a window at a
 * time, so that memory stays small for any disk. */
#include <string.h>
#include "base/loop.h"
#include "storage/disk_ops.h"
#include "storage/jobs/copy.h"

#define PIECE  (1 * MIB)
#define WINDOW (4 * GIB)
#define GRAIN  (64 * KIB) /* zeroes of this size become holes */

struct slot {
	struct copy *c;
	struct disk_io io;
	struct iovec iov;
	uint8_t *buf;
	uint64_t off, len, at; /* the piece; how much of it is written */
	bool busy;
};

struct copy {
	const struct copy_opts *o;
	struct disk *src, *dst;
	struct disk_queue *sq, *dq;
	struct slot slots[16];
	unsigned int n_slots, busy;
	struct extent_list ext;
	size_t at_ext;
	uint64_t at, size, done, window;
	int r;
};

static void slot_write(struct slot *s);

static void written(struct disk_io *io, int r)
{
	struct slot *s = io->data;

	if (r < 0 && s->c->r == 0)
		s->c->r = r;
	slot_write(s);
}

/* The next run of data, or of zeroes, in the buffer. */
static void slot_write(struct slot *s)
{
	struct copy *c = s->c;

	while (c->r == 0 && s->at < s->len) {
		uint64_t n = MIN(GRAIN, s->len - s->at);
		bool zero = mem_is_zero(s->buf + s->at, n);

		while (s->at + n < s->len &&
		       mem_is_zero(s->buf + s->at + n, MIN(GRAIN, s->len - s->at - n)) == zero)
			n += MIN(GRAIN, s->len - s->at - n);
		if (zero && c->o->dst_zero) {
			s->at += n;
			continue;
		}
		s->iov = (struct iovec){ s->buf + s->at, n };
		s->io = (struct disk_io){ .op = zero ? DISK_WRITE_ZEROES : DISK_WRITE,
					  .flags = zero ? DISK_MAY_UNMAP : 0,
					  .off = s->off + s->at,
					  .len = n,
					  .iov = &s->iov,
					  .niov = zero ? 0 : 1,
					  .done = written,
					  .data = s };
		s->at += n;
		disk_submit(c->dq, &s->io);
		return;
	}
	c->done += s->len;
	s->busy = false;
	c->busy--;
}

static void was_read(struct disk_io *io, int r)
{
	struct slot *s = io->data;
	struct copy *c = s->c;
	uint32_t cs = disk_limits(c->dst).opt_io;

	if (r < 0 && c->r == 0)
		c->r = r;
	s->at = 0;
	if (!c->o->compress) {
		slot_write(s);
		return;
	}
	memset(s->buf + s->len, 0, ALIGN_UP(s->len, (uint64_t)cs) - s->len);
	for (; c->r == 0 && s->at < s->len; s->at += cs) {
		if (c->o->dst_zero && mem_is_zero(s->buf + s->at, cs))
			continue;
		r = disk_write_compressed(c->dst, s->buf + s->at, s->off + s->at);
		c->r = r < 0 ? r : 0;
	}
	c->done += s->len;
	s->busy = false;
	c->busy--;
}

/* The next piece of data; zero ranges are dealt with here.  False: nothing is left. */
static bool next_piece(struct copy *c, uint64_t *off, uint64_t *len)
{
	while (c->r == 0 && c->at < c->size) {
		const struct extent *x;
		uint64_t n, piece = MAX(PIECE, (uint64_t)disk_limits(c->dst).opt_io);

		if (c->at >= c->window) {
			extent_list_done(&c->ext);
			c->window = MIN(c->at + WINDOW, c->size);
			c->at_ext = 0;
			c->r = disk_extents(c->src, c->at, c->window - c->at, &c->ext);
			continue;
		}
		while (c->at_ext < c->ext.n &&
		       c->ext.v[c->at_ext].off + c->ext.v[c->at_ext].len <= c->at)
			c->at_ext++;
		x = &c->ext.v[c->at_ext];
		n = x->off + x->len - c->at;
		if (x->flags & EXTENT_ZERO &&
		    (n >= piece || c->at + n == c->window || !c->o->compress)) {
			if (c->o->compress && c->at + n < c->size)
				n &= ~(uint64_t)(disk_limits(c->dst).opt_io - 1);
			if (n > 0) {
				if (!c->o->dst_zero)
					c->r = disk_sync_op(c->dst, DISK_WRITE_ZEROES,
							    DISK_MAY_UNMAP, c->at, n);
				c->at += n;
				c->done += n;
				continue;
			}
		}
		*off = c->at;
		*len = MIN(piece - c->at % piece, c->size - c->at);
		if (!c->o->compress)
			*len = MIN(*len, n);
		c->at += *len;
		return true;
	}
	return false;
}

int disk_copy(struct disk *src, struct disk *dst, const struct copy_opts *o, struct err **e)
{
	struct copy c = {
		.o = o, .src = src, .dst = dst, .size = MIN(disk_size(src), disk_size(dst))
	};
	size_t room = MAX(PIECE, (uint64_t)disk_limits(dst).opt_io) + 2 * MIB;
	_cleanup_(loop_freep) struct loop *loop = NULL;
	bool more = true;

	c.n_slots = o->compress ? 1
				: CLAMP(o->inflight ? o->inflight : 8U, 1U,
					(unsigned int)ARRAY_SIZE(c.slots));
	c.r = loop_new(NULL, &loop);
	if (c.r == 0)
		c.r = disk_queue_open(src, loop, &c.sq, e);
	if (c.r == 0)
		c.r = disk_queue_open(dst, loop, &c.dq, e);
	for (unsigned int i = 0; c.r == 0 && i < c.n_slots; i++) {
		c.slots[i].c = &c;
		c.slots[i].buf = aligned_alloc(4096, ALIGN_UP(room, 4096));
		if (!c.slots[i].buf)
			c.r = -ENOMEM;
	}
	while (c.r == 0 && (more || c.busy)) {
		for (unsigned int i = 0; i < c.n_slots && more && c.r == 0; i++) {
			struct slot *s = &c.slots[i];

			if (s->busy)
				continue;
			more = next_piece(&c, &s->off, &s->len);
			if (!more)
				break;
			s->busy = true;
			c.busy++;
			s->iov = (struct iovec){ s->buf, s->len };
			s->io = (struct disk_io){ .op = DISK_READ,
						  .off = s->off,
						  .len = s->len,
						  .iov = &s->iov,
						  .niov = 1,
						  .done = was_read,
						  .data = s };
			disk_submit(c.sq, &s->io);
		}
		if (c.busy)
			loop_once(loop, NSEC_FOREVER);
		if (o->progress)
			o->progress(o->arg, c.done, c.size);
		if (o->cancel && __atomic_load_n(o->cancel, __ATOMIC_RELAXED))
			c.r = -ECANCELED;
	}
	while (c.sq && c.dq && (disk_inflight(c.sq) || disk_inflight(c.dq))) /* after an error */
		loop_once(loop, NSEC_FOREVER);
	for (unsigned int i = 0; i < c.n_slots; i++)
		free(c.slots[i].buf);
	extent_list_done(&c.ext);
	disk_queue_close(c.sq);
	disk_queue_close(c.dq);
	if (c.r == 0)
		c.r = disk_flush(dst);
	return c.r < 0 && !(e && *e)
		       ? err_sys(e, -c.r, "copy '%s' to '%s'", disk_path(src), disk_path(dst))
		       : c.r;
}
