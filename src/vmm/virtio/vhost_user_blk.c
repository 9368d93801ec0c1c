/* virtio-blk whose rings another process serves: the front end of vhost-user.   Spec: QEMU's docs/interop/vhost-user.rst.
 *
 * The back end (strata-disk serve --vhost-user, qemu-storage-daemon, SPDK) gets the guest's memory as descriptors, the
 * doorbells and the interrupts as eventfds: requests do not pass this process.  Config space and features are the back
 * end's.  When it goes away, the device waits and connects again; with the record of requests in flight, which is
 * kept here, the next back end carries out what the last one had not finished.
 *
 * Threads: all talk is on the loop of queue 0; registers (start, stop, config_write) come from vCPU threads and wait
 * for that loop.
 * Trust: the back end reads and writes all of the guest's memory, so it is trusted as far as the guest goes; its messages
 * are bounded and its config space is only copied. */
#define LOG_MODULE "vhost-user"
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_ring.h>
#include <string.h>
#include <sys/socket.h>
#include "base/log.h"
#include "base/rpc.h"
#include "base/save.h"
#include "sys/vhost_user.h"
#include "vmm/devices.h"
#include "vmm/iothread.h"
#include "vmm/memory.h"
#include "vmm/pci/msix.h"
#include "vmm/virtio/virtio.h"
#include "vmm/vm.h"

#define QUEUE_SIZE 256
#define TIMEOUT \
	(30 * NSEC_PER_SEC) /* for an answer: a ring stops when its requests in flight have ended */
#define RETRY	   (200 * NSEC_PER_MSEC)
/* Up to discards and zeroes, which is all that FEATURES needs: back ends refuse to tell more than they have. */
#define CONFIG_LEN (offsetof(struct virtio_blk_config, write_zeroes_may_unmap) + 4)
#define P(n)	   VIRTIO_BIT(n)

#define FEATURES                                                                    \
	(VIRTIO_BIT(VIRTIO_F_VERSION_1) | VIRTIO_BIT(VIRTIO_RING_F_INDIRECT_DESC) | \
	 VIRTIO_BIT(VIRTIO_RING_F_EVENT_IDX) | VIRTIO_BIT(VIRTIO_BLK_F_SIZE_MAX) |  \
	 VIRTIO_BIT(VIRTIO_BLK_F_SEG_MAX) | VIRTIO_BIT(VIRTIO_BLK_F_RO) |           \
	 VIRTIO_BIT(VIRTIO_BLK_F_BLK_SIZE) | VIRTIO_BIT(VIRTIO_BLK_F_FLUSH) |       \
	 VIRTIO_BIT(VIRTIO_BLK_F_TOPOLOGY) | VIRTIO_BIT(VIRTIO_BLK_F_CONFIG_WCE) |  \
	 VIRTIO_BIT(VIRTIO_BLK_F_MQ) | VIRTIO_BIT(VIRTIO_BLK_F_DISCARD) |           \
	 VIRTIO_BIT(VIRTIO_BLK_F_WRITE_ZEROES))
#define PROTOCOL                                                                    \
	(P(VU_P_MQ) | P(VU_P_REPLY_ACK) | P(VU_P_CONFIG) | P(VU_P_INFLIGHT_SHMFD) | \
	 P(VU_P_BACKEND_REQ))

struct vub {
	struct virtio_dev v; /* first */
	struct virtio_blk_config config;
	char *path;
	uint16_t queue_size;
	/* the loop's, and of construct() before it */
	int fd;	     /* -1: not connected */
	int back_fd; /* the back end's requests to us */
	uint64_t offered, protocol;
	struct vu_inflight inflight;
	int inflight_fd; /* -1: none yet */
	int call[VM_QUEUES_MAX];
	struct watch watch, back_watch;
	struct timer retry;
	bool running, watching;
	_Atomic uint64_t n_connects;
};

