/* The host's end of a console: see charport.h. */
#define LOG_MODULE "console"
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include "base/log.h"
#include "vmm/charport.h"

#define ESCAPE 0x01 /* Ctrl-A */

static void init(struct charport *p)
{
	*p = (struct charport){ .listen_fd = -1, .in_fd = -1, .out_fd = -1 };
}

static int alloc_ring(struct charport *p, struct err **e)
{
	p->ring = malloc(CHARPORT_RING);
	return p->ring ? 0 : err_set(e, ENOMEM, "vmm.memory", "out of memory for a console");
}

/* -- opening -------------------------------------------------------------------------------------- */

int charport_open_stdio(struct charport *p, struct err **e)
{
	struct stat st;
	int r;

	init(p);
	r = alloc_ring(p, e);
	if (r < 0)
		return r;
	p->console = p->is_stdio = true;
	p->in_fd = STDIN_FILENO;
	p->out_fd = STDOUT_FILENO;
	/* epoll refuses regular files; they never block either */
	p->out_is_file = fstat(p->out_fd, &st) < 0 || S_ISREG(st.st_mode);
	if (fstat(p->in_fd, &st) < 0 || S_ISREG(st.st_mode))
		p->in_fd = -1; /* a closed stdin or a file: no input */
	if (p->in_fd >= 0 && tcgetattr(p->in_fd, &p->saved_tty) == 0) {
		struct termios raw = p->saved_tty;

		cfmakeraw(&raw);
		raw.c_oflag |= OPOST; /* our own messages share the terminal */
		p->is_tty = tcsetattr(p->in_fd, TCSANOW, &raw) == 0;
	}
	return 0;
}

static bool somebody_listens(const struct sockaddr_un *sa)
{
	_cleanup_(closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd >= 0 &&
	       (connect(fd, (const struct sockaddr *)sa, sizeof(*sa)) == 0 || errno == EAGAIN);
}

int charport_open_socket(struct charport *p, const char *path, bool console, struct err **e)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	_cleanup_(closep) int fd = -1;
	struct stat st;
	mode_t mask;
	int r;

	init(p);
	if (strlen(path) >= sizeof(sa.sun_path))
		return err_set(e, ENAMETOOLONG, "console.path",
			       "socket path '%s' is too long (at most %zu bytes)", path,
			       sizeof(sa.sun_path) - 1);
	strcpy(sa.sun_path, path);
	if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode)) {
		if (somebody_listens(&sa))
			return err_set(e, EADDRINUSE, "console.in_use", "socket '%s' is in use",
				       path);
		unlink(path);
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_sys(e, errno, "make a socket for '%s'", path);
	mask = umask(0177);
	r = bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ? errno : 0;
	umask(mask);
	if (r)
		return err_sys(e, r, "bind socket '%s'", path);
	r = charport_open_fd(p, TAKE_FD(fd), console, e);
	if (r < 0) {
		unlink(path);
		return r;
	}
	p->path = strdup(path);
	return 0;
}

int charport_open_fd(struct charport *p, int listen_fd, bool console, struct err **e)
{
	_cleanup_(closep) int fd = listen_fd;
	int r;

	init(p);
	if (listen(fd, 1) < 0)
		return err_sys(e, errno, "listen for console clients");
	if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
		return err_sys(e, errno, "set up the console socket");
	r = alloc_ring(p, e);
	if (r < 0)
		return r;
	p->listen_fd = TAKE_FD(fd);
	p->console = console;
	return 0;
}

void charport_close(struct charport *p)
{
	if (!p->ring)
		return;
	if (p->is_tty)
		tcsetattr(STDIN_FILENO, TCSANOW, &p->saved_tty);
	if (!p->is_stdio) {
		safe_close(p->in_fd);
		safe_close(p->listen_fd);
	}
	if (p->path)
		unlink(p->path);
	free(p->path);
	free(p->ring);
	init(p);
}

/* -- output --------------------------------------------------------------------------------------- */

static void hang_up(struct charport *p);

static void on_output(struct watch *w, uint32_t events);

static void watch_output(struct charport *p, bool on)
{
	if (on == watch_active(&p->out_watch))
		return;
	if (!on) {
		watch_remove(&p->out_watch);
		return;
	}
	p->out_watch.data = p;
	if (p->is_stdio) {
		if (watch_fd(p->loop, &p->out_watch, "console out", p->out_fd, EPOLLOUT,
			     on_output) < 0)
			p->out_is_file = true;
	}
}

