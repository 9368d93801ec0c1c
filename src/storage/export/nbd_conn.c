/* One NBD connection: negotiation, requests, replies.  See nbd_server.h.
 * Thread: one I/O thread, from conn_start() to conn_free().
 *
 * Input is read in large pieces; all requests of a piece go to the disk together.  Replies gather in `out` and leave
 * in one sendmsg() at the end of the loop's round.
 *
 * Invariants
 * (1) A request is in exactly one place: `cur` (its payload is arriving), with the disk or a worker (n_inflight
 *     counts it), or in `out`.
 * (2) t->memory is the sum of the buffers of all requests of the thread's connections, c->memory of this one's.
 *     A request gets its buffer before its payload is read, or its connection waits in line for it.
 * (3) The connection is freed when it is closing and n_inflight is 0. */
#define LOG_MODULE "nbd"
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include "base/checked.h"
#include "base/log.h"
#include "ext/tls.h"
#include "storage/export/nbd_conn.h"

#define IN_SIZE	      (128 * KIB)
#define DIRECT_MIN    (16 * KIB) /* payloads with at least this much to come are read in place */
#define BUF_MIN	      (4 * KIB)
#define BUF_KEEP      (16 * MIB) /* a thread, of free buffers */
#define CONN_MEMORY   (64 * MIB)
#define OUT_IOV	      128
#define TLS_STAGE     (16 * KIB)
#define PROGRESS      (64 * KIB) /* in each period of the time limit, or the peer counts as hung */
#define STATUS_MAX    4000U	 /* extents in one reply and context: 64 KiB hold two contexts */
#define STATUS_BUF    (64 * KIB)
#define STATUS_WINDOW (256 * MIB)
#define READ_ROUNDS   8
#define HS_BACKLOG    (64 * KIB) /* replies to options that wait; then options wait */

struct req {
	struct disk_io io;
	struct work work;
	struct list link; /* in out, or free */
	struct conn *c;
	struct iovec iov;
	uint64_t cookie, offset;
	uint32_t length;
	uint16_t type, flags;
	bool flushing; /* TRIM with FUA: its flush */
	void *buf;
	size_t buf_size;
	int result;
	uint8_t head[64]; /* the reply: head, then payload_len bytes of buf */
	size_t head_len, payload_len;
};

enum conn_end { CONN_OPEN, CONN_SOFT, CONN_HARD };

struct conn {
	struct list in_thread, in_dirty, in_waiting;
	struct nbd_thread *t;
	int fd;
	struct watch watch;
	uint32_t events;
	struct timer patrol;
	enum conn_end end;
	bool handshaking, securing; /* NBD negotiation; TLS handshake */
	bool full;		    /* its own limits were met: goes on when a request is gone */
	bool stalled;		    /* options wait until replies are sent */
	struct tls *tls;
	struct nbd_handshake hs;
	struct disk_export *x;
	struct disk_queue *q;
	uint64_t memory;
	unsigned int n_inflight, n_reqs; /* with the disk or a worker; all that exist */
	/* in */
	uint8_t *in;
	size_t in_at, in_end;
	struct req *cur;
	size_t cur_got;
	uint64_t skip; /* payload of a refused write */
	/* out */
	struct buf hs_out; /* goes first */
	struct list out;
	size_t out_at;	/* bytes of the first reply that are sent */
	uint8_t *stage; /* TLS: what is being sent */
	size_t stage_at, stage_len;
	/* patrol */
	uint64_t moved;
	bool was_busy;
};

static void conn_go(struct conn *c);
static void conn_end(struct conn *c, enum conn_end how, const char *why);

/* ---- memory ---- */

static int buf_class(size_t size)
{
	size_t n = MAX(size, (size_t)BUF_MIN);
	unsigned int k = ilog2(n) + !is_pow2(n) - ilog2(BUF_MIN);

	return k < NBD_BUF_CLASSES ? (int)k : -1;
}

static size_t buf_size(size_t size)
{
	int k = buf_class(size);

	return k >= 0 ? (size_t)BUF_MIN << k : ALIGN_UP(size, (size_t)BUF_MIN);
}

static void *buf_get(struct nbd_thread *t, size_t size)
{
	int k = buf_class(size);
	void *p = k >= 0 ? t->bufs[k] : NULL;

	if (p) {
		memcpy(&t->bufs[k], p, sizeof(void *));
		t->bufs_kept -= (size_t)BUF_MIN << k;
		return p;
	}
	return aligned_alloc(BUF_MIN, buf_size(size));
}

