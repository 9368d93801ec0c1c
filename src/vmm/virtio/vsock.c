/* virtio-vsock: stream sockets between guest and host.           Spec: virtio 1.2, 5.10.
 *
 * Two back ends.  Without a socket path the kernel's vhost-vsock: the host's AF_VSOCK reaches the guest by its cid.
 * With a path, all in this process, and no kernel support is needed:
 *	guest connects to (2, P)        we connect to the unix socket "<path>_P"
 *	host connects to <path>         says "CONNECT P\n", gets "OK <port>\n" when the guest has accepted
 *
 * In the latter each connection is a unix socket and its credit.  What has to go to the guest is kept as bits and as
 * readable sockets on a ready list; packets are made only when a receive buffer is there, straight into it, one a
 * connection in turn.  What comes from the guest is written at once; the rest waits in a buffer of at most BUF_ALLOC,
 * which is the credit that the guest has.  Bounds: CONNS_MAX connections, REFUSALS_MAX unsent refusals; then the
 * transmit queue waits for the receive queue.
 *
 * Connections do not survive a restore: the guest is told by the event queue. */
#define LOG_MODULE "virtio-vsock"
#include <linux/virtio_ids.h>
#include <linux/virtio_vsock.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include "base/buf.h"
#include "base/hmap.h"
#include "base/list.h"
#include "base/log.h"
#include "base/save.h"
#include "base/str.h"
#include "sys/vhost.h"
#include "vmm/devices.h"
#include "vmm/iothread.h"
#include "vmm/virtio/vhost.h"
#include "vmm/virtio/virtio.h"
#include "vmm/vm.h"

#define QUEUE_SIZE   128
#define HOST_CID     2U
#define HDR	     sizeof(struct virtio_vsock_hdr)
#define BUF_ALLOC    (256U * 1024)
#define CONNS_MAX    1024
#define REFUSALS_MAX 64
#define HELLO_MAX    32 /* "CONNECT 4294967295\n" */
#define HELLO_TIME   (10 * NSEC_PER_SEC)
#define FIRST_PORT   (1U << 30) /* of host ends that have no port of their own */

enum { Q_RX, Q_TX, Q_EVENT, N_QUEUES };

enum conn_state { CONN_HELLO, CONN_ASKED, CONN_OPEN };

enum { SEND_REQUEST = 1, SEND_RESPONSE = 2, SEND_CREDIT = 4, SEND_SHUTDOWN = 8 };

struct conn {
	struct vsock *vs;
	struct hnode node; /* by ports; not for CONN_HELLO */
	struct list all, ready;
	enum conn_state state;
	uint32_t guest_port, host_port;
	int fd;
	struct watch watch;
	struct timer timer;	/* hello, and the guest's answer */
	struct buf out;		/* guest's bytes that the socket did not take yet */
	uint32_t fwd, fwd_told; /* bytes given to the socket, and as last told the guest */
	uint32_t sent, peer_alloc, peer_fwd; /* credit for the guest */
	uint8_t send;			     /* SEND_* */
	bool readable;			     /* the socket may have bytes */
	bool host_done, guest_done;	     /* no more bytes from there */
	bool shut;			     /* the socket was told that the guest is done */
	bool gone; /* both directions have ended: reset when `out` is empty */
};

struct vsock {
	struct virtio_dev v; /* first */
	struct virtio_vsock_config config;
	int vhost; /* -1: our own */
	int listen_fd;
	char *path;
	struct watch listen_watch;
	struct hmap by_ports;
	struct list conns, ready;
	unsigned int n_conns;
	uint32_t next_port;
	struct virtio_vsock_hdr refusals[REFUSALS_MAX];
	unsigned int n_refusals;
	struct vq_chain rx, tx;
	bool running;
	bool announce_reset; /* the event queue owes the driver a transport reset; saved as true when there were connections */
	uint64_t n_connects, n_accepts, n_resets, bytes_in, bytes_out;
};

static struct vsock *vsock_of(struct virtio_dev *v)
{
	return container_of(v, struct vsock, v);
}

