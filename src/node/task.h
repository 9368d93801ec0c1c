/* Tasks: long operations that survive a crash of the daemon.
 *
 * A verb is a table of steps.  Before a step runs its number is on disk; when a step fails, the steps begun so far are undone
 * in reverse; after a crash the same happens at the next start, or, for verbs marked `forward` (deleting, say), the steps are
 * run again from the one that was begun.  So a step's run may be repeated only in forward verbs, and every undo must accept
 * that its step did all, some or nothing of its work.
 *
 * Tasks on one target run one after another in the order of submission; others run side by side.
 * Thread: the main loop's.  A step that blocks hands its work to base/work.h and calls task_next() when it is back. */
#ifndef NODE_TASK_H
#define NODE_TASK_H

#include "node/inventory.h"

struct task;
struct tasks;

struct task_step {
	const char *name;
	/* Ends, now or later, with exactly one of task_next() and task_fail(). */
	void (*run)(struct task *t);
	/* Ends with task_next(); NULL: nothing to undo. */
	void (*undo)(struct task *t);
};

struct task_verb {
	const char *name; /* "instance.start" */
	const struct task_step *steps;
	size_t n_steps;
	bool forward;
	/* Called before the first step and before a recovery: make t->data from the target and t->args.  A failure fails the
	 * task; in a recovery it leaves the task failed with nothing undone, so fail only when nothing can be left. */
	int (*open)(struct task *t, struct err **e);
	void (*close)(struct task *t); /* free t->data; always called when open succeeded */
	/* The running step should end soon with task_fail(); NULL: the task cannot be cancelled. */
	void (*cancel)(struct task *t);
};

struct task { /* read only but for `data` and `result` */
	struct tasks *tasks;
	const struct task_verb *verb;
	struct object *object;	 /* the task in the inventory */
	const char *target;	 /* id of the object it works on */
	const struct json *args; /* NULL: none */
	void *data;
	struct json *result; /* owned; shown in the status when the task succeeds */
	struct err *error;
	size_t step;
	bool undoing, cancelled, opened, running, recovering;
	struct list node;
};

/* verbs: NULL-terminated, borrowed. `data`: the daemon, for the verbs. */
int tasks_new(struct inventory *inv, const struct task_verb *const *verbs, void *data,
	      struct tasks **ret, struct err **e);
/* No further step begins, whatever the running ones end with; NULL: no effect. */
void tasks_stop(struct tasks *ts);
/* Running tasks are dropped as a crash would drop them; NULL: no effect. */
void tasks_free(struct tasks *ts);
DEFINE_CLEANUP(struct tasks *, tasks_free);
/* Finish or undo what an earlier process left; call once, when the daemon is ready to run steps. */
int tasks_recover(struct tasks *ts, struct err **e);

struct task_request {
	const char *verb, *target, *project;
	const struct json *args; /* cloned */
	const char *actor;	 /* who asked; NULL: the daemon itself */
};
/* *ret (may be NULL) is the task's object, borrowed. */
int task_submit(struct tasks *ts, const struct task_request *rq, struct object **ret,
		struct err **e);
/* -ENOENT, -ENOTSUP, both "task.final": not running any more; cannot be cancelled. */
int task_cancel(struct tasks *ts, const char *id, struct err **e);
bool task_can_cancel(struct tasks *ts, const char *id);
void *task_daemon(const struct task *t); /* the `data` of tasks_new() */

/* For steps. */
void task_next(struct task *t);
void task_fail(struct task *t, struct err *error); /* takes error */
/* percent: 0..100; text: what is being done, NULL: the step's name. */
void task_progress(struct task *t, unsigned int percent, const char *text);

#endif
