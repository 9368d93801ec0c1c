/* A ring of a vhost-user-blk device: requests from guest memory to the disk and back.  Spec: virtio 1.2, 5.2.6.
 * Thread: the I/O thread that the ring was given, but for the functions of vu_ring.h.
 *
 * One pass takes all that is there and gives it to the disk with one system call.  With DENSE or more outstanding, kicks
 * stay off and completions are gathered until half of what is outstanding has come, DENSE_WAIT at the longest: one
 * interrupt then tells of many.
 *
 * The record of requests in flight: a request is marked when it is taken, unmarked after the used index that tells of it
 * was stored.  In between, `last_batch_head`, `next` and `used_idx` say which marks a crash has left behind. */
#define LOG_MODULE "vhost-user-blk"
#include <string.h>
#include <sys/mman.h>
#include "base/checked.h"
#include "base/log.h"
#include "storage/export/vu_ring.h"

#define SECTOR	   512U
#define RANGES_MAX 16
#define DENSE	   8
#define DENSE_WAIT (50 * NSEC_PER_USEC)
#define ROUNDS	   8

struct vu_request {
	struct disk_io io;
	struct vu_ring *r;
	struct vu_request *next;
	uint8_t *status;
	uint32_t written;
	unsigned int n_ranges, range;
	enum disk_op range_op;
	struct virtio_blk_discard_write_zeroes ranges[RANGES_MAX];
	struct vq_chain chain; /* last: most of it is never touched */
};

/* ---- the record ---- */

static void rec_take(struct vu_ring *r, uint16_t head)
{
	struct vu_inflight_desc *d;

	if (!r->rec)
		return;
	d = &r->rec->desc[head];
	d->counter = r->counter++;
	__atomic_store_n(&d->inflight, 1, __ATOMIC_RELEASE);
}

static void rec_done(struct vu_ring *r, uint16_t head)
{
	if (!r->rec)
		return;
	r->rec->desc[head].next = r->rec->last_batch_head;
	__atomic_store_n(&r->rec->last_batch_head, head, __ATOMIC_RELEASE);
	r->batch[r->n_batch++] = head;
}

static void rec_committed(struct vu_ring *r)
{
	if (!r->rec)
		return;
	for (unsigned int i = 0; i < r->n_batch; i++)
		__atomic_store_n(&r->rec->desc[r->batch[i]].inflight, 0, __ATOMIC_RELEASE);
	__atomic_store_n(&r->rec->used_idx, r->vq.used_idx, __ATOMIC_RELEASE);
	r->n_batch = 0;
}

static int by_counter(const void *a, const void *b, void *arg)
{
	const struct vu_ring *r = arg;
	uint64_t x = r->rec->desc[*(const uint16_t *)a].counter,
		 y = r->rec->desc[*(const uint16_t *)b].counter;

	return x < y ? -1 : x > y;
}

/* What an earlier server left: the heads to carry out again, oldest first, in r->batch; their number. */
static unsigned int rec_load(struct vu_ring *r)
{
	struct vu_inflight_queue *rec = r->rec;
	uint16_t used = r->vq.used_idx, head = rec->last_batch_head, n;
	unsigned int left = 0;

	/* the last batch was told to the guest, but perhaps not unmarked */
	n = (uint16_t)(used - rec->used_idx);
	for (unsigned int i = 0; i < n && i < r->num && head < r->num; i++) {
		rec->desc[head].inflight = 0;
		head = rec->desc[head].next;
	}
	rec->used_idx = used;
	r->counter = 0;
	for (uint16_t i = 0; i < r->num; i++) {
		if (rec->desc[i].inflight == 0)
			continue;
		r->batch[left++] = i;
		r->counter = MAX(r->counter, rec->desc[i].counter + 1);
	}
	qsort_r(r->batch, left, sizeof(r->batch[0]), by_counter, r);
	return left;
}

/* ---- completion ---- */

static void on_pass(struct timer *t);

static void ring_event(int fd)
{
	uint64_t one = 1;

	if (fd >= 0 && write(fd, &one, sizeof(one)) < 0)
		return; /* a full counter: it was told already */
}

