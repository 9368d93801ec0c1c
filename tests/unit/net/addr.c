#include "unit.h"
#include <errno.h>
#include "net/addr.h"

static struct ipprefix prefix(const char *s)
{
	struct ipprefix p;

	assert_int_equal(ipprefix_parse(s, &p), 0);
	return p;
}

static struct ipaddr addr(const char *s)
{
	struct ipaddr a;

	assert_int_equal(ipaddr_parse(s, &a), 0);
	return a;
}

static void parses_and_prints(void **state)
{
	static const char *const bad[] = {
		"",
		"10.0.0",
		"10.0.0.256",
		"1.2.3.4/33",
		"::1/129",
		"/24",
		"10.0.0.0/",
		"10.0.0.0/-1",
		"fd00::/64/64",
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/8"
	};
	char t[IPADDR_TEXT + 4];
	struct ipprefix p;

	p = prefix("10.1.2.3/24");
	assert_string_equal(ipprefix_format(&p, t), "10.1.2.3/24");
	p = prefix("fd00:0:0::1/64");
	assert_string_equal(ipprefix_format(&p, t), "fd00::1/64");
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_int_equal(ipprefix_parse(bad[i], &p), -EINVAL);
}

static void arithmetic(void **state)
{
	struct ipprefix p = prefix("10.0.255.0/23"), q = prefix("10.0.254.0/24"),
			six = prefix("fd00::/64");
	struct ipaddr a = addr("10.0.255.255"), b;
	char t[IPADDR_TEXT];

	b = ipprefix_net(&p);
	assert_string_equal(ipaddr_format(&b, t), "10.0.254.0");
	b = ipprefix_last(&p);
	assert_string_equal(ipaddr_format(&b, t), "10.0.255.255");
	assert_true(ipprefix_contains(&p, &a));
	assert_false(ipprefix_contains(&q, &a));
	assert_true(ipprefix_overlap(&p, &q) && ipprefix_overlap(&q, &p));
	assert_false(ipprefix_overlap(&p, &six));
	b = ipaddr_add(&a, 1);
	assert_string_equal(ipaddr_format(&b, t), "10.1.0.0");
	assert_true(ipprefix_hosts(&q) == 254);
	b = ipprefix_host(&q, 253);
	assert_string_equal(ipaddr_format(&b, t), "10.0.254.254");
	assert_true(ipprefix_hosts(&six) == UINT64_MAX - 1 || ipprefix_hosts(&six) == UINT64_MAX);
	assert_false(
		ipaddr_is_unicast(&(struct ipaddr){ .family = AF_INET, .b = { 224, 0, 0, 1 } }));
}

static void macs(void **state)
{
	uint8_t m[6], n[6], got[6];
	struct ipaddr ll;
	char t[IPADDR_TEXT];

	assert_int_equal(mac_parse("52:54:00:ab:cd:ef", m), 0);
	assert_int_equal(mac_parse("52:54:00:ab:cd", n), -EINVAL);
	assert_int_equal(mac_parse("52-54-00-ab-cd-ef", n), -EINVAL);
	ll = ip6_link_local(m);
	assert_string_equal(ipaddr_format(&ll, t), "fe80::5054:ff:feab:cdef");
	assert_true(ip6_mac(&ll, got));
	assert_memory_equal(got, m, 6);
	/* The same id has the same MAC in every release: NICs of running guests depend on it. */
	mac_of_id("nic-1", 0, m);
	assert_string_equal(mac_format(m, t), "0a:47:0a:e8:12:d0");
	mac_of_id("nic-1", 1, n);
	assert_memory_not_equal(m, n, 6);
	assert_true(mac_is_unicast(m) && (m[0] & 2));
}

/* 10 000 ids, no MAC twice: the birthday bound of 40 bits is one in 20 000. */
static int by_value(const void *a, const void *b)
{
	return memcmp(a, b, 6);
}

static void macs_are_unique(void **state)
{
	static uint8_t m[10000][6];
	char id[32];

	for (int i = 0; i < 10000; i++) {
		snprintf(id, sizeof(id), "nic-%d", i);
		mac_of_id(id, 0, m[i]);
	}
	qsort(m, 10000, 6, by_value);
	for (int i = 1; i < 10000; i++)
		assert_memory_not_equal(m[i - 1], m[i], 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(parses_and_prints),
					    cmocka_unit_test(arithmetic), cmocka_unit_test(macs),
					    cmocka_unit_test(macs_are_unique) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
