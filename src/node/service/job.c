/* See job.h. */
#include "node/service/job.h"

#include "node/node.h"

#define TICK (250 * NSEC_PER_MSEC)

static const char *const phase_text[] = {
	[IMAGE_RESOLVE] = "resolving", [IMAGE_DOWNLOAD] = "downloading",
	[IMAGE_UPLOAD] = "uploading",  [IMAGE_UNPACK] = "unpacking",
	[IMAGE_PACK] = "packing",      [IMAGE_RUN] = "running",
};

static void on_progress(void *arg, const struct image_progress *p)
{
	struct task_job *j = arg;

	atomic_store(&j->phase, p->phase);
	atomic_store(&j->done, p->done);
	atomic_store(&j->total, p->total);
}

static void show(struct timer *tick)
{
	struct task_job *j = tick->data;
	unsigned long long done = atomic_load(&j->done), total = atomic_load(&j->total);
	unsigned int phase = atomic_load(&j->phase);

	task_progress(j->task, total ? (unsigned int)(done * 100 / total) : 0,
		      phase < ARRAY_SIZE(phase_text) ? phase_text[phase] : NULL);
}

static void run(struct work *w)
{
	struct task_job *j = container_of(w, struct task_job, work);

	if (work_cancelled(w))
		j->r = err_set(&j->err, ECANCELED, "task.cancelled", "cancelled");
	else
		j->r = j->fn(j, &j->err);
}

static void ended(struct work *w)
{
	struct task_job *j = container_of(w, struct task_job, work);
	struct task *t = j->task;

	timer_stop(&j->tick);
	if (j->after)
		j->after(j, j->r);
	if (j->r == 0) {
		json_free(t->result);
		t->result = TAKE(j->result);
		task_next(t);
	} else {
		if (!j->err)
			err_sys(&j->err, -j->r, "%s", t->verb->name);
		task_fail(t, TAKE(j->err));
	}
}

void task_job_run(struct task_job *j, struct task *t)
{
	struct node *n = task_daemon(t);
	struct err *e = NULL;
	int r;

	j->task = t;
	j->op.progress = on_progress;
	j->op.arg = j;
	j->tick.data = j;
	r = work_submit(n->workers, &j->work, run, ended);
	if (r < 0) {
		err_sys(&e, -r, "%s", t->verb->name);
		task_fail(t, e);
		return;
	}
	timer_start(n->loop, &j->tick, "task progress", TICK, TICK, show);
}

void task_job_cancel(struct task_job *j)
{
	atomic_store(&j->op.cancelled, true);
	work_cancel(&j->work);
}

void task_job_done(struct task_job *j)
{
	timer_stop(&j->tick);
	json_free(j->result);
	err_free(j->err);
	j->result = NULL;
	j->err = NULL;
}
