/* See vhost_user_blk.h: the socket, its messages, the guest's memory, the life of rings.  Thread: the device's own, which
 * blocks on the socket and while rings come to a stop. */
#define LOG_MODULE "vhost-user-blk"
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include "base/checked.h"
#include "base/log.h"
#include "base/rpc.h"
#include "storage/export/vu_ring.h"

#define BIT(n)	   ((uint64_t)1 << (n))
#define SECTOR	   512U
#define TIMEOUT	   (10 * NSEC_PER_SEC) /* of a message that has begun, and of a reply to leave */
#define MEMORY_MAX (64 * TIB)
#define SEG_MAX	   254U

#define PROTOCOL                                                                         \
	(BIT(VU_P_MQ) | BIT(VU_P_REPLY_ACK) | BIT(VU_P_BACKEND_REQ) | BIT(VU_P_CONFIG) | \
	 BIT(VU_P_INFLIGHT_SHMFD) | BIT(VU_P_RESET_DEVICE) | BIT(VU_P_CONFIGURE_MEM_SLOTS))

static int bad(const struct vu_dev *d, const char *what)
{
	log_warn("bad message", "export", d->x->name, "reason", what);
	return -EPROTO;
}

/* ---- rings ---- */

static void stop_rings(struct vu_dev *d)
{
	for (unsigned int i = 0; i < d->n_queues; i++)
		vu_ring_stop(&d->ring[i]);
}

static void ring_try(struct vu_ring *r)
{
	struct vu_dev *d = r->d;

	if (r->t || r->standing || !r->enabled || r->kick_fd < 0 || !r->have_addr || r->num == 0)
		return;
	r->rec = NULL;
	if (d->inflight && r->index < d->inflight_queues && r->num <= d->inflight_size) {
		r->rec = (struct vu_inflight_queue *)(void *)(d->inflight +
							      r->index * vu_inflight_size(
										 d->inflight_size));
		if (r->rec->version != VU_INFLIGHT_VERSION || r->rec->desc_num < r->num) {
			log_warn("the record of requests in flight is of another kind", "export",
				 d->x->name, "queue", r->index);
			r->rec = NULL;
		}
	}
	if (vu_ring_start(r) < 0) {
		log_warn("ring does not start", "export", d->x->name, "queue", r->index, "error",
			 r->error);
		err_clear(&r->error);
		r->standing = true; /* until the front end sets it up anew */
		if (r->err_fd >= 0)
			(void)!write(r->err_fd, &(uint64_t){ 1 }, sizeof(uint64_t));
	}
}

static void try_rings(struct vu_dev *d)
{
	for (unsigned int i = 0; i < d->n_queues; i++)
		ring_try(&d->ring[i]);
}

static void ring_forget(struct vu_ring *r)
{
	vu_ring_stop(r);
	r->kick_fd = safe_close(r->kick_fd);
	r->call_fd = safe_close(r->call_fd);
	r->err_fd = safe_close(r->err_fd);
	r->num = r->base = 0;
	r->have_addr = r->enabled = r->standing = false;
}

/* ---- memory ---- */

static void unmap(struct vu_dev *d, unsigned int i)
{
	struct vu_map *m = &d->maps[i];

	for (unsigned int k = 0; k < d->mem.n; k++)
		if (d->mem.region[k].gpa == m->gpa) {
			gmem_remove(&d->mem, k);
			break;
		}
	munmap(m->map, m->map_len);
	*m = d->maps[--d->n_maps];
}

