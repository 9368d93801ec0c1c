/* Instances over REST: make, look, change, and the verbs, which are tasks.  Streams are in instance_io.c and attach.c. */
#include "node/api/api.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include "base/str.h"
#include "gen/instance.h"
#include "gen/rest.h"
#include "node/instance/instance.h"

/* The inventory's text serves as it is, but for secrets. */
static int print_instance(struct node *n, struct object *o, struct buf *b)
{
	_cleanup_(api_instance_done) struct api_instance x = { 0 };
	const char *text;
	int r;

	if (!json_walk(o->spec, "cloud_init", "password", NULL)) {
		text = object_text(o);
		return text ? buf_adds(b, text) : -ENOMEM;
	}
	r = resource_load(o, &api_instance_type, &x, NULL);
	return r < 0 ? r : api_instance_print(&x, 0, b);
}

static bool fits(const void *query, const struct object *o)
{
	const struct api_instance_list_query *q = query;
	const char *state = json_str(json_get(o->status, "state"));
	const char *kind = json_str(json_get(o->spec, "kind"));
	bool any = q->state.n == 0;

	if (q->has_kind && (!kind || !streq(kind, api_instance_kind_str(q->kind))))
		return false;
	for (size_t k = 0; k < q->state.n; k++)
		any |= state && streq(state, api_instance_state_str(q->state.v[k]));
	return any;
}

void route_instance_list(struct api_call *c)
{
	api_list_if(c, "instance", print_instance, fits);
}

void route_instance_get(struct api_call *c)
{
	api_get(c, "instance", print_instance);
}

struct instance *api_instance(struct api_call *c)
{
	struct object *o = api_target(c, "instance");
	struct instance *i = o ? instance_get(c->node->instances, o->id) : NULL;

	if (o && !i)
		api_fail(c, -ENOENT, NULL);
	return i;
}

void api_submit(struct api_call *c, const char *verb, const char *target, const char *project,
		struct json *args)
{
	struct task_request rq = {
		.verb = verb, .target = target, .project = project, .args = args, .actor = c->actor
	};
	struct err *e = NULL;
	struct object *task = NULL;
	int r = task_submit(c->node->tasks, &rq, &task, &e);

	json_free(args);
	if (r < 0)
		api_fail(c, r, e);
	else
		api_accepted(c, task);
}

static void submit(struct api_call *c, const char *verb, struct object *target, struct json *args)
{
	api_submit(c, verb, target->id, target->project, args);
}

/* -- create --------------------------------------------------------------------------------------- */

static int create(struct api_call *c, struct api_instance *in, struct object **ret, struct err **e)
{
	_cleanup_(json_freep) struct json *status = json_new_obj();
	struct node *n = c->node;
	int r;

	if (in->spec.image) {
		_cleanup_(image_entry_unrefp) struct image_entry *image = NULL;

		r = images_find(n->images, in->spec.image, &image, e);
		if (r < 0)
			return r;
	}
	r = instance_spec_complete(n, &in->spec, e);
	if (r < 0)
		return r;
	json_set(status, "state", json_new_str("creating"));
	json_set(status, "host", json_new_str(n->host ? n->host->name : ""));
	r = resource_create(n->inventory, "instance", &api_instance_type, in,
			    in->project ? in->project : c->project, status, ret, e);
	if (r == 0)
		r = instance_new(n->instances, *ret, NULL, e);
	return r;
}

void route_instance_create(struct api_call *c)
{
	const struct api_create_query *q = c->query;
	struct api_instance *in = c->request;
	struct json *args = json_new_obj();
	struct object *o = NULL;
	struct err *e = NULL;
	int r;

	if (!api_project(c, in->project ? in->project : c->project)) {
		json_free(args);
		return;
	}
	r = create(c, in, &o, &e);
	if (r < 0) {
		json_free(args);
		api_fail(c, r, e);
		return;
	}
	json_set(args, "start", json_new_bool(q->start));
	submit(c, "instance.create", o, args);
}

/* -- change --------------------------------------------------------------------------------------- */

