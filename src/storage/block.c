/* The public face of an open disk: life cycle, properties, blocking calls.  Requests: queue.c; graph: node.c. */
#include <string.h>
#include "storage/disk.h"

int disk_open(const struct disk_cfg *cfg, struct disk **ret, struct err **e)
{
	_cleanup_(disk_closep) struct disk *d = calloc(1, sizeof(*d));
	pthread_mutexattr_t attr;
	int r;

	if (!d)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	pthread_mutex_init(&d->lock, NULL);
	pthread_cond_init(&d->drained, NULL);
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&d->ctl_lock, &attr);
	pthread_mutexattr_destroy(&attr);
	list_init(&d->queues);
	d->cfg = *cfg;
	d->readonly = cfg->readonly;
	d->repairing = cfg->repair;
	if (cfg->no_lock && !cfg->readonly)
		return err_set(e, EINVAL, "disk.lock", "an image cannot be written without a lock");
	d->path = strdup(cfg->path ?: "");
	if (!d->path)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	r = queue_new(d, NULL, &d->ctl, e);
	if (r < 0)
		return r;
	r = disk_build(d, cfg, e);
	if (r < 0)
		return r;
	d->cfg.path = d->cfg.format = d->cfg.driver = d->cfg.backing = d->cfg.backing_format =
		d->cfg.data_file = NULL;
	d->cfg.filters = NULL;
	d->cfg.n_filters = 0;
	*ret = TAKE(d);
	return 0;
}

int disk_close(struct disk *d)
{
	int r = 0;

	if (!d)
		return 0;
	r = node_close(d->top);
	queue_free(d->ctl);
	pthread_mutex_destroy(&d->ctl_lock);
	pthread_cond_destroy(&d->drained);
	pthread_mutex_destroy(&d->lock);
	free(d->path);
	free(d);
	return r;
}

/* ---- properties ---- */

uint64_t disk_size(const struct disk *d)
{
	return atomic_load_explicit(&d->top->size, memory_order_relaxed);
}

bool disk_readonly(const struct disk *d)
{
	return d->readonly;
}

const char *disk_format(const struct disk *d)
{
	return d->format->ops->name;
}

const char *disk_path(const struct disk *d)
{
	return d->path;
}

struct disk_limits disk_limits(const struct disk *d)
{
	return d->top->limits;
}

void disk_on_event(struct disk *d, void (*fn)(void *arg, enum disk_event ev, int64_t value),
		   void *arg)
{
	pthread_mutex_lock(&d->lock);
	d->event_fn = fn;
	d->event_arg = arg;
	pthread_mutex_unlock(&d->lock);
}

void disk_emit(struct disk *d, enum disk_event ev, int64_t value)
{
	void (*fn)(void *arg, enum disk_event ev, int64_t value);
	void *arg;

	pthread_mutex_lock(&d->lock);
	fn = d->event_fn;
	arg = d->event_arg;
	pthread_mutex_unlock(&d->lock);
	if (fn)
		fn(arg, ev, value);
}

void disk_stats(struct disk *d, struct disk_stats *ret)
{
	struct disk_queue *q;

	pthread_mutex_lock(&d->lock);
	*ret = d->closed_stats;
	list_for_each_entry(q, &d->queues, in_disk) {
		if (q == d->ctl)
			continue;
		for (int i = 0; i < DISK_N_OPS; i++) {
			/* Another thread counts on: each figure is whole, their sum is of about now. */
			ret->ops[i] += __atomic_load_n(&q->stats.ops[i], __ATOMIC_RELAXED);
			ret->bytes[i] += __atomic_load_n(&q->stats.bytes[i], __ATOMIC_RELAXED);
			ret->errors[i] += __atomic_load_n(&q->stats.errors[i], __ATOMIC_RELAXED);
			ret->time[i] += __atomic_load_n(&q->stats.time[i], __ATOMIC_RELAXED);
		}
	}
	pthread_mutex_unlock(&d->lock);
}

/* Above the format, or between it and its driver. */
static struct disk_node *find_filter(struct disk *d, const char *filter)
{
	for (struct disk_node *n = d->top; n; n = n->next)
		if (n->ops->kind == DISK_FILTER && strcmp(n->ops->name, filter) == 0)
			return n;
	return NULL;
}

int disk_set_param(struct disk *d, const char *filter, const char *name, const char *value,
		   struct err **e)
{
	struct disk_node *n = find_filter(d, filter);

	if (!n || !n->ops->set_param)
		return err_set(e, ENOENT, "disk.filter", "the disk has no filter '%s'", filter);
	return n->ops->set_param(n, name, value, e);
}

int disk_filter_info(struct disk *d, const char *filter,
		     void (*emit)(void *arg, const char *name, const char *value), void *arg)
{
	struct disk_node *n = find_filter(d, filter);

	if (!n)
		return -ENOENT;
	if (n->ops->info)
		n->ops->info(n, emit, arg);
	return 0;
}

/* ---- blocking calls ---- */

