/* Private to vhost_user_blk.c and vu_ring.c: a device and its rings. */
#ifndef STORAGE_VU_RING_H
#define STORAGE_VU_RING_H

#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <semaphore.h>
#include "base/gmem.h"
#include "base/vq.h"
#include "storage/export/vhost_user_blk.h"
#include "sys/vhost_user.h"

#define VU_RING_SIZE_MAX 1024U

struct vu_request;

struct vu_ring {
	struct vu_dev *d;
	unsigned int index;
	/* the front end's settings; the control thread's while the ring stands still */
	uint16_t num, base;
	struct vu_ring_addr addr;
	bool have_addr, enabled, standing;
	int kick_fd, call_fd, err_fd;
	/* the I/O thread's while it runs */
	struct export_thread *t; /* NULL: stands still */
	struct disk_queue *dq;
	struct vq vq;
	struct watch watch;
	struct timer pass;
	bool polling, stopping, failed;
	struct vu_request *pool, *free;
	unsigned int n_used;
	struct vu_inflight_queue *rec; /* or NULL */
	uint64_t counter;
	uint16_t *batch; /* heads pushed since the last commit */
	unsigned int n_batch;
	sem_t idle;
	struct err *error; /* of starting */
};

/* One region of guest memory; maps[] of a device is parallel to nothing: find by address. */
struct vu_map {
	uint64_t gpa, size, uaddr;
	uint8_t *map; /* with what lies before the region in its file */
	size_t map_len;
};

struct vu_dev {
	struct export_threads *ts;
	struct disk_export *x;
	char *path;
	int listen_fd, stop_fd, event_fd; /* eventfds: end; the disk was resized */
	pthread_t thread;
	unsigned int n_queues;
	uint64_t offered;
	_Atomic bool connected;
	/* the control thread's */
	int fd, backend_fd;
	uint64_t features, protocol;
	struct guest_mem mem;
	struct vu_map maps[GMEM_MAX_REGIONS];
	unsigned int n_maps;
	struct virtio_blk_config config; /* little-endian */
	_Atomic bool write_through;
	uint8_t *inflight;
	size_t inflight_len;
	uint16_t inflight_queues, inflight_size;
	struct vu_ring *ring;
	struct ratelimit log_rl;
	pthread_mutex_t rl_lock;
};

static inline bool vu_has(const struct vu_dev *d, unsigned int feature)
{
	return d->features & (uint64_t)1 << feature;
}

/* Control thread.  Start: everything is set; -errno with r->error. */
int vu_ring_start(struct vu_ring *r);
/* Takes no more requests, waits for those in flight.  r->base says where to go on.  Twice: no effect. */
void vu_ring_stop(struct vu_ring *r);
/* Another interrupt; takes fd (-1: none). */
void vu_ring_set_call(struct vu_ring *r, int fd);

#endif
