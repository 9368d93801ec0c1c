/* Queues and requests: how a request enters a disk, how it is split, how its end gets back to who made it.
 *
 * Root requests are the caller's, child requests come from the queue's pool.  A root request that ends while the
 * caller is still inside disk_submit() waits in `completed`; else its done() runs at once.
 *
 * The gate is a node of its own, below the filters of the configuration: requests count themselves into q->inside
 * when they pass it and out at their end.  What is below it (gate->next) changes only while it is closed: live.c.
 * disk_quiesce() raises d->paused, then waits for every counter to reach zero; a request that sees `paused` after
 * counting itself in goes out again and parks.  Both sides use sequentially consistent atomics, so one of them sees
 * the other. */
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include "storage/disk.h"

#define CHILD_IOV  8
#define AIO_DEPTH  256
#define POOL_BATCH 16

struct disk_child {
	struct disk_io io;
	struct iovec iov[CHILD_IOV];
	struct iovec *heap; /* more segments than iov[] holds */
};

/* ---- buffers ---- */

uint32_t iov_slice(const struct iovec *iov, uint32_t niov, uint64_t off, uint64_t len,
		   struct iovec *out)
{
	uint32_t n = 0;

	for (; niov > 0 && len > 0; iov++, niov--) {
		size_t part;

		if (off >= iov->iov_len) {
			off -= iov->iov_len;
			continue;
		}
		part = MIN(iov->iov_len - off, len);
		if (part > 0)
			out[n++] = (struct iovec){ (char *)iov->iov_base + off, part };
		len -= part;
		off = 0;
	}
	return n;
}

#define IOV_WALK(iov, niov, off, len, p, n)                                            \
	for (; (niov) > 0 && (len) > 0; (iov)++, (niov)--)                             \
		if ((off) >= (iov)->iov_len) {                                         \
			(off) -= (iov)->iov_len;                                       \
		} else if (((p) = (char *)(iov)->iov_base + (off)),                    \
			   ((n) = MIN((iov)->iov_len - (off), (len))), ((len) -= (n)), \
			   ((off) = 0), true)

void iov_zero(const struct iovec *iov, uint32_t niov, uint64_t off, uint64_t len)
{
	size_t n;
	char *p;

	IOV_WALK(iov, niov, off, len, p, n)
	memset(p, 0, n);
}

void iov_to_buf(const struct iovec *iov, uint32_t niov, uint64_t off, void *buf, size_t len)
{
	char *out = buf;
	size_t n;
	char *p;

	IOV_WALK(iov, niov, off, len, p, n)
	{
		memcpy(out, p, n);
		out += n;
	}
}

void iov_from_buf(const struct iovec *iov, uint32_t niov, uint64_t off, const void *buf, size_t len)
{
	const char *in = buf;
	size_t n;
	char *p;

	IOV_WALK(iov, niov, off, len, p, n)
	{
		memcpy(p, in, n);
		in += n;
	}
}

bool mem_is_zero(const void *p, size_t len)
{
	const unsigned char *c = p;
	size_t head = MIN(len, (size_t)16);

	for (size_t i = 0; i < head; i++)
		if (c[i])
			return false;
	return len <= 16 || memcmp(c, c + 16, len - 16) == 0;
}

bool iov_is_zero(const struct iovec *iov, uint32_t niov, uint64_t off, uint64_t len)
{
	size_t n;
	char *p;

	IOV_WALK(iov, niov, off, len, p, n)
	if (!mem_is_zero(p, n))
		return false;
	return true;
}

/* ---- children ---- */

static struct disk_child *child_get(struct disk_queue *q)
{
	struct list *l = list_pop(&q->pool);

	if (!l) {
		for (int i = 0; i < POOL_BATCH; i++) {
			struct disk_child *c = malloc(sizeof(*c));

			if (!c)
				break;
			list_add(&q->pool, &c->io.link);
		}
		l = list_pop(&q->pool);
		if (!l)
			return NULL;
	}
	return list_entry(l, struct disk_child, io.link);
}

