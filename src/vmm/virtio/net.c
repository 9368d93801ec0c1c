/* virtio-net: a network card on a tap device.                    Spec: virtio 1.2, 5.1.
 *
 * Queues: a receive and a transmit queue per pair, then the control queue.  A pair has its own tap queue and I/O
 * loop.  The tap carries the same 12-byte header as the rings, so checksums and segmentation that guest and host
 * can do are passed through and never done here; frames go between guest memory and the kernel without a copy of
 * ours.
 *
 * Receive: buffers are popped ahead into a small queue until they can take the largest frame; read into them, push
 * what a frame filled, keep the rest for the next.  When the driver has not given enough for the largest frame, the
 * frame is read into a buffer of ours and copied.  The tap is watched edge-triggered: a pass reads until it is empty.
 *
 * With vhost-net the pairs belong to the kernel, only the control queue is ours. */
#define LOG_MODULE "virtio-net"
#include <linux/if_tun.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <string.h>
#include "base/crc.h"
#include "base/log.h"
#include "base/save.h"
#include "sys/tapq.h"
#include "sys/vhost.h"
#include "vmm/devices.h"
#include "vmm/memory.h"
#include "vmm/virtio/virtio.h"
#include "vmm/virtio/vhost.h"
#include "vmm/vm.h"

#define QUEUE_SIZE 256
#define CTL_SIZE   64
#define HEADER	   TAPQ_HEADER
#define FRAME_MAX  (HEADER + 65536 + 14 + 4) /* the largest segmentation offload, with VLAN tag */
#define AHEAD	   80  /* receive buffers popped ahead; 46 of 1526 bytes hold FRAME_MAX */
#define RX_BUDGET  256 /* frames in one pass */
#define CTL_MACS   64

struct pair {
	struct net *net;
	struct virtio_queue *rx, *tx;
	int fd; /* tap queue */
	struct watch watch;
	bool tx_blocked;	/* the tap took no more */
	struct vq_chain *ahead; /* AHEAD, a ring */
	unsigned int first, n_ahead;
	uint64_t ahead_len;    /* bytes they can take */
	uint8_t *frame;	       /* FRAME_MAX: one that had no room */
	size_t frame_len;      /* 0: none */
	struct vq_chain chain; /* for transmit */
	uint64_t rx_frames, rx_bytes, rx_dropped, tx_frames, tx_bytes, tx_dropped;
};

struct net {
	struct virtio_dev v; /* first */
	struct virtio_net_config config;
	struct pair *pair;
	unsigned int n_pairs; /* offered */
	bool is_tap;
	int vhost[VM_QUEUES_MAX]; /* a vhost-net instance for each pair; -1: ours */
	bool use_vhost;
	_Atomic bool link_down;
	struct vq_chain ctl_chain;
	/* saved */
	uint16_t active;    /* pairs that the driver uses */
	uint8_t rx_mode[8]; /* by command: promiscuous, all multicast, ... */
	uint64_t offloads;  /* 0: those negotiated */
	uint8_t mac[6];
	uint8_t link_saved;
};

static struct net *net_of(struct virtio_dev *v)
{
	return container_of(v, struct net, v);
}

static void count(uint64_t *x, uint64_t n)
{
	__atomic_store_n(x, *x + n, __ATOMIC_RELAXED);
}

/* -- receive -------------------------------------------------------------------------------------- */

static struct vq_chain *ahead_at(struct pair *p, unsigned int i)
{
	return &p->ahead[(p->first + i) % AHEAD];
}

/* Pop buffers until they can take `want` bytes; false: there are not enough. */
static bool pop_ahead(struct pair *p, uint64_t want)
{
	while (p->ahead_len < want && p->n_ahead < AHEAD) {
		struct vq_chain *c = ahead_at(p, p->n_ahead);

		if (!virtio_queue_pop(p->rx, c))
			return false;
		p->n_ahead++;
		p->ahead_len += c->in_len;
	}
	return p->ahead_len >= want;
}

static void unpop_ahead(struct pair *p)
{
	while (p->n_ahead > 0)
		vq_unpop(&p->rx->vq, ahead_at(p, --p->n_ahead));
	p->ahead_len = 0;
}

