/* virtio-blk: a disk of the storage engine as the guest sees it.   Spec: virtio 1.2, 5.2.
 *
 * A queue of the device has a queue of the disk on the same I/O loop.  One pass: pop all that is there, submit all
 * with one system call (plug), and later push all completions of a pass with one interrupt at most.
 *
 * Dense and sparse.  With few requests outstanding a completion is announced at once and the driver kicks for each
 * request.  With DENSE or more, (1) completions are gathered until half of what is outstanding has completed,
 * DENSE_WAIT at the longest, and (2) kicks stay off: each completion pass looks at the ring, and a timer that finds
 * nothing new turns kicks on again.
 *
 * No allocation per request: the pool holds as many as the ring, and is touched only as far as it is used.
 * Thread: registers on vCPU threads (virtio.c); a queue and all its requests on its I/O loop; the rate limit is
 * shared and locked. */
#define LOG_MODULE "virtio-blk"
#include <linux/virtio_blk.h>
#include <linux/virtio_ids.h>
#include <string.h>
#include <sys/mman.h>
#include "base/checked.h"
#include "base/log.h"
#include "base/save.h"
#include "storage/storage.h"
#include "vmm/devices.h"
#include "vmm/iothread.h"
#include "vmm/memory.h"
#include "vmm/virtio/blk.h"
#include "vmm/virtio/virtio.h"
#include "vmm/vm.h"

#define QUEUE_SIZE 256
#define SECTOR	   512U
#define RANGES_MAX 16 /* of one discard or write-zeroes request */
#define DENSE	   8
#define DENSE_WAIT (50 * NSEC_PER_USEC)

struct bqueue;

struct request {
	struct disk_io io;
	struct bqueue *bq;
	struct request *next; /* free list */
	uint8_t *status;
	uint32_t written; /* bytes of the in segments, when it succeeds, without the status */
	unsigned int n_ranges, range; /* of a discard or write-zeroes, and the next one */
	enum disk_op range_op;
	struct virtio_blk_discard_write_zeroes ranges[RANGES_MAX];
	struct vq_chain chain; /* last: most of it is never touched */
};

struct bqueue {
	struct blk *blk;
	struct virtio_queue *q;
	struct disk_queue *dq;
	struct request *pool, *free;
	unsigned int n_used; /* requests of the pool that were ever used */
	struct timer pass;   /* announces completions, looks at the ring */
	struct timer limit;  /* the rate limit lets the next request pass */
	bool polling;	     /* kicks are off */
	uint64_t n_read, n_written, n_ops, n_errors;
};

struct blk {
	struct virtio_dev v; /* first */
	struct virtio_blk_config config;
	struct disk *disk;
	uint64_t max_io;
	bool readonly;
	char serial[VIRTIO_BLK_ID_BYTES];
	struct bqueue *bq; /* a queue each */
	pthread_mutex_t limit_lock;
	struct ratelimit iops, bps;
	_Atomic bool limited;
	_Atomic bool write_through;
	bool made; /* construct() came to the lock */
};

static struct blk *blk_of(struct virtio_dev *v)
{
	return container_of(v, struct blk, v);
}

static void count(uint64_t *x, uint64_t n)
{
	__atomic_store_n(x, *x + n, __ATOMIC_RELAXED);
}

/* -- pool ----------------------------------------------------------------------------------------- */

static struct request *get_request(struct bqueue *bq)
{
	struct request *r = bq->free;

	if (r)
		bq->free = r->next;
	else
		r = &bq->pool[bq->n_used++]; /* vq.c holds: never more than the ring */
	return r;
}

static void put_request(struct request *r)
{
	r->next = r->bq->free;
	r->bq->free = r;
}

/* -- completion ----------------------------------------------------------------------------------- */

static void on_pass(struct timer *t);

