/* Bad input is refused with one line that names the object. */
#include "unit.h"
#include "net/net.h"

#define NET  "\"networks\": [{\"id\": \"n\"}, {\"id\": \"m\"}]"
#define PG   "\"portgroups\": [{\"id\": \"p\", \"network\": \"n\", \"subnet4\": \"10.0.0.0/24\"}]"
#define BASE NET ", " PG

static int check(const char *text, char *msg, size_t len)
{
	_cleanup_(err_freep) struct err *e = NULL;
	struct net_spec s = { 0 };
	int r = net_spec_parse(text, strlen(text), &s, &e);

	if (r == 0)
		r = net_spec_check(&s, &e);
	net_spec_done(&s);
	snprintf(msg, len, "%s", err_msg(e));
	if (r < 0)
		assert_non_null(e);
	return r;
}

static void refuses(void **state)
{
	static const struct {
		const char *text, *says;
	} bad[] = {
		{ "[]", "expected an object" },
		{ "{\"netwroks\": []}", "did you mean" },
		{ "{" NET ", \"portgroups\": [{\"id\": \"p\", \"network\": \"x\"}]}",
		  "no network 'x'" },
		{ "{" NET
		  ", \"portgroups\": [{\"id\": \"p\", \"network\": \"n\", \"subnet4\": \"10.0.0.1/24\"}]}",
		  "host bits" },
		{ "{" NET
		  ", \"portgroups\": [{\"id\": \"p\", \"network\": \"n\", \"subnet4\": \"10.0.0.0/24\"},"
		  "{\"id\": \"q\", \"network\": \"n\", \"subnet4\": \"10.0.0.128/25\"}]}",
		  "overlaps" },
		{ "{\"networks\": [{\"id\": \"n\", \"mode\": \"routed\"}, {\"id\": \"m\", \"mode\": \"routed\"}],"
		  "\"portgroups\": [{\"id\": \"p\", \"network\": \"n\", \"subnet4\": \"10.0.0.0/24\"},"
		  "{\"id\": \"q\", \"network\": \"m\", \"subnet4\": \"10.0.0.0/16\"}]}",
		  "overlaps" },
		{ "{" NET
		  ", \"portgroups\": [{\"id\": \"p\", \"network\": \"n\", \"vlan\": 4095, \"uplink\": \"e0\"}]}",
		  "from 1 to 4094" },
		{ "{" NET ", \"portgroups\": [{\"id\": \"p\", \"network\": \"n\", \"vlan\": 7}]}",
		  "without an uplink" },
		{ "{" NET
		  ", \"portgroups\": [{\"id\": \"p\", \"network\": \"n\", \"vlan\": 7, \"uplink\": \"e\"},"
		  "{\"id\": \"q\", \"network\": \"m\", \"vlan\": 7, \"uplink\": \"e\"}]}",
		  "belongs to port group" },
		{ "{" NET ", \"portgroups\": [{\"id\": \"p\", \"network\": \"n\", \"mtu\": 100}]}",
		  "MTU" },
		{ "{" NET
		  ", \"portgroups\": [{\"id\": \"p\", \"network\": \"n\", \"subnet4\": \"224.0.0.0/24\"}]}",
		  "not for hosts" },
		{ "{" NET
		  ", \"portgroups\": [{\"id\": \"p\", \"network\": \"n\", \"subnet4\": \"10.0.0.0/24\", \"gateway4\": \"10.0.1.1\"}]}",
		  "gateway" },
		{ "{" BASE ", \"nics\": [{\"id\": \"a\", \"portgroup\": \"z\"}]}",
		  "no port group 'z'" },
		{ "{" BASE
		  ", \"nics\": [{\"id\": \"a\", \"portgroup\": \"p\"}, {\"id\": \"a\", \"portgroup\": \"p\"}]}",
		  "twice" },
		{ "{" BASE
		  ", \"nics\": [{\"id\": \"a\", \"portgroup\": \"p\", \"mac\": \"52:54:00:00:00:01\"},"
		  "{\"id\": \"b\", \"portgroup\": \"p\", \"mac\": \"52:54:00:00:00:01\"}]}",
		  "same MAC" },
		{ "{" BASE
		  ", \"nics\": [{\"id\": \"a\", \"portgroup\": \"p\", \"mac\": \"53:54:00:00:00:01\"}]}",
		  "group address" },
		{ "{" BASE
		  ", \"nics\": [{\"id\": \"a\", \"portgroup\": \"p\", \"addresses\": [\"10.0.0.9\"]},"
		  "{\"id\": \"b\", \"portgroup\": \"p\", \"addresses\": [\"10.0.0.9\"]}]}",
		  "has 10.0.0.9 already" },
		{ "{" BASE
		  ", \"nics\": [{\"id\": \"a\", \"portgroup\": \"p\", \"addresses\": [\"10.0.1.9\"]}]}",
		  "not a host of" },
		{ "{" BASE
		  ", \"nics\": [{\"id\": \"a\", \"portgroup\": \"p\", \"addresses\": [\"10.0.0.1\"]}]}",
		  "is the gateway" },
		{ "{" BASE
		  ", \"nics\": [{\"id\": \"a\", \"portgroup\": \"p\", \"addresses\": [\"10.0.0.255\"]}]}",
		  "not a host of" },
		{ "{" BASE
		  ", \"nics\": [{\"id\": \"a\", \"portgroup\": \"p\", \"groups\": [\"g\"]}]}",
		  "no security group 'g'" },
		{ "{" BASE
		  ", \"nics\": [{\"id\": \"a\", \"portgroup\": \"p\", \"to_nic\": {\"average\": 10}}]}",
		  "average" },
		{ "{" BASE
		  ", \"nics\": [{\"id\": \"a\", \"portgroup\": \"p\", \"to_nic\": {\"average\": 1000000, \"peak\": 10}}]}",
		  "below" },
		{ "{" BASE ", \"nics\": [{\"id\": \"a b\", \"portgroup\": \"p\"}]}", "an id has" },
		{ "{" BASE
		  ", \"nics\": [{\"id\": \"a\", \"portgroup\": \"p\", \"hostname\": \"-x\"}]}",
		  "host name" },
		{ "{" BASE
		  ", \"nics\": [{\"id\": \"a\", \"portgroup\": \"p\", \"ifname\": \"a/b\"}]}",
		  "cannot name" },
		{ "{\"groups\": [{\"id\": \"g\", \"rules\": [{\"ports\": 80}]}]}", "ports need" },
		{ "{\"groups\": [{\"id\": \"g\", \"rules\": [{\"proto\": \"tcp\", \"ports\": \"9-3\"}]}]}",
		  "backwards" },
		{ "{\"groups\": [{\"id\": \"g\", \"rules\": [{\"group\": \"h\"}]}]}",
		  "no group 'h'" },
		{ "{\"groups\": [{\"id\": \"g\", \"rules\": [{\"proto\": \"tpc\"}]}]}",
		  "no protocol" },
		{ "{" BASE
		  ", \"forwards\": [{\"id\": \"f\", \"nic\": \"a\", \"host_port\": 80, \"port\": 80}]}",
		  "no nic 'a'" },
		{ "{" BASE ", \"nics\": [{\"id\": \"a\", \"portgroup\": \"p\"}], \"forwards\": ["
		  "{\"id\": \"f\", \"nic\": \"a\", \"host_port\": 80, \"port\": 80}, {\"id\": \"g\", \"nic\": \"a\", \"host_port\": 80, \"port\": 81}]}",
		  "belongs to forward" },
	};
	char msg[512];

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		assert_true(check(bad[i].text, msg, sizeof(msg)) < 0);
		if (!strstr(msg, bad[i].says))
			fail_msg("%s\nsays '%s', not '%s'", bad[i].text, msg, bad[i].says);
	}
}

static void accepts(void **state)
{
	char msg[512];

	assert_int_equal(check("{}", msg, sizeof(msg)), 0);
	/* The same subnet in two networks that do not meet. */
	assert_int_equal(
		check("{" NET ", \"portgroups\": ["
		      "{\"id\": \"p\", \"network\": \"n\", \"subnet4\": \"10.0.0.0/24\"},"
		      "{\"id\": \"q\", \"network\": \"m\", \"subnet4\": \"10.0.0.0/24\"}],"
		      "\"nics\": [{\"id\": \"a\", \"portgroup\": \"p\", \"addresses\": [\"10.0.0.9\"]},"
		      "{\"id\": \"b\", \"portgroup\": \"q\", \"addresses\": [\"10.0.0.9\"]}]}",
		      msg, sizeof(msg)),
		0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(refuses), cmocka_unit_test(accepts) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
