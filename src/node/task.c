/* Tasks; see task.h.
 *
 * Invariants: (1) the status on disk names a step before that step runs; (2) at most one running task a target; (3) a task
 * leaves the queue only in finish(). */
#define LOG_MODULE "task"
#include "node/task.h"

#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/str.h"
#include "gen/error.h"
#include "gen/errors.h"

#define KEEP_FINISHED 1000

struct tasks {
	struct inventory *inv;
	const struct task_verb *const *verbs;
	void *data;
	bool stopping;
	struct list queue; /* running and waiting, in order of submission */
};

static void pump(struct tasks *ts);
static void advance(struct task *t);

static const struct task_verb *find_verb(struct tasks *ts, const char *name)
{
	for (const struct task_verb *const *v = ts->verbs; name && *v; v++) {
		if (streq((*v)->name, name))
			return *v;
	}
	return NULL;
}

static void task_free(struct task *t)
{
	if (t->opened && t->verb->close)
		t->verb->close(t);
	list_del(&t->node);
	json_free(t->result);
	err_free(t->error);
	object_unref(t->object);
	free(t);
}

void *task_daemon(const struct task *t)
{
	return t->tasks->data;
}

/* -- what is shown and what is on disk ------------------------------------------------------------ */

static struct json *time_json(void)
{
	char b[32];

	return json_new_str(format_time(now_real(), b, sizeof(b)));
}

static int patch(struct task *t, struct json *p, struct err **e)
{
	return inventory_patch_status(t->tasks->inv, t->object, p, e);
}

/* Invariant (1). */
static int journal(struct task *t, struct err **e)
{
	struct json *p = json_new_obj();
	int r = json_set(p, "step", json_new_str(t->verb->steps[t->step].name));

	r = json_set(p, "step_number", json_new_int((int64_t)t->step)) ?: r;
	r = json_set(p, "undoing", json_new_bool(t->undoing)) ?: r;
	if (r < 0) {
		json_free(p);
		return err_sys(e, ENOMEM, "task");
	}
	r = patch(t, p, e);
	return r < 0 ? r : inventory_flush(t->tasks->inv, e);
}

void task_progress(struct task *t, unsigned int percent, const char *text)
{
	struct json *p = json_new_obj();

	json_set(p, "progress", json_new_int(MIN(percent, 100U)));
	json_set(p, "doing", json_new_str(text ? text : t->verb->steps[t->step].name));
	patch(t, p, NULL);
}

static void purge(struct tasks *ts)
{
	struct object *o = inventory_next(ts->inv, "task", NULL);

	while (o && inventory_count(ts->inv, "task") > KEEP_FINISHED) {
		struct object *next = inventory_next(ts->inv, "task", o);

		if (json_get(o->status, "finished"))
			inventory_delete(ts->inv, o, NULL);
		o = next;
	}
}

static void finish(struct task *t)
{
	struct tasks *ts = t->tasks;
	struct json *p = json_new_obj(), *error;
	const char *state = t->error ? t->cancelled ? "cancelled" : "failed" : "succeeded";

	json_set(p, "state", json_new_str(state));
	json_set(p, "finished", time_json());
	if (t->error) {
		error = json_new_obj();
		json_set(error, "id", json_new_str(gen_error_id(t->error)));
		json_set(error, "message", json_new_str(err_msg(t->error)));
		json_set(p, "error", error);
		log_warn("failed", "task", t->object->id, "verb", t->verb->name, "error", t->error);
	} else {
		json_set(p, "progress", json_new_int(100));
		if (t->result)
			json_set(p, "result", json_ref(t->result));
	}
	patch(t, p, NULL);
	inventory_flush(ts->inv, NULL);
	task_free(t);
	purge(ts);
	pump(ts);
}

/* -- steps ---------------------------------------------------------------------------------------- */

/* Runs in a flat loop when steps end at once: `running` tells task_next() that advance() is on the stack. */
static void run_step(struct task *t)
{
	const struct task_step *s = &t->verb->steps[t->step];
	struct err *e = NULL;
	int r = journal(t, &e);

	if (r < 0 && !t->undoing) {
		task_fail(t, e);
		return;
	}
	err_free(e);
	r = FAULT_POINT(s->name);
	if (r < 0 && !t->undoing) {
		e = NULL;
		err_sys(&e, -r, "%s", s->name);
		task_fail(t, e);
	} else if (!t->undoing) {
		s->run(t);
	} else if (s->undo) {
		s->undo(t);
	} else {
		task_next(t);
	}
}

