/* Filters: limits under a virtual clock, the throttle's turns and live changes, faults above and below a format, latencies.
 * With STRATA_LONG=1 also the throttle against the real clock. */
#include "unit.h"
#include "base/clock.h"
#include "base/loop.h"
#include "base/str.h"
#include "storage/filters/limits.h"
#include "storage/storage.h"

#define PATIENCE (60 * NSEC_PER_SEC)

static void set(struct limits *l, const char *name, const char *value)
{
	assert_int_equal(limits_set(l, name, value, 0, NULL), 0);
}

/* A client that never rests, for `span` of virtual time from *now on: how many requests pass. */
static uint64_t saturate(struct limits *l, bool write, uint64_t bytes, nsec_t *now, nsec_t span)
{
	nsec_t end = *now + span;
	uint64_t n = 0;

	for (;;) {
		nsec_t wait = limits_wait(l, write, bytes, *now);

		if (wait == 0) {
			limits_take(l, write, bytes, *now);
			n++;
		} else if (*now + wait > end) {
			*now = end;
			return n;
		} else {
			*now += wait;
		}
	}
}

static void assert_near(uint64_t got, uint64_t want, double part)
{
	if ((double)got < (double)want * (1 - part) || (double)got > (double)want * (1 + part))
		fail_msg("%llu, wanted about %llu", (unsigned long long)got,
			 (unsigned long long)want);
}

static void limits_hold_within_three_percent(void **state)
{
	for (uint64_t rate = 10; rate <= 100000; rate *= 10) {
		struct limits l = { 0 };
		nsec_t now = NSEC_PER_SEC;
		char text[32];

		snprintf(text, sizeof(text), "%llu", (unsigned long long)rate);
		set(&l, "iops-total", text);
		assert_near(saturate(&l, false, 4096, &now, 10 * NSEC_PER_SEC), 10 * rate, 0.03);
		/* idling for a minute is good for 100 ms, not for more */
		now += 60 * NSEC_PER_SEC;
		assert_near(saturate(&l, true, 4096, &now, 10 * NSEC_PER_SEC), 10 * rate, 0.03);
	}
	for (uint64_t size = 512; size <= MIB; size *= 8) {
		struct limits l = { 0 };
		nsec_t now = 0;

		set(&l, "bps-total", "50M");
		assert_near(saturate(&l, true, size, &now, 10 * NSEC_PER_SEC) * size, 500 * MIB,
			    0.03);
	}
}

static void directions_and_totals_add_up(void **state)
{
	struct limits l = { 0 };
	uint64_t r = 0, w = 0;

	set(&l, "iops-read", "100");
	set(&l, "iops-write", "60");
	set(&l, "bps-write", "1M");
	set(&l, "iops-total", "130");
	for (nsec_t now = 0; now < 10 * NSEC_PER_SEC; now += NSEC_PER_MSEC) {
		if (limits_wait(&l, false, 4096, now) == 0) {
			limits_take(&l, false, 4096, now);
			r++;
		}
		if (limits_wait(&l, true, 4096, now) == 0) {
			limits_take(&l, true, 4096, now);
			w++;
		}
	}
	assert_near(r + w, 1300, 0.03);
	assert_true(r <= 1030 && w <= 618);
	assert_int_equal(limits_set(&l, "iops-other", "1", 0, NULL), -ENOENT);
	assert_int_equal(limits_set(&l, "iops-total", "many", 0, NULL), -EINVAL);
	set(&l, "iops-read-max", "50");
	assert_int_equal(limits_check(&l, NULL), -EINVAL);
}

