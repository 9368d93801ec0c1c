/* What implements a disk: drivers (where bytes live), formats (what they mean), filters (what happens to requests).
 * Callers of the engine include storage.h; only files of this room include this one.
 *
 * Nodes and requests.  A graph is a stack of nodes linked by `next`, from the guest's side down to a driver.  A
 * request enters a node with node_submit(); the node ends it with exactly one disk_io_done(), now or later, on the
 * thread of io->q.  To use the node below, it makes a child request from the queue's pool:
 *
 *	pass on         node_pass(io, n->next): the request continues below, nothing to do at its end
 *	split           io_fan_begin(io); io_fan(io, node, op, flags, off, len, iov_off); ...; io_fan_end(io)
 *	own buffer      io_child(io->q, node, op, ...) with your own done
 *
 * Threads: submit() runs on the thread of the request's queue, several queues at once: what they share is locked or
 * atomic.  open, close, resize and the other slow calls run on one thread, formats' `quiesced` ones while no request
 * is inside the node. */
#ifndef STORAGE_DISK_OPS_H
#define STORAGE_DISK_OPS_H

#include <pthread.h>
#include <stdatomic.h>
#include "base/list.h"
#include "storage/storage.h"

#define DISK_MAX_DEPTH 1024	  /* files in one backing chain */
#define DISK_MAX_NODES 4096	  /* in one graph */
#define DISK_MAX_IO    (64 * MIB) /* one request */
#define DISK_HEAD      (64 * KIB) /* what probing may look at */

/* Requests of our own that enter at the gate; in disk_io.op. */
#define DISK_OP_POPULATE 32 /* the format's populate() */
#define DISK_OP_CAPTURE \
	33 /* the cbw filter saves [off, off+len) as if it were to be written; without one: no effect */
#define DISK_OP_SAVE \
	34 /* the same, then io's data (niov 0: zeroes) go over what was saved; without one: -EIO */

struct aio;

enum disk_kind { DISK_DRIVER, DISK_FORMAT, DISK_FILTER };

struct disk_ops {
	const char *name;
	enum disk_kind kind;
	size_t instance_size; /* struct disk_node first, then the node's own part; zeroed by the core */

	/* Formats: 0..100, how sure; head is the first len bytes of a file of `size` bytes. */
	int (*probe)(const uint8_t *head, size_t len, uint64_t size);
	/* n->disk, n->path, n->readonly and (formats, filters) n->next are set.  Sets n->size and n->limits.  On failure
	 * close() is called on the half-open node, so it takes any state that open() leaves. */
	int (*open)(struct disk_node *n, const struct disk_cfg *cfg, struct err **e);
	/* Writes back what is dirty; returns the first error. */
	int (*close)(struct disk_node *n);
	void (*submit)(struct disk_node *n, struct disk_io *io);

	/* A queue begins or ends to use the node, on the queue's thread; *slot is the node's per queue.  NULL: not needed. */
	int (*attach)(struct disk_node *n, struct disk_queue *q, void **slot);
	void (*detach)(struct disk_node *n, struct disk_queue *q, void *slot);

