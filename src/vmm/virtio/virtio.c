/* What all virtio devices share: see virtio.h.
 *
 * Who owns a queue's vq: while `attached`, its loop; else the thread that holds the device's lock or has the VM
 * quiesced.  The hand-over is iothread_call(), which orders memory for both. */
#define LOG_MODULE "virtio"
#include <limits.h>
#include <string.h>
#include <sys/eventfd.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include "base/log.h"
#include "base/save.h"
#include "vmm/iothread.h"
#include "vmm/memory.h"
#include "vmm/virtio/virtio.h"
#include "vmm/vm.h"

#define WAIT_WARN_SECONDS 5

/* -- construction --------------------------------------------------------------------------------- */

int virtio_init(struct virtio_dev *v, const struct virtio_kind *kind, uint64_t features,
		void *config, unsigned int config_len, struct err **e)
{
	pthread_condattr_t attr;
	const struct pci_ident id = {
		.vendor = 0x1af4,
		.device = (uint16_t)(0x1040 + kind->id), /* 4.1.2.1 */
		.subvendor = 0x1af4,
		.subsystem = (uint16_t)(0x1040 + kind->id),
		.class_code = kind->class_code,
		.revision = 1, /* 4.1.2.2: modern only */
	};

	v->kind = kind;
	v->features = features | VIRTIO_BIT(VIRTIO_F_VERSION_1) |
		      VIRTIO_BIT(VIRTIO_RING_F_INDIRECT_DESC) |
		      VIRTIO_BIT(VIRTIO_RING_F_EVENT_IDX) | VIRTIO_BIT(VIRTIO_F_RING_RESET);
	v->config = config;
	v->config_len = config_len;
	v->config_vector = VIRTIO_NO_VECTOR;
	v->paused = true;
	v->log_rl = (struct ratelimit)LOG_RATE(2, 5);
	pthread_mutex_init(&v->config_lock, NULL);
	pthread_mutex_init(&v->idle_lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&v->idle_cond, &attr);
	pthread_condattr_destroy(&attr);
	pci_dev_init(&v->pd, &id);
	return 0;
}

static void reset_queue_regs(struct virtio_dev *v, unsigned int i)
{
	v->regs[i] = (struct virtio_queue_regs){
		.size = v->q[i].vq.max_size,
		.vector = VIRTIO_NO_VECTOR,
		.avail_wrap = true,
		.used_wrap = true,
	};
	atomic_store(&v->q[i].vector, VIRTIO_NO_VECTOR);
}

int virtio_add_queues(struct virtio_dev *v, unsigned int n, uint16_t size, struct err **e)
{
	unsigned int total = v->n_queues + n;
	struct virtio_queue *q;

	if (total > VIRTIO_QUEUES_MAX)
		return err_set(e, EINVAL, "virtio.queues", "%u queues (at most %d)", total,
			       VIRTIO_QUEUES_MAX);
	if (!is_pow2(size) || size > VQ_MAX_SIZE)
		return err_set(e, EINVAL, "virtio.queue_size",
			       "queue size %u is not a power of two up to %d", size, VQ_MAX_SIZE);
	q = reallocarray(v->q, total, sizeof(*q));
	if (!q)
		return err_set(e, ENOMEM, "vmm.memory", "out of memory for queues");
	v->q = q;
	for (unsigned int i = v->n_queues; i < total; i++) {
		q[i] = (struct virtio_queue){ .v = v, .index = i, .kick = -1, .idle = true };
		q[i].vq.max_size = size;
	}
	v->n_queues = total;
	return 0;
}

void virtio_done(struct virtio_dev *v)
{
	if (!v->kind)
		return;
	free(v->q);
	v->q = NULL;
	v->n_queues = 0;
	pthread_mutex_destroy(&v->config_lock);
	pthread_mutex_destroy(&v->idle_lock);
	pthread_cond_destroy(&v->idle_cond);
	pci_dev_done(&v->pd);
	v->kind = NULL;
}

