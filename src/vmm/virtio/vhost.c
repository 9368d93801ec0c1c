/* Rings served by the kernel: see vhost.h. */
#define LOG_MODULE "vhost"
#include <linux/virtio_ring.h>
#include "base/log.h"
#include "sys/vhost.h"
#include "vmm/memory.h"
#include "vmm/pci/msix.h"
#include "vmm/virtio/vhost.h"
#include "vmm/vm.h"

int vhost_dev_start(struct virtio_dev *v, int fd, uint64_t mask, struct err **e)
{
	const struct guest_mem *m = vm_mem(v->pd.dev.vm);
	struct vhost_region r[GMEM_MAX_REGIONS];
	unsigned int n = 0;
	int err;

	for (unsigned int i = 0; i < m->n; i++)
		if (!m->region[i].readonly)
			r[n++] = (struct vhost_region){ m->region[i].gpa, m->region[i].size,
							m->region[i].host };
	err = vhost_set_features(fd, v->driver_features & mask, e);
	return err < 0 ? err : vhost_set_memory(fd, r, n, e);
}

int vhost_queue_start(struct virtio_queue *q, int fd, unsigned int index, struct err **e)
{
	uint16_t vector = atomic_load(&q->vector);
	int call = -1;
	struct vhost_ring r = {
		.index = index,
		.size = q->vq.size,
		.base = q->vq.avail_idx,
		.desc = q->vq.desc,
		.avail = q->vq.driver,
		.used = q->vq.device,
		.kick = q->kick,
	};

	if (vector != VIRTIO_NO_VECTOR) {
		call = msix_irqfd(&q->v->pd, vector, e);
		if (call < 0)
			return call;
	}
	r.call = call;
	return vhost_set_ring(fd, &r, e);
}

void vhost_queue_stop(struct virtio_queue *q, int fd, unsigned int index)
{
	uint16_t vector = atomic_load(&q->vector), base;

	if (!q->vq.enabled)
		return;
	if (vhost_get_base(fd, index, &base) == 0) {
		q->vq.avail_idx = base;
		/* vhost keeps nothing in flight over a stop; what it used stands in the ring */
		q->vq.used_idx = le16toh(__atomic_load_n(
			(uint16_t *)(void *)(q->vq.device + offsetof(struct vring_used, idx)),
			__ATOMIC_ACQUIRE));
	} else {
		log_warn("the position of a ring is lost", "device", q->v->pd.dev.id, "queue",
			 q->index);
	}
	if (vector != VIRTIO_NO_VECTOR)
		msix_irqfd_put(&q->v->pd, vector);
}
