/* Tasks over REST: list, look, wait, cancel. */
#include "node/api/api.h"

#include <stdlib.h>
#include <string.h>
#include "base/str.h"
#include "gen/errors.h"
#include "gen/rest.h"
#include "gen/task.h"
#include "node/auth.h"

static bool finished(const struct object *task)
{
	return json_get(task->status, "finished") != NULL;
}

/* ---- printing ----
 * In the inventory a task is an object like others, with spec and status; the API shows it flat. */

static int copy_str(char **ret, const struct json *v)
{
	const char *s = json_str(v);

	if (s && *s) {
		*ret = strdup(s);
		return *ret ? 0 : -ENOMEM;
	}
	return 0;
}

static bool copy_time(nsec_t *ret, const struct json *v)
{
	return json_str(v) && parse_time(json_str(v), ret) == 0;
}

static int set_object(struct node *n, const struct object *o, struct api_task *t)
{
	const char *id = json_str(json_get(o->spec, "target"));
	struct object *target = id ? inventory_get(n->inventory, id) : NULL;
	struct api_object_ref *ref;

	if (!id || !*id)
		return 0;
	ref = t->object = calloc(1, sizeof(*ref));
	if (!ref)
		return -ENOMEM;
	/* one that is gone: the action says what it was */
	ref->type = target ? strdup(target->type) : strndup(t->action, strcspn(t->action, "."));
	ref->id = strdup(id);
	if (target) {
		ref->name = strdup(target->name);
		ref->project = target->project[0] ? strdup(target->project) : NULL;
	}
	return ref->type && ref->id && (!target || ref->name) ? 0 : -ENOMEM;
}

static int set_status(const struct json *st, struct api_task *t)
{
	const char *state = json_str(json_get(st, "state"));
	const struct json *error = json_get(st, "error");
	int i = state ? gen_enum_find(&api_task_state_enum, state) : -1, r;

	t->state = i < 0 ? API_TASK_STATE_QUEUED : (enum api_task_state)i;
	t->has_started = copy_time(&t->started, json_get(st, "started"));
	t->has_finished = copy_time(&t->finished, json_get(st, "finished"));
	r = copy_str(&t->stage, json_get(st, "doing") ?: json_get(st, "step"));
	t->progress = calloc(1, sizeof(*t->progress));
	if (!t->progress)
		return -ENOMEM;
	api_task_progress_init(t->progress);
	t->progress->done = (uint64_t)json_int(json_get(st, "progress"), 0);
	t->progress->total = 100;
	t->progress->has_total = true;
	if (error && r == 0) {
		t->error = calloc(1, sizeof(*t->error));
		r = t->error ? copy_str(&t->error->id, json_get(error, "id")) : -ENOMEM;
		r = r == 0 ? copy_str(&t->error->message, json_get(error, "message")) : r;
	}
	t->result = json_ref((struct json *)json_get(st, "result"));
	return r;
}

static int print_task(struct node *n, struct object *o, struct buf *b)
{
	_cleanup_(api_task_done) struct api_task t = { 0 };
	int r = api_task_init(&t);

	t.id = strdup(o->id);
	t.has_created = true;
	t.created = o->created;
	if (o->project[0])
		t.project = strdup(o->project);
	r = r ?: copy_str(&t.action, json_get(o->spec, "verb"));
	r = r ?: copy_str(&t.user, json_get(o->spec, "actor"));
	r = r ?: set_object(n, o, &t);
	r = r ?: set_status(o->status, &t);
	t.cancellable = !finished(o) && task_can_cancel(n->tasks, o->id);
	if (r < 0 || !t.id || (o->project[0] && !t.project))
		return -ENOMEM;
	return api_task_print(&t, 0, b);
}

/* ---- waiting ---- */

/* A request that waits for a task to end. */
struct waiter {
	struct api_call *call;
	struct object *task;
	unsigned int status; /* of the answer */
	struct inventory_listener listener;
	struct timer timeout;
};

static void waiter_free(struct waiter *w)
{
	inventory_unlisten(&w->listener);
	timer_stop(&w->timeout);
	object_unref(w->task);
	free(w);
}