int virtio_plug(struct dev *d, struct vm *vm, struct err **e)
{
	struct virtio_dev *v = virtio_dev_of(d);
	int r;

	for (unsigned int i = 0; i < v->n_queues; i++) {
		struct virtio_queue *q = &v->q[i];

		r = vq_init(&q->vq, vm_mem(vm), q->vq.max_size, e);
		if (r < 0)
			return r;
		q->loop = vm_io_loop(vm, v->loop_hint + (v->loop_group ? i / v->loop_group : 0), e);
		if (!q->loop)
			return -EAGAIN;
		q->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (q->kick < 0)
			return err_sys(e, errno, "make the doorbell of queue %u", i);
		doorbell_init(&q->bell, vm, q->kick);
		reset_queue_regs(v, i);
	}
	return virtio_pci_plug(v, vm, e);
}

void virtio_unplug(struct dev *d)
{
	struct virtio_dev *v = virtio_dev_of(d);

	virtio_pci_unplug(v);
	for (unsigned int i = 0; i < v->n_queues; i++) {
		v->q[i].kick = safe_close(v->q[i].kick);
		vq_reset(&v->q[i].vq);
	}
}

/* -- interrupts and configuration changes --------------------------------------------------------- */

bool virtio_is_live(const struct virtio_dev *v)
{
	uint8_t s = atomic_load_explicit(&v->status, memory_order_relaxed);

	return (s & VIRTIO_CONFIG_S_DRIVER_OK) && !(s & VIRTIO_CONFIG_S_NEEDS_RESET);
}

static void config_interrupt(struct virtio_dev *v)
{
	if (atomic_load(&v->status) & VIRTIO_CONFIG_S_DRIVER_OK)
		v->transport->config_interrupt(v);
}

void virtio_needs_reset(struct virtio_dev *v, const char *why, unsigned int queue)
{
	uint8_t old = atomic_fetch_or(&v->status, VIRTIO_CONFIG_S_NEEDS_RESET);

	if (old & VIRTIO_CONFIG_S_NEEDS_RESET)
		return;
	log_warn_rl(&v->log_rl, "device needs a reset by its driver", "device", v->pd.dev.id,
		    "queue", queue, "reason", why);
	config_interrupt(v);
}

void virtio_config_begin(struct virtio_dev *v)
{
	pthread_mutex_lock(&v->config_lock);
}

void virtio_config_end(struct virtio_dev *v)
{
	atomic_fetch_add(&v->generation, 1);
	pthread_mutex_unlock(&v->config_lock);
	config_interrupt(v);
}

/* -- the loop's side ------------------------------------------------------------------------------ */

static void set_idle(struct virtio_queue *q)
{
	struct virtio_dev *v = q->v;

	pthread_mutex_lock(&v->idle_lock);
	atomic_store(&q->idle, true);
	pthread_cond_broadcast(&v->idle_cond);
	pthread_mutex_unlock(&v->idle_lock);
}

void virtio_queue_run(struct virtio_queue *q)
{
	struct virtio_dev *v = q->v;

	if (q->running && atomic_load_explicit(&v->dma, memory_order_relaxed) && virtio_is_live(v))
		v->kind->run(q);
}

void virtio_queue_again(struct virtio_queue *q)
{
	uint64_t one = 1;

	if (write(q->kick, &one, sizeof(one)) < 0)
		return; /* full: it wakes just as well */
}

/* Edge-triggered: the counter is never read, which saves a system call per kick. */
static void on_kick(struct watch *w, uint32_t events)
{
	struct virtio_queue *q = w->data;

	atomic_store_explicit(&q->n_kicks, q->n_kicks + 1, memory_order_relaxed);
	virtio_queue_run(q);
}

bool virtio_queue_pop(struct virtio_queue *q, struct vq_chain *c)
{
	int r = vq_pop(&q->vq, c);

	if (r < 0)
		virtio_needs_reset(q->v, "broken ring", q->index);
	return r > 0;
}

void virtio_queue_commit(struct virtio_queue *q)
{
	if (vq_commit(&q->vq))
		q->v->transport->queue_interrupt(q);
	if (!q->running && q->vq.inflight == 0 &&
	    !atomic_load_explicit(&q->idle, memory_order_relaxed))
		set_idle(q);
}

static void attach(struct virtio_queue *q)
{
	struct virtio_dev *v = q->v;
	int r;

	if (q->running)
		return;
	q->watch.data = q;
	r = watch_fd(q->loop, &q->watch, v->kind->name, q->kick, EPOLLIN | EPOLLET, on_kick);
	if (r < 0) {
		virtio_needs_reset(v, "the doorbell cannot be watched", q->index);
		return;
	}
	atomic_store(&q->idle, false);
	q->running = true;
	if (v->kind->queue_start)
		v->kind->queue_start(q);
	virtio_queue_run(q);
}

