/* virtio-rng: the host's randomness for the guest.              Spec: virtio 1.2, 5.4.
 *
 * The smallest device, and the one to read first.  Thread: registers on vCPU threads (all in virtio.c), the queue on
 * its I/O loop. */
#include <linux/virtio_ids.h>
#include "base/rand.h"
#include "base/save.h"
#include "vmm/devices.h"
#include "vmm/virtio/virtio.h"

#define QUEUE_SIZE  64
/* A driver may ask for as much as a chain holds; it gets at most this, so that other devices on the loop are not
 * kept waiting.  The used length tells it (5.4.6). */
#define REQUEST_MAX 65536U

struct rng {
	struct virtio_dev v; /* first */
	struct vq_chain chain;
	uint64_t n_bytes;
};

static void run(struct virtio_queue *q)
{
	struct rng *rng = container_of(q->v, struct rng, v);
	struct vq_chain *c = &rng->chain;

	for (int round = 0; round < VIRTIO_RUN_ROUNDS; round++) {
		vq_kick_off(&q->vq);
		while (virtio_queue_pop(q, c)) {
			uint32_t n = 0;

			for (unsigned int i = 0; i < c->n_in && n < REQUEST_MAX; i++) {
				struct iovec *v = &c->iov[c->n_out + i];
				uint32_t part =
					(uint32_t)MIN(v->iov_len, (size_t)(REQUEST_MAX - n));

				rand_bytes(v->iov_base, part);
				n += part;
			}
			__atomic_store_n(&rng->n_bytes, rng->n_bytes + n, __ATOMIC_RELAXED);
			vq_push(&q->vq, c, n);
		}
		virtio_queue_commit(q);
		if (!vq_kick_on(&q->vq))
			return;
	}
	virtio_queue_again(q);
}

static const struct virtio_kind rng_kind = {
	.name = "rng",
	.id = VIRTIO_ID_RNG,
	.class_code = 0x00ff00, /* as devices that fit no class */
	.run = run,
};

static int construct(struct dev *d, const struct vm_device *cfg, struct err **e)
{
	struct virtio_dev *v = virtio_dev_of(d);
	int r = virtio_init(v, &rng_kind, 0, NULL, 0, e);

	return r < 0 ? r : virtio_add_queues(v, 1, QUEUE_SIZE, e);
}

static void destruct(struct dev *d)
{
	virtio_done(virtio_dev_of(d));
}

static void stats(struct dev *d, dev_stat_fn *put, void *arg)
{
	struct rng *rng = container_of(virtio_dev_of(d), struct rng, v);

	virtio_stats(d, put, arg);
	put(arg, "bytes", __atomic_load_n(&rng->n_bytes, __ATOMIC_RELAXED));
}

const struct device_ops dev_virtio_rng = {
	.type = "virtio-rng",
	.instance_size = sizeof(struct rng),
	.construct = construct,
	.destruct = destruct,
	.plug = virtio_plug,
	.unplug = virtio_unplug,
	.reset = virtio_reset,
	.quiesce = virtio_quiesce,
	.resume = virtio_resume,
	.state = &virtio_save,
	.stats = stats,
};
