/* The event stream: one JSON object a line, until the client goes. */
#include "node/api/api.h"

#include <stdlib.h>
#include <string.h>
#include "base/str.h"

struct stream {
	struct node *node;
	struct httpd_stream *out;
	struct event_listener listener;
	char *project, *type; /* filters; NULL: all */
	uint64_t dropped;     /* the client did not read */
};

static void stream_free(struct stream *s)
{
	events_unlisten(&s->listener);
	free(s->project);
	free(s->type);
	free(s);
}

static void client_gone(struct httpd_stream *out, void *arg)
{
	stream_free(arg);
}

/* A prefix of dotted parts: "instance" takes "instance.created". */
static bool type_fits(const char *want, const char *type)
{
	size_t n = strlen(want);

	return strncmp(want, type, n) == 0 && (type[n] == '\0' || type[n] == '.');
}

static int send_lost(struct stream *s, uint64_t lost)
{
	char b[96];
	int n = snprintf(b, sizeof(b), "{\"type\":\"events.lost\",\"data\":{\"count\":%llu}}\n",
			 (unsigned long long)lost);

	return httpd_stream_write(s->out, b, (size_t)n);
}

static void send_event(struct stream *s, const struct event *ev)
{
	_cleanup_(buf_done) struct buf b = { 0 };

	if (s->type && !type_fits(s->type, ev->type))
		return;
	if (s->project && ev->project[0] && !streq(s->project, ev->project))
		return;
	if (s->dropped && send_lost(s, s->dropped) == 0)
		s->dropped = 0;
	buf_addf(&b, "%s\n", ev->text);
	if (buf_error(&b) || s->dropped || httpd_stream_write(s->out, b.s, b.len) < 0)
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

static void get_events(struct api_call *c)
{
	const char *since = httpd_query(c->req, "since"), *project = httpd_query(c->req, "project");
	const char *type = httpd_query(c->req, "type");
	uint64_t n = events_last(c->node->events), lost;
	struct stream *s;

	if (since && parse_u64(since, UINT64_MAX, &n) < 0) {
		struct err *e = NULL;

		err_set(&e, EINVAL, "query.since", "since: '%s' is not a number", since);
		api_fail(c, -EINVAL, e);
		return;
	}
	s = calloc(1, sizeof(*s));
	if (!s || (project && !(s->project = strdup(project))) ||
	    (type && !(s->type = strdup(type)))) {
		free(s);
		api_fail(c, -ENOMEM, NULL);
		return;
	}
	s->node = c->node;
	s->listener = (struct event_listener){ .fn = on_event, .data = s };
	list_init(&s->listener.node);
	if (httpd_reply_stream(c->req, 200, "application/x-ndjson", client_gone, s, &s->out) < 0) {
		stream_free(s);
		api_fail(c, -ENOMEM, NULL);
		return;
	}
	api_done(c);
	lost = events_replay(s->node->events, n, replay, s);
	if (lost)
		send_lost(s, lost);
	events_listen(s->node->events, &s->listener);
}

const struct route api_event_routes[] = {
	{ "GET", "/v1/events", ROLE_VIEWER, false, get_events },
	{ NULL },
};