static void child_put(struct disk_io *io)
{
	struct disk_child *c = container_of(io, struct disk_child, io);

	free(c->heap);
	c->heap = NULL;
	list_add(&io->q->pool, &io->link);
}

struct disk_io *io_child(struct disk_queue *q, enum disk_op op, unsigned int flags, uint64_t off,
			 uint64_t len, const struct iovec *iov, uint32_t niov,
			 void (*done)(struct disk_io *io, int r), void *data)
{
	struct disk_child *c = child_get(q);

	if (!c)
		return NULL;
	c->heap = NULL;
	memset(&c->io, 0, offsetof(struct disk_io, room));
	c->io.op = (uint8_t)op;
	c->io.flags = (uint8_t)flags;
	c->io.off = off;
	c->io.len = len;
	c->io.iov = iov;
	c->io.niov = niov;
	c->io.done = done;
	c->io.data = data;
	c->io.q = q;
	c->io.child = true;
	list_init(&c->io.link);
	return &c->io;
}

void io_fan_begin(struct disk_io *io)
{
	io->pending = 1;
	io->result = 0;
}

void io_fan_end(struct disk_io *io, int r)
{
	if (r < 0 && io->result == 0)
		io->result = r;
	if (--io->pending == 0)
		disk_io_done(io, io->result);
}

static void fan_done(struct disk_io *io, int r)
{
	io_fan_end(io->parent, r);
}

void io_fan(struct disk_io *io, struct disk_node *n, enum disk_op op, unsigned int flags,
	    uint64_t off, uint64_t len, uint64_t iov_off)
{
	struct disk_io *k = io_child(io->q, op, flags, off, len, NULL, 0, fan_done, NULL);
	struct disk_child *c = container_of(k, struct disk_child, io);

	if (!k) {
		if (io->result == 0)
			io->result = -ENOMEM;
		return;
	}
	k->parent = io;
	if (op == DISK_READ || op == DISK_WRITE) {
		if (iov_off == 0 && len == io->len && io->op == op) {
			k->iov = io->iov;
			k->niov = io->niov;
		} else {
			struct iovec *v = c->iov;

			if (io->niov > CHILD_IOV) {
				v = c->heap = malloc(io->niov * sizeof(*v));
				if (!v) {
					child_put(k);
					if (io->result == 0)
						io->result = -ENOMEM;
					return;
				}
			}
			k->iov = v;
			k->niov = iov_slice(io->iov, io->niov, iov_off, len, v);
		}
	}
	io->pending++;
	node_submit(n, k);
}

void io_fan_buf(struct disk_io *io, struct disk_node *n, enum disk_op op, uint64_t off, void *p,
		uint64_t len)
{
	struct disk_io *k = io_child(io->q, op, 0, off, len, NULL, 0, fan_done, NULL);
	struct disk_child *c = container_of(k, struct disk_child, io);

	if (!k) {
		if (io->result == 0)
			io->result = -ENOMEM;
		return;
	}
	c->iov[0] = (struct iovec){ p, len };
	k->iov = c->iov;
	k->niov = 1;
	k->parent = io;
	io->pending++;
	node_pass(k, n);
}

/* ---- the gate ---- */

static unsigned int queue_inside(struct disk_queue *q)
{
	return atomic_load(&q->inside[0]) + atomic_load(&q->inside[1]);
}

static void gate_leave(struct disk_queue *q, unsigned int parity)
{
	struct disk *d = q->disk;

	atomic_fetch_sub(&q->inside[parity], 1);
	if (unlikely(atomic_load(&d->paused))) {
		pthread_mutex_lock(&d->lock);
		pthread_cond_broadcast(&d->drained);
		pthread_mutex_unlock(&d->lock);
	}
}

