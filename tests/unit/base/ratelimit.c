/* Token bucket: exact over time for slow and fast rates and for tiny refill times. */
#include "unit.h"
#include "base/ratelimit.h"

/* Requests of `n` as fast as allowed for `span`; returns the tokens that passed. */
static uint64_t run(struct ratelimit *r, uint64_t n, nsec_t span)
{
	nsec_t now = 1000, end = now + span;
	uint64_t passed = 0;

	while (now < end) {
		nsec_t wait = ratelimit_take(r, n, now);

		if (wait == 0)
			passed += n;
		now += wait;
	}
	return passed;
}

static void rates_are_exact(void **state)
{
	static const uint64_t rates[] = { 1, 3, 10, 999, 1000, 100000, 7777777 };

	for (size_t i = 0; i < ARRAY_SIZE(rates); i++) {
		struct ratelimit r;
		uint64_t passed, want = rates[i] * 10;

		ratelimit_init(&r, rates[i], 1);
		passed = run(&r, 1, 10 * NSEC_PER_SEC);
		assert_true(passed >= want && passed <= want + 2);
	}
}

static void bursts_pass_once(void **state)
{
	struct ratelimit r;
	uint64_t passed;

	ratelimit_init(&r, 100, 50);
	passed = run(&r, 1, NSEC_PER_SEC);
	assert_true(passed >= 149 && passed <= 151);
}

static void larger_than_the_burst_is_not_stuck(void **state)
{
	struct ratelimit r;
	uint64_t passed;

	ratelimit_init(&r, 1000, 10);
	passed = run(&r, 500, 10 * NSEC_PER_SEC);
	assert_true(passed >= 10000 && passed <= 10500);
}

static void zero_is_unlimited(void **state)
{
	struct ratelimit r;

	ratelimit_init(&r, 0, 0);
	for (int i = 0; i < 1000; i++)
		assert_true(ratelimit_take(&r, 1 << 20, 0) == 0);
}

static void changes_keep_the_debt(void **state)
{
	struct ratelimit r;
	nsec_t wait;

	ratelimit_init(&r, 100, 1);
	ratelimit_force(&r, 100, 0); /* one second of debt */
	ratelimit_set(&r, 1000, 1, 0);
	wait = ratelimit_take(&r, 1, 0);
	assert_true(wait > 99 * NSEC_PER_MSEC && wait <= 101 * NSEC_PER_MSEC);
}

static void huge_numbers_do_not_wrap(void **state)
{
	struct ratelimit r;

	ratelimit_init(&r, 1, 1);
	ratelimit_force(&r, UINT64_MAX, 0);
	ratelimit_force(&r, UINT64_MAX, 0);
	assert_true(ratelimit_take(&r, 1, 0) > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rates_are_exact),
		cmocka_unit_test(bursts_pass_once),
		cmocka_unit_test(larger_than_the_burst_is_not_stuck),
		cmocka_unit_test(zero_is_unlimited),
		cmocka_unit_test(changes_keep_the_debt),
		cmocka_unit_test(huge_numbers_do_not_wrap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
