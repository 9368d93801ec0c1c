#include "unit.h"
#include "net/qos/shape.h"

static void rates(void **state)
{
	struct rtnl_tbf s = shape_of(&(struct net_rate){ .average = 8000000 }, 1500);

	assert_int_equal(s.rate, 1000000 * 1514 / 1500);
	assert_int_equal(s.peak, 0);
	assert_true(s.burst >= 1518 &&
		    s.burst <= 16384); /* a burst must not show in a test of seconds */
	s = shape_of(
		&(struct net_rate){ .average = 1000000000, .peak = 2000000000, .burst = 10000000 },
		1500);
	assert_int_equal(s.burst, 10000000);
	assert_true(s.peak > s.rate && s.peak_burst >= 1518);
	s = shape_of(&(struct net_rate){ .average = 8000, .burst = 1 }, 9000);
	assert_true(s.burst >= 9018); /* less than a packet would stop the link */
	s = shape_of(&(struct net_rate){ .average = 1000000, .peak = 1000000 }, 1500);
	assert_int_equal(s.peak, 0);
}

static void changes(void **state)
{
	struct rtnl_tbf fast = shape_of(&(struct net_rate){ .average = 50000000 }, 1500),
			slow = shape_of(&(struct net_rate){ .average = 10000000 }, 1500),
			seen = fast;

	seen.burst -= 3; /* as the kernel rounds */
	assert_true(shape_same(&fast, &seen));
	assert_false(shape_same(&slow, &fast));
	assert_true(shape_chokes(&slow, &fast));
	assert_false(shape_chokes(&fast, &slow));
	slow = shape_of(&(struct net_rate){ .average = 50000000, .peak = 60000000 }, 1500);
	assert_true(shape_chokes(&slow, &fast));
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(rates), cmocka_unit_test(changes) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
