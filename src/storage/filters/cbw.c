/* See cbw.h.  Between: the gate above; the active format below.  The save image hangs at node.data, in the same graph,
 * so it uses the queues of the requests that need it.
 * Threads: submit() on any queue's thread; `lock` guards the bits and the captures under way. */
#include <string.h>
#include "storage/disk.h"
#include "storage/filters/cbw.h"
#include "storage/live.h"

#define MAX_RUN (1 * MIB) /* one capture */

struct cbw {
	struct disk_node node;
	pthread_mutex_t lock;
	uint64_t size,
		grain; /* what is guarded: [0, size), in pieces of grain: a cluster of the save image */
	uint64_t *saved; /* a bit per grain */
	struct list captures;
};

struct capture {
	struct list link;
	struct list waiters; /* disk_io.link */
	struct cbw *c;
	struct disk_queue *q;
	uint64_t first, n; /* grains */
	uint64_t off, len; /* bytes */
	struct iovec iov;
	int step;
};

static void cbw_go(struct disk_io *io);

static struct cbw *to_cbw(struct disk_node *n)
{
	return container_of(n, struct cbw, node);
}

static bool is_saved(const struct cbw *c, uint64_t g)
{
	return c->saved[g / 64] >> g % 64 & 1;
}

static void cbw_failed(struct disk_io *io)
{
	disk_io_done(io, io->result);
}

static void capture_end(struct capture *k, int r)
{
	struct cbw *c = k->c;
	struct list wake, *l;

	list_init(&wake);
	pthread_mutex_lock(&c->lock);
	for (uint64_t g = k->first; r == 0 && g < k->first + k->n; g++)
		c->saved[g / 64] |= 1ULL << g % 64;
	list_del(&k->link);
	list_splice_tail(&wake, &k->waiters);
	pthread_mutex_unlock(&c->lock);
	while ((l = list_pop(&wake))) {
		struct disk_io *io = list_entry(l, struct disk_io, link);

		io->result = r;
		io_resume_later(io, r < 0 ? cbw_failed : cbw_go);
	}
	if (r < 0)
		disk_emit(c->node.disk, DISK_WRITE_FAILED, -r);
	free(k->iov.iov_base);
	free(k);
}

/* 0: the old contents are being read, 1: written to the save image, 2: made stable there. */
static void capture_step(struct disk_io *io, int r)
{
	struct capture *k = io->data;
	struct disk_node *to = k->c->node.data;
	struct disk_io *next;

	if (r < 0 || k->step == 2) {
		capture_end(k, r);
		return;
	}
	if (k->step++ == 0) {
		bool zero = mem_is_zero(k->iov.iov_base, k->len);

		next = io_child(k->q, zero ? DISK_WRITE_ZEROES : DISK_WRITE,
				zero ? DISK_MAY_UNMAP : 0, k->off, k->len, &k->iov, zero ? 0 : 1,
				capture_step, k);
	} else {
		next = io_child(k->q, DISK_FLUSH, 0, 0, 0, NULL, 0, capture_step, k);
	}
	if (next)
		node_submit(to, next);
	else
		capture_end(k, -ENOMEM);
}

/* Lock held; gives it back.  io waits for it. */
static void capture_begin(struct cbw *c, struct disk_io *io, uint64_t first, uint64_t n)
{
	struct capture *k = calloc(1, sizeof(*k));
	struct disk_io *rd = NULL;

	if (k) {
		k->c = c;
		k->q = io->q;
		k->first = first;
		k->n = n;
		k->off = first * c->grain;
		k->len = MIN(n * c->grain, c->size - k->off);
		k->iov.iov_len = k->len;
		k->iov.iov_base = aligned_alloc(4096, ALIGN_UP(k->len, (uint64_t)4096));
		list_init(&k->waiters);
		if (k->iov.iov_base)
			rd = io_child(io->q, DISK_READ, 0, k->off, k->len, &k->iov, 1, capture_step,
				      k);
	}
	if (!rd) {
		if (k)
			free(k->iov.iov_base);
		free(k);
		pthread_mutex_unlock(&c->lock);
		disk_io_done(io, -ENOMEM);
		return;
	}
	list_add_tail(&c->captures, &k->link);
	list_add_tail(&k->waiters, &io->link);
	pthread_mutex_unlock(&c->lock);
	node_pass(rd, c->node.next);
}

static bool captured_now(struct cbw *c, uint64_t g, struct capture **ret)
{
	struct capture *k;

	list_for_each_entry(k, &c->captures, link) {
		if (g < k->first || g >= k->first + k->n)
			continue;
		*ret = k;
		return true;
	}
	return false;
}

