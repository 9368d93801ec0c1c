/* Streams between a guest and descriptors; see guestlink.h. */
#define LOG_MODULE "guestlink"
#include "node/engine/guestlink.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include "base/log.h"
#include "guest/guest.h"

#define READ_SIZE 65536
/* More than all windows of some streams: only a guest that does not read lets it grow so far. */
#define OUT_MAX	  (16U << 20)

/* One end of a program's stream: a descriptor of ours whose other end the caller holds. */
struct pipe_end {
	int fd;
	struct watch watch;
	struct buf wait;   /* for the reader */
	size_t unreturned; /* written, not yet given back as credit */
	struct program *p;
};

struct program {
	struct list node;
	struct guestlink *link; /* NULL: ended */
	uint32_t id;
	struct engine_exec exec;
	struct engine_exec **ret;
	struct engine_call *call; /* until it started */
	struct pipe_end in, out,
		err; /* with a terminal `in` reads and writes, and out is its write side */
	size_t room; /* bytes that may be sent as its input */
	bool tty, eof, over, freed;
	int code;
	struct err *fault;
};

struct guestlink {
	struct loop *loop;
	int fd;
	struct watch watch;
	const struct guestlink_events *events;
	void *arg;
	char *config;
	struct buf in, out;
	struct list programs;
	uint32_t next_id;
	size_t room;		/* for the main process' input */
	bool input_over, *gone; /* gone: set when the link is closed inside one of its callbacks */
};

static int flush(struct guestlink *l)
{
	while (l->out.len) {
		ssize_t n = send(l->fd, l->out.s, l->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? watch_modify(&l->watch, EPOLLIN | EPOLLOUT)
					       : -errno;
		buf_consume(&l->out, (size_t)n);
	}
	return watch_modify(&l->watch, EPOLLIN);
}

/* Queues a frame.  A connection that fails is noticed by its watch. */
static int put(struct guestlink *l, uint32_t stream, enum guest_type type, const void *data,
	       size_t n)
{
	struct guest_header h = { htole32((uint32_t)n), htole32(stream), (uint8_t)type, { 0 } };
	int r;

	if (l->out.len + n > OUT_MAX)
		return -ENOBUFS;
	r = buf_add(&l->out, &h, sizeof(h));
	if (r == 0)
		r = buf_add(&l->out, data, n);
	return r < 0 ? r : flush(l);
}

static int put_u32(struct guestlink *l, uint32_t stream, enum guest_type type, uint32_t v)
{
	v = htole32(v);
	return put(l, stream, type, &v, sizeof(v));
}

static int put_size(struct guestlink *l, uint32_t stream, unsigned int rows, unsigned int columns)
{
	uint16_t v[2] = { htole16((uint16_t)MIN(rows, 65535U)),
			  htole16((uint16_t)MIN(columns, 65535U)) };

	return put(l, stream, GUEST_RESIZE, v, sizeof(v));
}

/* -- programs ------------------------------------------------------------------------------------- */

static void end_close(struct pipe_end *p)
{
	watch_remove(&p->watch);
	p->fd = safe_close(p->fd);
	buf_done(&p->wait);
}

static void program_free(struct program *p)
{
	list_del(&p->node);
	end_close(&p->in);
	end_close(&p->out);
	end_close(&p->err);
	err_free(p->fault);
	free(p);
}

/* Ended, and all its output has been taken: tell. */
static void program_settle(struct program *p)
{
	struct engine_call *c = p->call;

	/* Nobody reads what came before it started. */
	if (!p->over || (!c && (p->out.wait.len || p->err.wait.len)))
		return;
	end_close(&p->in);
	end_close(&p->out);
	end_close(&p->err);
	list_del(&p->node);
	p->link = NULL;
	if (c) { /* it never started */
		struct err *e = TAKE(p->fault);
		int r = -(err_num(e) ?: EPIPE);

		p->call = NULL;
		engine_stream_close(&p->exec.stream);
		program_free(p);
		engine_done(c, r, e);
		return;
	}
	if (p->exec.on_exit)
		p->exec.on_exit(&p->exec, p->code, TAKE(p->fault));
}

static void program_end(struct program *p, int code, struct err *fault)
{
	p->over = true;
	p->code = code;
	p->fault = fault;
	watch_remove(&p->in.watch);
	if (!p->tty)
		end_close(&p->in);
	program_settle(p);
}

static void end_flush(struct pipe_end *o)
{
	struct program *p = o->p;

	while (o->wait.len) {
		ssize_t n = o->fd < 0 ? (ssize_t)o->wait.len : write(o->fd, o->wait.s, o->wait.len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) { /* nobody reads: what comes is dropped, the program goes on */
			watch_remove(&o->watch);
			o->fd = safe_close(o->fd);
			continue;
		}
		buf_consume(&o->wait, (size_t)n);
		o->unreturned += (size_t)n;
	}
	if (o->unreturned && !p->over && p->link &&
	    (o->unreturned >= GUEST_WINDOW / 4 || o->wait.len == 0)) {
		put_u32(p->link, p->id, GUEST_CREDIT, (uint32_t)o->unreturned);
		o->unreturned = 0;
	}
	if (o->fd >= 0)
		watch_modify(&o->watch, o->wait.len ? EPOLLOUT : 0);
}

static void out_ready(struct watch *w, uint32_t events)
{
	struct pipe_end *o = w->data;

	if (events & (EPOLLERR | EPOLLHUP) && !o->wait.len) {
		watch_remove(w);
		o->fd = safe_close(o->fd);
	}
	end_flush(o);
	program_settle(o->p);
}

static void in_ready(struct watch *w, uint32_t events)
{
	struct program *p = ((struct pipe_end *)w->data)->p;
	char data[16384];
	ssize_t n = read(p->in.fd, data, MIN(sizeof(data), p->room));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		p->room -= (size_t)n;
		put(p->link, p->id, GUEST_STDIN, data, (size_t)n);
		if (!p->room)
			watch_modify(w, 0);
		return;
	}
	p->eof = true;
	watch_remove(w);
	put(p->link, p->id, GUEST_STDIN, NULL, 0);
	if (!p->tty)
		end_close(&p->in);
}

