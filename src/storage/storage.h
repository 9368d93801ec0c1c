/* The disk engine: what the other rooms see of it.
 *
 * A `struct disk` is an open graph: filters over a format over a driver, with the image's backing chain below.
 * A `struct disk_queue` is one thread's way in: it belongs to one event loop and has its own io_uring.  A device
 * with four rings opens one disk and four queues.
 *
 *	struct disk_cfg cfg = { .path = "/var/lib/vm/a.qcow2" };
 *	r = disk_open(&cfg, &d, e);
 *	r = disk_queue_open(d, loop, &q, e);
 *	io->op = DISK_READ; io->off = 0; io->len = 4096; io->iov = &iov; io->niov = 1; io->done = done;
 *	disk_submit(q, io);
 *
 * Threads: a queue is used by its loop's thread only (disk_queue_open() and disk_queue_close() included).  What
 * takes a `struct disk *` may be called from any one thread at a time, beside I/O in all queues, but not from
 * inside a done() callback; it may block.  Where it has to stop I/O for a moment (resize, snapshot), it waits for
 * requests in flight on every queue, so no queue's thread may be waiting for the caller meanwhile; on queues of the
 * calling thread it reaps itself, so done() may run inside.
 *
 * Consistency: like a disk with a volatile write cache.  A completed write is seen by every later read; it is
 * durable when a DISK_FLUSH submitted after its completion has completed (or it carried DISK_FUA).  A crash at
 * any moment leaves an image that opens and checks clean.
 *
 * Units are bytes everywhere.  Offsets and lengths need no alignment; multiples of disk_limits().block are
 * faster. */
#ifndef STORAGE_STORAGE_H
#define STORAGE_STORAGE_H

#include <sys/uio.h>
#include "base/err.h"
#include "base/list.h"
#include "base/types.h"

struct buf;
struct disk;
struct disk_node;
struct disk_queue;
struct loop;

/* ---- opening ---- */

enum disk_sync {
	DISK_SYNC_FLUSH,
	DISK_SYNC_NONE
}; /* NONE: flushes do nothing (throw-away guests, scratch files) */

struct disk_filter_cfg {
	const char *name;	   /* "throttle", "stats", "fault", ...: see disktab.c */
	const char *const *params; /* NULL-terminated name, value pairs, or NULL */
	bool below; /* between the format and its driver instead of above the format */
};

struct disk_cfg {
	const char *driver; /* NULL: "nbd" for its URIs, else "file" (block devices are recognised) */
	const char *path;   /* file, device or URI; with fd still used in messages */
	int fd; /* opened by the caller, used instead of path when `use_fd`; stays the caller's */
	bool use_fd;
	const char *format; /* NULL: probed; see disk_probe() about what a guest may then not write */
	const char *data_file; /* qcow2 external data file instead of the recorded one, or NULL */
	const char *
		backing; /* backing file instead of the recorded one; "" : none; NULL: as recorded */
	const char *backing_format; /* with `backing`: its format, NULL: probed */
	bool readonly;
	bool no_lock; /* look at an image that another process writes; only with readonly */
	bool direct;  /* O_DIRECT */
	enum disk_sync sync;
	bool discard_off;   /* do not give discarded ranges back to the host */
	bool repair;	    /* for disk_check() with repair: damaged tables do not stop the open */
	bool detect_zeroes; /* writes of zeroes become write-zeroes */
	bool keep_freed; /* space that loses its last use is given back at close: readers with an older map are about */
	bool few_calls; /* opened for a handful of blocking calls: plain system calls, no ring */
	bool share_own; /* take no lock: the caller holds one on this image that covers the use */
	uint64_t mem_size;		       /* driver "mem": its size */
	const struct disk_filter_cfg *filters; /* from the guest's side down */
	size_t n_filters;
	/* Opens the image's other files (backing chain, data file) for a jailed process; NULL: open(2).  Returns a file
	 * descriptor that the engine owns, or -errno. */
	int (*open_file)(void *arg, const char *path, int flags);
	void *open_arg;
};

/* Errors name the image.  ids: disk.locked (with the holder's pid and name), disk.format, disk.feature (an unknown
 * incompatible feature, by name), disk.corrupt, disk.limit, disk.chain-loop, sys.*.  cfg is read only during the
 * call; what `open_arg` points to must live as long as the disk. */
int disk_open(const struct disk_cfg *cfg, struct disk **ret, struct err **e);
/* All queues must be closed.  Writes back what is dirty, releases the lock.  The first error is returned; the disk is
 * gone in any case.  NULL: 0. */
int disk_close(struct disk *d);
static inline void disk_closep(struct disk **d)
{
	disk_close(*d);
}

/* "qcow2", "raw"...: the format that the head of a file looks like; "raw" when it looks like none.  A raw image that
 * was opened without its format refuses (-EPERM) writes that would make its first bytes look like another format,
 * so that a guest cannot change what the host opens next time. */
