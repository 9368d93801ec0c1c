/* The host's arm: links (the console port, vsock connections) carry streams (processes, file copies).
 *
 * Nothing here blocks and nothing grows without bound: a link's output is limited by the credit that the host gave
 * its streams, a stream's input by the credit that we gave. */
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include "base/atomicfile.h"
#include "base/rand.h"
#include "base/str.h"
#include "guest/init.h"

struct link {
	struct agent *a;
	struct watch w;
	struct timer again; /* a port without a host is looked at now and then */
	int fd;
	bool port, connected;
	struct buf in, out;
	struct list node;
};

enum stream_kind { STREAM_PROC, STREAM_PUT, STREAM_GET };

struct stream {
	struct agent *a;
	struct link *link; /* NULL: the main process, its host away */
	uint32_t id;
	enum stream_kind kind;
	pid_t pid; /* 0: has ended */
	int status;
	bool started, tty, in_eof, main;
	uint64_t credit; /* bytes that we may send */
	struct proc_fds fds;
	struct watch w_in, w_out, w_err;
	struct buf in;
	char path[4096], temp[4128]; /* STREAM_PUT */
	struct list node;
};

struct agent {
	struct loop *loop;
	void (*on_config)(struct json *config);
	void (*on_power)(bool reboot, int timeout);
	bool want_config;
	struct watch listener;
	int listen_fd;
	struct timer find_port;
	struct list links, streams;
	struct stream *main;
	bool main_ended;
	int main_status;
	struct buf main_error; /* JSON of GUEST_ERROR, when it could not start */
};

static void link_update(struct link *l);
static void pump(struct stream *s);

/* ---- sending ---- */

static void send_frame(struct link *l, enum guest_type type, uint32_t stream, const void *data,
		       size_t len)
{
	struct guest_header h = { .len = htole32((uint32_t)len),
				  .stream = htole32(stream),
				  .type = (uint8_t)type };

	if (!l || !l->connected)
		return;
	if (buf_add(&l->out, &h, sizeof(h)) < 0 || buf_add(&l->out, data, len) < 0)
		say("out of memory: a frame is lost");
	link_update(l);
}

static void send_json(struct link *l, enum guest_type type, uint32_t stream, const char *fmt, ...)
	_printf_(4, 5);
static void send_json(struct link *l, enum guest_type type, uint32_t stream, const char *fmt, ...)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	va_list ap;

	va_start(ap, fmt);
	buf_addv(&b, fmt, ap);
	va_end(ap);
	send_frame(l, type, stream, buf_str(&b), b.len);
}

static void error_json(struct buf *b, const struct err *e)
{
	buf_addf(b, "{\"errno\":%d,\"message\":", err_num(e));
	buf_add_json(b, err_msg(e));
	buf_addc(b, '}');
}

static void send_error(struct link *l, uint32_t stream, const struct err *e)
{
	_cleanup_(buf_done) struct buf b = { 0 };

	error_json(&b, e);
	send_frame(l, GUEST_ERROR, stream, buf_str(&b), b.len);
}

static void send_exited(struct link *l, uint32_t stream, int status)
{
	if (WIFSIGNALED(status))
		send_json(l, GUEST_EXITED, stream, "{\"signal\":%d}", WTERMSIG(status));
	else
		send_json(l, GUEST_EXITED, stream, "{\"code\":%d}", WEXITSTATUS(status));
}

/* ---- streams ---- */

static struct stream *stream_find(struct link *l, uint32_t id)
{
	struct stream *s;

	list_for_each_entry(s, &l->a->streams, node) {
		if (s->id == id && (s->link == l || s->main))
			return s;
	}
	return NULL;
}

static void stream_close_in(struct stream *s)
{
	watch_remove(&s->w_in);
	s->fds.in = safe_close(s->fds.in);
}

static void stream_free(struct stream *s)
{
	stream_close_in(s);
	watch_remove(&s->w_out);
	watch_remove(&s->w_err);
	safe_close(s->fds.out);
	safe_close(s->fds.err);
	if (s->temp[0])
		unlink(s->temp);
	buf_done(&s->in);
	list_del(&s->node);
	if (s->a->main == s)
		s->a->main = NULL;
	free(s);
}

