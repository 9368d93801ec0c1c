/* The engine on the dummy datapath: what a fault at any step leaves behind, and what costs grow with. */
#include "unit.h"
#include "net/datapath/dummy.h"

static struct net *fresh(void)
{
	struct net_cfg cfg = { .datapath = &datapath_dummy };
	struct net *n = NULL;

	memset(&dummy, 0, sizeof(dummy));
	assert_int_equal(net_new(&cfg, &n, NULL), 0);
	return n;
}

static void base(struct net *n)
{
	struct net_network w = { .id = "n" };
	struct net_portgroup pg = { .id = "p", .network = "n" };

	ipprefix_parse("10.0.0.0/16", &pg.subnet4);
	assert_int_equal(net_network_put(n, &w, NULL), 0);
	assert_int_equal(net_portgroup_put(n, &pg, NULL), 0);
}

static struct net_nic nic(const char *id)
{
	struct net_nic x;

	net_nic_init(&x);
	strcpy(x.id, id);
	strcpy(x.portgroup, "p");
	return x;
}

static void ports_come_and_go(void **state)
{
	struct net *n = fresh();
	struct net_nic x = nic("a");
	struct net_nic_status s, t;

	base(n);
	assert_int_equal(net_nic_put(n, &x, NULL), 0);
	assert_int_equal(net_nic_status(n, "a", &s, NULL), 0);
	assert_int_equal(s.n_addrs, 1);
	assert_true(mac_is_unicast(s.mac));
	assert_int_equal(net_portgroup_remove(n, "p", NULL), -EBUSY);
	x.down = true; /* a change keeps MAC and address */
	assert_int_equal(net_nic_put(n, &x, NULL), 0);
	assert_int_equal(net_nic_status(n, "a", &t, NULL), 0);
	assert_false(t.up);
	assert_memory_equal(s.addrs, t.addrs, sizeof(s.addrs));
	assert_memory_equal(s.mac, t.mac, 6);
	assert_int_equal(net_nic_remove(n, "a", NULL), 0);
	assert_int_equal(net_nic_remove(n, "a", NULL), -ENOENT);
	assert_int_equal(dummy.n_ports, 0);
	assert_int_equal(net_portgroup_remove(n, "p", NULL), 0);
	assert_int_equal(net_network_remove(n, "n", NULL), 0);
	assert_int_equal(dummy.n_nets, 0);
	net_free(n);
}

static void a_fault_leaves_nothing(void **state)
{
	static const char *const ops[] = { "rules_elems", "port_put" };

	for (size_t i = 0; i < 2; i++) {
		struct net *n = fresh();
		struct net_nic x = nic("a"), y = nic("b");
		struct net_nic_status s;

		base(n);
		assert_int_equal(net_nic_put(n, &x, NULL), 0);
		dummy.fail_op = ops[i];
		assert_int_equal(net_nic_put(n, &y, NULL), -EIO);
		assert_int_equal(dummy.n_ports, 1);
		assert_int_equal(net_nic_status(n, "b", &s, NULL), -ENOENT);
		assert_int_equal(net_nic_put(n, &y, NULL), 0); /* and its address is free again */
		dummy.fail_op = ops[i];
		x.down = true;
		assert_int_equal(net_nic_put(n, &x, NULL), -EIO);
		assert_int_equal(net_nic_status(n, "a", &s, NULL), 0);
		assert_true(s.up); /* as it was */
		net_free(n);
	}
	struct net *n = fresh();
	struct net_network w = { .id = "n" };
	struct net_portgroup pg = { .id = "p", .network = "n" };

	dummy.fail_op = "net_put";
	assert_int_equal(net_network_put(n, &w, NULL), -EIO);
	assert_int_equal(net_network_put(n, &w, NULL), 0);
	dummy.fail_op = "group_put";
	assert_int_equal(net_portgroup_put(n, &pg, NULL), -EIO);
	assert_int_equal(net_portgroup_put(n, &pg, NULL), 0);
	net_free(n);
}