static struct program *program_find(struct guestlink *l, uint32_t id)
{
	struct program *p;

	list_for_each_entry(p, &l->programs, node)
		if (p->id == id && !p->over)
			return p;
	return NULL;
}

/* Our ends (ours) and the caller's of what a program has. */
static int make_ends(struct program *p, const struct engine_exec_spec *s, struct err **e)
{
	int fd[2];

	if (s->tty) {
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) < 0)
			return err_sys(e, errno, "make a stream");
		p->exec.stream.in = fd[1];
		p->in.fd = fd[0];
		p->out.fd = fcntl(fd[0], F_DUPFD_CLOEXEC, 3);
		if (p->out.fd < 0)
			return err_sys(e, errno, "make a stream");
	} else {
		struct {
			struct pipe_end *end;
			int *theirs;
			bool input;
		} all[] = { { &p->in, &p->exec.stream.in, true },
			    { &p->out, &p->exec.stream.out, false },
			    { &p->err, &p->exec.stream.err, false } };

		for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
			if (all[i].input && !s->stdin_open)
				continue;
			if (pipe2(fd, O_CLOEXEC) < 0)
				return err_sys(e, errno, "make a stream");
			all[i].end->fd = fd[!all[i].input];
			*all[i].theirs = fd[all[i].input];
		}
	}
	p->exec.stream.tty = s->tty;
	/* Ours do not block; a terminal's two share one description, the caller's is the other's. */
	for (struct pipe_end *const *o =
		     (struct pipe_end *const[]){ &p->in, &p->out, &p->err, NULL };
	     *o; o++) {
		if ((*o)->fd < 0)
			continue;
		fcntl((*o)->fd, F_SETFL, O_NONBLOCK | fcntl((*o)->fd, F_GETFL));
		(*o)->p = p;
		(*o)->watch.data = *o;
	}
	return 0;
}

static int watch_ends(struct program *p)
{
	struct loop *loop = p->link->loop;
	int r = p->in.fd >= 0 ? watch_fd(loop, &p->in.watch, "exec-in", p->in.fd, EPOLLIN, in_ready)
			      : 0;

	if (r == 0 && p->out.fd >= 0)
		r = watch_fd(loop, &p->out.watch, "exec-out", p->out.fd, 0, out_ready);
	if (r == 0 && p->err.fd >= 0)
		r = watch_fd(loop, &p->err.watch, "exec-err", p->err.fd, 0, out_ready);
	return r;
}