/* The first buffers hold a frame of len bytes, header included: give them to the driver. */
static void push_frame(struct pair *p, size_t len)
{
	struct vq_chain *c = ahead_at(p, 0);
	uint16_t n = 0;
	size_t left = len;

	for (unsigned int i = 0; left > 0; i++, n++)
		left -= MIN(left, (size_t)ahead_at(p, i)->in_len);
	n = htole16(n);
	/* 5.1.6.4.1: one even when buffers cannot be merged; the first 12 bytes may be in pieces */
	vq_write(c, offsetof(struct virtio_net_hdr_v1, num_buffers), &n, sizeof(n));
	for (n = le16toh(n); n > 0; n--) {
		c = ahead_at(p, 0);
		left = MIN(len, (size_t)c->in_len);
		vq_push(&p->rx->vq, c, (uint32_t)left);
		len -= left;
		p->ahead_len -= c->in_len;
		p->first = (p->first + 1) % AHEAD;
		p->n_ahead--;
	}
}

static bool mergeable(const struct pair *p)
{
	return virtio_has(&p->net->v, VIRTIO_NET_F_MRG_RXBUF);
}

/* The in segments of the buffers that one frame may use. */
static unsigned int gather(struct pair *p, struct iovec *iov, unsigned int max)
{
	unsigned int n = 0, buffers = mergeable(p) ? p->n_ahead : MIN(p->n_ahead, 1U);

	for (unsigned int i = 0; i < buffers; i++) {
		const struct vq_chain *c = ahead_at(p, i);

		for (unsigned int k = 0; k < c->n_in && n < max; k++)
			iov[n++] = c->iov[c->n_out + k];
	}
	return n;
}

/* The frame that waits in our buffer; false: still no room. */
static bool deliver_held(struct pair *p)
{
	struct iovec iov[VQ_MAX_SEG];
	unsigned int n;
	size_t off = 0, room = 0;

	if (!pop_ahead(p, mergeable(p) ? p->frame_len : 1))
		return false;
	n = gather(p, iov, VQ_MAX_SEG);
	for (unsigned int i = 0; i < n; i++)
		room += iov[i].iov_len;
	if (room < p->frame_len) {
		count(&p->rx_dropped, 1);
		p->frame_len = 0;
		return true;
	}
	for (unsigned int i = 0; i < n && off < p->frame_len; i++) {
		size_t part = MIN(iov[i].iov_len, p->frame_len - off);

		memcpy(iov[i].iov_base, p->frame + off, part);
		off += part;
	}
	count(&p->rx_frames, 1);
	count(&p->rx_bytes, p->frame_len - HEADER);
	push_frame(p, p->frame_len);
	p->frame_len = 0;
	return true;
}

/* One frame from the tap: 1; 0: the tap is empty; -ENOBUFS: no receive buffers. */
static int receive(struct pair *p)
{
	struct iovec iov[VQ_MAX_SEG];
	unsigned int n;
	ssize_t len;

	if (p->frame_len)
		return deliver_held(p) ? 1 : -ENOBUFS;
	if (!pop_ahead(p, mergeable(p) ? FRAME_MAX : 1)) {
		if (p->n_ahead == 0)
			return -ENOBUFS;
		/* perhaps enough: the frame decides */
		len = read(p->fd, p->frame, FRAME_MAX);
		if (len < HEADER)
			return len > 0;
		p->frame_len = (size_t)len;
		return deliver_held(p) ? 1 : -ENOBUFS;
	}
	if (ahead_at(p, 0)->in_len < HEADER) {
		virtio_needs_reset(&p->net->v, "receive buffer smaller than a header",
				   p->rx->index);
		return 0;
	}
	n = gather(p, iov, VQ_MAX_SEG);
	len = readv(p->fd, iov, (int)n);
	if (len < HEADER)
		return len > 0; /* an empty frame counts as one */
	count(&p->rx_frames, 1);
	count(&p->rx_bytes, (uint64_t)len - HEADER);
	push_frame(p, (size_t)len);
	return 1;
}

static void run_rx(struct pair *p)
{
	struct virtio_queue *q = p->rx;
	unsigned int n = 0;
	int r;

	if (!q->running || atomic_load_explicit(&p->net->link_down, memory_order_relaxed) ||
	    q->index / 2 >= p->net->active)
		return;
	vq_kick_off(&q->vq);
	do {
		r = receive(p);
		if (r == -ENOBUFS && vq_kick_on(&q->vq)) { /* some came in between */
			vq_kick_off(&q->vq);
			r = 1;
		}
	} while (r > 0 && ++n < RX_BUDGET);
	virtio_queue_commit(q);
	if (n == RX_BUDGET)
		virtio_queue_again(q); /* the tap may hold more, and its edge has passed */
}