static void count(uint64_t *x, uint64_t n)
{
	__atomic_store_n(x, *x + n, __ATOMIC_RELAXED);
}

static uint32_t guest_cid(const struct vsock *vs)
{
	return (uint32_t)le64toh(vs->config.guest_cid);
}

/* -- connections ---------------------------------------------------------------------------------- */

static uint64_t ports_hash(uint32_t guest_port, uint32_t host_port)
{
	return hash_u64((uint64_t)guest_port << 32 | host_port);
}

static struct conn *conn_find(struct vsock *vs, uint32_t guest_port, uint32_t host_port)
{
	hmap_for_each(n, &vs->by_ports, ports_hash(guest_port, host_port)) {
		struct conn *c = container_of(n, struct conn, node);

		if (c->guest_port == guest_port && c->host_port == host_port)
			return c;
	}
	return NULL;
}

/* Takes fd over also when it fails. */
static struct conn *conn_new(struct vsock *vs, int fd)
{
	struct conn *c = vs->n_conns < CONNS_MAX ? calloc(1, sizeof(*c)) : NULL;

	if (!c) {
		log_warn_rl(&vs->v.log_rl, "too many connections", "device", vs->v.pd.dev.id);
		safe_close(fd);
		return NULL;
	}
	c->vs = vs;
	c->fd = fd;
	list_add_tail(&vs->conns, &c->all);
	list_init(&c->ready);
	vs->n_conns++;
	return c;
}

static void conn_free(struct conn *c)
{
	struct vsock *vs = c->vs;

	if (c->state != CONN_HELLO)
		hmap_remove(&vs->by_ports, &c->node);
	watch_remove(&c->watch);
	timer_stop(&c->timer);
	list_del(&c->all);
	list_del(&c->ready);
	safe_close(c->fd);
	buf_done(&c->out);
	free(c);
	vs->n_conns--;
}

static void conn_ready(struct conn *c)
{
	if (list_empty(&c->ready))
		list_add_tail(&c->vs->ready, &c->ready);
}

static struct virtio_vsock_hdr make_header(const struct vsock *vs, uint16_t op, uint32_t host_port,
					   uint32_t guest_port)
{
	return (struct virtio_vsock_hdr){
		.src_cid = htole64(HOST_CID),
		.dst_cid = vs->config.guest_cid,
		.src_port = htole32(host_port),
		.dst_port = htole32(guest_port),
		.type = htole16(VIRTIO_VSOCK_TYPE_STREAM),
		.op = htole16(op),
	};
}

/* A refusal that needs no connection.  Room was checked before the packet was taken. */
static void refuse(struct vsock *vs, uint32_t host_port, uint32_t guest_port)
{
	if (vs->n_refusals < REFUSALS_MAX)
		vs->refusals[vs->n_refusals++] =
			make_header(vs, VIRTIO_VSOCK_OP_RST, host_port, guest_port);
	count(&vs->n_resets, 1);
}

static void conn_reset(struct conn *c)
{
	if (c->state != CONN_HELLO)
		refuse(c->vs, c->host_port, c->guest_port);
	conn_free(c);
}

/* -- host to guest -------------------------------------------------------------------------------- */

static uint32_t credit(const struct conn *c)
{
	uint32_t used = c->sent - c->peer_fwd;

	return used < c->peer_alloc ? c->peer_alloc - used : 0;
}

static void put_header(struct conn *c, struct vq_chain *rx, struct virtio_vsock_hdr *h)
{
	h->buf_alloc = htole32(BUF_ALLOC);
	h->fwd_cnt = htole32(c->fwd);
	c->fwd_told = c->fwd;
	vq_write(rx, 0, h, HDR);
}