static void cbw_go(struct disk_io *io)
{
	struct cbw *c = to_cbw(io->node);
	uint64_t end = MIN(io->off + io->len, c->size);

	pthread_mutex_lock(&c->lock);
	for (uint64_t g = io->off / c->grain; io->off < end && g <= (end - 1) / c->grain; g++) {
		struct capture *k;
		uint64_t n = 1;

		if (is_saved(c, g))
			continue;
		if (captured_now(c, g, &k)) {
			list_add_tail(&k->waiters, &io->link);
			pthread_mutex_unlock(&c->lock);
			return;
		}
		while (g + n <= (end - 1) / c->grain && n * c->grain < MAX_RUN &&
		       !is_saved(c, g + n) && !captured_now(c, g + n, &k))
			n++;
		capture_begin(c, io, g, n);
		return;
	}
	pthread_mutex_unlock(&c->lock);
	if (io->op == DISK_OP_CAPTURE) {
		disk_io_done(io, 0);
	} else if (io->op == DISK_OP_SAVE) { /* nothing else will be written there */
		io->op = io->niov ? DISK_WRITE : DISK_WRITE_ZEROES;
		node_pass(io, c->node.data);
	} else {
		node_pass(io, c->node.next);
	}
}

static void cbw_submit(struct disk_node *n, struct disk_io *io)
{
	if (io->op == DISK_READ || io->op == DISK_FLUSH)
		node_pass(io, n->next);
	else
		cbw_go(io);
}

static int cbw_open(struct disk_node *n, const struct disk_cfg *cfg, struct err **e)
{
	struct cbw *c = to_cbw(n);

	pthread_mutex_init(&c->lock, NULL);
	list_init(&c->captures);
	return 0;
}

static int cbw_close(struct disk_node *n)
{
	struct cbw *c = to_cbw(n);

	free(c->saved);
	pthread_mutex_destroy(&c->lock);
	return 0;
}

const struct disk_ops disk_filter_cbw = {
	.name = "cbw",
	.kind = DISK_FILTER,
	.instance_size = sizeof(struct cbw),
	.open = cbw_open,
	.close = cbw_close,
	.submit = cbw_submit,
};

static int mark_saved(struct cbw *c)
{
	struct extent_list l = { 0 };
	int r = node_extents(c->node.data, 0, c->size, &l);

	for (size_t i = 0; i < l.n && r == 0; i++) {
		const struct extent *x = &l.v[i];

		for (uint64_t g = x->off / c->grain;
		     x->flags & EXTENT_ALLOCATED && g * c->grain < x->off + x->len; g++)
			c->saved[g / 64] |= 1ULL << g % 64;
	}
	extent_list_done(&l);
	return r;
}

/* I/O is stopped. */
static int cbw_init(struct disk_node *n, void *arg, struct err **e)
{
	struct cbw *c = to_cbw(n);
	struct disk_cfg cfg = disk_cfg_below(n->disk, arg, "qcow2", false);
	int r;

	cfg.backing = "";
	r = node_open_image(n->disk, &cfg, &n->data, e);
	if (r < 0)
		return r;
	c->size = MIN(atomic_load(&n->data->size), atomic_load(&n->size));
	c->grain = n->data->limits.opt_io;
	c->saved = calloc(c->size / c->grain / 64 + 1, 8);
	r = c->saved ? mark_saved(c) : -ENOMEM;
	if (r < 0)
		return err_sys(e, -r, "read the map of '%s'", (const char *)arg);
	n->data->ops->adopt(n->data, NULL); /* after the map was read */
	return 0;
}

static struct disk_node *find(struct disk *d)
{
	for (struct disk_node *n = d->gate->next; n != d->format; n = n->next)
		if (n->ops == &disk_filter_cbw)
			return n;
	return NULL;
}

int cbw_start(struct disk *d, const char *save, struct err **e)
{
	struct disk_node *n, *old;
	int r, k = 0;

	/* both under one pause: no write may pass between them */
	disk_quiesce(d);
	old = find(d);
	r = live_insert(d, &disk_filter_cbw, cbw_init, (void *)(uintptr_t)save, &n, e);
	if (r == 0 && old)
		k = live_remove(d, old);
	disk_resume(d);
	return r ?: k < 0 ? err_sys(e, -k, "close the older snapshot") : 0;
}

int cbw_stop(struct disk *d, struct err **e)
{
	struct disk_node *n;
	int r;

	disk_quiesce(d);
	n = find(d);
	r = n ? live_remove(d, n) : 0;
	disk_resume(d);
	return r < 0 ? err_sys(e, -r, "close the snapshot that was being written") : 0;
}
