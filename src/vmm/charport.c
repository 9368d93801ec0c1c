/* The host's end of a console: see charport.h. */
#define LOG_MODULE "console"
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include "base/rpc.h"
#include "base/str.h"
#include "base/log.h"
#include "vmm/charport.h"

void charport_none(struct charport *p)
{
	*p = (struct charport){ .listen_fd = -1, .fd = -1 };
}

static int alloc_ring(struct charport *p, struct err **e)
{
	p->ring = malloc(CHARPORT_RING);
	return p->ring ? 0 : err_set(e, ENOMEM, "vmm.memory", "out of memory for a console");
}

/* -- opening -------------------------------------------------------------------------------------- */

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

	charport_none(p);
	if (str_starts(path, "fd:")) {
		fd = rpc_listen(path, 0600, e);
		return fd < 0 ? fd : charport_open_fd(p, TAKE_FD(fd), console, e);
	}
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

	charport_none(p);
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
	safe_close(p->fd);
	safe_close(p->listen_fd);
	if (p->path)
		unlink(p->path);
	free(p->path);
	free(p->ring);
	charport_none(p);
}

/* -- output --------------------------------------------------------------------------------------- */

static void hang_up(struct charport *p);

/* What the client's watch waits for. */
static void arm(struct charport *p)
{
	if (watch_active(&p->watch))
		watch_modify(&p->watch, (p->want_input ? EPOLLIN | EPOLLRDHUP : 0U) |
						(p->sent < p->head ? EPOLLOUT : 0U));
}

/* 0, or -errno when the client cannot take bytes any more. */
static int flush(struct charport *p)
{
	while (p->sent < p->head) {
		size_t at = p->sent % CHARPORT_RING;
		size_t n = MIN((size_t)(p->head - p->sent), (size_t)CHARPORT_RING - at);
		ssize_t r = send(p->fd, p->ring + at, n, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (r < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		p->sent += (uint64_t)r;
	}
	return 0;
}

static void try_flush(struct charport *p)
{
	if (p->fd < 0)
		return;
	if (flush(p) < 0) {
		hang_up(p);
		return;
	}
	arm(p);
	if (p->short_write && p->head - p->sent < CHARPORT_RING / 2) {
		p->short_write = false;
		if (p->ops && p->ops->writable)
			p->ops->writable(p);
	}
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
			if (p->fd >= 0)
				p->n_lost += p->head - p->sent - CHARPORT_RING;
			p->sent = p->head - CHARPORT_RING;
		}
	}
	return done;
}

size_t charport_writev(struct charport *p, const struct iovec *iov, unsigned int n)
{
	size_t total = 0, taken = 0;

	if (!p->console && p->fd < 0) { /* a channel that nobody reads */
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
	if (p->fd >= 0)
		flush(p);
	arm(p);
	return taken;
}

/* -- input and clients ---------------------------------------------------------------------------- */

static void on_client_ready(struct watch *w, uint32_t events)
{
	struct charport *p = w->data;

	if (events & EPOLLOUT)
		try_flush(p);
	if (p->fd < 0)
		return;
	if (events & (EPOLLHUP | EPOLLERR | EPOLLRDHUP)) {
		char c;

		/* what the client left behind is read first */
		if (recv(p->fd, &c, 1, MSG_PEEK | MSG_DONTWAIT) <= 0) {
			hang_up(p);
			return;
		}
		if (!p->want_input) { /* until it is wanted: the condition would fire again and again */
			watch_remove(&p->watch);
			return;
		}
	}
	if (p->ops && (events & ~(uint32_t)EPOLLOUT))
		p->ops->changed(p);
}

static void watch_client(struct charport *p)
{
	p->watch.data = p;
	if (p->fd >= 0 && !watch_active(&p->watch) &&
	    watch_fd(p->loop, &p->watch, "console client", p->fd, 0, on_client_ready) < 0)
		log_warn("a console client cannot be watched");
	arm(p);
}

static void on_client(struct watch *w, uint32_t events)
{
	struct charport *p = w->data;
	int fd = accept4(p->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	watch_remove(&p->listen_watch); /* the next one when this one has gone */
	p->fd = fd;
	/* a console's history for the new client; a channel starts with nothing */
	p->sent = p->console && p->head > CHARPORT_RING ? p->head - CHARPORT_RING
		  : p->console				? 0
							: p->head;
	watch_client(p);
	try_flush(p);
	if (p->ops && p->fd >= 0)
		p->ops->changed(p);
}

static void watch_clients(struct charport *p)
{
	p->listen_watch.data = p;
	if (p->listen_fd >= 0 && p->fd < 0 && !watch_active(&p->listen_watch) &&
	    watch_fd(p->loop, &p->listen_watch, "console listen", p->listen_fd, EPOLLIN,
		     on_client) < 0)
		log_warn("console clients cannot be accepted");
}

static void hang_up(struct charport *p)
{
	watch_remove(&p->watch);
	p->fd = safe_close(p->fd);
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

void charport_start(struct charport *p, struct loop *loop, const struct charport_ops *ops,
		    void *data)
{
	p->loop = loop;
	p->ops = ops;
	p->data = data;
	watch_client(p);
	watch_clients(p);
	try_flush(p);
}

void charport_stop(struct charport *p)
{
	watch_remove(&p->listen_watch);
	watch_remove(&p->watch);
	p->loop = NULL;
	p->ops = NULL;
}

bool charport_connected(const struct charport *p)
{
	return p->fd >= 0;
}

void charport_want_input(struct charport *p, bool on)
{
	if (p->want_input == on)
		return;
	p->want_input = on;
	if (p->loop)
		watch_client(p);
}

size_t charport_readv(struct charport *p, const struct iovec *iov, unsigned int n)
{
	struct msghdr m = { .msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = n };
	ssize_t r;

	if (p->fd < 0 || n == 0)
		return 0;
	/* the end and errors are the watch's business */
	r = recvmsg(p->fd, &m, MSG_DONTWAIT);
	if (r <= 0)
		return 0;
	p->n_in += (uint64_t)r;
	return (size_t)r;
}