static struct stream *stream_new(struct agent *a, struct link *l, uint32_t id,
				 enum stream_kind kind)
{
	struct stream *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->a = a;
	s->link = l;
	s->id = id;
	s->kind = kind;
	s->credit = GUEST_WINDOW;
	s->fds = (struct proc_fds){ -1, -1, -1 };
	list_add_tail(&a->streams, &s->node);
	return s;
}

/* One source of output: 0: nothing now, -1: it has ended, 1: wait for credit. */
static int pump_fd(struct stream *s, int *fd, struct watch *w, enum guest_type type)
{
	char data[32768];
	ssize_t n;

	while (*fd >= 0) {
		if (s->credit == 0)
			return 1;
		n = read(*fd, data, MIN(sizeof(data), s->credit));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n <= 0) { /* a terminal without a process says EIO */
			watch_remove(w);
			*fd = safe_close(*fd);
			return -1;
		}
		if (s->link && s->link->connected)
			s->credit -= (uint64_t)n; /* nobody there: it is lost, as on a console */
		send_frame(s->link, type, s->id, data, (size_t)n);
	}
	return -1;
}

static void on_output(struct watch *w, uint32_t events)
{
	pump(w->data);
}

static void watch_output(struct stream *s, int fd, struct watch *w, bool on)
{
	if (fd < 0)
		return;
	if (!on) {
		watch_remove(w);
	} else if (!watch_active(w)) {
		w->data = s;
		watch_fd(s->a->loop, w, "output", fd, EPOLLIN, on_output);
	}
}

static void stream_end(struct stream *s)
{
	send_exited(s->link, s->id, s->status);
	if (s->main) {
		s->a->main_ended = true;
		s->a->main_status = s->status;
	}
	stream_free(s);
}

/* Move output; end the stream when the process has ended and all it wrote is out. */
static void pump(struct stream *s)
{
	int out = pump_fd(s, &s->fds.out, &s->w_out, GUEST_STDOUT);
	int err = pump_fd(s, &s->fds.err, &s->w_err, GUEST_STDERR);

	if (s->kind == STREAM_GET) {
		if (out < 0)
			stream_end(s);
		return; /* a file is always readable: credit drives it */
	}
	watch_output(s, s->fds.out, &s->w_out, out == 0);
	watch_output(s, s->fds.err, &s->w_err, err == 0);
	if (s->started && s->pid == 0 && out != 1 && err != 1)
		stream_end(s);
}

static void put_done(struct stream *s)
{
	_cleanup_(err_freep) struct err *e = NULL;

	if (fsync(s->fds.in) < 0 || rename(s->temp, s->path) < 0) {
		err_sys(&e, errno, "write '%s'", s->path);
		send_error(s->link, s->id, e);
	} else {
		s->temp[0] = '\0';
		send_exited(s->link, s->id, 0);
	}
	stream_free(s);
}

static void feed(struct stream *s);

static void on_input(struct watch *w, uint32_t events)
{
	feed(w->data);
}

/* Move input towards the process or file. */
static void feed(struct stream *s)
{
	size_t done = 0;

	while (s->in.len > done && s->fds.in >= 0) {
		ssize_t n = write(s->fds.in, s->in.s + done, s->in.len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0 && s->kind == STREAM_PUT) {
			_cleanup_(err_freep) struct err *e = NULL;

			err_sys(&e, errno, "write '%s'", s->path);
			send_error(s->link, s->id, e);
			stream_free(s);
			return;
		}
		if (n < 0) { /* it reads no more: swallow the rest */
			done = s->in.len;
			stream_close_in(s);
			break;
		}
		done += (size_t)n;
	}
	if (done) {
		uint32_t credit = htole32((uint32_t)done);

		buf_consume(&s->in, done);
		send_frame(s->link, GUEST_CREDIT, s->id, &credit, sizeof(credit));
	}
	if (s->in.len && s->fds.in >= 0) {
		if (!watch_active(&s->w_in)) {
			s->w_in.data = s;
			watch_fd(s->a->loop, &s->w_in, "input", s->fds.in, EPOLLOUT, on_input);
		}
		return;
	}
	watch_remove(&s->w_in);
	if (!s->in_eof || s->fds.in < 0)
		return;
	if (s->kind == STREAM_PUT)
		put_done(s);
	else
		stream_close_in(s);
}