static void detach(struct virtio_queue *q)
{
	if (!q->running)
		return;
	q->running = false;
	watch_remove(&q->watch);
	if (q->v->kind->queue_stop)
		q->v->kind->queue_stop(q);
	virtio_queue_commit(q);
}

/* -- starting and stopping ------------------------------------------------------------------------ */

struct loop_work {
	struct virtio_dev *v;
	struct loop *loop;
	void (*fn)(struct virtio_queue *q);
	unsigned int only; /* one queue, or all: UINT_MAX */
};

static void do_loop_work(void *arg)
{
	struct loop_work *w = arg;

	for (unsigned int i = 0; i < w->v->n_queues; i++) {
		struct virtio_queue *q = &w->v->q[i];

		if (q->loop == w->loop && q->vq.enabled && !q->external &&
		    (w->only == UINT_MAX || w->only == i))
			w->fn(q);
	}
}

/* fn for the enabled queues, each on its own loop; one call for each loop. */
static void on_loops(struct virtio_dev *v, void (*fn)(struct virtio_queue *q), unsigned int only)
{
	for (unsigned int i = 0; i < v->n_queues; i++) {
		struct loop_work w = { v, v->q[i].loop, fn, only };
		bool seen = only != UINT_MAX && only != i;

		for (unsigned int k = 0; k < i && !seen && only == UINT_MAX; k++)
			seen = v->q[k].loop == w.loop;
		if (!seen)
			iothread_call(w.loop, do_loop_work, &w);
	}
}

static bool all_idle(const struct virtio_dev *v)
{
	for (unsigned int i = 0; i < v->n_queues; i++)
		if (!atomic_load(&v->q[i].idle))
			return false;
	return true;
}

static void wait_idle(struct virtio_dev *v)
{
	struct loop *own = vm_main_loop(v->pd.dev.vm);
	struct timespec until;

	/* a machine without I/O threads: this thread's loop has to do the work that is waited for */
	for (unsigned int i = 0; i < v->n_queues; i++)
		while (v->q[i].loop == own && !atomic_load(&v->q[i].idle))
			loop_once(own, NSEC_PER_SEC);
	pthread_mutex_lock(&v->idle_lock);
	while (!all_idle(v)) {
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec += WAIT_WARN_SECONDS;
		if (pthread_cond_timedwait(&v->idle_cond, &v->idle_lock, &until) == ETIMEDOUT)
			log_warn("still waiting for I/O in flight", "device", v->pd.dev.id);
	}
	pthread_mutex_unlock(&v->idle_lock);
}

static unsigned int ring_flags(const struct virtio_dev *v)
{
	return (virtio_has(v, VIRTIO_F_RING_PACKED) ? VQ_PACKED : 0) |
	       (virtio_has(v, VIRTIO_RING_F_EVENT_IDX) ? VQ_EVENT_IDX : 0) |
	       (virtio_has(v, VIRTIO_RING_F_INDIRECT_DESC) ? VQ_INDIRECT : 0);
}

/* From the registers, position included. */
static int enable_queue(struct virtio_dev *v, unsigned int i, struct err **e)
{
	const struct virtio_queue_regs *g = &v->regs[i];
	struct vq *q = &v->q[i].vq;
	const struct vq_addr a = { g->desc, g->driver, g->device };

	vq_reset(q);
	q->avail_idx = g->avail_idx;
	q->used_idx = g->used_idx;
	q->avail_wrap = g->avail_wrap;
	q->used_wrap = g->used_wrap;
	return vq_enable(q, g->size, ring_flags(v), &a, e);
}

static void save_positions(struct virtio_dev *v)
{
	for (unsigned int i = 0; i < v->n_queues; i++) {
		const struct vq *q = &v->q[i].vq;

		if (!q->enabled)
			continue;
		v->regs[i].avail_idx = q->avail_idx;
		v->regs[i].used_idx = q->used_idx;
		v->regs[i].avail_wrap = q->avail_wrap;
		v->regs[i].used_wrap = q->used_wrap;
	}
}

