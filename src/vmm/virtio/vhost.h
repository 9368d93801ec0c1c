/* Rings of a virtio device that the kernel serves (vhost).
 *
 * The device core leaves such queues alone (virtio_queue.external); their doorbell and an irqfd go to vhost.
 * Split rings only.  Thread: start() and stop() of the device kind. */
#ifndef VMM_VIRTIO_VHOST_H
#define VMM_VIRTIO_VHOST_H

#include "vmm/virtio/virtio.h"

/* Give fd the machine's memory and features: those of `mask` that the driver accepted. */
int vhost_dev_start(struct virtio_dev *v, int fd, uint64_t mask, struct err **e);
/* Hand queue q to ring `index` of fd; the backend is the caller's to set. */
int vhost_queue_start(struct virtio_queue *q, int fd, unsigned int index, struct err **e);
/* The backend was taken off: q's position is what vhost left. */
void vhost_queue_stop(struct virtio_queue *q, int fd, unsigned int index);

#endif