/* -- transmit ------------------------------------------------------------------------------------- */

/* False: the tap takes no more now. */
static bool transmit(struct pair *p, const struct vq_chain *c)
{
	ssize_t r;

	if (c->out_len < HEADER + 14 || c->out_len > FRAME_MAX ||
	    atomic_load_explicit(&p->net->link_down, memory_order_relaxed)) {
		count(&p->tx_dropped, 1);
		return true;
	}
	r = writev(p->fd, c->iov, (int)c->n_out);
	if (r < 0 && errno == EAGAIN)
		return false;
	if (r < 0) { /* a header that makes no sense, an interface that is down */
		count(&p->tx_dropped, 1);
	} else {
		count(&p->tx_frames, 1);
		count(&p->tx_bytes, c->out_len - HEADER);
	}
	return true;
}

static void run_tx(struct pair *p)
{
	struct virtio_queue *q = p->tx;

	for (int round = 0; round < VIRTIO_RUN_ROUNDS; round++) {
		vq_kick_off(&q->vq);
		while (virtio_queue_pop(q, &p->chain)) {
			if (!transmit(p, &p->chain)) {
				vq_unpop(&q->vq, &p->chain);
				virtio_queue_commit(q);
				p->tx_blocked = true; /* on_tap() goes on */
				return;
			}
			vq_push(&q->vq, &p->chain, 0);
		}
		virtio_queue_commit(q);
		if (!vq_kick_on(&q->vq))
			return;
	}
	virtio_queue_again(q);
}

static void on_tap(struct watch *w, uint32_t events)
{
	struct pair *p = w->data;

	if ((events & EPOLLOUT) && p->tx_blocked) {
		p->tx_blocked = false;
		virtio_queue_run(p->tx);
	}
	if (events & EPOLLIN)
		virtio_queue_run(p->rx);
}

/* -- control -------------------------------------------------------------------------------------- */

static unsigned int tun_flags(const struct net *net, uint64_t features)
{
	static const struct {
		unsigned int feature, flag;
	} map[] = {
		{ VIRTIO_NET_F_GUEST_CSUM, TUN_F_CSUM }, { VIRTIO_NET_F_GUEST_TSO4, TUN_F_TSO4 },
		{ VIRTIO_NET_F_GUEST_TSO6, TUN_F_TSO6 }, { VIRTIO_NET_F_GUEST_ECN, TUN_F_TSO_ECN },
		{ VIRTIO_NET_F_GUEST_UFO, TUN_F_UFO },
	};
	unsigned int flags = 0;

	for (unsigned int i = 0; i < ARRAY_SIZE(map); i++)
		if (features & VIRTIO_BIT(map[i].feature))
			flags |= map[i].flag;
	return flags & TUN_F_CSUM ? flags : 0; /* the rest needs it */
}

static const uint64_t guest_offloads =
	VIRTIO_BIT(VIRTIO_NET_F_GUEST_CSUM) | VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO4) |
	VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO6) | VIRTIO_BIT(VIRTIO_NET_F_GUEST_ECN) |
	VIRTIO_BIT(VIRTIO_NET_F_GUEST_UFO);

static int apply_offloads(struct net *net)
{
	uint64_t f = net->offloads ? net->offloads & ~VIRTIO_BIT(63)
				   : net->v.driver_features & guest_offloads;

	for (unsigned int i = 0; net->is_tap && i < net->n_pairs; i++) {
		int r = tapq_set_offload(net->pair[i].fd, tun_flags(net, f));

		if (r < 0)
			return r;
	}
	return 0;
}

static int set_active(struct net *net, unsigned int n)
{
	for (unsigned int i = 0; net->is_tap && net->n_pairs > 1 && i < net->n_pairs; i++) {
		int r = tapq_enable(net->pair[i].fd, i < n);

		if (r < 0 && r != -EINVAL) /* EINVAL: it is so already */
			return r;
	}
	net->active = (uint16_t)n;
	for (unsigned int i = 0; i < n && !net->use_vhost; i++)
		virtio_queue_again(net->pair[i].rx);
	return 0;
}