static void start_kind(struct virtio_dev *v)
{
	struct err *e = NULL;

	if (v->kind->start && v->kind->start(v, &e) < 0) {
		virtio_needs_reset(v, err_msg(e), 0);
		err_free(e);
		return;
	}
	v->started = true;
	on_loops(v, attach, UINT_MAX);
}

static void activate(struct virtio_dev *v)
{
	for (unsigned int i = 0; i < v->n_queues; i++) {
		struct err *e = NULL;

		if (v->regs[i].enabled && enable_queue(v, i, &e) < 0) {
			virtio_needs_reset(v, err_msg(e), i);
			err_free(e);
			return;
		}
	}
	start_kind(v);
}

/* All queues are idle. */
static void stop_kind(struct virtio_dev *v)
{
	if (v->started && v->kind->stop)
		v->kind->stop(v);
	v->started = false;
}

static void finish_reset(struct virtio_dev *v)
{
	stop_kind(v);
	if (v->kind->reset)
		v->kind->reset(v);
	for (unsigned int i = 0; i < v->n_queues; i++) {
		vq_reset(&v->q[i].vq);
		v->q[i].resetting = false;
		reset_queue_regs(v, i);
	}
	v->driver_features = 0;
	v->features_sel = v->driver_features_sel = 0;
	v->queue_sel = 0;
	v->config_vector = VIRTIO_NO_VECTOR;
	atomic_store(&v->isr, 0);
	v->resetting = false;
	atomic_store(&v->status, 0);
}

void virtio_quiesce(struct dev *d)
{
	struct virtio_dev *v = virtio_dev_of(d);

	if (v->paused)
		return;
	v->paused = true;
	on_loops(v, detach, UINT_MAX);
	wait_idle(v);
	if (v->resetting) {
		finish_reset(v);
		return;
	}
	stop_kind(v);
	save_positions(v);
}

void virtio_resume(struct dev *d)
{
	struct virtio_dev *v = virtio_dev_of(d);

	if (!v->paused)
		return;
	v->paused = false;
	if (virtio_is_live(v))
		start_kind(v);
}

void virtio_reset(struct dev *d)
{
	struct virtio_dev *v = virtio_dev_of(d);

	finish_reset(v);
	atomic_store(&v->generation, 0);
	pci_reset(&v->pd);
	virtio_set_dma(v, pci_is_master(&v->pd));
}

void virtio_set_dma(struct virtio_dev *v, bool on)
{
	if (atomic_exchange(&v->dma, on) == on || !on)
		return;
	for (unsigned int i = 0; i < v->n_queues; i++)
		virtio_queue_again(&v->q[i]);
}

void virtio_stats(struct dev *d, dev_stat_fn *put, void *arg)
{
	struct virtio_dev *v = virtio_dev_of(d);
	uint64_t kicks = 0, popped = 0, notified = 0, suppressed = 0;

	for (unsigned int i = 0; i < v->n_queues; i++) {
		const struct virtio_queue *q = &v->q[i];

		kicks += atomic_load_explicit(&q->n_kicks, memory_order_relaxed);
		popped += __atomic_load_n(&q->vq.n_popped, __ATOMIC_RELAXED);
		notified += __atomic_load_n(&q->vq.n_notified, __ATOMIC_RELAXED);
		suppressed += __atomic_load_n(&q->vq.n_suppressed, __ATOMIC_RELAXED);
	}
	put(arg, "kicks", kicks);
	put(arg, "requests", popped);
	put(arg, "interrupts", notified);
	put(arg, "interrupts_suppressed", suppressed);
}

/* -- registers ------------------------------------------------------------------------------------ */

uint32_t virtio_reg_features(const struct virtio_dev *v)
{
	return v->features_sel > 1 ? 0 : (uint32_t)(v->features >> (32 * v->features_sel));
}

uint32_t virtio_reg_driver_features(const struct virtio_dev *v)
{
	return v->driver_features_sel > 1
		       ? 0
		       : (uint32_t)(v->driver_features >> (32 * v->driver_features_sel));
}