static void bursts_last_as_long_as_they_say(void **state)
{
	struct limits l = { 0 };
	nsec_t now = 0;

	set(&l, "iops-total", "1000");
	set(&l, "iops-total-max", "5000");
	set(&l, "iops-total-length", "3s");
	assert_int_equal(limits_check(&l, NULL), 0);
	assert_near(saturate(&l, false, 512, &now, 3 * NSEC_PER_SEC), 15000, 0.05);
	assert_near(saturate(&l, false, 512, &now, 10 * NSEC_PER_SEC), 10000, 0.06);
	/* idle until the bucket is full: (5000 - 1000) * 3 at 1000 a second */
	now += 12 * NSEC_PER_SEC;
	assert_near(saturate(&l, false, 512, &now, 3 * NSEC_PER_SEC), 15000, 0.05);
	/* half as long: half a burst */
	now += 6 * NSEC_PER_SEC;
	assert_near(saturate(&l, false, 512, &now, 3 * NSEC_PER_SEC), 9000, 0.07);
}

/* ---- in a disk ---- */

struct client {
	struct disk *d;
	struct disk_queue *q;
	struct disk_io io[16];
	struct iovec iov;
	uint64_t done, *all, stop;
	const struct client *other; /* whose count is noted with each completion */
	uint64_t seen;
	int last;
};
static char page[4096];

static void client_done(struct disk_io *io, int r)
{
	struct client *c = io->data;

	c->last = r;
	c->done++;
	c->seen = c->other ? c->other->done : 0;
	if (++*c->all < c->stop) {
		io->off = 0;
		disk_submit(c->q, io);
	}
}

static void client_open(struct client *c, struct loop *loop, const struct disk_filter_cfg *f,
			size_t n, uint64_t *all)
{
	struct disk_cfg cfg = {
		.driver = "mem", .format = "raw", .mem_size = MIB, .filters = f, .n_filters = n
	};

	*c = (struct client){ .all = all, .iov = { page, sizeof(page) } };
	assert_int_equal(disk_open(&cfg, &c->d, NULL), 0);
	assert_int_equal(disk_queue_open(c->d, loop, &c->q, NULL), 0);
}

static void client_start(struct client *c, unsigned int depth, uint64_t stop)
{
	c->stop = stop;
	for (unsigned int i = 0; i < depth; i++) {
		c->io[i] = (struct disk_io){ .op = DISK_WRITE,
					     .len = sizeof(page),
					     .iov = &c->iov,
					     .niov = 1,
					     .done = client_done,
					     .data = c };
		disk_submit(c->q, &c->io[i]);
	}
}

static void client_close(struct client *c)
{
	disk_queue_close(c->q);
	assert_int_equal(disk_close(c->d), 0);
}

static void run_until(struct loop *loop, const uint64_t *n, uint64_t want)
{
	nsec_t end = now_mono() + PATIENCE;

	while (*n < want && now_mono() < end)
		loop_once(loop, 100 * NSEC_PER_MSEC);
	assert_true(*n >= want);
}

static void groups_take_turns(void **state)
{
	const char *const params[] = { "group", "g", "iops-total", "2000", NULL };
	const struct disk_filter_cfg f = { "throttle", params, false };
	struct client a, b;
	struct loop *loop;
	uint64_t all = 0, before;

	assert_int_equal(loop_new(NULL, &loop), 0);
	client_open(&a, loop, &f, 1, &all);
	client_open(&b, loop, &f, 1, &all);
	b.other = &a;
	/* one never rests; eight requests of the other are not put behind all of its, but between them */
	client_start(&a, 16, UINT64_MAX);
	run_until(loop, &all, 300);
	before = a.done;
	client_start(&b, 8, 0);
	run_until(loop, &b.done, 8);
	assert_true(b.seen - before <= 24);
	a.stop = 0;
	while (disk_inflight(a.q) > 0)
		loop_once(loop, 100 * NSEC_PER_MSEC);
	client_close(&a);
	client_close(&b);
	loop_free(loop);
}