static void addresses_do_not_collide(void **state)
{
	struct net *n = fresh();
	struct net_network w = { .id = "n" };
	struct net_portgroup pg = { .id = "p", .network = "n" };
	struct net_nic_status s;
	bool seen[256] = { false };
	char id[16];

	ipprefix_parse("10.0.0.0/24", &pg.subnet4);
	assert_int_equal(net_network_put(n, &w, NULL), 0);
	assert_int_equal(net_portgroup_put(n, &pg, NULL), 0);
	for (int i = 0; i < 253; i++) {
		struct net_nic x;

		snprintf(id, sizeof(id), "nic%d", i);
		x = nic(id);
		assert_int_equal(net_nic_put(n, &x, NULL), 0);
		assert_int_equal(net_nic_status(n, id, &s, NULL), 0);
		assert_false(seen[s.addrs[0].b[3]]);
		seen[s.addrs[0].b[3]] = true;
	}
	assert_false(seen[0] || seen[1] || seen[255]);
	struct net_nic last = nic("one-more");

	assert_int_equal(net_nic_put(n, &last, NULL), -ENOSPC);
	assert_int_equal(net_nic_remove(n, "nic7", NULL), 0);
	assert_int_equal(net_nic_put(n, &last, NULL), 0);
	net_free(n);
}

static void duplicates_are_refused(void **state)
{
	struct net *n = fresh();
	struct net_nic x = nic("a"), y = nic("b");

	base(n);
	mac_parse("52:54:00:00:00:01", x.mac);
	mac_parse("52:54:00:00:00:01", y.mac);
	ipaddr_parse("10.0.0.9", &x.addrs[0]);
	x.n_addrs = 1;
	assert_int_equal(net_nic_put(n, &x, NULL), 0);
	assert_int_equal(net_nic_put(n, &y, NULL), -EEXIST);
	mac_parse("52:54:00:00:00:02", y.mac);
	ipaddr_parse("10.0.0.9", &y.addrs[0]);
	y.n_addrs = 1;
	assert_int_equal(net_nic_put(n, &y, NULL), -EEXIST);
	ipaddr_parse("10.0.0.10", &y.addrs[0]);
	assert_int_equal(net_nic_put(n, &y, NULL), 0);
	net_free(n);
}

/* A port is a handful of elements, the thousandth as the first. */
static void cost_does_not_grow(void **state)
{
	struct net *n = fresh();
	size_t first = 0, last = 0;
	char id[16];

	base(n);
	for (int i = 0; i < 1000; i++) {
		size_t before = dummy.n_elems;
		struct net_nic x;

		snprintf(id, sizeof(id), "nic%d", i);
		x = nic(id);
		assert_int_equal(net_nic_put(n, &x, NULL), 0);
		last = dummy.n_elems - before;
		if (i == 0)
			first = last;
	}
	assert_true(first > 0);
	assert_int_equal(first, last);
	net_free(n);
}

static void groups_become_chains(void **state)
{
	struct net *n = fresh();
	struct net_rule rules[] = { { .dir = NET_IN,
				      .proto = IPPROTO_TCP,
				      .port_min = 80,
				      .port_max = 81,
				      .icmp_type = -1 } };
	struct net_group g = { .id = "g", .rules = rules, .n_rules = 1 };
	struct net_nic x = nic("a");

	base(n);
	assert_int_equal(net_group_put(n, &g, NULL), 0);
	strcpy(x.groups[0], "g");
	x.n_groups = 1;
	assert_int_equal(net_nic_put(n, &x, NULL), 0);
	assert_non_null(strstr(dummy.last_rules, "meta l4proto 6 th dport 80-81 accept"));
	assert_non_null(strstr(dummy.last_rules, "counter name c_in drop"));
	assert_null(strstr(dummy.last_rules, "counter name c_out drop"));
	assert_int_equal(net_group_remove(n, "g", NULL), -EBUSY);
	rules[0].port_min = rules[0].port_max = 443;
	assert_int_equal(net_group_put(n, &g, NULL), 0);
	assert_non_null(strstr(dummy.last_rules, "th dport 443-443 accept"));
	assert_int_equal(net_nic_remove(n, "a", NULL), 0);
	assert_int_equal(net_group_remove(n, "g", NULL), 0);
	net_free(n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ports_come_and_go),
		cmocka_unit_test(a_fault_leaves_nothing),
		cmocka_unit_test(addresses_do_not_collide),
		cmocka_unit_test(duplicates_are_refused),
		cmocka_unit_test(cost_does_not_grow),
		cmocka_unit_test(groups_become_chains),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