static void ring_broken(struct vu_ring *r, const char *why)
{
	if (!r->failed)
		log_warn("ring is broken; it stands still until the driver resets the device",
			 "export", r->d->x->name, "queue", r->index, "reason", why);
	r->failed = true;
	r->vq.broken = true;
	ring_event(r->err_fd);
}

static void ring_commit(struct vu_ring *r)
{
	bool told = vq_commit(&r->vq);

	rec_committed(r);
	if (told)
		ring_event(r->call_fd);
}

static void schedule_pass(struct vu_ring *r)
{
	unsigned int done = r->vq.uncommitted, out = r->vq.inflight;
	nsec_t delay = done + out >= DENSE && done < out ? DENSE_WAIT : 0;

	if (timer_active(&r->pass)) {
		if (delay || r->pass.when <= loop_now(r->t->loop))
			return;
		timer_stop(&r->pass);
	}
	if (timer_start(r->t->loop, &r->pass, "vu-pass", delay, 0, on_pass) < 0)
		ring_commit(r);
}

static struct vu_request *get_request(struct vu_ring *r)
{
	struct vu_request *q = r->free;

	if (q)
		r->free = q->next;
	else
		q = &r->pool[r->n_used++]; /* vq.c holds: never more than the ring */
	q->r = r;
	return q;
}

static void put_request(struct vu_request *q)
{
	q->next = q->r->free;
	q->r->free = q;
}

static void finish(struct vu_request *q, uint8_t status)
{
	struct vu_ring *r = q->r;

	*q->status = status;
	rec_done(r, q->chain.head);
	vq_push(&r->vq, &q->chain, status == VIRTIO_BLK_S_OK ? q->written + 1 : 1);
	put_request(q);
}

static void submit_range(struct vu_request *q);

static void done(struct disk_io *io, int res)
{
	struct vu_request *q = io->data;
	struct vu_ring *r = q->r;

	if (res == 0 && q->n_ranges > q->range) {
		submit_range(q);
		return;
	}
	if (res < 0) {
		pthread_mutex_lock(&r->d->rl_lock);
		log_warn_rl(&r->d->log_rl, "request failed", "export", r->d->x->name, "op", io->op,
			    "offset", io->off, "bytes", io->len, "error", err_name(-res));
		pthread_mutex_unlock(&r->d->rl_lock);
	}
	finish(q, res == 0	       ? VIRTIO_BLK_S_OK
		  : res == -EOPNOTSUPP ? VIRTIO_BLK_S_UNSUPP
				       : VIRTIO_BLK_S_IOERR);
	if (!r->stopping) {
		schedule_pass(r);
	} else if (r->vq.inflight == 0) {
		ring_commit(r);
		sem_post(&r->idle);
	}
}

/* ---- requests ---- */

static bool inside(const struct vu_ring *r, uint64_t sector, uint64_t len, uint64_t *off)
{
	return !mul_of(sector, (uint64_t)SECTOR, off) &&
	       range_inside(*off, len, disk_size(r->d->x->disk));
}

static void submit(struct vu_request *q, enum disk_op op, unsigned int flags,
		   const struct iovec *iov, unsigned int niov, uint64_t off, uint64_t len)
{
	memset(&q->io, 0, sizeof(q->io));
	q->io.op = (uint8_t)op;
	q->io.flags = (uint8_t)flags;
	q->io.iov = iov;
	q->io.niov = niov;
	q->io.off = off;
	q->io.len = len;
	q->io.done = done;
	q->io.data = q;
	disk_submit(q->r->dq, &q->io);
}

static void submit_range(struct vu_request *q)
{
	const struct virtio_blk_discard_write_zeroes *g = &q->ranges[q->range++];
	bool unmap = le32toh(g->flags) & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;

	submit(q, q->range_op, q->range_op == DISK_WRITE_ZEROES && unmap ? DISK_MAY_UNMAP : 0, NULL,
	       0, le64toh(g->sector) * SECTOR, (uint64_t)le32toh(g->num_sectors) * SECTOR);
}