static void change(struct api_call *c)
{
	_cleanup_(api_instance_done) struct api_instance now = { 0 }, next = { 0 };
	struct instance *i = api_instance(c);
	int64_t expect = i ? api_if_match(c) : -1;
	struct json *args, *before;
	struct err *e = NULL;
	int r;

	if (expect < 0)
		return;
	r = resource_load(i->object, &api_instance_type, &now, &e);
	if (r == 0)
		r = (c->route->method == GEN_PATCH ? gen_patch : gen_replace)(
			&api_instance_type, &now, c->body, instance_runs(i), &next, &e);
	if (r == 0)
		r = instance_spec_complete(c->node, &next.spec, &e);
	before = r == 0 ? json_clone(i->object->spec) : NULL;
	if (r == 0)
		r = resource_store(c->node->inventory, i->object, &api_instance_type, &next, expect,
				   &e);
	if (r < 0) {
		json_free(before);
		api_fail(c, r, e);
		return;
	}
	args = json_new_obj();
	json_set(args, "before", before);
	submit(c, "instance.change", i->object, args);
}

void route_instance_patch(struct api_call *c)
{
	change(c);
}

void route_instance_replace(struct api_call *c)
{
	change(c);
}

void route_instance_rename(struct api_call *c)
{
	const struct api_instance_rename *rq = c->request;
	struct instance *i = api_instance(c);
	struct object_change ch = { .name = rq->name };
	struct err *e = NULL;
	int r;

	if (!i)
		return;
	r = inventory_change(c->node->inventory, i->object, &ch, &e);
	if (r == 0 && instance_runs(i) && i->spec)
		r = instance_update_nics(i, &e); /* its name in DNS */
	if (r < 0)
		api_fail(c, r, e);
	else
		api_show(c, 200, i->object, print_instance);
}

/* -- verbs ---------------------------------------------------------------------------------------- */

static void simple(struct api_call *c, const char *verb)
{
	struct instance *i = api_instance(c);

	if (i)
		submit(c, verb, i->object, NULL);
}

void route_instance_start(struct api_call *c)
{
	simple(c, "instance.start");
}

void route_instance_pause(struct api_call *c)
{
	simple(c, "instance.pause");
}

void route_instance_resume(struct api_call *c)
{
	simple(c, "instance.resume");
}

static void stop(struct api_call *c, const char *verb)
{
	const struct api_instance_stop *rq = c->request;
	struct instance *i = api_instance(c);
	struct json *args;
	char text[32];

	if (!i)
		return;
	args = json_new_obj();
	json_set(args, "force", json_new_bool(rq->force));
	if (rq->has_timeout)
		json_set(args, "timeout", json_new_str(gen_format_duration(rq->timeout, text)));
	submit(c, verb, i->object, args);
}

void route_instance_stop(struct api_call *c)
{
	stop(c, "instance.stop");
}

void route_instance_restart(struct api_call *c)
{
	stop(c, "instance.restart");
}

void route_instance_remove(struct api_call *c)
{
	const struct api_remove_query *q = c->query;
	struct instance *i = api_instance(c);
	struct err *e = NULL;
	struct json *args;

	if (!i)
		return;
	if (json_bool(json_get(i->object->spec, "protected"), false))
		err_set(&e, EBUSY, "instance.protected",
			"instance '%s' is protected: 'strata set %s --protect=off' first",
			i->object->name, i->object->name);
	else if (instance_runs(i) && !q->force)
		err_set(&e, EBUSY, "instance.running",
			"instance '%s' is %s: stop it first, or use force", i->object->name,
			api_instance_state_str(i->state));
	if (e) {
		api_fail(c, -EBUSY, e);
		return;
	}
	args = json_new_obj();
	json_set(args, "force", json_new_bool(q->force));
	submit(c, "instance.remove", i->object, args);
}

/* -- kill ----------------------------------------------------------------------------------------- */

struct api_kill {
	struct engine_call call;
	struct api_call *api; /* NULL: the client is gone */
};

static void on_killed(struct engine_call *call, int r, struct err *e)
{
	struct api_kill *k = container_of(call, struct api_kill, call);

	if (!k->api)
		err_free(e);
	else if (r < 0)
		api_fail(k->api, r, e);
	else
		api_empty(k->api);
	free(k);
}

static void kill_gone(struct httpd_req *r, void *data)
{
	struct api_kill *k = data;

	api_done(k->api);
	k->api = NULL;
}