	/* Appends what [off, off+len) consists of, in order, without gaps; the whole range inside the node.  NULL: all
	 * data at the same offset of n->next (or opaque data, for a driver). */
	int (*extents)(struct disk_node *n, uint64_t off, uint64_t len, struct extent_list *ret);
	/* NULL: -ENOTSUP.  Formats: quiesced. */
	int (*resize)(struct disk_node *n, uint64_t size, enum disk_provision prov, bool shrink,
		      struct err **e);
	int (*usage)(struct disk_node *n, uint64_t *allocated, uint64_t *apparent);
	int (*set_param)(struct disk_node *n, const char *name, const char *value, struct err **e);
	int (*check)(struct disk_node *n, enum disk_repair repair, struct disk_check *ret,
		     struct err **e);
	int (*snapshot_ls)(struct disk_node *n, struct disk_snapshot_list *ret, struct err **e);
	int (*snapshot_create)(struct disk_node *n, const char *name, struct err **e);
	int (*snapshot_apply)(struct disk_node *n, const char *which, struct err **e);
	int (*snapshot_rm)(struct disk_node *n, const char *which, struct err **e);
	/* Formats: make an image in the open, empty driver node `file`. */
	int (*create)(struct disk_node *file, const struct disk_create *c, struct err **e);
	int (*set_backing)(struct disk_node *n, const char *path, const char *format,
			   struct err **e);
	int (*write_compressed)(struct disk_node *n, const void *cluster, uint64_t off);
	/* Formats with a write-back cache of metadata: make it stable; after it the file below is a complete image. */
	int (*sync)(struct disk_node *n, struct err **e);
	/* What was written to becomes read-only, with all of it on the disk and the lock of a reader.  Quiesced. */
	int (*seal)(struct disk_node *n, struct err **e);
	/* Take the writer's lock that open skipped (cfg.share_own). */
	int (*claim)(struct disk_node *n, struct err **e);
	/* Formats with a backing chain, opened without one: read what they do not hold from b, which is sealed, through
	 * b's own submit().  Takes b.  NULL: something lies below that is never read; zeroes are recorded as zeroes.
	 * Quiesced. */
	void (*adopt)(struct disk_node *n, struct disk_node *b);
	/* Open the chain that the image names now (NULL: none) beside the one in use; beside I/O.  Then, quiesced, put it
	 * in place; returns the old one, for node_close(). */
	int (*chain_open)(struct disk_node *n, void **ret, struct err **e);
	/* After adopt(): the same from what is open already. */
	int (*chain_fold)(struct disk_node *n, void **ret, struct err **e);
	struct disk_node *(*chain_swap)(struct disk_node *n, void *chain);
	void (*chain_drop)(void *chain); /* it is not wanted after all */
	/* Copy into the image what lies below it in [io->off, io->off+io->len), where it holds nothing itself; beside I/O.
	 * Through the gate, not through filters: contents do not change. */
	void (*populate)(struct disk_node *n, struct disk_io *io);
	/* Formats: the image's own state for `info`; see qcow2.h.  Filters: settings and counts, any thread. */
	void (*info)(struct disk_node *n,
		     void (*emit)(void *arg, const char *name, const char *value), void *arg);
};

struct disk_node {
	const struct disk_ops *ops;
	struct disk *disk;
	struct disk_node *next;	   /* file below a format, node below a filter; NULL: a driver */
	struct disk_node *backing; /* formats: the chain; owned, or NULL */
	struct disk_node
		*data; /* formats: where guest data lives when not in `next`; owned, or NULL */
	char *path;
	_Atomic uint64_t size;
	struct disk_limits limits;
	bool readonly;
	bool probed; /* raw by probing: the head is guarded */
	bool detect_zeroes;
	bool grows; /* drivers: writes behind the end make the file longer, gaps read as zeroes */
	unsigned int chain_depth; /* formats: images above this one in the chain */
	unsigned int id;	  /* index of its per-queue slots */
	atomic_uint refs;	  /* queues that must still forget it, and its owner */
};

/* The table, in disktab.c. */
extern const struct disk_ops *const disk_table[];
extern const size_t disk_table_len;
const struct disk_ops *disk_find_ops(enum disk_kind kind, const char *name); /* NULL: no such */

/* ---- requests ---- */

void node_submit(struct disk_node *n, struct disk_io *io);
/* End a request; r: 0 or -errno. */
void disk_io_done(struct disk_io *io, int r);
/* Let io go on in `n` as it is; io's submitter is told when n ends it. */
void node_pass(struct disk_io *io, struct disk_node *n);

/* A request from the queue's pool, freed by the core after its done(). iov is borrowed.  NULL: out of memory. */
struct disk_io *io_child(struct disk_queue *q, enum disk_op op, unsigned int flags, uint64_t off,
			 uint64_t len, const struct iovec *iov, uint32_t niov,
			 void (*done)(struct disk_io *io, int r), void *data);
/* One request becomes several; the first error wins.  io_fan(): [iov_off, iov_off+len) of io's buffers to or from `off`
 * of n.  io_fan_end() drops the count that io_fan_begin() took. */
void io_fan_begin(struct disk_io *io);
void io_fan(struct disk_io *io, struct disk_node *n, enum disk_op op, unsigned int flags,
	    uint64_t off, uint64_t len, uint64_t iov_off);
