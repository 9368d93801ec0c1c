/* See job_ops.h: moving data between the images of a chain.  Blocking, on the caller's thread, with a queue of its own
 * where the disk may be in use. */
#include <limits.h>
#include <string.h>
#include "storage/disk_ops.h"
#include "storage/jobs/job_ops.h"
#include "storage/live.h"

#define WINDOW (1 * GIB) /* extents looked at together */
#define CHUNK  (2 * MIB) /* moved together */

static int step(const struct move *m, uint64_t moved, uint64_t done, uint64_t size)
{
	return m->job ? job_step(m->job, moved, m->base + done, m->total ?: m->base + size) : 0;
}

/* What a walk does with one piece of at most CHUNK bytes; its result: 1 moved, 0 nothing to do, -errno. */
typedef int piece_fn(void *arg, const struct extent *x, uint64_t off, uint64_t len);

static int walk(struct disk *d, uint64_t size, const struct move *m, piece_fn *fn, void *arg)
{
	uint64_t off = m->from;
	int r = step(m, 0, off, size);

	while (off < size && r >= 0) {
		uint64_t end = MIN(off + WINDOW, size);
		struct extent_list l = { 0 };

		r = disk_extents(d, off, end - off, &l);
		for (size_t i = 0; i < l.n && r >= 0; i++) {
			const struct extent *x = &l.v[i];
			bool did = false;

			for (uint64_t n; r >= 0 && off < x->off + x->len; off += n) {
				n = MIN(CHUNK - off % CHUNK, x->off + x->len - off);
				r = fn(arg, x, off, n);
				if (r == 0) { /* and nothing to do in the rest of it */
					off = x->off + x->len;
					break;
				}
				did = true;
				if (r > 0)
					r = step(m, n, off + n, size);
			}
			if (!did && r >= 0 && (i & 63) == 63)
				r = step(m, 0, off, size);
		}
		extent_list_done(&l);
	}
	return r < 0 ? r : step(m, 0, size, size);
}

/* ---- stream ---- */

struct stream {
	struct disk_queue *q;
	unsigned int depth;
};

static int stream_piece(void *arg, const struct extent *x, uint64_t off, uint64_t len)
{
	struct stream *s = arg;
	int r;

	if (x->depth == 0 || x->depth > s->depth || !(x->flags & EXTENT_ALLOCATED))
		return 0;
	r = live_request(s->q, DISK_OP_POPULATE, NULL, off, len);
	return r < 0 ? r : 1;
}

int move_stream(struct disk *d, unsigned int depth, const struct move *m, struct err **e)
{
	struct stream s = { .depth = depth };
	int r = disk_queue_open(d, NULL, &s.q, e);

	if (r < 0)
		return r;
	r = walk(d, disk_size(d), m, stream_piece, &s);
	if (r >= 0)
		r = live_request(s.q, DISK_FLUSH, NULL, 0, 0);
	disk_queue_close(s.q);
	if (r == -ECANCELED)
		return r;
	return r < 0 ? err_sys(e, -r, "copy into '%s' what lies below it", disk_path(d)) : 0;
}

/* ---- commit, restore, save: read here, write there ---- */

struct to {
	struct disk *src, *dst;
	struct disk_queue *q; /* of dst's cbw filter; else plain writes to dst */
	unsigned int depth;   /* extents at this depth and below stay */
	bool all;	      /* also what is allocated nowhere */
	uint8_t *buf;
};

static int to_piece(void *arg, const struct extent *x, uint64_t off, uint64_t len)
{
	struct to *t = arg;
	bool zero = !(x->flags & EXTENT_DATA);
	int r = 0;

	if (x->depth >= t->depth || !(t->all || x->flags & EXTENT_ALLOCATED))
		return 0;
	if (!zero)
		r = disk_pread(t->src, t->buf, len, off);
	if (r < 0)
		return r;
	zero = zero || mem_is_zero(t->buf, len);
	if (t->q)
		r = live_request(t->q, DISK_OP_SAVE, zero ? NULL : t->buf, off, len);
	else if (zero)
		r = disk_sync_op(t->dst, DISK_WRITE_ZEROES, DISK_MAY_UNMAP, off, len);
	else
		r = disk_pwrite(t->dst, t->buf, len, off);
	return r < 0 ? r : 1;
}

static int move_to(struct to *t, const struct move *m, struct err **e)
{
	int r = 0;

	t->buf = aligned_alloc(4096, CHUNK);
	if (!t->buf)
		r = -ENOMEM;
	if (r == 0)
		r = walk(t->src, MIN(disk_size(t->src), disk_size(t->dst)), m, to_piece, t);
	if (r >= 0)
		r = t->q ? live_request(t->q, DISK_FLUSH, NULL, 0, 0) : disk_flush(t->dst);
	free(t->buf);
	if (r == -ECANCELED)
		return r;
	return r < 0 ? err_sys(e, -r, "copy from '%s' to '%s'", disk_path(t->src),
			       disk_path(t->dst))
		     : 0;
}

int move_commit(struct disk *src, struct disk *dst, const struct move *m, struct err **e)
{
	struct to t = { .src = src, .dst = dst, .depth = 1 };

	return move_to(&t, m, e);
}

int move_restore(struct disk *src, unsigned int depth, struct disk *dst, const struct move *m,
		 struct err **e)
{
	struct to t = { .src = src, .dst = dst, .depth = depth, .all = depth == UINT_MAX };

	return move_to(&t, m, e);
}

int move_save(struct disk *src, struct disk *d, const struct move *m, struct err **e)
{
	struct to t = { .src = src, .dst = d, .depth = 1 };
	int r = disk_queue_open(d, NULL, &t.q, e);

	if (r < 0)
		return r;
	r = move_to(&t, m, e);
	disk_queue_close(t.q);
	return r;
}

int move_capture(struct disk *d, uint64_t size, const struct move *m, struct err **e)
{
	struct disk_queue *q;
	int r = disk_queue_open(d, NULL, &q, e);

	if (r < 0)
		return r;
	r = step(m, 0, m->from, size);
	for (uint64_t off = m->from, n; off < size && r >= 0; off += n) {
		n = MIN(CHUNK, size - off);
		r = live_request(q, DISK_OP_CAPTURE, NULL, off, n);
		if (r >= 0)
			r = step(m, n, off + n, size);
	}
	disk_queue_close(q);
	if (r == -ECANCELED)
		return r;
	return r < 0 ? err_sys(e, -r, "save '%s'", disk_path(d)) : 0;
}
