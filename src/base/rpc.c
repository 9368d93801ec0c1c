/* Frames over unix sockets; see rpc.h. */
#include "base/rpc.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include "base/str.h"

#define QUEUE_MAX (16U << 20)

struct out_frame {
	struct list node;
	int fds[RPC_FDS_MAX];
	unsigned int n_fds; /* still to be sent, with the first bytes */
	size_t len, sent;
	char data[];
};

void rpc_frame_done(struct rpc_frame *f)
{
	if (!f)
		return;
	buf_done(&f->text);
	for (unsigned int i = 0; i < f->n_fds; i++)
		safe_close(f->fds[i]);
	f->n_fds = 0;
}

/* -- sockets -------------------------------------------------------------------------------------- */

/* Fill sa for path; *dirfd stays open until bind or connect when the path had to go through /proc. */
static int address(const char *path, struct sockaddr_un *sa, int *dirfd, struct err **e)
{
	const char *slash = strrchr(path, '/');
	char dir[PATH_MAX];

	*sa = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (strlen(path) < sizeof(sa->sun_path)) {
		strcpy(sa->sun_path, path);
		return 0;
	}
	if (!slash || strlen(slash + 1) > 64 || (size_t)(slash - path) >= sizeof(dir))
		return err_set(e, ENAMETOOLONG, "rpc.path", "'%s' is too long for a socket", path);
	memcpy(dir, path, (size_t)(slash - path));
	dir[slash - path] = '\0';
	*dirfd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (*dirfd < 0)
		return err_sys(e, errno, "open folder '%s'", dir);
	snprintf(sa->sun_path, sizeof(sa->sun_path), "/proc/self/fd/%d/%s", *dirfd, slash + 1);
	return 0;
}

int rpc_connect(const char *path, struct err **e)
{
	_cleanup_(closep) int fd = -1, dirfd = -1;
	struct sockaddr_un sa;
	int r = address(path, &sa, &dirfd, e);

	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_sys(e, errno, "socket");
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		return err_sys(e, errno, "connect to '%s'", path);
	return TAKE_FD(fd);
}

/* A listening socket that whoever started this program left open for it. */
static int inherited(const char *number, struct err **e)
{
	int fd, on = 0;
	socklen_t len = sizeof(on);
	uint64_t n;

	if (parse_u64(number, INT_MAX, &n) < 0)
		return err_set(e, EINVAL, "rpc.fd", "'fd:%s' does not name a descriptor", number);
	fd = (int)n;
	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &len) < 0 || !on)
		return err_set(e, EINVAL, "rpc.fd", "descriptor %d is not a listening socket", fd);
	if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
		return err_sys(e, errno, "set up descriptor %d", fd);
	return fd;
}

int rpc_listen(const char *path, mode_t mode, struct err **e)
{
	_cleanup_(closep) int fd = -1, dirfd = -1, probe = -1;
	struct sockaddr_un sa;
	mode_t old;
	int r;

	if (str_starts(path, "fd:"))
		return inherited(path + 3, e);
	r = address(path, &sa, &dirfd, e);

	if (r < 0)
		return r;
	probe = rpc_connect(path, NULL);
	if (probe >= 0)
		return err_set(e, EADDRINUSE, "rpc.in_use", "'%s' is in use by another process",
			       path);
	if (probe == -ECONNREFUSED && unlink(sa.sun_path) < 0)
		return err_sys(e, errno, "replace the stale socket '%s'", path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_sys(e, errno, "socket");
	old = umask(0777 & ~mode);
	r = bind(fd, (struct sockaddr *)&sa, sizeof(sa));
	umask(old);
	if (r < 0)
		return err_sys(e, errno, "bind '%s'", path);
	if (listen(fd, SOMAXCONN) < 0)
		return err_sys(e, errno, "listen on '%s'", path);
	return TAKE_FD(fd);
}

int rpc_peer(int fd, struct ucred *ret)
{
	socklen_t len = sizeof(*ret);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, ret, &len) < 0 ? -errno : 0;
}

/* -- bytes and fds -------------------------------------------------------------------------------- */

static void put_head(char *p, size_t len, unsigned int n_fds)
{
	uint32_t h[2] = { htole32((uint32_t)len), htole32(n_fds) };

	memcpy(p, h, sizeof(h));
}

/* One sendmsg, with fds beside the bytes when n_fds > 0. */
static ssize_t send_some(int fd, const char *p, size_t len, const int *fds, unsigned int n_fds,
			 int flags)
{
	union {
		char space[CMSG_SPACE(sizeof(int) * RPC_FDS_MAX)];
		struct cmsghdr align;
	} control = { 0 };
	struct iovec iov = { .iov_base = (void *)p, .iov_len = len };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	if (n_fds) {
		struct cmsghdr *c;

		m.msg_control = control.space;
		m.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * n_fds);
	}
	do {
		n = sendmsg(fd, &m, MSG_NOSIGNAL | flags);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

/* One recvmsg; fds go to f while there is room and are closed otherwise. */
static ssize_t recv_some(int fd, void *p, size_t len, struct rpc_frame *f)
{
	union {
		char space[CMSG_SPACE(sizeof(int) * RPC_FDS_MAX)];
		struct cmsghdr align;
	} control;
	struct iovec iov = { .iov_base = p, .iov_len = len };
	struct msghdr m = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.space,
		.msg_controllen = sizeof(control.space),
	};
	ssize_t n;

	do {
		n = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < count; i++) {
			int got;

			memcpy(&got, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (f->n_fds < RPC_FDS_MAX)
				f->fds[f->n_fds++] = got;
			else
				safe_close(got);
		}
	}
	return n;
}

