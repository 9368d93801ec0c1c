/* Tasks over REST: list, look, wait, cancel. */
#include "node/api/api.h"

#include <stdlib.h>
#include "base/str.h"

/* A request that waits for its task to end. */
struct waiter {
	struct api_call *call;
	struct object *task;
	struct inventory_listener listener;
	struct timer timeout;
};

static bool finished(const struct object *task)
{
	return json_get(task->status, "finished") != NULL;
}

static void waiter_free(struct waiter *w)
{
	inventory_unlisten(&w->listener);
	timer_stop(&w->timeout);
	object_unref(w->task);
	free(w);
}

static void waiter_answer(struct waiter *w)
{
	struct api_call *c = w->call;
	_cleanup_(object_unrefp) struct object *task = object_ref(w->task);

	waiter_free(w);
	api_text(c, 200, object_text(task));
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

static void get_task(struct api_call *c)
{
	struct object *o = inventory_get(c->node->inventory, c->params[0]);
	nsec_t wait = api_wait(c);
	struct waiter *w;

	if (wait < 0)
		return;
	if (!o || !streq(o->type, "task")) {
		struct err *e = NULL;

		err_set(&e, ENOENT, "object.missing", "there is no task '%s'", c->params[0]);
		api_fail(c, -ENOENT, e);
		return;
	}
	if (wait == 0 || finished(o)) {
		api_text(c, 200, object_text(o));
		return;
	}
	w = calloc(1, sizeof(*w));
	if (!w) {
		api_fail(c, -ENOMEM, NULL);
		return;
	}
	w->call = c;
	w->task = object_ref(o);
	w->listener = (struct inventory_listener){ .fn = on_change, .data = w };
	w->timeout.data = w;
	inventory_listen(c->node->inventory, &w->listener);
	httpd_set_data(c->req, w, client_gone);
	if (timer_start(c->node->loop, &w->timeout, "task wait", wait, 0, on_timeout) < 0)
		waiter_answer(w);
}

static void list_tasks(struct api_call *c)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	const char *state = httpd_query(c->req, "state"), *target = httpd_query(c->req, "target");
	const char *sep = "";

	buf_adds(&b, "{\"items\":[");
	for (struct object *o = inventory_next(c->node->inventory, "task", NULL); o;
	     o = inventory_next(c->node->inventory, "task", o)) {
		const char *text = object_text(o);

		if (state && !streq(state, json_str(json_get(o->status, "state")) ?: ""))
			continue;
		if (target && !streq(target, json_str(json_get(o->spec, "target")) ?: ""))
			continue;
		buf_addf(&b, "%s\n%s", sep, text ? text : "null");
		sep = ",";
	}
	buf_adds(&b, "]}\n");
	api_buf(c, 200, "application/json", &b);
}

static void cancel_task(struct api_call *c)
{
	struct err *e = NULL;
	int r = task_cancel(c->node->tasks, c->params[0], &e);

	if (r < 0)
		api_fail(c, r, e);
	else
		api_empty(c);
}

const struct route api_task_routes[] = {
	{ "GET", "/v1/tasks", ROLE_VIEWER, false, list_tasks },
	{ "GET", "/v1/tasks/{id}", ROLE_VIEWER, false, get_task },
	{ "POST", "/v1/tasks/{id}/cancel", ROLE_OPERATOR, true, cancel_task },
	{ NULL },
};
