/* virtio-balloon: the guest gives memory back.                   Spec: virtio 1.2, 5.5.
 *
 * Inflate queue: page frame numbers that the guest will not touch until it deflates.  Reporting queue: free ranges
 * that it may take back at any time by touching them.  Either way the host frees the pages; the guest finds zeroes
 * (in a clone: the snapshot's bytes) when it comes back.  Numbers of a request are sorted and neighbours joined, so that
 * a request costs few system calls.
 *
 * Statistics queue: the driver leaves one filled buffer there; it is read in place and returned only to ask for
 * newer figures, so nothing is in flight while the machine is stopped. */
#define LOG_MODULE "virtio-balloon"
#include <linux/virtio_balloon.h>
#include <linux/virtio_ids.h>
#include <string.h>
#include <sys/mman.h>
#include "base/log.h"
#include "base/save.h"
#include "vmm/devices.h"
#include "vmm/memory.h"
#include "vmm/virtio/virtio.h"
#include "vmm/vm.h"

#define QUEUE_SIZE 128
#define PAGE	   (1U << VIRTIO_BALLOON_PFN_SHIFT)
#define PFNS	   256U /* looked at together: a Linux driver's request */
#define STAT_FRESH (500 * NSEC_PER_MSEC)

enum { Q_INFLATE, Q_DEFLATE, Q_STATS, Q_REPORT };

static const char *const stat_names[VIRTIO_BALLOON_S_NR] = {
	"guest_swap_in",	"guest_swap_out", "guest_major_faults",
	"guest_minor_faults",	"guest_free",	  "guest_total",
	"guest_available",	"guest_caches",	  "guest_hugepage_allocs",
	"guest_hugepage_fails",
};

struct balloon {
	struct virtio_dev v; /* first */
	struct virtio_balloon_config config;
	struct vq_chain chain;
	_Atomic uint64_t stat[VIRTIO_BALLOON_S_NR];
	_Atomic bool stat_known[VIRTIO_BALLOON_S_NR];
	nsec_t stat_asked; /* main thread */
	uint64_t freed, reported, refused;
};

static struct balloon *balloon_of(struct virtio_dev *v)
{
	return container_of(v, struct balloon, v);
}

static void count(uint64_t *x, uint64_t n)
{
	__atomic_store_n(x, *x + n, __ATOMIC_RELAXED);
}

/* Give [host, host+len) back to the system: whole pages of ours only. */
static void discard(struct balloon *b, uint8_t *host, uint64_t len, uint64_t *counter)
{
	struct guest_mem *m = vm_mem(b->v.pd.dev.vm);
	uint8_t *from = (uint8_t *)ALIGN_UP((uintptr_t)host, (uintptr_t)PAGE);
	uint8_t *to = (uint8_t *)ALIGN_DOWN((uintptr_t)host + len, (uintptr_t)PAGE);

	if (from >= to)
		return;
	for (unsigned int i = 0; i < m->n; i++) {
		const struct gmem_region *r = &m->region[i];

		if (r->readonly || from < r->host || to > r->host + r->size)
			continue;
		/* shared memory has to be taken out of the file; huge pages refuse parts of one */
		if (madvise(from, (size_t)(to - from), r->fd >= 0 ? MADV_REMOVE : MADV_DONTNEED) <
		    0) {
			count(&b->refused, (uint64_t)(to - from));
			return;
		}
		gmem_mark_dirty_host(m, from, (uint64_t)(to - from));
		count(counter, (uint64_t)(to - from));
		return;
	}
}

/* -- inflate -------------------------------------------------------------------------------------- */

