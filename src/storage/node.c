/* Building the graph: probing, opening nodes from the driver up, the files that an image names.
 * Thread: that of disk_open() and of quiesced calls. */
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include "base/str.h"
#include "storage/disk.h"

/* Formats that we do not read.  A file that looks like one of them is not taken for raw by mistake. */
static const struct {
	const char *name;
	uint32_t off;
	uint32_t len;
	const char *magic;
} foreign[] = {
	{ "qcow", 0, 8, "QFI\xfb\0\0\0\1" },
	{ "qed", 0, 4, "QED\0" },
	{ "vmdk", 0, 4, "KDMV" },
	{ "vmdk", 0, 4, "COWD" },
	{ "vmdk", 0, 21, "# Disk DescriptorFile" },
	{ "vhdx", 0, 8, "vhdxfile" },
	{ "vpc", 0, 8, "conectix" },
	{ "vdi", 64, 4, "\x7f\x10\xda\xbe" },
	{ "parallels", 0, 16, "WithoutFreeSpace" },
	{ "parallels", 0, 16, "WithouFreSpacExt" },
};

const char *disk_probe(const uint8_t *head, size_t len, uint64_t size)
{
	const char *best = "raw";
	int score = 0;

	for (size_t i = 0; i < disk_table_len; i++) {
		const struct disk_ops *ops = disk_table[i];
		int s = ops->kind == DISK_FORMAT && ops->probe ? ops->probe(head, len, size) : 0;

		if (s > score) {
			score = s;
			best = ops->name;
		}
	}
	for (size_t i = 0; score < 50 && i < ARRAY_SIZE(foreign); i++)
		if (len >= foreign[i].off + foreign[i].len &&
		    memcmp(head + foreign[i].off, foreign[i].magic, foreign[i].len) == 0)
			return foreign[i].name;
	return best;
}

const char *param_get(const char *const *params, const char *name)
{
	for (; params && params[0]; params += 2)
		if (strcmp(params[0], name) == 0)
			return params[1];
	return NULL;
}

void node_unref(struct disk_node *n)
{
	struct disk *d = n->disk;

	if (atomic_fetch_sub(&n->refs, 1) != 1)
		return;
	pthread_mutex_lock(&d->lock);
	d->ids[n->id / 64] &= ~(1ULL << n->id % 64);
	pthread_mutex_unlock(&d->lock);
	free(n->path);
	free(n);
}

/* 0 or more, -1: too many. */
static int id_new(struct disk *d)
{
	int id = -1;

	pthread_mutex_lock(&d->lock);
	for (int i = 0; i < DISK_MAX_NODES / 64 && id < 0; i++)
		if (d->ids[i] != UINT64_MAX)
			id = i * 64 + __builtin_ctzll(~d->ids[i]);
	if (id >= 0)
		d->ids[id / 64] |= 1ULL << id % 64;
	pthread_mutex_unlock(&d->lock);
	return id;
}

int node_close(struct disk_node *n)
{
	struct disk_queue *q;
	struct disk *d;
	int r, first = 0;

	if (!n)
		return 0;
	d = n->disk;
	if (n->ops->close) /* while its files still work */
		first = n->ops->close(n);
	pthread_mutex_lock(&d->lock);
	list_for_each_entry(q, &d->queues, in_disk) {
		if (q == d->ctl || pthread_equal(q->owner, pthread_self()))
			queue_detach_node(q, n);
		else
			queue_retire_node(q, n);
	}
	pthread_mutex_unlock(&d->lock);
	r = node_close(n->data);
	first = first ?: r;
	r = node_close(n->backing);
	first = first ?: r;
	r = node_close(n->next);
	first = first ?: r;
	n->data = n->backing = n->next = NULL;
	node_unref(n);
	return first;
}

int node_open(struct disk *d, const struct disk_ops *ops, const char *path,
	      const struct disk_cfg *cfg, struct disk_node *next, struct disk_node **ret,
	      struct err **e)
{
	struct disk_node *n;
	int id = id_new(d), r;

	if (id < 0) {
		r = err_set(e, ELOOP, "disk.limit", "more than %d parts in one disk",
			    DISK_MAX_NODES);
		node_close(next);
		return r;
	}
	n = calloc(1, ops->instance_size);
	if (n)
		n->path = strdup(path ?: "");
	if (!n || !n->path) {
		free(n);
		pthread_mutex_lock(&d->lock);
		d->ids[id / 64] &= ~(1ULL << id % 64);
		pthread_mutex_unlock(&d->lock);
		node_close(next);
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	}
	n->ops = ops;
	n->disk = d;
	n->next = next;
	n->readonly = cfg->readonly;
	n->id = (unsigned int)id;
	atomic_init(&n->refs, 1);
	n->limits = (struct disk_limits){
		.block = 512, .opt_io = 4096, .discard_align = 4096, .max_io = DISK_MAX_IO
	};
	if (next) {
		n->limits = next->limits;
		n->size = atomic_load(&next->size);
	}
	r = ops->open(n, cfg, e);
	if (r < 0) {
		node_close(n);
		return err_wrap(e, r, "%s", path ?: ops->name);
	}
	*ret = n;
	return 0;
}

static bool is_nbd(const char *path)
{
	return str_starts(path, "nbd:") || str_starts(path, "nbds:") ||
	       str_starts(path, "nbd+unix:") || str_starts(path, "nbds+unix:");
}

/* The driver that a name means. */
static const char *driver_of(const char *path)
{
	return path && is_nbd(path) ? "nbd" : "file";
}