static void advance(struct task *t)
{
	/* step == n_steps: all done; undoing below 0 shows as SIZE_MAX */
	if (t->undoing ? t->step == SIZE_MAX : t->step == t->verb->n_steps)
		finish(t);
	else
		run_step(t);
}

void task_next(struct task *t)
{
	if (t->tasks->stopping)
		return;
	t->step += t->undoing ? SIZE_MAX : 1; /* one back or one on */
	advance(t);
}

void task_fail(struct task *t, struct err *error)
{
	if (t->tasks->stopping) {
		err_free(error);
		return;
	}
	if (t->undoing) { /* an undo that failed: say it, go on with the others */
		log_err("undo failed", "task", t->object->id, "verb", t->verb->name, "error",
			error);
		err_free(error);
		task_next(t);
		return;
	}
	if (!error)
		err_set(&error, t->cancelled ? ECANCELED : EIO,
			t->cancelled ? ERR_TASK_CANCELLED : "task.failed", "%s",
			t->cancelled ? "cancelled" : "failed without a reason");
	t->error = error;
	if (t->verb->forward) { /* nothing to go back to; what was done stays done */
		finish(t);
		return;
	}
	t->undoing = true;
	advance(t);
}

/* -- the queue ------------------------------------------------------------------------------------ */

static bool target_busy(struct tasks *ts, const struct task *t)
{
	struct task *other;

	list_for_each_entry(other, &ts->queue, node) {
		if (other == t)
			return false;
		if (t->target[0] && streq(other->target, t->target))
			return true;
	}
	return false;
}

static void start(struct task *t)
{
	struct json *p = json_new_obj();
	struct err *e = NULL;
	int r = 0;

	t->running = true;
	json_set(p, "state", json_new_str("running"));
	json_set(p, "started", time_json());
	patch(t, p, NULL);
	if (t->verb->open)
		r = t->verb->open(t, &e);
	if (r < 0) {
		t->error = e;
		finish(t);
		return;
	}
	t->opened = true;
	advance(t);
}

/* Start what may start.  A start can finish at once and change the queue: begin again after each. */
static void pump(struct tasks *ts)
{
	struct task *t;
again:
	list_for_each_entry(t, &ts->queue, node) {
		if (t->running || target_busy(ts, t))
			continue;
		start(t);
		goto again;
	}
}

static struct task *task_make(struct tasks *ts, const struct task_verb *verb, struct object *o)
{
	struct task *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->tasks = ts;
	t->verb = verb;
	t->object = object_ref(o);
	t->target = json_str(json_get(o->spec, "target"));
	t->target = t->target ? t->target : "";
	t->args = json_get(o->spec, "args");
	list_add_tail(&ts->queue, &t->node);
	return t;
}

int task_submit(struct tasks *ts, const struct task_request *rq, struct object **ret,
		struct err **e)
{
	_cleanup_(json_freep) struct json *spec = json_new_obj(), *status = json_new_obj();
	const struct task_verb *verb = find_verb(ts, rq->verb);
	struct uuid u = uuid_v4();
	char name[UUID_TEXT];
	struct object_init init = {
		.type = "task", .project = rq->project, .spec = spec, .status = status
	};
	struct object *o;
	int r;

	if (!verb)
		return err_set(e, EINVAL, "task.verb", "there is no operation '%s'", rq->verb);
	r = json_set(spec, "verb", json_new_str(rq->verb));
	r = json_set(spec, "target", json_new_str(rq->target ? rq->target : "")) ?: r;
	if (rq->args)
		r = json_set(spec, "args", json_clone(rq->args)) ?: r;
	if (rq->actor)
		r = json_set(spec, "actor", json_new_str(rq->actor)) ?: r;
	r = json_set(status, "state", json_new_str("queued")) ?: r;
	r = json_set(status, "progress", json_new_int(0)) ?: r;
	if (r < 0)
		return err_sys(e, ENOMEM, "%s", rq->verb);
	init.name = uuid_format(&u, name);
	r = inventory_create(ts->inv, &init, &o, e);
	if (r < 0)
		return r;
	if (!task_make(ts, verb, o)) {
		inventory_delete(ts->inv, o, NULL);
		return err_sys(e, ENOMEM, "%s", rq->verb);
	}
	if (ret)
		*ret = o;
	object_ref(o); /* the queue may finish and purge it before we return */
	pump(ts);
	object_unref(o);
	return 0;
}