struct sync_wait {
	bool finished;
	int r;
};

static void sync_done(struct disk_io *io, int r)
{
	struct sync_wait *w = io->data;

	w->r = r;
	w->finished = true;
}

/* One request to n on the disk's own queue, to its end. */
static int node_sync(struct disk_node *n, enum disk_op op, unsigned int flags, void *p,
		     uint64_t off, uint64_t len)
{
	struct disk *d = n->disk;
	struct sync_wait w = { 0 };
	struct iovec iov = { p, len };
	struct disk_io *io;

	pthread_mutex_lock(&d->ctl_lock);
	io = io_child(d->ctl, op, flags, off, len, &iov, p ? 1 : 0, sync_done, &w);
	if (!io) {
		pthread_mutex_unlock(&d->ctl_lock);
		return -ENOMEM;
	}
	d->ctl->inflight++;
	node_pass(io, n); /* not through the gate: this is the side that closed it */
	while (!w.finished)
		disk_poll(d->ctl, true);
	d->ctl->inflight--;
	pthread_mutex_unlock(&d->ctl_lock);
	return w.r;
}

int node_pread(struct disk_node *n, void *p, size_t len, uint64_t off)
{
	return len == 0 ? 0 : node_sync(n, DISK_READ, 0, p, off, len);
}

int node_pwrite(struct disk_node *n, const void *p, size_t len, uint64_t off)
{
	return len == 0 ? 0 : node_sync(n, DISK_WRITE, 0, (void *)(uintptr_t)p, off, len);
}

int node_sync_op(struct disk_node *n, enum disk_op op, unsigned int flags, uint64_t off,
		 uint64_t len)
{
	return node_sync(n, op, flags, NULL, off, len);
}

void node_wait(struct disk_node *n)
{
	pthread_mutex_lock(&n->disk->ctl_lock);
	disk_poll(n->disk->ctl, true);
	pthread_mutex_unlock(&n->disk->ctl_lock);
}

static int disk_sync_io(struct disk *d, enum disk_op op, unsigned int flags, void *p, uint64_t off,
			uint64_t len)
{
	struct sync_wait w = { 0 };
	struct iovec iov = { p, len };
	struct disk_io io = { .op = (uint8_t)op,
			      .flags = (uint8_t)flags,
			      .off = off,
			      .len = len,
			      .iov = &iov,
			      .niov = p ? 1 : 0,
			      .done = sync_done,
			      .data = &w };

	pthread_mutex_lock(&d->ctl_lock);
	disk_submit(d->ctl, &io);
	while (!w.finished)
		disk_poll(d->ctl, true);
	pthread_mutex_unlock(&d->ctl_lock);
	return w.r;
}

int disk_pread(struct disk *d, void *p, size_t len, uint64_t off)
{
	return disk_sync_io(d, DISK_READ, 0, p, off, len);
}

int disk_pwrite(struct disk *d, const void *p, size_t len, uint64_t off)
{
	return disk_sync_io(d, DISK_WRITE, 0, (void *)(uintptr_t)p, off, len);
}

int disk_sync_op(struct disk *d, enum disk_op op, unsigned int flags, uint64_t off, uint64_t len)
{
	return disk_sync_io(d, op, flags, NULL, off, len);
}

int disk_flush(struct disk *d)
{
	return disk_sync_op(d, DISK_FLUSH, 0, 0, 0);
}

/* ---- extents ---- */

void extent_list_done(struct extent_list *l)
{
	free(l->v);
	*l = (struct extent_list){ 0 };
}

int extent_add(struct extent_list *l, const struct extent *x)
{
	struct extent *last = l->n > 0 ? &l->v[l->n - 1] : NULL;

	if (x->len == 0)
		return 0;
	if (last && last->off + last->len == x->off && last->flags == x->flags &&
	    last->depth == x->depth && last->file == x->file &&
	    (!(x->flags & EXTENT_OFFSET) || last->host + last->len == x->host)) {
		last->len += x->len;
		return 0;
	}
	if (l->n == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 16;
		void *p = reallocarray(l->v, cap, sizeof(*l->v));

		if (!p)
			return -ENOMEM;
		l->v = p;
		l->cap = cap;
	}
	l->v[l->n++] = *x;
	return 0;
}

int node_extents(struct disk_node *n, uint64_t off, uint64_t len, struct extent_list *ret)
{
	while (!n->ops->extents && n->next)
		n = n->next;
	if (n->ops->extents)
		return n->ops->extents(n, off, len, ret);
	return extent_add(ret, &(struct extent){ .off = off,
						 .len = len,
						 .flags = EXTENT_DATA | EXTENT_ALLOCATED,
						 .file = n->path });
}

int disk_extents(struct disk *d, uint64_t off, uint64_t len, struct extent_list *ret)
{
	int r;

	if (len > disk_size(d) || off > disk_size(d) - len)
		return -EINVAL;
	*ret = (struct extent_list){ 0 };
	if (len == 0)
		return 0;
	pthread_mutex_lock(&d->ctl_lock); /* the graph stays as it is */
	r = node_extents(d->top, off, len, ret);
	pthread_mutex_unlock(&d->ctl_lock);
	if (r < 0)
		extent_list_done(ret);
	return r;
}

