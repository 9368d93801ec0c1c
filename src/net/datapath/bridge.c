/* The bridge driver: a namespace per network, a kernel bridge per port group, veth and tap ports.
 * Here: opening, rules and routes, the table of what the driver does; bridge.h tells the rest. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <linux/netfilter.h>
#include "base/rand.h"
#include "net/datapath/bridge.h"

bool bridge_ours(const struct rtnl_link *l, const char *kind, const char *id)
{
	char want[RTNL_ALIAS_MAX];
	size_t n;

	if (!*l->alias)
		return true; /* invariant 2: our name, made but not yet labelled */
	n = (size_t)snprintf(want, sizeof(want), "strata %s %s", kind, id);
	return strncmp(l->alias, want, n) == 0 && (l->alias[n] == '\0' || l->alias[n] == ' ');
}

int bridge_new_index(struct dp *d)
{
	return d->next_index++;
}

static void bridge_close(struct dp *d)
{
	if (!d)
		return;
	reaper_free(d->reaper);
	nft_close(d->nft);
	nl_close(&d->nl);
	safe_close(d->ns);
	free(d);
}

static int bridge_open(struct dp **ret, struct err **e)
{
	struct dp *d = calloc(1, sizeof(*d));
	int r;

	if (!d)
		return err_sys(e, ENOMEM, "open datapath");
	list_init(&d->nets);
	d->bridge_ct = -1;
	d->ns = netns_self(e);
	r = d->ns < 0 ? d->ns : nl_open(&d->nl, NETLINK_ROUTE, e);
	if (r == 0)
		r = nft_open(-1, &d->nft, e);
	if (r == 0)
		r = reaper_new(&d->reaper, e);
	if (r < 0) {
		bridge_close(d);
		return r;
	}
	d->next_index = 100000 + (int)(rand_u64() % 1000000); /* above where the kernel counts */
	*ret = d;
	return 0;
}

/* ---- can the kernel track bridged connections by itself? ---- */

static bool bridge_ct(struct dp *d)
{
	if (d->bridge_ct < 0) {
		struct netns_saved saved;
		struct nft *n = NULL;

		d->bridge_ct = 0;
		/* Tried in the host's namespace as a dry run would be: made and removed in one transaction. */
		if (netns_enter(d->ns, &saved, NULL) == 0) {
			if (nft_open(-1, &n, NULL) == 0)
				d->bridge_ct =
					nft_run(n,
						"add table bridge strata_probe\n"
						"add chain bridge strata_probe c\n"
						"add rule bridge strata_probe c ct state established accept\n"
						"delete table bridge strata_probe\n",
						NULL) == 0;
			nft_close(n);
			netns_leave(&saved);
		}
	}
	return d->bridge_ct > 0;
}

static struct nft *nft_of(struct dp *d, struct dp_net *n)
{
	return n ? n->nft : d->nft;
}

static int bridge_rules_run(struct dp *d, struct dp_net *n, const char *text, struct err **e)
{
	return nft_run(nft_of(d, n), text, e);
}

static int bridge_rules_elems(struct dp *d, struct dp_net *n, struct nft_batch *b, struct err **e)
{
	return nft_commit(nft_of(d, n), b, e);
}

static int bridge_rules_counters(struct dp *d, struct dp_net *n, nft_count_fn *fn, void *arg,
				 struct err **e)
{
	return nft_counters(n->nft, NFPROTO_BRIDGE, "strata", fn, arg, e);
}

static int bridge_rules_counts(struct dp *d, struct dp_net *n, const char *set, const char *name,
			       nft_count_fn *fn, void *arg, struct err **e)
{
	return nft_set_counts(n->nft, NFPROTO_BRIDGE, "strata", set, name, fn, arg, e);
}

static int bridge_rules_gen(struct dp *d, struct dp_net *n, uint32_t *ret, struct err **e)
{
	return nft_generation(nft_of(d, n), ret, e);
}

static int bridge_route_put(struct dp *d, const char *transit, const struct ipprefix *dst,
			    const struct ipaddr *via, struct err **e)
{
	_cleanup_(nl_batch_done) struct nl_batch b = { 0 };
	struct rtnl_link l;
	int r = rtnl_link_get(&d->nl, transit, 0, &l, e);

	if (r < 0)
		return r;
	rtnl_put_route(&b, dst->a.family, dst->a.b, dst->len, via->b, l.index, true);
	return nl_send(&d->nl, &b, NULL, e);
}

static int bridge_route_remove(struct dp *d, const char *transit, const struct ipprefix *dst,
			       struct err **e)
{
	_cleanup_(nl_batch_done) struct nl_batch b = { 0 };
	struct rtnl_link l;

	if (rtnl_link_get(&d->nl, transit, 0, &l, NULL) < 0)
		return 0; /* the route went with its link */
	rtnl_put_route_del(&b, dst->a.family, dst->a.b, dst->len, l.index);
	nl_send(&d->nl, &b, NULL, NULL);
	return 0;
}

struct routes {
	int family;
	int (*fn)(void *arg, const struct ipprefix *p);
	void *arg;
};

static int got_route(void *arg, const uint8_t *dst, uint8_t plen, int index)
{
	struct routes *q = arg;
	struct ipprefix p = { .a = { .family = (uint8_t)q->family }, .len = plen };

	if (!dst)
		return 0;
	p.a = ipaddr_of(q->family, dst);
	return q->fn(q->arg, &p);
}

static int bridge_host_routes(struct dp *d, int (*fn)(void *arg, const struct ipprefix *p),
			      void *arg, struct err **e)
{
	struct routes q = { .family = AF_INET, .fn = fn, .arg = arg };
	int r = rtnl_route_each(&d->nl, AF_INET, got_route, &q, e);

	q.family = AF_INET6;
	return r < 0 ? r : rtnl_route_each(&d->nl, AF_INET6, got_route, &q, e);
}

const struct datapath_ops datapath_bridge = {
	.name = "bridge",
	.open = bridge_open,
	.close = bridge_close,
	.bridge_ct = bridge_ct,
	.net_put = bridge_net_put,
	.net_close = bridge_net_close,
	.net_remove = bridge_net_remove,
	.net_fd = bridge_net_fd,
	.group_put = bridge_group_put,
	.group_remove = bridge_group_remove,
	.port_put = bridge_port_put,
	.port_remove = bridge_port_remove,
	.port_stats = bridge_port_stats,
	.port_fds = bridge_port_fds,
	.rules_run = bridge_rules_run,
	.rules_elems = bridge_rules_elems,
	.rules_counters = bridge_rules_counters,
	.rules_counts = bridge_rules_counts,
	.rules_gen = bridge_rules_gen,
	.route_put = bridge_route_put,
	.route_remove = bridge_route_remove,
	.gc = bridge_gc,
	.host_routes = bridge_host_routes,
};