static void buf_put(struct nbd_thread *t, void *p, size_t size)
{
	int k = buf_class(size);

	if (k < 0 || t->bufs_kept + size > BUF_KEEP) {
		free(p);
		return;
	}
	memcpy(p, &t->bufs[k], sizeof(void *));
	t->bufs[k] = p;
	t->bufs_kept += size;
}

static void req_drop_buf(struct req *q)
{
	if (!q->buf)
		return;
	q->c->t->memory -= q->buf_size;
	q->c->memory -= q->buf_size;
	buf_put(q->c->t, q->buf, q->buf_size);
	q->buf = NULL;
}

/* May a request with so large a buffer begin?  If not, the connection was put in line, or waits for its own. */
static bool conn_admit(struct conn *c, size_t size)
{
	struct nbd_thread *t = c->t;

	size = size ? buf_size(size) : 0;
	if (c->n_reqs >= t->s->cfg.max_requests ||
	    (c->memory > 0 && c->memory + size > CONN_MEMORY)) {
		c->full = true;
		list_del(&c->in_waiting);
		return false;
	}
	if (size == 0)
		return true;
	if (t->memory + size > t->memory_max ||
	    (!list_empty(&t->waiting) && t->waiting.next != &c->in_waiting)) {
		if (list_empty(&c->in_waiting))
			list_add_tail(&t->waiting, &c->in_waiting);
		return false;
	}
	list_del(&c->in_waiting);
	return true;
}

static struct req *req_new(struct conn *c, const struct nbd_request *h)
{
	struct list *l = list_pop(&c->t->free_reqs);
	struct req *q = l ? list_entry(l, struct req, link) : malloc(sizeof(*q));

	if (!q)
		return NULL;
	memset(q, 0, sizeof(*q));
	list_init(&q->link);
	q->c = c;
	c->n_reqs++;
	q->cookie = h->cookie; /* never looked at: stays in wire order */
	q->offset = be64toh(h->offset);
	q->length = be32toh(h->length);
	q->type = be16toh(h->type);
	q->flags = be16toh(h->flags);
	return q;
}

static bool req_get_buf(struct req *q, size_t size)
{
	q->buf = buf_get(q->c->t, size);
	if (!q->buf)
		return false;
	q->buf_size = buf_size(size);
	q->c->memory += q->buf_size;
	q->c->t->memory += q->buf_size;
	q->iov = (struct iovec){ q->buf, q->length };
	return true;
}

static void req_free(struct req *q)
{
	req_drop_buf(q);
	q->c->n_reqs--;
	list_add(&q->c->t->free_reqs, &q->link);
}

/* ---- the round's end ---- */

static void on_round(struct timer *timer)
{
	struct nbd_thread *t = timer->data;
	struct list now;
	struct list *l;

	list_init(&now);
	list_splice_tail(&now, &t->dirty);
	while ((l = list_pop(&now)))
		conn_go(list_entry(l, struct conn, in_dirty));
	/* the first in line first; stop at one that still has to wait */
	while (!list_empty(&t->waiting)) {
		l = t->waiting.next;
		conn_go(list_entry(l, struct conn, in_waiting));
		if (t->waiting.next == l)
			break;
	}
}

static void round_later(struct nbd_thread *t)
{
	t->round.data = t;
	if (!timer_active(&t->round) &&
	    timer_start(t->t->loop, &t->round, "nbd-round", 0, 0, on_round) < 0)
		log_err("out of memory: replies wait for the next event");
}

static void conn_later(struct conn *c)
{
	if (list_empty(&c->in_dirty))
		list_add_tail(&c->t->dirty, &c->in_dirty);
	round_later(c->t);
}

/* ---- replies ---- */

static uint32_t wire_error(int r)
{
	switch (-r) {
	case 0:
		return NBD_OK;
	case EPERM:
	case EACCES:
	case EROFS:
		return NBD_EPERM;
	case ENOMEM:
		return NBD_ENOMEM;
	case EINVAL:
		return NBD_EINVAL;
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
		return NBD_ENOSPC;
	case EOVERFLOW:
		return NBD_EOVERFLOW;
	case EOPNOTSUPP:
		return NBD_ENOTSUP;
	case ESHUTDOWN:
		return NBD_ESHUTDOWN;
	default:
		return NBD_EIO;
	}
}

