/* Streams of the container; see shim_io.h.
 *
 * Invariants: (1) an output is read only while no waiting reader has anything pending; (2) input is taken from readers only
 * while in_pending is empty; (3) a reader that does not wait never has more than SHIM_BEHIND_MAX pending. */
#include "container/shim_io.h"

#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/str.h"
#include "container/shim.h"
#include "sys/pty.h"

#ifndef TIOCGPTPEER
#define TIOCGPTPEER _IO('T', 0x41)
#endif

#define CHUNK	 16384
#define PIPE_MAX (2 << 20)

struct sink {
	struct attached *a;
	int fd; /* -1: closed */
	struct watch watch;
	struct buf pending;
	bool eof; /* nothing follows what is pending */
};

struct attached {
	struct list node;
	struct shim_io *io;
	struct sink sink[2];
	bool input, output, wait;
};

static char chunk[CHUNK];

static void on_out(struct watch *w, uint32_t events);
static void on_in(struct watch *w, uint32_t events);
static void on_sink(struct watch *w, uint32_t events);

static bool sinks_pending(const struct shim_io *io)
{
	struct attached *a;

	list_for_each_entry(a, &io->attached, node)
		if (a->wait && (a->sink[0].pending.len || a->sink[1].pending.len))
			return true;
	return false;
}

/* What each descriptor is asked for, after anything has changed. */
static void arrange(struct shim_io *io)
{
	bool read_out = !sinks_pending(io), read_in = io->in_pending.len == 0 && io->in >= 0;
	struct attached *a;

	for (int i = 0; i < 2; i++)
		if (watch_active(&io->out_watch[i]))
			watch_modify(&io->out_watch[i],
				     (read_out ? EPOLLIN : 0U) |
					     (io->terminal && io->in_pending.len ? EPOLLOUT : 0U));
	if (watch_active(&io->in_watch))
		watch_modify(&io->in_watch, io->in_pending.len ? EPOLLOUT : 0U);
	list_for_each_entry(a, &io->attached, node)
		for (int i = 0; i < 2; i++)
			if (watch_active(&a->sink[i].watch))
				watch_modify(&a->sink[i].watch,
					     (i == 0 && a->input && read_in ? EPOLLIN : 0U) |
						     (a->sink[i].pending.len ? EPOLLOUT : 0U));
}

static void close_in(struct shim_io *io)
{
	watch_remove(&io->in_watch);
	if (!io->terminal)
		safe_close(io->in);
	io->in = -1;
	io->in_close = false;
	buf_done(&io->in_pending);
}

static void sink_close(struct sink *s)
{
	watch_remove(&s->watch);
	s->fd = safe_close(s->fd);
	buf_done(&s->pending);
}

/* What is pending was the last, and it is sent: end of file for the reader. */
static void sink_end(struct sink *s)
{
	if (s->fd < 0 || s->pending.len > 0)
		return;
	if (s == &s->a->sink[0] && s->a->input)
		shutdown(s->fd, SHUT_WR);
	else
		sink_close(s);
}

static void attached_free(struct attached *a)
{
	struct shim_io *io = a->io;

	sink_close(&a->sink[0]);
	sink_close(&a->sink[1]);
	list_del(&a->node);
	free(a);
	io->n_attached--;
}

/* Free those that have gone, outside of the walks over the list. */
static void sweep(struct shim_io *io)
{
	struct attached *a, *tmp;

	list_for_each_entry_safe(a, tmp, &io->attached, node)
		if (a->sink[0].fd < 0 && a->sink[1].fd < 0)
			attached_free(a);
	arrange(io);
	if (io->n_attached == 0 && io->idle)
		io->idle(io->arg);
}

static void sink_flush(struct sink *s)
{
	while (s->pending.len > 0) {
		ssize_t n = send(s->fd, s->pending.s, s->pending.len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0) {
			if (errno == EINTR)
				continue;
			if (errno != EAGAIN)
				sink_close(s);
			return;
		}
		buf_consume(&s->pending, (size_t)n);
	}
	buf_done(&s->pending);
	if (s->eof)
		sink_end(s);
}

static void sink_put(struct sink *s, const char *p, size_t n)
{
	if (s->fd < 0)
		return;
	if (s->pending.len == 0) {
		ssize_t k;

		do {
			k = send(s->fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT);
		} while (k < 0 && errno == EINTR);
		if (k < 0 && errno != EAGAIN) {
			sink_close(s);
			return;
		}
		if (k > 0) {
			p += k;
			n -= (size_t)k;
		}
	}
	if (n == 0)
		return;
	if (buf_add(&s->pending, p, n) < 0 || (!s->a->wait && s->pending.len > SHIM_BEHIND_MAX)) {
		sink_close(&s->a->sink[0]);
		sink_close(&s->a->sink[1]);
	}
}

