/* A process on a WebSocket; see relay.h. */
#define LOG_MODULE "relay"
#include "node/console/relay.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/log.h"
#include "ext/json.h"
#include "node/http/websocket.h"
#include "node/node.h"

#define PENDING_MAX (256U << 10)
/* After the end: others may hold the pipes open (a process in the background), their output is not waited for longer. */
#define LINGER	    NSEC_PER_SEC

struct source {
	struct relay *r;
	struct watch watch;
	int fd; /* -1: ended */
	unsigned int which;
};

struct relay {
	struct relay_cfg cfg;
	struct loop *loop;
	struct websocket *w; /* NULL: not open yet */
	struct source sources[2];
	struct watch in_watch;
	struct buf early; /* what relay_say() said before the client was there: byte, length, data */
	struct buf input;
	bool input_ends, exited, closing;
	int code;
	char *message;
	struct timer linger;
};

static void set_in_events(struct relay *r);

static bool blocked(const struct relay *r)
{
	return !r->w || websocket_queued(r->w) > PENDING_MAX;
}

static void close_source(struct source *s)
{
	watch_remove(&s->watch);
	s->fd = safe_close(s->fd);
}

static void close_input(struct relay *r)
{
	int fd = r->cfg.stream.in, type;
	socklen_t len = sizeof(type);

	watch_remove(&r->in_watch);
	buf_clear(&r->input);
	/* a socket may carry the output too: only its sending half ends */
	if (fd >= 0 && getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0)
		shutdown(fd, SHUT_WR);
	r->cfg.stream.in = safe_close(fd);
}

static void say_end(struct relay *r)
{
	_cleanup_(json_freep) struct json *j = json_new_obj();
	_cleanup_(freep) char *text = NULL;

	json_set(j, "exit_code", json_new_int(r->code));
	if (r->message)
		json_set(j, "message", json_new_str(r->message));
	text = json_text(j, JSON_COMPACT);
	if (text && !r->cfg.raw && r->exited)
		websocket_send(r->w, true, text, strlen(text));
	websocket_close(r->w, 1000);
}

static void end_if_done(struct relay *r)
{
	if (r->closing || !r->w || r->sources[0].fd >= 0 || r->sources[1].fd >= 0 ||
	    !(r->exited || (r->cfg.end_at_eof && !r->cfg.later)))
		return;
	r->closing = true;
	timer_stop(&r->linger);
	say_end(r);
}

/* ---- output ---- */

static int send_output(struct relay *r, unsigned int which, const uint8_t *data, size_t len)
{
	uint8_t frame[1 + 32 * 1024];

	if (r->cfg.raw)
		return websocket_send(r->w, false, data, len);
	while (len) {
		size_t n = MIN(len, sizeof(frame) - 1);
		int e;

		frame[0] = (uint8_t)which;
		memcpy(frame + 1, data, n);
		e = websocket_send(r->w, false, frame, n + 1);
		if (e < 0)
			return e;
		data += n;
		len -= n;
	}
	return 0;
}

static void set_source_events(struct relay *r)
{
	for (size_t i = 0; i < ARRAY_SIZE(r->sources); i++) {
		if (r->sources[i].fd >= 0 && watch_active(&r->sources[i].watch))
			watch_modify(&r->sources[i].watch, blocked(r) ? 0 : EPOLLIN);
	}
}

static void on_output(struct watch *watch, uint32_t events)
{
	struct source *s = watch->data;
	struct relay *r = s->r;
	uint8_t buf[32 * 1024];
	ssize_t n;

	if (blocked(r)) { /* a hang-up is told all the same: it waits for its turn */
		watch_remove(&s->watch);
		return;
	}
	n = read(s->fd, buf, sizeof(buf));
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		send_output(r, s->which, buf, (size_t)n);
		set_source_events(r);
		return;
	}
	close_source(s); /* a terminal whose other side is gone says EIO */
	end_if_done(r);
}