static int by_number(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

/* Sorted numbers, neighbours joined. */
static void discard_pages(struct balloon *b, uint32_t *pfn, unsigned int n)
{
	struct guest_mem *m = vm_mem(b->v.pd.dev.vm);

	qsort(pfn, n, sizeof(*pfn), by_number);
	for (unsigned int i = 0, k; i < n; i = k) {
		uint64_t len;
		uint8_t *p;

		for (k = i + 1; k < n && pfn[k] - pfn[k - 1] <= 1; k++)
			continue;
		len = ((uint64_t)pfn[k - 1] - pfn[i] + 1) * PAGE;
		p = gmem_ptr(m, (gpa_t)pfn[i] * PAGE, len);
		if (p)
			discard(b, p, len, &b->freed);
		else /* not RAM, or over the end of a region: one by one */
			for (uint64_t x = pfn[i]; x <= pfn[k - 1]; x++)
				if ((p = gmem_ptr(m, x * PAGE, PAGE)))
					discard(b, p, PAGE, &b->freed);
				else
					count(&b->refused, PAGE);
	}
}

static void inflate(struct balloon *b, const struct vq_chain *c)
{
	uint32_t pfn[PFNS];
	uint64_t off = 0;

	/* a longer list than any driver sends is cut: the pages are merely not freed */
	while (off + sizeof(pfn[0]) <= MIN(c->out_len, (uint64_t)64 * sizeof(pfn))) {
		unsigned int n =
			(unsigned int)MIN((c->out_len - off) / sizeof(pfn[0]), (uint64_t)PFNS);

		vq_read(c, off, pfn, n * sizeof(pfn[0]));
		for (unsigned int i = 0; i < n; i++)
			pfn[i] = le32toh(pfn[i]);
		discard_pages(b, pfn, n);
		off += n * sizeof(pfn[0]);
	}
}

/* -- statistics ----------------------------------------------------------------------------------- */

static void take_stats(struct balloon *b, const struct vq_chain *c)
{
	struct virtio_balloon_stat s;

	for (uint64_t off = 0, n = 0; off + sizeof(s) <= c->out_len && n < 64;
	     off += sizeof(s), n++) {
		unsigned int tag;

		vq_read(c, off, &s, sizeof(s));
		tag = le16toh(s.tag);
		if (tag >= VIRTIO_BALLOON_S_NR)
			continue;
		atomic_store(&b->stat[tag], le64toh(s.val));
		atomic_store(&b->stat_known[tag], true);
	}
}

static void run_stats(struct virtio_queue *q)
{
	struct balloon *b = balloon_of(q->v);

	do {
		if (!virtio_queue_pop(q, &b->chain))
			continue;
		take_stats(b, &b->chain);
		vq_unpop(&q->vq, &b->chain); /* until newer ones are wanted */
		return;
	} while (vq_kick_on(&q->vq));
}

/* Loop: the driver fills the buffer anew and kicks. */
static void ask_stats(void *arg)
{
	struct balloon *b = arg;
	struct virtio_queue *q = &b->v.q[Q_STATS];

	if (!q->running || !virtio_has(&b->v, VIRTIO_BALLOON_F_STATS_VQ) ||
	    !virtio_queue_pop(q, &b->chain))
		return;
	vq_push(&q->vq, &b->chain, 0);
	virtio_queue_commit(q);
	vq_kick_on(&q->vq);
	virtio_queue_run(q); /* should the driver have been faster than the request for a kick */
}

/* -- queues --------------------------------------------------------------------------------------- */

/* Linux numbers only the queues that it negotiated: without statistics reporting comes third. */
static unsigned int role(const struct virtio_queue *q)
{
	if (q->index == Q_STATS && !virtio_has(q->v, VIRTIO_BALLOON_F_STATS_VQ))
		return Q_REPORT;
	return q->index;
}

static void run(struct virtio_queue *q)
{
	struct balloon *b = balloon_of(q->v);
	unsigned int what = role(q);
	struct vq_chain *c = &b->chain;

	if (what == Q_STATS) {
		run_stats(q);
		return;
	}
	for (int round = 0; round < VIRTIO_RUN_ROUNDS; round++) {
		vq_kick_off(&q->vq);
		while (virtio_queue_pop(q, c)) {
			if (what == Q_INFLATE)
				inflate(b, c);
			else if (what == Q_REPORT)
				for (unsigned int i = 0; i < c->n_in; i++)
					discard(b, c->iov[c->n_out + i].iov_base,
						c->iov[c->n_out + i].iov_len, &b->reported);
			/* deflating costs nothing here: touching a page brings it back */
			vq_push(&q->vq, c, 0);
		}
		virtio_queue_commit(q);
		if (!vq_kick_on(&q->vq))
			return;
	}
	virtio_queue_again(q);
}

static void config_write(struct virtio_dev *v, unsigned int off, const uint8_t *data,
			 unsigned int len)
{
	struct balloon *b = balloon_of(v);
	const unsigned int actual = offsetof(struct virtio_balloon_config, actual);

	if (off < actual || off + len > actual + sizeof(b->config.actual))
		return;
	pthread_mutex_lock(&v->config_lock);
	memcpy((uint8_t *)&b->config + off, data, len);
	pthread_mutex_unlock(&v->config_lock);
}

static void reset(struct virtio_dev *v)
{
	struct balloon *b = balloon_of(v);

	b->config.actual = 0;
	for (unsigned int i = 0; i < VIRTIO_BALLOON_S_NR; i++)
		atomic_store(&b->stat_known[i], false);
}

static const struct virtio_kind balloon_kind = {
	.name = "balloon",
	.id = VIRTIO_ID_BALLOON,
	.class_code = 0x00ff00,
	.reset = reset,
	.run = run,
	.config_write = config_write,
};

/* -- life ----------------------------------------------------------------------------------------- */

static int construct(struct dev *d, const struct vm_device *cfg, struct err **e)
{
	struct balloon *b = balloon_of(virtio_dev_of(d));
	uint64_t features = VIRTIO_BIT(VIRTIO_BALLOON_F_STATS_VQ);
	int r;

	if (!cfg->balloon.no_deflate_on_oom)
		features |= VIRTIO_BIT(VIRTIO_BALLOON_F_DEFLATE_ON_OOM);
	if (!cfg->balloon.no_reporting)
		features |= VIRTIO_BIT(VIRTIO_BALLOON_F_REPORTING);
	r = virtio_init(&b->v, &balloon_kind, features, &b->config, sizeof(b->config), e);
	return r < 0 ? r
		     : virtio_add_queues(&b->v, cfg->balloon.no_reporting ? 3 : 4, QUEUE_SIZE, e);
}

static void destruct(struct dev *d)
{
	virtio_done(virtio_dev_of(d));
}

static void stats(struct dev *d, dev_stat_fn *put, void *arg)
{
	struct balloon *b = balloon_of(virtio_dev_of(d));
	nsec_t now = now_mono();

	virtio_stats(d, put, arg);
	pthread_mutex_lock(&b->v.config_lock);
	put(arg, "target_bytes", (uint64_t)le32toh(b->config.num_pages) * PAGE);
	put(arg, "actual_bytes", (uint64_t)le32toh(b->config.actual) * PAGE);
	pthread_mutex_unlock(&b->v.config_lock);
	put(arg, "freed_bytes", __atomic_load_n(&b->freed, __ATOMIC_RELAXED));
	put(arg, "reported_bytes", __atomic_load_n(&b->reported, __ATOMIC_RELAXED));
	put(arg, "refused_bytes", __atomic_load_n(&b->refused, __ATOMIC_RELAXED));
	for (unsigned int i = 0; i < VIRTIO_BALLOON_S_NR; i++)
		if (atomic_load(&b->stat_known[i]))
			put(arg, stat_names[i], atomic_load(&b->stat[i]));
	/* the figures of the guest are those of the last time; ask for the next */
	if (now - b->stat_asked > STAT_FRESH) {
		b->stat_asked = now;
		loop_post(b->v.q[Q_STATS].loop, ask_stats, b);
	}
}

static int set(struct dev *d, const char *key, uint64_t value, struct err **e)
{
	struct balloon *b = balloon_of(virtio_dev_of(d));
	uint64_t ram = gmem_ram_size(vm_mem(d->vm));

	if (strcmp(key, "target") != 0)
		return -ENOENT;
	if (value >= ram)
		return err_set(e, ERANGE, "balloon.target",
			       "a balloon of %llu bytes does not fit in a guest of %llu",
			       (unsigned long long)value, (unsigned long long)ram);
	virtio_config_begin(&b->v);
	b->config.num_pages = htole32((uint32_t)(value / PAGE));
	virtio_config_end(&b->v);
	return 0;
}

/* -- state ---------------------------------------------------------------------------------------- */

static const struct save_field fields[] = {
	SAVE_NESTED(struct balloon, v, &virtio_save, 1),
	SAVE(struct balloon, config.num_pages, U32, 1),
	SAVE(struct balloon, config.actual, U32, 1),
};
static const struct save_desc balloon_save = SAVE_DESC("virtio-balloon", 1, 1, fields);

const struct device_ops dev_virtio_balloon = {
	.type = "virtio-balloon",
	.instance_size = sizeof(struct balloon),
	.construct = construct,
	.destruct = destruct,
	.plug = virtio_plug,
	.unplug = virtio_unplug,
	.reset = virtio_reset,
	.quiesce = virtio_quiesce,
	.resume = virtio_resume,
	.state = &balloon_save,
	.stats = stats,
	.set = set,
};