/* Bytes of the socket into the chain behind the header: their number, 0 at the end, -EAGAIN. */
static ssize_t read_socket(struct conn *c, struct vq_chain *rx)
{
	struct iovec iov[VQ_MAX_SEG];
	uint64_t room = MIN(rx->in_len - HDR, (uint64_t)MIN(credit(c), 65536U));
	int n = vq_slice(rx->iov + rx->n_out, rx->n_in, HDR, room, iov, VQ_MAX_SEG);
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = n > 0 ? (size_t)n : 0 };
	ssize_t r;

	if (n <= 0)
		return -EAGAIN;
	r = recvmsg(c->fd, &m, MSG_DONTWAIT);
	return r < 0 ? (errno == EAGAIN || errno == EINTR ? -EAGAIN : 0) : r;
}

/* One packet for the guest into rx: its length; 0: this connection has nothing now. */
static uint32_t make_packet(struct conn *c, struct vq_chain *rx)
{
	static const struct {
		uint8_t bit;
		uint16_t op;
	} ops[] = { { SEND_REQUEST, VIRTIO_VSOCK_OP_REQUEST },
		    { SEND_RESPONSE, VIRTIO_VSOCK_OP_RESPONSE },
		    { SEND_CREDIT, VIRTIO_VSOCK_OP_CREDIT_UPDATE } };
	struct virtio_vsock_hdr h = make_header(c->vs, 0, c->host_port, c->guest_port);

	for (unsigned int i = 0; i < ARRAY_SIZE(ops); i++) {
		if (!(c->send & ops[i].bit))
			continue;
		c->send &= (uint8_t)~ops[i].bit;
		h.op = htole16(ops[i].op);
		put_header(c, rx, &h);
		return HDR;
	}
	if (c->state == CONN_OPEN && c->readable && !c->host_done && credit(c) > 0 &&
	    rx->in_len > HDR) {
		ssize_t n = read_socket(c, rx);

		if (n > 0) {
			h.op = htole16(VIRTIO_VSOCK_OP_RW);
			h.len = htole32((uint32_t)n);
			c->sent += (uint32_t)n;
			count(&c->vs->bytes_in, (uint64_t)n);
			put_header(c, rx, &h);
			return (uint32_t)HDR + (uint32_t)n;
		}
		c->readable = false;
		if (n == 0) {
			c->host_done = true;
			c->send |= SEND_SHUTDOWN;
		}
	}
	if (c->send & SEND_SHUTDOWN) {
		c->send &= (uint8_t)~SEND_SHUTDOWN;
		h.op = htole16(VIRTIO_VSOCK_OP_SHUTDOWN);
		h.flags = htole32(VIRTIO_VSOCK_SHUTDOWN_SEND |
				  (c->guest_done ? VIRTIO_VSOCK_SHUTDOWN_RCV : 0U));
		put_header(c, rx, &h);
		return HDR;
	}
	return 0;
}

/* Fill receive buffers as long as there are some and something to say. */
static void pump(struct vsock *vs)
{
	struct virtio_queue *q = &vs->v.q[Q_RX];
	struct vq_chain *rx = &vs->rx;

	if (!q->running)
		return;
	while (vs->n_refusals || !list_empty(&vs->ready)) {
		uint32_t len;

		if (!virtio_queue_pop(q, rx)) {
			if (vq_kick_on(&q->vq))
				continue;
			break; /* the rest when the driver has given buffers */
		}
		if (rx->in_len < HDR) {
			virtio_needs_reset(&vs->v, "receive buffer smaller than a header", Q_RX);
			vq_push(&q->vq, rx, 0);
			break;
		}
		if (vs->n_refusals) {
			vq_write(rx, 0, &vs->refusals[--vs->n_refusals], HDR);
			len = HDR;
		} else {
			struct conn *c = list_first_entry(&vs->ready, struct conn, ready);

			list_del(&c->ready);
			len = make_packet(c, rx);
			if (len) /* perhaps more: behind the others */
				conn_ready(c);
		}
		if (len)
			vq_push(&q->vq, rx, len);
		else
			vq_unpop(&q->vq, rx);
	}
	virtio_queue_commit(q);
}

/* -- guest to host -------------------------------------------------------------------------------- */

