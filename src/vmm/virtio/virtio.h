/* The part that all virtio devices share: features, status, config space, queues, interrupts, stopping and
 * starting.                                              Spec: virtio 1.2, 2.1 to 2.6, 3.1.
 *
 * Between: device kinds below (rng.c, blk.c, ...), each a struct virtio_kind and a derived struct whose first
 *          member is struct virtio_dev; a transport above (transport_pci.c) that turns register accesses into
 *          the virtio_reg_*() calls.
 * Threads: registers on vCPU threads with the device's lock held; each queue belongs to one I/O loop, which
 *          alone touches its vq while the queue runs.  A loop never takes the device's lock: a vCPU may hold it
 *          while it waits for the loop.  What both sides see (status, interrupt status, config generation) is
 *          atomic, config space has a lock of its own.
 * Trust:   registers and rings are hostile.  A broken ring sets "needs reset", logs at a limited rate, and the
 *          device stays quiet until the driver resets it.
 *
 * Stopping (quiesce, driver's reset, queue reset) is the same everywhere: on its loop the queue stops taking
 * requests; it is idle when its last request in flight was pushed, which virtio_queue_commit() notices. */
#ifndef VMM_VIRTIO_VIRTIO_H
#define VMM_VIRTIO_VIRTIO_H

#include <pthread.h>
#include <stdatomic.h>
#include "base/loop.h"
#include "base/ratelimit.h"
#include "vmm/device_ops.h"
#include "vmm/doorbell.h"
#include "vmm/pci/pci.h"
#include "base/vq.h"

#define VIRTIO_QUEUES_MAX 40 /* 16 pairs and a control queue of virtio-net are the most */
#define VIRTIO_NO_VECTOR  0xffff
#define VIRTIO_BIT(n)	  ((uint64_t)1 << (n))

struct virtio_dev;
struct virtio_queue;

struct virtio_kind {
	const char *name; /* "rng", for logs and watches */
	uint16_t id;	  /* virtio device id, 5.x */
	uint32_t class_code;
	/* May this set be accepted?  Checked beyond "a subset of what was offered"; NULL: yes. */
	bool (*features_ok)(struct virtio_dev *v, uint64_t features);
	/* The driver is ready (or a restored one goes on); queues do not run yet.  vCPU or main thread. */
	int (*start)(struct virtio_dev *v, struct err **e);
	/* All queues are idle: after quiesce and before a reset. */
	void (*stop)(struct virtio_dev *v);
	/* Back to the state after construct(), as far as the driver could change it; after stop(). */
	void (*reset)(struct virtio_dev *v);
	/* On the queue's loop.  start: watch outside sources.  stop: take no more requests, unwatch.  run: there may
	 * be new entries (or a wish to look again); never called while stopped. */
	void (*queue_start)(struct virtio_queue *q);
	void (*queue_stop)(struct virtio_queue *q);
	void (*run)(struct virtio_queue *q);
	/* The driver wrote config space.  Register callback; config_lock not held.  NULL: read-only. */
	void (*config_write)(struct virtio_dev *v, unsigned int off, const uint8_t *data,
			     unsigned int len);
};

/* What the driver set up, and where the ring stands: the saved model of a queue. */
struct virtio_queue_regs {
	uint16_t size, vector;
	bool enabled;
	uint64_t desc, driver, device;
	uint16_t avail_idx, used_idx; /* valid while stopped */
	bool avail_wrap, used_wrap;
};

struct virtio_queue {
	struct virtio_dev *v;
	unsigned int index;
	struct vq vq;
	struct loop *loop;
	int kick; /* eventfd */
	struct watch watch;
	struct doorbell bell;
	_Atomic uint16_t vector;
	bool external;	   /* served by the kernel (vhost): no loop touches it */
	bool running;	   /* the loop's view: run() may be called */
	bool resetting;	   /* the driver's queue reset is under way; device lock */
	_Atomic bool idle; /* stopped and nothing in flight */
	_Atomic uint64_t n_kicks;
	void *priv; /* the kind's */
};

/* How the transport delivers interrupts.  Any thread. */
struct virtio_transport {
	void (*queue_interrupt)(struct virtio_queue *q);
	void (*config_interrupt)(struct virtio_dev *v);
};

struct virtio_dev {
	struct pci_dev pd; /* first */
	const struct virtio_kind *kind;
	const struct virtio_transport *transport;
	uint64_t features; /* offered */
	void *config;	   /* the kind's config space, little-endian; length in bytes */
	unsigned int config_len;
	pthread_mutex_t config_lock;
	struct virtio_queue *q; /* n_queues */
	unsigned int n_queues;
	unsigned int loop_hint;	  /* I/O loop of queue 0 */
	unsigned int loop_group;  /* each so many queues the next loop; 0: all on one */
	unsigned int pci_cfg_cap; /* transport_pci.c: where the config-space window lies */