static int watch_source(struct source *s)
{
	return s->fd < 0 || watch_active(&s->watch)
		       ? 0
		       : watch_fd(s->r->loop, &s->watch, "relay output", s->fd, EPOLLIN, on_output);
}

static void on_drained(struct websocket *w, void *arg)
{
	struct relay *r = arg;

	for (size_t i = 0; i < ARRAY_SIZE(r->sources); i++) {
		if (watch_source(&r->sources[i]) < 0)
			close_source(&r->sources[i]);
	}
	set_source_events(r);
	end_if_done(r);
}

/* ---- input ---- */

static void on_input_room(struct watch *watch, uint32_t events)
{
	struct relay *r = watch->data;
	ssize_t n = write(r->cfg.stream.in, r->input.s, r->input.len);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0) { /* nobody reads any more */
		r->input_ends = true;
		close_input(r);
		return;
	}
	buf_consume(&r->input, (size_t)n);
	set_in_events(r);
}

static void set_in_events(struct relay *r)
{
	if (r->cfg.stream.in < 0) {
		if (r->w && r->cfg.later)
			websocket_pause(r->w, r->input.len > PENDING_MAX && !r->closing);
		return;
	}
	if (r->input.len == 0 && r->input_ends) {
		close_input(r);
		return;
	}
	if (r->input.len && !watch_active(&r->in_watch)) {
		if (watch_fd(r->loop, &r->in_watch, "relay input", r->cfg.stream.in, EPOLLOUT,
			     on_input_room) < 0)
			close_input(r);
	} else if (r->input.len == 0) {
		watch_remove(&r->in_watch);
	}
	if (r->w)
		websocket_pause(r->w, r->input.len > PENDING_MAX && !r->closing);
}

static void on_text(struct relay *r, const char *text, size_t len)
{
	_cleanup_(json_freep) struct json *j = NULL;
	int64_t rows, columns;

	if (r->cfg.raw || json_parse(text, len, NULL, &j, NULL) < 0)
		return;
	rows = json_int(json_get(j, "rows"), 0);
	columns = json_int(json_get(j, "columns"), 0);
	if (json_bool(json_get(j, "eof"), false) && !r->cfg.stream.tty && !r->cfg.readonly) {
		r->input_ends = true;
		set_in_events(r);
	}
	if (r->cfg.resize && rows > 0 && rows <= 10000 && columns > 0 && columns <= 10000)
		r->cfg.resize(r->cfg.arg, (unsigned int)rows, (unsigned int)columns);
}

static void on_message(struct websocket *w, bool text, const void *data, size_t len, void *arg)
{
	struct relay *r = arg;

	if (text) {
		on_text(r, data, len);
	} else if (!r->cfg.readonly && !r->input_ends && (r->cfg.stream.in >= 0 || r->cfg.later)) {
		if (buf_add(&r->input, data, len) < 0)
			log_warn("input of a client is lost: out of memory");
		set_in_events(r);
	}
}

/* ---- life ---- */

static void relay_free(struct relay *r)
{
	for (size_t i = 0; i < ARRAY_SIZE(r->sources); i++)
		close_source(&r->sources[i]);
	watch_remove(&r->in_watch);
	timer_stop(&r->linger);
	safe_close(r->cfg.stream.in);
	buf_done(&r->early);
	buf_done(&r->input);
	free(r->message);
	free(r);
}

static void on_gone(struct websocket *w, void *arg)
{
	struct relay *r = arg;

	r->w = NULL;
	r->closing = true;
	if (r->cfg.gone)
		r->cfg.gone(r, r->cfg.arg);
	relay_free(r);
}