static void put_simple(struct req *q, uint32_t error)
{
	struct nbd_simple_reply s = { htobe32(NBD_SIMPLE_MAGIC), htobe32(error), q->cookie };

	memcpy(q->head, &s, sizeof(s));
	q->head_len = sizeof(s);
}

static void put_chunk(struct req *q, uint16_t type, uint32_t length)
{
	struct nbd_chunk k = { htobe32(NBD_STRUCTURED_MAGIC), htobe16(NBD_CHUNK_DONE),
			       htobe16(type), q->cookie, htobe32(length) };

	memcpy(q->head, &k, sizeof(k));
	q->head_len = sizeof(k);
}

static void put_error(struct req *q, int r)
{
	const char *text = err_name(-r);
	size_t n = MIN(strlen(text), (size_t)32);
	uint32_t error = htobe32(wire_error(r));
	uint16_t len = htobe16((uint16_t)n);

	req_drop_buf(q);
	if (!q->c->hs.structured) {
		put_simple(q, be32toh(error));
		return;
	}
	put_chunk(q, NBD_CHUNK_ERROR, (uint32_t)(6 + n));
	memcpy(q->head + q->head_len, &error, 4);
	memcpy(q->head + q->head_len + 4, &len, 2);
	memcpy(q->head + q->head_len + 6, text, n);
	q->head_len += 6 + n;
}

/* The request is over: its reply waits to be sent.  Not in flight any more. */
static void req_reply(struct req *q, int r)
{
	struct conn *c = q->c;

	if (c->end == CONN_HARD) {
		req_free(q);
		conn_later(c);
		return;
	}
	if (r < 0) {
		put_error(q, r);
	} else if (q->type == NBD_CMD_READ) {
		if (c->hs.structured) {
			uint64_t off = htobe64(q->offset);

			put_chunk(q, NBD_CHUNK_OFFSET_DATA, 8 + q->length);
			memcpy(q->head + q->head_len, &off, 8);
			q->head_len += 8;
		} else {
			put_simple(q, NBD_OK);
		}
		q->payload_len = q->length;
	} else if (q->type != NBD_CMD_BLOCK_STATUS) { /* whose worker has set it all */
		req_drop_buf(q);
		put_simple(q, NBD_OK);
	}
	list_add_tail(&c->out, &q->link);
	conn_later(c);
}

/* ---- carrying out ---- */

static void req_done(struct disk_io *io, int r)
{
	struct req *q = io->data;
	struct conn *c = q->c;

	if (r == 0 && q->type == NBD_CMD_TRIM && q->flags & NBD_CMD_FLAG_FUA && !q->flushing) {
		q->flushing = true;
		q->io = (struct disk_io){ .op = DISK_FLUSH, .done = req_done, .data = q };
		disk_submit(c->q, &q->io);
		return;
	}
	if (r < 0)
		log_warn_rl(&c->t->log_rl, "request failed", "export", c->x->name, "command",
			    q->type, "offset", q->offset, "bytes", q->length, "error",
			    err_name(-r));
	c->n_inflight--;
	req_reply(q, r);
}

static void req_submit(struct req *q, enum disk_op op, unsigned int flags)
{
	q->io = (struct disk_io){
		.op = (uint8_t)op, .flags = (uint8_t)flags, .done = req_done, .data = q
	};
	if (op != DISK_FLUSH) {
		q->io.off = q->offset;
		q->io.len = q->length;
	}
	if (op == DISK_READ || op == DISK_WRITE) {
		q->io.iov = &q->iov;
		q->io.niov = 1;
	}
	disk_submit(q->c->q, &q->io);
}

/* One chunk being written: at most STATUS_MAX extents of 8 bytes, which fit into what is left of the buffer. */
struct status_chunk {
	uint8_t *p;
	uint32_t n, last_flags;
	uint64_t last_len;
};

static void status_flush(struct status_chunk *s)
{
	uint32_t d[2] = { htobe32((uint32_t)s->last_len), htobe32(s->last_flags) };

	if (s->last_len > 0)
		memcpy(s->p + 8 * s->n++, d, sizeof(d));
	s->last_len = 0;
}

static void status_add(struct status_chunk *s, uint64_t len, uint32_t flags)
{
	if (s->last_len > 0 && flags != s->last_flags)
		status_flush(s);
	s->last_len += len;
	s->last_flags = flags;
}

static uint32_t status_flags(unsigned int context, const struct extent *x)
{
	if (context == NBD_CTX_DEPTH)
		return x->flags & EXTENT_ALLOCATED ? x->depth + 1 : 0;
	return (x->flags & EXTENT_ALLOCATED ? 0U : (uint32_t)NBD_STATE_HOLE) |
	       (x->flags & EXTENT_ZERO ? (uint32_t)NBD_STATE_ZERO : 0U);
}