/* ---- management ---- */

int node_resize(struct disk_node *n, uint64_t size, enum disk_provision prov, bool shrink,
		struct err **e)
{
	if (!n->ops->resize)
		return err_set(e, ENOTSUP, "disk.resize", "'%s' cannot change its size", n->path);
	return n->ops->resize(n, size, prov, shrink, e);
}

int disk_resize(struct disk *d, uint64_t size, enum disk_provision prov, bool shrink,
		struct err **e)
{
	int r;

	if (d->readonly)
		return err_set(e, EROFS, "disk.readonly", "'%s' is open read-only", d->path);
	if (size > INT64_MAX)
		return err_set(e, EFBIG, "disk.limit", "a disk cannot be larger than 8 EiB");
	if (size < disk_size(d) && !shrink)
		return err_set(e, EINVAL, "disk.shrink",
			       "'%s' would lose its last %llu bytes; ask for shrinking", d->path,
			       (unsigned long long)(disk_size(d) - size));
	disk_quiesce(d);
	r = node_resize(d->format, size, prov, shrink, e);
	if (r >= 0)
		for (struct disk_node *n = d->top; n != d->format; n = n->next)
			atomic_store(&n->size, atomic_load(&d->format->size));
	disk_resume(d);
	if (r >= 0)
		disk_emit(d, DISK_RESIZED, (int64_t)size);
	return r;
}

int disk_usage(struct disk *d, uint64_t *allocated, uint64_t *apparent)
{
	struct disk_node *n = d->format;

	while (n->next)
		n = n->next;
	return n->ops->usage ? n->ops->usage(n, allocated, apparent) : -ENOTSUP;
}

void disk_set_threshold(struct disk *d, uint64_t bytes)
{
	atomic_store(&d->threshold, bytes);
}

uint64_t disk_threshold(const struct disk *d)
{
	return atomic_load_explicit(&d->threshold, memory_order_relaxed);
}

/* Calls that need the format alone with its file. */
#define QUIESCED(d, e, call, ...)                                                           \
	({                                                                                  \
		int _r;                                                                     \
		if (!(d)->format->ops->call) {                                              \
			_r = err_set(e, ENOTSUP, "disk.format", "format %s cannot do this", \
				     (d)->format->ops->name);                               \
		} else {                                                                    \
			disk_quiesce(d);                                                    \
			_r = (d)->format->ops->call((d)->format, __VA_ARGS__);              \
			disk_resume(d);                                                     \
		}                                                                           \
		_r;                                                                         \
	})

void disk_snapshot_list_done(struct disk_snapshot_list *l)
{
	for (size_t i = 0; i < l->n; i++) {
		free(l->v[i].id);
		free(l->v[i].name);
	}
	free(l->v);
	*l = (struct disk_snapshot_list){ 0 };
}

int disk_snapshot_ls(struct disk *d, struct disk_snapshot_list *ret, struct err **e)
{
	return QUIESCED(d, e, snapshot_ls, ret, e);
}

int disk_snapshot_create(struct disk *d, const char *name, struct err **e)
{
	return QUIESCED(d, e, snapshot_create, name, e);
}

int disk_snapshot_apply(struct disk *d, const char *which, struct err **e)
{
	uint64_t before = disk_size(d), after;
	int r = QUIESCED(d, e, snapshot_apply, which, e);

	if (r < 0)
		return r;
	after = atomic_load(&d->format->size);
	for (struct disk_node *n = d->top; n != d->format; n = n->next)
		atomic_store(&n->size, after);
	if (after != before)
		disk_emit(d, DISK_RESIZED, (int64_t)after);
	return 0;
}

int disk_snapshot_rm(struct disk *d, const char *which, struct err **e)
{
	return QUIESCED(d, e, snapshot_rm, which, e);
}

int disk_check(struct disk *d, enum disk_repair repair, struct disk_check *ret, struct err **e)
{
	if (repair != DISK_REPAIR_NONE && d->readonly)
		return err_set(e, EROFS, "disk.readonly", "'%s' is open read-only", d->path);
	return QUIESCED(d, e, check, repair, ret, e);
}

void disk_info(struct disk *d, void (*emit)(void *arg, const char *name, const char *value),
	       void *arg)
{
	if (d->format->ops->info)
		d->format->ops->info(d->format, emit, arg);
}

int disk_set_backing(struct disk *d, const char *path, const char *format, struct err **e)
{
	if (d->readonly)
		return err_set(e, EROFS, "disk.readonly", "'%s' is open read-only", d->path);
	return QUIESCED(d, e, set_backing, path, format, e);
}

int disk_write_compressed(struct disk *d, const void *cluster, uint64_t off)
{
	if (d->readonly)
		return -EROFS;
	return QUIESCED(d, NULL, write_compressed, cluster, off);
}