	/* registers, saved */
	uint64_t driver_features;
	uint32_t features_sel, driver_features_sel;
	uint16_t queue_sel;
	uint16_t config_vector;
	uint8_t saved_status, saved_generation, saved_isr;
	uint16_t saved_n_queues;
	struct virtio_queue_regs regs[VIRTIO_QUEUES_MAX];

	_Atomic uint8_t status, generation, isr;
	_Atomic bool dma; /* bus mastering is on */
	bool started;	  /* kind->start() succeeded and stop() has not been called */
	bool paused;	  /* between quiesce and resume */
	bool resetting;	  /* waits for queues to become idle; device lock */
	pthread_mutex_t idle_lock;
	pthread_cond_t idle_cond;
	struct ratelimit log_rl;
};

static inline struct virtio_dev *virtio_dev_of(struct dev *d)
{
	return container_of(d, struct virtio_dev, pd.dev);
}

/* -- for device kinds ------------------------------------------------------------------------------- */

/* In construct(), once, before queues are added.  features: the kind's own; the ring features and VERSION_1 are
 * added.  config: memory of the derived struct. */
int virtio_init(struct virtio_dev *v, const struct virtio_kind *kind, uint64_t features,
		void *config, unsigned int config_len, struct err **e);
/* size: a power of two. */
int virtio_add_queues(struct virtio_dev *v, unsigned int n, uint16_t size, struct err **e);
/* In destruct(); takes a half-built device. */
void virtio_done(struct virtio_dev *v);

/* Ready for device_ops. */
int virtio_plug(struct dev *d, struct vm *vm, struct err **e);
void virtio_unplug(struct dev *d);
void virtio_reset(struct dev *d);
void virtio_quiesce(struct dev *d);
void virtio_resume(struct dev *d);
void virtio_stats(struct dev *d, dev_stat_fn *put, void *arg);

static inline bool virtio_has(const struct virtio_dev *v, unsigned int feature)
{
	return v->driver_features & VIRTIO_BIT(feature);
}
/* Loop: pop with the error handled ("needs reset"): true when *c was filled. */
bool virtio_queue_pop(struct virtio_queue *q, struct vq_chain *c);
/* Loop: make pushed chains visible, interrupt when wanted. */
void virtio_queue_commit(struct virtio_queue *q);
/* Loop: call run() now unless stopped, for example when a limiter's timer has fired. */
void virtio_queue_run(struct virtio_queue *q);
/* Call run() in the loop's next round: for a run() that has done its share and lets others go first.  Any thread. */
void virtio_queue_again(struct virtio_queue *q);
/* The share: rounds of "pop all, commit, ask for kicks" in one run(). */
#define VIRTIO_RUN_ROUNDS 8
/* The guest broke the rules, or the device cannot go on.  Any thread. */
void virtio_needs_reset(struct virtio_dev *v, const char *why, unsigned int queue);
/* Change config space: lock, change, unlock; tells the driver when it is ready.  Any thread. */
void virtio_config_begin(struct virtio_dev *v);
void virtio_config_end(struct virtio_dev *v);
/* The driver is ready and the device not broken. */
bool virtio_is_live(const struct virtio_dev *v);

/* -- for transports --------------------------------------------------------------------------------- */

uint32_t virtio_reg_features(const struct virtio_dev *v); /* the half that features_sel selects */
void virtio_reg_set_features(struct virtio_dev *v,
			     uint32_t half); /* driver's, by driver_features_sel */
uint32_t virtio_reg_driver_features(const struct virtio_dev *v);
uint8_t virtio_reg_status(struct virtio_dev *v);
void virtio_reg_set_status(struct virtio_dev *v, uint8_t status);
void virtio_reg_queue_enable(struct virtio_dev *v, unsigned int qi);
void virtio_reg_queue_reset(struct virtio_dev *v, unsigned int qi);
bool virtio_reg_queue_resetting(struct virtio_dev *v, unsigned int qi);
uint8_t virtio_reg_isr(struct virtio_dev *v); /* reads and clears */
void virtio_reg_notify(struct virtio_dev *v, unsigned int qi);
void virtio_reg_config_read(struct virtio_dev *v, unsigned int off, uint8_t *data,
			    unsigned int len);
void virtio_reg_config_write(struct virtio_dev *v, unsigned int off, const uint8_t *data,
			     unsigned int len);
void virtio_set_dma(struct virtio_dev *v, bool on);

/* transport_pci.c: capabilities, BARs, MSI-X; takes the slot. */
int virtio_pci_plug(struct virtio_dev *v, struct vm *vm, struct err **e);
void virtio_pci_unplug(struct virtio_dev *v);

/* -- state ------------------------------------------------------------------------------------------ */

/* The common state as a table over struct virtio_dev, and so over each derived struct: a kind without more uses it
 * directly, others nest it first: SAVE_NESTED(struct rng, v, &virtio_save, 1). */
extern const struct save_desc virtio_save;

#endif