/* On a worker: one context's chunk behind those that are there.  The range is looked at in windows, so that what is
 * not told need not be known; a reply may be shorter than what was asked for. */
static int status_of(struct req *q, unsigned int context, bool last)
{
	struct disk_export *x = q->c->x;
	uint32_t max = q->flags & NBD_CMD_FLAG_REQ_ONE ? 1 : STATUS_MAX, id = htobe32(context);
	struct nbd_chunk k = { htobe32(NBD_STRUCTURED_MAGIC), htobe16(last ? NBD_CHUNK_DONE : 0),
			       htobe16(NBD_CHUNK_BLOCK_STATUS), q->cookie, 0 };
	uint8_t *at = (uint8_t *)q->buf + q->payload_len;
	struct status_chunk s = { .p = at + sizeof(k) + sizeof(id) };
	uint64_t off = q->offset, end = off + q->length, len;
	int r = 0;

	for (; off < end && s.n < max; off += len) {
		struct extent_list l = { 0 };

		len = MIN(end - off, STATUS_WINDOW);
		pthread_mutex_lock(&x->lock);
		r = disk_extents(x->disk, off, len, &l);
		pthread_mutex_unlock(&x->lock);
		if (r < 0)
			return r;
		for (size_t i = 0; i < l.n && s.n < max; i++)
			status_add(&s, l.v[i].len, status_flags(context, &l.v[i]));
		extent_list_done(&l);
	}
	if (s.n < max)
		status_flush(&s);
	k.length = htobe32((uint32_t)sizeof(id) + 8 * s.n);
	memcpy(at, &k, sizeof(k));
	memcpy(at + sizeof(k), &id, sizeof(id));
	q->payload_len += sizeof(k) + sizeof(id) + 8 * (size_t)s.n;
	return 0;
}

static void status_work(struct work *w)
{
	struct req *q = w->data;
	unsigned int want = q->c->hs.contexts;

	for (unsigned int id = NBD_CTX_ALLOCATION; q->result == 0 && want; id++) {
		if (!(want & 1U << id))
			continue;
		want &= ~(1U << id);
		q->result = status_of(q, id, want == 0);
	}
}

static void status_worked(struct work *w)
{
	struct req *q = w->data;

	q->c->n_inflight--;
	if (q->result < 0)
		q->payload_len = 0;
	req_reply(q, q->result);
}

static int req_check(const struct req *q)
{
	const struct conn *c = q->c;
	static const uint16_t allowed[] = {
		[NBD_CMD_READ] = NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_DF,
		[NBD_CMD_WRITE] = NBD_CMD_FLAG_FUA,
		[NBD_CMD_DISC] = 0,
		[NBD_CMD_FLUSH] = NBD_CMD_FLAG_FUA,
		[NBD_CMD_TRIM] = NBD_CMD_FLAG_FUA,
		[NBD_CMD_CACHE] = NBD_CMD_FLAG_FUA,
		[NBD_CMD_WRITE_ZEROES] = NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE |
					 NBD_CMD_FLAG_FAST_ZERO,
		[NBD_CMD_BLOCK_STATUS] = NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_REQ_ONE,
	};
	bool writes = q->type == NBD_CMD_WRITE || q->type == NBD_CMD_TRIM ||
		      q->type == NBD_CMD_WRITE_ZEROES;

	if (q->type >= ARRAY_SIZE(allowed) || q->flags & ~allowed[q->type])
		return -EINVAL;
	if (q->type == NBD_CMD_BLOCK_STATUS && (!c->hs.contexts || q->length == 0))
		return -EINVAL;
	if (writes && disk_readonly(c->x->disk))
		return -EROFS;
	if (q->type == NBD_CMD_FLUSH)
		return 0;
	if (!range_inside(q->offset, q->length, disk_size(c->x->disk)))
		return q->type == NBD_CMD_WRITE || q->type == NBD_CMD_WRITE_ZEROES ? -ENOSPC
										   : -EINVAL;
	if ((q->type == NBD_CMD_READ || q->type == NBD_CMD_WRITE || q->type == NBD_CMD_CACHE) &&
	    (q->length > NBD_PAYLOAD_MAX || (q->type == NBD_CMD_READ && q->length == 0)))
		return -EINVAL;
	return 0;
}