/* Announce soon: at the end of this round of the loop, or when gathering has gone on long enough. */
static void schedule_pass(struct bqueue *bq)
{
	const struct vq *vq = &bq->q->vq;
	unsigned int done = vq->uncommitted, out = vq->inflight;
	nsec_t delay = done + out >= DENSE && done < out ? DENSE_WAIT : 0;

	if (timer_active(&bq->pass)) {
		if (delay || bq->pass.when <= loop_now(bq->q->loop))
			return;
		timer_stop(&bq->pass);
	}
	if (timer_start(bq->q->loop, &bq->pass, "blk pass", delay, 0, on_pass) < 0)
		virtio_queue_commit(bq->q);
}

static void finish(struct request *r, uint8_t status)
{
	struct bqueue *bq = r->bq;

	*r->status = status;
	gmem_mark_dirty_host(bq->q->vq.mem, r->status, 1);
	if (status != VIRTIO_BLK_S_OK)
		count(&bq->n_errors, 1);
	/* a failed read has no data that counts, the status byte still comes last */
	vq_push(&bq->q->vq, &r->chain, status == VIRTIO_BLK_S_OK ? r->written + 1 : 1);
	put_request(r);
}

static void submit_range(struct request *r);

static void done(struct disk_io *io, int res)
{
	struct request *r = io->data;
	struct bqueue *bq = r->bq;

	if (res == 0 && r->n_ranges > r->range) {
		submit_range(r);
		return;
	}
	if (res < 0)
		log_warn_rl(&bq->blk->v.log_rl, "disk request failed", "device",
			    bq->blk->v.pd.dev.id, "op", io->op, "offset", io->off, "bytes", io->len,
			    "error", err_name(-res));
	finish(r, res == 0	       ? VIRTIO_BLK_S_OK
		  : res == -EOPNOTSUPP ? VIRTIO_BLK_S_UNSUPP
				       : VIRTIO_BLK_S_IOERR);
	schedule_pass(bq);
}

/* -- requests ------------------------------------------------------------------------------------- */

static bool inside(const struct blk *blk, uint64_t sector, uint64_t len, uint64_t *off)
{
	return !mul_of(sector, (uint64_t)SECTOR, off) &&
	       range_inside(*off, len, disk_size(blk->disk));
}

static void submit(struct request *r, enum disk_op op, unsigned int flags, const struct iovec *iov,
		   unsigned int niov, uint64_t off, uint64_t len)
{
	memset(&r->io, 0, sizeof(r->io));
	r->io.op = (uint8_t)op;
	r->io.flags = (uint8_t)flags;
	r->io.iov = iov;
	r->io.niov = niov;
	r->io.off = off;
	r->io.len = len;
	r->io.done = done;
	r->io.data = r;
	disk_submit(r->bq->dq, &r->io);
}

/* The chain's iov is ours to change: cut n bytes off the front of the out segments. */
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

/* Ranges were checked: all of them before the first is carried out. */
static void submit_range(struct request *r)
{
	const struct virtio_blk_discard_write_zeroes *g = &r->ranges[r->range++];
	bool unmap = le32toh(g->flags) & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;

	submit(r, r->range_op, r->range_op == DISK_WRITE_ZEROES && unmap ? DISK_MAY_UNMAP : 0, NULL,
	       0, le64toh(g->sector) * SECTOR, (uint64_t)le32toh(g->num_sectors) * SECTOR);
}