static struct vub *vub_of(struct virtio_dev *v)
{
	return container_of(v, struct vub, v);
}

/* ---- messages ---- */

static int failed(struct vub *b, int r, enum vu_op op, struct err **e)
{
	return err_set(e, -r, "vhost_user.peer", "'%s': request %d: %s", b->path, op, err_name(-r));
}

static int ask(struct vub *b, struct vu_msg *m, struct vu_msg *reply, struct err **e)
{
	enum vu_op op = (enum vu_op)m->h.request;
	int r;

	m->h.flags = VU_VERSION;
	r = vu_send(b->fd, m, TIMEOUT);
	if (r == 0)
		r = vu_recv(b->fd, -1, TIMEOUT, false, reply);
	if (r == 0 && (reply->h.request != m->h.request || !(reply->h.flags & VU_REPLY))) {
		vu_msg_done(reply);
		r = -EPROTO;
	}
	return r < 0 ? failed(b, r, op, e) : 0;
}

/* One without an answer of its own; with REPLY_ACK it is known to have been taken. */
static int tell(struct vub *b, struct vu_msg *m, struct err **e)
{
	enum vu_op op = (enum vu_op)m->h.request;
	bool ack = b->protocol & P(VU_P_REPLY_ACK);
	struct vu_msg reply = { .n_fds = 0 };
	int r;

	m->h.flags = VU_VERSION | (ack ? VU_NEED_REPLY : 0);
	r = vu_send(b->fd, m, TIMEOUT);
	if (r == 0 && ack) {
		r = vu_recv(b->fd, -1, TIMEOUT, false, &reply);
		if (r == 0) {
			if (reply.h.request != m->h.request || reply.h.size != sizeof(uint64_t))
				r = -EPROTO;
			else if (reply.p.u64 != 0)
				r = -EINVAL;
			vu_msg_done(&reply);
		}
	}
	return r < 0 ? failed(b, r, op, e) : 0;
}

static int get_u64(struct vub *b, enum vu_op op, uint64_t *ret, struct err **e)
{
	struct vu_msg m = { .h = { op, 0, 0 } }, reply = { .n_fds = 0 };
	int r = ask(b, &m, &reply, e);

	if (r < 0)
		return r;
	*ret = reply.p.u64;
	r = reply.h.size == sizeof(uint64_t) ? 0 : failed(b, -EPROTO, op, e);
	vu_msg_done(&reply);
	return r;
}

static int set_u64(struct vub *b, enum vu_op op, uint64_t v, struct err **e)
{
	struct vu_msg m = { .h = { op, 0, sizeof(v) }, .p.u64 = v };

	return tell(b, &m, e);
}

static int set_state(struct vub *b, enum vu_op op, unsigned int index, uint32_t num, struct err **e)
{
	struct vu_msg m = { .h = { op, 0, sizeof(m.p.state) }, .p.state = { index, num } };

	return tell(b, &m, e);
}

static int set_fd(struct vub *b, enum vu_op op, unsigned int index, int fd, struct err **e)
{
	struct vu_msg m = { .h = { op, 0, sizeof(uint64_t) },
			    .p.u64 = index | (fd < 0 ? VU_NO_FD : 0U),
			    .fds = { fd },
			    .n_fds = fd >= 0 };

	return tell(b, &m, e);
}

static int get_config(struct vub *b, struct virtio_blk_config *ret, struct err **e)
{
	struct vu_msg m = { .h = { VU_GET_CONFIG, 0,
				   (uint32_t)(offsetof(struct vu_config, data) + CONFIG_LEN) },
			    .p.config = { 0, CONFIG_LEN, 0, { 0 } } },
		      reply = { .n_fds = 0 };
	int r = ask(b, &m, &reply, e);

	if (r < 0)
		return r;
	if (reply.h.size < m.h.size || reply.p.config.size != CONFIG_LEN)
		r = failed(b, -EPROTO, VU_GET_CONFIG, e);
	else
		memcpy(ret, reply.p.config.data, CONFIG_LEN);
	vu_msg_done(&reply);
	return r;
}