static int exec_request(struct program *p, const struct engine_exec_spec *s)
{
	_cleanup_(json_freep) struct json *o = json_new_obj();
	_cleanup_(buf_done) struct buf b = { 0 };
	int r = json_set(o, "args", json_new_strv(s->args));

	if (r == 0 && s->env)
		r = json_set(o, "env", json_new_strv(s->env));
	if (r == 0 && s->user)
		r = json_set(o, "user", json_new_str(s->user));
	if (r == 0 && s->cwd)
		r = json_set(o, "cwd", json_new_str(s->cwd));
	if (r == 0)
		r = json_set(o, "tty", json_new_bool(s->tty));
	if (r == 0 && s->rows && s->columns) {
		r = json_set(o, "rows", json_new_int(s->rows));
		if (r == 0)
			r = json_set(o, "cols", json_new_int(s->columns));
	}
	if (r == 0)
		r = json_print(o, JSON_COMPACT, &b);
	if (r == 0 && b.len > GUEST_FRAME_MAX)
		r = -E2BIG;
	if (r == 0)
		r = put(p->link, p->id, GUEST_EXEC, b.s, b.len);
	if (r == 0 && !s->tty && !s->stdin_open)
		r = put(p->link, p->id, GUEST_STDIN, NULL, 0);
	return r;
}

void guestlink_exec(struct guestlink *l, struct engine_instance *i,
		    const struct engine_exec_spec *s, struct engine_exec **ret,
		    struct engine_call *c)
{
	struct program *p = calloc(1, sizeof(*p));
	struct err *e = NULL;
	int r;

	if (!p) {
		engine_done(c, -ENOMEM, NULL);
		return;
	}
	p->link = l;
	p->tty = s->tty;
	p->room = GUEST_WINDOW;
	p->in.fd = p->out.fd = p->err.fd = -1;
	p->exec.instance = i;
	p->exec.priv = p;
	p->exec.stream = ENGINE_STREAM_NONE;
	p->ret = ret;
	do {
		if (++l->next_id == 0)
			l->next_id = 1;
	} while (program_find(l, l->next_id));
	p->id = l->next_id;
	list_add_tail(&l->programs, &p->node);
	r = make_ends(p, s, &e);
	if (r == 0) {
		r = exec_request(p, s);
		if (r < 0)
			err_sys(&e, -r, "start '%s' in the guest", s->args[0]);
	}
	if (r < 0) {
		engine_stream_close(&p->exec.stream);
		program_free(p);
		engine_done(c, r, e);
		return;
	}
	p->call = c;
}

int guestlink_exec_resize(struct engine_exec *x, unsigned int rows, unsigned int columns)
{
	struct program *p = x->priv;

	return p->link && !p->over ? put_size(p->link, p->id, rows, columns) : -ESRCH;
}

void guestlink_exec_free(struct engine_exec *x)
{
	struct program *p = x->priv;

	/* The guest's program loses its reader and its input; what it still says is dropped by id. */
	if (p->link && !p->over) {
		put_u32(p->link, p->id, GUEST_SIGNAL, SIGHUP);
		if (!p->eof)
			put(p->link, p->id, GUEST_STDIN, NULL, 0);
	}
	program_free(p);
}

/* -- frames from the guest ------------------------------------------------------------------------ */

static int protocol_error(const char *what, uint32_t stream)
{
	log_warn("a guest broke the protocol", "what", what, "stream", stream);
	return -EPROTO;
}

static int exit_code(const struct json *v)
{
	int64_t sig = json_int(json_get(v, "signal"), 0);

	return sig > 0 ? 128 + (int)MIN(sig, (int64_t)127)
		       : (int)CLAMP(json_int(json_get(v, "code"), 255), (int64_t)0, (int64_t)255);
}