/* One read; false: nothing there now, or no more ever (then it is closed). */
static bool take_output(struct shim_io *io, int i)
{
	struct attached *a;
	ssize_t n = read(io->out[i], chunk, sizeof(chunk));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return errno == EINTR;
	if (n <= 0) {
		watch_remove(&io->out_watch[i]);
		if (io->terminal)
			return false;
		io->out[i] = safe_close(io->out[i]);
		list_for_each_entry(a, &io->attached, node) {
			a->sink[i].eof = true;
			sink_end(&a->sink[i]);
		}
		return false;
	}
	linelog_add(&io->log, i, chunk, (size_t)n, now_real());
	list_for_each_entry(a, &io->attached, node)
		if (a->output)
			sink_put(&a->sink[i], chunk, (size_t)n);
	return true;
}

static void flush_in(struct shim_io *io)
{
	while (io->in >= 0 && io->in_pending.len > 0) {
		ssize_t n = write(io->in, io->in_pending.s, io->in_pending.len);

		if (n < 0) {
			if (errno == EINTR)
				continue;
			if (errno != EAGAIN)
				close_in(io); /* nobody reads it */
			return;
		}
		buf_consume(&io->in_pending, (size_t)n);
	}
	if (io->in_pending.len == 0) {
		buf_done(&io->in_pending);
		if (io->in_close)
			close_in(io);
	}
}

static void on_out(struct watch *w, uint32_t events)
{
	struct shim_io *io = w->data;
	int i = w == &io->out_watch[1];

	if (events & EPOLLOUT)
		flush_in(io);
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
		/* With waiting readers behind, EPOLLHUP alone must not spin: leave it until they have read. */
		if (sinks_pending(io))
			watch_remove(w);
		else
			take_output(io, i);
	}
	sweep(io);
}

static void on_in(struct watch *w, uint32_t events)
{
	struct shim_io *io = w->data;

	if (events & EPOLLERR && io->in_pending.len == 0)
		close_in(io); /* the last reader of the pipe is gone */
	else
		flush_in(io);
	sweep(io);
}