static void on_open(struct websocket *w, void *arg)
{
	struct relay *r = arg;

	r->w = w;
	for (size_t at = 0; at < r->early.len;) {
		uint32_t head[2];

		memcpy(head, r->early.s + at, sizeof(head));
		at += sizeof(head);
		send_output(r, head[0], (uint8_t *)r->early.s + at, head[1]);
		at += head[1];
	}
	buf_done(&r->early);
	if (r->closing) /* stopped before it began */
		websocket_close(w, 1000);
	else
		on_drained(w, r);
}

static void set_nonblock(int fd)
{
	int flags = fd < 0 ? -1 : fcntl(fd, F_GETFL);

	if (flags >= 0)
		fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

static int take_stream(struct relay *r)
{
	struct engine_stream *s = &r->cfg.stream;

	r->sources[0] = (struct source){ .r = r, .fd = s->out, .which = 1 };
	r->sources[1] = (struct source){ .r = r, .fd = s->err, .which = 2 };
	if (s->out < 0 &&
	    s->in >= 0) { /* both directions on one: each its own descriptor, each its own watch */
		r->sources[0].fd = fcntl(s->in, F_DUPFD_CLOEXEC, 3);
		if (r->sources[0].fd < 0)
			return -errno;
	}
	s->out = s->err = -1;
	for (size_t i = 0; i < ARRAY_SIZE(r->sources); i++) {
		r->sources[i].watch.data = &r->sources[i];
		set_nonblock(r->sources[i].fd);
	}
	set_nonblock(s->in);
	r->in_watch.data = r->linger.data = r;
	return 0;
}

int relay_start(struct api_call *c, const struct relay_cfg *cfg, struct relay **ret)
{
	static const struct websocket_ops ops = {
		.open = on_open, .gone = on_gone, .message = on_message, .drained = on_drained
	};
	struct relay *r = calloc(1, sizeof(*r));
	int e;

	if (!r) {
		struct engine_stream s = cfg->stream;

		engine_stream_close(&s);
		api_fail(c, -ENOMEM, NULL);
		return -ENOMEM;
	}
	r->cfg = *cfg;
	r->loop = c->node->loop;
	if (cfg->later)
		r->cfg.stream = ENGINE_STREAM_NONE;
	e = take_stream(r);
	if (e < 0)
		api_fail(c, e, NULL);
	else
		e = websocket_accept(c, &ops, r);
	if (e < 0)
		relay_free(r);
	else if (ret)
		*ret = r;
	return e;
}

int relay_connect(struct relay *r, struct engine_stream *s)
{
	int e;

	r->cfg.stream = *s;
	*s = ENGINE_STREAM_NONE;
	r->cfg.later = false;
	e = take_stream(r);
	if (e < 0 || r->closing) {
		engine_stream_close(&r->cfg.stream);
		return e;
	}
	set_in_events(r);
	if (r->w)
		on_drained(r->w, r);
	return 0;
}

int relay_say(struct relay *r, unsigned int which, const void *data, size_t len)
{
	uint32_t head[2] = { which, (uint32_t)len };

	if (r->closing)
		return -EPIPE;
	if (r->w)
		return send_output(r, which, data, len);
	buf_add(&r->early, head, sizeof(head));
	return buf_add(&r->early, data, len);
}

static void on_linger(struct timer *t)
{
	struct relay *r = t->data;

	/* a slow client still gets what was written */
	if (blocked(r) && timer_start(r->loop, t, "relay linger", LINGER, 0, on_linger) == 0)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(r->sources); i++)
		close_source(&r->sources[i]);
	end_if_done(r);
}

void relay_exit(struct relay *r, int code, const char *message)
{
	if (r->exited || r->closing)
		return;
	r->exited = true;
	r->code = code;
	r->message = message ? strdup(message) : NULL;
	if (timer_start(r->loop, &r->linger, "relay linger", LINGER, 0, on_linger) < 0)
		on_linger(&r->linger);
	else
		end_if_done(r);
}

void relay_stop(struct relay *r)
{
	if (r->closing)
		return;
	r->closing = true;
	if (r->w)
		websocket_close(r->w, 1000);
}