void io_hold_gate(struct disk_io *io)
{
	struct disk_queue *q = io->q;
	uint64_t e = atomic_load(&q->disk->epoch);

	while (true) {
		uint64_t now;

		atomic_fetch_add(&q->inside[e & 1], 1);
		now = atomic_load(&q->disk->epoch);
		if (likely(now == e))
			break;
		gate_leave(q, e & 1);
		e = now;
	}
	io->epoch = e & 1;
	io->gated = true;
}

/* True: io may go on.  False: it is parked. */
static bool gate_enter(struct disk_queue *q, struct disk_io *io)
{
	io_hold_gate(io);
	if (unlikely(atomic_load(&q->disk->paused))) {
		io->gated = false;
		gate_leave(q, io->epoch);
		list_add_tail(&q->parked, &io->link);
		return false;
	}
	return true;
}

uint64_t disk_epoch(struct disk *d)
{
	return atomic_load(&d->epoch);
}

void disk_epoch_advance(struct disk *d)
{
	struct disk_queue *q;
	unsigned int before = 0;
	uint64_t e;

	pthread_mutex_lock(&d->lock);
	e = atomic_load(&d->epoch);
	list_for_each_entry(q, &d->queues, in_disk)
		before += atomic_load(&q->inside[(e + 1) & 1]);
	if (before == 0)
		atomic_store(&d->epoch, e + 1);
	pthread_mutex_unlock(&d->lock);
}

void disk_quiesce(struct disk *d)
{
	struct disk_queue *q;
	bool again;

	/* Whoever holds it could be parked at the gate and keep it from what runs while the gate is closed. */
	pthread_mutex_lock(&d->ctl_lock);
	pthread_mutex_lock(&d->lock);
	atomic_fetch_add(&d->paused, 1);
	do {
		again = false;
		list_for_each_entry(q, &d->queues, in_disk) {
			if (queue_inside(q) == 0)
				continue;
			again = true;
			if (q == d->ctl || pthread_equal(q->owner, pthread_self())) {
				pthread_mutex_unlock(&d->lock);
				disk_poll(q, true);
				pthread_mutex_lock(&d->lock);
			} else {
				pthread_cond_wait(&d->drained, &d->lock);
			}
			break; /* the list may have changed */
		}
	} while (again);
	pthread_mutex_unlock(&d->lock);
}

void disk_resume(struct disk *d)
{
	struct disk_queue *q;

	pthread_mutex_lock(&d->lock);
	if (atomic_fetch_sub(&d->paused, 1) == 1)
		list_for_each_entry(q, &d->queues, in_disk)
			queue_wake(q);
	pthread_mutex_unlock(&d->lock);
	pthread_mutex_unlock(&d->ctl_lock);
}

static void queue_unpark(struct disk_queue *q)
{
	struct list parked;
	struct list *l;

	if (list_empty(&q->parked) || atomic_load(&q->disk->paused))
		return;
	list_init(&parked);
	list_splice_tail(&parked, &q->parked);
	while ((l = list_pop(&parked)))
		node_submit(q->disk->gate, list_entry(l, struct disk_io, link));
}

static int gate_open(struct disk_node *n, const struct disk_cfg *cfg, struct err **e)
{
	return 0;
}

static void gate_submit(struct disk_node *n, struct disk_io *io)
{
	if (!gate_enter(io->q, io))
		return;
	if (unlikely(io->op == DISK_OP_POPULATE)) {
		io->node = io->q->disk->format;
		io->node->ops->populate(io->node, io);
	} else if (unlikely(io->op >= DISK_N_OPS && n->next == io->q->disk->format)) {
		disk_io_done(io, io->op == DISK_OP_CAPTURE ? 0 : -EIO);
	} else {
		node_pass(io, n->next);
	}
}

const struct disk_ops disk_gate = {
	.name = "gate",
	.kind = DISK_FILTER,
	.instance_size = sizeof(struct disk_node),
	.open = gate_open,
	.submit = gate_submit,
};

/* ---- requests ---- */