void io_fan_end(struct disk_io *io, int r);
/* Part of a fan with a buffer of its own, which stays until io ends. */
void io_fan_buf(struct disk_io *io, struct disk_node *n, enum disk_op op, uint64_t off, void *p,
		uint64_t len);
/* A request that was made inside the format itself counts for disk_quiesce() like one that came through the gate. */
void io_hold_gate(struct disk_io *io);

/* Run fn(io) on the thread of io->q, later; from any thread.  io->resume is used. */
void io_resume_later(struct disk_io *io, void (*fn)(struct disk_io *io));
/* Run fn(io) on this thread (that of io->q) once the monotonic clock reaches `due`. */
void io_resume_at(struct disk_io *io, nsec_t due, void (*fn)(struct disk_io *io));
/* Forget io_resume_at() of io; it must be waiting. */
void io_resume_cancel(struct disk_io *io);

/* Forget io_resume_later() of io, on the thread of its queue; no effect when it has run. */
void io_resume_forget(struct disk_io *io);

/* ---- buffers ---- */

void iov_zero(const struct iovec *iov, uint32_t niov, uint64_t off, uint64_t len);
void iov_to_buf(const struct iovec *iov, uint32_t niov, uint64_t off, void *p, size_t len);
void iov_from_buf(const struct iovec *iov, uint32_t niov, uint64_t off, const void *p, size_t len);
bool iov_is_zero(const struct iovec *iov, uint32_t niov, uint64_t off, uint64_t len);
bool mem_is_zero(const void *p, size_t len);
/* The part [off, off+len) of an array; writes at most niov entries to out and returns how many. */
uint32_t iov_slice(const struct iovec *iov, uint32_t niov, uint64_t off, uint64_t len,
		   struct iovec *out);

/* ---- queues ---- */

struct aio *queue_aio(struct disk_queue *q);
struct loop *queue_loop(struct disk_queue *q); /* NULL for the disk's own blocking queue */
void *queue_slot(struct disk_queue *q,
		 struct disk_node *n); /* attaches n on first use; NULL: it has no slot */

/* ---- nodes ---- */

int node_open(struct disk *d, const struct disk_ops *ops, const char *path,
	      const struct disk_cfg *cfg, struct disk_node *next, struct disk_node **ret,
	      struct err **e);
int node_close(struct disk_node *n); /* with everything below */
/* Open a file (driver and format, and its own chain) named inside an image at `from`; path is relative to it. */
int node_open_named(struct disk_node *from, const char *path, const char *format, bool readonly,
		    struct disk_node **ret, struct err **e);
int node_open_file(struct disk_node *from, const char *path, bool readonly, struct disk_node **ret,
		   struct err **e);

/* Blocking I/O on the disk's own queue: open, close and quiesced calls. */
int node_pread(struct disk_node *n, void *p, size_t len, uint64_t off);
int node_pwrite(struct disk_node *n, const void *p, size_t len, uint64_t off);
int node_sync_op(struct disk_node *n, enum disk_op op, unsigned int flags, uint64_t off,
		 uint64_t len);
/* Let something that was begun on the disk's own queue move on. */
void node_wait(struct disk_node *n);
int node_resize(struct disk_node *n, uint64_t size, enum disk_provision prov, bool shrink,
		struct err **e);
int node_extents(struct disk_node *n, uint64_t off, uint64_t len, struct extent_list *ret);
int extent_add(struct extent_list *l, const struct extent *x); /* joins neighbours */

/* Stop requests from entering formats and wait for those inside; then let them go on. */
void disk_quiesce(struct disk *d);
void disk_resume(struct disk *d);
/* Grace periods for space that is given back: a request that entered the format while disk_epoch() was E may touch what
 * it saw until the epoch is E + 2.  disk_epoch_advance() moves on if nobody is left of the epoch before. */
uint64_t disk_epoch(struct disk *d);
void disk_epoch_advance(struct disk *d);
uint64_t disk_threshold(const struct disk *d); /* see disk_set_threshold() */
void disk_emit(struct disk *d, enum disk_event ev, int64_t value);

/* The value of a parameter in a NULL-terminated list of pairs, or NULL. */
const char *param_get(const char *const *params, const char *name);

#endif
