/* Metrics; see metrics.h.  Adds go to one of SHARDS cache lines chosen by thread; a reader sums them. */
#include "base/metrics.h"

#include <pthread.h>
#include <stdarg.h>
#include <string.h>
#include "base/list.h"
#include "base/str.h"

#define SHARDS	   8
#define BOUNDS_MAX 24

struct shard {
	/* [0]: value or sum; [1..n_bounds+1]: bucket counts of a histogram */
	uint64_t v[2 + BOUNDS_MAX];
} __attribute__((aligned(64)));

struct metric {
	struct list node;
	const struct metric_family *family;
	char *labels; /* {a="b",c="d"} or "" */
	int64_t gauge;
	struct shard *shards; /* NULL for gauges */
};

struct family {
	struct list node, metrics;
	const struct metric_family *def;
};

struct metrics {
	pthread_mutex_t lock;
	struct list families;
};

int metrics_new(struct metrics **ret)
{
	struct metrics *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	pthread_mutex_init(&m->lock, NULL);
	list_init(&m->families);
	*ret = m;
	return 0;
}

static void metric_free(struct metric *x)
{
	free(x->labels);
	free(x->shards);
	free(x);
}

void metrics_free(struct metrics *m)
{
	struct list *fn, *mn;

	if (!m)
		return;
	while ((fn = list_pop(&m->families))) {
		struct family *f = list_entry(fn, struct family, node);

		while ((mn = list_pop(&f->metrics)))
			metric_free(list_entry(mn, struct metric, node));
		free(f);
	}
	pthread_mutex_destroy(&m->lock);
	free(m);
}

static struct family *get_family(struct metrics *m, const struct metric_family *def)
{
	struct family *f;

	list_for_each_entry(f, &m->families, node) {
		if (f->def == def)
			return f;
	}
	f = calloc(1, sizeof(*f));
	if (!f)
		return NULL;
	f->def = def;
	list_init(&f->metrics);
	list_add_tail(&m->families, &f->node);
	return f;
}

static char *format_labels(va_list ap)
{
	struct buf b = { 0 };
	const char *name;

	while ((name = va_arg(ap, const char *))) {
		buf_addf(&b, "%s%s=\"", b.len ? "," : "{", name);
		for (const char *p = va_arg(ap, const char *); *p; p++) {
			if (*p == '\n')
				buf_adds(&b, "\\n");
			else if (*p == '"' || *p == '\\')
				buf_addf(&b, "\\%c", *p);
			else
				buf_addc(&b, *p);
		}
		buf_addc(&b, '"');
	}
	if (b.len)
		buf_addc(&b, '}');
	return buf_take(&b);
}

static struct metric *metric_new(const struct metric_family *def, char *labels)
{
	struct metric *x = calloc(1, sizeof(*x));

	if (!x)
		return NULL;
	x->family = def;
	x->labels = labels;
	if (def->type != METRIC_GAUGE) {
		x->shards = aligned_alloc(64, SHARDS * sizeof(*x->shards));
		if (!x->shards) {
			free(x);
			return NULL;
		}
		memset(x->shards, 0, SHARDS * sizeof(*x->shards));
	}
	return x;
}

struct metric *metric_get(struct metrics *m, const struct metric_family *def, ...)
{
	_cleanup_(freep) char *labels = NULL;
	struct metric *x, *found = NULL;
	struct family *f;
	va_list ap;

	va_start(ap, def);
	labels = format_labels(ap);
	va_end(ap);
	if (!labels || def->n_bounds > BOUNDS_MAX)
		return NULL;
	pthread_mutex_lock(&m->lock);
	f = get_family(m, def);
	if (f) {
		list_for_each_entry(x, &f->metrics, node) {
			if (streq(x->labels, labels)) {
				found = x;
				break;
			}
		}
		if (!found && (found = metric_new(def, labels))) {
			labels = NULL;
			list_add_tail(&f->metrics, &found->node);
		}
	}
	pthread_mutex_unlock(&m->lock);
	return found;
}

void metric_remove(struct metrics *m, struct metric *x)
{
	if (!x)
		return;
	pthread_mutex_lock(&m->lock);
	list_del(&x->node);
	pthread_mutex_unlock(&m->lock);
	metric_free(x);
}

static struct shard *my_shard(struct metric *x)
{
	static _Thread_local unsigned int mine;
	static unsigned int next;

	if (!mine)
		mine = __atomic_add_fetch(&next, 1, __ATOMIC_RELAXED);
	return &x->shards[mine % SHARDS];
}