/* Checked, and with its buffer where it has one. */
static void req_start(struct req *q)
{
	struct conn *c = q->c;
	unsigned int fua = q->flags & NBD_CMD_FLAG_FUA ? DISK_FUA : 0;

	c->n_inflight++;
	switch (q->type) {
	case NBD_CMD_READ:
	case NBD_CMD_CACHE:
		req_submit(q, DISK_READ, 0);
		break;
	case NBD_CMD_WRITE:
		req_submit(q, DISK_WRITE, fua);
		break;
	case NBD_CMD_FLUSH:
		req_submit(q, DISK_FLUSH, 0);
		break;
	case NBD_CMD_TRIM:
		req_submit(q, DISK_DISCARD, 0);
		break;
	case NBD_CMD_WRITE_ZEROES:
		req_submit(q, DISK_WRITE_ZEROES,
			   fua | (q->flags & NBD_CMD_FLAG_NO_HOLE ? 0 : DISK_MAY_UNMAP) |
				   (q->flags & NBD_CMD_FLAG_FAST_ZERO ? DISK_NO_FALLBACK : 0));
		break;
	default:
		q->work.data = q;
		if (work_submit(c->t->t->workers, &q->work, status_work, status_worked) < 0) {
			c->n_inflight--;
			req_reply(q, -ENOMEM);
		}
	}
}

/* ---- taking requests ---- */

/* Bytes of the buffer that a request needs. */
static size_t buf_wanted(uint16_t type, uint32_t len)
{
	switch (type) {
	case NBD_CMD_READ:
	case NBD_CMD_WRITE:
	case NBD_CMD_CACHE:
		return len <= NBD_PAYLOAD_MAX ? len : 0; /* longer ones are refused */
	case NBD_CMD_BLOCK_STATUS:
		return STATUS_BUF;
	default:
		return 0;
	}
}

/* One request's head from `in`.  False: not whole yet, or the connection has to wait, or it ends. */
static bool take_head(struct conn *c)
{
	struct nbd_request h;
	struct req *q;
	size_t size;
	int r;

	if (c->in_end - c->in_at < sizeof(h))
		return false;
	memcpy(&h, c->in + c->in_at, sizeof(h));
	if (h.magic != htobe32(NBD_REQUEST_MAGIC)) {
		conn_end(c, CONN_HARD, "wrong magic number in a request");
		return false;
	}
	if (be16toh(h.type) == NBD_CMD_DISC) {
		conn_end(c, CONN_SOFT, NULL);
		return false;
	}
	size = buf_wanted(be16toh(h.type), be32toh(h.length));
	if (!conn_admit(c, size))
		return false;
	q = req_new(c, &h);
	if (!q) {
		conn_end(c, CONN_HARD, "out of memory");
		return false;
	}
	c->in_at += sizeof(h);
	r = req_check(q);
	if (r == 0 && size > 0 && !req_get_buf(q, size))
		r = -ENOMEM;
	if (r < 0) {
		if (q->type == NBD_CMD_WRITE)
			c->skip = q->length;
		req_reply(q, r);
	} else if (q->type == NBD_CMD_WRITE) {
		c->cur = q;
		c->cur_got = 0;
	} else {
		req_start(q);
	}
	return true;
}

static bool take_payload(struct conn *c)
{
	struct req *q = c->cur;
	size_t n = MIN(c->in_end - c->in_at, q->length - c->cur_got);

	if (n > 0)
		memcpy((uint8_t *)q->buf + c->cur_got, c->in + c->in_at, n);
	c->in_at += n;
	c->cur_got += n;
	if (c->cur_got < q->length)
		return false;
	c->cur = NULL;
	req_start(q);
	return true;
}

static bool take_skip(struct conn *c)
{
	size_t n = (size_t)MIN(c->skip, (uint64_t)(c->in_end - c->in_at));

	c->in_at += n;
	c->skip -= n;
	return c->skip == 0;
}

static void take_requests(struct conn *c)
{
	c->full = false;
	disk_plug(c->q);
	while (c->end == CONN_OPEN && (c->cur	 ? take_payload(c)
				       : c->skip ? take_skip(c)
						 : take_head(c)))
		;
	disk_unplug(c->q);
}

static bool conn_held(const struct conn *c)
{
	return c->full || !list_empty(&c->in_waiting);
}

static void begin_transmission(struct conn *c)
{
	c->handshaking = false;
	c->x = c->t->s->x[c->hs.chosen];
	c->q = export_queue(c->x, c->t->t);
	if (!c->q)
		conn_end(c, CONN_HARD, "the export cannot be used");
}