void node_submit(struct disk_node *n, struct disk_io *io)
{
	io->node = n;
	n->ops->submit(n, io);
}

void node_pass(struct disk_io *io, struct disk_node *n)
{
	io->node = n;
	n->ops->submit(n, io);
}

static void root_done(struct disk_queue *q, struct disk_io *io, int r)
{
	struct disk_stats *s = &q->stats;
	unsigned int op = io->op;

	q->inflight--;
	s->ops[op]++;
	s->time[op] += now_mono() - io->start;
	if (r < 0)
		s->errors[op]++;
	else
		s->bytes[op] += io->len;
	io->done(io, r);
}

void disk_io_done(struct disk_io *io, int r)
{
	struct disk_queue *q = io->q;

	if (io->gated) {
		io->gated = false;
		gate_leave(q, io->epoch);
	}
	if (io->child) {
		io->done(io, r);
		child_put(io);
		return;
	}
	if (q->polling && q->submitting == 0) {
		root_done(q, io, r);
		return;
	}
	io->result = r;
	list_add_tail(&q->completed, &io->link);
	if (!q->polling)
		queue_wake(q);
}

/* Checks that need no node; 1: go on, else the result. */
static int io_check(struct disk *d, const struct disk_io *io)
{
	uint64_t size = atomic_load_explicit(&d->top->size, memory_order_relaxed);

	switch (io->op) {
	case DISK_FLUSH:
		return d->readonly || d->cfg.sync == DISK_SYNC_NONE ? 0 : 1;
	case DISK_READ:
		break;
	case DISK_WRITE:
	case DISK_DISCARD:
	case DISK_WRITE_ZEROES:
		if (d->readonly)
			return -EROFS;
		break;
	default:
		return -EINVAL;
	}
	if (io->len > size || io->off > size - io->len)
		return -EINVAL;
	if (io->len == 0)
		return 0;
	if ((io->op == DISK_READ || io->op == DISK_WRITE) && io->len > DISK_MAX_IO)
		return -EINVAL;
	return 1;
}

static void fua_flush_done(struct disk_io *io, int r)
{
	struct disk_io *root = io->data;

	disk_io_done(root, r);
}

static void fua_written(struct disk_io *io, int r)
{
	struct disk_io *root = io->data, *k;

	if (r < 0) {
		disk_io_done(root, r);
		return;
	}
	k = io_child(io->q, DISK_FLUSH, 0, 0, 0, NULL, 0, fua_flush_done, root);
	if (k)
		node_submit(io->q->disk->top, k);
	else
		disk_io_done(root, -ENOMEM);
}

void disk_submit(struct disk_queue *q, struct disk_io *io)
{
	struct disk *d = q->disk;
	int r;

	io->q = q;
	io->parent = NULL;
	io->child = io->gated = false;
	io->start = now_mono();
	list_init(&io->link);
	q->inflight++;
	q->submitting++;
	r = io_check(d, io);
	if (r <= 0) {
		disk_io_done(io, r);
	} else if (unlikely(io->flags & DISK_FUA) && d->cfg.sync != DISK_SYNC_NONE &&
		   (io->op == DISK_WRITE || io->op == DISK_WRITE_ZEROES)) {
		struct disk_io *k = io_child(q, io->op, io->flags & ~(unsigned int)DISK_FUA,
					     io->off, io->len, io->iov, io->niov, fua_written, io);

		if (k)
			node_submit(d->top, k);
		else
			disk_io_done(io, -ENOMEM);
	} else {
		node_submit(d->top, io);
	}
	q->submitting--;
	if (q->plugged == 0)
		aio_flush(q->aio);
}

void disk_plug(struct disk_queue *q)
{
	q->plugged++;
}

void disk_unplug(struct disk_queue *q)
{
	if (--q->plugged == 0) {
		aio_flush(q->aio);
		if (!q->polling)
			disk_poll(q, false);
	}
}

