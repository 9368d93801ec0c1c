/* A task step that blocks: its function runs on a worker, its end ends the step.
 *
 * Between: task.h above, base/work.h below.  The function may be cancelled: it looks at job->op.cancelled (which the image room's
 * functions do by themselves) and returns -ECANCELED.  Progress set on the worker is shown by the main loop, a few times a
 * second.  Thread: task_job_run() and task_job_cancel() the main loop's, `fn` a worker's. */
#ifndef NODE_JOB_H
#define NODE_JOB_H

#include "base/work.h"
#include "ext/json.h"
#include "image/image.h"
#include "node/task.h"

struct task_job {
	struct work work;
	struct timer tick;
	struct task *task;
	struct image_op op;
	atomic_ullong done, total; /* what progress shows; total 0: unknown */
	atomic_uint phase;	   /* enum image_phase */
	struct json *result;	   /* set by fn; becomes the task's when it succeeds */
	int (*fn)(struct task_job *j, struct err **e);
	/* On the main loop, before the step ends; may be NULL.  r is fn's. */
	void (*after)(struct task_job *j, int r);
	int r;
	struct err *err;
	void *data; /* the caller's */
};

/* Run fn and end the step with task_next() or task_fail().  j: zeroed but for fn, after and data; lives until the task is closed. */
void task_job_run(struct task_job *j, struct task *t);
void task_job_cancel(struct task_job *j);
void task_job_done(struct task_job *j); /* frees what a job that has ended left; zeroed: no effect */

#endif