static struct task *find_task(struct tasks *ts, const char *id)
{
	struct task *t;

	list_for_each_entry(t, &ts->queue, node) {
		if (streq(t->object->id, id))
			return t;
	}
	return NULL;
}

static bool can_cancel(const struct task *t)
{
	return !t->running || (t->verb->cancel && !t->undoing);
}

bool task_can_cancel(struct tasks *ts, const char *id)
{
	const struct task *t = find_task(ts, id);

	return t && can_cancel(t);
}

int task_cancel(struct tasks *ts, const char *id, struct err **e)
{
	struct task *t = find_task(ts, id);

	if (!t)
		return err_set(e, ENOENT, ERR_TASK_FINAL, "the task has ended");
	if (!can_cancel(t))
		return err_set(e, ENOTSUP, ERR_TASK_FINAL, "%s cannot be cancelled%s",
			       t->verb->name, t->undoing ? ": it is being undone already" : "");
	t->cancelled = true;
	if (t->running) {
		t->verb->cancel(t);
	} else {
		err_set(&t->error, ECANCELED, ERR_TASK_CANCELLED, "cancelled before it started");
		finish(t);
	}
	return 0;
}

int tasks_new(struct inventory *inv, const struct task_verb *const *verbs, void *data,
	      struct tasks **ret, struct err **e)
{
	struct tasks *ts = calloc(1, sizeof(*ts));

	if (!ts)
		return err_sys(e, ENOMEM, "tasks");
	ts->inv = inv;
	ts->verbs = verbs;
	ts->data = data;
	list_init(&ts->queue);
	*ret = ts;
	return 0;
}

void tasks_stop(struct tasks *ts)
{
	if (ts)
		ts->stopping = true;
}

void tasks_free(struct tasks *ts)
{
	struct task *t, *tmp;

	if (!ts)
		return;
	list_for_each_entry_safe(t, tmp, &ts->queue, node)
		task_free(t);
	free(ts);
}

/* -- after a crash -------------------------------------------------------------------------------- */

static void recover_one(struct task *t)
{
	const struct json *st = t->object->status;
	int64_t step = json_int(json_get(st, "step_number"), -1);
	struct err *e = NULL;

	if (step < 0 && streq(json_str(json_get(st, "state")) ?: "", "queued"))
		return; /* it never began: the queue starts it */
	t->running = t->recovering = true;
	if (t->verb->open && t->verb->open(t, &e) < 0) {
		t->error = e;
		finish(t);
		return;
	}
	t->opened = true;
	t->step = (size_t)CLAMP(step, (int64_t)0, (int64_t)t->verb->n_steps - 1);
	if (t->verb->forward) {
		advance(t);
		return;
	}
	err_set(&t->error, EINTR, "task.interrupted",
		"interrupted by a restart of the daemon, and undone");
	t->undoing = true;
	if (step < 0)
		t->step = SIZE_MAX;
	advance(t);
}

int tasks_recover(struct tasks *ts, struct err **e)
{
	struct list todo = LIST_INIT(todo);
	struct list *n;

	for (struct object *o = inventory_next(ts->inv, "task", NULL); o;
	     o = inventory_next(ts->inv, "task", o)) {
		const struct task_verb *verb = find_verb(ts, json_str(json_get(o->spec, "verb")));

		if (json_get(o->status, "finished"))
			continue;
		if (!verb)
			log_err("a task of an unknown verb is left alone", "task", o->id);
		else if (!task_make(ts, verb, o))
			return err_sys(e, ENOMEM, "recover tasks");
	}
	list_splice_tail(&todo, &ts->queue);
	/* in order of submission; the queue holds what was looked at */
	while ((n = list_pop(&todo))) {
		struct task *t = list_entry(n, struct task, node);

		list_add_tail(&ts->queue, &t->node);
		recover_one(t);
	}
	pump(ts);
	return 0;
}
