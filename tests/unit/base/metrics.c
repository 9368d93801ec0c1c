/* Metrics as OpenMetrics text. */
#include <pthread.h>
#include "unit.h"
#include "base/metrics.h"

static const struct metric_family reads =
	METRIC("disk_reads", METRIC_COUNTER, "", "Reads completed");
static const struct metric_family temp =
	METRIC("balance", METRIC_GAUGE, "bytes", "May be negative");
static const uint64_t bounds[] = { 1000000, 10000000 };
static const struct metric_family lat =
	METRIC_HISTO("latency", "seconds", "Time per request", bounds, 1e-9);

static void *adder(void *arg)
{
	for (int i = 0; i < 100000; i++)
		metric_add(arg, 1);
	return NULL;
}

static void threads_sum_up(void **state)
{
	_cleanup_(metrics_freep) struct metrics *m = NULL;
	struct metric *x;
	pthread_t t[4];

	assert_int_equal(metrics_new(&m), 0);
	x = metric_get(m, &reads, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(t); i++)
		pthread_create(&t[i], NULL, adder, x);
	for (size_t i = 0; i < ARRAY_SIZE(t); i++)
		pthread_join(t[i], NULL);
	assert_int_equal(metric_value(x), 400000);
}

static void prints(void **state)
{
	_cleanup_(metrics_freep) struct metrics *m = NULL;
	_cleanup_(buf_done) struct buf b = { 0 };
	struct metric *x;

	metrics_new(&m);
	x = metric_get(m, &reads, "disk", "a\"b", NULL);
	assert_ptr_equal(x, metric_get(m, &reads, "disk", "a\"b", NULL));
	metric_add(x, 3);
	metric_set(metric_get(m, &temp, NULL), 5);
	metric_move(metric_get(m, &temp, NULL), -7);
	x = metric_get(m, &lat, "q", "0", NULL);
	metric_observe(x, 500000);
	metric_observe(x, 5000000);
	metric_observe(x, 50000000);
	metric_remove(m, metric_get(m, &reads, "disk", "gone", NULL));
	assert_int_equal(metrics_print(m, &b), 0);
	assert_string_equal(buf_str(&b), "# TYPE disk_reads counter\n"
					 "# HELP disk_reads Reads completed.\n"
					 "disk_reads_total{disk=\"a\\\"b\"} 3\n"
					 "# TYPE balance_bytes gauge\n"
					 "# UNIT balance_bytes bytes\n"
					 "# HELP balance_bytes May be negative.\n"
					 "balance_bytes -2\n"
					 "# TYPE latency_seconds histogram\n"
					 "# UNIT latency_seconds seconds\n"
					 "# HELP latency_seconds Time per request.\n"
					 "latency_seconds_bucket{q=\"0\",le=\"0.001\"} 1\n"
					 "latency_seconds_bucket{q=\"0\",le=\"0.01\"} 2\n"
					 "latency_seconds_bucket{q=\"0\",le=\"+Inf\"} 3\n"
					 "latency_seconds_count{q=\"0\"} 3\n"
					 "latency_seconds_sum{q=\"0\"} 0.0555\n"
					 "# EOF\n");
}

static void null_is_a_metric_that_counts_nothing(void **state)
{
	metric_add(NULL, 1);
	metric_observe(NULL, 1);
	metric_set(NULL, 1);
	assert_int_equal(metric_value(NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(threads_sum_up),
		cmocka_unit_test(prints),
		cmocka_unit_test(null_is_a_metric_that_counts_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