static int main_frame(struct guestlink *l, enum guest_type type, const char *data, size_t n,
		      const struct json *v)
{
	switch (type) {
	case GUEST_STDOUT:
	case GUEST_STDERR:
		l->events->on_output(l->arg, type == GUEST_STDOUT ? 1 : 2, data, n);
		return 1; /* credit is due */
	case GUEST_STARTED:
		l->events->on_started(l->arg);
		return 0;
	case GUEST_EXITED:
		l->events->on_exited(l->arg, exit_code(v), NULL);
		return 0;
	case GUEST_ERROR: {
		const char *why = json_str(json_get(v, "message"));
		int64_t num = json_int(json_get(v, "errno"), 0);

		/* as a shell: 127 not found, 126 not to be run */
		l->events->on_exited(l->arg, num == ENOENT ? 127 : 126,
				     why ?: "it cannot be started");
		return 0;
	}
	default:
		return 0; /* later guests may say more */
	}
}

static int program_frame(struct guestlink *l, struct program *p, enum guest_type type,
			 const char *data, size_t n, const struct json *v)
{
	struct pipe_end *o = type == GUEST_STDERR && !p->tty ? &p->err : &p->out;
	struct engine_call *c = p->call;

	switch (type) {
	case GUEST_STDOUT:
	case GUEST_STDERR:
		if (o->wait.len + n > GUEST_WINDOW)
			return protocol_error("more than the window", p->id);
		if (buf_add(&o->wait, data, n) < 0)
			return -ENOMEM;
		if (!c)
			end_flush(o);
		return 0;
	case GUEST_STARTED: {
		int r;

		if (!c)
			return protocol_error("started twice", p->id);
		r = watch_ends(p);
		if (r < 0)
			return r;
		p->call = NULL;
		*p->ret = &p->exec;
		end_flush(&p->out);
		end_flush(&p->err);
		engine_done(c, 0, NULL);
		return 0;
	}
	case GUEST_EXITED:
		program_end(p, exit_code(v), NULL);
		return 0;
	case GUEST_ERROR: {
		const char *why = json_str(json_get(v, "message"));
		struct err *e = NULL;

		err_set(&e,
			(int)CLAMP(json_int(json_get(v, "errno"), EIO), (int64_t)1, (int64_t)4095),
			"engine.exec", "%s", why ?: "the guest refused");
		program_end(p, 126, e);
		return 0;
	}
	default:
		return 0;
	}
}

static int on_credit(struct guestlink *l, uint32_t stream, const char *data, size_t n)
{
	struct program *p;
	size_t *room = &l->room;
	uint32_t more;

	if (n != sizeof(more))
		return protocol_error("credit", stream);
	memcpy(&more, data, sizeof(more));
	more = le32toh(more);
	if (stream) {
		p = program_find(l, stream);
		if (!p)
			return 0;
		room = &p->room;
	}
	*room = MIN(*room + more, (size_t)GUEST_WINDOW);
	if (stream) {
		if (watch_active(&p->in.watch))
			watch_modify(&p->in.watch, EPOLLIN);
	} else if (!l->input_over) {
		l->events->on_input_room(l->arg);
	}
	return 0;
}

/* One frame.  1: the link is closed. */
static int take(struct guestlink *l, uint32_t stream, enum guest_type type, const char *data,
		size_t n)
{
	_cleanup_(json_freep) struct json *v = NULL;
	struct program *p;
	const bool *gone = l->gone;
	int r = 0;

	if (type == GUEST_CREDIT || type == GUEST_PONG)
		return type == GUEST_PONG ? 0 : on_credit(l, stream, data, n);
	if (type != GUEST_STDOUT && type != GUEST_STDERR && json_parse(data, n, NULL, &v, NULL) < 0)
		return protocol_error("JSON", stream);
	if (type == GUEST_HELLO) {
		const char *state = json_str(json_get(v, "state"));

		if (l->config && state && strcmp(state, "config") == 0)
			r = put(l, 0, GUEST_CONFIG, l->config, strlen(l->config));
		l->events->on_hello(l->arg, state ?: "");
	} else if (stream == 0) {
		r = main_frame(l, type, data, n, v);
		if (r == 1)
			r = *gone ? 0 : put_u32(l, 0, GUEST_CREDIT, (uint32_t)n);
	} else if ((p = program_find(l, stream))) {
		r = program_frame(l, p, type, data, n, v);
	} else if (type == GUEST_STDOUT || type == GUEST_STDERR) {
		r = put_u32(l, stream, GUEST_CREDIT, (uint32_t)n); /* of one that was let go */
	}
	return r;
}