/* Push what waits into the socket.  False: the connection is gone. */
static bool flush_out(struct conn *c)
{
	while (c->out.len > 0) {
		ssize_t n = send(c->fd, c->out.s, c->out.len, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		if (n < 0) {
			conn_reset(c);
			return false;
		}
		buf_consume(&c->out, (size_t)n);
		c->fwd += (uint32_t)n;
	}
	if (c->out.len == 0 && c->gone) {
		conn_reset(c);
		return false;
	}
	if (c->out.len == 0 && c->guest_done && !c->shut) {
		c->shut = true; /* once: each shutdown() is an event of the socket again */
		shutdown(c->fd, SHUT_WR);
	}
	if (c->fwd - c->fwd_told >= BUF_ALLOC / 2) {
		c->send |= SEND_CREDIT;
		conn_ready(c);
	}
	return true;
}

static void take_data(struct conn *c, const struct vq_chain *tx, uint32_t len)
{
	struct iovec iov[VQ_MAX_SEG];
	int n = vq_slice(tx->iov, tx->n_out, HDR, len, iov, VQ_MAX_SEG);
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = n > 0 ? (size_t)n : 0 };
	ssize_t r = 0;
	size_t skip;

	/* more than the credit allows, or after it said that there will be no more */
	if (n < 0 || c->guest_done || len > BUF_ALLOC - c->out.len) {
		conn_reset(c);
		return;
	}
	if (n == 0)
		return;
	if (c->out.len == 0) {
		r = sendmsg(c->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (r < 0 && errno != EAGAIN && errno != EINTR) {
			conn_reset(c);
			return;
		}
	}
	skip = r > 0 ? (size_t)r : 0;
	c->fwd += (uint32_t)skip;
	count(&c->vs->bytes_out, len);
	for (int i = 0; i < n; i++) {
		size_t cut = MIN(skip, iov[i].iov_len);

		skip -= cut;
		if (cut < iov[i].iov_len)
			buf_add(&c->out, (uint8_t *)iov[i].iov_base + cut, iov[i].iov_len - cut);
	}
	if (buf_error(&c->out)) {
		conn_reset(c);
		return;
	}
	flush_out(c);
}

static void on_socket(struct watch *w, uint32_t events)
{
	struct conn *c = w->data;
	struct vsock *vs = c->vs;

	if (c->state == CONN_OPEN && (events & EPOLLOUT) && !flush_out(c)) {
		pump(vs);
		return;
	}
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
		c->readable = true;
		conn_ready(c);
	}
	pump(vs);
}

static bool watch_conn(struct conn *c)
{
	c->watch.data = c;
	return watch_fd(c->vs->v.q[Q_RX].loop, &c->watch, "vsock", c->fd,
			EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, on_socket) == 0;
}

/* The guest wants "<path>_<port>". */
static void guest_connects(struct vsock *vs, uint32_t guest_port, uint32_t host_port,
			   const struct virtio_vsock_hdr *h)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	_cleanup_(closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct conn *c;

	if (fd < 0 ||
	    snprintf(sa.sun_path, sizeof(sa.sun_path), "%s_%u", vs->path, host_port) >=
		    (int)sizeof(sa.sun_path) ||
	    connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ||
	    !(c = conn_new(vs, TAKE_FD(fd)))) {
		refuse(vs, host_port, guest_port);
		return;
	}
	c->state = CONN_OPEN;
	c->guest_port = guest_port;
	c->host_port = host_port;
	c->peer_alloc = le32toh(h->buf_alloc);
	c->peer_fwd = le32toh(h->fwd_cnt);
	hmap_add(&vs->by_ports, &c->node, ports_hash(guest_port, host_port));
	if (!watch_conn(c)) {
		conn_reset(c);
		return;
	}
	c->send |= SEND_RESPONSE;
	conn_ready(c);
	count(&vs->n_connects, 1);
}

/* The guest accepted what a client of ours asked for. */
static void guest_accepted(struct conn *c)
{
	char ok[32];
	int n = snprintf(ok, sizeof(ok), "OK %u\n", c->host_port);

	timer_stop(&c->timer);
	c->state = CONN_OPEN;
	if (send(c->fd, ok, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL) != n) {
		conn_reset(c);
		return;
	}
	c->readable = true;
	conn_ready(c);
	count(&c->vs->n_accepts, 1);
}