static int map(struct vu_dev *d, const struct vu_region *v, int fd)
{
	struct gmem_region *g;
	struct vu_map *m = &d->maps[d->n_maps];
	uint64_t len, end;
	struct stat st;
	void *p;

	if (d->n_maps == GMEM_MAX_REGIONS)
		return bad(d, "too many memory regions");
	if (v->size == 0 || add_of(v->size, v->mmap_offset, &len) || len > MEMORY_MAX ||
	    add_of(v->gpa, v->size, &end) || add_of(v->uaddr, v->size, &end))
		return bad(d, "memory region out of range");
	for (unsigned int i = 0; i < d->n_maps; i++)
		if (range_overlaps(v->gpa, v->size, d->maps[i].gpa, d->maps[i].size) ||
		    range_overlaps(v->uaddr, v->size, d->maps[i].uaddr, d->maps[i].size))
			return bad(d, "memory regions overlap");
	if (fstat(fd, &st) < 0 || (S_ISREG(st.st_mode) && (uint64_t)st.st_size < len))
		return bad(d, "the file is shorter than its memory region");
	p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (p == MAP_FAILED) {
		log_warn("cannot map guest memory", "export", d->x->name, "bytes", len, "error",
			 err_name(errno));
		return -ENOMEM;
	}
	madvise(p, len, MADV_DONTDUMP);
	*m = (struct vu_map){
		.gpa = v->gpa, .size = v->size, .uaddr = v->uaddr, .map = p, .map_len = len
	};
	g = gmem_insert(&d->mem, v->gpa);
	if (!g) {
		munmap(p, len);
		return bad(d, "too many memory regions");
	}
	g->size = v->size;
	g->host = m->map + v->mmap_offset;
	d->n_maps++;
	return 0;
}

static int set_mem_table(struct vu_dev *d, const struct vu_msg *m)
{
	int r = 0;

	if (m->p.mem.n > VU_REGIONS_MAX || m->n_fds != m->p.mem.n ||
	    m->h.size <
		    offsetof(struct vu_mem_table, region) + m->p.mem.n * sizeof(struct vu_region))
		return bad(d, "memory table");
	stop_rings(d);
	while (d->n_maps > 0)
		unmap(d, d->n_maps - 1);
	for (uint32_t i = 0; i < m->p.mem.n && r == 0; i++)
		r = map(d, &m->p.mem.region[i], m->fds[i]);
	if (r == 0)
		try_rings(d);
	return r;
}

static int add_mem_reg(struct vu_dev *d, const struct vu_msg *m)
{
	if (m->n_fds != 1)
		return bad(d, "a memory region without its file");
	return map(d, &m->p.mem_reg.region, m->fds[0]);
}

static int rem_mem_reg(struct vu_dev *d, const struct vu_msg *m)
{
	const struct vu_region *v = &m->p.mem_reg.region;

	for (unsigned int i = 0; i < d->n_maps; i++)
		if (d->maps[i].gpa == v->gpa && d->maps[i].uaddr == v->uaddr &&
		    d->maps[i].size == v->size) {
			unmap(d, i);
			return 0;
		}
	return bad(d, "no such memory region");
}

/* ---- the record of requests in flight ---- */

static void drop_inflight(struct vu_dev *d)
{
	if (d->inflight)
		munmap(d->inflight, d->inflight_len);
	d->inflight = NULL;
}

static int use_inflight(struct vu_dev *d, const struct vu_inflight *v, int fd)
{
	uint64_t need = vu_inflight_size(v->queue_size) * v->n_queues;
	struct stat st;
	void *p;

	if (v->n_queues == 0 || v->n_queues > VU_QUEUES_MAX || v->queue_size == 0 ||
	    v->queue_size > VQ_MAX_SIZE || v->mmap_size < need || v->mmap_size > GIB ||
	    fstat(fd, &st) < 0 || !range_inside(v->mmap_offset, v->mmap_size, (uint64_t)st.st_size))
		return bad(d, "record of requests in flight");
	p = mmap(NULL, v->mmap_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)v->mmap_offset);
	if (p == MAP_FAILED)
		return bad(d, "record of requests in flight cannot be mapped");
	stop_rings(d);
	drop_inflight(d);
	d->inflight = p;
	d->inflight_len = v->mmap_size;
	d->inflight_queues = v->n_queues;
	d->inflight_size = v->queue_size;
	return 0;
}

