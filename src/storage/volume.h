/* Volumes: a virtual disk with its tree of snapshots, in a directory of its own.
 *
 *	DIR/volume.json		the descriptor: what exists; replaced atomically, the truth after every crash
 *	DIR/lock		held by the one process that may change the volume; names it
 *	DIR/f1.qcow2 ...	the files; docs/internals/storage.md has the form and its invariants
 *
 * A volume has a current state, which is attached as a disk, and points (snapshots) that form a tree by what they
 * were taken after.  Every image file is a plain raw or qcow2 image that qemu-img reads with its chain.
 *
 * How a point keeps old blocks:
 *	row	redirect on write: the current file is sealed, new writes go to a new one on top.  Restore: a new
 *		file on top of the point's, O(1).
 *	cow	copy before write: the current file stays flat; the first write to a cluster saves the old one in the
 *		point's file (durably) before it goes on.  Restore copies the saved clusters back, O(changed).
 *	full	an independent copy: a cow point that a job fills up in the background.  Restore copies all.
 *	reflink	a copy by the file system that shares blocks (btrfs, XFS); -ENOTSUP "disk.reflink" elsewhere.
 *
 * A linked clone is a volume whose first file has a point's file below; that point cannot be deleted while the clone
 * is there.  A volume is changed by the process that has its disk attached (or by anyone while nobody has);
 * volume_info() of a volume that another process holds works at any time.
 *
 * Long work returns a job.  One job per volume at a time (-EBUSY "volume.busy"); it is written down in the descriptor,
 * so after kill -9 volume_open() finds it and volume_resume() goes on with it.
 *
 * Threads: any; calls on one volume are serialised inside and may block for I/O, but not for a job.  Not from done()
 * callbacks of the disk's queues, and (as for struct disk) no queue's thread may be waiting for the caller.
 * Errors: ids volume.exists, volume.missing, volume.locked (with the holder), volume.busy, volume.damaged,
 * volume.protected (with the clones), volume.point (no such point), volume.attached, disk.*, sys.*. */
#ifndef STORAGE_VOLUME_H
#define STORAGE_VOLUME_H

#include "base/uuid.h"
#include "storage/job.h"

struct buf;
struct disk;
struct disk_cfg;
struct volume;

enum volume_kind { VOLUME_ROW, VOLUME_COW, VOLUME_FULL, VOLUME_REFLINK, VOLUME_N_KINDS };
extern const char *const volume_kinds[]; /* "row", "cow", "full", "reflink", NULL */

#define VOLUME_DEPTH \
	64 /* files in the current chain above which a snapshot starts flattening, unless set */

/* ---- life ---- */

struct volume_create {
	uint64_t size;		   /* bytes */
	const char *format;	   /* "qcow2" (NULL too) or "raw" */
	int provision;		   /* enum disk_provision */
	const char *const *params; /* of the format, as in struct disk_create */
	unsigned int max_depth;	   /* 0: VOLUME_DEPTH */
};
/* Makes dir, which must not exist ("volume.exists"). */
int volume_create(const char *dir, const struct volume_create *c, struct err **e);
/* Takes an image file over (renamed into the volume when it is on the same file system, else copied). */
int volume_import(const char *dir, const char *image, const char *format, struct err **e);

/* For changing it: takes the lock, removes what an interrupted operation left, mends headers. */
int volume_open(const char *dir, struct volume **ret, struct err **e);
/* Cancels and waits for the job (which can be resumed after the next open), detaches.  NULL: no effect. */
void volume_close(struct volume *v);
DEFINE_CLEANUP(struct volume *, volume_close);
/* Removes dir and all.  "volume.protected" while linked clones stand on it; a linked clone releases its base.  Not
 * while anyone has it open. */
int volume_remove(const char *dir, struct err **e);

/* ---- the disk ---- */

/* Opens the current state.  cfg: filters, direct, sync, detect_zeroes, discard_off ... (path, format, driver and
 * backing are ignored); NULL: plain.  The disk is the volume's; queues on it must be closed before volume_detach().
 * -EBUSY while a restore is unfinished (volume_resume() first) or when attached. */
int volume_attach(struct volume *v, const struct disk_cfg *cfg, struct disk **ret, struct err **e);
/* A job that needs the attached disk is cancelled and waited for.  Returns disk_close()'s error. */
int volume_detach(struct volume *v, struct err **e);
struct disk *volume_disk(struct volume *v); /* NULL: not attached */
/* A point, to read it (back it up, serve it).  "volume.busy" for a cow point while its volume is attached: its
 * unchanged blocks are in a file that changes.  disk_close() when done, before the volume is closed. */