static bool control_mac(struct net *net, uint8_t cmd, const struct vq_chain *c, size_t off)
{
	uint8_t mac[6];

	if (cmd == VIRTIO_NET_CTRL_MAC_ADDR_SET) {
		if (vq_read(c, off, mac, sizeof(mac)) < 0 || (mac[0] & 1))
			return false;
		pthread_mutex_lock(&net->v.config_lock);
		memcpy(net->config.mac, mac, sizeof(mac));
		memcpy(net->mac, mac, sizeof(mac));
		pthread_mutex_unlock(&net->v.config_lock);
		return true;
	}
	if (cmd != VIRTIO_NET_CTRL_MAC_TABLE_SET)
		return false;
	/* two tables, unicast and multicast: their form is checked, filtering is the guest's own (5.1.6.5.2) */
	for (int t = 0; t < 2; t++) {
		uint32_t n;

		if (vq_read(c, off, &n, sizeof(n)) < 0)
			return false;
		off += sizeof(n);
		if (le32toh(n) > (c->out_len - off) / 6)
			return false;
		off += 6 * (size_t)le32toh(n);
	}
	return off == c->out_len;
}

static bool control_mq(struct net *net, uint8_t cmd, const struct vq_chain *c, size_t off)
{
	uint16_t n;

	if (cmd != VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET || !virtio_has(&net->v, VIRTIO_NET_F_MQ) ||
	    vq_read(c, off, &n, sizeof(n)) < 0)
		return false;
	n = le16toh(n);
	return n >= 1 && n <= net->n_pairs && set_active(net, n) == 0;
}

static bool control_offloads(struct net *net, uint8_t cmd, const struct vq_chain *c, size_t off)
{
	uint64_t f, old = net->offloads;

	if (cmd != VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET || vq_read(c, off, &f, sizeof(f)) < 0)
		return false;
	f = le64toh(f);
	if (f & ~(net->v.driver_features & guest_offloads))
		return false;
	net->offloads = f | VIRTIO_BIT(63); /* set, even to nothing */
	if (apply_offloads(net) == 0)
		return true;
	net->offloads = old;
	return false;
}

static bool control(struct net *net, const struct vq_chain *c)
{
	struct virtio_net_ctrl_hdr h;
	const size_t off = sizeof(h);
	uint8_t on;

	if (vq_read(c, 0, &h, sizeof(h)) < 0)
		return false;
	switch (h.class) {
	case VIRTIO_NET_CTRL_RX:
		if (h.cmd >= sizeof(net->rx_mode) || vq_read(c, off, &on, 1) < 0 || on > 1)
			return false;
		net->rx_mode[h.cmd] = on; /* a tap gives every frame anyway */
		return true;
	case VIRTIO_NET_CTRL_MAC:
		return control_mac(net, h.cmd, c, off);
	case VIRTIO_NET_CTRL_MQ:
		return control_mq(net, h.cmd, c, off);
	case VIRTIO_NET_CTRL_GUEST_OFFLOADS:
		return control_offloads(net, h.cmd, c, off);
	case VIRTIO_NET_CTRL_ANNOUNCE:
		if (h.cmd != VIRTIO_NET_CTRL_ANNOUNCE_ACK)
			return false;
		pthread_mutex_lock(&net->v.config_lock);
		net->config.status &= (uint16_t)~htole16(VIRTIO_NET_S_ANNOUNCE);
		pthread_mutex_unlock(&net->v.config_lock);
		return true;
	}
	return false;
}

static void run_control(struct net *net, struct virtio_queue *q)
{
	struct vq_chain *c = &net->ctl_chain;

	for (int round = 0; round < VIRTIO_RUN_ROUNDS; round++) {
		vq_kick_off(&q->vq);
		while (virtio_queue_pop(q, c)) {
			uint8_t ack;

			if (c->in_len < 1) {
				virtio_needs_reset(&net->v,
						   "control command without room for an answer",
						   q->index);
				vq_push(&q->vq, c, 0);
				return;
			}
			ack = control(net, c) ? VIRTIO_NET_OK : VIRTIO_NET_ERR;
			vq_write(c, 0, &ack, 1);
			vq_push(&q->vq, c, 1);
		}
		virtio_queue_commit(q);
		if (!vq_kick_on(&q->vq))
			return;
	}
	virtio_queue_again(q);
}

