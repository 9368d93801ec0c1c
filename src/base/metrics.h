/* Counters, gauges and histograms, always on, printed as OpenMetrics text.
 *
 *	static struct metric_family reads = METRIC("strata_disk_reads", METRIC_COUNTER, "requests", "Reads completed");
 *	struct metric *m = metric_get(reg, &reads, "disk", id, NULL);      once, at set-up
 *	metric_add(m, 1);                                                  any thread, a relaxed add on its own line
 *	metrics_print(reg, out);                                           on scrape: shards are summed
 *
 * Names follow OpenMetrics: the printer adds "_total" to counters; the unit ends the family's name when it is not
 * empty and not there yet.  Source: OpenMetrics 1.0. */
#ifndef BASE_METRICS_H
#define BASE_METRICS_H

#include "base/buf.h"
#include "base/err.h"
#include "base/types.h"

struct metrics; /* a registry */
struct metric;

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

struct metric_family {
	const char *name;
	enum metric_type type;
	const char *unit, *help;
	/* histograms: upper bounds in ascending order, without +Inf; observed and printed in `scale`ths */
	const uint64_t *bounds;
	size_t n_bounds;
	double scale; /* printed value = raw * scale; 0 means 1.  Time: raw nanoseconds, scale 1e-9 */
};

#define METRIC(n, t, u, h)                                         \
	{                                                          \
		.name = (n), .type = (t), .unit = (u), .help = (h) \
	}
#define METRIC_HISTO(n, u, h, b, s)                                                             \
	{                                                                                       \
		.name = (n), .type = METRIC_HISTOGRAM, .unit = (u), .help = (h), .bounds = (b), \
		.n_bounds = ARRAY_SIZE(b), .scale = (s)                                         \
	}

int metrics_new(struct metrics **ret);
void metrics_free(struct metrics *m); /* and every metric in it */
DEFINE_CLEANUP(struct metrics *, metrics_free);

/* The metric with these labels (name, value pairs, NULL at the end), made when it is new; NULL when memory is short:
 * every function below takes NULL.  Thread: any, under a lock; keep the pointer. */
struct metric *metric_get(struct metrics *m, const struct metric_family *f, ...)
	__attribute__((sentinel));
/* Forget one, when its object is gone; its pointer is dead then. */
void metric_remove(struct metrics *m, struct metric *x);

void metric_add(struct metric *x, uint64_t n);	   /* counters */
void metric_set(struct metric *x, int64_t value);  /* gauges */
void metric_move(struct metric *x, int64_t delta); /* gauges */
void metric_observe(struct metric *x, uint64_t v); /* histograms */
uint64_t metric_value(const struct metric *x); /* sum of the shards; gauges as two's complement */

/* All families in the order of their first use, then "# EOF". */
int metrics_print(struct metrics *m, struct buf *out);

#endif