static void bump(uint64_t *p, uint64_t n)
{
	__atomic_fetch_add(p, n, __ATOMIC_RELAXED);
}

void metric_add(struct metric *x, uint64_t n)
{
	if (x)
		bump(&my_shard(x)->v[0], n);
}

void metric_set(struct metric *x, int64_t value)
{
	if (x)
		__atomic_store_n(&x->gauge, value, __ATOMIC_RELAXED);
}

void metric_move(struct metric *x, int64_t delta)
{
	if (x)
		__atomic_fetch_add(&x->gauge, delta, __ATOMIC_RELAXED);
}

void metric_observe(struct metric *x, uint64_t v)
{
	struct shard *s;
	size_t i = 0;

	if (!x)
		return;
	s = my_shard(x);
	while (i < x->family->n_bounds && v > x->family->bounds[i])
		i++;
	bump(&s->v[0], v);
	bump(&s->v[1 + i], 1);
}

static uint64_t sum_of(const struct metric *x, size_t i)
{
	uint64_t sum = 0;

	for (size_t k = 0; k < SHARDS; k++)
		sum += __atomic_load_n(&x->shards[k].v[i], __ATOMIC_RELAXED);
	return sum;
}

uint64_t metric_value(const struct metric *x)
{
	if (!x)
		return 0;
	if (x->family->type == METRIC_GAUGE)
		return (uint64_t)__atomic_load_n(&x->gauge, __ATOMIC_RELAXED);
	return sum_of(x, 0);
}

static void print_number(struct buf *out, const struct metric_family *f, uint64_t raw)
{
	if (f->scale > 0)
		buf_addf(out, "%.9g", (double)raw * f->scale);
	else if (f->type == METRIC_GAUGE)
		buf_addf(out, "%lld", (long long)raw);
	else
		buf_addf(out, "%llu", (unsigned long long)raw);
}

static void print_histogram(struct buf *out, const char *name, const struct metric *x)
{
	const struct metric_family *f = x->family;
	const char *labels = x->labels;
	/* "{a="b"" without the closing brace, to add le */
	int open_len = labels[0] ? (int)strlen(labels) - 1 : 1;
	const char *open = labels[0] ? labels : "{", *comma = labels[0] ? "," : "";
	uint64_t count = 0;

	for (size_t i = 0; i <= f->n_bounds; i++) {
		count += sum_of(x, 1 + i);
		buf_addf(out, "%s_bucket%.*s%sle=\"", name, open_len, open, comma);
		if (i < f->n_bounds)
			buf_addf(out, "%.9g", (double)f->bounds[i] * (f->scale > 0 ? f->scale : 1));
		else
			buf_adds(out, "+Inf");
		buf_addf(out, "\"} %llu\n", (unsigned long long)count);
	}
	buf_addf(out, "%s_count%s %llu\n%s_sum%s ", name, labels, (unsigned long long)count, name,
		 labels);
	print_number(out, f, sum_of(x, 0));
	buf_addc(out, '\n');
}

static void print_family(struct buf *out, const struct family *fam)
{
	static const char *const types[] = { "counter", "gauge", "histogram" };
	const struct metric_family *f = fam->def;
	const char *unit = f->unit ? f->unit : "";
	char name[128], suffix[40];
	struct metric *x;

	snprintf(suffix, sizeof(suffix), "_%s", unit);
	snprintf(name, sizeof(name), "%s%s", f->name,
		 *unit && !str_ends(f->name, suffix) ? suffix : "");
	buf_addf(out, "# TYPE %s %s\n", name, types[f->type]);
	if (*unit)
		buf_addf(out, "# UNIT %s %s\n", name, unit);
	buf_addf(out, "# HELP %s %s.\n", name, f->help);
	list_for_each_entry(x, &fam->metrics, node) {
		if (f->type == METRIC_HISTOGRAM) {
			print_histogram(out, name, x);
			continue;
		}
		buf_addf(out, "%s%s%s ", name, f->type == METRIC_COUNTER ? "_total" : "",
			 x->labels);
		print_number(out, f, metric_value(x));
		buf_addc(out, '\n');
	}
}

int metrics_print(struct metrics *m, struct buf *out)
{
	struct family *f;

	pthread_mutex_lock(&m->lock);
	list_for_each_entry(f, &m->families, node) {
		if (!list_empty(&f->metrics))
			print_family(out, f);
	}
	pthread_mutex_unlock(&m->lock);
	buf_adds(out, "# EOF\n");
	return buf_error(out);
}
