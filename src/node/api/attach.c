/* An instance's input and output on a WebSocket: attach, console, the size of its terminal.
 *
 * Attach may come before the start: the connection waits, and the start connects it before the command's first instruction. */
#include "node/api/api.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "gen/instance.h"
#include "gen/rest.h"
#include "node/console/relay.h"
#include "node/instance/instance.h"
#include "node/instance/logs.h"

#define LOG_LINES 10000 /* of a log that an attach begins with */

struct attach {
	struct api_call *api; /* NULL: answered */
	struct relay *relay;  /* NULL: not yet, or over */
	struct instance *i;   /* NULL: gone */
	struct object *object;
	struct instance_attach want;
	struct instance_waiter waiter;
	struct engine_call call;
	struct engine_stream stream;
	unsigned int rows, columns;
	bool calling; /* the engine has our memory */
	bool readonly, raw, logs;
};

static void attach_free(struct attach *a)
{
	if (a->want.node.next && !a->calling) {
		list_del(&a->want.node);
		a->want.node = (struct list){ 0 };
	}
	instance_unwait(&a->waiter);
	if (a->calling)
		return; /* its end frees us */
	engine_stream_close(&a->stream);
	object_unref(a->object);
	free(a);
}

static int on_resize(void *arg, unsigned int rows, unsigned int columns)
{
	struct attach *a = arg;

	a->rows = rows;
	a->columns = columns;
	if (!a->i || !a->i->engine || !a->i->engine->ops->console_resize ||
	    (!instance_runs(a->i) && !a->i->starting))
		return 0;
	return a->i->engine->ops->console_resize(a->i->engine, rows, columns);
}

static void on_relay_gone(struct relay *r, void *arg)
{
	struct attach *a = arg;

	a->relay = NULL;
	attach_free(a);
}

static void on_state(struct instance_waiter *w, struct instance *i)
{
	struct attach *a = container_of(w, struct attach, waiter);
	const struct json *st = i->object->status;

	bool begins = i->state == API_INSTANCE_STATE_STARTING ||
		      i->state == API_INSTANCE_STATE_CREATING;

	if (i->gone) { /* the waiter stays until then: we point to the instance */
		instance_unwait(w);
		a->want.node = (struct list){ 0 };
		a->i = NULL;
	}
	if (!a->relay || (!i->gone && (instance_runs(i) || begins || a->want.node.next)))
		return;
	relay_exit(a->relay, (int)json_int(json_get(st, "exit_code"), i->gone ? 137 : 125),
		   json_str(json_get(st, "message")));
}

static void say_logs(struct attach *a)
{
	struct log_want w = { .out = true, .err = true, .has_tail = true, .tail = LOG_LINES };
	_cleanup_(closep) int fd = memfd_create("log", MFD_CLOEXEC);
	char path[4096], b[16384];
	uint64_t end;
	ssize_t n;

	instance_log_path(a->i->all->node, a->i->object->id, path, sizeof(path));
	if (fd < 0 || logs_collect(&w, path, fd, &end, NULL) < 0)
		return;
	lseek(fd, 0, SEEK_SET);
	while ((n = read(fd, b, sizeof(b))) > 0)
		relay_say(a->relay, 1, b, (size_t)n);
}

static int start_relay(struct attach *a, bool later)
{
	struct relay_cfg cfg = { .stream = a->stream,
				 .raw = a->raw,
				 .readonly = a->readonly,
				 .end_at_eof = a->raw,
				 .later = later,
				 .resize = on_resize,
				 .gone = on_relay_gone,
				 .arg = a };
	struct api_call *c = a->api;
	int r;

	a->api = NULL;
	a->stream = ENGINE_STREAM_NONE;
	httpd_set_data(c->req, NULL, NULL);
	r = relay_start(c, &cfg, &a->relay);
	if (r < 0)
		return r;
	if (a->logs)
		say_logs(a);
	a->waiter.fn = on_state;
	instance_wait(a->i, &a->waiter);
	return 0;
}

/* -- of what runs --------------------------------------------------------------------------------- */

