/* Clocks and RFC 3339 times. */
#include "unit.h"
#include <errno.h>
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(virtual_time_moves_only_by_hand),
		cmocka_unit_test(monotonic_does_not_go_back),
		cmocka_unit_test(times_round_trip),
		cmocka_unit_test(bad_times_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
