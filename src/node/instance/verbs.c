/* What is done to instances on request, as tasks: tables of steps.
 *
 * create, start: undone when they fail or the daemon dies.  stop, restart, remove: forward, run again from the step that was
 * begun.  A step that waits for the engine is ended by its callback; the task lives until then.
 * An instance that an earlier task removed is no error: forward verbs then have nothing left to do. */
#define LOG_MODULE "instance"
#include <signal.h>
#include <string.h>
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/str.h"
#include "node/instance/instance.h"
#include "node/service/job.h"

struct op {
	struct task *task;
	struct instance *i; /* NULL: gone */
	struct task_job job;
	struct engine_call call;
	struct instance_waiter waiter;
	struct timer timer;
	bool start, force, policy; /* of the arguments */
	nsec_t timeout;		   /* -1: the instance's own */
	char *name, *dir, *run;
	bool removed_object;
};

static struct node *node_of(struct task *t)
{
	return task_daemon(t);
}

static int op_open(struct task *t, struct err **e)
{
	struct op *o = calloc(1, sizeof(*o));
	const char *timeout = json_str(json_get(t->args, "timeout"));

	if (!o)
		return err_sys(e, ENOMEM, "%s", t->verb->name);
	o->task = t;
	o->i = instance_get(node_of(t)->instances, t->target);
	o->start = json_bool(json_get(t->args, "start"), false);
	o->force = json_bool(json_get(t->args, "force"), false);
	o->policy = json_bool(json_get(t->args, "policy"), false);
	if (!timeout || parse_duration(timeout, &o->timeout) < 0)
		o->timeout = -1;
	if (!o->i && !t->verb->forward) {
		free(o);
		return err_set(e, ENOENT, "object.missing", "the instance is gone");
	}
	t->data = o;
	return 0;
}

static void op_close(struct task *t)
{
	struct op *o = t->data;

	instance_unwait(&o->waiter);
	timer_stop(&o->timer);
	task_job_done(&o->job);
	free(o->name);
	free(o->dir);
	free(o->run);
	free(o);
}

static void op_cancel(struct task *t)
{
	struct op *o = t->data;

	t->cancelled = true;
	task_job_cancel(&o->job);
}

/* Ends a step by what a callback says. */
static void step_end(struct task *t, int r, struct err *e)
{
	if (r < 0) {
		if (!e)
			err_sys(&e, -r, "%s", t->verb->name);
		task_fail(t, e);
	} else {
		err_free(e);
		task_next(t);
	}
}

/* -- create --------------------------------------------------------------------------------------- */

static int make_on_worker(struct task_job *j, struct err **e)
{
	struct op *o = container_of(j, struct op, job);

	return instance_make_layer(o->i, &j->op, e);
}

static void make_run(struct task *t)
{
	struct op *o = t->data;
	struct err *e = NULL;
	struct json *p;
	int r = instance_load(o->i, &e);

	if (r == 0 && o->i->spec->image)
		r = images_find(node_of(t)->images, o->i->spec->image, &o->i->image, &e);
	if (r == 0 && o->i->image)
		r = images_hold(node_of(t)->images, o->i->image, &e);
	if (r < 0) {
		step_end(t, r, e);
		return;
	}
	if (o->i->image) {
		p = json_new_obj();
		json_set(p, "image_digest", json_new_str(o->i->image->parts.desc.digest.s));
		inventory_patch_status(node_of(t)->inventory, o->i->object, p, NULL);
	}
	if (o->i->spec->root.has_size ||
	    o->i->spec->kind == API_INSTANCE_KIND_VM) { /* file systems take a while */
		o->job.fn = make_on_worker;
		task_job_run(&o->job, t);
		return;
	}
	r = instance_make_layer(o->i, NULL, &e);
	step_end(t, r, e);
}

static int files_on_worker(struct task_job *j, struct err **e)
{
	struct op *o = container_of(j, struct op, job);

	return instance_delete_files(o->dir, o->run, e);
}

static void forget(struct op *o)
{
	struct node *n = node_of(o->task);
	struct object *obj = o->i ? o->i->object : NULL;
	_cleanup_(freep) char *digest = NULL;
	const char *held;
	struct err *e = NULL;

	if (!obj)
		return;
	held = json_str(json_get(obj->status, "image_digest"));
	digest = held ? strdup(held) : NULL;
	object_ref(obj);
	instance_free(o->i);
	o->i = NULL;
	if (inventory_delete(n->inventory, obj, &e) < 0)
		log_err("cannot be removed", "instance", obj->id, "error", e);
	err_free(e);
	object_unref(obj);
	if (digest)
		images_unhold(n->images, digest);
}