/* ---- connecting ---- */

/* A channel for what the back end has to say by itself (a new size). */
static int open_back(struct vub *b, struct err **e)
{
	struct vu_msg m = { .h = { VU_SET_BACKEND_REQ_FD, 0, 0 }, .n_fds = 1 };
	int sv[2], r;

	if (!(b->protocol & P(VU_P_BACKEND_REQ)))
		return 0;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv) < 0)
		return err_sys(e, errno, "make a channel for the back end");
	m.fds[0] = sv[1];
	r = tell(b, &m, e);
	close(sv[1]);
	b->back_fd = sv[0];
	return r;
}

static int hello(struct vub *b, struct err **e)
{
	struct vu_msg owner = { .h = { VU_SET_OWNER, 0, 0 } };
	uint64_t queues = 1, f = 0;
	int r;

	b->protocol = 0;
	r = get_u64(b, VU_GET_FEATURES, &b->offered, e);
	if (r < 0)
		return r;
	if (!(b->offered & P(VU_F_PROTOCOL_FEATURES)) || !(b->offered & P(VIRTIO_F_VERSION_1)))
		return err_set(e, ENOTSUP, "vhost_user.features",
			       "'%s' serves neither virtio 1 nor protocol features", b->path);
	r = get_u64(b, VU_GET_PROTOCOL_FEATURES, &f, e);
	if (r == 0 && !(f & P(VU_P_CONFIG)))
		return err_set(e, ENOTSUP, "vhost_user.features",
			       "'%s' does not tell the configuration of its disk", b->path);
	if (r == 0)
		r = set_u64(b, VU_SET_PROTOCOL_FEATURES, f & PROTOCOL, e);
	if (r == 0)
		b->protocol = f & PROTOCOL;
	if (r == 0 && b->protocol & P(VU_P_MQ))
		r = get_u64(b, VU_GET_QUEUE_NUM, &queues, e);
	if (r == 0 && queues < b->v.n_queues)
		return err_set(e, EINVAL, "vhost_user.queues", "'%s' serves %llu queues, not %u",
			       b->path, (unsigned long long)queues, b->v.n_queues);
	if (r == 0)
		r = tell(b, &owner, e);
	if (r == 0)
		r = open_back(b, e);
	return r;
}

static void hang_up(struct vub *b)
{
	watch_remove(&b->watch);
	watch_remove(&b->back_watch);
	b->fd = safe_close(b->fd);
	b->back_fd = safe_close(b->back_fd);
}

static int dial(struct vub *b, struct err **e)
{
	int r;

	b->fd = rpc_connect(b->path, e);
	if (b->fd < 0)
		return b->fd;
	r = hello(b, e);
	if (r < 0)
		hang_up(b);
	else
		atomic_fetch_add(&b->n_connects, 1);
	return r;
}

/* ---- rings ---- */

static int set_memory(struct vub *b, struct err **e)
{
	const struct guest_mem *m = vm_mem(b->v.pd.dev.vm);
	struct vu_msg t = { .h = { VU_SET_MEM_TABLE, 0, 0 } };
	unsigned int n = 0;

	for (unsigned int i = 0; i < m->n; i++) {
		const struct gmem_region *g = &m->region[i];

		if (g->readonly)
			continue;
		if (g->fd < 0 || n == VU_REGIONS_MAX)
			return err_set(e, EINVAL, "vhost_user.memory",
				       g->fd < 0 ? "the guest's memory is private: --shared-memory"
						 : "too many memory regions");
		t.p.mem.region[n] =
			(struct vu_region){ g->gpa, g->size, (uintptr_t)g->host, g->fd_offset };
		t.fds[n++] = g->fd;
	}
	t.p.mem.n = t.n_fds = n;
	t.h.size = (uint32_t)(offsetof(struct vu_mem_table, region) + n * sizeof(struct vu_region));
	return tell(b, &t, e);
}