/* A process runs: its pipes become the stream's. */
static void stream_runs(struct stream *s, pid_t pid, bool attach)
{
	s->pid = pid;
	s->started = true;
	for (int i = 0; attach && i < 3; i++) {
		int fd = i == 0 ? s->fds.in : i == 1 ? s->fds.out : s->fds.err;

		if (fd >= 0)
			fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	}
	send_json(s->link, GUEST_STARTED, s->id, "{\"pid\":%d}", (int)pid);
}

static int stream_start(struct stream *s, const struct proc_spec *spec, bool attach, struct err **e)
{
	pid_t pid = proc_start(spec, attach ? &s->fds : NULL, e);

	if (pid < 0)
		return pid;
	s->tty = spec->tty;
	stream_runs(s, pid, attach);
	return 0;
}

/* ---- what the host asks for ---- */

static int do_exec(struct link *l, uint32_t id, const struct json_in *v, struct err **e)
{
	struct proc_spec spec;
	struct stream *s;
	int r = proc_spec_read(v, &spec, e);

	if (r < 0)
		return r;
	s = stream_new(l->a, l, id, STREAM_PROC);
	r = s ? stream_start(s, &spec, true, e) : err_sys(e, ENOMEM, "exec");
	proc_spec_done(&spec);
	if (r < 0 && s)
		stream_free(s);
	else if (s)
		pump(s);
	return r;
}

/* A folder as a tar stream: "archive" of PUT and GET.  1: done so; 0: not asked for. */
static int do_archive(struct link *l, uint32_t id, const struct json_in *v, int (*fn)(void *arg),
		      struct err **e)
{
	const char *path = NULL;
	bool archive = false;
	struct stream *s;
	char name[4096];
	pid_t pid;
	int r = json_opt_bool(v, "archive", &archive, e);

	if (r < 0 || !archive)
		return r < 0 ? r : 0;
	r = json_need_str(v, "path", &path, e);
	if (r < 0)
		return r;
	if (*path != '/' || snprintf(name, sizeof(name), "%s", path) >= (int)sizeof(name))
		return err_set(e, EINVAL, "guest.path", "'%.100s' is no absolute path", path);
	s = stream_new(l->a, l, id, STREAM_PROC);
	if (!s)
		return err_sys(e, ENOMEM, "copy");
	pid = proc_fork(fn, name, &s->fds, e);
	if (pid < 0) {
		stream_free(s);
		return pid;
	}
	stream_runs(s, pid, true);
	pump(s);
	return 1;
}

static int do_put(struct link *l, uint32_t id, const struct json_in *v, struct err **e)
{
	int64_t mode = 0644, uid = 0, gid = 0;
	const char *path = NULL;
	struct stream *s;
	int r = do_archive(l, id, v, copy_in, e);

	if (r != 0)
		return MIN(r, 0);
	r = json_need_str(v, "path", &path, e);

	if (r == 0)
		r = json_opt_int(v, "mode", 0, 07777, &mode, e);
	if (r >= 0)
		r = json_opt_int(v, "uid", 0, UINT32_MAX - 1, &uid, e);
	if (r >= 0)
		r = json_opt_int(v, "gid", 0, UINT32_MAX - 1, &gid, e);
	if (r < 0)
		return r;
	s = stream_new(l->a, l, id, STREAM_PUT);
	if (!s)
		return err_sys(e, ENOMEM, "copy");
	if (*path != '/' ||
	    snprintf(s->path, sizeof(s->path), "%s", path) >= (int)sizeof(s->path)) {
		stream_free(s);
		return err_set(e, EINVAL, "guest.path", "'%.100s' is no absolute path", path);
	}
	snprintf(s->temp, sizeof(s->temp), "%s.%016llx", path, (unsigned long long)rand_u64());
	s->fds.in = open(s->temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (s->fds.in < 0 || fchown(s->fds.in, (uid_t)uid, (gid_t)gid) < 0 ||
	    fchmod(s->fds.in, (mode_t)mode) < 0) {
		r = err_sys(e, errno, "create '%s'", path);
		if (s->fds.in < 0)
			s->temp[0] = '\0';
		stream_free(s);
		return r;
	}
	return 0;
}

static int do_get(struct link *l, uint32_t id, const struct json_in *v, struct err **e)
{
	const char *path = NULL;
	struct stream *s;
	struct stat st;
	int fd, r = do_archive(l, id, v, copy_out, e);

	if (r != 0)
		return MIN(r, 0);
	r = json_need_str(v, "path", &path, e);
	if (r < 0)
		return r;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		return err_sys(e, errno, "open '%s'", path);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		return err_set(e, EINVAL, "guest.path", "'%s' is no regular file", path);
	}
	s = stream_new(l->a, l, id, STREAM_GET);
	if (!s) {
		close(fd);
		return err_sys(e, ENOMEM, "copy");
	}
	s->fds.out = fd;
	pump(s);
	return 0;
}

