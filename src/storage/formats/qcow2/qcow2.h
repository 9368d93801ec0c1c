/* qcow2, private to formats/qcow2/.                 Spec: QEMU docs/interop/qcow2.txt, versions 2 and 3.
 *
 * Memory: all of the L1 table, of the refcount table and of the refcount blocks (writers only); L2 tables are loaded
 * when first used and kept, clean ones go when Q_L2_CACHE is passed.  What lies below the image is one sorted extent
 * array for the whole chain (extentmap.c).
 *
 * Threads: `lock` guards everything below it; it is never held over I/O.
 *
 * Invariants on the disk, at every moment:
 *  (1) a refcount is stable before anything that is counted by it can be reached;
 *  (2) guest data and new tables are stable before an entry points to them;
 *  (3) a cluster is reused, or its refcount lowered, only after the removal of its last reference is stable and
 *      requests that may have seen it have ended (disk_epoch());
 *  (4) an entry is changed only as a whole (8 or 16 bytes inside one sector).
 * So a crash leaves at worst clusters that nobody uses (leaks). commit.c keeps the order. */
#ifndef STORAGE_QCOW2_H
#define STORAGE_QCOW2_H

#include "base/buf.h"
#include "base/hmap.h"
#include "storage/disk_ops.h"

#define Q_MAGIC		0x514649fbU
#define Q_L2_CACHE	(512 * MIB) /* clean L2 tables beyond this are dropped */
#define Q_MAX_L1	(32 * MIB)  /* bytes, as QEMU */
#define Q_MAX_REFTABLE	(8 * MIB)   /* bytes, as QEMU */
#define Q_MAX_REFMEM	(2 * GIB)   /* refcount blocks in memory */
#define Q_MAX_SNAPSHOTS 65536U
#define Q_MAX_SNAPTABLE (64 * MIB)
#define Q_COMMIT_TABLES 512 /* dirty tables that start a commit by themselves */

#define Q_OFFSET     0x00fffffffffffe00ULL
#define Q_COPIED     (1ULL << 63)
#define Q_COMPRESSED (1ULL << 62)
#define Q_ZERO	     1ULL

#define Q_INCOMPAT_DIRTY    1ULL
#define Q_INCOMPAT_CORRUPT  2ULL
#define Q_INCOMPAT_DATAFILE 4ULL
#define Q_INCOMPAT_COMPR    8ULL
#define Q_INCOMPAT_EXTL2    16ULL
#define Q_INCOMPAT_KNOWN    31ULL
#define Q_COMPAT_LAZY	    1ULL
#define Q_AUTO_BITMAPS	    1ULL
#define Q_AUTO_RAWDATA	    2ULL

#define Q_EXT_END     0x00000000U
#define Q_EXT_BACKFMT 0xe2792acaU
#define Q_EXT_NAMES   0x6803f857U
#define Q_EXT_BITMAPS 0x23852875U
#define Q_EXT_CRYPT   0x0537be77U
#define Q_EXT_DATA    0x44415441U

struct q_header { /* host byte order */
	uint32_t version, cluster_bits, crypt_method, l1_size, reftable_clusters, nb_snapshots;
	uint64_t size, l1_off, reftable_off, snap_off;
	uint64_t incompat, compat, autoclear;
	uint32_t refcount_order, header_length;
	uint8_t compression;
	char *backing, *backing_format, *data_file; /* or NULL */
	uint32_t nb_bitmaps;
	uint64_t bitmap_dir_size, bitmap_dir_off;
	struct buf unknown_ext; /* extensions that we do not know, as they were, padded */
	struct buf extra;	/* header bytes behind the fields that we know */
};

struct q_table {	     /* an L2 table in memory, big-endian as on the disk */
	uint64_t *data;	     /* NULL: not loaded */
	uint64_t dirty;	     /* bit i: the i-th 64th of the table (at least a sector) */
	struct list waiters; /* disk_io.link, while loading */
	uint64_t off;	     /* in the file */
	bool loading, fresh; /* fresh: no L1 entry on the disk points to it yet */
	unsigned int pins;   /* users outside the lock */
	bool touched;	     /* used since the last sweep of the cache */
};