static void make_undone(struct task_job *j, int r)
{
	struct op *o = container_of(j, struct op, job);

	if (r == 0)
		forget(o);
}

static void make_undo(struct task *t)
{
	struct op *o = t->data;

	if (!o->i) {
		task_next(t);
		return;
	}
	o->dir = strdup(o->i->dir);
	o->run = strdup(o->i->run);
	if (!o->dir || !o->run) {
		step_end(t, -ENOMEM, NULL);
		return;
	}
	o->job = (struct task_job){ .fn = files_on_worker, .after = make_undone };
	task_job_run(&o->job, t);
}

/* -- begin and start ------------------------------------------------------------------------------ */

static void begin_run(struct task *t)
{
	struct op *o = t->data;
	struct instance *i = o->i;
	struct err *e = NULL;

	if (!i) {
		task_next(t);
		return;
	}
	timer_stop(&i->restart_timer);
	if (instance_runs(i)) {
		task_next(t);
		return;
	}
	if (o->policy) {
		struct json *p = json_new_obj();

		json_set(p, "restarts", json_new_int((int64_t)i->restart.total));
		inventory_patch_status(node_of(t)->inventory, i->object, p, NULL);
	} else {
		restart_reset(&i->restart);
	}
	instance_move(i, API_INSTANCE_STATE_STARTING, NULL);
	step_end(t, 0, e);
}

static void begin_undo(struct task *t)
{
	struct op *o = t->data;

	if (o->i && o->i->state == API_INSTANCE_STATE_STARTING)
		instance_move(o->i, API_INSTANCE_STATE_STOPPED,
			      t->error ? err_msg(t->error) : "the start was undone");
	task_next(t);
}

static void on_start(void *arg, int r, struct err *e)
{
	struct task *t = arg;
	struct op *o = t->data;
	struct instance *i = o->i;

	if (r == 0) {
		instance_show_nics(i);
		instance_move(i, API_INSTANCE_STATE_RUNNING, NULL);
		instance_event(i, "started", NULL);
		health_start(i);
	}
	step_end(t, r, e);
}

static void start_after_clean(void *arg, int r, struct err *e)
{
	struct task *t = arg;
	struct op *o = t->data;

	if (r < 0)
		step_end(t, r, e);
	else
		instance_start(o->i, on_start, t);
}

static void start_run(struct task *t)
{
	struct op *o = t->data;

	if (!o->i || instance_runs(o->i))
		task_next(t);
	else if (t->recovering) /* a forward verb begins the step again */
		instance_clean(o->i, start_after_clean, t);
	else
		instance_start(o->i, on_start, t);
}

static void on_undone(void *arg, int r, struct err *e)
{
	step_end(arg, r, e);
}

static void start_undo(struct task *t)
{
	struct op *o = t->data;

	if (!o->i || instance_runs(o->i))
		task_next(t);
	else
		instance_clean(o->i, on_undone, t);
}

/* create's: only when the client asked for it */
static void maybe_begin(struct task *t)
{
	struct op *o = t->data;

	if (o->start) {
		begin_run(t);
		return;
	}
	instance_move(o->i, API_INSTANCE_STATE_STOPPED, NULL);
	task_next(t);
}

static void maybe_start(struct task *t)
{
	struct op *o = t->data;

	if (o->start)
		start_run(t);
	else
		task_next(t);
}

/* -- stop ----------------------------------------------------------------------------------------- */

static void stop_waited(struct op *o)
{
	instance_unwait(&o->waiter);
	timer_stop(&o->timer);
	task_next(o->task);
}

static void on_stop_state(struct instance_waiter *w, struct instance *i)
{
	if (!instance_runs(i))
		stop_waited(w->data);
}

static void ignore_done(struct engine_call *call, int r, struct err *e)
{
	err_free(e);
	free(call);
}

static void engine_kill(struct instance *i, int signo, bool politely)
{
	struct engine_call *call = calloc(1, sizeof(*call));

	if (!call)
		return;
	call->done = ignore_done;
	if (politely)
		i->engine->ops->stop(i->engine, signo, call);
	else
		i->engine->ops->kill(i->engine, signo, call);
}

static void on_stop_timeout(struct timer *t)
{
	struct op *o = t->data;

	if (o->i->engine)
		engine_kill(o->i, SIGKILL, false);
}