static uint8_t start_ranges(struct request *r, bool discard)
{
	struct blk *blk = r->bq->blk;
	uint64_t len = r->chain.out_len - sizeof(struct virtio_blk_outhdr), off;

	if (blk->readonly)
		return VIRTIO_BLK_S_IOERR;
	if (!virtio_has(&blk->v, discard ? VIRTIO_BLK_F_DISCARD : VIRTIO_BLK_F_WRITE_ZEROES))
		return VIRTIO_BLK_S_UNSUPP;
	if (len == 0 || len % sizeof(r->ranges[0]) != 0 || len > sizeof(r->ranges))
		return VIRTIO_BLK_S_IOERR;
	vq_read(&r->chain, sizeof(struct virtio_blk_outhdr), r->ranges, len);
	r->n_ranges = (unsigned int)(len / sizeof(r->ranges[0]));
	for (unsigned int i = 0; i < r->n_ranges; i++) {
		const struct virtio_blk_discard_write_zeroes *g = &r->ranges[i];
		uint32_t known = discard ? 0 : VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;

		if (le32toh(g->flags) & ~known) /* 5.2.6.2 */
			return VIRTIO_BLK_S_UNSUPP;
		if (le32toh(g->num_sectors) > blk->max_io / SECTOR ||
		    !inside(blk, le64toh(g->sector), (uint64_t)le32toh(g->num_sectors) * SECTOR,
			    &off))
			return VIRTIO_BLK_S_IOERR;
	}
	r->range_op = discard ? DISK_DISCARD : DISK_WRITE_ZEROES;
	submit_range(r);
	return VIRTIO_BLK_S_OK;
}

static uint8_t start_data(struct request *r, bool write, uint64_t sector)
{
	struct blk *blk = r->bq->blk;
	struct vq_chain *c = &r->chain;
	uint64_t len = write ? c->out_len - sizeof(struct virtio_blk_outhdr) : c->in_len, off;
	struct iovec *iov = c->iov + c->n_out;
	unsigned int n = c->n_in;

	if (write)
		iov = cut_front(c, sizeof(struct virtio_blk_outhdr), &n);
	if ((write && blk->readonly) || len % SECTOR != 0 || len > blk->max_io ||
	    !inside(blk, sector, len, &off))
		return VIRTIO_BLK_S_IOERR;
	if (len == 0) {
		finish(r, VIRTIO_BLK_S_OK);
		return VIRTIO_BLK_S_OK;
	}
	r->written = write ? 0 : (uint32_t)len;
	count(write ? &r->bq->n_written : &r->bq->n_read, len);
	submit(r, write ? DISK_WRITE : DISK_READ,
	       write && atomic_load_explicit(&blk->write_through, memory_order_relaxed) ? DISK_FUA
											: 0,
	       iov, n, off, len);
	return VIRTIO_BLK_S_OK;
}

/* The status is the last byte of the in segments; what is left of them is for data. */
static void cut_status(struct request *r)
{
	struct vq_chain *c = &r->chain;
	struct iovec *last = &c->iov[c->n_out + c->n_in - 1];

	r->status = (uint8_t *)last->iov_base + --last->iov_len;
	c->in_len--;
	if (last->iov_len == 0)
		c->n_in--;
}

static void start_request(struct request *r, const struct virtio_blk_outhdr *h)
{
	struct blk *blk = r->bq->blk;
	uint8_t status = VIRTIO_BLK_S_OK;

	count(&r->bq->n_ops, 1);
	r->written = 0;
	r->n_ranges = r->range = 0;
	switch (le32toh(h->type)) {
	case VIRTIO_BLK_T_IN:
		status = start_data(r, false, le64toh(h->sector));
		break;
	case VIRTIO_BLK_T_OUT:
		status = start_data(r, true, le64toh(h->sector));
		break;
	case VIRTIO_BLK_T_FLUSH:
		submit(r, DISK_FLUSH, 0, NULL, 0, 0, 0);
		break;
	case VIRTIO_BLK_T_GET_ID: {
		uint32_t n = (uint32_t)MIN(r->chain.in_len, (uint64_t)sizeof(blk->serial));

		vq_write(&r->chain, 0, blk->serial, n);
		r->written = n;
		finish(r, VIRTIO_BLK_S_OK);
		break;
	}
	case VIRTIO_BLK_T_DISCARD:
		status = start_ranges(r, true);
		break;
	case VIRTIO_BLK_T_WRITE_ZEROES:
		status = start_ranges(r, false);
		break;
	default:
		status = VIRTIO_BLK_S_UNSUPP;
	}
	if (status != VIRTIO_BLK_S_OK)
		finish(r, status);
}