static void take_options(struct conn *c)
{
	c->stalled = false;
	while (c->end == CONN_OPEN) {
		ssize_t n;

		if (c->hs_out.len >= HS_BACKLOG) {
			c->stalled = true;
			return;
		}
		n = nbd_hs_feed(&c->hs, c->in + c->in_at, c->in_end - c->in_at, &c->hs_out);
		if (n < 0 || buf_error(&c->hs_out)) {
			conn_end(c, CONN_HARD, "malformed negotiation");
			return;
		}
		c->in_at += (size_t)n;
		if (c->hs.state == NBD_HS_CLOSE) {
			conn_end(c, CONN_SOFT, NULL);
		} else if (c->hs.state == NBD_HS_TLS) {
			/* what follows in plain text was not meant for us: a man in the middle could have put it there */
			if (c->in_at < c->in_end)
				conn_end(c, CONN_HARD, "plain text after STARTTLS");
			c->securing = true;
			return;
		} else if (c->hs.state == NBD_HS_READY) {
			begin_transmission(c);
			return;
		} else if (n == 0) {
			return;
		}
	}
}

/* ---- bytes ---- */

static ssize_t conn_recv(struct conn *c, void *p, size_t len)
{
	ssize_t n;

	if (c->tls)
		return tls_read(c->tls, p, len);
	do
		n = recv(c->fd, p, len, 0);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

/* Read once.  1: something came and there may be more; 0: no. */
static int conn_fill(struct conn *c)
{
	size_t want, left;
	ssize_t n;
	void *p;

	if (c->in_at == c->in_end)
		c->in_at = c->in_end = 0;
	if (c->cur && c->in_at == c->in_end && c->cur->length - c->cur_got >= DIRECT_MIN) {
		p = (uint8_t *)c->cur->buf + c->cur_got;
		want = c->cur->length - c->cur_got;
		n = conn_recv(c, p, want);
		if (n > 0)
			c->cur_got += (size_t)n;
	} else {
		left = c->in_end - c->in_at;
		if (c->in_at > 0 && IN_SIZE - c->in_end < IN_SIZE / 2) {
			memmove(c->in, c->in + c->in_at, left);
			c->in_at = 0;
			c->in_end = left;
		}
		p = c->in + c->in_end;
		want = IN_SIZE - c->in_end;
		if (want == 0) /* held: nothing is taken until it goes on */
			return 0;
		n = conn_recv(c, p, want);
		if (n > 0)
			c->in_end += (size_t)n;
	}
	if (n == -EAGAIN)
		return 0;
	if (n <= 0) {
		conn_end(c, CONN_HARD,
			 n < 0 || c->cur || c->skip || c->in_at < c->in_end ? "connection lost"
									    : NULL);
		return 0;
	}
	c->moved += (uint64_t)n;
	return (size_t)n == want || (c->tls && tls_pending(c->tls) > 0);
}

/* Next pieces of what waits, at most `max` of them. */
static unsigned int out_gather(struct conn *c, struct iovec *iov, unsigned int max)
{
	size_t at = c->out_at;
	unsigned int n = 0;
	struct req *q;

	if (c->hs_out.len > 0) {
		iov[0] = (struct iovec){ c->hs_out.s, c->hs_out.len };
		return 1;
	}
	list_for_each_entry(q, &c->out, link) {
		if (n + 2 > max)
			break;
		if (at < q->head_len)
			iov[n++] = (struct iovec){ q->head + at, q->head_len - at };
		at = at > q->head_len ? at - q->head_len : 0;
		if (at < q->payload_len)
			iov[n++] = (struct iovec){ (uint8_t *)q->buf + at, q->payload_len - at };
		at = 0;
	}
	return n;
}

static void out_sent(struct conn *c, size_t n)
{
	struct req *q;

	if (c->hs_out.len > 0) {
		buf_consume(&c->hs_out, n);
		return;
	}
	n += c->out_at;
	while ((q = list_first_entry(&c->out, struct req, link))) {
		size_t len = q->head_len + q->payload_len;

		if (n < len)
			break;
		n -= len;
		list_del(&q->link);
		req_free(q);
	}
	c->out_at = n;
	if (!list_empty(&c->t->waiting))
		round_later(c->t);
}

static bool out_waits(const struct conn *c)
{
	return c->hs_out.len > 0 || c->stage_at < c->stage_len || !list_empty(&c->out);
}

static ssize_t out_tls(struct conn *c)
{
	struct iovec iov[OUT_IOV];

	if (c->stage_at == c->stage_len) {
		unsigned int k = out_gather(c, iov, OUT_IOV);

		c->stage_at = c->stage_len = 0;
		for (unsigned int i = 0; i < k && c->stage_len < TLS_STAGE; i++) {
			size_t n = MIN(iov[i].iov_len, TLS_STAGE - c->stage_len);

			memcpy(c->stage + c->stage_len, iov[i].iov_base, n);
			c->stage_len += n;
		}
		out_sent(c, c->stage_len);
	}
	while (c->stage_at < c->stage_len) {
		ssize_t n = tls_write(c->tls, c->stage + c->stage_at, c->stage_len - c->stage_at);

		if (n < 0)
			return n;
		c->stage_at += (size_t)n;
		c->moved += (uint64_t)n;
	}
	return 1;
}

static ssize_t out_plain(struct conn *c)
{
	struct iovec iov[OUT_IOV];
	struct msghdr m = { .msg_iov = iov };
	ssize_t n;

	m.msg_iovlen = out_gather(c, iov, OUT_IOV);
	do
		n = sendmsg(c->fd, &m, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	c->moved += (uint64_t)n;
	out_sent(c, (size_t)n);
	return n;
}

static void conn_flush(struct conn *c)
{
	while (out_waits(c)) {
		ssize_t n = c->tls ? out_tls(c) : out_plain(c);

		if (n == -EAGAIN)
			return;
		if (n < 0) {
			conn_end(c, CONN_HARD, "connection lost");
			return;
		}
	}
}

static void conn_secure(struct conn *c)
{
	int r = 0;

	if (out_waits(c)) /* the ACK of STARTTLS */
		return;
	if (!c->tls) {
		c->stage = malloc(TLS_STAGE);
		r = c->stage ? tls_accept(c->t->s->cfg.tls, c->fd, &c->tls) : -ENOMEM;
	}
	if (r == 0)
		r = tls_handshake(c->tls);
	if (r == -EAGAIN)
		return;
	if (r < 0) {
		conn_end(c, CONN_HARD, c->tls ? tls_error(c->tls) : "out of memory");
		return;
	}
	c->securing = false;
	nbd_hs_secured(&c->hs);
}

/* ---- life ---- */

static void conn_free(struct conn *c)
{
	struct nbd_server *s = c->t->s;
	struct list *l;

	watch_remove(&c->watch);
	timer_stop(&c->patrol);
	list_del(&c->in_thread);
	list_del(&c->in_dirty);
	list_del(&c->in_waiting);
	if (c->cur)
		req_free(c->cur);
	while ((l = list_pop(&c->out)))
		req_free(list_entry(l, struct req, link));
	if (!list_empty(&c->t->waiting))
		round_later(c->t);
	tls_free(c->tls);
	safe_close(c->fd);
	buf_done(&c->hs_out);
	free(c->stage);
	free(c->in);
	export_thread_release(c->t->t);
	free(c);
	if (atomic_fetch_sub(&s->clients, 1) == 1 && atomic_load(&s->stopping))
		nbd_server_drained(s);
}

static void conn_end(struct conn *c, enum conn_end how, const char *why)
{
	if (why && c->end != CONN_HARD)
		log_warn_rl(&c->t->log_rl, "client dropped", "reason", why, "export",
			    c->x ? c->x->name : "-");
	c->end = MAX(c->end, how);
	list_del(&c->in_waiting);
	conn_later(c);
}

static void conn_watch(struct conn *c)
{
	uint32_t want = 0;

	if (c->end == CONN_OPEN && !conn_held(c) && c->hs_out.len < HS_BACKLOG)
		want |= EPOLLIN;
	if (out_waits(c) || (c->securing && c->tls && tls_wants_write(c->tls)))
		want |= EPOLLOUT;
	if (want != c->events && watch_active(&c->watch) && watch_modify(&c->watch, want) == 0)
		c->events = want;
}

static void conn_take(struct conn *c)
{
	if (c->handshaking && !c->securing)
		take_options(c);
	if (!c->handshaking && c->end == CONN_OPEN)
		take_requests(c);
}

/* Do whatever can be done.  May free c. */
static void conn_go(struct conn *c)
{
	unsigned int n_reqs;
	int more = 1;

	list_del(&c->in_dirty);
	for (int i = 0; i < READ_ROUNDS && more; i++) {
		if (c->end == CONN_OPEN)
			conn_take(c);
		if (c->end != CONN_OPEN || c->securing || c->stalled || conn_held(c))
			break;
		more = conn_fill(c);
	}
	if (c->end == CONN_OPEN && !c->securing && !c->stalled && !conn_held(c)) {
		if (more)
			conn_later(c); /* others first */
		else
			conn_take(c);
	}
	n_reqs = c->n_reqs;
	if (c->end != CONN_HARD)
		conn_flush(c);
	if ((c->full && c->n_reqs < n_reqs) || (c->stalled && c->hs_out.len < HS_BACKLOG))
		conn_later(c); /* there is room again */
	if (c->securing && c->end == CONN_OPEN) {
		conn_secure(c);
		if (!c->securing)
			conn_later(c); /* decrypted bytes may wait already */
	}
	if (c->end != CONN_OPEN && c->n_inflight == 0 && (c->end == CONN_HARD || !out_waits(c))) {
		conn_free(c);
		return;
	}
	conn_watch(c);
}

static void on_event(struct watch *w, uint32_t events)
{
	struct conn *c = w->data;

	/* Nobody is there to read replies, and no read() would tell: an event that stays must not spin the loop. */
	if (events & (EPOLLHUP | EPOLLERR) && (c->end != CONN_OPEN || conn_held(c) || c->stalled)) {
		conn_end(c, CONN_HARD, NULL);
		watch_remove(&c->watch);
	}
	conn_go(c);
}

static void on_patrol(struct timer *t)
{
	struct conn *c = t->data;
	bool busy = out_waits(c) || (!conn_held(c) && (c->cur || c->skip || c->in_at < c->in_end));

	if (c->handshaking)
		conn_end(c, CONN_HARD, "negotiation takes too long");
	else if (busy && c->was_busy && c->moved < PROGRESS)
		conn_end(c, CONN_HARD, "no progress within the time limit");
	c->was_busy = busy;
	c->moved = 0;
}

static void conn_start(void *arg)
{
	struct conn *c = arg;
	struct nbd_thread *t = c->t;
	nsec_t limit = t->s->cfg.timeout;

	list_add_tail(&t->conns, &c->in_thread);
	nbd_hs_init(&c->hs, t->s->cfg.tls_mode, nbd_server_nth, t->s, &c->hs_out);
	c->events = EPOLLIN;
	c->watch.data = c->patrol.data = c;
	if (atomic_load(&t->s->stopping) ||
	    watch_fd(t->t->loop, &c->watch, "nbd", c->fd, EPOLLIN, on_event) < 0 ||
	    timer_start(t->t->loop, &c->patrol, "nbd-patrol", limit, limit, on_patrol) < 0) {
		conn_free(c);
		return;
	}
	c->watch.data = c->patrol.data = c;
	conn_go(c);
}

int nbd_conn_new(struct nbd_thread *t, int fd, bool tcp)
{
	struct conn *c = calloc(1, sizeof(*c));
	int one = 1;

	if (c)
		c->in = malloc(IN_SIZE);
	if (!c || !c->in) {
		free(c);
		return -ENOMEM;
	}
	c->t = t;
	c->fd = fd;
	c->handshaking = true;
	list_init(&c->in_thread);
	list_init(&c->in_dirty);
	list_init(&c->in_waiting);
	list_init(&c->out);
	if (tcp) {
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	}
	if (loop_post(t->t->loop, conn_start, c) < 0) {
		free(c->in);
		free(c);
		return -ENOMEM;
	}
	return 0;
}

void nbd_conns_stop(struct nbd_thread *t, bool hard)
{
	struct conn *c, *next;

	list_for_each_entry_safe(c, next, &t->conns, in_thread)
		conn_end(c, hard ? CONN_HARD : CONN_SOFT, NULL);
}

void nbd_thread_init(struct nbd_thread *t)
{
	list_init(&t->conns);
	list_init(&t->dirty);
	list_init(&t->waiting);
	list_init(&t->free_reqs);
}

void nbd_thread_done(struct nbd_thread *t)
{
	struct list *l;

	timer_stop(&t->round);
	while ((l = list_pop(&t->free_reqs)))
		free(list_entry(l, struct req, link));
	for (int k = 0; k < NBD_BUF_CLASSES; k++)
		while (t->bufs[k]) {
			void *p = t->bufs[k];

			memcpy(&t->bufs[k], p, sizeof(void *));
			free(p);
		}
}