static int do_power(struct link *l, const struct json_in *v, struct err **e)
{
	const char *action = NULL;
	int64_t timeout = 10;
	int r = json_need_str(v, "action", &action, e);

	if (r == 0)
		r = json_opt_int(v, "timeout", 0, 3600, &timeout, e);
	if (r < 0)
		return r;
	if (!streq(action, "poweroff") && !streq(action, "reboot"))
		return err_set(e, EINVAL, "guest.power", "'%s' is neither poweroff nor reboot",
			       action);
	l->a->on_power(streq(action, "reboot"), (int)timeout);
	return 0;
}

static int do_json(struct link *l, uint8_t type, uint32_t id, const char *data, size_t len,
		   struct err **e)
{
	_cleanup_(json_freep) struct json *v = NULL;
	struct json_in in;
	int r = json_parse(data, len, NULL, &v, e);

	if (r < 0)
		return r;
	in = json_in(v, type == GUEST_CONFIG ? "config" : "request");
	if (type == GUEST_POWER)
		return do_power(l, &in, e);
	if (type == GUEST_CONFIG) {
		if (!l->a->want_config)
			return err_set(e, EALREADY, "guest.config",
				       "the guest has its config already");
		l->a->want_config = false;
		l->a->on_config(TAKE(v));
		return 0;
	}
	if (id == 0 || stream_find(l, id))
		return err_set(e, EEXIST, "guest.stream", "stream %u is in use", id);
	return type == GUEST_EXEC  ? do_exec(l, id, &in, e)
	       : type == GUEST_PUT ? do_put(l, id, &in, e)
				   : do_get(l, id, &in, e);
}

static void do_stream(struct stream *s, uint8_t type, const char *data, size_t len)
{
	uint32_t number = 0;

	memcpy(&number, data, MIN(len, sizeof(number)));
	number = le32toh(number);
	if (type == GUEST_STDIN) {
		if (len == 0 && s->tty)
			buf_addc(&s->in, 4); /* ^D: what ends input on a terminal */
		else if (len == 0)
			s->in_eof = true;
		else if (s->in.len + len <= GUEST_WINDOW)
			buf_add(&s->in, data, len);
		feed(s);
	} else if (type == GUEST_CREDIT && len == 4) {
		s->credit = MIN(s->credit + number, (uint64_t)GUEST_WINDOW);
		pump(s);
	} else if (type == GUEST_SIGNAL && len == 4 && s->pid > 0 && number > 0 && number < 65) {
		kill(s->pid, (int)number);
	} else if (type == GUEST_RESIZE && len == 4 && s->tty) {
		struct winsize ws = { .ws_row = (unsigned short)(number & 0xffff),
				      .ws_col = (unsigned short)(number >> 16) };

		ioctl(s->fds.in, TIOCSWINSZ, &ws);
	}
}

static void on_frame(struct link *l, const struct guest_header *h, const char *data, size_t len)
{
	_cleanup_(err_freep) struct err *e = NULL;
	uint32_t id = le32toh(h->stream);
	struct stream *s;

	switch (h->type) {
	case GUEST_PING:
		send_frame(l, GUEST_PONG, id, data, len);
		return;
	case GUEST_CONFIG:
	case GUEST_EXEC:
	case GUEST_PUT:
	case GUEST_GET:
	case GUEST_POWER:
		if (do_json(l, h->type, id, data, len, &e) < 0)
			send_error(l, id, e);
		return;
	default:
		s = stream_find(l, id);
		if (s) /* a frame for a stream that has just ended is no fault */
			do_stream(s, h->type, data, len);
		return;
	}
}

/* ---- links ---- */