/* 0, or how long the next request of this size has to wait. */
static nsec_t limit(struct blk *blk, uint64_t bytes)
{
	nsec_t now, wait;

	if (!atomic_load_explicit(&blk->limited, memory_order_relaxed))
		return 0;
	pthread_mutex_lock(&blk->limit_lock);
	now = now_mono();
	wait = ratelimit_take(&blk->bps, bytes, now);
	if (wait == 0) {
		wait = ratelimit_take(&blk->iops, 1, now);
		if (wait != 0 && bytes) /* give the bytes back: the request is asked for again */
			blk->bps.free_at -=
				blk->bps.rate
					? (nsec_t)(bytes * (uint64_t)NSEC_PER_SEC / blk->bps.rate)
					: 0;
	}
	pthread_mutex_unlock(&blk->limit_lock);
	return wait;
}

static void on_limit(struct timer *t)
{
	struct bqueue *bq = t->data;

	virtio_queue_run(bq->q);
}

/* False: nothing (more) to do now. */
static bool take_one(struct bqueue *bq)
{
	struct request *r = get_request(bq);
	struct vq_chain *c = &r->chain;
	struct virtio_blk_outhdr h;
	nsec_t wait;

	r->bq = bq;
	if (!virtio_queue_pop(bq->q, c)) {
		put_request(r);
		return false;
	}
	if (c->in_len == 0 || vq_read(c, 0, &h, sizeof(h)) < 0) {
		virtio_needs_reset(&bq->blk->v, "request without header or status", bq->q->index);
		vq_push(&bq->q->vq, c, 0);
		put_request(r);
		return false;
	}
	wait = limit(bq->blk, MAX(c->in_len - 1, c->out_len - sizeof(h)));
	if (wait) {
		vq_unpop(&bq->q->vq, c);
		put_request(r);
		bq->limit.data = bq;
		timer_start(bq->q->loop, &bq->limit, "blk limit", wait, 0, on_limit);
		return false;
	}
	cut_status(r);
	start_request(r, &h);
	return true;
}

static bool is_dense(const struct bqueue *bq)
{
	return bq->q->vq.inflight >= DENSE;
}

static void run(struct virtio_queue *q)
{
	struct bqueue *bq = q->priv;

	if (timer_active(&bq->limit))
		return;
	for (int round = 0; round < VIRTIO_RUN_ROUNDS; round++) {
		unsigned int n = 0;

		vq_kick_off(&q->vq);
		disk_plug(bq->dq);
		while (take_one(bq))
			n++;
		disk_unplug(bq->dq);
		/* requests that ended at once (cached, refused); the others come by done() */
		if (q->vq.uncommitted)
			virtio_queue_commit(q);
		if (timer_active(&bq->limit))
			return;
		if (is_dense(bq) && n > 0) {
			/* kicks stay off: the next pass looks at the ring */
			if (!bq->polling || !timer_active(&bq->pass)) {
				bq->polling = true;
				if (!timer_active(&bq->pass))
					timer_start(q->loop, &bq->pass, "blk pass", DENSE_WAIT, 0,
						    on_pass);
			}
			return;
		}
		bq->polling = false;
		if (!vq_kick_on(&q->vq))
			return;
	}
	virtio_queue_again(q);
}

static void on_pass(struct timer *t)
{
	struct bqueue *bq = t->data;

	virtio_queue_commit(bq->q);
	if (bq->polling)
		virtio_queue_run(bq->q);
}

/* -- starting and stopping ------------------------------------------------------------------------ */

static void queue_start(struct virtio_queue *q)
{
	struct bqueue *bq = q->priv;
	struct err *e = NULL;

	bq->pass.data = bq;
	if (!bq->dq && disk_queue_open(bq->blk->disk, q->loop, &bq->dq, &e) < 0) {
		virtio_needs_reset(q->v, err_msg(e), q->index);
		err_free(e);
	}
}

/* Requests in flight go on; done() and on_pass() see them out. */
static void queue_stop(struct virtio_queue *q)
{
	struct bqueue *bq = q->priv;

	timer_stop(&bq->limit);
	bq->polling = false;
}