const char *disk_probe(const uint8_t *head, size_t len, uint64_t size);

/* ---- properties; any thread ---- */

struct disk_limits {
	uint32_t block;	 /* requests that are multiples of this go straight through; 512 or more */
	uint32_t opt_io; /* preferred size and alignment: the cluster size of the format */
	uint32_t discard_align;	    /* discards smaller than this give nothing back */
	uint64_t max_io;	    /* largest request, bytes */
	bool can_discard, can_zero; /* efficient, not emulated */
};

uint64_t disk_size(const struct disk *d);
bool disk_readonly(const struct disk *d);
const char *disk_format(const struct disk *d);
const char *disk_path(const struct disk *d);
struct disk_limits disk_limits(const struct disk *d);

enum disk_event {
	DISK_RESIZED,	   /* disk_size() has changed: a device tells its guest */
	DISK_SPACE_LOW,	   /* an allocation threshold was passed, see disk_set_threshold() */
	DISK_WRITE_FAILED, /* the image could not be updated (ENOSPC, EIO); arg: errno */
	DISK_CORRUPT,	   /* metadata was found damaged: the image is read-only from now on */
};
/* fn runs on any engine thread, must not block and must not call back into the disk.  One listener; NULL: none. */
void disk_on_event(struct disk *d, void (*fn)(void *arg, enum disk_event ev, int64_t value),
		   void *arg);

/* ---- I/O ---- */

enum disk_op { DISK_READ, DISK_WRITE, DISK_FLUSH, DISK_DISCARD, DISK_WRITE_ZEROES, DISK_N_OPS };
enum disk_flags {
	DISK_FUA = 1,	      /* write: durable when it completes */
	DISK_MAY_UNMAP = 2,   /* write-zeroes: may give the space back */
	DISK_NO_FALLBACK = 4, /* write-zeroes: -EOPNOTSUPP rather than writing real zeroes */
};

/* One request; the submitter's memory, untouched by him until done().  Zero the whole struct first.  The engine may
 * change `off` on the way. */
struct disk_io {
	uint8_t op;    /* enum disk_op */
	uint8_t flags; /* enum disk_flags */
	uint32_t niov;
	const struct iovec *iov; /* read, write: their sum is len */
	uint64_t off, len;	 /* DISK_FLUSH: both 0 */
	/* Called once on the queue's thread: from its loop, or inside disk_unplug() or disk_poll(), never inside
	 * disk_submit().  r: 0, or -EIO, -ENOSPC, -EROFS, -EINVAL (outside the disk), -EPERM...  It may submit. */
	void (*done)(struct disk_io *io, int r);
	void *data; /* the submitter's */

	/* the engine's */
	struct disk_queue *q;
	struct disk_node *node;
	struct disk_io *parent;
	struct list link;
	nsec_t start, due;
	uint32_t pending;
	int result;
	bool gated, child;
	uint8_t state, epoch;		      /* the format's */
	uint64_t cookie;		      /* the format's */
	void (*resume)(struct disk_io *io);   /* io_resume_later() */
	void *priv;			      /* of who made a child */
	_Alignas(16) unsigned char room[128]; /* the driver's */
};

/* loop NULL: no loop reaps, the owner calls disk_poll(). */
int disk_queue_open(struct disk *d, struct loop *loop, struct disk_queue **ret, struct err **e);
/* Nothing may be in flight.  NULL: no effect. */
void disk_queue_close(struct disk_queue *q);
DEFINE_CLEANUP(struct disk_queue *, disk_queue_close);
struct disk *disk_queue_disk(const struct disk_queue *q);

void disk_submit(struct disk_queue *q, struct disk_io *io);
/* Between plug and unplug requests are collected and go to the kernel in one call.  Nests.  done() runs as if plugged. */
void disk_plug(struct disk_queue *q);
void disk_unplug(struct disk_queue *q);
/* Reap completions without the loop.  wait: block until at least one step was made, if anything is in flight. */
int disk_poll(struct disk_queue *q, bool wait);
unsigned int disk_inflight(const struct disk_queue *q);

/* Blocking forms for tools and jobs, on a queue of the disk's own: one thread at a time. */
int disk_pread(struct disk *d, void *p, size_t len, uint64_t off);
int disk_pwrite(struct disk *d, const void *p, size_t len, uint64_t off);
int disk_sync_op(struct disk *d, enum disk_op op, unsigned int flags, uint64_t off, uint64_t len);
int disk_flush(struct disk *d);

/* ---- extents ---- */

enum extent_flags {
	EXTENT_DATA = 1, /* holds data: reading it costs I/O */
	EXTENT_ZERO = 2, /* reads as zeroes without I/O */
	EXTENT_COMPRESSED = 4,
	EXTENT_OFFSET = 8, /* `host` is valid: plain bytes of `file` */
	EXTENT_ALLOCATED =
		16, /* space is taken in some layer of the chain (or is explicitly zero there) */
};