/* Lay a filter over *top, which is gone when this fails. */
static int add_filter(struct disk *d, const struct disk_cfg *cfg, const struct disk_filter_cfg *f,
		      struct disk_node **top, struct err **e)
{
	const struct disk_ops *ops = disk_find_ops(DISK_FILTER, f->name);
	struct disk_node *below = *top;
	int r;

	if (!ops)
		return err_set(e, EINVAL, "disk.filter", "no filter '%s'", f->name);
	*top = NULL; /* node_open() takes it, also when it fails */
	r = node_open(d, ops, cfg->path, cfg, below, top, e);
	for (const char *const *p = f->params; r >= 0 && p && p[0]; p += 2)
		r = ops->set_param ? ops->set_param(*top, p[0], p[1], e)
				   : err_set(e, EINVAL, "disk.filter",
					     "filter '%s' takes no options", f->name);
	return r;
}

/* Driver, then format, for cfg->path.  A guessed format is written to *probed. */
int node_open_image(struct disk *d, const struct disk_cfg *cfg, struct disk_node **ret,
		    struct err **e)
{
	const struct disk_ops *driver =
		disk_find_ops(DISK_DRIVER, cfg->driver ?: driver_of(cfg->path));
	const char *format = cfg->format;
	const struct disk_ops *ops;
	struct disk_node *file = NULL;
	int r;

	if (!driver)
		return err_set(e, EINVAL, "disk.driver", "no driver '%s'", cfg->driver);
	r = node_open(d, driver, cfg->path, cfg, NULL, &file, e);
	for (size_t i = cfg->n_filters; i-- > 0 && r >= 0;)
		if (cfg->filters[i].below)
			r = add_filter(d, cfg, &cfg->filters[i], &file, e);
	if (r < 0) {
		node_close(file);
		return r;
	}
	if (!format) {
		_cleanup_(freep) uint8_t *head = calloc(1, DISK_HEAD);
		uint64_t size = file->size;
		size_t len = MIN(size, DISK_HEAD);

		r = head ? node_pread(file, head, len, 0) : -ENOMEM;
		if (r < 0) {
			node_close(file);
			return err_sys(e, -r, "read the head of '%s'", cfg->path);
		}
		format = disk_probe(head, len, size);
	}
	ops = disk_find_ops(DISK_FORMAT, format);
	if (!ops) {
		node_close(file);
		return err_set(
			e, EINVAL, "disk.format",
			cfg->format
				? "'%s': no format '%s'"
				: "'%s' looks like %s: convert it with qemu-img, or say format=raw",
			cfg->path, format);
	}
	r = node_open(d, ops, cfg->path, cfg, file, ret, e);
	if (r < 0)
		return r;
	(*ret)->probed = !cfg->format && strcmp(format, "raw") == 0;
	return 0;
}

/* What a file below inherits from the way that the disk was opened. */
struct disk_cfg disk_cfg_below(const struct disk *d, const char *path, const char *format,
			       bool readonly)
{
	struct disk_cfg c = d->cfg;

	c.driver = NULL;
	c.use_fd = false;
	c.backing = c.backing_format = c.data_file = NULL;
	c.filters = NULL;
	c.n_filters = 0;
	c.path = path;
	c.format = format;
	c.readonly = readonly;
	c.keep_freed = false;
	if (!readonly)
		c.no_lock = false;
	return c;
}

/* path as named inside the image `from`: relative to its folder; "file:" and "json:" prefixes that qemu-img writes.
 * NULL: out of memory. */
static char *resolve(const char *from, const char *path)
{
	const char *slash = strrchr(from, '/');
	char *s;

	if (str_starts(path, "file:"))
		path += 5;
	if (path[0] == '/' || !slash || is_nbd(path))
		return strdup(path);
	if (asprintf(&s, "%.*s%s", (int)(slash - from + 1), from, path) < 0)
		return NULL;
	return s;
}

static int open_named(struct disk_node *from, const char *path, const char *format, bool readonly,
		      bool with_format, struct disk_node **ret, struct err **e)
{
	_cleanup_(freep) char *full = NULL;
	struct disk_cfg cfg;

	if (str_starts(path, "json:"))
		return err_set(e, ENOTSUP, "disk.driver",
			       "'%s': json: file names are not supported", path);
	full = resolve(from->path, path);
	if (!full)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	cfg = disk_cfg_below(from->disk, full, format, readonly);
	if (with_format)
		return node_open_image(from->disk, &cfg, ret, e);
	return node_open(from->disk, disk_find_ops(DISK_DRIVER, "file"), full, &cfg, NULL, ret, e);
}

int node_open_named(struct disk_node *from, const char *path, const char *format, bool readonly,
		    struct disk_node **ret, struct err **e)
{
	return open_named(from, path, format, readonly, true, ret, e);
}

int node_open_file(struct disk_node *from, const char *path, bool readonly, struct disk_node **ret,
		   struct err **e)
{
	return open_named(from, path, NULL, readonly, false, ret, e);
}

int disk_build(struct disk *d, const struct disk_cfg *cfg, struct err **e)
{
	int r = node_open_image(d, cfg, &d->top, e);

	if (r < 0)
		return r;
	d->format = d->top;
	d->top = NULL; /* node_open() takes it, also when it fails */
	r = node_open(d, &disk_gate, cfg->path, cfg, d->format, &d->gate, e);
	if (r < 0) {
		d->format = NULL;
		return r;
	}
	d->top = d->gate;
	for (size_t i = cfg->n_filters; i-- > 0 && r >= 0;) {
		if (cfg->filters[i].below)
			continue;
		r = add_filter(d, cfg, &cfg->filters[i], &d->top, e);
		if (!d->top)
			d->format = NULL;
	}
	return r < 0 ? r : 0;
}