static uint8_t start_ranges(struct vu_request *q, bool discard)
{
	struct vu_ring *r = q->r;
	uint64_t len = q->chain.out_len - sizeof(struct virtio_blk_outhdr), off;

	if (disk_readonly(r->d->x->disk))
		return VIRTIO_BLK_S_IOERR;
	if (!vu_has(r->d, discard ? VIRTIO_BLK_F_DISCARD : VIRTIO_BLK_F_WRITE_ZEROES))
		return VIRTIO_BLK_S_UNSUPP;
	if (len == 0 || len % sizeof(q->ranges[0]) != 0 || len > sizeof(q->ranges))
		return VIRTIO_BLK_S_IOERR;
	vq_read(&q->chain, sizeof(struct virtio_blk_outhdr), q->ranges, len);
	q->n_ranges = (unsigned int)(len / sizeof(q->ranges[0]));
	for (unsigned int i = 0; i < q->n_ranges; i++) {
		const struct virtio_blk_discard_write_zeroes *g = &q->ranges[i];
		uint32_t known = discard ? 0 : VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;

		if (le32toh(g->flags) & ~known)
			return VIRTIO_BLK_S_UNSUPP;
		if (!inside(r, le64toh(g->sector), (uint64_t)le32toh(g->num_sectors) * SECTOR,
			    &off))
			return VIRTIO_BLK_S_IOERR;
	}
	q->range_op = discard ? DISK_DISCARD : DISK_WRITE_ZEROES;
	submit_range(q);
	return VIRTIO_BLK_S_OK;
}

/* Cut n bytes off the front of the out segments, which are ours. */
static struct iovec *cut_front(struct vq_chain *c, size_t n, unsigned int *left)
{
	unsigned int i = 0;

	while (i < c->n_out && n >= c->iov[i].iov_len)
		n -= c->iov[i++].iov_len;
	if (i < c->n_out) {
		c->iov[i].iov_base = (uint8_t *)c->iov[i].iov_base + n;
		c->iov[i].iov_len -= n;
	}
	*left = c->n_out - i;
	return c->iov + i;
}

static uint8_t start_data(struct vu_request *q, bool write, uint64_t sector)
{
	struct vu_dev *d = q->r->d;
	struct vq_chain *c = &q->chain;
	uint64_t len = write ? c->out_len - sizeof(struct virtio_blk_outhdr) : c->in_len, off;
	struct iovec *iov = c->iov + c->n_out;
	unsigned int n = c->n_in;

	if (write)
		iov = cut_front(c, sizeof(struct virtio_blk_outhdr), &n);
	if ((write && disk_readonly(d->x->disk)) || len % SECTOR != 0 ||
	    len > disk_limits(d->x->disk).max_io || !inside(q->r, sector, len, &off))
		return VIRTIO_BLK_S_IOERR;
	if (len == 0) {
		finish(q, VIRTIO_BLK_S_OK);
		return VIRTIO_BLK_S_OK;
	}
	q->written = write ? 0 : (uint32_t)len;
	submit(q, write ? DISK_WRITE : DISK_READ,
	       write && atomic_load_explicit(&d->write_through, memory_order_relaxed) ? DISK_FUA
										      : 0,
	       iov, n, off, len);
	return VIRTIO_BLK_S_OK;
}

static void get_id(struct vu_request *q)
{
	char id[VIRTIO_BLK_ID_BYTES] = { 0 };
	uint32_t n = (uint32_t)MIN(q->chain.in_len, (uint64_t)sizeof(id));
	const char *name = q->r->d->x->name;

	memcpy(id, name, strnlen(name, sizeof(id))); /* need not end in a NUL (5.2.6) */
	vq_write(&q->chain, 0, id, n);
	q->written = n;
	finish(q, VIRTIO_BLK_S_OK);
}

static void start_request(struct vu_request *q, const struct virtio_blk_outhdr *h)
{
	uint8_t status = VIRTIO_BLK_S_OK;

	q->written = 0;
	q->n_ranges = q->range = 0;
	switch (le32toh(h->type)) {
	case VIRTIO_BLK_T_IN:
		status = start_data(q, false, le64toh(h->sector));
		break;
	case VIRTIO_BLK_T_OUT:
		status = start_data(q, true, le64toh(h->sector));
		break;
	case VIRTIO_BLK_T_FLUSH:
		submit(q, DISK_FLUSH, 0, NULL, 0, 0, 0);
		break;
	case VIRTIO_BLK_T_GET_ID:
		get_id(q);
		break;
	case VIRTIO_BLK_T_DISCARD:
		status = start_ranges(q, true);
		break;
	case VIRTIO_BLK_T_WRITE_ZEROES:
		status = start_ranges(q, false);
		break;
	default:
		status = VIRTIO_BLK_S_UNSUPP;
	}
	if (status != VIRTIO_BLK_S_OK)
		finish(q, status);
}