void route_instance_kill(struct api_call *c)
{
	const struct api_instance_kill *rq = c->request;
	struct instance *i = api_instance(c);
	int signo = rq->signal ? signal_number(rq->signal) : SIGKILL;
	struct err *e = NULL;
	struct api_kill *k;

	if (!i)
		return;
	if (!signo || !instance_runs(i) || !i->engine) {
		if (!signo)
			err_set(&e, EINVAL, "instance.signal", "there is no signal '%s'",
				rq->signal);
		else
			err_set(&e, EBUSY, "instance.state", "instance '%s' does not run",
				i->object->name);
		api_fail(c, -err_num(e), e);
		return;
	}
	k = calloc(1, sizeof(*k));
	if (!k) {
		api_fail(c, -ENOMEM, NULL);
		return;
	}
	if (signo == SIGKILL || signo == SIGTERM || signo == SIGINT || signo == SIGQUIT)
		i->stop_wanted = true; /* its end is on purpose: no restart */
	k->api = c;
	k->call.done = on_killed;
	httpd_set_data(c->req, k, kill_gone);
	i->engine->ops->kill(i->engine, signo, &k->call);
}

/* -- wait ----------------------------------------------------------------------------------------- */

struct api_wait {
	struct api_call *api;
	struct object *object;
	struct instance_waiter waiter;
	struct timer timer;
	enum api_wait_condition want;
};

static void wait_free(struct api_wait *w)
{
	instance_unwait(&w->waiter);
	timer_stop(&w->timer);
	object_unref(w->object);
	free(w);
}

static bool wait_over(const struct api_wait *w, const struct instance *i)
{
	const char *health = json_str(json_get(w->object->status, "health"));

	if (!i || w->object->deleted)
		return true;
	switch (w->want) {
	case API_WAIT_CONDITION_RUNNING:
		return i->state == API_INSTANCE_STATE_RUNNING;
	case API_WAIT_CONDITION_HEALTHY:
		return health && streq(health, "healthy");
	case API_WAIT_CONDITION_REMOVED:
		return false;
	default:
		return !instance_runs(i) && i->state != API_INSTANCE_STATE_STARTING &&
		       i->state != API_INSTANCE_STATE_CREATING;
	}
}

static void wait_answer(struct api_wait *w)
{
	_cleanup_(api_exit_status_done) struct api_exit_status x = { 0 };
	const struct json *st = w->object->status;
	const char *message = json_str(json_get(st, "message"));
	struct api_call *c = w->api;

	api_exit_status_init(&x);
	x.exit_code = (uint64_t)json_int(json_get(st, "exit_code"), 0);
	x.oom_killed = json_bool(json_get(st, "oom_killed"), false);
	x.message = message ? strdup(message) : NULL;
	wait_free(w);
	api_object(c, 200, &api_exit_status_type, &x);
}

static void on_wait_state(struct instance_waiter *waiter, struct instance *i)
{
	struct api_wait *w = container_of(waiter, struct api_wait, waiter);

	if (i->gone || wait_over(w, i))
		wait_answer(w);
}

static void on_wait_timeout(struct timer *t)
{
	struct api_wait *w = t->data;
	struct api_call *c = w->api;
	struct err *e = NULL;

	err_set(&e, ETIMEDOUT, "instance.wait", "the time is over");
	wait_free(w);
	api_fail(c, -ETIMEDOUT, e);
}

static void wait_gone(struct httpd_req *r, void *data)
{
	struct api_wait *w = data;

	api_done(w->api);
	wait_free(w);
}

void route_instance_wait(struct api_call *c)
{
	const struct api_instance_wait_query *q = c->query;
	struct instance *i = api_instance(c);
	struct api_wait *w;

	if (!i)
		return;
	w = calloc(1, sizeof(*w));
	if (!w) {
		api_fail(c, -ENOMEM, NULL);
		return;
	}
	w->api = c;
	w->object = object_ref(i->object);
	w->want = q->for_;
	w->waiter.fn = on_wait_state;
	w->timer.data = w;
	if (wait_over(w, i)) {
		wait_answer(w);
		return;
	}
	instance_wait(i, &w->waiter);
	httpd_set_data(c->req, w, wait_gone);
	timer_start(c->node->loop, &w->timer, "instance wait", q->timeout, 0, on_wait_timeout);
}