struct q_refblock {
	void *data; /* big-endian; NULL: none */
	bool dirty;
};

struct q_free {		 /* clusters whose last reference is gone in memory */
	uint64_t off, n; /* first byte, clusters */
	uint64_t epoch;
	bool discard;
};

struct q_extent { /* one piece of what lies below the image */
	uint64_t off, len;
	uint64_t host;		/* offset in node; Q_EXTENT_COMPR: the L2 entry */
	struct disk_node *node; /* driver of a raw or qcow2 file; Q_EXTENT_COMPR: the qcow2 node */
	uint8_t kind;		/* enum q_extent_kind */
	uint16_t depth;
};
enum q_extent_kind { Q_EXTENT_ZERO, Q_EXTENT_DATA, Q_EXTENT_COMPR };
struct q_map { /* sorted, without gaps; immutable once built */
	struct q_extent *v;
	size_t n, cap;
};

struct qcow2 {
	struct disk_node node;
	struct q_header h;
	uint32_t cluster_size, l2_bits, l2_entries, entry_words;
	uint32_t sub_bits, subs; /* subcluster size as power of two; 1 or 32 of them a cluster */
	uint32_t csize_shift;	 /* of compressed descriptors */
	bool ext_l2, data_file, data_raw, corrupt, no_discard, keep_freed;
	bool file_grows;		/* what lies behind the end of the file reads as zeroes */
	struct disk_node *file, *dfile; /* metadata, guest data */

	pthread_mutex_t lock;
	uint64_t *l1;			   /* host order */
	uint64_t l1_dirty_lo, l1_dirty_hi; /* entries [lo, hi) differ from the disk */
	struct q_table **tables;	   /* by L1 index, or NULL */
	uint64_t n_loaded, n_dirty;
	uint32_t sweep;

	uint64_t *reftable; /* host order */
	uint64_t n_reftable;
	struct q_refblock *refblocks; /* by reftable index */
	uint64_t rb_entries;
	uint64_t free_hint; /* no free cluster below */
	uint64_t file_end;  /* no cluster in use at or above, bytes */
	uint64_t virgin;    /* the file was never written at or above: reads as zeroes */
	uint64_t rt_dirty_lo, rt_dirty_hi;
	bool rt_moved;
	bool refs_dirty; /* some block is */
	unsigned int discarding;
	bool refs_loaded;
	bool alloc_virgin; /* what q_alloc() gave last reads as zeroes */
	uint64_t compr_at; /* where the next compressed data may go; 0: in a new cluster */

	struct q_free *pending; /* since the last commit began */
	size_t n_pending, cap_pending;
	struct q_free *frees; /* removal stable; waiting for their epoch */
	size_t n_frees, cap_frees;

	struct list allocs; /* struct q_alloc: writes that will change entries */
	bool committing;
	struct list commit_wait; /* flushes that arrived during a commit */
	bool threshold_sent;
	struct q_bitmap *bitmaps; /* that track */
	unsigned int n_bitmaps;

	struct q_map below; /* what the chain shows where this image says nothing */
	uint64_t below_size;
	bool has_below;
	bool below_direct; /* no map yet: what lies below is asked of node.backing itself */
};

static inline struct qcow2 *to_qcow2(struct disk_node *n)
{
	return container_of(n, struct qcow2, node);
}

extern const struct disk_ops disk_format_qcow2;

/* ---- header.c ---- */
/* Parse and check; the strings are new.  buf: the first `len` bytes (at least 512) of the file. */
int q_header_parse(struct q_header *h, const uint8_t *buf, size_t len, struct err **e);
void q_header_done(struct q_header *h);
/* The first cluster as it should be on the disk; buf has cluster_size bytes.  -ENOSPC: does not fit. */
int q_header_build(const struct q_header *h, uint8_t *buf, size_t cluster_size);
int q_header_write(struct qcow2 *s); /* rewrite the whole first cluster; blocking */

