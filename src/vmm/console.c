/* See console.h. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>
#define LOG_MODULE "console"
#include "base/log.h"
#include "base/rpc.h"
#include "base/str.h"
#include "vmm/console.h"

#define RING   (128U * 1024)
#define ESCAPE 1 /* Ctrl-A */

struct console {
	struct loop *loop;
	pthread_mutex_t lock; /* ring, head, stats */
	uint8_t ring[RING];
	uint64_t head; /* bytes ever written */
	uint64_t tail; /* bytes that the reader has got */
	int in_fd, out_fd, listen_fd, wake_fd;
	bool stdio, raw, escaped, woken;
	struct termios saved;
	struct watch in_watch, out_watch, listen_watch, wake_watch;
	size_t (*take)(void *arg, const uint8_t *data, size_t len);
	void *take_arg;
	uint8_t pending[256];
	size_t n_pending;
	void (*on_quit)(void *arg);
	void *quit_arg;
	struct console_stats stats;
};

static void flush(struct console *c);
static void read_input(struct console *c);

static void hang_up(struct console *c)
{
	watch_remove(&c->in_watch);
	watch_remove(&c->out_watch);
	if (!c->stdio) {
		safe_close(c->in_fd);
		c->n_pending = 0;
	}
	c->in_fd = -1;
	if (!c->stdio)
		c->out_fd = -1;
}

static void on_out(struct watch *w, uint32_t events)
{
	flush(w->data);
}

/* Write what the reader has not got; wait for room when it does not take all. */
static void flush(struct console *c)
{
	uint8_t part[4096];

	while (c->out_fd >= 0) {
		size_t n = 0;
		ssize_t r;

		pthread_mutex_lock(&c->lock);
		if (c->head - c->tail > RING) {
			c->stats.lost_bytes += c->head - c->tail - RING;
			c->tail = c->head - RING;
		}
		while (n < sizeof(part) && c->tail + n < c->head) {
			part[n] = c->ring[(c->tail + n) % RING];
			n++;
		}
		pthread_mutex_unlock(&c->lock);
		if (n == 0) {
			watch_remove(&c->out_watch);
			return;
		}
		r = write(c->out_fd, part, n);
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0 && errno == EAGAIN) {
			if (!watch_active(&c->out_watch)) {
				int fd = c->out_fd;

				c->out_watch.data = c;
				/* A socket is watched for input already: one watch serves both. */
				if (fd == c->in_fd)
					watch_modify(&c->in_watch, EPOLLIN | EPOLLOUT);
				else
					watch_fd(c->loop, &c->out_watch, "console-out", fd,
						 EPOLLOUT, on_out);
			}
			return;
		}
		if (r < 0) {
			if (c->stdio)
				c->out_fd =
					-1; /* nobody reads our output any more: the guest runs on */
			else
				hang_up(c);
			return;
		}
		c->tail += (uint64_t)r;
	}
}

static void offer(struct console *c)
{
	size_t n;

	if (!c->take || c->n_pending == 0)
		return;
	n = c->take(c->take_arg, c->pending, c->n_pending);
	memmove(c->pending, c->pending + n, c->n_pending - n);
	c->n_pending -= n;
}

static void on_in(struct watch *w, uint32_t events)
{
	struct console *c = w->data;

	if (events & EPOLLOUT) {
		watch_modify(&c->in_watch, EPOLLIN);
		flush(c);
	}
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR) && c->in_fd >= 0)
		read_input(c);
}

static void read_input(struct console *c)
{
	uint8_t data[sizeof(c->pending)];
	size_t room = sizeof(c->pending) - c->n_pending;
	ssize_t n;

	if (room == 0) {
		watch_modify(&c->in_watch, 0); /* until the guest took some */
		return;
	}
	n = read(c->in_fd, data, room);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		hang_up(c);
		return;
	}
	c->stats.in_bytes += (uint64_t)n;
	for (ssize_t i = 0; i < n; i++) {
		if (c->raw && (c->escaped || data[i] == ESCAPE)) {
			if (!c->escaped) {
				c->escaped = true;
				continue;
			}
			c->escaped = false;
			if (data[i] == 'x') {
				c->on_quit(c->quit_arg);
				return;
			}
		}
		c->pending[c->n_pending++] = data[i];
	}
	offer(c);
}