struct extent {
	uint64_t off, len;
	uint64_t host; /* offset in `file` */
	uint32_t flags;
	uint32_t depth;	  /* 0: the image itself, 1: its backing file, ... */
	const char *file; /* path; lives as long as the disk */
};

struct extent_list {
	struct extent *v;
	size_t n, cap;
};
void extent_list_done(struct extent_list *l);
/* Everything in [off, off+len), in order, without gaps, neighbours of one kind joined. */
int disk_extents(struct disk *d, uint64_t off, uint64_t len, struct extent_list *ret);

/* ---- management ---- */

enum disk_provision {
	DISK_THIN,  /* allocate on write */
	DISK_LAZY,  /* space is reserved, contents are zeroed when first written */
	DISK_EAGER, /* space is reserved and zeroed */
};

/* New size; -ENOTSUP where the driver cannot.  Shrinking needs `shrink`: what lies beyond is lost.  Works under I/O. */
int disk_resize(struct disk *d, uint64_t size, enum disk_provision prov, bool shrink,
		struct err **e);

/* Allocated bytes that this image alone takes in its file system, and its apparent size. */
int disk_usage(struct disk *d, uint64_t *allocated, uint64_t *apparent);
/* DISK_SPACE_LOW is sent once when the image's end passes `bytes` (0: never). */
void disk_set_threshold(struct disk *d, uint64_t bytes);

struct disk_stats {
	uint64_t ops[DISK_N_OPS], bytes[DISK_N_OPS], errors[DISK_N_OPS];
	nsec_t time[DISK_N_OPS]; /* sum over requests, submit to done */
};
/* The sum over all queues, past ones included. */
void disk_stats(struct disk *d, struct disk_stats *ret);

/* A parameter of a filter: the limits of "throttle" (filters/limits.h has the names), the rules of "fault".
 * -ENOENT: no such filter. */
int disk_set_param(struct disk *d, const char *filter, const char *name, const char *value,
		   struct err **e);

/* What a filter tells of itself: settings of "throttle", latencies of "stats".  -ENOENT: no such filter. */
int disk_filter_info(struct disk *d, const char *filter,
		     void (*emit)(void *arg, const char *name, const char *value), void *arg);

/* The format's own properties, one call each: "cluster_size", "65536"... */
void disk_info(struct disk *d, void (*emit)(void *arg, const char *name, const char *value),
	       void *arg);
/* Record another backing file (NULL: none) without looking at contents; takes effect at the next open. */
int disk_set_backing(struct disk *d, const char *path, const char *format, struct err **e);
/* One whole cluster (disk_limits().opt_io; zero-padded at the end), stored compressed if that makes it smaller.
 * -ENOTSUP: the format does not compress. */
int disk_write_compressed(struct disk *d, const void *cluster, uint64_t off);

/* ---- internal snapshots (qcow2); -ENOTSUP elsewhere ---- */

struct disk_snapshot_info {
	char *id, *name;
	uint64_t size;	   /* of the disk then */
	uint64_t vm_state; /* bytes */
	nsec_t when;	   /* since 1970 */
	nsec_t vm_clock;
};
struct disk_snapshot_list {
	struct disk_snapshot_info *v;
	size_t n, cap;
};
void disk_snapshot_list_done(struct disk_snapshot_list *l);
int disk_snapshot_ls(struct disk *d, struct disk_snapshot_list *ret, struct err **e);
int disk_snapshot_create(struct disk *d, const char *name, struct err **e);
/* `which`: an id or a name.  The disk's contents become the snapshot's; the size too. */
int disk_snapshot_apply(struct disk *d, const char *which, struct err **e);
int disk_snapshot_rm(struct disk *d, const char *which, struct err **e);

/* ---- making images ---- */

struct disk_create {
	const char *format; /* "qcow2", "raw" */
	const char *path;
	uint64_t size;
	enum disk_provision provision;
	const char *backing, *backing_format; /* NULL: none */
	const char *const *params; /* NULL-terminated name, value pairs: the -o options; NULL: none */
	bool exclusive;		   /* -EEXIST when the file is there */
};
int disk_create(const struct disk_create *c, struct err **e);

/* ---- checking ---- */

struct disk_check {
	uint64_t leaks, corruptions, errors; /* found; errors: could not be checked */
	uint64_t leaks_fixed, corruptions_fixed;
	uint64_t allocated, total, fragmented, compressed; /* guest clusters */
	uint64_t image_end;
	void (*message)(void *arg, const char *text); /* NULL: silent */
	void *arg;
};
enum disk_repair { DISK_REPAIR_NONE, DISK_REPAIR_LEAKS, DISK_REPAIR_ALL };
/* -ENOTSUP: the format has nothing to check. */
int disk_check(struct disk *d, enum disk_repair repair, struct disk_check *ret, struct err **e);

/* ---- jobs, and volumes with trees of snapshots ---- */

#include "storage/job.h"
#include "storage/volume.h"

#endif
