/* Ports one at a time, as the daemon makes them, each timed: usage: net-ports N veth|tap QOS(0|1)
 * Prints a line per hundred: medians of net_nic_put() in microseconds, then of net_nic_remove(), by the clock
 * and as processor time of this thread; and the least processor time, which other programs disturb least.
 * bench/net-ports.sh and tests/net/scale.sh run it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "base/str.h"
#include "net/net.h"
#include "sys/netns.h"

static double now_us(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double median(double *v, int n)
{
	qsort(v, (size_t)n, sizeof(*v), by_value);
	return v[n / 2];
}

static void say(const char *what, double *wall, double *cpu, int n)
{
	for (int at = 0; at < n; at += 100) {
		int m = n - at < 100 ? n - at : 100;

		double w = median(wall + at, m), c = median(cpu + at, m);

		printf("%s %d wall %.0f cpu %.0f best %.0f\n", what, at, w, c, cpu[at]);
	}
}

static void must(int r, struct err *e)
{
	if (r >= 0)
		return;
	fprintf(stderr, "ports: %s\n", err_msg(e));
	exit(1);
}

int main(int argc, char **argv)
{
	int n = argc > 1 ? atoi(argv[1]) : 1000;
	bool tap = argc > 2 && streq(argv[2], "tap"), qos = argc > 3 && *argv[3] == '1';
	struct net_network w = { .id = "n1" };
	struct net_portgroup pg = { .id = "p1", .network = "n1" };
	struct net_rule rules[20] = { 0 };
	struct net_group g = { .id = "g", .rules = rules, .n_rules = 20 };
	struct net_cfg cfg = { .state_dir = getenv("STATE") };
	double *wall = calloc((size_t)n, sizeof(*wall)), *cpu = calloc((size_t)n, sizeof(*cpu));
	int *ns = calloc((size_t)n, sizeof(*ns));
	struct err *e = NULL;
	struct net *net;

	for (int i = 0; i < 20; i++)
		rules[i] = (struct net_rule){ .proto = 6,
					      .icmp_type = -1,
					      .port_min = (uint16_t)(1000 + i),
					      .port_max = (uint16_t)(1000 + i) };
	ipprefix_parse("10.0.0.0/16", &pg.subnet4);
	ipprefix_parse("fd00:1::/64", &pg.subnet6);
	must(net_new(&cfg, &net, &e), e);
	must(net_network_put(net, &w, &e), e);
	must(net_portgroup_put(net, &pg, &e), e);
	must(net_group_put(net, &g, &e), e);
	for (int i = 0; i < n && !tap; i++) { /* an instance each, as in life */
		char name[32];

		snprintf(name, sizeof(name), "ports-%d", i);
		must(netns_create(name, &ns[i], &e), e);
	}
	for (int pass = 0; pass < 2; pass++) {
		for (int i = 0; i < n; i++) {
			struct net_nic x;
			double t, c;

			net_nic_init(&x);
			snprintf(x.id, sizeof(x.id), "nic%d", i);
			strcpy(x.portgroup, "p1");
			x.kind = tap ? NET_TAP : NET_VETH;
			x.netns_fd = tap ? -1 : ns[i];
			x.no_default_route = true;
			strcpy(x.groups[0], "g");
			x.n_groups = 1;
			if (qos)
				x.to_nic.average = x.from_nic.average = 100000000;
			t = now_us(CLOCK_MONOTONIC);
			c = now_us(CLOCK_THREAD_CPUTIME_ID);
			must(pass ? net_nic_remove(net, x.id, &e) : net_nic_put(net, &x, &e), e);
			wall[i] = now_us(CLOCK_MONOTONIC) - t;
			cpu[i] = now_us(CLOCK_THREAD_CPUTIME_ID) - c;
		}
		say(pass ? "remove" : "add", wall, cpu, n);
		if (getenv("ADD_ONLY"))
			fflush(stdout), _exit(0);
	}
	must(net_clear(net, &e), e);
	for (int i = 0; i < n && !tap; i++) {
		char name[32];

		snprintf(name, sizeof(name), "ports-%d", i);
		close(ns[i]);
		must(netns_delete(name, &e), e);
	}
	net_free(net);
	free(wall);
	free(cpu);
	free(ns);
	return 0;
}