static void guest_shuts_down(struct conn *c, uint32_t flags)
{
	if (flags & VIRTIO_VSOCK_SHUTDOWN_RCV) {
		c->host_done = true; /* nothing more can be given to it */
		c->send &= (uint8_t)~SEND_SHUTDOWN;
	}
	if (flags & VIRTIO_VSOCK_SHUTDOWN_SEND)
		c->guest_done = true;
	c->gone = c->host_done && c->guest_done;
	flush_out(c);
}

static void on_packet(struct vsock *vs, const struct vq_chain *tx, const struct virtio_vsock_hdr *h)
{
	uint32_t guest_port = le32toh(h->src_port), host_port = le32toh(h->dst_port),
		 len = le32toh(h->len);
	uint16_t op = le16toh(h->op);
	struct conn *c;

	if (le64toh(h->src_cid) != guest_cid(vs)) /* somebody else's name: no answer (5.10.6.4.2) */
		return;
	c = le64toh(h->dst_cid) == HOST_CID && le16toh(h->type) == VIRTIO_VSOCK_TYPE_STREAM
		    ? conn_find(vs, guest_port, host_port)
		    : NULL;
	if (!c) {
		if (op == VIRTIO_VSOCK_OP_REQUEST && le64toh(h->dst_cid) == HOST_CID &&
		    le16toh(h->type) == VIRTIO_VSOCK_TYPE_STREAM)
			guest_connects(vs, guest_port, host_port, h);
		else if (op != VIRTIO_VSOCK_OP_RST)
			refuse(vs, host_port, guest_port);
		return;
	}
	c->peer_alloc = le32toh(h->buf_alloc);
	c->peer_fwd = le32toh(h->fwd_cnt);
	switch (op) {
	case VIRTIO_VSOCK_OP_RST:
		conn_free(c);
		return;
	case VIRTIO_VSOCK_OP_RESPONSE:
		if (c->state == CONN_ASKED)
			guest_accepted(c);
		else
			conn_reset(c);
		return;
	case VIRTIO_VSOCK_OP_RW:
		if (c->state == CONN_OPEN)
			take_data(c, tx, len);
		else
			conn_reset(c);
		return;
	case VIRTIO_VSOCK_OP_SHUTDOWN:
		guest_shuts_down(c, le32toh(h->flags));
		return;
	case VIRTIO_VSOCK_OP_CREDIT_REQUEST:
		c->send |= SEND_CREDIT;
		conn_ready(c);
		return;
	case VIRTIO_VSOCK_OP_CREDIT_UPDATE:
		conn_ready(c); /* it may go on */
		return;
	default: /* REQUEST on an open connection, or nonsense */
		conn_reset(c);
	}
}

static void run_tx(struct vsock *vs)
{
	struct virtio_queue *q = &vs->v.q[Q_TX];
	struct vq_chain *tx = &vs->tx;

	for (int round = 0; round < VIRTIO_RUN_ROUNDS; round++) {
		vq_kick_off(&q->vq);
		/* a packet may cost a refusal: without room for one it waits for receive buffers */
		while (vs->n_refusals < REFUSALS_MAX && virtio_queue_pop(q, tx)) {
			struct virtio_vsock_hdr h;

			if (vq_read(tx, 0, &h, HDR) == 0 && le32toh(h.len) <= tx->out_len - HDR)
				on_packet(vs, tx, &h);
			vq_push(&q->vq, tx, 0);
		}
		virtio_queue_commit(q);
		pump(vs);
		if (vs->n_refusals == REFUSALS_MAX || !vq_kick_on(&q->vq))
			return;
	}
	virtio_queue_again(q);
}

/* -- clients of the host -------------------------------------------------------------------------- */

static void on_timeout(struct timer *t)
{
	struct conn *c = t->data;
	struct vsock *vs = c->vs;

	conn_reset(c);
	pump(vs);
}