void io_resume_later(struct disk_io *io, void (*fn)(struct disk_io *io))
{
	struct disk_queue *q = io->q;

	io->resume = fn;
	pthread_mutex_lock(&q->post_lock);
	list_add_tail(&q->posted, &io->link);
	atomic_store_explicit(&q->any_posted, true, memory_order_relaxed);
	pthread_mutex_unlock(&q->post_lock);
	queue_wake(q);
}

void io_resume_forget(struct disk_io *io)
{
	pthread_mutex_lock(&io->q->post_lock);
	list_del(&io->link);
	pthread_mutex_unlock(&io->q->post_lock);
}

static void queue_timer(struct timer *t)
{
	disk_poll(t->data, false);
}

static void queue_arm(struct disk_queue *q)
{
	struct disk_io *first = list_first_entry(&q->delayed, struct disk_io, link);

	if (!q->loop)
		return; /* disk_poll() looks at the list */
	if (!first)
		timer_stop(&q->timer);
	else if (timer_start(q->loop, &q->timer, "disk-delay",
			     MAX(first->due - now_mono(), (nsec_t)0), 0, queue_timer) == 0)
		q->timer.data = q;
	else
		queue_wake(q); /* no memory for a timer: try again at once */
}

void io_resume_at(struct disk_io *io, nsec_t due, void (*fn)(struct disk_io *io))
{
	struct disk_queue *q = io->q;
	struct list *at = q->delayed.prev;

	io->resume = fn;
	io->due = due;
	while (at != &q->delayed && list_entry(at, struct disk_io, link)->due > due)
		at = at->prev;
	list_add(at, &io->link);
	if (q->delayed.next == &io->link)
		queue_arm(q);
}

void io_resume_cancel(struct disk_io *io)
{
	list_del(&io->link);
	queue_arm(io->q);
}

static int queue_run_delayed(struct disk_queue *q)
{
	struct disk_io *io;
	int n = 0;

	if (list_empty(&q->delayed))
		return 0;
	while ((io = list_first_entry(&q->delayed, struct disk_io, link)) &&
	       io->due <= now_mono()) {
		list_del(&io->link);
		io->resume(io);
		n++;
	}
	if (n > 0 || (q->loop && !timer_active(&q->timer)))
		queue_arm(q);
	return n;
}

void queue_wake(struct disk_queue *q)
{
	uint64_t one = 1;

	if (write(q->wake_fd, &one, sizeof(one)) < 0)
		return; /* the counter is full: awake already */
}

static void queue_run_retired(struct disk_queue *q);

static int queue_run_posted(struct disk_queue *q)
{
	struct list got;
	struct list *l;
	int n = 0;

	if (!atomic_load_explicit(&q->any_posted,
				  memory_order_relaxed)) /* a racing post wakes us again */
		return 0;
	list_init(&got);
	pthread_mutex_lock(&q->post_lock);
	list_splice_tail(&got, &q->posted);
	atomic_store_explicit(&q->any_posted, false, memory_order_relaxed);
	pthread_mutex_unlock(&q->post_lock);
	for (; (l = list_pop(&got)); n++) {
		struct disk_io *io = list_entry(l, struct disk_io, link);

		io->resume(io);
	}
	return n;
}

/* ---- nodes that are closed while queues of other threads know them ---- */

struct retired {
	struct list link;
	struct disk_node *node;
};

void queue_retire_node(struct disk_queue *q, struct disk_node *n)
{
	struct retired *x = malloc(sizeof(*x));

	atomic_fetch_add(&n->refs, 1);
	if (!x)
		return; /* costs the memory of the node */
	x->node = n;
	pthread_mutex_lock(&q->post_lock);
	list_add_tail(&q->retired, &x->link);
	atomic_store(&q->any_retired, true);
	pthread_mutex_unlock(&q->post_lock);
	queue_wake(q);
}