static void waiter_answer(struct waiter *w)
{
	_cleanup_(object_unrefp) struct object *task = object_ref(w->task);
	unsigned int status = w->status;
	struct api_call *c = w->call;

	waiter_free(w);
	api_show(c, status, task, print_task);
}

static void on_change(struct inventory_listener *l, enum inventory_event ev, struct object *o)
{
	struct waiter *w = l->data;

	if (o == w->task && (ev == OBJECT_DELETED || finished(o)))
		waiter_answer(w);
}

static void on_timeout(struct timer *t)
{
	waiter_answer(t->data);
}

static void client_gone(struct httpd_req *r, void *data)
{
	struct waiter *w = data;

	api_done(w->call);
	waiter_free(w);
}

static void answer_after(struct api_call *c, struct object *task, nsec_t wait, unsigned int status)
{
	struct waiter *w;

	if (wait == 0 || finished(task)) {
		api_show(c, status, task, print_task);
		return;
	}
	w = calloc(1, sizeof(*w));
	if (!w) {
		api_fail(c, -ENOMEM, NULL);
		return;
	}
	w->call = c;
	w->task = object_ref(task);
	w->status = status;
	w->listener = (struct inventory_listener){ .fn = on_change, .data = w };
	w->timeout.data = w;
	inventory_listen(c->node->inventory, &w->listener);
	httpd_set_data(c->req, w, client_gone);
	if (timer_start(c->node->loop, &w->timeout, "task wait", wait, 0, on_timeout) < 0)
		waiter_answer(w);
}

void api_accepted(struct api_call *c, struct object *task)
{
	const nsec_t *wait = api_query_field(c, "wait");
	char location[64];

	snprintf(location, sizeof(location), "/v1/tasks/%s", task->id);
	httpd_add_header(c->req, "Location", location);
	answer_after(c, task, wait ? *wait : 0, (unsigned int)c->route->status);
}

/* ---- routes ---- */

void route_task_wait(struct api_call *c)
{
	const struct api_wait_query *q = c->query;
	struct object *o = api_target(c, "task");

	if (o)
		answer_after(c, o, q->timeout, 200);
}

void route_task_get(struct api_call *c)
{
	api_get(c, "task", print_task);
}

static bool wanted(const struct api_call *c, const struct object *o)
{
	const char *state = json_str(json_get(o->status, "state"));
	const struct api_task_list_query *q = c->query;

	if (!auth_may_see(c, o->project))
		return false;
	if (q->project && o->project[0] && !streq(q->project, o->project))
		return false;
	for (size_t i = 0; i < q->state.n; i++) {
		if (state && streq(state, api_task_state_str(q->state.v[i])))
			return true;
	}
	return q->state.n == 0;
}

void route_task_list(struct api_call *c)
{
	const struct api_task_list_query *q = c->query;
	struct inventory *inv = c->node->inventory;
	_cleanup_(buf_done) struct buf b = { 0 };
	const char *sep = "";
	uint64_t skip = 0;

	/* the newest: leave out the first ones */
	for (struct object *o = inventory_next(inv, "task", NULL); o;
	     o = inventory_next(inv, "task", o))
		skip += wanted(c, o);
	skip -= MIN(skip, q->limit);
	buf_adds(&b, "{\"items\":[");
	for (struct object *o = inventory_next(inv, "task", NULL); o;
	     o = inventory_next(inv, "task", o)) {
		if (!wanted(c, o) || (skip && skip--))
			continue;
		buf_adds(&b, sep);
		sep = ",";
		if (print_task(c->node, o, &b) < 0) {
			api_fail(c, -ENOMEM, NULL);
			return;
		}
	}
	buf_adds(&b, "]}");
	api_buf(c, 200, "application/json", &b);
}

void route_task_cancel(struct api_call *c)
{
	struct object *o = api_target(c, "task");
	struct err *e = NULL;
	int r;

	if (!o)
		return;
	object_ref(o); /* an end of the task may purge it */
	r = task_cancel(c->node->tasks, o->id, &e);
	if (r < 0)
		api_fail(c, r, e);
	else
		api_show(c, 200, o, print_task);
	object_unref(o);
}