/* A new one.  The rings use it when the front end hands it in by SET_INFLIGHT_FD. */
static int get_inflight(struct vu_dev *d, const struct vu_msg *m, struct vu_msg *reply)
{
	const struct vu_inflight *v = &m->p.inflight;
	uint64_t each = vu_inflight_size(v->queue_size), len = each * v->n_queues;
	uint8_t *p;
	int fd;

	if (v->n_queues == 0 || v->n_queues > d->n_queues || v->queue_size == 0 ||
	    v->queue_size > VU_RING_SIZE_MAX)
		return bad(d, "size of the record of requests in flight");
	len = ALIGN_UP(len, (uint64_t)4096);
	fd = memfd_create("vhost-inflight", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0 || ftruncate(fd, (off_t)len) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
		safe_close(fd);
		return -ENOMEM;
	}
	p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED) {
		close(fd);
		return -ENOMEM;
	}
	for (unsigned int i = 0; i < v->n_queues; i++) {
		struct vu_inflight_queue *q = (void *)(p + i * each);

		q->version = VU_INFLIGHT_VERSION;
		q->desc_num = v->queue_size;
	}
	munmap(p, len);
	reply->h.size = sizeof(reply->p.inflight);
	reply->p.inflight = *v;
	reply->p.inflight.mmap_size = len;
	reply->p.inflight.mmap_offset = 0;
	reply->fds[0] = fd;
	reply->n_fds = 1;
	return 1;
}

/* ---- features and config space ---- */

static void set_write_through(struct vu_dev *d)
{
	/* a driver that cannot flush must not lose writes (5.2.5.2) */
	bool cached = vu_has(d, VIRTIO_BLK_F_CONFIG_WCE) ? d->config.wce
							 : vu_has(d, VIRTIO_BLK_F_FLUSH);

	atomic_store(&d->write_through, !cached);
}

static void fill_config(struct vu_dev *d)
{
	struct disk_limits l = disk_limits(d->x->disk);
	struct virtio_blk_config *c = &d->config;
	uint32_t max = (uint32_t)MIN(l.max_io / SECTOR, (uint64_t)UINT32_MAX);

	*c = (struct virtio_blk_config){
		.capacity = htole64(disk_size(d->x->disk) / SECTOR),
		.size_max = htole32((uint32_t)(l.max_io / SEG_MAX) & ~4095U),
		.seg_max = htole32(SEG_MAX),
		.blk_size = htole32(SECTOR),
		.physical_block_exp = 3,
		.wce = 1,
		.num_queues = htole16((uint16_t)d->n_queues),
		.max_discard_sectors = htole32(UINT32_MAX),
		.max_discard_seg = htole32(16),
		.discard_sector_alignment = htole32(MAX(l.discard_align / SECTOR, 1U)),
		.max_write_zeroes_sectors = htole32(UINT32_MAX),
		.max_write_zeroes_seg = htole32(16),
		.write_zeroes_may_unmap = 1,
	};
	c->opt_io_size = htole32(MIN(l.opt_io / SECTOR, max));
}

static uint64_t features_of(const struct vu_dev *d)
{
	uint64_t f = BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_RING_F_EVENT_IDX) |
		     BIT(VIRTIO_RING_F_INDIRECT_DESC) | BIT(VU_F_PROTOCOL_FEATURES) |
		     BIT(VIRTIO_BLK_F_SEG_MAX) | BIT(VIRTIO_BLK_F_SIZE_MAX) |
		     BIT(VIRTIO_BLK_F_BLK_SIZE) | BIT(VIRTIO_BLK_F_TOPOLOGY) |
		     BIT(VIRTIO_BLK_F_FLUSH) | BIT(VIRTIO_BLK_F_CONFIG_WCE) | BIT(VIRTIO_BLK_F_MQ);

	return f | (disk_readonly(d->x->disk)
			    ? BIT(VIRTIO_BLK_F_RO)
			    : BIT(VIRTIO_BLK_F_DISCARD) | BIT(VIRTIO_BLK_F_WRITE_ZEROES));
}

static int get_config(struct vu_dev *d, const struct vu_msg *m, struct vu_msg *reply)
{
	const struct vu_config *v = &m->p.config;
	uint8_t all[VU_CONFIG_MAX] = { 0 };

	if (!range_inside(v->offset, v->size, VU_CONFIG_MAX))
		return bad(d, "outside of config space");
	memcpy(all, &d->config, sizeof(d->config));
	reply->h.size = (uint32_t)offsetof(struct vu_config, data) + v->size;
	reply->p.config.offset = v->offset;
	reply->p.config.size = v->size;
	memcpy(reply->p.config.data, all + v->offset, v->size);
	return 1;
}

