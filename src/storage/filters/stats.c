/* Filter "stats": how long requests take, as histograms.  Without parameters.
 *
 * disk_filter_info() gives, for each operation that was seen, its count, bytes, errors, and latency at the 50th, 99th and
 * 99.9th percentile in microseconds: upper bounds of buckets that are 1/4 of a power of two wide.
 * Threads: each queue counts in its own shard; readers add them up. */
#include <string.h>
#include "base/clock.h"
#include "storage/disk_ops.h"

#define BUCKETS 160 /* four for each power of two of nanoseconds */

struct shard {
	struct list in_node;
	struct op_stats {
		uint64_t n, bytes, errors, longest;
		uint64_t bucket[BUCKETS];
	} op[DISK_N_OPS];
};

struct stats {
	struct disk_node node;
	pthread_mutex_t lock; /* the list, past */
	struct list shards;
	struct shard past; /* of queues that are gone */
};

static struct stats *to_stats(struct disk_node *n)
{
	return container_of(n, struct stats, node);
}

static unsigned int bucket_of(uint64_t ns)
{
	unsigned int e = ilog2(MAX(ns, (uint64_t)4)), b;

	b = e * 4 + (unsigned int)(MAX(ns, (uint64_t)4) >> (e - 2) & 3);
	return MIN(b, BUCKETS - 1U);
}

static uint64_t bucket_end(unsigned int b)
{
	return (uint64_t)(4 + b % 4 + 1) << (b / 4 - 2);
}

static void count(uint64_t *x, uint64_t n)
{
	__atomic_store_n(x, *x + n, __ATOMIC_RELAXED);
}

static void stats_done(struct disk_io *k, int r)
{
	struct disk_io *io = k->data;
	struct shard *s = k->priv;
	struct op_stats *o = &s->op[io->op];
	uint64_t t = (uint64_t)(now_mono() - k->start);

	count(&o->n, 1);
	if (r < 0)
		count(&o->errors, 1);
	else
		count(&o->bytes, io->len);
	count(&o->bucket[bucket_of(t)], 1);
	if (t > o->longest)
		__atomic_store_n(&o->longest, t, __ATOMIC_RELAXED);
	disk_io_done(io, r);
}

static void stats_submit(struct disk_node *n, struct disk_io *io)
{
	struct shard *s = queue_slot(io->q, n);
	struct disk_io *k = s ? io_child(io->q, io->op, io->flags, io->off, io->len, io->iov,
					 io->niov, stats_done, io)
			      : NULL;

	if (!k) {
		disk_io_done(io, -ENOMEM);
		return;
	}
	k->priv = s;
	k->start = now_mono();
	node_submit(n->next, k);
}

static void add(struct shard *to, const struct shard *from)
{
	for (int i = 0; i < DISK_N_OPS; i++) {
		const struct op_stats *f = &from->op[i];
		struct op_stats *t = &to->op[i];

		t->n += __atomic_load_n(&f->n, __ATOMIC_RELAXED);
		t->bytes += __atomic_load_n(&f->bytes, __ATOMIC_RELAXED);
		t->errors += __atomic_load_n(&f->errors, __ATOMIC_RELAXED);
		t->longest = MAX(t->longest, __atomic_load_n(&f->longest, __ATOMIC_RELAXED));
		for (int b = 0; b < BUCKETS; b++)
			t->bucket[b] += __atomic_load_n(&f->bucket[b], __ATOMIC_RELAXED);
	}
}

static int stats_attach(struct disk_node *n, struct disk_queue *q, void **slot)
{
	struct shard *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	pthread_mutex_lock(&to_stats(n)->lock);
	list_add_tail(&to_stats(n)->shards, &s->in_node);
	pthread_mutex_unlock(&to_stats(n)->lock);
	*slot = s;
	return 0;
}

static void stats_detach(struct disk_node *n, struct disk_queue *q, void *slot)
{
	struct stats *st = to_stats(n);
	struct shard *s = slot;

	pthread_mutex_lock(&st->lock);
	add(&st->past, s);
	list_del(&s->in_node);
	pthread_mutex_unlock(&st->lock);
	free(s);
}

static int stats_open(struct disk_node *n, const struct disk_cfg *cfg, struct err **e)
{
	pthread_mutex_init(&to_stats(n)->lock, NULL);
	list_init(&to_stats(n)->shards);
	return 0;
}

static int stats_close(struct disk_node *n)
{
	pthread_mutex_destroy(&to_stats(n)->lock);
	return 0;
}

static uint64_t percentile(const struct op_stats *o, unsigned int per_mille)
{
	uint64_t want = DIV_ROUND_UP(o->n * per_mille, 1000), seen = 0;

	for (unsigned int b = 0; b < BUCKETS; b++) {
		seen += o->bucket[b];
		if (seen >= want)
			return MIN(bucket_end(b), o->longest);
	}
	return o->longest;
}

static void stats_info(struct disk_node *n,
		       void (*emit)(void *arg, const char *name, const char *value), void *arg)
{
	static const char *const ops[DISK_N_OPS] = { "read", "write", "flush", "discard",
						     "write-zeroes" };
	struct stats *st = to_stats(n);
	struct shard *s, *sum = calloc(1, sizeof(*sum));

	if (!sum)
		return;
	pthread_mutex_lock(&st->lock);
	add(sum, &st->past);
	list_for_each_entry(s, &st->shards, in_node)
		add(sum, s);
	pthread_mutex_unlock(&st->lock);
	for (int i = 0; i < DISK_N_OPS; i++) {
		const struct op_stats *o = &sum->op[i];
		const struct {
			const char *name;
			double v;
		} v[] = {
			{ "count", (double)o->n },
			{ "bytes", (double)o->bytes },
			{ "errors", (double)o->errors },
			{ "p50-us", (double)percentile(o, 500) / 1e3 },
			{ "p99-us", (double)percentile(o, 990) / 1e3 },
			{ "p99.9-us", (double)percentile(o, 999) / 1e3 },
			{ "longest-us", (double)o->longest / 1e3 },
		};

		for (size_t j = 0; o->n > 0 && j < ARRAY_SIZE(v); j++) {
			char name[48], text[32];

			snprintf(name, sizeof(name), "%s.%s", ops[i], v[j].name);
			snprintf(text, sizeof(text), "%.15g", v[j].v);
			emit(arg, name, text);
		}
	}
	free(sum);
}

const struct disk_ops disk_filter_stats = {
	.name = "stats",
	.kind = DISK_FILTER,
	.instance_size = sizeof(struct stats),
	.open = stats_open,
	.close = stats_close,
	.submit = stats_submit,
	.attach = stats_attach,
	.detach = stats_detach,
	.info = stats_info,
};