static unsigned int ctl_index(const struct net *net)
{
	return 2 * net->n_pairs;
}

static void run(struct virtio_queue *q)
{
	struct net *net = net_of(q->v);
	struct pair *p = q->priv;

	if (q->index == ctl_index(net))
		run_control(net, q);
	else if (q == p->rx)
		run_rx(p);
	else if (!p->tx_blocked)
		run_tx(p);
}

/* -- starting and stopping ------------------------------------------------------------------------ */

/* Receive and transmit queue of a pair are on one loop; the first of them brings the tap's watch. */
static void queue_start(struct virtio_queue *q)
{
	struct pair *p = q->priv;

	if (!p)
		return;
	p->tx_blocked = false;
	if (!watch_active(&p->watch)) {
		p->watch.data = p;
		if (watch_fd(q->loop, &p->watch, "net tap", p->fd, EPOLLIN | EPOLLOUT | EPOLLET,
			     on_tap) < 0)
			virtio_needs_reset(q->v, "the tap cannot be watched", q->index);
	}
}

static void queue_stop(struct virtio_queue *q)
{
	struct pair *p = q->priv;

	if (!p)
		return;
	watch_remove(&p->watch);
	if (q == p->rx)
		unpop_ahead(p);
}

static int start_vhost(struct net *net, struct err **e)
{
	for (unsigned int i = 0; i < net->n_pairs; i++) {
		struct virtio_queue *qs[2] = { net->pair[i].rx, net->pair[i].tx };
		uint64_t mask;
		int fd = net->vhost[i], r;

		r = vhost_features(fd, &mask);
		if (r < 0)
			return err_sys(e, -r, "read vhost features");
		if (!qs[0]->vq.enabled ||
		    !qs[1]->vq.enabled) /* pairs that the driver does not use */
			continue;
		r = vhost_dev_start(&net->v, fd, mask, e);
		for (unsigned int k = 0; r == 0 && k < 2; k++) {
			r = vhost_queue_start(qs[k], fd, k, e);
			if (r == 0 && (r = vhost_net_set_backend(fd, k, net->pair[i].fd)) < 0)
				err_sys(e, -r, "give the tap to vhost-net");
		}
		if (r < 0)
			return r;
	}
	return 0;
}

static int start(struct virtio_dev *v, struct err **e)
{
	struct net *net = net_of(v);
	int r = apply_offloads(net);

	if (r < 0)
		return err_sys(e, -r, "set the offloads of the tap");
	r = set_active(net, virtio_has(v, VIRTIO_NET_F_MQ) ? net->active : 1);
	if (r < 0)
		return err_sys(e, -r, "switch queues of the tap");
	return net->use_vhost ? start_vhost(net, e) : 0;
}

static void stop(struct virtio_dev *v)
{
	struct net *net = net_of(v);

	for (unsigned int i = 0; net->use_vhost && i < net->n_pairs; i++) {
		for (unsigned int k = 0; k < 2; k++) {
			vhost_net_set_backend(net->vhost[i], k, -1);
			vhost_queue_stop(k ? net->pair[i].tx : net->pair[i].rx, net->vhost[i], k);
		}
	}
}

static void reset(struct virtio_dev *v)
{
	struct net *net = net_of(v);

	for (unsigned int i = 0; i < net->n_pairs; i++) {
		net->pair[i].frame_len = 0;
		net->pair[i].first = 0;
	}
	net->active = 1;
	memset(net->rx_mode, 0, sizeof(net->rx_mode));
	net->offloads = 0;
	net->config.status &= (uint16_t)~htole16(VIRTIO_NET_S_ANNOUNCE);
}