void virtio_reg_set_features(struct virtio_dev *v, uint32_t half)
{
	unsigned int shift = 32 * v->driver_features_sel;

	if (v->driver_features_sel > 1 || (atomic_load(&v->status) & VIRTIO_CONFIG_S_FEATURES_OK))
		return;
	v->driver_features = (v->driver_features & ~((uint64_t)UINT32_MAX << shift)) |
			     (uint64_t)half << shift;
}

static bool features_ok(struct virtio_dev *v)
{
	if (v->driver_features & ~v->features || !virtio_has(v, VIRTIO_F_VERSION_1))
		return false;
	return !v->kind->features_ok || v->kind->features_ok(v, v->driver_features);
}

uint8_t virtio_reg_status(struct virtio_dev *v)
{
	if (v->resetting && all_idle(v))
		finish_reset(v);
	return atomic_load(&v->status);
}

void virtio_reg_set_status(struct virtio_dev *v, uint8_t status)
{
	uint8_t old = atomic_load(&v->status), added = (uint8_t)(status & ~old);

	if (v->resetting)
		return;
	if (status == 0) {
		/* requests in flight are waited for: until then status reads as it was (4.1.4.3.1) */
		v->resetting = true;
		on_loops(v, detach, UINT_MAX);
		virtio_reg_status(v);
		return;
	}
	/* bits are only added, NEEDS_RESET is ours, and FEATURES_OK is a question */
	added &= (uint8_t)~VIRTIO_CONFIG_S_NEEDS_RESET;
	if ((added & VIRTIO_CONFIG_S_FEATURES_OK) && !features_ok(v)) {
		log_warn_rl(&v->log_rl, "the driver's features are refused", "device", v->pd.dev.id,
			    "features", v->driver_features);
		added &= (uint8_t)~VIRTIO_CONFIG_S_FEATURES_OK;
	}
	if (!((old | added) & VIRTIO_CONFIG_S_FEATURES_OK))
		added &= (uint8_t)~VIRTIO_CONFIG_S_DRIVER_OK;
	atomic_fetch_or(&v->status, added);
	if ((added & VIRTIO_CONFIG_S_DRIVER_OK) && virtio_is_live(v))
		activate(v);
}

void virtio_reg_queue_enable(struct virtio_dev *v, unsigned int qi)
{
	struct err *e = NULL;

	if (v->regs[qi].enabled || v->resetting || v->q[qi].resetting)
		return;
	v->regs[qi].enabled = true;
	if (!virtio_is_live(v))
		return;
	/* after a queue reset (2.6.1); at the start DRIVER_OK enables all */
	if (enable_queue(v, qi, &e) < 0) {
		virtio_needs_reset(v, err_msg(e), qi);
		err_free(e);
		return;
	}
	on_loops(v, attach, qi);
}

bool virtio_reg_queue_resetting(struct virtio_dev *v, unsigned int qi)
{
	struct virtio_queue *q = &v->q[qi];

	if (q->resetting && atomic_load(&q->idle)) {
		uint16_t vector = v->regs[qi].vector;

		vq_reset(&q->vq);
		reset_queue_regs(v, qi);
		v->regs[qi].vector = vector;
		atomic_store(&q->vector, vector);
		q->resetting = false;
	}
	return q->resetting;
}

void virtio_reg_queue_reset(struct virtio_dev *v, unsigned int qi)
{
	if (!virtio_has(v, VIRTIO_F_RING_RESET) || v->resetting || !v->regs[qi].enabled)
		return;
	v->q[qi].resetting = true;
	on_loops(v, detach, qi);
	virtio_reg_queue_resetting(v, qi);
}

uint8_t virtio_reg_isr(struct virtio_dev *v)
{
	return atomic_exchange(&v->isr, 0);
}

void virtio_reg_notify(struct virtio_dev *v, unsigned int qi)
{
	if (qi < v->n_queues)
		virtio_queue_again(&v->q[qi]);
}

void virtio_reg_config_read(struct virtio_dev *v, unsigned int off, uint8_t *data, unsigned int len)
{
	memset(data, 0, len);
	if (off >= v->config_len)
		return;
	pthread_mutex_lock(&v->config_lock);
	memcpy(data, (const uint8_t *)v->config + off, MIN(len, v->config_len - off));
	pthread_mutex_unlock(&v->config_lock);
}

void virtio_reg_config_write(struct virtio_dev *v, unsigned int off, const uint8_t *data,
			     unsigned int len)
{
	if (v->kind->config_write && off < v->config_len && len <= v->config_len - off)
		v->kind->config_write(v, off, data, len);
}

