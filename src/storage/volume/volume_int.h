/* Volumes, private to volume/.  The descriptor in memory, what it says of files, and the steps of long work.
 *
 * Invariants of the descriptor, at every moment on the disk:
 *  (1) every file that a point, the current state or another listed file needs is listed and complete;
 *  (2) the contents of each point and of the current state follow from the listed backing files; where an image's own
 *      header names another one, both show the same contents, and the file is in `mend`;
 *  (3) at most one file has the current file below it: the save image of cow points, which the cbw filter writes;
 *  (4) files that are not listed belong to an operation that did not happen: they are removed at volume_open().
 *
 * Threads: v->lock guards all of struct volume; jobs take it for their short steps, never while they move data. */
#ifndef STORAGE_VOLUME_INT_H
#define STORAGE_VOLUME_INT_H

#include <pthread.h>
#include "base/vec.h"
#include "storage/jobs/job_ops.h"
#include "storage/storage.h"

#define VOLUME_FILE "volume.json"
#define VOLUME_LOCK "lock"

struct vfile {
	unsigned int n; /* its name: f<n>.qcow2 or f<n>.raw */
	bool raw;
	unsigned int backing; /* another one's n; 0: none */
	bool external;	      /* the base's file is below */
};
struct vpoint {
	char id[UUID_TEXT], parent[UUID_TEXT];
	char *name;
	enum volume_kind kind;
	bool complete;
	unsigned int file;
	uint64_t size;
	nsec_t created;
};
struct vclone {
	char id[UUID_TEXT], point[UUID_TEXT];
	char *dir;
};
struct vjob { /* type NULL: none */
	char *type;
	char point[UUID_TEXT];
	unsigned int from, to;
	uint64_t done, total;
};
struct vdesc {
	char id[UUID_TEXT], parent[UUID_TEXT];
	uint64_t size;
	unsigned int max_depth, next, current;
	struct {
		char *dir, *file, *format; /* dir NULL: not a linked clone */
		char id[UUID_TEXT], point[UUID_TEXT];
	} base;
	VEC(struct vfile) files;
	VEC(struct vpoint) points;
	VEC(struct vclone) clones;
	VEC(unsigned int) mend;
	struct vjob job;
};

struct volume {
	pthread_mutex_t lock;
	char *dir;
	int dir_fd, lock_fd;
	struct vdesc d;
	struct disk *disk;
	bool current_busy; /* a job works on the current file without the attached disk */
	struct job *job;
	bool closing;	   /* a cancelled job shall be resumed later: it stays in the descriptor */
	struct disk *kept; /* a merged file, open until nobody has an older map of it */
	/* of the job */
	struct disk *job_dst; /* to flush before its progress is written down */
	struct disk *job_src; /* clone */
	char *job_dir, *job_tmp;
	struct vclone job_clone;
	unsigned int passes;
	uint64_t rate;	/* of jobs to come */
	uint64_t small; /* bytes that may be committed while I/O is stopped */
};

/* ---- desc.c ---- */
void vdesc_done(struct vdesc *d);
int vdesc_load(int dir_fd, const char *dir, struct vdesc *d, struct err **e);
int vdesc_save(int dir_fd, const struct vdesc *d, struct err **e);
/* v->d to the disk; on failure v->d is again what is there. */
int volume_save(struct volume *v, struct err **e);

struct vfile *vdesc_file(const struct vdesc *d, unsigned int n); /* NULL: not listed */
struct vpoint *vdesc_point(const struct vdesc *d, const char *id_or_name);
int vdesc_need_point(const struct vdesc *d, const char *which, struct vpoint **ret, struct err **e);
/* Number of files that have n below; *one: the last of them. */
unsigned int vdesc_children(const struct vdesc *d, unsigned int n, unsigned int *one);
bool vdesc_used(const struct vdesc *d, unsigned int n); /* by a point, or current */
unsigned int vdesc_depth(const struct vdesc *d,
			 unsigned int n); /* files of its chain in this volume */
bool vdesc_reaches(const struct vdesc *d, unsigned int from, unsigned int to);
unsigned int vdesc_save_file(const struct vdesc *d); /* (3); 0: none */
int vdesc_add_file(struct vdesc *d, bool raw, unsigned int backing, bool external, unsigned int *n);
void vdesc_remove_file(struct vdesc *d, unsigned int n);
void vdesc_remove_point(struct vdesc *d, struct vpoint *p);
int vdesc_set_backing(struct vdesc *d, unsigned int n, unsigned int backing, bool external);
void vfile_name(const struct vfile *f, char name[32]);

/* ---- volume.c; lock held ---- */
char *volume_path(const struct volume *v, unsigned int n); /* the caller's; NULL: out of memory */
void volume_unlink(struct volume *v, const struct vfile *f);
uint64_t volume_file_used(const struct volume *v, unsigned int n); /* bytes that it takes */
/* What image headers should name for n: *name NULL: nothing.  *name is the caller's. */
int volume_backing_name(const struct volume *v, unsigned int n, char **name, const char **format);
/* Make the headers of v->d.mend right. */
int volume_mend(struct volume *v, struct err **e);
/* An image of ours, opened beside whoever uses it.  alone: without its chain. */
int volume_open_file(struct volume *v, unsigned int n, bool write, bool alone, struct disk **ret,
		     struct err **e);
/* A new, empty image above `backing` (0 and not external: above nothing). */
int volume_make_file(struct volume *v, unsigned int n, uint64_t size, bool overlay, struct err **e);
/* -EBUSY while a job runs; takes the lock.  The other gives it back. */
int volume_enter(struct volume *v, struct err **e);
int volume_leave(struct volume *v, int r);
bool volume_point_clones(struct volume *v, const char *id,
			 struct buf *names); /* living linked clones */
bool volume_protected(struct volume *v,
		      unsigned int n); /* a linked clone's chain goes through the file */
int volume_lock_dir(const char *dir, int *fd, struct err **e);
int volume_remove_tree(const char *dir, struct err **e);
int volume_build_begin(const char *dir, char **tmp, struct err **e);
int volume_build_end(const char *dir, const char *tmp, struct err **e);
int volume_name_check(const char *name, struct err **e);

/* ---- work.c: jobs; lock held ---- */
/* Writes v->d.job down and starts it. */
int volume_start(struct volume *v, const char *type, const char *point, struct job **ret,
		 struct err **e);
bool volume_can_merge(struct volume *v);

#endif