static void readable(struct watch *w, uint32_t events)
{
	struct guestlink *l = w->data;
	bool gone = false;
	ssize_t n;
	int r = 0;

	if (events & EPOLLOUT)
		r = flush(l);
	if (r == 0)
		r = buf_reserve(&l->in, READ_SIZE);
	n = r < 0 ? 0 : read(l->fd, l->in.s + l->in.len, READ_SIZE);
	if (r == 0 && n < 0) {
		if (errno == EAGAIN || errno == EINTR)
			return;
		r = -errno;
	}
	l->gone = &gone;
	if (r == 0 && n > 0) {
		size_t at = 0;

		l->in.len += (size_t)n;
		while (r == 0 && l->in.len - at >= sizeof(struct guest_header)) {
			struct guest_header h;
			uint32_t len;

			memcpy(&h, l->in.s + at, sizeof(h));
			len = le32toh(h.len);
			if (len > GUEST_FRAME_MAX)
				r = protocol_error("length", le32toh(h.stream));
			if (r < 0 || l->in.len - at < sizeof(h) + len)
				break;
			r = take(l, le32toh(h.stream), (enum guest_type)h.type,
				 l->in.s + at + sizeof(h), len);
			if (gone)
				return;
			at += sizeof(h) + len;
		}
		buf_consume(&l->in, at);
	}
	l->gone = NULL;
	if (r < 0 || n == 0) {
		void (*closed)(void *, int) = l->events->on_closed;
		void *arg = l->arg;

		guestlink_close(l);
		closed(arg, r);
	}
}

/* -- the link ------------------------------------------------------------------------------------- */

int guestlink_open(struct loop *loop, int fd, const char *config,
		   const struct guestlink_events *events, void *arg, struct guestlink **ret,
		   struct err **e)
{
	struct guestlink *l = calloc(1, sizeof(*l));
	int r = l ? 0 : -ENOMEM;

	if (r == 0 && config && !(l->config = strdup(config)))
		r = -ENOMEM;
	if (r == 0) {
		fcntl(fd, F_SETFL, O_NONBLOCK | fcntl(fd, F_GETFL));
		l->loop = loop;
		l->events = events;
		l->arg = arg;
		l->room = GUEST_WINDOW;
		l->watch.data = l;
		list_init(&l->programs);
		r = watch_fd(loop, &l->watch, "guest", fd, EPOLLIN, readable);
	}
	if (r < 0) {
		safe_close(fd);
		if (l)
			free(l->config);
		free(l);
		return err_sys(e, -r, "open the link to the guest");
	}
	l->fd = fd;
	*ret = l;
	return 0;
}

void guestlink_close(struct guestlink *l)
{
	if (!l)
		return;
	if (l->gone)
		*l->gone = true;
	watch_remove(&l->watch);
	l->fd = safe_close(l->fd);
	while (!list_empty(&l->programs)) {
		struct program *p = list_entry(l->programs.next, struct program, node);
		struct err *e = NULL;

		/* What a slow reader has not taken yet is still there for it. */
		list_del(&p->node);
		p->link = NULL;
		if (p->over)
			continue;
		err_set(&e, EPIPE, "engine.gone", "the guest is gone");
		program_end(p, 255, e);
	}
	buf_done(&l->in);
	buf_done(&l->out);
	free(l->config);
	free(l);
}

size_t guestlink_input(struct guestlink *l, const void *data, size_t n)
{
	n = MIN(MIN(n, l->room), (size_t)GUEST_FRAME_MAX);
	if (!n || l->input_over || put(l, 0, GUEST_STDIN, data, n) < 0)
		return 0;
	l->room -= n;
	return n;
}

void guestlink_input_end(struct guestlink *l)
{
	if (!l->input_over)
		put(l, 0, GUEST_STDIN, NULL, 0);
	l->input_over = true;
}

int guestlink_resize(struct guestlink *l, unsigned int rows, unsigned int columns)
{
	return put_size(l, 0, rows, columns);
}

int guestlink_signal(struct guestlink *l, int signo)
{
	return put_u32(l, 0, GUEST_SIGNAL, (uint32_t)signo);
}