static void queue_run_retired(struct disk_queue *q)
{
	struct list got;
	struct list *l;

	if (likely(!atomic_load_explicit(&q->any_retired, memory_order_relaxed)))
		return;
	list_init(&got);
	pthread_mutex_lock(&q->post_lock);
	list_splice_tail(&got, &q->retired);
	atomic_store(&q->any_retired, false);
	pthread_mutex_unlock(&q->post_lock);
	while ((l = list_pop(&got))) {
		struct retired *x = list_entry(l, struct retired, link);

		queue_detach_node(q, x->node);
		node_unref(x->node);
		free(x);
	}
}

static int queue_deliver(struct disk_queue *q)
{
	struct list *l;
	int n = 0;

	for (; (l = list_pop(&q->completed)); n++) {
		struct disk_io *io = list_entry(l, struct disk_io, link);

		root_done(q, io, io->result);
	}
	return n;
}

int disk_poll(struct disk_queue *q, bool wait)
{
	bool outer = q->polling;
	int n, total = 0;

	q->polling = true;
	q->plugged++;
	do {
		n = queue_run_posted(q) + queue_run_delayed(q);
		queue_run_retired(q);
		queue_unpark(q);
		n += aio_poll(q->aio, false);
		n += queue_deliver(q);
		total += n;
		if (n > 0 || total > 0 || !wait)
			continue;
		/* Nothing yet: sleep for the kernel, or for another thread's io_resume_later(). */
		if (q->inflight > 0 || queue_inside(q) > 0 || aio_inflight(q->aio) > 0) {
			struct pollfd p[2] = { { .fd = aio_fd(q->aio), .events = POLLIN },
					       { .fd = q->wake_fd, .events = POLLIN } };
			struct disk_io *due = list_first_entry(&q->delayed, struct disk_io, link);
			nsec_t delay = due ? CLAMP(due->due - now_mono(), (nsec_t)0, NSEC_PER_SEC)
					   : NSEC_PER_SEC;
			struct timespec ts = { delay / NSEC_PER_SEC, delay % NSEC_PER_SEC };
			uint64_t count;

			aio_flush(q->aio);
			ppoll(p, 2, &ts, NULL);
			if (read(q->wake_fd, &count, sizeof(count)) < 0)
				count = 0; /* was not woken */
			n = 1;
		}
	} while (n > 0 && total < 256);
	q->plugged--;
	q->polling = outer;
	aio_flush(q->aio);
	if (!list_empty(&q->completed))
		queue_wake(q); /* enough for one round of the loop */
	return total;
}

unsigned int disk_inflight(const struct disk_queue *q)
{
	return q->inflight;
}

/* ---- life ---- */

static void aio_readable(struct watch *w, uint32_t events)
{
	disk_poll(w->data, false);
}

static void wake_readable(struct watch *w, uint32_t events)
{
	struct disk_queue *q = w->data;
	uint64_t count;

	if (read(q->wake_fd, &count, sizeof(count)) < 0)
		return; /* somebody polled before us */
	disk_poll(q, false);
}

int queue_new(struct disk *d, struct loop *loop, struct disk_queue **ret, struct err **e)
{
	struct disk_queue *q = malloc(sizeof(*q));
	int r;

	if (!q)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	memset(q, 0, sizeof(*q));
	q->disk = d;
	q->loop = loop;
	q->owner = pthread_self();
	list_init(&q->in_disk);
	list_init(&q->completed);
	list_init(&q->parked);
	list_init(&q->pool);
	list_init(&q->posted);
	list_init(&q->delayed);
	list_init(&q->retired);
	pthread_mutex_init(&q->post_lock, NULL);
	q->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (q->wake_fd < 0) {
		r = err_sys(e, errno, "eventfd");
		goto fail;
	}
	/* blocking calls (no loop) come from any thread */
	r = aio_new(loop	       ? AIO_AUTO
		    : d->cfg.few_calls ? AIO_SYNC
				       : AIO_SHARED,
		    AIO_DEPTH, &q->aio, e);
	if (r < 0)
		goto fail;
	if (loop) {
		r = watch_fd(loop, &q->aio_watch, "disk-aio", aio_fd(q->aio), EPOLLIN,
			     aio_readable);
		if (r == 0)
			r = watch_fd(loop, &q->wake_watch, "disk-wake", q->wake_fd, EPOLLIN,
				     wake_readable);
		if (r < 0) {
			err_sys(e, -r, "watch a disk queue");
			goto fail;
		}
		q->aio_watch.data = q->wake_watch.data = q;
	}
	pthread_mutex_lock(&d->lock);
	list_add_tail(&d->queues, &q->in_disk);
	pthread_mutex_unlock(&d->lock);
	*ret = q;
	return 0;
fail:
	queue_free(q);
	return r;
}