static int set_config(struct vu_dev *d, const struct vu_msg *m)
{
	const struct vu_config *v = &m->p.config;
	uint32_t at = offsetof(struct virtio_blk_config, wce);

	if (!range_inside(v->offset, v->size, VU_CONFIG_MAX) ||
	    m->h.size < offsetof(struct vu_config, data) + v->size)
		return bad(d, "outside of config space");
	/* write-back or not is all that a driver may set */
	if (at >= v->offset && at < v->offset + v->size && vu_has(d, VIRTIO_BLK_F_CONFIG_WCE)) {
		d->config.wce = v->data[at - v->offset] != 0;
		set_write_through(d);
	}
	return 0;
}

/* ---- messages ---- */

static int set_features(struct vu_dev *d, uint64_t f)
{
	if (f & ~d->offered)
		return bad(d, "features that were not offered");
	stop_rings(d);
	d->features = f;
	set_write_through(d);
	/* without protocol features rings begin enabled */
	for (unsigned int i = 0; i < d->n_queues && !vu_has(d, VU_F_PROTOCOL_FEATURES); i++)
		d->ring[i].enabled = true;
	try_rings(d);
	return 0;
}

static struct vu_ring *ring_at(struct vu_dev *d, uint64_t index)
{
	return index < d->n_queues ? &d->ring[index] : NULL;
}

static int set_vring_fd(struct vu_dev *d, struct vu_msg *m)
{
	struct vu_ring *r = ring_at(d, m->p.u64 & VU_RING_MASK);
	bool none = m->p.u64 & VU_NO_FD;
	int fd;

	if (!r || m->n_fds != (none ? 0U : 1U))
		return bad(d, "descriptor of a ring");
	fd = none ? -1 : TAKE_FD(m->fds[0]);
	if (fd >= 0) /* an I/O thread must not wait for what is on the other side */
		fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	switch (m->h.request) {
	case VU_SET_VRING_CALL:
		vu_ring_set_call(r, fd);
		return 0;
	case VU_SET_VRING_ERR:
		safe_close(r->err_fd);
		r->err_fd = fd;
		return 0;
	default:
		break;
	}
	vu_ring_stop(r);
	safe_close(r->kick_fd);
	r->kick_fd = fd;
	if (fd < 0)
		return bad(d, "a ring without kicks would have to be polled");
	r->standing = false;
	ring_try(r);
	return 0;
}

static int set_vring(struct vu_dev *d, const struct vu_msg *m, struct vu_msg *reply)
{
	struct vu_ring *r = ring_at(d, m->p.state.index);
	uint32_t num = m->p.state.num;

	if (!r)
		return bad(d, "number of a ring");
	if (m->h.request == VU_SET_VRING_ENABLE) {
		if (num == 0)
			vu_ring_stop(r);
		r->enabled = num != 0;
		r->standing = false;
		ring_try(r);
		return 0;
	}
	vu_ring_stop(r);
	switch (m->h.request) {
	case VU_SET_VRING_NUM:
		if (num == 0 || num > VU_RING_SIZE_MAX || !is_pow2(num))
			return bad(d, "size of a ring");
		r->num = (uint16_t)num;
		break;
	case VU_SET_VRING_BASE:
		r->base = (uint16_t)num;
		break;
	case VU_SET_VRING_ADDR:
		r->addr = m->p.addr;
		r->have_addr = true;
		break;
	default: /* VU_GET_VRING_BASE: it stays stopped until the next kick descriptor */
		r->standing = true;
		reply->h.size = sizeof(reply->p.state);
		reply->p.state = (struct vu_ring_state){ r->index, r->base };
		return 1;
	}
	ring_try(r);
	return 0;
}

static void reset(struct vu_dev *d)
{
	for (unsigned int i = 0; i < d->n_queues; i++)
		ring_forget(&d->ring[i]);
	d->features = 0;
	d->config.wce = 1;
}

static int reply_u64(struct vu_msg *reply, uint64_t v)
{
	reply->h.size = sizeof(reply->p.u64);
	reply->p.u64 = v;
	return 1;
}