static void on_connected(struct engine_call *call, int r, struct err *e)
{
	struct attach *a = container_of(call, struct attach, call);
	struct api_call *c = a->api;

	a->calling = false;
	if (!c) { /* the client left */
		err_free(e);
		attach_free(a);
	} else if (r < 0) {
		httpd_set_data(c->req, NULL, NULL);
		a->api = NULL;
		attach_free(a);
		api_fail(c, r, e);
	} else if (start_relay(a, false) < 0) {
		attach_free(a);
	}
}

static void client_gone(struct httpd_req *req, void *data)
{
	struct attach *a = data;

	api_done(a->api);
	a->api = NULL;
	attach_free(a);
}

/* -- of what is still to start -------------------------------------------------------------------- */

static void on_start(struct instance_attach *want, struct engine_stream *s, int r, struct err *e)
{
	struct attach *a = container_of(want, struct attach, want);

	a->calling = false;
	if (!a->relay) {
		if (s)
			engine_stream_close(s);
		err_free(e);
		attach_free(a);
		return;
	}
	if (r == 0)
		r = relay_connect(a->relay, s);
	if (r < 0)
		relay_exit(a->relay, 125, e ? err_msg(e) : NULL);
	else if (a->rows && a->i)
		on_resize(a, a->rows, a->columns);
	err_free(e);
}

static struct attach *attach_new(struct api_call *c, struct instance *i)
{
	struct attach *a = calloc(1, sizeof(*a));

	if (!a) {
		api_fail(c, -ENOMEM, NULL);
		return NULL;
	}
	a->api = c;
	a->i = i;
	a->object = object_ref(i->object);
	a->stream = ENGINE_STREAM_NONE;
	return a;
}

static void unsupported(struct api_call *c, const char *what)
{
	struct err *e = NULL;

	err_set(&e, ENOTSUP, "engine.unsupported", "this engine has no %s", what);
	api_fail(c, -ENOTSUP, e);
}

void route_instance_attach(struct api_call *c)
{
	const struct api_attach_query *q = c->query;
	struct instance *i = api_instance(c);
	struct attach *a = i ? attach_new(c, i) : NULL;

	if (!a)
		return;
	a->readonly = !q->stdin;
	a->logs = q->logs;
	if (instance_runs(i)) {
		if (!i->engine->ops->console) {
			a->api = NULL;
			attach_free(a);
			unsupported(c, "console");
			return;
		}
		a->calling = true;
		a->call.done = on_connected;
		httpd_set_data(c->req, a, client_gone);
		i->engine->ops->console(i->engine, &a->stream, &a->call);
		return;
	}
	if (start_relay(a, true) < 0) {
		attach_free(a);
		return;
	}
	a->want.fn = on_start;
	a->want.busy = &a->calling;
	list_add_tail(&i->attaches, &a->want.node);
}

void route_instance_console(struct api_call *c)
{
	const struct api_console_query *q = c->query;
	struct instance *i = api_instance(c);
	bool screen = q->kind == API_CONSOLE_KIND_VNC;
	struct err *e = NULL;
	struct attach *a;

	if (!i)
		return;
	if (!instance_runs(i)) {
		err_set(&e, EBUSY, "instance.state", "instance '%s' does not run", i->object->name);
		api_fail(c, -EBUSY, e);
		return;
	}
	if (screen ? !i->engine->ops->screen : !i->engine->ops->console) {
		unsupported(c, screen ? "screen" : "console");
		return;
	}
	a = attach_new(c, i);
	if (!a)
		return;
	a->readonly = q->readonly;
	a->raw = screen;
	a->calling = true;
	a->call.done = on_connected;
	httpd_set_data(c->req, a, client_gone);
	if (screen)
		i->engine->ops->screen(i->engine, &a->stream, &a->call);
	else
		i->engine->ops->console(i->engine, &a->stream, &a->call);
}

void route_instance_resize(struct api_call *c)
{
	const struct api_tty_size *rq = c->request;
	struct instance *i = api_instance(c);
	struct err *e = NULL;
	int r;

	if (!i)
		return;
	if (!instance_runs(i) || !i->engine->ops->console_resize) {
		err_set(&e, EBUSY, "instance.state", "instance '%s' has no terminal now",
			i->object->name);
		api_fail(c, -EBUSY, e);
		return;
	}
	r = i->engine->ops->console_resize(i->engine, (unsigned int)rq->rows,
					   (unsigned int)rq->columns);
	if (r < 0)
		api_fail(c, r, NULL);
	else
		api_empty(c);
}