/* -- state ---------------------------------------------------------------------------------------- */

static const struct save_field queue_fields[] = {
	SAVE(struct virtio_queue_regs, size, U16, 1),
	SAVE(struct virtio_queue_regs, vector, U16, 1),
	SAVE(struct virtio_queue_regs, enabled, BOOL, 1),
	SAVE(struct virtio_queue_regs, desc, U64, 1),
	SAVE(struct virtio_queue_regs, driver, U64, 1),
	SAVE(struct virtio_queue_regs, device, U64, 1),
	SAVE(struct virtio_queue_regs, avail_idx, U16, 1),
	SAVE(struct virtio_queue_regs, used_idx, U16, 1),
	SAVE(struct virtio_queue_regs, avail_wrap, BOOL, 1),
	SAVE(struct virtio_queue_regs, used_wrap, BOOL, 1),
};
static const struct save_desc queue_save = SAVE_DESC("virtio-queue", 1, 1, queue_fields);

static void before_save(void *obj)
{
	struct virtio_dev *v = obj;

	v->saved_status = atomic_load(&v->status);
	v->saved_generation = atomic_load(&v->generation);
	v->saved_isr = atomic_load(&v->isr);
	v->saved_n_queues = (uint16_t)v->n_queues;
}

static int after_load(void *obj, uint32_t version, struct err **e)
{
	struct virtio_dev *v = obj;
	const uint8_t known = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |
			      VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_FEATURES_OK |
			      VIRTIO_CONFIG_S_NEEDS_RESET | VIRTIO_CONFIG_S_FAILED;
	int r;

	if (v->saved_n_queues != v->n_queues)
		return err_set(e, EINVAL, "vm.state", "saved with %u queues, this device has %u",
			       v->saved_n_queues, v->n_queues);
	if (v->saved_status & ~known)
		return err_set(e, EINVAL, "vm.state", "unknown status bits %#x", v->saved_status);
	if ((v->saved_status & VIRTIO_CONFIG_S_FEATURES_OK) && !features_ok(v))
		return err_set(e, EINVAL, "vm.state",
			       "saved with features %#llx, this device offers %#llx",
			       (unsigned long long)v->driver_features,
			       (unsigned long long)v->features);
	r = pci_after_load(&v->pd, e);
	if (r < 0)
		return r;
	v->resetting = false;
	for (unsigned int i = 0; i < v->n_queues; i++) {
		vq_reset(&v->q[i].vq);
		v->q[i].resetting = false;
		if (v->regs[i].enabled && (v->saved_status & VIRTIO_CONFIG_S_DRIVER_OK) &&
		    !(v->saved_status & VIRTIO_CONFIG_S_NEEDS_RESET)) {
			r = enable_queue(v, i, e);
			if (r < 0)
				return err_wrap(e, r, "queue %u", i);
		}
		atomic_store(&v->q[i].vector, v->regs[i].vector);
	}
	atomic_store(&v->status, v->saved_status);
	atomic_store(&v->generation, v->saved_generation);
	atomic_store(&v->isr, v->saved_isr);
	virtio_set_dma(v, pci_is_master(&v->pd));
	return 0;
}

static const struct save_field fields[] = {
	SAVE_NESTED(struct virtio_dev, pd, &pci_save, 1),
	SAVE(struct virtio_dev, driver_features, U64, 1),
	SAVE(struct virtio_dev, features_sel, U32, 1),
	SAVE(struct virtio_dev, driver_features_sel, U32, 1),
	SAVE(struct virtio_dev, queue_sel, U16, 1),
	SAVE(struct virtio_dev, config_vector, U16, 1),
	SAVE(struct virtio_dev, saved_status, U8, 1),
	SAVE(struct virtio_dev, saved_generation, U8, 1),
	SAVE(struct virtio_dev, saved_isr, U8, 1),
	SAVE(struct virtio_dev, saved_n_queues, U16, 1),
	SAVE_NESTED_ARRAY(struct virtio_dev, regs, &queue_save, 1),
};

const struct save_desc virtio_save =
	SAVE_DESC("virtio", 1, 1, fields, .before_save = before_save, .after_load = after_load);