static void limits_change_while_requests_wait(void **state)
{
	const char *const params[] = { "iops-total", "1", NULL };
	const struct disk_filter_cfg f = { "throttle", params, false };
	struct client c;
	struct loop *loop;
	uint64_t all = 0;

	assert_int_equal(loop_new(NULL, &loop), 0);
	client_open(&c, loop, &f, 1, &all);
	client_start(&c, 16, 0); /* a quarter of a minute, at one a second */
	run_until(loop, &all, 1);
	assert_int_equal(disk_set_param(c.d, "throttle", "iops-total", "0", NULL), 0);
	run_until(loop, &all, 16);
	assert_int_equal(disk_set_param(c.d, "throttle", "iops-total", "1", NULL), 0);
	client_start(&c, 16, 0);
	loop_once(loop, 0);
	assert_true(all < 32);
	assert_int_equal(disk_set_param(c.d, "throttle", "bypass", "on", NULL), 0);
	run_until(loop, &all, 32);
	assert_int_equal(disk_set_param(c.d, "throttle", "bypass", "perhaps", NULL), -EINVAL);
	assert_int_equal(disk_set_param(c.d, "throttle", "iops", "5", NULL), -EINVAL);
	assert_int_equal(disk_set_param(c.d, "nothing", "iops", "5", NULL), -ENOENT);
	client_close(&c);
	loop_free(loop);
}

/* Blocking calls are limited too, and a kick that comes late does no harm. */
static void blocking_calls_wait(void **state)
{
	const char *const params[] = { "iops-total", "1000", NULL };
	const struct disk_filter_cfg f = { "throttle", params, false };
	struct disk_cfg cfg = {
		.driver = "mem", .format = "raw", .mem_size = MIB, .filters = &f, .n_filters = 1
	};
	struct disk *d;
	nsec_t t;

	assert_int_equal(disk_open(&cfg, &d, NULL), 0);
	t = now_mono();
	for (int i = 0; i < 300; i++)
		assert_int_equal(disk_pwrite(d, page, 512, 0), 0);
	assert_true(now_mono() - t >= 190 * NSEC_PER_MSEC); /* 100 of them from the bucket */
	assert_int_equal(disk_flush(d), 0);
	assert_int_equal(disk_close(d), 0);
}

static void faults_hit_what_they_should(void **state)
{
	const char *const params[] = { "rule", "op=write from=4K to=8K nth=2 count=1 errno=ENOSPC",
				       "rule", "op=read from=64K to=65K short=100", NULL };
	const struct disk_filter_cfg f = { "fault", params, false };
	struct disk_cfg cfg = {
		.driver = "mem", .format = "raw", .mem_size = MIB, .filters = &f, .n_filters = 1
	};
	struct err *e = NULL;
	char b[4096];
	struct disk *d;
	nsec_t t;

	assert_int_equal(disk_open(&cfg, &d, NULL), 0);
	assert_int_equal(disk_pwrite(d, page, 4096, 0), 0);
	assert_int_equal(disk_pwrite(d, page, 4096, 4096), 0);
	assert_int_equal(disk_pwrite(d, page, 4097, 0), -ENOSPC);
	assert_int_equal(disk_pwrite(d, page, 4096, 4096), 0);
	memset(b, 7, sizeof(b));
	assert_int_equal(disk_pread(d, b, 4096, 65536), -EIO);
	assert_true(b[99] == 0 && b[100] == 7);
	assert_int_equal(disk_set_param(d, "fault", "clear", "", NULL), 0);
	assert_int_equal(disk_pread(d, b, 4096, 65536), 0);
	assert_int_equal(disk_set_param(d, "fault", "rule", "op=flush delay=50ms errno=EIO", NULL),
			 0);
	t = now_mono();
	assert_int_equal(disk_flush(d), -EIO);
	assert_true(now_mono() - t >= 50 * NSEC_PER_MSEC);
	assert_int_equal(disk_set_param(d, "fault", "rule", "op=walk errno=EIO", &e), -EINVAL);
	err_clear(&e);
	assert_int_equal(disk_set_param(d, "fault", "rule", "op=read", NULL), -EINVAL);
	assert_int_equal(disk_close(d), 0);
}

