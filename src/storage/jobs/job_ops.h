/* How jobs are written: run() does the work with blocking calls on a thread of its own and tells after each piece how
 * far it is.  Used by volumes; mirror, backup and resize jobs take the same.
 *
 *	static int run(struct job *j, void *arg, struct err **e)
 *	{
 *		for (...; at += n)
 *			if ((r = move(at, n)) < 0 || (r = job_step(j, n, at + n, total)) < 0)
 *				return r;
 */
#ifndef STORAGE_JOB_OPS_H
#define STORAGE_JOB_OPS_H

#include "storage/job.h"
#include "storage/storage.h"

struct job_ops {
	const char *type;
	int (*run)(struct job *j, void *arg, struct err **e);
	/* Writes down how far it is, at most every `save_every` and never after the end; may be NULL.  Job's thread. */
	int (*save)(struct job *j, void *arg, uint64_t done, uint64_t total, struct err **e);
	nsec_t save_every; /* 0: a second */
	/* After run(), on the job's thread, before the end shows: tidy up by result.  Its result is the job's.  May be
	 * NULL. */
	int (*end)(struct job *j, void *arg, int r, struct err **e);
};
/* ops and arg live until the job has ended.  rate: as job_set_rate(), from its first byte on. */
int job_start(const struct job_ops *ops, void *arg, uint64_t rate, struct job **ret,
	      struct err **e);

/* From run(): `moved` bytes more were copied; the job is at done of total.  Sleeps as the rate asks.  -ECANCELED: stop. */
int job_step(struct job *j, uint64_t moved, uint64_t done, uint64_t total);
bool job_cancelled(const struct job *j);

/* ---- what jobs are made of; all blocking, all may be repeated after a crash; jobs/move.c ---- */

struct move {
	struct job *job; /* NULL: none, no limit */
	uint64_t from;	 /* go on at this offset; what lies before is done */
	uint64_t base,
		total; /* progress: of the job before this move, of all of it (0: the disk's size) */
};
/* Copy into d's active image what the next `depth` files of its chain hold (UINT_MAX: all), where it holds nothing
 * itself.  d is open for writing, maybe under I/O. */
int move_stream(struct disk *d, unsigned int depth, const struct move *m, struct err **e);
/* Write what the image src itself holds (not its chain; src was opened without it) into dst, zeroes included. */
int move_commit(struct disk *src, struct disk *dst, const struct move *m, struct err **e);
/* Write what src shows above its file at `depth` into dst: for restoring. UINT_MAX: all that it shows. */
int move_restore(struct disk *src, unsigned int depth, struct disk *dst, const struct move *m,
		 struct err **e);
/* Save every cluster of d by its cbw filter. */
int move_capture(struct disk *d, uint64_t size, const struct move *m, struct err **e);
/* As move_commit(), into the image that d's cbw filter writes. */
int move_save(struct disk *src, struct disk *d, const struct move *m, struct err **e);

#endif
