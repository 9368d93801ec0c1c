/* WebSockets of the API; see websocket.h.
 *
 * A client that does not answer our close frame is dropped after CLOSE_WAIT. */
#define LOG_MODULE "websocket"
#include "node/http/websocket.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/log.h"
#include "base/str.h"
#include "ext/ws.h"
#include "gen/errors.h"
#include "node/node.h"

#define CLOSE_WAIT (5 * NSEC_PER_SEC)

struct websocket {
	struct loop *loop;
	struct list *open_list; /* the node's */
	struct ws *ws;
	int fd;
	void *closer; /* httpd_upgrade_done() */
	struct buf early;
	struct watch watch;
	struct timer timer;
	const struct websocket_ops *ops;
	void *arg;
	bool paused, busy, over;
	struct list node; /* of those that are open */
};

static void finish(struct websocket *w)
{
	if (w->busy) { /* inside a callback of ws: its caller finishes */
		w->over = true;
		return;
	}
	watch_remove(&w->watch);
	timer_stop(&w->timer);
	list_del(&w->node);
	w->ops->gone(w, w->arg);
	ws_free(w->ws);
	httpd_upgrade_done(w->closer);
	buf_done(&w->early);
	free(w);
}

static void rearm(struct websocket *w)
{
	uint32_t events = (w->paused ? 0 : EPOLLIN) | (ws_wants_write(w->ws) ? EPOLLOUT : 0);

	if (watch_modify(&w->watch, events) < 0)
		log_warn("websocket is not watched");
}

static ssize_t on_read(void *arg, void *data, size_t len)
{
	struct websocket *w = arg;
	ssize_t n;

	if (w->early.len) {
		len = MIN(len, w->early.len);
		memcpy(data, w->early.s, len);
		buf_consume(&w->early, len);
		return (ssize_t)len;
	}
	if (w->paused) /* asked for while messages are being delivered */
		return -EAGAIN;
	n = recv(w->fd, data, len, MSG_DONTWAIT);
	return n < 0 ? (errno == EINTR || errno == EWOULDBLOCK ? -EAGAIN : -errno) : n;
}

static ssize_t on_write(void *arg, const void *data, size_t len)
{
	struct websocket *w = arg;
	ssize_t n = send(w->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);

	return n < 0 ? (errno == EINTR || errno == EWOULDBLOCK ? -EAGAIN : -errno) : n;
}

static void on_message(void *arg, bool text, const void *data, size_t len)
{
	struct websocket *w = arg;

	w->ops->message(w, text, data, len, w->arg);
}

/* Reads and writes as the socket allows; w may be freed. */
static void work(struct websocket *w, bool readable)
{
	bool waited = ws_queued(w->ws) > 0;
	int r = 0;

	w->busy = true;
	if (readable && !w->paused)
		r = ws_read(w->ws);
	if (ws_wants_write(w->ws))
		r = ws_write(w->ws);
	if (r == 0 && waited && ws_queued(w->ws) == 0 && w->ops->drained)
		w->ops->drained(w, w->arg);
	w->busy = false;
	if (r < 0 || w->over || ws_over(w->ws))
		finish(w);
	else
		rearm(w);
}

static void on_event(struct watch *watch, uint32_t events)
{
	work(watch->data, events & (EPOLLIN | EPOLLHUP | EPOLLERR));
}

static void on_late(struct timer *t)
{
	finish(t->data);
}

int websocket_send(struct websocket *w, bool text, const void *data, size_t len)
{
	int r = ws_send(w->ws, text, data, len);

	if (r == 0 && !w->busy)
		rearm(w);
	return r;
}

size_t websocket_queued(const struct websocket *w)
{
	return ws_queued(w->ws);
}

void websocket_pause(struct websocket *w, bool paused)
{
	w->paused = paused;
	if (!w->busy)
		rearm(w);
}

void websocket_close(struct websocket *w, unsigned int code)
{
	ws_close(w->ws, code);
	w->paused = false; /* the answer must be read */
	timer_start(w->loop, &w->timer, "websocket close", CLOSE_WAIT, 0, on_late);
	if (!w->busy)
		rearm(w);
}

void websocket_stop_all(struct node *n)
{
	struct websocket *w, *tmp;

	list_for_each_entry_safe(w, tmp, &n->websockets, node)
		finish(w);
}

/* ---- the beginning ---- */

static void on_upgraded(void *arg, int fd, const void *early, size_t early_len, void *closer)
{
	struct websocket *w = arg;
	struct ws_cfg cfg = { .read = on_read, .write = on_write, .message = on_message, .arg = w };

	w->fd = fd;
	w->closer = closer;
	w->watch.data = w->timer.data = w;
	list_add_tail(w->open_list, &w->node);
	if (ws_new(&cfg, &w->ws) < 0 || buf_add(&w->early, early, early_len) < 0 ||
	    watch_fd(w->loop, &w->watch, "websocket", fd, EPOLLIN, on_event) < 0) {
		log_err("a websocket is dropped: out of memory");
		finish(w);
		return;
	}
	w->busy = true;
	w->ops->open(w, w->arg);
	w->busy = false;
	work(w, w->early.len > 0);
}

static void never_came(struct httpd_req *r, void *data)
{
	struct websocket *w = data;

	w->ops->gone(NULL, w->arg);
	free(w);
}

static bool has_word(const char *list, const char *word)
{
	size_t n = strlen(word);

	for (const char *p = list ? list : ""; *p; p += strcspn(p, ","), p += *p == ',') {
		p += strspn(p, " \t");
		if (strncasecmp(p, word, n) == 0 && (!p[n] || strchr(", \t", p[n])))
			return true;
	}
	return false;
}

int websocket_accept(struct api_call *c, const struct websocket_ops *ops, void *arg)
{
	const char *key = httpd_header(c->req, "Sec-WebSocket-Key");
	const char *version = httpd_header(c->req, "Sec-WebSocket-Version");
	struct websocket *w;
	struct err *e = NULL;
	char accept[29];

	if (!has_word(httpd_header(c->req, "Upgrade"), "websocket") ||
	    !has_word(httpd_header(c->req, "Connection"), "upgrade") || !version ||
	    !streq(version, "13") || !key || ws_accept_key(key, accept) < 0) {
		httpd_add_header(c->req, "Upgrade", "websocket");
		httpd_add_header(c->req, "Sec-WebSocket-Version", "13");
		err_set(&e, EPROTO, ERR_REQUEST_UPGRADE, "%s speaks WebSocket (version 13) only",
			c->route->path);
		api_fail(c, -EPROTO, e);
		return -EPROTO;
	}
	w = calloc(1, sizeof(*w));
	if (!w || httpd_add_header(c->req, "Sec-WebSocket-Accept", accept) < 0) {
		free(w);
		api_fail(c, -ENOMEM, NULL);
		return -ENOMEM;
	}
	w->loop = c->node->loop;
	w->open_list = &c->node->websockets;
	list_init(&w->node);
	w->ops = ops;
	w->arg = arg;
	httpd_upgrade(c->req, "websocket", on_upgraded, w);
	httpd_set_data(c->req, w, never_came);
	api_done(c);
	return 0;
}