/* The record is the first back end's to make, ours to keep, the next one's to read. */
static int set_inflight(struct vub *b, struct err **e)
{
	struct vu_msg m = { .h = { VU_SET_INFLIGHT_FD, 0, sizeof(m.p.inflight) }, .n_fds = 1 };
	int r;

	if (!(b->protocol & P(VU_P_INFLIGHT_SHMFD)))
		return 0;
	if (b->inflight_fd < 0) {
		struct vu_msg q = { .h = { VU_GET_INFLIGHT_FD, 0, sizeof(q.p.inflight) },
				    .p.inflight = { .n_queues = (uint16_t)b->v.n_queues,
						    .queue_size = b->queue_size } },
			      reply = { .n_fds = 0 };

		r = ask(b, &q, &reply, e);
		if (r < 0)
			return r;
		if (reply.n_fds != 1 ||
		    reply.h.size < offsetof(struct vu_inflight, queue_size) + 2) {
			vu_msg_done(&reply);
			return failed(b, -EPROTO, VU_GET_INFLIGHT_FD, e);
		}
		b->inflight = reply.p.inflight;
		b->inflight_fd = TAKE_FD(reply.fds[0]);
		vu_msg_done(&reply);
	}
	m.p.inflight = b->inflight;
	m.fds[0] = b->inflight_fd;
	return tell(b, &m, e);
}

static uint16_t used_idx(const struct vq *q)
{
	return le16toh(
		__atomic_load_n((uint16_t *)(void *)(q->device + offsetof(struct vring_used, idx)),
				__ATOMIC_ACQUIRE));
}

static int start_ring(struct vub *b, unsigned int i, bool again, struct err **e)
{
	const struct virtio_queue *q = &b->v.q[i];
	struct vu_msg a = { .h = { VU_SET_VRING_ADDR, 0, sizeof(a.p.addr) },
			    .p.addr = { .index = i,
					.desc = (uintptr_t)q->vq.desc,
					.used = (uintptr_t)q->vq.device,
					.avail = (uintptr_t)q->vq.driver } };
	uint64_t one = 1;
	int r = set_state(b, VU_SET_VRING_NUM, i, q->vq.size, e);

	/* a back end that is gone cannot say how far it came: the used ring and the record do */
	if (r == 0)
		r = set_state(b, VU_SET_VRING_BASE, i, again ? used_idx(&q->vq) : q->vq.avail_idx,
			      e);
	if (r == 0)
		r = tell(b, &a, e);
	if (r == 0)
		r = set_fd(b, VU_SET_VRING_CALL, i, b->call[i], e);
	if (r == 0)
		r = set_fd(b, VU_SET_VRING_KICK, i, q->kick, e);
	if (r == 0)
		r = set_state(b, VU_SET_VRING_ENABLE, i, 1, e);
	/* what was kicked for while nobody listened; what was completed while nobody told */
	if (r == 0 && write(q->kick, &one, sizeof(one)) < 0 && errno != EAGAIN)
		r = err_sys(e, errno, "kick");
	if (r == 0 && again && b->call[i] >= 0 && write(b->call[i], &one, sizeof(one)) < 0 &&
	    errno != EAGAIN)
		r = err_sys(e, errno, "interrupt");
	return r;
}

static int begin(struct vub *b, bool again, struct err **e)
{
	int r = set_u64(b, VU_SET_FEATURES,
			(b->v.driver_features & FEATURES) | P(VU_F_PROTOCOL_FEATURES), e);

	if (r == 0)
		r = set_memory(b, e);
	if (r == 0)
		r = set_inflight(b, e);
	for (unsigned int i = 0; i < b->v.n_queues && r == 0; i++)
		if (b->v.q[i].vq.enabled)
			r = start_ring(b, i, again, e);
	return r;
}

