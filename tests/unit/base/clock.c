/* Clocks and RFC 3339 times. */
#include "unit.h"
#include <errno.h>
#include <time.h>
#include "base/clock.h"

static void virtual_time_moves_only_by_hand(void **state)
{
	struct clock c;

	clock_virtual_init(&c);
	assert_true(clock_now(&c) == 0);
	clock_advance(&c, 5);
	assert_true(clock_now(&c) == 5);
}

static void monotonic_does_not_go_back(void **state)
{
	nsec_t a = now_mono();

	assert_true(now_mono() >= a);
}

static void times_round_trip(void **state)
{
	static const char *const good[] = { "1970-01-01T00:00:00.000Z", "2026-02-28T23:59:59.999Z",
					    "2000-02-29T12:00:00.001Z",
					    "1969-12-31T23:59:59.500Z" };
	char b[32];
	nsec_t t, u;

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(parse_time(good[i], &t), 0);
		assert_string_equal(format_time(t, b, sizeof(b)), good[i]);
	}
	assert_int_equal(parse_time("2026-01-01T02:00:00+02:00", &t), 0);
	assert_int_equal(parse_time("2026-01-01T00:00:00Z", &u), 0);
	assert_true(t == u);
}

static void bad_times_are_refused(void **state)
{
	static const char *const bad[] = { "",
					   "2026-01-01",
					   "2026-01-01T00:00:00",
					   "2026-04-31T00:00:00Z",
					   "2026-13-01T00:00:00Z",
					   "2026-01-01T24:00:00Z",
					   "2026-01-01T00:00:00.Z",
					   "2026-01-01T00:00:00Zx",
					   "9999-01-01T00:00:00Z" };
	nsec_t t;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(parse_time(bad[i], &t), -EINVAL);
}

static void the_calendar_is_the_c_library_s(void **state)
{
	uint64_t x = 88172645463325252;

	for (int i = 0; i < 20000; i++) {
		int64_t t;
		struct tm ours, theirs = { 0 };

		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		t = (int64_t)x >> (i % 24 + 12); /* up to 71 million years around 1970 */
		if (!gmtime_r(&(time_t){ t }, &theirs))
			continue;
		utc_date(t, &ours);
		assert_int_equal(ours.tm_year, theirs.tm_year);
		assert_int_equal(ours.tm_mon, theirs.tm_mon);
		assert_int_equal(ours.tm_mday, theirs.tm_mday);
		assert_int_equal(ours.tm_hour, theirs.tm_hour);
		assert_int_equal(ours.tm_min, theirs.tm_min);
		assert_int_equal(ours.tm_sec, theirs.tm_sec);
		assert_int_equal(ours.tm_wday, theirs.tm_wday);
		assert_int_equal(ours.tm_yday, theirs.tm_yday);
		assert_true(utc_days(ours.tm_year + 1900L, ours.tm_mon + 1, ours.tm_mday) ==
			    t / 86400 - (t % 86400 < 0));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(virtual_time_moves_only_by_hand),
		cmocka_unit_test(monotonic_does_not_go_back),
		cmocka_unit_test(times_round_trip),
		cmocka_unit_test(the_calendar_is_the_c_library_s),
		cmocka_unit_test(bad_times_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