int volume_open_point(struct volume *v, const char *point, struct disk **ret, struct err **e);
/* Grows; online too.  Refused while cow points or linked clones of the current file would be cut. */
int volume_resize(struct volume *v, uint64_t size, struct err **e);

/* ---- points; `point` is an id or a name ---- */

/* Under I/O when attached: requests wait for a moment, all that completed before is in, nothing that starts after.
 * name: unique in the volume, 1 to 128 bytes of [A-Za-z0-9._:@+-].  id (UUID_TEXT bytes) may be NULL.
 * *job: the background part, borrowed, NULL when there is none: "fill" (full; the point is complete when it ends,
 * until then it is a cow point; cancelled: the point goes), or "flatten" (row, past the depth limit). */
int volume_snapshot(struct volume *v, const char *name, enum volume_kind kind, char *id,
		    struct job **job, struct err **e);
/* The current state becomes the point's; what was current is lost unless a point has it.  Not while attached.
 * row, reflink: done on return, *job NULL.  cow, full: "restore"; if it is cancelled or killed the volume can only be
 * attached after volume_resume() has finished it. */
int volume_restore(struct volume *v, const char *point, struct job **job, struct err **e);
/* The point is gone on return; "merge" gives its space back: what others need of its file moves to its neighbour
 * (by commit or stream, whichever copies less), under I/O when attached.  Cancelled: all stays readable, the space is
 * given back by a later volume_compact(). "volume.protected" while linked clones stand on it. */
int volume_delete(struct volume *v, const char *point, struct job **job, struct err **e);
/* Merge every file that no point needs any more ("merge"); *job NULL: nothing to do. */
int volume_compact(struct volume *v, struct job **job, struct err **e);
/* Make the chain of the current state short ("flatten"): the newest sealed file takes in what lies below it. */
int volume_flatten(struct volume *v, struct job **job, struct err **e);
/* After volume_open(): go on with the job that a crash or volume_close() interrupted.  *job NULL: there is none. */
int volume_resume(struct volume *v, struct job **job, struct err **e);
/* bytes/s of the jobs that start from now on; 0: no limit. job_set_rate() changes a running one. */
void volume_set_rate(struct volume *v, uint64_t rate);
/* The running or last job, borrowed, valid until the next one starts or the volume is closed.  NULL: none. */
struct job *volume_job(struct volume *v);

/* ---- clones ---- */

/* A new volume at dir with the point's contents; linked: shares them, done at once, *job NULL.  point NULL: the current
 * state; linked, or attached, it then takes a row point named "clone-<id of the clone>" first, which stays.  full: "clone", cancelled: dir goes away.
 * A cow point can only be cloned in full, and while its volume is not attached. */
int volume_clone(struct volume *v, const char *point, const char *dir, bool full, struct job **job,
		 struct err **e);
/* A linked clone becomes independent of its base ("promote"), under I/O when attached; then the base is released.
 * Cancelled: still linked, nothing lost.  *job NULL: it was independent. */
int volume_promote(struct volume *v, struct job **job, struct err **e);

/* ---- what there is ---- */

struct volume_point {
	char id[UUID_TEXT];
	char *name;
	enum volume_kind kind;
	bool complete;		/* full: the copy is whole */
	char parent[UUID_TEXT]; /* "": the root */
	uint64_t size, used;	/* of the disk then; bytes that its own file takes */
	nsec_t created;		/* since 1970 */
	char *file;		/* its path */
	unsigned int depth;	/* files of its chain */
	bool protected;		/* a linked clone stands on it */
};
struct volume_info {
	char id[UUID_TEXT];
	char *dir, *file;    /* absolute; file: the current one */
	const char *format;  /* of the first file */
	uint64_t size, used; /* all files of this volume */
	unsigned int depth, max_depth;
	char parent[UUID_TEXT]; /* the point that the current state comes after; "": none */
	char *base_dir;		/* linked clone: its base; NULL: none */
	char base_id[UUID_TEXT], base_point[UUID_TEXT];
	struct volume_point *points; /* in order of creation */
	size_t n_points;
	char **clones; /* directories of linked clones */
	size_t n_clones;
	char *job; /* type of the unfinished job in the descriptor, or NULL */
	uint64_t job_done, job_total;
	unsigned int hidden; /* files that only wait for volume_compact() */
};
/* From the descriptor, without a lock. */
int volume_info(const char *dir, struct volume_info *ret, struct err **e);
void volume_info_done(struct volume_info *i);
/* One JSON object, as `strata-disk info -o json` prints it. */
int volume_info_json(const struct volume_info *i, struct buf *b);
/* True for a directory with a descriptor. */
bool volume_is(const char *dir);

#endif