static void sink_input(struct sink *s)
{
	struct shim_io *io = s->a->io;
	ssize_t n;

	do {
		n = recv(s->fd, chunk, sizeof(chunk), MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		s->a->input = false;
		if (n < 0 || s->eof)
			sink_close(s);
		if (io->stdin_mode == SHIM_STDIN_ONCE && !io->terminal) {
			io->in_close = true;
			flush_in(io);
		}
		return;
	}
	if (io->in < 0 || buf_add(&io->in_pending, chunk, (size_t)n) < 0)
		return;
	flush_in(io);
}

static void on_sink(struct watch *w, uint32_t events)
{
	struct sink *s = w->data;
	struct attached *a = s->a;
	struct shim_io *io = a->io;

	if (events & EPOLLOUT)
		sink_flush(s);
	if (events & EPOLLIN && a->input && s == &a->sink[0])
		sink_input(s);
	/* Both directions are closed.  (Half-closed for writing is no hang-up.) */
	if (events & (EPOLLHUP | EPOLLERR) && s->fd >= 0) {
		if (a->input && s == &a->sink[0])
			sink_input(s);
		else
			sink_close(s);
	}
	/* An output that was set aside because this reader was slow. */
	for (int i = 0; i < 2; i++)
		if (io->out[i] >= 0 && !watch_active(&io->out_watch[i]) && !sinks_pending(io) &&
		    watch_fd(io->loop, &io->out_watch[i], "output", io->out[i], EPOLLIN, on_out) <
			    0)
			io->out[i] = io->terminal ? io->out[i] : safe_close(io->out[i]);
	sweep(io);
}

void shim_io_init(struct shim_io *io, struct loop *l)
{
	io->loop = l;
	io->out[0] = io->out[1] = io->in = io->slave = -1;
	list_init(&io->attached);
	io->out_watch[0].data = io->out_watch[1].data = io->in_watch.data = io;
}

static int nonblock(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

int shim_io_pipes(struct shim_io *io, int child[3], struct err **e)
{
	int p[2], r = 0;

	child[0] = child[1] = child[2] = -1;
	if (io->stdin_mode == SHIM_STDIN_NONE) {
		child[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
		if (child[0] < 0)
			return err_sys(e, errno, "open /dev/null");
	} else {
		if (pipe2(p, O_CLOEXEC) < 0)
			return err_sys(e, errno, "pipe");
		child[0] = p[0];
		io->in = p[1];
		r = nonblock(io->in);
	}
	for (int i = 0; i < 2 && r == 0; i++) {
		if (pipe2(p, O_CLOEXEC) < 0)
			return err_sys(e, errno, "pipe");
		io->out[i] = p[0];
		child[i + 1] = p[1];
		r = nonblock(p[0]);
	}
	return r < 0 ? err_sys(e, -r, "pipe") : 0;
}

int shim_io_terminal(struct shim_io *io, int master, struct err **e)
{
	int r = nonblock(master);

	if (r < 0)
		return err_sys(e, -r, "terminal");
	io->terminal = true;
	io->out[0] = io->in = master;
	/* Held open, so that the master does not hang up whenever the program (systemd, say) closes its console for a while. */
	io->slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	return 0;
}

int shim_io_start(struct shim_io *io, struct err **e)
{
	int r = 0;

	for (int i = 0; i < 2 && r == 0; i++)
		if (io->out[i] >= 0)
			r = watch_fd(io->loop, &io->out_watch[i], "output", io->out[i], EPOLLIN,
				     on_out);
	if (r == 0 && io->in >= 0 && !io->terminal)
		r = watch_fd(io->loop, &io->in_watch, "input", io->in, 0, on_in);
	return r < 0 ? err_sys(e, -r, "watch the container's streams") : 0;
}

int shim_io_attach(struct shim_io *io, bool input, bool output, bool wait, int fds[2],
		   struct err **e)
{
	struct attached *a = calloc(1, sizeof(*a));
	int pair[2], r = 0;

	fds[0] = fds[1] = -1;
	if (!a)
		return err_sys(e, ENOMEM, "attach");
	a->io = io;
	a->input = input && (io->in >= 0 || io->terminal);
	a->output = output;
	a->wait = wait;
	a->sink[0].fd = a->sink[1].fd = -1;
	list_add_tail(&io->attached, &a->node);
	io->n_attached++;
	for (int i = 0; i < (io->terminal ? 1 : 2) && r == 0; i++) {
		struct sink *s = &a->sink[i];

		s->a = a;
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
			r = -errno;
			break;
		}
		fds[i] = pair[1];
		s->fd = pair[0];
		s->watch.data = s;
		r = watch_fd(io->loop, &s->watch, "attached", s->fd, 0, on_sink);
		if (r == 0 && i == 0 && !a->input)
			shutdown(s->fd, SHUT_RD);
		s->eof = !output || io->out[i] < 0;
	}
	if (r < 0) {
		fds[0] = safe_close(fds[0]);
		fds[1] = safe_close(fds[1]);
		attached_free(a);
		return err_sys(e, -r, "attach");
	}
	for (int i = 0; i < 2; i++)
		if (a->sink[i].eof)
			sink_end(&a->sink[i]);
	sweep(io);
	return 0;
}

int shim_io_resize(struct shim_io *io, unsigned int rows, unsigned int cols, struct err **e)
{
	int r;

	if (!io->terminal || io->out[0] < 0)
		return err_set(e, ENOTTY, "shim.terminal", "the container has no terminal");
	r = pty_resize(io->out[0], rows, cols);
	return r < 0 ? err_sys(e, -r, "resize the terminal") : 0;
}

void shim_io_drain(struct shim_io *io)
{
	/* As much as a pipe can hold: who is not dead might write forever. */
	for (int i = 0; i < 2; i++)
		for (int k = 0; k < PIPE_MAX / CHUNK && io->out[i] >= 0 && take_output(io, i); k++)
			;
	sweep(io);
}

void shim_io_finish(struct shim_io *io)
{
	struct attached *a;

	linelog_finish(&io->log, now_real());
	linelog_close(&io->log);
	close_in(io);
	for (int i = 0; i < 2; i++) {
		watch_remove(&io->out_watch[i]);
		io->out[i] = safe_close(io->out[i]);
	}
	io->slave = safe_close(io->slave);
	list_for_each_entry(a, &io->attached, node) {
		a->input = false;
		for (int i = 0; i < 2; i++) {
			a->sink[i].eof = true;
			sink_end(&a->sink[i]);
		}
	}
	sweep(io);
}

void shim_io_done(struct shim_io *io)
{
	struct attached *a, *tmp;

	io->idle = NULL;
	list_for_each_entry_safe(a, tmp, &io->attached, node)
		attached_free(a);
	shim_io_finish(io);
}