/* A socket has one watch for both directions. */
static void arm(struct charport *p)
{
	bool backlog = p->sent < p->head;

	if (!p->loop)
		return;
	if (p->is_stdio) {
		if (!p->out_is_file)
			watch_output(p, backlog);
		return;
	}
	if (watch_active(&p->in_watch))
		watch_modify(&p->in_watch, (p->want_input ? EPOLLIN | EPOLLRDHUP : 0U) |
						   (backlog ? EPOLLOUT : 0U));
}

/* Once round the ring at most: 0, or -errno when the client cannot take bytes any more. */
static int flush(struct charport *p)
{
	while (p->sent < p->head) {
		size_t at = p->sent % CHARPORT_RING;
		size_t n = MIN((size_t)(p->head - p->sent), (size_t)CHARPORT_RING - at);
		ssize_t r;

		if (p->is_stdio) {
			n = MIN(n,
				(size_t)512); /* a terminal that is ready takes this much without blocking */
			r = write(p->out_fd, p->ring + at, n);
		} else {
			r = send(p->out_fd, p->ring + at, n, MSG_DONTWAIT | MSG_NOSIGNAL);
		}
		if (r < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		p->sent += (uint64_t)r;
		if (p->is_stdio && !p->out_is_file)
			break; /* the rest when it is ready again */
	}
	return 0;
}

static void try_flush(struct charport *p)
{
	if (p->out_fd < 0)
		return;
	if (flush(p) < 0) {
		if (p->is_stdio)
			p->sent = p->head; /* stdout is gone: nobody to tell */
		else
			hang_up(p);
	}
	arm(p);
	if (p->short_write && p->head - p->sent < CHARPORT_RING / 2) {
		p->short_write = false;
		if (p->ops && p->ops->writable)
			p->ops->writable(p);
	}
}

static void on_output(struct watch *w, uint32_t events)
{
	try_flush(w->data);
}

static size_t put(struct charport *p, const uint8_t *s, size_t len)
{
	size_t done = 0;

	if (!p->console) {
		uint64_t space = CHARPORT_RING - (p->head - p->sent);

		len = (size_t)MIN((uint64_t)len, space);
	}
	while (done < len) {
		size_t at = p->head % CHARPORT_RING;
		size_t n = MIN(len - done, (size_t)CHARPORT_RING - at);

		memcpy(p->ring + at, s + done, n);
		p->head += n;
		done += n;
		if (p->head - p->sent > CHARPORT_RING) {
			if (p->out_fd >= 0)
				p->n_lost += p->head - p->sent - CHARPORT_RING;
			p->sent = p->head - CHARPORT_RING;
		}
	}
	return done;
}

size_t charport_writev(struct charport *p, const struct iovec *iov, unsigned int n)
{
	size_t total = 0, taken = 0;

	if (!p->console && p->out_fd < 0) { /* a channel that nobody reads */
		for (unsigned int i = 0; i < n; i++)
			total += iov[i].iov_len;
		p->n_lost += total;
		return total;
	}
	for (unsigned int i = 0; i < n; i++) {
		size_t k = put(p, iov[i].iov_base, iov[i].iov_len);

		total += iov[i].iov_len;
		taken += k;
		if (k < iov[i].iov_len)
			break;
	}
	p->n_out += taken;
	if (taken < total && !p->console)
		p->short_write = true;
	/* a client that has gone is noticed by its watch: callbacks must not come from inside this call */
	if (p->out_fd >= 0 && !watch_active(&p->out_watch))
		flush(p);
	arm(p);
	return taken;
}

/* -- input and clients ---------------------------------------------------------------------------- */

static void on_input(struct watch *w, uint32_t events)
{
	struct charport *p = w->data;

	if (events & EPOLLOUT)
		try_flush(p);
	if (p->in_fd < 0)
		return;
	if (!p->is_stdio && (events & (EPOLLHUP | EPOLLERR | EPOLLRDHUP))) {
		char c;

		/* what the client left behind is read first */
		if (recv(p->in_fd, &c, 1, MSG_PEEK | MSG_DONTWAIT) <= 0) {
			hang_up(p);
			return;
		}
		if (!p->want_input) { /* until it is wanted: the condition would fire again and again */
			watch_remove(&p->in_watch);
			return;
		}
	}
	if (p->ops && (events & ~(uint32_t)EPOLLOUT))
		p->ops->changed(p);
}

static void watch_input(struct charport *p)
{
	p->in_watch.data = p;
	if (p->is_stdio) {
		/* EPERM: a kind of file without readiness; then there is no input */
		if (p->in_fd >= 0 && p->want_input && !watch_active(&p->in_watch))
			watch_fd(p->loop, &p->in_watch, "console in", p->in_fd, EPOLLIN, on_input);
		else if (!p->want_input)
			watch_remove(&p->in_watch);
		return;
	}
	if (p->in_fd >= 0 && !watch_active(&p->in_watch))
		watch_fd(p->loop, &p->in_watch, "console client", p->in_fd, 0, on_input);
	arm(p);
}

static void on_client(struct watch *w, uint32_t events)
{
	struct charport *p = w->data;
	int fd = accept4(p->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	watch_remove(&p->listen_watch); /* the next one when this one has gone */
	p->in_fd = p->out_fd = fd;
	/* a console's history for the new client; a channel starts with nothing */
	p->sent = p->console && p->head > CHARPORT_RING ? p->head - CHARPORT_RING
		  : p->console				? 0
							: p->head;
	watch_input(p);
	try_flush(p);
	if (p->ops && p->in_fd >= 0)
		p->ops->changed(p);
}

static void watch_clients(struct charport *p)
{
	p->listen_watch.data = p;
	if (p->listen_fd >= 0 && p->in_fd < 0 && !watch_active(&p->listen_watch) &&
	    watch_fd(p->loop, &p->listen_watch, "console listen", p->listen_fd, EPOLLIN,
		     on_client) < 0)
		log_warn("console clients cannot be accepted");
}

static void hang_up(struct charport *p)
{
	watch_remove(&p->in_watch);
	p->in_fd = p->out_fd = safe_close(p->in_fd);
	p->short_write = false;
	if (!p->console)
		p->sent = p->head;
	if (p->loop)
		watch_clients(p);
	if (p->ops) {
		p->ops->changed(p);
		if (p->ops->writable)
			p->ops->writable(p);
	}
}

int charport_start(struct charport *p, struct loop *loop, const struct charport_ops *ops,
		   void *data)
{
	p->loop = loop;
	p->ops = ops;
	p->data = data;
	if (p->is_stdio || p->in_fd >= 0)
		watch_input(p);
	else
		watch_clients(p);
	try_flush(p);
	return 0;
}

void charport_stop(struct charport *p)
{
	watch_remove(&p->listen_watch);
	watch_remove(&p->in_watch);
	watch_remove(&p->out_watch);
	p->loop = NULL;
	p->ops = NULL;
}

bool charport_connected(const struct charport *p)
{
	return p->out_fd >= 0;
}

void charport_want_input(struct charport *p, bool on)
{
	if (p->want_input == on)
		return;
	p->want_input = on;
	if (p->loop)
		watch_input(p);
}

/* Ctrl-A x leaves, Ctrl-A Ctrl-A is one Ctrl-A.  Returns the bytes that remain. */
static size_t filter_escape(struct charport *p, uint8_t *s, size_t n)
{
	size_t out = 0;

	for (size_t i = 0; i < n; i++) {
		if (p->escape) {
			p->escape = false;
			if (s[i] == 'x') {
				p->ops->quit(p);
				continue;
			}
		} else if (s[i] == ESCAPE) {
			p->escape = true;
			continue;
		}
		s[out++] = s[i];
	}
	return out;
}

size_t charport_readv(struct charport *p, const struct iovec *iov, unsigned int n)
{
	ssize_t r;

	if (p->in_fd < 0 || n == 0)
		return 0;
	if (p->is_stdio) {
		struct pollfd ready = { p->in_fd, POLLIN, 0 };

		/* stdin stays in blocking mode, others may share it: read only what is there */
		if (poll(&ready, 1, 0) != 1)
			return 0;
		r = read(p->in_fd, iov[0].iov_base, iov[0].iov_len);
		if (r == 0) { /* end of input: a console goes on without */
			watch_remove(&p->in_watch);
			p->in_fd = -1;
			return 0;
		}
		if (r > 0 && p->is_tty && p->ops && p->ops->quit)
			r = (ssize_t)filter_escape(p, iov[0].iov_base, (size_t)r);
	} else {
		struct msghdr m = { .msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = n };

		/* the end and errors are on_input()'s */
		r = recvmsg(p->in_fd, &m, MSG_DONTWAIT);
	}
	if (r <= 0)
		return 0;
	p->n_in += (uint64_t)r;
	return (size_t)r;
}