static void close_queue(void *arg)
{
	struct bqueue *bq = arg;

	timer_stop(&bq->pass);
	disk_queue_close(bq->dq);
	bq->dq = NULL;
}

static void set_write_through(struct blk *blk)
{
	/* a driver that cannot flush must not lose writes (5.2.5.2) */
	bool cached = virtio_has(&blk->v, VIRTIO_BLK_F_CONFIG_WCE)
			      ? blk->config.wce
			      : virtio_has(&blk->v, VIRTIO_BLK_F_FLUSH);

	atomic_store(&blk->write_through, !cached);
}

static int start(struct virtio_dev *v, struct err **e)
{
	set_write_through(blk_of(v));
	return 0;
}

static void reset(struct virtio_dev *v)
{
	blk_of(v)->config.wce = 1;
}

static void config_write(struct virtio_dev *v, unsigned int off, const uint8_t *data,
			 unsigned int len)
{
	struct blk *blk = blk_of(v);

	if (off != offsetof(struct virtio_blk_config, wce) || len != 1 ||
	    !virtio_has(v, VIRTIO_BLK_F_CONFIG_WCE))
		return;
	pthread_mutex_lock(&v->config_lock);
	blk->config.wce = data[0] != 0;
	pthread_mutex_unlock(&v->config_lock);
	set_write_through(blk);
}

static const struct virtio_kind blk_kind = {
	.name = "blk",
	.id = VIRTIO_ID_BLOCK,
	.class_code = 0x018000, /* mass storage, other */
	.start = start,
	.reset = reset,
	.queue_start = queue_start,
	.queue_stop = queue_stop,
	.run = run,
	.config_write = config_write,
};

/* -- life ----------------------------------------------------------------------------------------- */

static void fill_config(struct blk *blk, unsigned int n_queues)
{
	struct disk_limits l = disk_limits(blk->disk);
	struct virtio_blk_config *c = &blk->config;
	uint32_t max = (uint32_t)MIN(blk->max_io / SECTOR, (uint64_t)UINT32_MAX);

	c->capacity = htole64(disk_size(blk->disk) / SECTOR);
	c->seg_max = htole32(MIN(QUEUE_SIZE, VQ_MAX_SEG) - 2);
	c->size_max = htole32((uint32_t)MIN(blk->max_io / (VQ_MAX_SEG - 2), (uint64_t)INT32_MAX) &
			      ~4095U);
	c->blk_size = htole32(SECTOR);
	c->physical_block_exp =
		3; /* 4096 bytes: smaller writes are read, changed and written somewhere below */
	c->min_io_size = htole16(4096 / SECTOR);
	c->opt_io_size = htole32(l.opt_io / SECTOR);
	c->wce = 1;
	c->num_queues = htole16((uint16_t)n_queues);
	c->max_discard_sectors = c->max_write_zeroes_sectors = htole32(max);
	c->max_discard_seg = c->max_write_zeroes_seg = htole32(RANGES_MAX);
	c->discard_sector_alignment = htole32(MAX(l.discard_align / SECTOR, 1U));
	c->write_zeroes_may_unmap = 1;
}

/* An engine thread tells; the guest re-reads the capacity. */
static void on_disk_event(void *arg, enum disk_event ev, int64_t value)
{
	struct blk *blk = arg;

	if (ev != DISK_RESIZED)
		return;
	virtio_config_begin(&blk->v);
	blk->config.capacity = htole64(disk_size(blk->disk) / SECTOR);
	virtio_config_end(&blk->v);
}

static int open_image(struct blk *blk, const struct vm_disk *cfg, struct err **e)
{
	struct disk_cfg dc = {
		.path = cfg->path,
		.format = cfg->format,
		.readonly = cfg->readonly,
		.direct = cfg->direct,
	};
	int r = disk_open(&dc, &blk->disk, e);

	if (r < 0)
		return r;
	if (disk_size(blk->disk) < SECTOR)
		return err_set(e, EINVAL, "disk.empty", "'%s' has no size", cfg->path);
	blk->readonly = cfg->readonly || disk_readonly(blk->disk);
	blk->max_io = disk_limits(blk->disk).max_io;
	return 0;
}