/* ---- cluster.c: L2 tables and entries; all with the lock held ---- */
struct q_entry {
	uint64_t desc, bitmap; /* bitmap: extended L2 */
};
/* What guest bytes [off, off+len) are; never crosses a cluster. */
struct q_span {
	enum { Q_UNALLOC, Q_ZEROES, Q_NORMAL, Q_COMPR } kind;
	uint64_t host; /* Q_NORMAL: of the first byte; Q_COMPR: descriptor */
	uint64_t len;
	bool shared; /* Q_NORMAL: refcount above one */
};
/* The table of guest offset off: 0 and *ret (NULL: no table there), or -EINPROGRESS: it is being loaded and io will be
 * resumed by `again`; -EIO on a damaged table entry. */
int q_table_get(struct qcow2 *s, struct disk_io *io, uint64_t off, struct q_table **ret,
		void (*again)(struct disk_io *io));
int q_table_load_sync(struct qcow2 *s, uint64_t l1_index, struct q_table **ret); /* quiesced */
struct q_entry q_entry_get(const struct qcow2 *s, const struct q_table *t, uint64_t off);
void q_entry_set(struct qcow2 *s, struct q_table *t, uint64_t off, struct q_entry v);
/* Longest piece of one kind from off on inside its cluster, at most max.  -EIO: damaged. */
int q_span(struct qcow2 *s, const struct q_table *t, uint64_t off, uint64_t max,
	   struct q_span *ret);
/* Make the table for off writable: new, or a copy of a shared one.  It must be loaded. */
int q_table_own(struct qcow2 *s, uint64_t off, struct q_table **ret);
void q_tables_drop(struct qcow2 *s);   /* forget all; none may be dirty */
void q_start_child(struct disk_io *k); /* internal: node_pass() of a child from its queue */
void q_compr_range(const struct qcow2 *s, uint64_t desc, uint64_t *off, uint64_t *len);
/* The table of guest offset off for a reader on any thread, beside I/O: it may drop the lock to read, so nothing that was
 * seen before holds.  *ret: NULL: no table; else valid until the lock is dropped.  `room` is the caller's, zeroed, and
 * freed by him with free(room->data). */
int q_table_peek(struct qcow2 *s, uint64_t off, struct q_table *room, struct q_table **ret);

/* ---- refcount.c; lock held ---- */
int q_refs_load(struct qcow2 *s, struct err **e);
uint64_t q_ref_get(struct qcow2 *s, uint64_t cluster);
int q_ref_add(struct qcow2 *s, uint64_t cluster, int64_t delta); /* -EOVERFLOW, -EIO below zero */
uint64_t q_refblock_get(const struct qcow2 *s, const void *data, uint64_t i);
void q_refblock_set(const struct qcow2 *s, void *data, uint64_t i, uint64_t v);
/* n neighbouring clusters, or fewer when `some`: *ret is the first byte, result their number or -errno. */
int64_t q_alloc(struct qcow2 *s, uint64_t n, bool some, uint64_t *ret);
/* One reference to each of n clusters at off is gone in memory (not yet on the disk). */
int q_free_later(struct qcow2 *s, uint64_t off, uint64_t n, bool discard);
/* Drop what desc refers to. */
int q_entry_release(struct qcow2 *s, uint64_t desc);
void q_refs_done(struct qcow2 *s);

/* ---- commit.c ---- */
void q_commit(struct qcow2 *s, struct disk_io *io); /* io ends when all before it is stable */
void q_commit_go(struct disk_io *io);		    /* q_commit() of io->node */
int q_sync(struct qcow2 *s);			    /* blocking, until nothing is dirty; quiesced */
bool q_dirty(struct qcow2 *s);