/* 5.1.3.1: what needs what. */
static bool features_ok(struct virtio_dev *v, uint64_t f)
{
	static const struct {
		uint8_t has, needs;
	} rules[] = {
		{ VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_CSUM },
		{ VIRTIO_NET_F_GUEST_TSO6, VIRTIO_NET_F_GUEST_CSUM },
		{ VIRTIO_NET_F_GUEST_UFO, VIRTIO_NET_F_GUEST_CSUM },
		{ VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_CSUM },
		{ VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_CSUM },
		{ VIRTIO_NET_F_HOST_UFO, VIRTIO_NET_F_CSUM },
		{ VIRTIO_NET_F_CTRL_RX, VIRTIO_NET_F_CTRL_VQ },
		{ VIRTIO_NET_F_MQ, VIRTIO_NET_F_CTRL_VQ },
		{ VIRTIO_NET_F_CTRL_MAC_ADDR, VIRTIO_NET_F_CTRL_VQ },
		{ VIRTIO_NET_F_GUEST_ANNOUNCE, VIRTIO_NET_F_CTRL_VQ },
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(rules); i++)
		if ((f & VIRTIO_BIT(rules[i].has)) && !(f & VIRTIO_BIT(rules[i].needs)))
			return false;
	return true;
}

static const struct virtio_kind net_kind = {
	.name = "net",
	.id = VIRTIO_ID_NET,
	.class_code = 0x020000, /* Ethernet */
	.features_ok = features_ok,
	.start = start,
	.stop = stop,
	.reset = reset,
	.queue_start = queue_start,
	.queue_stop = queue_stop,
	.run = run,
};

/* -- life ----------------------------------------------------------------------------------------- */

static int open_tap(struct net *net, const struct vm_net *cfg, struct err **e)
{
	net->is_tap = true;
	for (unsigned int i = 0; i < net->n_pairs; i++) {
		struct pair *p = &net->pair[i];
		int r;

		if (cfg->n_fd) {
			r = tapq_adopt(cfg->fd[i], &net->is_tap, e);
			p->fd = r < 0 ? -1 : cfg->fd[i];
		} else {
			r = p->fd = tapq_open(cfg->tap, net->n_pairs > 1, e);
		}
		if (r < 0)
			return r;
	}
	return 0;
}

static int open_vhost(struct net *net, const struct vm_net *cfg, struct err **e)
{
	struct err *why = NULL;
	unsigned int n;

	if (cfg->vhost == VM_NET_VHOST_OFF || !net->is_tap)
		return cfg->vhost == VM_NET_VHOST_ON
			       ? err_set(e, EINVAL, "net.vhost", "vhost needs a tap")
			       : 0;
	for (n = 0; n < net->n_pairs; n++) {
		net->vhost[n] = vhost_open("/dev/vhost-net", &why);
		if (net->vhost[n] < 0)
			break;
	}
	net->use_vhost = n == net->n_pairs;
	if (net->use_vhost || cfg->vhost == VM_NET_VHOST_AUTO) {
		for (unsigned int i = 0; !net->use_vhost && i < n; i++)
			net->vhost[i] = safe_close(net->vhost[i]);
		err_free(why);
		return 0;
	}
	err_move(e, &why);
	return err_num(*e) ? -err_num(*e) : -ENODEV;
}

static int make_pairs(struct net *net, struct err **e)
{
	for (unsigned int i = 0; i < net->n_pairs; i++) {
		struct pair *p = &net->pair[i];

		p->rx = &net->v.q[2 * i];
		p->tx = &net->v.q[2 * i + 1];
		p->rx->priv = p->tx->priv = p;
		p->rx->external = p->tx->external = net->use_vhost;
		if (net->use_vhost)
			continue;
		p->ahead = malloc(AHEAD * sizeof(*p->ahead)); /* touched as far as it is used */
		p->frame = malloc(FRAME_MAX);
		if (!p->ahead || !p->frame)
			return err_set(e, ENOMEM, "vmm.memory",
				       "out of memory for network buffers");
	}
	return 0;
}

static uint64_t offered(const struct net *net, const struct vm_net *cfg)
{
	uint64_t f = guest_offloads | VIRTIO_BIT(VIRTIO_NET_F_CSUM) |
		     VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO4) | VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO6) |
		     VIRTIO_BIT(VIRTIO_NET_F_HOST_ECN) | VIRTIO_BIT(VIRTIO_NET_F_HOST_UFO) |
		     VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF) | VIRTIO_BIT(VIRTIO_NET_F_MAC) |
		     VIRTIO_BIT(VIRTIO_NET_F_STATUS) | VIRTIO_BIT(VIRTIO_NET_F_CTRL_VQ) |
		     VIRTIO_BIT(VIRTIO_NET_F_CTRL_RX) | VIRTIO_BIT(VIRTIO_NET_F_CTRL_MAC_ADDR) |
		     VIRTIO_BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) |
		     VIRTIO_BIT(VIRTIO_NET_F_GUEST_ANNOUNCE);

	if (net->n_pairs > 1)
		f |= VIRTIO_BIT(VIRTIO_NET_F_MQ);
	if (cfg->mtu)
		f |= VIRTIO_BIT(VIRTIO_NET_F_MTU);
	if (!net->use_vhost)
		f |= VIRTIO_BIT(VIRTIO_F_RING_PACKED);
	return f;
}