/* Length of the text that the head announces, or -EPROTO. */
static ssize_t head_len(const uint8_t head[8], unsigned int *n_fds)
{
	uint32_t h[2];

	memcpy(h, head, sizeof(h));
	if (le32toh(h[0]) > RPC_TEXT_MAX || le32toh(h[1]) > RPC_FDS_MAX)
		return -EPROTO;
	*n_fds = le32toh(h[1]);
	return (ssize_t)le32toh(h[0]);
}

/* -- blocking ------------------------------------------------------------------------------------- */

int rpc_send(int fd, const char *text, size_t len, const int *fds, unsigned int n_fds)
{
	_cleanup_(freep) char *msg = NULL;

	if (len > RPC_TEXT_MAX || n_fds > RPC_FDS_MAX)
		return -EMSGSIZE;
	msg = malloc(len + 8);
	if (!msg)
		return -ENOMEM;
	put_head(msg, len, n_fds);
	memcpy(msg + 8, text, len);
	for (size_t off = 0; off < len + 8;) {
		ssize_t n = send_some(fd, msg + off, len + 8 - off, fds, off ? 0 : n_fds, 0);

		if (n == -EAGAIN) {
			struct pollfd p = { .fd = fd, .events = POLLOUT };

			poll(&p, 1, -1);
			continue;
		}
		if (n < 0)
			return (int)n;
		off += (size_t)n;
	}
	return 0;
}

static int wait_readable(int fd, nsec_t deadline)
{
	for (;;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		nsec_t left = deadline == NSEC_FOREVER ? NSEC_FOREVER : deadline - now_mono();
		int ms = left == NSEC_FOREVER ? -1
					      : (int)CLAMP(DIV_ROUND_UP(left, NSEC_PER_MSEC),
							   (nsec_t)0, (nsec_t)INT_MAX);
		int n = poll(&p, 1, ms);

		if (n > 0)
			return 0;
		if (n == 0)
			return -ETIMEDOUT;
		if (errno != EINTR)
			return -errno;
	}
}

/* Exactly len bytes.  *any tells whether a byte came before the peer closed. */
static int recv_exact(int fd, void *p, size_t len, nsec_t deadline, struct rpc_frame *f, bool *any)
{
	for (size_t off = 0; off < len;) {
		ssize_t n;
		int r = wait_readable(fd, deadline);

		if (r < 0)
			return r;
		n = recv_some(fd, (char *)p + off, len - off, f);
		if (n == -EAGAIN)
			continue;
		if (n < 0)
			return (int)n;
		if (n == 0)
			return *any ? -EPROTO : -ENODATA;
		*any = true;
		off += (size_t)n;
	}
	return 0;
}

int rpc_recv(int fd, nsec_t timeout, struct rpc_frame *f)
{
	nsec_t deadline = timeout == NSEC_FOREVER ? NSEC_FOREVER : now_mono() + timeout;
	unsigned int n_fds = 0;
	uint8_t head[8];
	bool any = false;
	ssize_t len;
	int r;

	*f = (struct rpc_frame){ 0 };
	r = recv_exact(fd, head, sizeof(head), deadline, f, &any);
	if (r == 0) {
		len = head_len(head, &n_fds);
		r = len < 0 ? (int)len : buf_reserve(&f->text, (size_t)len);
		if (r == 0)
			r = recv_exact(fd, f->text.s, (size_t)len, deadline, f, &any);
		if (r == 0) {
			f->text.len = (size_t)len;
			f->text.s[len] = '\0';
			r = f->n_fds == n_fds ? 0 : -EPROTO;
		}
	}
	if (r < 0)
		rpc_frame_done(f);
	return r;
}

/* -- on a loop ------------------------------------------------------------------------------------ */

static void conn_fail(struct rpc_conn *c, int r)
{
	rpc_conn_close(c);
	c->on_closed(c, r);
}

/* Send what the socket takes; -EAGAIN when some is left. */
static int flush(struct rpc_conn *c)
{
	struct out_frame *o;

	while ((o = list_first_entry(&c->out, struct out_frame, node))) {
		ssize_t n = send_some(c->fd, o->data + o->sent, o->len - o->sent, o->fds, o->n_fds,
				      MSG_DONTWAIT);

		if (n < 0)
			return (int)n;
		for (unsigned int i = 0; i < o->n_fds; i++)
			safe_close(o->fds[i]);
		o->n_fds = 0;
		o->sent += (size_t)n;
		c->out_bytes -= (size_t)n;
		if (o->sent == o->len) {
			list_del(&o->node);
			free(o);
		}
	}
	return 0;
}