/* Below qcow2: what the format writes by itself fails too, the guest is told, and the image stays whole. */
static void faults_below_a_format(void **state)
{
	const char *const params[] = { "rule", "op=write from=0 nth=1 count=1 errno=ENOSPC", NULL };
	const struct disk_filter_cfg f = { "fault", NULL, true };
	char path[] = "/tmp/strata-unit-XXXXXX";
	struct disk_create c = { .format = "qcow2", .path = path, .size = MIB };
	struct disk_cfg cfg = { .path = path, .format = "qcow2", .filters = &f, .n_filters = 1 };
	struct disk_check check = { 0 };
	struct disk *d;
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(disk_create(&c, NULL), 0);
	assert_int_equal(disk_open(&cfg, &d, NULL), 0);
	assert_int_equal(disk_set_param(d, "fault", params[0], params[1], NULL), 0);
	assert_int_equal(disk_pwrite(d, page, 4096, 0), -ENOSPC);
	assert_int_equal(disk_pwrite(d, page, 4096, 8192), 0);
	assert_int_equal(disk_close(d), 0);
	cfg.n_filters = 0;
	assert_int_equal(disk_open(&cfg, &d, NULL), 0);
	assert_int_equal(disk_check(d, DISK_REPAIR_NONE, &check, NULL), 0);
	assert_int_equal(check.corruptions, 0);
	assert_int_equal(disk_close(d), 0);
	unlink(path);
}

static void emit(void *arg, const char *name, const char *value)
{
	if (streq(name, "write.count"))
		((char *)arg)[0] = value[0];
	if (streq(name, "write.p50-us"))
		((char *)arg)[1] = strtod(value, NULL) > 0 ? '+' : '-';
	if (streq(name, "read.count"))
		((char *)arg)[2] = value[0];
}

static void stats_count(void **state)
{
	const struct disk_filter_cfg f[] = { { "stats", NULL, false }, { "fault", NULL, false } };
	struct disk_cfg cfg = {
		.driver = "mem", .format = "raw", .mem_size = MIB, .filters = f, .n_filters = 2
	};
	char seen[4] = "...";
	struct disk *d;

	assert_int_equal(disk_open(&cfg, &d, NULL), 0);
	for (int i = 0; i < 7; i++)
		assert_int_equal(disk_pwrite(d, page, 4096, 0), 0);
	assert_int_equal(disk_filter_info(d, "stats", emit, seen), 0);
	assert_string_equal(seen, "7+.");
	assert_int_equal(disk_filter_info(d, "throttle", emit, seen), -ENOENT);
	assert_int_equal(disk_close(d), 0);
}

/* Needs a machine that is not starved: STRATA_LONG. */
static void the_real_clock_agrees(void **state)
{
	static const char *const rates[] = { "10", "1000", "100000" };

	if (!getenv("STRATA_LONG"))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(rates); i++) {
		const char *const params[] = { "iops-total", rates[i], NULL };
		const struct disk_filter_cfg f = { "throttle", params, false };
		uint64_t all = 0, rate = strtoull(rates[i], NULL, 10);
		struct client c;
		struct loop *loop;
		nsec_t end;

		assert_int_equal(loop_new(NULL, &loop), 0);
		client_open(&c, loop, &f, 1, &all);
		end = now_mono() + 10 * NSEC_PER_SEC;
		client_start(&c, 16, UINT64_MAX);
		while (now_mono() < end)
			loop_once(loop, end - now_mono());
		assert_near(all, 10 * rate, 0.03);
		c.stop = 0;
		disk_set_param(c.d, "throttle", "bypass", "on", NULL);
		while (disk_inflight(c.q) > 0)
			loop_once(loop, NSEC_PER_MSEC);
		client_close(&c);
		loop_free(loop);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(limits_hold_within_three_percent),
		cmocka_unit_test(directions_and_totals_add_up),
		cmocka_unit_test(bursts_last_as_long_as_they_say),
		cmocka_unit_test(groups_take_turns),
		cmocka_unit_test(limits_change_while_requests_wait),
		cmocka_unit_test(blocking_calls_wait),
		cmocka_unit_test(faults_hit_what_they_should),
		cmocka_unit_test(faults_below_a_format),
		cmocka_unit_test(stats_count),
		cmocka_unit_test(the_real_clock_agrees),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
