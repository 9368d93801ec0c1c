/* QMP over a unix socket; see qmp.h. */
#include "node/engine/qmp.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include "base/list.h"

struct command {
	struct list node;
	struct buf text; /* not yet sent; then empty */
	int fd;
	qmp_reply_fn *reply;
	void *arg;
};

struct qmp {
	struct loop *loop;
	int fd;
	struct watch watch;
	const struct qmp_events *events;
	void *arg;
	struct buf in;
	struct list waiting, sent; /* commands; sent: their replies are due */
	bool greeted;
	bool *gone; /* set when closed inside a callback */
};

static void command_end(struct command *c, const struct json *ret, struct err *e)
{
	qmp_reply_fn *reply = c->reply;
	void *arg = c->arg;

	list_del(&c->node);
	buf_done(&c->text);
	safe_close(c->fd);
	free(c);
	if (reply)
		reply(arg, ret, e);
	else
		err_free(e);
}

/* -1: try again later. */
static ssize_t send_some(int fd, const struct buf *b, int pass)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { { 0 } };
	struct iovec iov = { b->s, b->len };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	if (pass >= 0) {
		struct cmsghdr *h;

		m.msg_control = control.buf;
		m.msg_controllen = sizeof(control.buf);
		h = CMSG_FIRSTHDR(&m);
		h->cmsg_level = SOL_SOCKET;
		h->cmsg_type = SCM_RIGHTS;
		h->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(h), &pass, sizeof(int));
	}
	do {
		n = sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	return n;
}

/* A connection that fails is noticed by its watch, which ends what waits. */
static void flush(struct qmp *q)
{
	while (q->greeted && !list_empty(&q->waiting)) {
		struct command *c = list_entry(q->waiting.next, struct command, node);
		ssize_t n = send_some(q->fd, &c->text, c->fd);

		if (n < 0) {
			watch_modify(&q->watch, EPOLLIN | EPOLLOUT);
			return;
		}
		c->fd = safe_close(c->fd); /* it went with the first byte */
		buf_consume(&c->text, (size_t)n);
		if (c->text.len)
			continue;
		list_del(&c->node);
		list_add_tail(&q->sent, &c->node);
	}
	watch_modify(&q->watch, EPOLLIN);
}

static int command_new(struct list *to, const char *name, const struct json *args, int fd,
		       qmp_reply_fn *reply, void *arg)
{
	struct command *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->fd = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 3);
	c->reply = reply;
	c->arg = arg;
	buf_addf(&c->text, "{\"execute\":\"%s\"", name);
	if (args) {
		buf_adds(&c->text, ",\"arguments\":");
		json_print(args, JSON_COMPACT, &c->text);
	}
	buf_adds(&c->text, "}\n");
	list_add_tail(to, &c->node);
	return buf_error(&c->text);
}

void qmp_send(struct qmp *q, const char *command, struct json *args, int fd, qmp_reply_fn *reply,
	      void *arg)
{
	int r = command_new(&q->waiting, command, args, fd, reply, arg);

	json_free(args);
	if (r < 0)
		shutdown(q->fd,
			 SHUT_RDWR); /* out of memory: the connection's end answers what waits */
	else
		flush(q);
}

static struct err *error_of(const struct json *v)
{
	struct err *e = NULL;

	err_set(&e, EIO, "engine.qemu", "QEMU: %s",
		json_str(json_get(json_get(v, "error"), "desc")) ?: "it failed without a word");
	return e;
}

/* One line.  -EPROTO: not QMP. */
static int take(struct qmp *q, const char *line, size_t n)
{
	static const struct json_limits limits = { QMP_LINE_MAX, 32, 1 << 18 };
	_cleanup_(json_freep) struct json *v = NULL;
	const char *event;

	if (json_parse(line, n, &limits, &v, NULL) < 0)
		return -EPROTO;
	event = json_str(json_get(v, "event"));
	if (event) {
		q->events->on_event(q->arg, event, json_get(v, "data"));
		return 0;
	}
	if (json_get(v, "QMP")) {
		struct list first;
		int r;

		if (q->greeted)
			return -EPROTO;
		list_init(&first);
		r = command_new(&first, "qmp_capabilities", NULL, -1, NULL, NULL);
		if (r < 0 && list_empty(&first))
			return r;
		list_splice_tail(&first, &q->waiting); /* it goes before all others */
		list_splice_tail(&q->waiting, &first);
		q->greeted = true;
		flush(q);
		return 0;
	}
	if (list_empty(&q->sent))
		return -EPROTO;
	command_end(list_entry(q->sent.next, struct command, node), json_get(v, "return"),
		    json_get(v, "error") ? error_of(v) : NULL);
	return 0;
}

static void readable(struct watch *w, uint32_t events)
{
	struct qmp *q = w->data;
	bool gone = false;
	ssize_t n;
	int r = 0;

	if (events & EPOLLOUT)
		flush(q);
	if (buf_reserve(&q->in, 65536) < 0)
		r = -ENOMEM;
	n = r < 0 ? 0 : read(q->fd, q->in.s + q->in.len, 65536);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0)
		r = -errno;
	q->gone = &gone;
	if (n > 0) {
		const char *end;
		size_t at = 0;

		q->in.len += (size_t)n;
		while (r == 0 && (end = memchr(q->in.s + at, '\n', q->in.len - at))) {
			size_t len = (size_t)(end - q->in.s) - at;

			if (len > 1)
				r = take(q, q->in.s + at, len);
			if (gone)
				return;
			at += len + 1;
		}
		buf_consume(&q->in, at);
		if (q->in.len > QMP_LINE_MAX)
			r = -EPROTO;
	}
	q->gone = NULL;
	if (n == 0 || r < 0) {
		void (*closed)(void *, int) = q->events->on_closed;
		void *arg = q->arg;

		qmp_close(q);
		closed(arg, r);
	}
}

int qmp_open(struct loop *loop, int fd, const struct qmp_events *events, void *arg,
	     struct qmp **ret, struct err **e)
{
	struct qmp *q = calloc(1, sizeof(*q));
	int r = q ? 0 : -ENOMEM;

	if (r == 0) {
		fcntl(fd, F_SETFL, O_NONBLOCK | fcntl(fd, F_GETFL));
		q->loop = loop;
		q->fd = fd;
		q->events = events;
		q->arg = arg;
		q->watch.data = q;
		list_init(&q->waiting);
		list_init(&q->sent);
		r = watch_fd(loop, &q->watch, "qmp", fd, EPOLLIN, readable);
	}
	if (r < 0) {
		safe_close(fd);
		free(q);
		return err_sys(e, -r, "open the QEMU monitor");
	}
	*ret = q;
	return 0;
}

void qmp_close(struct qmp *q)
{
	struct list left;

	if (!q)
		return;
	if (q->gone)
		*q->gone = true;
	watch_remove(&q->watch);
	safe_close(q->fd);
	list_init(&left);
	list_splice_tail(&left, &q->sent);
	list_splice_tail(&left, &q->waiting);
	buf_done(&q->in);
	free(q);
	while (!list_empty(&left)) {
		struct err *e = NULL;

		err_set(&e, EPIPE, "engine.gone", "QEMU is gone");
		command_end(list_entry(left.next, struct command, node), NULL, e);
	}
}
