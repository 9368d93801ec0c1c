/* See live.h. */
#include <string.h>
#include "storage/disk.h"
#include "storage/live.h"

extern const struct disk_ops disk_filter_cbw;

/* The node whose next is `below`. */
static struct disk_node *above(struct disk *d, const struct disk_node *below)
{
	struct disk_node *n = d->gate;

	while (n->next != below)
		n = n->next;
	return n;
}

/* I/O is stopped: what every node above the format says of itself. */
static void spread(struct disk *d)
{
	uint64_t size = atomic_load(&d->format->size);

	for (struct disk_node *n = d->top; n != d->format; n = n->next) {
		atomic_store(&n->size, size);
		n->limits = d->format->limits;
	}
}

/* I/O is stopped: filters that guard the active image, which is about to stop being it. */
static struct disk_node *take_guards(struct disk *d)
{
	struct disk_node *n = d->gate;

	while (n->next != d->format) {
		if (n->next->ops == &disk_filter_cbw) {
			struct disk_node *g = n->next;

			n->next = g->next;
			g->next = NULL;
			return g;
		}
		n = n->next;
	}
	return NULL;
}

static int can_write(struct disk *d, struct err **e)
{
	if (d->readonly)
		return err_set(e, EROFS, "disk.readonly", "'%s' is open read-only", d->path);
	if (!d->format->ops->seal)
		return err_set(e, ENOTSUP, "disk.format", "format %s cannot do this",
			       d->format->ops->name);
	return 0;
}

int live_overlay(struct disk *d, const char *path, struct err **e)
{
	struct disk_cfg cfg = disk_cfg_below(d, path, "qcow2", false);
	struct disk_node *n = NULL, *guard = NULL;
	int r = can_write(d, e), k;

	if (r < 0)
		return r;
	cfg.backing = "";
	pthread_mutex_lock(&d->ctl_lock);
	r = node_open_image(d, &cfg, &n, e);
	if (r == 0) {
		disk_quiesce(d);
		r = d->format->ops->seal(d->format, e);
		if (r == 0) {
			struct disk_node *last = above(d, d->format);

			guard = take_guards(d);
			last = guard ? above(d, d->format) : last;
			n->ops->adopt(n, d->format);
			last->next = d->format = TAKE(n);
			spread(d);
		}
		disk_resume(d);
	}
	k = node_close(guard);
	if (r == 0 && k < 0)
		r = err_sys(e, -k, "close the snapshot that was being written");
	node_close(n);
	pthread_mutex_unlock(&d->ctl_lock);
	return r;
}

static int rechain(struct disk *d, bool fold, struct err **e)
{
	const struct disk_ops *ops = d->format->ops;
	struct disk_node *old;
	void *chain = NULL;
	int r;

	if (!ops->chain_open)
		return 0; /* no chain */
	pthread_mutex_lock(&d->ctl_lock);
	r = fold ? ops->chain_fold(d->format, &chain, e) : ops->chain_open(d->format, &chain, e);
	if (r == 0) {
		disk_quiesce(d);
		old = ops->chain_swap(d->format, chain);
		disk_resume(d);
		node_close(old);
	}
	pthread_mutex_unlock(&d->ctl_lock);
	return r;
}

int live_chain(struct disk *d, struct err **e)
{
	return rechain(d, false, e);
}

int live_fold(struct disk *d, struct err **e)
{
	return rechain(d, true, e);
}

int live_switch(struct disk *d, const char *path, const char *format,
		int (*before)(void *arg, struct err **e), void *arg, struct err **e)
{
	struct disk_cfg cfg = disk_cfg_below(d, path, format, false);
	struct disk_node *n = NULL, *old = NULL, *guard = NULL;
	int r = can_write(d, e);

	if (r < 0)
		return r;
	cfg.share_own = true; /* our own chain may have a reader's lock on it */
	disk_quiesce(d);
	r = d->format->ops->seal(d->format, e);
	if (r == 0 && before)
		r = before(arg, e);
	if (r == 0)
		r = node_open_image(d, &cfg, &n, e);
	if (r == 0) {
		struct disk_node *last = above(d, d->format);

		guard = take_guards(d);
		last = guard ? above(d, d->format) : last;
		old = d->format;
		last->next = d->format = n;
		spread(d);
		node_close(guard);
		node_close(old);
		r = n->ops->claim(n, e);
	}
	disk_resume(d);
	return r;
}

int live_insert(struct disk *d, const struct disk_ops *ops,
		int (*init)(struct disk_node *n, void *arg, struct err **e), void *arg,
		struct disk_node **ret, struct err **e)
{
	struct disk_cfg cfg = disk_cfg_below(d, d->path, NULL, d->readonly);
	struct disk_node *n;
	int r;

	disk_quiesce(d);
	r = node_open(d, ops, d->path, &cfg, NULL, &n, e);
	if (r == 0) {
		n->next = d->gate->next;
		n->limits = d->format->limits;
		atomic_store(&n->size, atomic_load(&d->format->size));
		r = init ? init(n, arg, e) : 0;
		if (r == 0) {
			d->gate->next = n;
			*ret = n;
		} else {
			n->next = NULL;
			node_close(n);
		}
	}
	disk_resume(d);
	return r;
}

int live_remove(struct disk *d, struct disk_node *n)
{
	int r;

	disk_quiesce(d);
	above(d, n)->next = n->next;
	n->next = NULL;
	disk_resume(d);
	pthread_mutex_lock(&d->ctl_lock);
	r = node_close(n);
	pthread_mutex_unlock(&d->ctl_lock);
	return r;
}

int live_frozen(struct disk *d, int (*fn)(void *arg, struct err **e), void *arg, struct err **e)
{
	int r = 0;

	disk_quiesce(d);
	if (d->format->ops->sync && !d->readonly)
		r = d->format->ops->sync(d->format, e);
	if (r == 0 && !d->readonly) {
		r = node_sync_op(d->format, DISK_FLUSH, 0, 0, 0);
		if (r < 0)
			r = err_sys(e, -r, "flush '%s'", d->path);
	}
	if (r == 0)
		r = fn(arg, e);
	disk_resume(d);
	return r;
}

struct request {
	bool finished;
	int r;
};

static void request_done(struct disk_io *io, int r)
{
	struct request *w = io->data;

	w->r = r;
	w->finished = true;
}

int live_request(struct disk_queue *q, int op, const void *p, uint64_t off, uint64_t len)
{
	struct iovec iov = { (void *)(uintptr_t)p, len };
	struct request w = { 0 };
	struct disk_io *io =
		io_child(q, (enum disk_op)op, 0, off, len, &iov, p ? 1 : 0, request_done, &w);

	if (!io)
		return -ENOMEM;
	q->inflight++;
	node_submit(q->disk->gate, io);
	while (!w.finished)
		disk_poll(q, true);
	q->inflight--;
	return w.r;
}