static int make_pools(struct blk *blk, struct err **e)
{
	blk->bq = calloc(blk->v.n_queues, sizeof(*blk->bq));
	if (!blk->bq)
		return err_set(e, ENOMEM, "vmm.memory", "out of memory for disk queues");
	for (unsigned int i = 0; i < blk->v.n_queues; i++) {
		struct bqueue *bq = &blk->bq[i];
		size_t len = sizeof(*bq->pool) * blk->v.q[i].vq.max_size;

		bq->blk = blk;
		/* untouched pages cost nothing */
		bq->pool = mmap(NULL, len, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (bq->pool == MAP_FAILED) {
			bq->pool = NULL;
			return err_set(e, ENOMEM, "vmm.memory", "out of memory for disk requests");
		}
		bq->q = &blk->v.q[i];
		bq->q->priv = bq;
	}
	return 0;
}

static int construct(struct dev *d, const struct vm_device *cfg, struct err **e)
{
	struct blk *blk = blk_of(virtio_dev_of(d));
	const struct vm_disk *c = &cfg->disk;
	unsigned int n = c->queues ? c->queues : MIN(vm_n_cpus(d->vm), (unsigned int)VM_QUEUES_MAX);
	const char *serial = c->serial ? c->serial : cfg->id;
	uint64_t features = VIRTIO_BIT(VIRTIO_BLK_F_SEG_MAX) | VIRTIO_BIT(VIRTIO_BLK_F_SIZE_MAX) |
			    VIRTIO_BIT(VIRTIO_BLK_F_BLK_SIZE) | VIRTIO_BIT(VIRTIO_BLK_F_TOPOLOGY) |
			    VIRTIO_BIT(VIRTIO_BLK_F_FLUSH) | VIRTIO_BIT(VIRTIO_BLK_F_CONFIG_WCE) |
			    VIRTIO_BIT(VIRTIO_BLK_F_MQ) | VIRTIO_BIT(VIRTIO_F_RING_PACKED);
	int r;

	pthread_mutex_init(&blk->limit_lock, NULL);
	blk->made = true;
	if (n > VM_QUEUES_MAX)
		return err_set(e, EINVAL, "disk.queues", "%u queues (at most %d)", n,
			       VM_QUEUES_MAX);
	r = open_image(blk, c, e);
	if (r < 0)
		return r;
	if (blk->readonly)
		features |= VIRTIO_BIT(VIRTIO_BLK_F_RO);
	else
		features |= VIRTIO_BIT(VIRTIO_BLK_F_DISCARD) |
			    VIRTIO_BIT(VIRTIO_BLK_F_WRITE_ZEROES);
	/* padded with NULs, need not end in one (5.2.6) */
	memcpy(blk->serial, serial, strnlen(serial, sizeof(blk->serial)));
	fill_config(blk, n);
	r = virtio_init(&blk->v, &blk_kind, features, &blk->config, sizeof(blk->config), e);
	if (r == 0)
		r = virtio_add_queues(&blk->v, n, c->queue_size ? c->queue_size : QUEUE_SIZE, e);
	if (r == 0)
		r = make_pools(blk, e);
	if (r < 0)
		return r;
	blk->v.loop_group = 1;
	ratelimit_init(&blk->iops, c->iops, MAX(c->iops / 10, (uint64_t)1));
	ratelimit_init(&blk->bps, c->bps, MAX(c->bps / 10, (uint64_t)1));
	atomic_store(&blk->limited, c->iops || c->bps);
	disk_on_event(blk->disk, on_disk_event, blk);
	return 0;
}

static void destruct(struct dev *d)
{
	struct blk *blk = blk_of(virtio_dev_of(d));

	if (blk->disk) {
		disk_on_event(blk->disk, NULL, NULL);
		if (disk_close(blk->disk) < 0)
			log_err("the disk could not be written back", "device", d->id);
	}
	for (unsigned int i = 0; blk->bq && i < blk->v.n_queues; i++)
		if (blk->bq[i].pool)
			munmap(blk->bq[i].pool, sizeof(*blk->bq[i].pool) * blk->v.q[i].vq.max_size);
	free(blk->bq);
	if (blk->made)
		pthread_mutex_destroy(&blk->limit_lock);
	virtio_done(&blk->v);
}

static void unplug(struct dev *d)
{
	struct blk *blk = blk_of(virtio_dev_of(d));

	for (unsigned int i = 0; i < blk->v.n_queues; i++)
		if (blk->bq[i].dq)
			iothread_call(blk->v.q[i].loop, close_queue, &blk->bq[i]);
	virtio_unplug(d);
}

struct disk *virtio_blk_disk(struct dev *d)
{
	return d->ops == &dev_virtio_blk ? blk_of(virtio_dev_of(d))->disk : NULL;
}

static void stats(struct dev *d, dev_stat_fn *put, void *arg)
{
	struct blk *blk = blk_of(virtio_dev_of(d));
	uint64_t rd = 0, wr = 0, ops = 0, errors = 0;

	virtio_stats(d, put, arg);
	for (unsigned int i = 0; i < blk->v.n_queues; i++) {
		rd += __atomic_load_n(&blk->bq[i].n_read, __ATOMIC_RELAXED);
		wr += __atomic_load_n(&blk->bq[i].n_written, __ATOMIC_RELAXED);
		ops += __atomic_load_n(&blk->bq[i].n_ops, __ATOMIC_RELAXED);
		errors += __atomic_load_n(&blk->bq[i].n_errors, __ATOMIC_RELAXED);
	}
	put(arg, "operations", ops);
	put(arg, "bytes_read", rd);
	put(arg, "bytes_written", wr);
	put(arg, "errors", errors);
}

static int set(struct dev *d, const char *key, uint64_t value, struct err **e)
{
	struct blk *blk = blk_of(virtio_dev_of(d));
	bool iops = strcmp(key, "iops") == 0;

	if (!iops && strcmp(key, "bps") != 0)
		return -ENOENT;
	pthread_mutex_lock(&blk->limit_lock);
	ratelimit_set(iops ? &blk->iops : &blk->bps, value, MAX(value / 10, (uint64_t)1),
		      now_mono());
	atomic_store(&blk->limited, blk->iops.rate || blk->bps.rate);
	pthread_mutex_unlock(&blk->limit_lock);
	return 0;
}

/* -- state ---------------------------------------------------------------------------------------- */

static const struct save_field fields[] = {
	SAVE_NESTED(struct blk, v, &virtio_save, 1),
	SAVE(struct blk, config.wce, U8, 1),
	SAVE(struct blk, config.capacity, U64, 1),
};

static int after_load(void *obj, uint32_t version, struct err **e)
{
	struct blk *blk = obj;
	uint64_t saved = le64toh(blk->config.capacity), now = disk_size(blk->disk) / SECTOR;

	if (saved != now)
		return err_set(e, EINVAL, "vm.state",
			       "saved with a disk of %llu sectors, this one has %llu",
			       (unsigned long long)saved, (unsigned long long)now);
	blk->config.wce = blk->config.wce != 0;
	set_write_through(blk);
	return 0;
}

static const struct save_desc blk_save =
	SAVE_DESC("virtio-blk", 1, 1, fields, .after_load = after_load);

const struct device_ops dev_virtio_blk = {
	.type = "virtio-blk",
	.instance_size = sizeof(struct blk),
	.construct = construct,
	.destruct = destruct,
	.plug = virtio_plug,
	.unplug = unplug,
	.reset = virtio_reset,
	.quiesce = virtio_quiesce,
	.resume = virtio_resume,
	.state = &blk_save,
	.stats = stats,
	.set = set,
};
