/* See shim_client.h. */
#define LOG_MODULE "shim"
#include "node/engine/shim_client.h"

#include <stdlib.h>
#include "base/log.h"
#include "base/str.h"

struct pending {
	struct list node;
	int64_t seq;
	shim_reply_fn *fn;
	void *arg;
};

struct shim {
	struct rpc_conn conn;
	struct loop *loop;
	struct shim_handlers h;
	struct list pending;
	struct timer fail; /* answers what could not be sent */
	int64_t seq;
	bool busy;   /* pending_fail() is on the stack */
	bool closed; /* meanwhile */
};

struct json *shim_request(const char *op)
{
	struct json *o = json_new_obj();

	json_set(o, "op", json_new_str(op));
	return o;
}

/* An error as the shim tells it. */
static int reply_error(const struct json *reply, struct err **e)
{
	const struct json *x = json_get(reply, "error");
	int num = (int)json_int(json_get(x, "errno"), EIO);
	const char *id = json_str(json_get(x, "id")), *text = json_str(json_get(x, "text"));

	return err_set(e, num > 0 ? num : EIO, id ? id : "shim.failed", "%s",
		       text ? text : "the container's monitor gave no reason");
}

/* False: s was closed by one of those who waited, and is gone. */
static bool pending_fail(struct shim *s, int r)
{
	s->busy = true;
	while (!s->closed && !list_empty(&s->pending)) {
		struct pending *p = list_entry(list_pop(&s->pending), struct pending, node);
		struct err *e = NULL;

		err_set(&e, -r, "shim.gone", "the container's monitor is gone");
		if (p->fn)
			p->fn(p->arg, NULL, NULL, r, e);
		else
			err_free(e);
		free(p);
	}
	s->busy = false;
	if (s->closed) {
		free(s);
		return false;
	}
	return true;
}

static void on_reply(struct shim *s, int64_t seq, const struct json *j, struct rpc_frame *f)
{
	struct pending *p;

	list_for_each_entry(p, &s->pending, node) {
		struct err *e = NULL;
		int r = 0;

		if (p->seq != seq)
			continue;
		list_del(&p->node);
		if (!json_bool(json_get(j, "ok"), false))
			r = reply_error(j, &e);
		if (p->fn)
			p->fn(p->arg, r == 0 ? j : NULL, f, r, e);
		else
			err_free(e);
		free(p);
		return;
	}
}

static void on_frame(struct rpc_conn *c, struct rpc_frame *f)
{
	struct shim *s = c->data;
	_cleanup_(json_freep) struct json *j = NULL;
	_cleanup_(err_freep) struct err *e = NULL;
	const char *event;

	if (json_parse(buf_str(&f->text), f->text.len, NULL, &j, &e) < 0) {
		log_err("a frame of a shim is damaged", "error", e);
		return;
	}
	event = json_str(json_get(j, "event"));
	if (event)
		s->h.on_event(s->h.arg, event, j);
	else
		on_reply(s, json_int(json_get(j, "seq"), -1), j, f);
}

static void on_closed(struct rpc_conn *c, int r)
{
	struct shim *s = c->data;

	rpc_conn_close(&s->conn);
	if (pending_fail(s, -ESRCH))
		s->h.on_closed(s->h.arg);
}

int shim_open(struct loop *l, int fd, const struct shim_handlers *h, struct shim **ret,
	      struct err **e)
{
	struct shim *s = calloc(1, sizeof(*s));
	int r;

	if (!s) {
		safe_close(fd);
		return err_sys(e, ENOMEM, "container's monitor");
	}
	s->loop = l;
	s->h = *h;
	s->conn.data = s;
	list_init(&s->pending);
	r = rpc_conn_open(&s->conn, l, fd, on_frame, on_closed);
	if (r < 0) {
		free(s);
		return err_sys(e, -r, "container's monitor");
	}
	*ret = s;
	return 0;
}

void shim_close(struct shim *s)
{
	if (!s)
		return;
	rpc_conn_close(&s->conn);
	timer_stop(&s->fail);
	while (!list_empty(&s->pending))
		free(list_entry(list_pop(&s->pending), struct pending, node));
	s->closed = true;
	if (!s->busy)
		free(s);
}

static void on_fail(struct timer *t)
{
	pending_fail(t->data, -ESRCH);
}

void shim_call(struct shim *s, struct json *request, const int *fds, unsigned int n_fds,
	       shim_reply_fn *fn, void *arg)
{
	struct pending *p = calloc(1, sizeof(*p));
	_cleanup_(freep) char *text = NULL;
	int r;

	if (!p) {
		json_free(request);
		return; /* nothing is left to say it with; the caller's time-out stands */
	}
	p->seq = ++s->seq;
	p->fn = fn;
	p->arg = arg;
	list_add_tail(&s->pending, &p->node);
	json_set(request, "seq", json_new_int(p->seq));
	text = json_text(request, JSON_COMPACT);
	json_free(request);
	r = text ? rpc_conn_send(&s->conn, text, strlen(text), fds, n_fds) : -ENOMEM;
	if (r < 0) {
		s->fail.data = s;
		timer_start(s->loop, &s->fail, "shim gone", 0, 0, on_fail);
	}
}