static int stop_signal(struct instance *i)
{
	const char *s = json_str(json_get(i->object->spec, "stop_signal"));
	int n;

	if (!s && !i->image && i->spec && i->spec->image)
		images_find(i->all->node->images, i->spec->image, &i->image, NULL);
	if (!s && i->image)
		s = i->image->parts.config.stop_signal;
	n = s ? signal_number(s) : 0;
	return n ? n : SIGTERM;
}

static void stop_now(struct op *o)
{
	struct instance *i = o->i;
	nsec_t timeout = o->timeout;

	if (timeout < 0)
		timeout = i->spec ? i->spec->stop_timeout : 10 * NSEC_PER_SEC;
	if (i->state != API_INSTANCE_STATE_STOPPING)
		instance_move(i, API_INSTANCE_STATE_STOPPING, NULL);
	i->stop_wanted = true;
	if (o->force || timeout == 0) {
		engine_kill(i, SIGKILL, false);
		return;
	}
	engine_kill(i, stop_signal(i), true);
	o->timer.data = o;
	timer_start(i->all->node->loop, &o->timer, "stop", timeout, 0, on_stop_timeout);
}

static void on_thawed(struct engine_call *call, int r, struct err *e)
{
	struct op *o = container_of(call, struct op, call);

	err_free(e);
	if (o->i && instance_runs(o->i))
		stop_now(o);
}

static void stop_run(struct task *t)
{
	struct op *o = t->data;
	struct instance *i = o->i;

	if (i)
		timer_stop(&i->restart_timer);
	if (!i || !instance_runs(i) || !i->engine) {
		task_next(t);
		return;
	}
	o->waiter = (struct instance_waiter){ .fn = on_stop_state, .data = o };
	instance_wait(i, &o->waiter);
	if (i->state == API_INSTANCE_STATE_PAUSED) { /* what is frozen does not hear */
		o->call.done = on_thawed;
		i->engine->ops->resume(i->engine, &o->call);
	} else {
		stop_now(o);
	}
}

/* -- pause, resume -------------------------------------------------------------------------------- */

static void on_paused(struct engine_call *call, int r, struct err *e)
{
	struct op *o = container_of(call, struct op, call);

	if (r == 0 && o->i->state == API_INSTANCE_STATE_RUNNING)
		instance_move(o->i, API_INSTANCE_STATE_PAUSED, NULL);
	step_end(o->task, r, e);
}

static void on_resumed(struct engine_call *call, int r, struct err *e)
{
	struct op *o = container_of(call, struct op, call);

	if (r == 0 && o->i->state == API_INSTANCE_STATE_PAUSED)
		instance_move(o->i, API_INSTANCE_STATE_RUNNING, NULL);
	step_end(o->task, r, e);
}

static void refuse_state(struct task *t, const char *want)
{
	struct op *o = t->data;
	struct err *e = NULL;

	err_set(&e, EBUSY, "instance.state", "instance '%s' is %s, not %s",
		o->i ? o->i->object->name : "?",
		o->i ? api_instance_state_str(o->i->state) : "gone", want);
	task_fail(t, e);
}

static void pause_run(struct task *t)
{
	struct op *o = t->data;

	if (o->i->state == API_INSTANCE_STATE_PAUSED) {
		task_next(t);
	} else if (o->i->state != API_INSTANCE_STATE_RUNNING) {
		refuse_state(t, "running");
	} else {
		o->call.done = on_paused;
		o->i->engine->ops->pause(o->i->engine, &o->call);
	}
}

static void resume_run(struct task *t)
{
	struct op *o = t->data;

	if (o->i->state == API_INSTANCE_STATE_RUNNING) {
		task_next(t);
	} else if (o->i->state != API_INSTANCE_STATE_PAUSED) {
		refuse_state(t, "paused");
	} else {
		o->call.done = on_resumed;
		o->i->engine->ops->resume(o->i->engine, &o->call);
	}
}

/* -- remove --------------------------------------------------------------------------------------- */

static void remove_stop_run(struct task *t)
{
	struct op *o = t->data;

	if (o->i) {
		if (instance_runs(o->i) && !o->force && !t->recovering) {
			struct err *e = NULL;

			err_set(&e, EBUSY, "instance.running",
				"instance '%s' is running: stop it first, or use force",
				o->i->object->name);
			task_fail(t, e);
			return;
		}
		o->i->removing = true;
		o->timeout = 0;
	}
	stop_run(t);
}

static void on_remove_clean(void *arg, int r, struct err *e)
{
	step_end(arg, r, e);
}

static void remove_clean_run(struct task *t)
{
	struct op *o = t->data;

	if (o->i)
		instance_clean(o->i, on_remove_clean, t);
	else
		task_next(t);
}