/* Stable: the same VM and card, the same address. */
static void make_mac(struct net *net, const struct vm_net *cfg, const char *vm, const char *id)
{
	uint32_t h = crc32c(crc32c(0, vm, strlen(vm) + 1), id, strlen(id));
	const uint8_t made[6] = { 0x52,	     0x54, 0x00, (uint8_t)(h >> 16), (uint8_t)(h >> 8),
				  (uint8_t)h };

	memcpy(net->mac, cfg->has_mac ? cfg->mac : made, sizeof(net->mac));
	memcpy(net->config.mac, net->mac, sizeof(net->mac));
}

static int construct(struct dev *d, const struct vm_device *cfg, struct err **e)
{
	struct net *net = net_of(virtio_dev_of(d));
	const struct vm_net *c = &cfg->net;
	int r;

	for (unsigned int i = 0; i < VM_QUEUES_MAX; i++)
		net->vhost[i] = -1;
	if (!c->tap && !c->n_fd)
		return err_set(e, EINVAL, "net.tap", "a network card needs a tap");
	net->n_pairs = c->queues ? c->queues : MAX(c->n_fd, 1U);
	if (net->n_pairs > VM_QUEUES_MAX || (c->n_fd && c->n_fd != net->n_pairs))
		return err_set(e, EINVAL, "net.queues", "%u queues for %u descriptors (at most %d)",
			       net->n_pairs, c->n_fd, VM_QUEUES_MAX);
	if (c->has_mac && (c->mac[0] & 1))
		return err_set(e, EINVAL, "net.mac", "a card's address cannot be a multicast one");
	net->pair = calloc(net->n_pairs, sizeof(*net->pair));
	if (!net->pair)
		return err_set(e, ENOMEM, "vmm.memory", "out of memory for a network card");
	for (unsigned int i = 0; i < net->n_pairs; i++) {
		net->pair[i].net = net;
		net->pair[i].fd = -1;
	}
	r = open_tap(net, c, e);
	if (r == 0)
		r = open_vhost(net, c, e);
	if (r < 0)
		return r;
	make_mac(net, c, vm_name(d->vm), cfg->id);
	net->config.status = htole16(VIRTIO_NET_S_LINK_UP);
	net->config.max_virtqueue_pairs = htole16((uint16_t)net->n_pairs);
	net->config.mtu = htole16(c->mtu);
	net->active = 1;
	r = virtio_init(&net->v, &net_kind, offered(net, c), &net->config, sizeof(net->config), e);
	if (r == 0 && net->use_vhost) /* vhost cannot reset a single queue */
		net->v.features &= ~VIRTIO_BIT(VIRTIO_F_RING_RESET);
	if (r == 0)
		r = virtio_add_queues(&net->v, 2 * net->n_pairs, QUEUE_SIZE, e);
	if (r == 0)
		r = virtio_add_queues(&net->v, 1, CTL_SIZE, e);
	if (r == 0)
		r = make_pairs(net, e);
	net->v.loop_group = 2;
	return r;
}

static void destruct(struct dev *d)
{
	struct net *net = net_of(virtio_dev_of(d));

	for (unsigned int i = 0; net->pair && i < net->n_pairs; i++) {
		safe_close(net->pair[i].fd);
		free(net->pair[i].ahead);
		free(net->pair[i].frame);
	}
	for (unsigned int i = 0; i < VM_QUEUES_MAX; i++)
		safe_close(net->vhost[i]);
	free(net->pair);
	virtio_done(&net->v);
}