static void on_connect(struct watch *w, uint32_t events)
{
	struct console *c = w->data;
	int fd = accept4(c->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	/* The newest reader wins: a client that hung must not lock the operator out. */
	hang_up(c);
	c->in_fd = c->out_fd = fd;
	c->stats.connects++;
	pthread_mutex_lock(&c->lock);
	c->tail = c->head > RING ? c->head - RING : 0;
	pthread_mutex_unlock(&c->lock);
	c->in_watch.data = c;
	if (watch_fd(c->loop, &c->in_watch, "console", fd, EPOLLIN, on_in) < 0) {
		hang_up(c);
		return;
	}
	flush(c);
}

static void on_wake(struct watch *w, uint32_t events)
{
	struct console *c = w->data;
	uint64_t n;

	if (read(c->wake_fd, &n, sizeof(n)) < 0)
		return;
	pthread_mutex_lock(&c->lock);
	c->woken = false;
	pthread_mutex_unlock(&c->lock);
	if (!watch_active(&c->out_watch))
		flush(c);
	offer(c);
	if (c->in_fd >= 0 && watch_active(&c->in_watch) && c->n_pending < sizeof(c->pending) &&
	    c->in_watch.events == 0)
		watch_modify(&c->in_watch, EPOLLIN);
}

static void wake(struct console *c)
{
	uint64_t one = 1;

	if (write(c->wake_fd, &one, sizeof(one)) < 0)
		return; /* the counter is full: it is awake */
}

void console_write(struct console *c, const void *data, size_t len)
{
	const uint8_t *p = data;
	bool need;

	pthread_mutex_lock(&c->lock);
	for (size_t i = 0; i < len; i++)
		c->ring[c->head++ % RING] = p[i];
	c->stats.out_bytes += len;
	need = !c->woken;
	c->woken = true;
	pthread_mutex_unlock(&c->lock);
	if (need)
		wake(c);
}

void console_input_ready(struct console *c)
{
	wake(c);
}

void console_set_input(struct console *c,
		       size_t (*take)(void *arg, const uint8_t *data, size_t len), void *arg)
{
	c->take = take;
	c->take_arg = arg;
}

static int open_stdio(struct console *c, struct err **e)
{
	int r;

	c->stdio = true;
	c->in_fd = STDIN_FILENO;
	c->out_fd = STDOUT_FILENO;
	if (isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &c->saved) == 0) {
		struct termios t = c->saved;

		cfmakeraw(&t);
		c->raw = tcsetattr(STDIN_FILENO, TCSANOW, &t) == 0;
	}
	c->in_watch.data = c;
	r = watch_fd(c->loop, &c->in_watch, "console", STDIN_FILENO, EPOLLIN, on_in);
	if (r < 0)
		c->in_fd =
			-1; /* a plain file or /dev/null (EPERM), or closed: there is no input then */
	return 0;
}

int console_new(struct loop *l, const char *spec, void (*on_quit)(void *arg), void *arg,
		struct console **ret, struct err **e)
{
	struct console *c = calloc(1, sizeof(*c));
	int r = 0;

	if (!c)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	c->loop = l;
	c->in_fd = c->out_fd = c->listen_fd = -1;
	c->on_quit = on_quit;
	c->quit_arg = arg;
	pthread_mutex_init(&c->lock, NULL);
	c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	c->wake_watch.data = c;
	if (c->wake_fd < 0 ||
	    watch_fd(l, &c->wake_watch, "console-wake", c->wake_fd, EPOLLIN, on_wake) < 0)
		r = err_sys(e, errno, "set up the console");
	else if (spec && strcmp(spec, "stdio") == 0)
		r = open_stdio(c, e);
	else if (spec && str_starts(spec, "socket:") && spec[7]) {
		c->listen_fd = rpc_listen(spec + 7, 0600, e);
		c->listen_watch.data = c;
		r = c->listen_fd < 0 ? c->listen_fd
				     : watch_fd(l, &c->listen_watch, "console-listen", c->listen_fd,
						EPOLLIN, on_connect);
	} else if (spec && strcmp(spec, "none") != 0) {
		r = err_set(e, EINVAL, "console.spec",
			    "--console is stdio, socket:PATH, socket:fd:N or none, not '%s'", spec);
	}
	if (r < 0) {
		console_free(c);
		return r;
	}
	*ret = c;
	return 0;
}

void console_free(struct console *c)
{
	if (!c)
		return;
	flush(c);
	if (c->raw)
		tcsetattr(STDIN_FILENO, TCSANOW, &c->saved);
	watch_remove(&c->wake_watch);
	watch_remove(&c->listen_watch);
	hang_up(c);
	safe_close(c->listen_fd);
	safe_close(c->wake_fd);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

void console_stats(struct console *c, struct console_stats *ret)
{
	pthread_mutex_lock(&c->lock);
	*ret = c->stats;
	pthread_mutex_unlock(&c->lock);
}