/* 1: `reply` is to be sent; 0: no answer of its own; -errno: refused. */
static int handle(struct vu_dev *d, struct vu_msg *m, struct vu_msg *reply)
{
	int r;

	switch (m->h.request) {
	case VU_GET_FEATURES:
		return reply_u64(reply, d->offered);
	case VU_SET_FEATURES:
		return set_features(d, m->p.u64);
	case VU_GET_PROTOCOL_FEATURES:
		return reply_u64(reply, PROTOCOL);
	case VU_SET_PROTOCOL_FEATURES:
		if (m->p.u64 & ~PROTOCOL)
			return bad(d, "protocol features that were not offered");
		d->protocol = m->p.u64;
		return 0;
	case VU_GET_QUEUE_NUM:
		return reply_u64(reply, d->n_queues);
	case VU_GET_MAX_MEM_SLOTS:
		return reply_u64(reply, GMEM_MAX_REGIONS);
	case VU_SET_OWNER:
		return 0;
	case VU_RESET_OWNER:
	case VU_RESET_DEVICE:
		reset(d);
		return 0;
	case VU_SET_MEM_TABLE:
		return set_mem_table(d, m);
	case VU_ADD_MEM_REG:
	case VU_REM_MEM_REG:
		stop_rings(d); /* regions change only while nobody looks */
		r = m->h.request == VU_ADD_MEM_REG ? add_mem_reg(d, m) : rem_mem_reg(d, m);
		try_rings(d);
		return r;
	case VU_SET_VRING_KICK:
	case VU_SET_VRING_CALL:
	case VU_SET_VRING_ERR:
		return set_vring_fd(d, m);
	case VU_SET_VRING_NUM:
	case VU_SET_VRING_ADDR:
	case VU_SET_VRING_BASE:
	case VU_GET_VRING_BASE:
	case VU_SET_VRING_ENABLE:
		return set_vring(d, m, reply);
	case VU_GET_CONFIG:
		return get_config(d, m, reply);
	case VU_SET_CONFIG:
		return set_config(d, m);
	case VU_GET_INFLIGHT_FD:
		return get_inflight(d, m, reply);
	case VU_SET_INFLIGHT_FD:
		r = m->n_fds == 1 ? use_inflight(d, &m->p.inflight, m->fds[0])
				  : bad(d, "record of requests in flight without its file");
		try_rings(d);
		return r;
	case VU_SET_BACKEND_REQ_FD:
		if (m->n_fds != 1)
			return bad(d, "no descriptor for requests to the front end");
		safe_close(d->backend_fd);
		d->backend_fd = TAKE_FD(m->fds[0]);
		return 0;
	default:
		return bad(d, "a request that was not offered");
	}
}

static int answer(struct vu_dev *d, struct vu_msg *m)
{
	struct vu_msg reply = { .h = { m->h.request, VU_VERSION | VU_REPLY, 0 } };
	int need = vu_payload_size((enum vu_op)m->h.request), r;

	if (need < 0 || m->h.size < (uint32_t)need || m->h.flags & VU_REPLY)
		r = bad(d, need < 0 ? "an unknown request" : "too short");
	else
		r = handle(d, m, &reply);
	if (r != 1 && m->h.flags & VU_NEED_REPLY && d->protocol & BIT(VU_P_REPLY_ACK)) {
		reply.h.size = sizeof(reply.p.u64);
		reply.p.u64 = r < 0;
		r = 1;
	}
	if (r == 1) {
		r = vu_send(d->fd, &reply, TIMEOUT);
		vu_msg_done(&reply);
	}
	return r;
}

static void tell_resized(struct vu_dev *d)
{
	struct vu_msg m = { .h = { VU_BACKEND_CONFIG_CHANGE, VU_VERSION, 0 } };
	uint64_t count;

	if (read(d->event_fd, &count, sizeof(count)) < 0)
		return;
	d->config.capacity = htole64(disk_size(d->x->disk) / SECTOR);
	if (d->backend_fd >= 0 && vu_send(d->backend_fd, &m, TIMEOUT) < 0)
		log_warn("the guest could not be told of the new size", "export", d->x->name);
}

static bool stopped(const struct vu_dev *d)
{
	struct pollfd p = { .fd = d->stop_fd, .events = POLLIN };

	return poll(&p, 1, 0) > 0;
}