/* One frame further, or -EAGAIN, 0 at the end of the stream, other -errno; 1: a frame is complete. */
static int read_frame(struct rpc_conn *c)
{
	unsigned int n_fds = 0;
	ssize_t n, len;

	while (c->head_len < sizeof(c->head)) {
		n = recv_some(c->fd, c->head + c->head_len, sizeof(c->head) - c->head_len, &c->in);
		if (n < 0)
			return (int)n;
		if (n == 0)
			return c->head_len ? -EPROTO : 0;
		c->head_len += (size_t)n;
	}
	len = head_len(c->head, &n_fds);
	if (len < 0)
		return (int)len;
	if (buf_reserve(&c->in.text, (size_t)len - c->in.text.len) < 0)
		return -ENOMEM;
	while (c->in.text.len < (size_t)len) {
		n = recv_some(c->fd, c->in.text.s + c->in.text.len, (size_t)len - c->in.text.len,
			      &c->in);
		if (n < 0)
			return (int)n;
		if (n == 0)
			return -EPROTO;
		c->in.text.len += (size_t)n;
	}
	c->in.text.s[c->in.text.len] = '\0';
	c->head_len = 0;
	return c->in.n_fds == n_fds ? 1 : -EPROTO;
}

static void on_readable(struct rpc_conn *c)
{
	bool alive = true;

	c->alive = &alive;
	for (int budget = 16; budget > 0; budget--) {
		int r = read_frame(c);

		if (r == 1) {
			struct rpc_frame f = c->in;

			c->in = (struct rpc_frame){ 0 };
			c->on_frame(c, &f);
			rpc_frame_done(&f);
			if (!alive)
				return;
			continue;
		}
		if (r == -EAGAIN)
			break;
		conn_fail(c, r);
		return;
	}
	c->alive = NULL;
}

static void on_event(struct watch *w, uint32_t events)
{
	struct rpc_conn *c = w->data;

	if (events & EPOLLOUT) {
		int r = flush(c);

		if (r < 0 && r != -EAGAIN) {
			conn_fail(c, r);
			return;
		}
		if (r == 0)
			watch_modify(&c->watch, EPOLLIN);
	}
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		on_readable(c);
}

int rpc_conn_open(struct rpc_conn *c, struct loop *l, int fd, rpc_frame_fn *on_frame,
		  rpc_closed_fn *on_closed)
{
	int flags = fcntl(fd, F_GETFL), r;

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	c->watch.data = c;
	r = watch_fd(l, &c->watch, "rpc", fd, EPOLLIN, on_event);
	if (r < 0)
		return r;
	c->fd = fd;
	c->on_frame = on_frame;
	c->on_closed = on_closed;
	c->in = (struct rpc_frame){ 0 };
	c->head_len = 0;
	c->alive = NULL;
	c->out_bytes = 0;
	list_init(&c->out);
	return 0;
}

static void out_free(struct out_frame *o)
{
	if (!o)
		return;
	for (unsigned int i = 0; i < o->n_fds; i++)
		safe_close(o->fds[i]);
	free(o);
}
DEFINE_CLEANUP(struct out_frame *, out_free);

int rpc_conn_send(struct rpc_conn *c, const char *text, size_t len, const int *fds,
		  unsigned int n_fds)
{
	_cleanup_(out_freep) struct out_frame *o = NULL;
	int r;

	if (!watch_active(&c->watch))
		return -EPIPE;
	if (len > RPC_TEXT_MAX || n_fds > RPC_FDS_MAX)
		return -EMSGSIZE;
	if (c->out_bytes + len > QUEUE_MAX)
		return -ENOBUFS;
	o = malloc(sizeof(*o) + len + 8);
	if (!o)
		return -ENOMEM;
	o->n_fds = 0;
	for (unsigned int i = 0; i < n_fds; i++) {
		int copy = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);

		if (copy < 0)
			return -errno;
		o->fds[o->n_fds++] = copy;
	}
	put_head(o->data, len, n_fds);
	memcpy(o->data + 8, text, len);
	o->len = len + 8;
	o->sent = 0;
	c->out_bytes += o->len;
	list_add_tail(&c->out, &o->node);
	o = NULL;
	r = flush(c);
	/* a dead peer shows up as EPOLLHUP; on_closed belongs to the loop, not to the sender's stack */
	return r < 0 ? watch_modify(&c->watch, EPOLLIN | EPOLLOUT) : 0;
}

void rpc_conn_close(struct rpc_conn *c)
{
	struct list *n;

	if (!c || !watch_active(&c->watch))
		return;
	watch_remove(&c->watch);
	c->fd = safe_close(c->fd);
	rpc_frame_done(&c->in);
	while ((n = list_pop(&c->out)))
		out_free(list_entry(n, struct out_frame, node));
	if (c->alive)
		*c->alive = false;
	c->alive = NULL;
}