/* The chain is there: look at it.  False: the ring is broken. */
static bool begin_request(struct vu_request *q)
{
	struct vq_chain *c = &q->chain;
	struct virtio_blk_outhdr h;
	struct iovec *last;

	if (c->in_len == 0 || vq_read(c, 0, &h, sizeof(h)) < 0) {
		ring_broken(q->r, "request without header or status");
		q->r->vq.inflight--;
		put_request(q);
		return false;
	}
	/* the status is the last byte of the in segments */
	last = &c->iov[c->n_out + c->n_in - 1];
	q->status = (uint8_t *)last->iov_base + --last->iov_len;
	c->in_len--;
	if (last->iov_len == 0)
		c->n_in--;
	start_request(q, &h);
	return true;
}

static bool take_one(struct vu_ring *r)
{
	struct vu_request *q = get_request(r);
	int n = vq_pop(&r->vq, &q->chain);

	if (n <= 0) {
		put_request(q);
		if (n < 0)
			ring_broken(r, "malformed descriptors");
		return false;
	}
	rec_take(r, q->chain.head);
	return begin_request(q);
}

static void ring_run(struct vu_ring *r)
{
	for (int round = 0; round < ROUNDS && !r->stopping; round++) {
		unsigned int n = 0;

		vq_kick_off(&r->vq);
		disk_plug(r->dq);
		while (take_one(r))
			n++;
		disk_unplug(r->dq);
		if (r->vq.uncommitted)
			ring_commit(r);
		if (r->vq.inflight >= DENSE && n > 0) {
			/* kicks stay off: the next pass looks at the ring */
			r->polling = true;
			if (!timer_active(&r->pass))
				timer_start(r->t->loop, &r->pass, "vu-pass", DENSE_WAIT, 0,
					    on_pass);
			return;
		}
		r->polling = false;
		if (!vq_kick_on(&r->vq))
			return;
	}
	/* others first */
	r->polling = true;
	if (!r->stopping && !timer_active(&r->pass))
		timer_start(r->t->loop, &r->pass, "vu-pass", 0, 0, on_pass);
}

static void on_pass(struct timer *t)
{
	struct vu_ring *r = t->data;

	ring_commit(r);
	if (r->polling)
		ring_run(r);
}

static void on_kick(struct watch *w, uint32_t events)
{
	struct vu_ring *r = w->data;
	uint64_t count;

	if (read(r->kick_fd, &count, sizeof(count)) < 0 && errno != EAGAIN) {
		/* not an eventfd after all: it would be readable for ever */
		ring_broken(r, "the kick descriptor cannot be read");
		watch_remove(w);
		return;
	}
	ring_run(r);
}

/* ---- starting and stopping ---- */

/* The front end's address of a ring part, as the guest's. */
static bool to_gpa(const struct vu_dev *d, uint64_t uaddr, gpa_t *ret)
{
	for (unsigned int i = 0; i < d->n_maps; i++) {
		const struct vu_map *m = &d->maps[i];

		if (uaddr >= m->uaddr && uaddr - m->uaddr < m->size) {
			*ret = m->gpa + (uaddr - m->uaddr);
			return true;
		}
	}
	return false;
}

static int setup(struct vu_ring *r, struct err **e)
{
	struct vu_dev *d = r->d;
	struct vq_addr a;
	unsigned int flags = (vu_has(d, VIRTIO_RING_F_EVENT_IDX) ? VQ_EVENT_IDX : 0U) |
			     (vu_has(d, VIRTIO_RING_F_INDIRECT_DESC) ? VQ_INDIRECT : 0U);
	int k;

	if (!to_gpa(d, r->addr.desc, &a.desc) || !to_gpa(d, r->addr.avail, &a.driver) ||
	    !to_gpa(d, r->addr.used, &a.device))
		return err_set(e, EFAULT, "vhost_user.ring", "its parts are not in shared memory");
	r->dq = export_queue(d->x, r->t);
	if (!r->dq)
		return err_set(e, EIO, "vhost_user.ring", "the disk cannot be used");
	k = vq_init(&r->vq, &d->mem, VU_RING_SIZE_MAX, e);
	if (k < 0)
		return k;
	r->vq.avail_idx = r->base;
	k = vq_enable(&r->vq, r->num, flags, &a, e);
	if (k == 0)
		vq_sync_used(&r->vq);
	return k;
}