static void end_ring(struct vub *b, unsigned int i)
{
	struct virtio_queue *q = &b->v.q[i];
	struct vu_msg m = { .h = { VU_GET_VRING_BASE, 0, sizeof(m.p.state) }, .p.state = { i, 0 } },
		      reply = { .n_fds = 0 };
	_cleanup_(err_freep) struct err *e = NULL;

	if (b->fd >= 0 && ask(b, &m, &reply, &e) == 0) {
		q->vq.avail_idx = (uint16_t)reply.p.state.num;
		vu_msg_done(&reply);
	} else { /* what it had in flight begins anew with the next one */
		log_warn("the back end did not say where a ring stands", "device", b->v.pd.dev.id,
			 "queue", i, "error", e);
		q->vq.avail_idx = used_idx(&q->vq);
	}
	q->vq.used_idx = used_idx(&q->vq);
}

/* ---- the loop's side ---- */

static void lost(struct vub *b);

static void watch_peer(struct vub *b);

static void on_retry(struct timer *t)
{
	struct vub *b = t->data;
	_cleanup_(err_freep) struct err *e = NULL;
	int r = dial(b, &e);

	if (r == 0 && b->v.driver_features & FEATURES & ~b->offered)
		r = err_set(&e, EINVAL, "vhost_user.features",
			    "'%s' lacks features that the guest uses", b->path);
	if (r == 0 && b->running)
		r = begin(b, true, &e);
	if (r == 0) {
		log_info("back end connected again", "device", b->v.pd.dev.id);
		watch_peer(b);
		return;
	}
	log_debug("back end not there", "device", b->v.pd.dev.id, "error", e);
	hang_up(b);
	lost(b);
}

static void lost(struct vub *b)
{
	b->retry.data = b;
	if (b->watching &&
	    timer_start(b->v.q[0].loop, &b->retry, "vhost-user-retry", RETRY, 0, on_retry) < 0)
		virtio_needs_reset(&b->v, "out of memory", 0);
}

/* Nothing is due on the socket between our requests: it was closed, or the peer is mad. */
static void on_peer(struct watch *w, uint32_t events)
{
	struct vub *b = w->data;

	log_warn("back end lost; connecting again", "device", b->v.pd.dev.id);
	hang_up(b);
	lost(b);
}

static void on_back(struct watch *w, uint32_t events)
{
	struct vub *b = w->data;
	struct virtio_blk_config c;
	struct vu_msg m;
	int r = vu_recv(b->back_fd, -1, TIMEOUT, false, &m);

	if (r == 0 && m.h.request == VU_BACKEND_CONFIG_CHANGE && get_config(b, &c, NULL) == 0) {
		virtio_config_begin(&b->v);
		b->config.capacity = c.capacity;
		virtio_config_end(&b->v);
	}
	if (r == 0)
		vu_msg_done(&m);
	else
		watch_remove(w);
}

static void watch_peer(struct vub *b)
{
	b->watch.data = b->back_watch.data = b;
	if (watch_fd(b->v.q[0].loop, &b->watch, "vhost-user", b->fd, EPOLLIN, on_peer) < 0 ||
	    (b->back_fd >= 0 && watch_fd(b->v.q[0].loop, &b->back_watch, "vhost-user-back",
					 b->back_fd, EPOLLIN, on_back) < 0))
		log_err("the back end cannot be watched", "device", b->v.pd.dev.id);
}

static void loop_plugged(void *arg)
{
	struct vub *b = arg;

	b->watching = true;
	watch_peer(b);
}

static void loop_unplugged(void *arg)
{
	struct vub *b = arg;

	b->watching = false;
	timer_stop(&b->retry);
	hang_up(b);
}

struct call {
	struct vub *b;
	struct err **e;
	int r;
	uint8_t wce;
};