static uint32_t free_port(struct vsock *vs, uint32_t guest_port)
{
	do {
		if (++vs->next_port < FIRST_PORT)
			vs->next_port = FIRST_PORT;
	} while (conn_find(vs, guest_port, vs->next_port));
	return vs->next_port;
}

/* "CONNECT 1234\n", and not a byte beyond it. */
static void on_hello(struct watch *w, uint32_t events)
{
	struct conn *c = w->data;
	char line[HELLO_MAX + 1] = { 0 };
	ssize_t n = recv(c->fd, line, HELLO_MAX, MSG_PEEK | MSG_DONTWAIT);
	char *end = n > 0 ? memchr(line, '\n', (size_t)n) : NULL;
	uint64_t port;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (!end && n > 0 && n < HELLO_MAX && !(events & (EPOLLHUP | EPOLLRDHUP)))
		return; /* the rest comes */
	if (end) {
		n = recv(c->fd, line, (size_t)(end - line) + 1, MSG_DONTWAIT);
		line[n > 0 ? n - 1 : 0] = '\0';
	}
	if (!end || strncmp(line, "CONNECT ", 8) != 0 ||
	    parse_u64(line + 8, UINT32_MAX, &port) < 0) {
		conn_free(c);
		return;
	}
	watch_remove(&c->watch);
	c->guest_port = (uint32_t)port;
	c->host_port = free_port(c->vs, c->guest_port);
	c->state = CONN_ASKED;
	hmap_add(&c->vs->by_ports, &c->node, ports_hash(c->guest_port, c->host_port));
	if (!watch_conn(c)) {
		conn_free(c);
		return;
	}
	c->send |= SEND_REQUEST;
	conn_ready(c);
	pump(c->vs);
}