/* ---- io.c ---- */
void q_submit(struct disk_node *n, struct disk_io *io);
void q_populate(struct disk_node *n, struct disk_io *io);
struct q_alloc;
/* ---- extentmap.c ---- */
int q_below_build(struct qcow2 *s, struct err **e);
void q_map_done(struct q_map *m);
void q_adopt(struct disk_node *n, struct disk_node *b);
int q_chain_open(struct disk_node *n, void **ret, struct err **e);
int q_chain_fold(struct disk_node *n, void **ret, struct err **e);
struct disk_node *q_chain_swap(struct disk_node *n, void *chain);
void q_chain_drop(void *chain);
const struct q_extent *q_map_find(const struct q_map *m, uint64_t off);
int q_extents(struct disk_node *n, uint64_t off, uint64_t len, struct extent_list *ret);
/* ---- compress.c ---- */
/* raw: the compressed bytes; out gets a cluster.  -EIO: damaged. */
int q_decompress(const struct qcow2 *s, const void *raw, size_t len, void *out);
/* Compressed length, or 0 when it does not shrink; out has cluster_size bytes. */
size_t q_compress(uint8_t type, const void *in, size_t len, void *out);
int q_write_compressed(struct disk_node *n, const void *cluster,
		       uint64_t off); /* blocking, quiesced; 0, 1: stored plain */
/* ---- bitmap.c: persistent dirty bitmaps that every writer has to keep ---- */
struct q_bitmap {
	uint64_t dir_at; /* of its directory entry, in the directory */
	uint64_t table_off;
	uint32_t n_table;
	unsigned int granularity; /* bits */
	uint8_t *bits;
	uint64_t n_bytes;
};
int q_bitmaps_open(struct qcow2 *s, struct err **e); /* loads those that track, marks them in use */
int q_bitmaps_close(struct qcow2 *s);		     /* stores them */
void q_bitmaps_mark(struct qcow2 *s, uint64_t off, uint64_t len);
/* Each cluster that bitmaps take: fn(arg, offset, bytes).  -EIO: damaged. */
int q_bitmaps_clusters(struct qcow2 *s, int (*fn)(void *arg, uint64_t off, uint64_t len),
		       void *arg);
/* ---- image.c ---- */
int q_reload(struct qcow2 *s, struct err **e); /* L1 anew from the disk; nothing dirty */
int q_set_dirty(struct qcow2 *s,
		bool on); /* the incompatible dirty bit, stable; version 2: nothing */
/* ---- snapshot.c, check.c, resize.c, create.c ---- */
struct q_snapshot {
	uint64_t l1_off, vm_state, size;
	uint32_t l1_size, sec, nsec;
	uint64_t clock;
	char *id, *name;
	uint8_t *extra; /* beyond the 16 bytes that we know */
	uint32_t n_extra;
};
int q_snapshots_load(struct qcow2 *s, struct q_snapshot **ret, uint32_t *n, uint64_t *bytes,
		     struct err **e);
void q_snapshots_free(struct q_snapshot *v, uint32_t n);
/* Set the copied flags of the active tables from the refcounts; fixed: how many were wrong, or NULL. */
int q_fix_copied(struct qcow2 *s, uint64_t *fixed);
int q_snapshot_ls(struct disk_node *n, struct disk_snapshot_list *ret, struct err **e);
int q_snapshot_create(struct disk_node *n, const char *name, struct err **e);
int q_snapshot_apply(struct disk_node *n, const char *which, struct err **e);
int q_snapshot_rm(struct disk_node *n, const char *which, struct err **e);
int q_check(struct disk_node *n, enum disk_repair repair, struct disk_check *ret, struct err **e);
int q_resize(struct disk_node *n, uint64_t size, enum disk_provision prov, bool shrink,
	     struct err **e);
int q_create(struct disk_node *file, const struct disk_create *c, struct err **e);

#endif