static void link_hello(struct link *l)
{
	struct agent *a = l->a;
	struct utsname un;

	uname(&un);
	send_json(
		l, GUEST_HELLO, 0,
		"{\"version\":%d,\"kernel\":\"%s\",\"features\":[\"exec\",\"tty\",\"copy\",\"archive\",\"signal\"],"
		"\"state\":\"%s\"}",
		GUEST_PROTOCOL, un.release,
		a->want_config	? "config"
		: a->main_ended ? "ended"
				: "running");
	if (a->main && a->main->started) {
		if (!a->main->link)
			a->main->link = l;
		a->main->credit = GUEST_WINDOW;
		send_json(l, GUEST_STARTED, 0, "{\"pid\":%d}", (int)a->main->pid);
	} else if (a->main_error.len) {
		send_frame(l, GUEST_ERROR, 0, a->main_error.s, a->main_error.len);
	} else if (a->main_ended) {
		send_exited(l, 0, a->main_status);
	}
}

/* The other side went away: what it ran ends as if its terminal was closed; the main process stays. */
static void link_lost(struct link *l)
{
	struct stream *s, *tmp;

	if (!l->connected)
		return;
	l->connected = false;
	buf_clear(&l->in);
	buf_clear(&l->out);
	list_for_each_entry_safe(s, tmp, &l->a->streams, node) {
		if (s->link != l)
			continue;
		s->link = NULL;
		if (s->main) {
			s->credit = GUEST_WINDOW;
			pump(s);
		} else {
			if (s->pid > 0)
				kill(-s->pid, SIGHUP);
			stream_free(s);
		}
	}
}

static void link_free(struct link *l)
{
	link_lost(l);
	watch_remove(&l->w);
	timer_stop(&l->again);
	close(l->fd);
	buf_done(&l->in);
	buf_done(&l->out);
	list_del(&l->node);
	free(l);
}

static void on_link(struct watch *w, uint32_t events);

static void on_again(struct timer *t)
{
	struct link *l = t->data;
	struct pollfd p = { .fd = l->fd, .events = POLLIN | POLLOUT };

	if (poll(&p, 1, 0) >= 0 && (p.revents & POLLHUP))
		return;
	timer_stop(t);
	l->connected = true;
	watch_fd(l->a->loop, &l->w, "port", l->fd, EPOLLIN, on_link);
	link_hello(l);
}

static void link_gone(struct link *l)
{
	if (!l->port) {
		link_free(l);
		return;
	}
	link_lost(l);
	watch_remove(&l->w);
	l->again.data = l;
	timer_start(l->a->loop, &l->again, "port", 50 * NSEC_PER_MSEC, 50 * NSEC_PER_MSEC,
		    on_again);
}

/* Write what can be written; false: it is gone. */
static bool link_flush(struct link *l)
{
	size_t done = 0;

	while (done < l->out.len) {
		ssize_t n = write(l->fd, l->out.s + done, MIN(l->out.len - done, (size_t)32768));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n <= 0)
			return false;
		done += (size_t)n;
	}
	buf_consume(&l->out, done);
	return true;
}

static void link_update(struct link *l)
{
	if (watch_active(&l->w))
		watch_modify(&l->w, EPOLLIN | (l->out.len ? EPOLLOUT : 0u));
}

static bool link_read(struct link *l)
{
	for (;;) {
		ssize_t n;

		if (buf_reserve(&l->in, 65536) < 0)
			return false;
		n = read(l->fd, l->in.s + l->in.len, 65536);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return true;
		if (n <= 0)
			return false;
		l->in.len += (size_t)n;
		for (;;) {
			struct guest_header h;
			size_t len;

			if (l->in.len < sizeof(h))
				break;
			memcpy(&h, l->in.s, sizeof(h));
			len = le32toh(h.len);
			if (len > GUEST_FRAME_MAX) {
				say("a frame of %zu bytes: the host speaks another protocol", len);
				return false;
			}
			if (l->in.len < sizeof(h) + len)
				break;
			on_frame(l, &h, l->in.s + sizeof(h), len);
			buf_consume(&l->in, sizeof(h) + len);
		}
	}
}

static void on_link(struct watch *w, uint32_t events)
{
	struct link *l = w->data;

	if ((events & (EPOLLHUP | EPOLLERR) && !(events & EPOLLIN)) ||
	    (events & EPOLLIN && !link_read(l)) || !link_flush(l)) {
		link_gone(l);
		return;
	}
	link_update(l);
}