static void on_client(struct watch *w, uint32_t events)
{
	struct vsock *vs = w->data;
	int fd = accept4(vs->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct conn *c = fd < 0 ? NULL : conn_new(vs, fd);

	if (!c)
		return;
	c->watch.data = c;
	c->timer.data = c;
	if (watch_fd(vs->v.q[Q_RX].loop, &c->watch, "vsock hello", fd, EPOLLIN | EPOLLRDHUP,
		     on_hello) < 0 ||
	    timer_start(vs->v.q[Q_RX].loop, &c->timer, "vsock hello", HELLO_TIME, 0, on_timeout) <
		    0)
		conn_free(c);
}

/* -- queues --------------------------------------------------------------------------------------- */

static void run_event(struct vsock *vs, struct virtio_queue *q)
{
	struct virtio_vsock_event ev = { htole32(VIRTIO_VSOCK_EVENT_TRANSPORT_RESET) };

	do {
		while (vs->announce_reset && virtio_queue_pop(q, &vs->rx)) {
			vs->announce_reset = vq_write(&vs->rx, 0, &ev, sizeof(ev)) < 0;
			vq_push(&q->vq, &vs->rx, sizeof(ev));
			if (vs->announce_reset) {
				virtio_needs_reset(&vs->v, "event buffer too small", Q_EVENT);
				return;
			}
		}
		virtio_queue_commit(q);
	} while (vs->announce_reset && vq_kick_on(&q->vq));
}

static void run(struct virtio_queue *q)
{
	struct vsock *vs = vsock_of(q->v);
	bool held = vs->n_refusals == REFUSALS_MAX;

	switch (q->index) {
	case Q_RX:
		pump(vs);
		if (held && vs->n_refusals < REFUSALS_MAX)
			virtio_queue_run(&vs->v.q[Q_TX]);
		break;
	case Q_TX:
		run_tx(vs);
		break;
	case Q_EVENT:
		run_event(vs, q);
		break;
	}
}

static void queue_start(struct virtio_queue *q)
{
	struct vsock *vs = vsock_of(q->v);
	struct conn *c, *tmp;

	if (q->index != Q_RX)
		return;
	vs->running = true;
	vs->listen_watch.data = vs;
	if (watch_fd(q->loop, &vs->listen_watch, "vsock listen", vs->listen_fd, EPOLLIN,
		     on_client) < 0)
		log_warn("vsock clients cannot be accepted", "device", vs->v.pd.dev.id);
	list_for_each_entry_safe(c, tmp, &vs->conns, all) {
		if (!watch_conn(c)) {
			conn_reset(c);
			continue;
		}
		if (c->state == CONN_ASKED) {
			c->timer.data = c;
			timer_start(q->loop, &c->timer, "vsock connect", HELLO_TIME, 0, on_timeout);
		}
	}
}

/* Connections stay, silent; those that have not said what they want are not worth keeping. */
static void queue_stop(struct virtio_queue *q)
{
	struct vsock *vs = vsock_of(q->v);
	struct conn *c, *tmp;

	if (q->index != Q_RX)
		return;
	vs->running = false;
	watch_remove(&vs->listen_watch);
	list_for_each_entry_safe(c, tmp, &vs->conns, all) {
		if (c->state == CONN_HELLO) {
			conn_free(c);
			continue;
		}
		watch_remove(&c->watch);
		timer_stop(&c->timer);
	}
}

static void forget_all(struct vsock *vs)
{
	struct conn *c, *tmp;

	list_for_each_entry_safe(c, tmp, &vs->conns, all)
		conn_free(c);
	vs->n_refusals = 0;
}

static int start(struct virtio_dev *v, struct err **e)
{
	struct vsock *vs = vsock_of(v);
	uint64_t mask;
	int r;

	if (vs->vhost < 0)
		return 0;
	r = vhost_features(vs->vhost, &mask);
	if (r < 0)
		return err_sys(e, -r, "read vhost features");
	r = vhost_dev_start(v, vs->vhost, mask, e);
	for (unsigned int i = Q_RX; r == 0 && i <= Q_TX; i++)
		r = vhost_queue_start(&v->q[i], vs->vhost, i, e);
	if (r == 0 && (r = vhost_vsock_set_running(vs->vhost, true)) < 0)
		err_sys(e, -r, "start vhost-vsock");
	return r;
}

static void stop(struct virtio_dev *v)
{
	struct vsock *vs = vsock_of(v);

	if (vs->vhost < 0)
		return;
	vhost_vsock_set_running(vs->vhost, false);
	for (unsigned int i = Q_RX; i <= Q_TX; i++)
		vhost_queue_stop(&v->q[i], vs->vhost, i);
}

static void reset(struct virtio_dev *v)
{
	struct vsock *vs = vsock_of(v);

	forget_all(vs);
	vs->announce_reset = false;
}

static const struct virtio_kind vsock_kind = {
	.name = "vsock",
	.id = VIRTIO_ID_VSOCK,
	.class_code = 0x028000, /* network controller, other */
	.start = start,
	.stop = stop,
	.reset = reset,
	.queue_start = queue_start,
	.queue_stop = queue_stop,
	.run = run,
};

/* -- life ----------------------------------------------------------------------------------------- */

static int listen_at(struct vsock *vs, const char *path, struct err **e)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	_cleanup_(closep) int fd = -1;
	struct stat st;
	mode_t mask;
	int r;

	/* "_4294967295" has to fit behind it */
	if (strlen(path) + 11 >= sizeof(sa.sun_path))
		return err_set(e, ENAMETOOLONG, "vsock.path", "socket path '%s' is too long", path);
	strcpy(sa.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_sys(e, errno, "make a socket for '%s'", path);
	if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode)) {
		_cleanup_(closep) int probe =
			socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

		if (connect(probe, (struct sockaddr *)&sa, sizeof(sa)) == 0)
			return err_set(e, EADDRINUSE, "vsock.in_use", "socket '%s' is in use",
				       path);
		unlink(path);
	}
	mask = umask(0177);
	r = bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ? errno : 0;
	umask(mask);
	if (r)
		return err_sys(e, r, "bind socket '%s'", path);
	vs->path = strdup(path);
	if (!vs->path) {
		unlink(path);
		return err_set(e, ENOMEM, "vmm.memory", "out of memory");
	}
	if (listen(fd, 64) < 0)
		return err_sys(e, errno, "listen at '%s'", path);
	vs->listen_fd = TAKE_FD(fd);
	return 0;
}

