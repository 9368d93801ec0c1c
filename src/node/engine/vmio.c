/* Log and readers of a VM's output; see vmio.h. */
#include "node/engine/vmio.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

struct reader;

struct side { /* one descriptor of a reader */
	int fd;
	struct watch watch;
	struct buf wait;
	struct reader *r;
};

struct reader {
	struct list node;
	struct vmio *io; /* NULL: only to be flushed */
	struct side in, out, err;
};

void vmio_init(struct vmio *io, struct loop *loop, bool tty, bool input_once)
{
	*io = (struct vmio){ .loop = loop, .tty = tty, .input_once = input_once };
	list_init(&io->readers);
	io->log.fd = -1;
}

int vmio_log(struct vmio *io, const char *path, uint64_t max_size, unsigned int max_files,
	     struct err **e)
{
	return path ? linelog_open(&io->log, path, LINELOG_CRI, max_size, max_files, e) : 0;
}

static void side_close(struct side *s)
{
	watch_remove(&s->watch);
	s->fd = safe_close(s->fd);
	buf_done(&s->wait);
}

static void reader_free(struct reader *r)
{
	list_del(&r->node);
	side_close(&r->in);
	side_close(&r->out);
	side_close(&r->err);
	free(r);
}

/* Nobody is at the other end of all sides, or nothing is left to be written to a reader that only drains. */
static void reader_settle(struct reader *r)
{
	bool open = r->io && (r->in.fd >= 0 || r->out.fd >= 0 || r->err.fd >= 0);

	if (!open && !(r->out.fd >= 0 && r->out.wait.len) && !(r->err.fd >= 0 && r->err.wait.len))
		reader_free(r);
}

static void side_flush(struct side *s)
{
	while (s->fd >= 0 && s->wait.len) {
		ssize_t n = write(s->fd, s->wait.s, s->wait.len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			side_close(s);
			return;
		}
		buf_consume(&s->wait, (size_t)n);
	}
	if (s->fd >= 0)
		watch_modify(&s->watch, s->wait.len ? EPOLLOUT : 0);
}

static void writable(struct watch *w, uint32_t events)
{
	struct side *s = w->data;

	if (events & (EPOLLERR | EPOLLHUP) && !(events & EPOLLOUT))
		side_close(s);
	else
		side_flush(s);
	reader_settle(s->r);
}

static void readable(struct watch *w, uint32_t events)
{
	struct side *s = w->data;
	struct reader *r = s->r;
	struct vmio *io = r->io;

	for (;;) {
		char data[4096];
		size_t taken;
		ssize_t n;

		if (s->wait.len) { /* what the guest had no room for */
			taken = io->input ? io->input(io->arg, s->wait.s, s->wait.len) : 0;
			buf_consume(&s->wait, taken);
			if (s->wait.len) {
				watch_modify(w, 0);
				return;
			}
		}
		n = read(s->fd, data, sizeof(data));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			side_close(s);
			if (n == 0 && io->input_once) {
				io->input_over = true;
				if (io->input_end)
					io->input_end(io->arg);
			}
			reader_settle(r);
			return;
		}
		if (buf_add(&s->wait, data, (size_t)n) < 0)
			buf_clear(&s->wait);
	}
}

void vmio_output(struct vmio *io, int fd, const void *data, size_t n)
{
	struct reader *r, *next;

	linelog_add(&io->log, fd - 1, data, n, now_real());
	list_for_each_entry_safe(r, next, &io->readers, node) {
		struct side *s = fd == 2 && !io->tty ? &r->err : &r->out;

		if (s->fd < 0)
			continue;
		if (s->wait.len + n > VMIO_BEHIND_MAX || buf_add(&s->wait, data, n) < 0) {
			reader_free(r);
			continue;
		}
		side_flush(s);
		reader_settle(r);
	}
}

void vmio_input_begin(struct vmio *io, size_t (*input)(void *arg, const void *data, size_t n),
		      void (*input_end)(void *arg), void *arg)
{
	io->input = input;
	io->input_end = input_end;
	io->arg = arg;
	vmio_input_room(io);
	if (io->input_over && input_end)
		input_end(arg);
}

void vmio_input_room(struct vmio *io)
{
	struct reader *r, *next;

	list_for_each_entry_safe(r, next, &io->readers, node)
		if (watch_active(&r->in.watch)) {
			watch_modify(&r->in.watch, EPOLLIN);
			if (r->in.wait.len)
				readable(&r->in.watch, EPOLLIN);
		}
}

static int side_open(struct side *s, struct reader *r, int fd, uint32_t events, watch_fn *fn)
{
	s->fd = fd;
	s->r = r;
	s->watch.data = s;
	fcntl(fd, F_SETFL, O_NONBLOCK | fcntl(fd, F_GETFL));
	return watch_fd(r->io->loop, &s->watch, "console", fd, events, fn);
}

int vmio_attach(struct vmio *io, struct engine_stream *ret, struct err **e)
{
	struct reader *r = calloc(1, sizeof(*r));
	int fd[2], got = 0;

	if (!r)
		return err_sys(e, ENOMEM, "open the console");
	*ret = ENGINE_STREAM_NONE;
	ret->tty = io->tty;
	r->io = io;
	r->in.fd = r->out.fd = r->err.fd = -1;
	list_init(&r->node);
	if (io->tty) {
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) < 0) {
			got = -errno;
		} else {
			ret->in = fd[1];
			got = side_open(&r->in, r, fd[0], EPOLLIN, readable);
			fd[0] = got == 0 ? fcntl(fd[0], F_DUPFD_CLOEXEC, 3) : -1;
			if (got == 0)
				got = fd[0] < 0 ? -errno
						: side_open(&r->out, r, fd[0], 0, writable);
		}
	} else {
		int *theirs[] = { &ret->in, &ret->out, &ret->err };
		struct side *ours[] = { &r->in, &r->out, &r->err };

		for (int i = 0; i < 3 && got == 0; i++) {
			bool input = i == 0;

			if (pipe2(fd, O_CLOEXEC) < 0) {
				got = -errno;
				break;
			}
			*theirs[i] = fd[input];
			got = side_open(ours[i], r, fd[!input], input ? EPOLLIN : 0,
					input ? readable : writable);
		}
	}
	if (got < 0) {
		engine_stream_close(ret);
		reader_free(r);
		return err_sys(e, -got, "open the console");
	}
	list_add_tail(&io->readers, &r->node);
	return 0;
}

void vmio_end(struct vmio *io)
{
	struct reader *r, *next;

	linelog_finish(&io->log, now_real());
	linelog_close(&io->log);
	list_for_each_entry_safe(r, next, &io->readers, node) {
		list_del(&r->node);
		r->io = NULL;
		side_close(&r->in);
		reader_settle(r);
	}
	io->input = NULL;
	io->loop = NULL;
}

void vmio_done(struct vmio *io)
{
	if (!io->loop)
		return;
	linelog_close(&io->log);
	while (!list_empty(&io->readers))
		reader_free(list_entry(io->readers.next, struct reader, node));
	io->loop = NULL;
}