/* One front end, from its connection to its end. */
static void serve(struct vu_dev *d)
{
	int r = 0;

	while (r >= 0) {
		struct pollfd p[3] = { { .fd = d->fd, .events = POLLIN },
				       { .fd = d->event_fd, .events = POLLIN },
				       { .fd = d->stop_fd, .events = POLLIN } };
		struct vu_msg m;

		if (poll(p, 3, -1) < 0)
			continue;
		if (p[2].revents)
			return;
		if (p[1].revents)
			tell_resized(d);
		if (!p[0].revents)
			continue;
		r = vu_recv(d->fd, d->stop_fd, TIMEOUT, false, &m);
		if (r == 0) {
			r = answer(d, &m);
			vu_msg_done(&m);
		}
	}
	if (r != -ENODATA && r != -ECANCELED)
		log_warn("front end dropped", "export", d->x->name, "error", err_name(-r));
}

static void disconnect(struct vu_dev *d)
{
	reset(d);
	while (d->n_maps > 0)
		unmap(d, d->n_maps - 1);
	drop_inflight(d);
	d->protocol = 0;
	d->backend_fd = safe_close(d->backend_fd);
	d->fd = safe_close(d->fd);
	atomic_store(&d->connected, false);
}

static void *dev_main(void *arg)
{
	struct vu_dev *d = arg;

	pthread_setname_np(pthread_self(), "vhost-user");
	while (!stopped(d)) {
		struct pollfd p[2] = { { .fd = d->listen_fd, .events = POLLIN },
				       { .fd = d->stop_fd, .events = POLLIN } };

		if (poll(p, 2, -1) < 0 || !p[0].revents)
			continue;
		d->fd = accept4(d->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (d->fd < 0) {
			if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
				struct timespec ts = { .tv_nsec = 100 * NSEC_PER_MSEC };

				log_warn("cannot accept a front end", "error", err_name(errno));
				nanosleep(&ts, NULL);
			}
			continue;
		}
		fill_config(d);
		atomic_store(&d->connected, true);
		serve(d);
		disconnect(d);
	}
	return NULL;
}

int vu_blk_new(struct export_threads *ts, struct disk_export *x, const char *path,
	       unsigned int n_queues, struct vu_dev **ret, struct err **e)
{
	struct vu_dev *d = calloc(1, sizeof(*d));
	sigset_t all, old;
	int r;

	if (d) {
		d->listen_fd = d->stop_fd = d->event_fd = d->fd = d->backend_fd = -1;
		d->ring = calloc(n_queues, sizeof(*d->ring));
		d->path = strdup(path);
	}
	if (!d || !d->ring || !d->path) {
		vu_blk_free(d);
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	}
	pthread_mutex_init(&d->rl_lock, NULL);
	ratelimit_init(&d->log_rl, 1, 10);
	d->ts = ts;
	d->x = x;
	d->n_queues = n_queues;
	d->offered = features_of(d);
	for (unsigned int i = 0; i < n_queues; i++)
		d->ring[i] = (struct vu_ring){
			.d = d, .index = i, .kick_fd = -1, .call_fd = -1, .err_fd = -1
		};
	d->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	d->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (d->stop_fd < 0 || d->event_fd < 0) {
		r = err_sys(e, errno, "eventfd");
		vu_blk_free(d);
		return r;
	}
	d->listen_fd = rpc_listen(path, 0600, e);
	if (d->listen_fd < 0) {
		r = d->listen_fd;
		vu_blk_free(d);
		return r;
	}
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = -pthread_create(&d->thread, NULL, dev_main, d);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r < 0) {
		d->thread = 0;
		vu_blk_free(d);
		return err_sys(e, -r, "start a thread");
	}
	*ret = d;
	return 0;
}

void vu_blk_free(struct vu_dev *d)
{
	uint64_t one = 1;

	if (!d)
		return;
	if (d->thread && write(d->stop_fd, &one, sizeof(one)) > 0)
		pthread_join(d->thread, NULL);
	if (d->listen_fd >= 0)
		unlink(d->path);
	safe_close(d->listen_fd);
	safe_close(d->stop_fd);
	safe_close(d->event_fd);
	free(d->ring);
	free(d->path);
	free(d);
}

void vu_blk_resized(struct vu_dev *d)
{
	uint64_t one = 1;

	if (write(d->event_fd, &one, sizeof(one)) < 0)
		return; /* it was told already */
}

bool vu_blk_connected(const struct vu_dev *d)
{
	return atomic_load(&d->connected);
}