static int link_new(struct agent *a, int fd, bool port)
{
	struct link *l = calloc(1, sizeof(*l));

	if (!l)
		return -ENOMEM;
	l->a = a;
	l->fd = fd;
	l->port = port;
	l->w.data = l;
	list_add_tail(&a->links, &l->node);
	if (port) {
		link_gone(l);
		return 0;
	}
	l->connected = true;
	watch_fd(a->loop, &l->w, "vsock", fd, EPOLLIN, on_link);
	link_hello(l);
	return 0;
}

static void on_listen(struct watch *w, uint32_t events)
{
	struct agent *a = w->data;
	int fd = accept4(a->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd >= 0 && link_new(a, fd, false) < 0)
		close(fd);
}

static void on_find_port(struct timer *t)
{
	struct agent *a = t->data;
	_cleanup_(closedirp) DIR *d = opendir("/sys/class/virtio-ports");
	struct dirent *de;

	while (d && (de = readdir(d))) {
		_cleanup_(buf_done) struct buf name = { 0 };
		char path[320];
		int fd;

		snprintf(path, sizeof(path), "/sys/class/virtio-ports/%s/name", de->d_name);
		if (file_read(AT_FDCWD, path, 4096, &name, NULL) < 0 ||
		    !str_starts(buf_str(&name), GUEST_PORT_NAME "\n"))
			continue;
		snprintf(path, sizeof(path), "/dev/%s", de->d_name);
		fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
		if (fd < 0)
			continue;
		timer_stop(t);
		if (link_new(a, fd, true) < 0)
			close(fd);
		return;
	}
}

static void listen_vsock(struct agent *a)
{
	struct sockaddr_vm addr = { .svm_family = AF_VSOCK,
				    .svm_cid = VMADDR_CID_ANY,
				    .svm_port = GUEST_VSOCK_PORT };

	a->listen_fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (a->listen_fd < 0)
		return;
	if (bind(a->listen_fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
	    listen(a->listen_fd, 16) < 0) {
		a->listen_fd = safe_close(a->listen_fd);
		return;
	}
	a->listener.data = a;
	watch_fd(a->loop, &a->listener, "vsock", a->listen_fd, EPOLLIN, on_listen);
}

/* ---- for init.c ---- */

int agent_new(struct loop *loop, void (*on_config)(struct json *config),
	      void (*on_power)(bool reboot, int timeout), struct agent **ret)
{
	struct agent *a = calloc(1, sizeof(*a));

	if (!a)
		return -ENOMEM;
	a->loop = loop;
	a->on_config = on_config;
	a->on_power = on_power;
	list_init(&a->links);
	list_init(&a->streams);
	listen_vsock(a);
	a->find_port.data = a;
	timer_start(loop, &a->find_port, "find port", 0, 20 * NSEC_PER_MSEC, on_find_port);
	*ret = a;
	return 0;
}

void agent_wait_config(struct agent *a, bool wait)
{
	a->want_config = wait;
}

int agent_start_main(struct agent *a, const struct proc_spec *spec, bool attach, struct err **e)
{
	struct link *l, *host = NULL;
	struct stream *s;
	int r;

	list_for_each_entry(l, &a->links, node) {
		if (l->connected && !host)
			host = l;
	}
	s = stream_new(a, host, 0, STREAM_PROC);
	if (!s)
		return err_sys(e, ENOMEM, "start");
	s->main = true;
	r = stream_start(s, spec, attach, e);
	if (r < 0) {
		stream_free(s);
		return r;
	}
	a->main = s;
	pump(s);
	return 0;
}

void agent_fail_main(struct agent *a, const struct err *e)
{
	struct link *l;

	a->main_ended = true;
	error_json(&a->main_error, e);
	list_for_each_entry(l, &a->links, node)
		send_frame(l, GUEST_ERROR, 0, buf_str(&a->main_error), a->main_error.len);
}

void agent_signal_main(struct agent *a, int signo)
{
	if (a->main && a->main->pid > 0)
		kill(a->main->pid, signo);
}

bool agent_reaped(struct agent *a, pid_t pid, int status)
{
	struct stream *s;

	list_for_each_entry(s, &a->streams, node) {
		if (s->kind != STREAM_PROC || s->pid != pid)
			continue;
		s->pid = 0;
		s->status = status;
		bool is_main = s->main;
		pump(s);
		return is_main;
	}
	return false;
}

bool agent_idle(const struct agent *a)
{
	struct link *l;

	if (a->main)
		return false;
	list_for_each_entry(l, &a->links, node) {
		if (l->connected && l->out.len)
			return false;
	}
	return true;
}
