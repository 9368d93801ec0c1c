/* Jobs: long work on disks and volumes (merge, copy, restore, flatten ...), each on a thread of its own.
 *
 * A job shows its progress, can be slowed down while it runs and asked to stop.  What survives a restart is written
 * down by its owner (a volume keeps it in its descriptor), see jobs/job_ops.h for how kinds of jobs are written.
 *
 * Threads: every call from any thread; job_free() once. */
#ifndef STORAGE_JOB_H
#define STORAGE_JOB_H

#include "base/err.h"
#include "base/types.h"

struct job;

enum job_state {
	JOB_RUNNING,
	JOB_DONE,
	JOB_FAILED,    /* see job_wait() for the reason */
	JOB_CANCELLED, /* what that leaves behind is said where the job is started */
};

struct job_info {
	const char *
		type; /* "merge", "fill", "restore", "flatten", "clone", ...; lives as long as the job */
	enum job_state state;
	uint64_t done, total;  /* bytes to look at; total may grow; 0 of 0 before it is known */
	uint64_t rate;	       /* limit in bytes/s of data moved; 0: none */
	nsec_t started, ended; /* monotonic; ended 0: not yet */
};
void job_info(struct job *j, struct job_info *ret);

/* Ask it to stop; it does so between two pieces (at most some MiB).  Ended: no effect. */
void job_cancel(struct job *j);
/* bytes/s; 0: as fast as it goes. */
void job_set_rate(struct job *j, uint64_t rate);
/* Becomes readable when the job has ended and stays so; watch it from a loop.  Owned by the job. */
int job_fd(const struct job *j);
bool job_ended(struct job *j);
/* Blocks until the end.  0, or the job's error (-ECANCELED after job_cancel()), also in e. */
int job_wait(struct job *j, struct err **e);
/* Cancels a running one and waits for it.  NULL: no effect. */
void job_free(struct job *j);
DEFINE_CLEANUP(struct job *, job_free);

#endif