static void resume(struct vu_ring *r)
{
	unsigned int n = r->rec ? rec_load(r) : 0;

	if (r->rec) /* what was taken is what was told of, and what is in flight */
		vq_seek(&r->vq, (uint16_t)(r->vq.used_idx + n));
	if (n > 0)
		log_info("requests of an earlier server are carried out again", "export",
			 r->d->x->name, "queue", r->index, "requests", n);
	disk_plug(r->dq);
	for (unsigned int i = 0; i < n; i++) {
		struct vu_request *q = get_request(r);

		if (vq_repop(&r->vq, r->batch[i], &q->chain) < 0) {
			put_request(q);
			ring_broken(r, "malformed descriptors of a request in flight");
			break;
		}
		if (!begin_request(q))
			break;
	}
	disk_unplug(r->dq);
}

static void start_on_thread(void *arg)
{
	struct vu_ring *r = arg;
	int k = setup(r, &r->error);

	r->watch.data = r->pass.data = r;
	if (k == 0) {
		k = watch_fd(r->t->loop, &r->watch, "vu-kick", r->kick_fd, EPOLLIN, on_kick);
		if (k < 0)
			err_sys(&r->error, -k, "watch the kick descriptor");
	}
	if (k < 0)
		return;
	resume(r);
	ring_run(r);
}

int vu_ring_start(struct vu_ring *r)
{
	int k;

	r->stopping = r->polling = r->failed = false;
	r->n_used = r->n_batch = 0;
	r->free = NULL;
	r->error = NULL;
	vq_done(&r->vq);
	r->pool = mmap(NULL, sizeof(*r->pool) * r->num, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	r->batch = calloc(r->num, sizeof(*r->batch));
	if (r->pool == MAP_FAILED || !r->batch) {
		if (r->pool != MAP_FAILED)
			munmap(r->pool, sizeof(*r->pool) * r->num);
		free(r->batch);
		r->batch = NULL;
		return err_set(&r->error, ENOMEM, "sys.ENOMEM", "out of memory");
	}
	r->t = export_thread_acquire(r->d->ts);
	sem_init(&r->idle, 0, 0);
	export_thread_call(r->t, start_on_thread, r);
	if (r->error) {
		k = -err_num(r->error);
		vu_ring_stop(r);
		return k;
	}
	return 0;
}

static void stop_on_thread(void *arg)
{
	struct vu_ring *r = arg;

	r->stopping = true;
	watch_remove(&r->watch);
	timer_stop(&r->pass);
	if (r->vq.inflight == 0) {
		ring_commit(r);
		sem_post(&r->idle);
	}
}

static void commit_on_thread(void *arg)
{
	timer_stop(&((struct vu_ring *)arg)->pass);
}

void vu_ring_stop(struct vu_ring *r)
{
	if (!r->t)
		return;
	export_thread_call(r->t, stop_on_thread, r);
	while (sem_wait(&r->idle) < 0)
		;
	export_thread_call(r->t, commit_on_thread, r); /* done() has returned */
	sem_destroy(&r->idle);
	if (r->vq.enabled)
		r->base = r->vq.avail_idx;
	munmap(r->pool, sizeof(*r->pool) * r->num);
	free(r->batch);
	r->batch = NULL;
	export_thread_release(r->t);
	r->t = NULL;
}

struct set_call {
	struct vu_ring *r;
	int fd;
};

static void set_call(void *arg)
{
	struct set_call *s = arg;

	safe_close(s->r->call_fd);
	s->r->call_fd = s->fd;
	if (s->r->t) /* what was told to nobody meanwhile */
		ring_event(s->fd);
}

void vu_ring_set_call(struct vu_ring *r, int fd)
{
	struct set_call s = { r, fd };

	if (r->t)
		export_thread_call(r->t, set_call, &s);
	else
		set_call(&s);
}