static void stats(struct dev *d, dev_stat_fn *put, void *arg)
{
	static const struct {
		const char *name;
		size_t off;
	} figures[] = {
		{ "rx_frames", offsetof(struct pair, rx_frames) },
		{ "rx_bytes", offsetof(struct pair, rx_bytes) },
		{ "rx_dropped", offsetof(struct pair, rx_dropped) },
		{ "tx_frames", offsetof(struct pair, tx_frames) },
		{ "tx_bytes", offsetof(struct pair, tx_bytes) },
		{ "tx_dropped", offsetof(struct pair, tx_dropped) },
	};
	struct net *net = net_of(virtio_dev_of(d));

	virtio_stats(d, put, arg);
	put(arg, "vhost", net->use_vhost);
	for (unsigned int f = 0; f < ARRAY_SIZE(figures); f++) {
		uint64_t sum = 0;

		for (unsigned int i = 0; i < net->n_pairs; i++)
			sum += __atomic_load_n(
				(uint64_t *)(void *)((char *)&net->pair[i] + figures[f].off),
				__ATOMIC_RELAXED);
		put(arg, figures[f].name, sum);
	}
}

static int set(struct dev *d, const char *key, uint64_t value, struct err **e)
{
	struct net *net = net_of(virtio_dev_of(d));

	if (strcmp(key, "link") != 0)
		return -ENOENT;
	if (value > 1)
		return err_set(e, ERANGE, "net.link", "link is 0 or 1");
	if (net->use_vhost)
		return err_set(e, ENOTSUP, "net.link",
			       "with vhost the link is that of the tap: set the interface down");
	atomic_store(&net->link_down, value == 0);
	virtio_config_begin(&net->v);
	if (value)
		net->config.status |= htole16(VIRTIO_NET_S_LINK_UP);
	else
		net->config.status &= (uint16_t)~htole16(VIRTIO_NET_S_LINK_UP);
	virtio_config_end(&net->v);
	for (unsigned int i = 0; value && i < net->n_pairs; i++)
		virtio_queue_again(net->pair[i].rx);
	return 0;
}

/* -- state ---------------------------------------------------------------------------------------- */

static void before_save(void *obj)
{
	struct net *net = obj;

	net->link_saved = atomic_load(&net->link_down);
}

static int after_load(void *obj, uint32_t version, struct err **e)
{
	struct net *net = obj;

	if (net->active < 1 || net->active > net->n_pairs)
		return err_set(e, EINVAL, "vm.state", "%u active queue pairs of %u", net->active,
			       net->n_pairs);
	if (net->offloads & ~(guest_offloads | VIRTIO_BIT(63)))
		return err_set(e, EINVAL, "vm.state", "unknown offloads");
	memcpy(net->config.mac, net->mac, sizeof(net->mac));
	atomic_store(&net->link_down, net->link_saved != 0);
	net->config.status = htole16(net->link_saved ? 0 : VIRTIO_NET_S_LINK_UP);
	/* switches learn where the card is now: the guest says so when it reads its status (5.1.6.5.4) */
	if (virtio_has(&net->v, VIRTIO_NET_F_GUEST_ANNOUNCE) && !net->link_saved)
		net->config.status |= htole16(VIRTIO_NET_S_ANNOUNCE);
	return 0;
}

static void resume(struct dev *d)
{
	struct net *net = net_of(virtio_dev_of(d));

	virtio_resume(d);
	if (net->config.status & htole16(VIRTIO_NET_S_ANNOUNCE)) {
		virtio_config_begin(&net->v);
		virtio_config_end(&net->v);
	}
}

static const struct save_field fields[] = {
	SAVE_NESTED(struct net, v, &virtio_save, 1),
	SAVE(struct net, active, U16, 1),
	SAVE(struct net, rx_mode, BYTES, 1),
	SAVE(struct net, offloads, U64, 1),
	SAVE(struct net, mac, BYTES, 1),
	SAVE(struct net, link_saved, U8, 1),
};
static const struct save_desc net_save =
	SAVE_DESC("virtio-net", 1, 1, fields, .before_save = before_save, .after_load = after_load);

const struct device_ops dev_virtio_net = {
	.type = "virtio-net",
	.instance_size = sizeof(struct net),
	.construct = construct,
	.destruct = destruct,
	.plug = virtio_plug,
	.unplug = virtio_unplug,
	.reset = virtio_reset,
	.quiesce = virtio_quiesce,
	.resume = resume,
	.state = &net_save,
	.stats = stats,
	.set = set,
};