static void loop_start(void *arg)
{
	struct call *c = arg;
	struct vub *b = c->b;

	b->running = true;
	if (b->fd < 0) /* the next one that connects begins */
		return;
	/* its own part of the socket's traffic is not a surprise */
	watch_remove(&b->watch);
	c->r = begin(b, false, c->e);
	watch_peer(b);
}

static void loop_stop_rings(void *arg)
{
	struct call *c = arg;
	struct vub *b = c->b;

	b->running = false;
	for (unsigned int i = 0; i < b->v.n_queues; i++)
		if (b->v.q[i].vq.enabled)
			end_ring(b, i);
	b->inflight_fd = safe_close(b->inflight_fd);
}

static void loop_set_wce(void *arg)
{
	struct call *c = arg;
	struct vub *b = c->b;
	struct vu_msg m = { .h = { VU_SET_CONFIG, 0, offsetof(struct vu_config, data) + 1 },
			    .p.config = {
				    offsetof(struct virtio_blk_config, wce), 1, 0, { c->wce } } };
	_cleanup_(err_freep) struct err *e = NULL;

	if (b->fd >= 0 && tell(b, &m, &e) < 0)
		log_warn("the cache mode was not set", "device", b->v.pd.dev.id, "error", e);
}

/* ---- the device's side ---- */

static int start(struct virtio_dev *v, struct err **e)
{
	struct vub *b = vub_of(v);
	struct call c = { b, e, 0, 0 };

	for (unsigned int i = 0; i < v->n_queues; i++) {
		uint16_t vector = atomic_load(&v->q[i].vector);

		b->call[i] = -1;
		if (!v->q[i].vq.enabled || vector == VIRTIO_NO_VECTOR)
			continue;
		b->call[i] = msix_irqfd(&v->pd, vector, e);
		if (b->call[i] < 0)
			return b->call[i];
	}
	iothread_call(v->q[0].loop, loop_start, &c);
	return c.r;
}

static void stop(struct virtio_dev *v)
{
	struct vub *b = vub_of(v);
	struct call c = { b, NULL, 0, 0 };

	iothread_call(v->q[0].loop, loop_stop_rings, &c);
	for (unsigned int i = 0; i < v->n_queues; i++) {
		uint16_t vector = atomic_load(&v->q[i].vector);

		if (b->call[i] >= 0 && vector != VIRTIO_NO_VECTOR)
			msix_irqfd_put(&v->pd, vector);
		b->call[i] = -1;
	}
}

static void config_write(struct virtio_dev *v, unsigned int off, const uint8_t *data,
			 unsigned int len)
{
	struct vub *b = vub_of(v);
	struct call c = { b, NULL, 0, data[0] != 0 };

	if (off != offsetof(struct virtio_blk_config, wce) || len != 1 ||
	    !virtio_has(v, VIRTIO_BLK_F_CONFIG_WCE))
		return;
	pthread_mutex_lock(&v->config_lock);
	b->config.wce = c.wce;
	pthread_mutex_unlock(&v->config_lock);
	iothread_call(v->q[0].loop, loop_set_wce, &c);
}

static const struct virtio_kind vub_kind = {
	.name = "vhost-user-blk",
	.id = VIRTIO_ID_BLOCK,
	.class_code = 0x018000,
	.start = start,
	.stop = stop,
	.config_write = config_write,
};