static int open_vhost(struct vsock *vs, uint32_t cid, struct err **e)
{
	int r = vhost_open("/dev/vhost-vsock", e);

	if (r < 0)
		return err_wrap(e, r, "vsock without a socket path");
	vs->vhost = r;
	return vhost_vsock_set_cid(vs->vhost, cid, e);
}

static int construct(struct dev *d, const struct vm_device *cfg, struct err **e)
{
	struct vsock *vs = vsock_of(virtio_dev_of(d));
	const struct vm_vsock *c = &cfg->vsock;
	int r;

	vs->vhost = vs->listen_fd = -1;
	list_init(&vs->conns);
	list_init(&vs->ready);
	if (c->cid < 3 || c->cid == UINT32_MAX)
		return err_set(e, EINVAL, "vsock.cid", "cid %u is reserved (3 to 4294967294)",
			       c->cid);
	if (hmap_init(&vs->by_ports) < 0)
		return err_set(e, ENOMEM, "vmm.memory", "out of memory for vsock");
	r = c->socket ? listen_at(vs, c->socket, e) : open_vhost(vs, c->cid, e);
	if (r < 0)
		return r;
	vs->config.guest_cid = htole64(c->cid);
	r = virtio_init(&vs->v, &vsock_kind, 0, &vs->config, sizeof(vs->config), e);
	if (r == 0)
		r = virtio_add_queues(&vs->v, N_QUEUES, QUEUE_SIZE, e);
	if (r == 0 && vs->vhost >= 0) {
		vs->v.features &= ~VIRTIO_BIT(VIRTIO_F_RING_RESET);
		vs->v.q[Q_RX].external = vs->v.q[Q_TX].external = true;
	}
	return r;
}

static void destruct(struct dev *d)
{
	struct vsock *vs = vsock_of(virtio_dev_of(d));

	forget_all(vs);
	hmap_done(&vs->by_ports);
	safe_close(vs->vhost);
	safe_close(vs->listen_fd);
	if (vs->path)
		unlink(vs->path);
	free(vs->path);
	virtio_done(&vs->v);
}

static void stats(struct dev *d, dev_stat_fn *put, void *arg)
{
	struct vsock *vs = vsock_of(virtio_dev_of(d));

	virtio_stats(d, put, arg);
	put(arg, "vhost", vs->vhost >= 0);
	put(arg, "connections", __atomic_load_n(&vs->n_conns, __ATOMIC_RELAXED));
	put(arg, "guest_connects", __atomic_load_n(&vs->n_connects, __ATOMIC_RELAXED));
	put(arg, "guest_accepts", __atomic_load_n(&vs->n_accepts, __ATOMIC_RELAXED));
	put(arg, "resets", __atomic_load_n(&vs->n_resets, __ATOMIC_RELAXED));
	put(arg, "bytes_in", __atomic_load_n(&vs->bytes_in, __ATOMIC_RELAXED));
	put(arg, "bytes_out", __atomic_load_n(&vs->bytes_out, __ATOMIC_RELAXED));
}

/* The cid is an argument of the VM, not state: a clone has its own, and learns it from the transport reset. */
static int after_load(void *obj, uint32_t version, struct err **e)
{
	struct vsock *vs = obj;

	forget_all(vs);
	vs->announce_reset = true;
	return 0;
}

static const struct save_field fields[] = {
	SAVE_NESTED(struct vsock, v, &virtio_save, 1),
};
static const struct save_desc vsock_save =
	SAVE_DESC("virtio-vsock", 1, 1, fields, .after_load = after_load);

const struct device_ops dev_virtio_vsock = {
	.type = "virtio-vsock",
	.instance_size = sizeof(struct vsock),
	.construct = construct,
	.destruct = destruct,
	.plug = virtio_plug,
	.unplug = virtio_unplug,
	.reset = virtio_reset,
	.quiesce = virtio_quiesce,
	.resume = virtio_resume,
	.state = &vsock_save,
	.stats = stats,
};