static void remove_files_run(struct task *t)
{
	struct op *o = t->data;

	if (!o->i) {
		task_next(t);
		return;
	}
	o->dir = strdup(o->i->dir);
	o->run = strdup(o->i->run);
	if (!o->dir || !o->run) {
		step_end(t, -ENOMEM, NULL);
		return;
	}
	o->job = (struct task_job){ .fn = files_on_worker };
	task_job_run(&o->job, t);
}

static void remove_forget_run(struct task *t)
{
	struct op *o = t->data;

	if (o->i) {
		instance_delete_logs(o->i);
		forget(o);
	}
	task_next(t);
}

/* -- change --------------------------------------------------------------------------------------- */

static void on_updated(struct engine_call *call, int r, struct err *e)
{
	struct op *o = container_of(call, struct op, call);

	step_end(o->task, r, e);
}

/* What runs gets the resources that the spec has now. */
static void update_run(struct task *t)
{
	struct op *o = t->data;
	_cleanup_(engine_plan_freep) struct engine_plan *p = NULL;
	struct instance *i = o->i;
	struct err *e = NULL;
	int r;

	if (!instance_runs(i)) {
		task_next(t);
		return;
	}
	r = instance_load(i, &e);
	if (r == 0)
		r = instance_plan(i, &p, &e);
	if (r == 0 && !i->engine->ops->update)
		r = err_set(&e, ENOTSUP, "engine.unsupported",
			    "this engine changes nothing while it runs");
	if (r == 0)
		r = instance_update_nics(i, &e);
	if (r < 0) {
		step_end(t, r, e);
		return;
	}
	o->call.done = on_updated;
	i->engine->ops->update(i->engine, p, &o->call);
}

/* The API handler has stored the new spec and put the old one in the arguments. */
static void update_undo(struct task *t)
{
	struct op *o = t->data;
	struct object_change c = { .spec = json_get(t->args, "before") };
	struct err *e = NULL;
	int r = 0;

	if (c.spec && o->i)
		r = inventory_change(node_of(t)->inventory, o->i->object, &c, &e);
	step_end(t, r, e);
}

/* -- tables --------------------------------------------------------------------------------------- */

#define STEP(name, run, undo)   \
	{                       \
		name, run, undo \
	}
#define VERB(id, text, fwd, cancel_fn)              \
	static const struct task_verb id##_verb = { \
		.name = text,                       \
		.steps = id##_steps,                \
		.n_steps = ARRAY_SIZE(id##_steps),  \
		.forward = fwd,                     \
		.open = op_open,                    \
		.close = op_close,                  \
		.cancel = cancel_fn,                \
	}

static const struct task_step create_steps[] = {
	STEP("instance.make", make_run, make_undo),
	STEP("instance.begin", maybe_begin, begin_undo),
	STEP("instance.start", maybe_start, start_undo),
};
VERB(create, "instance.create", false, op_cancel);

static const struct task_step start_steps[] = {
	STEP("instance.begin", begin_run, begin_undo),
	STEP("instance.start", start_run, start_undo),
};
VERB(start, "instance.start", false, NULL);

static const struct task_step stop_steps[] = { STEP("instance.stop", stop_run, NULL) };
VERB(stop, "instance.stop", true, NULL);

static const struct task_step restart_steps[] = {
	STEP("instance.stop", stop_run, NULL),
	STEP("instance.begin", begin_run, NULL),
	STEP("instance.start", start_run, NULL),
};
VERB(restart, "instance.restart", true, NULL);

static const struct task_step pause_steps[] = { STEP("instance.pause", pause_run, NULL) };
VERB(pause, "instance.pause", false, NULL);

static const struct task_step resume_steps[] = { STEP("instance.resume", resume_run, NULL) };
VERB(resume, "instance.resume", false, NULL);

static const struct task_step change_steps[] = { STEP("instance.update", update_run, update_undo) };
VERB(change, "instance.change", false, NULL);

static const struct task_step remove_steps[] = {
	STEP("instance.kill", remove_stop_run, NULL),
	STEP("instance.clean", remove_clean_run, NULL),
	STEP("instance.files", remove_files_run, NULL),
	STEP("instance.forget", remove_forget_run, NULL),
};
VERB(remove, "instance.remove", true, NULL);

const struct task_verb *const instance_verbs[] = {
	&create_verb, &start_verb,  &stop_verb,	  &restart_verb, &pause_verb,
	&resume_verb, &change_verb, &remove_verb, NULL,
};
