/* Events: what happened and, when asked, what happens: one JSON object a line. */
#include "node/api/api.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include "base/str.h"
#include "gen/rest.h"

struct stream {
	struct httpd_stream *out;
	struct event_listener listener;
	struct api_event_query *query; /* owned */
	struct json *projects;	       /* that the caller may see; owned; NULL: all */
	uint64_t skip;		       /* older ones than the newest `limit` */
	uint64_t dropped;	       /* the client did not read */
};

static void stream_free(struct stream *s)
{
	events_unlisten(&s->listener);
	api_event_query_free(s->query);
	json_free(s->projects);
	free(s);
}

static void client_gone(struct httpd_stream *out, void *arg)
{
	stream_free(arg);
}

static bool type_fits(const struct api_event_query *q, const char *type)
{
	for (size_t i = 0; i < q->type.n; i++) {
		if (fnmatch(q->type.v[i], type, 0) == 0)
			return true;
	}
	return q->type.n == 0;
}

static bool object_fits(const char *want, const struct event *ev)
{
	return ev->object_id && (streq(want, ev->object_id) || streq(want, ev->object_name));
}

/* Tokens and the like belong to no project, but are not for those who are confined to one. */
static bool may_see(const struct json *projects, const struct event *ev)
{
	for (size_t i = 0; i < json_len(projects); i++) {
		if (streq(json_str(json_at(projects, i)) ?: "", ev->project))
			return true;
	}
	return !projects;
}

static bool wanted(const struct stream *s, const struct event *ev)
{
	const struct api_event_query *q = s->query;

	if (!may_see(s->projects, ev))
		return false;
	if ((q->has_since && ev->time < q->since) || (q->has_until && ev->time > q->until))
		return false;
	if (q->project && ev->project[0] && !streq(q->project, ev->project))
		return false;
	return type_fits(q, ev->type) && (!q->object || object_fits(q->object, ev));
}

/* A gap in the sequence tells the client what it missed. */
static void send_event(struct stream *s, const struct event *ev)
{
	_cleanup_(buf_done) struct buf b = { 0 };

	if (!wanted(s, ev))
		return;
	if (s->skip) {
		s->skip--;
		return;
	}
	buf_addf(&b, "%s\n", ev->text);
	if (buf_error(&b) || httpd_stream_write(s->out, b.s, b.len) < 0)
		s->dropped++;
}

static void on_event(struct event_listener *l, const struct event *ev)
{
	send_event(l->data, ev);
}

static void replay(void *arg, const struct event *ev)
{
	send_event(arg, ev);
}

static void count(void *arg, const struct event *ev)
{
	struct stream *s = arg;

	s->skip += wanted(s, ev);
}

void route_event_list(struct api_call *c)
{
	struct stream *s = calloc(1, sizeof(*s));
	struct node *n = c->node;
	uint64_t after;

	if (!s) {
		api_fail(c, -ENOMEM, NULL);
		return;
	}
	s->query = TAKE(c->query);
	s->projects = TAKE(c->projects);
	after = s->query->has_after ? s->query->after : 0;
	s->listener = (struct event_listener){ .fn = on_event, .data = s };
	list_init(&s->listener.node);
	if (httpd_reply_stream(c->req, 200, "application/x-ndjson", client_gone, s, &s->out) < 0) {
		stream_free(s);
		api_fail(c, -ENOMEM, NULL);
		return;
	}
	api_done(c);
	events_replay(n->events, after, count, s);
	s->skip -= MIN(s->skip, s->query->limit);
	events_replay(n->events, after, replay, s);
	s->skip = 0;
	if (s->query->follow) {
		events_listen(n->events, &s->listener);
	} else {
		httpd_stream_end(s->out);
		stream_free(s);
	}
}