static int construct(struct dev *d, const struct vm_device *cfg, struct err **e)
{
	struct vub *b = vub_of(virtio_dev_of(d));
	const struct vm_disk *c = &cfg->disk;
	unsigned int n = c->queues ? c->queues : MIN(vm_n_cpus(d->vm), (unsigned int)VM_QUEUES_MAX);
	int r;

	b->fd = b->back_fd = b->inflight_fd = -1;
	if (!c->socket)
		return err_set(e, EINVAL, "device.options", "a vhost-user disk needs a socket");
	if (n > VM_QUEUES_MAX)
		return err_set(e, EINVAL, "disk.queues", "%u queues (at most %d)", n,
			       VM_QUEUES_MAX);
	for (unsigned int i = 0; i < VM_QUEUES_MAX; i++)
		b->call[i] = -1;
	b->queue_size = c->queue_size ?: QUEUE_SIZE;
	b->path = strdup(c->socket);
	if (!b->path)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	r = virtio_init(&b->v, &vub_kind, FEATURES, &b->config, CONFIG_LEN, e);
	if (r == 0)
		r = virtio_add_queues(&b->v, n, b->queue_size, e);
	if (r == 0)
		r = dial(b, e);
	if (r == 0)
		r = get_config(b, &b->config, e);
	if (r < 0)
		return r;
	if (le64toh(b->config.capacity) == 0)
		return err_set(e, EINVAL, "disk.empty", "'%s' has no size", b->path);
	b->config.num_queues = htole16((uint16_t)n);
	b->v.features &= FEATURES & b->offered; /* so no reset of single queues either */
	for (unsigned int i = 0; i < n; i++)
		b->v.q[i].external = true;
	return 0;
}

static void destruct(struct dev *d)
{
	struct vub *b = vub_of(virtio_dev_of(d));

	hang_up(b);
	safe_close(b->inflight_fd);
	free(b->path);
	virtio_done(&b->v);
}

static int plug(struct dev *d, struct vm *vm, struct err **e)
{
	struct vub *b = vub_of(virtio_dev_of(d));
	const struct guest_mem *m = vm_mem(vm);
	int r;

	for (unsigned int i = 0; i < m->n; i++)
		if (!m->region[i].readonly && m->region[i].fd < 0)
			return err_set(e, EINVAL, "vhost_user.memory",
				       "a vhost-user disk needs --shared-memory or --hugepages");
	r = virtio_plug(d, vm, e);
	if (r == 0)
		iothread_call(b->v.q[0].loop, loop_plugged, b);
	return r;
}

static void unplug(struct dev *d)
{
	struct vub *b = vub_of(virtio_dev_of(d));

	if (b->v.q && b->v.q[0].loop)
		iothread_call(b->v.q[0].loop, loop_unplugged, b);
	virtio_unplug(d);
}

static void stats(struct dev *d, dev_stat_fn *put, void *arg)
{
	struct vub *b = vub_of(virtio_dev_of(d));

	virtio_stats(d, put, arg);
	put(arg, "connections", atomic_load(&b->n_connects));
}

static const struct save_field fields[] = {
	SAVE_NESTED(struct vub, v, &virtio_save, 1),
	SAVE(struct vub, config.wce, U8, 1),
	SAVE(struct vub, config.capacity, U64, 1),
};

static int after_load(void *obj, uint32_t version, struct err **e)
{
	struct vub *b = obj;
	struct virtio_blk_config now;
	uint64_t saved = le64toh(b->config.capacity);
	int r = b->fd < 0 ? -ENOTCONN : get_config(b, &now, e);

	if (r == 0 && le64toh(now.capacity) != saved)
		return err_set(e, EINVAL, "vm.state",
			       "saved with a disk of %llu sectors, this one has %llu",
			       (unsigned long long)saved,
			       (unsigned long long)le64toh(now.capacity));
	b->config.wce = b->config.wce != 0;
	return r;
}

static const struct save_desc vub_save =
	SAVE_DESC("vhost-user-blk", 1, 1, fields, .after_load = after_load);

const struct device_ops dev_vhost_user_blk = {
	.type = "vhost-user-blk",
	.instance_size = sizeof(struct vub),
	.construct = construct,
	.destruct = destruct,
	.plug = plug,
	.unplug = unplug,
	.reset = virtio_reset,
	.quiesce = virtio_quiesce,
	.resume = virtio_resume,
	.state = &vub_save,
	.stats = stats,
};