void queue_detach_node(struct disk_queue *q, struct disk_node *n)
{
	if (n->id >= q->n_slots || q->slots[n->id].node != n)
		return;
	if (n->ops->detach)
		n->ops->detach(n, q, q->slots[n->id].slot);
	q->slots[n->id].node = NULL;
}

void queue_free(struct disk_queue *q)
{
	struct disk *d;
	struct list *l;

	if (!q)
		return;
	d = q->disk;
	queue_run_retired(q);
	for (unsigned int i = 0; i < q->n_slots; i++)
		if (q->slots[i].node)
			queue_detach_node(q, q->slots[i].node);
	pthread_mutex_lock(&d->lock);
	list_del(&q->in_disk);
	pthread_cond_broadcast(&d->drained);
	for (int i = 0; i < DISK_N_OPS; i++) {
		d->closed_stats.ops[i] += q->stats.ops[i];
		d->closed_stats.bytes[i] += q->stats.bytes[i];
		d->closed_stats.errors[i] += q->stats.errors[i];
		d->closed_stats.time[i] += q->stats.time[i];
	}
	pthread_mutex_unlock(&d->lock);
	queue_run_retired(q); /* nobody finds the queue any more */
	watch_remove(&q->aio_watch);
	watch_remove(&q->wake_watch);
	timer_stop(&q->timer);
	aio_free(q->aio);
	safe_close(q->wake_fd);
	while ((l = list_pop(&q->pool)))
		free(container_of(list_entry(l, struct disk_io, link), struct disk_child, io));
	pthread_mutex_destroy(&q->post_lock);
	free(q->slots);
	free(q);
}

int disk_queue_open(struct disk *d, struct loop *loop, struct disk_queue **ret, struct err **e)
{
	return queue_new(d, loop, ret, e);
}

void disk_queue_close(struct disk_queue *q)
{
	while (q &&
	       (queue_inside(q) > 0 || aio_inflight(q->aio) > 0)) /* what a format does by itself */
		disk_poll(q, true);
	queue_free(q);
}

struct disk *disk_queue_disk(const struct disk_queue *q)
{
	return q->disk;
}

struct aio *queue_aio(struct disk_queue *q)
{
	return q->aio;
}

struct loop *queue_loop(struct disk_queue *q)
{
	return q->loop;
}

void *queue_slot(struct disk_queue *q, struct disk_node *n)
{
	if (unlikely(n->id >= q->n_slots)) {
		unsigned int want = MAX(n->id + 1, 8U);
		void *p = reallocarray(q->slots, want, sizeof(*q->slots));

		if (!p)
			return NULL;
		q->slots = p;
		memset(&q->slots[q->n_slots], 0, (want - q->n_slots) * sizeof(*q->slots));
		q->n_slots = want;
	}
	if (unlikely(q->slots[n->id].node != n)) {
		void *slot = NULL;

		if (n->ops->attach && n->ops->attach(n, q, &slot) < 0)
			return NULL;
		q->slots[n->id].node = n;
		q->slots[n->id].slot = slot;
	}
	return q->slots[n->id].slot;
}
