/* The link between a network's router and the host, a veth pair: its ends, addresses, neighbours and routes.
 * See bridge.h. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include "base/atomicfile.h"
#include "base/str.h"
#include "net/datapath/bridge.h"

#define UP "up0" /* the router's end */

static int accept_ra_too(int host_ns)
{
	/* With forwarding on, a host ignores router advertisements unless told 2: it must not lose its own. */
	struct netns_saved saved;
	_cleanup_(closedirp) DIR *dir = NULL;
	struct dirent *de;

	if (netns_enter(host_ns, &saved, NULL) < 0)
		return 0;
	dir = opendir("/proc/sys/net/ipv6/conf");
	while (dir && (de = readdir(dir))) {
		char path[320], c = 0;
		int f;

		snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/accept_ra", de->d_name);
		f = open(path, O_RDWR | O_CLOEXEC);
		if (f >= 0 && read(f, &c, 1) == 1 && c == '1' && pwrite_all(f, "2", 1, 0) < 0)
			c = 0;
		safe_close(f);
	}
	netns_leave(&saved);
	return 0;
}

struct ends {
	struct rtnl_link host, up;
};

/* One end up, labelled, with its addresses and the other end's: nobody has to ask for a neighbour that is known, and
 * without a link-local address the kernel could not. */
static void put_end(struct nl_batch *b, const struct rtnl_link *l, const struct rtnl_link *peer,
		    const char *alias, const struct ipaddr *own4, const struct ipaddr *own6,
		    const struct ipaddr *peer4, const struct ipaddr *peer6)
{
	rtnl_put_change(b, &(struct rtnl_change){ .index = l->index,
						  .set_up = true,
						  .up = true,
						  .alias = alias,
						  .addr_gen = 2 });
	rtnl_put_addr(b, l->index, AF_INET, own4->b, 31, false);
	rtnl_put_addr(b, l->index, AF_INET6, own6->b, 127, false);
	rtnl_put_neigh(b, l->index, AF_INET, peer4->b, peer->mac);
	rtnl_put_neigh(b, l->index, AF_INET6, peer6->b, peer->mac);
}

static int configure(struct dp *d, struct dp_net *n, const struct dp_net_cfg *cfg,
		     const struct ends *x, struct err **e)
{
	const char *const up6[][2] = { { "ipv6/conf/" UP "/disable_ipv6", "0" } };
	char path[64], alias[RTNL_ALIAS_MAX];
	const char *const host_kv[][2] = {
		{ "ipv4/ip_forward", "1" },
		/* forwards answer on the host's 127.0.0.1 too; the host's rules keep networks from it */
		{ path, "1" },
	};
	const char *const host_kv6[][2] = { { "ipv6/conf/all/forwarding", "1" } };
	_cleanup_(nl_batch_done) struct nl_batch b = { 0 };
	int r = bridge_sysctl(n->fd, up6, 1, e);

	if (r < 0)
		return r;
	snprintf(alias, sizeof(alias), "strata transit %s", cfg->id);
	put_end(&b, &x->host, &x->up, alias, &cfg->host4, &cfg->host6, &cfg->router4,
		&cfg->router6);
	r = nl_send(&d->nl, &b, NULL, e);
	if (r < 0)
		return r;
	snprintf(alias, sizeof(alias), "strata up %s", cfg->id);
	put_end(&b, &x->up, &x->host, alias, &cfg->router4, &cfg->router6, &cfg->host4,
		&cfg->host6);
	rtnl_put_route(&b, AF_INET, NULL, 0, cfg->host4.b, x->up.index, true);
	rtnl_put_route(&b, AF_INET6, NULL, 0, cfg->host6.b, x->up.index, true);
	r = nl_send(&n->nl, &b, NULL, e);
	snprintf(path, sizeof(path), "ipv4/conf/%s/route_localnet", cfg->transit);
	if (r == 0)
		r = bridge_sysctl(d->ns, host_kv, 2, e);
	if (r == 0 && accept_ra_too(d->ns) == 0)
		r = bridge_sysctl(d->ns, host_kv6, 1, e);
	return r;
}

static bool has(struct nl *nl, int index, const struct ipaddr *a4, const struct ipaddr *a6)
{
	rtnl_addrs have = { 0 };
	bool ok = rtnl_addr_list(nl, index, &have, NULL) == 0 &&
		  bridge_has_addr(&have, AF_INET, a4->b, 31) &&
		  bridge_has_addr(&have, AF_INET6, a6->b, 127);

	vec_done(&have);
	return ok;
}

struct default_routes {
	int index, n;
};

static int count_default(void *arg, const uint8_t *dst, uint8_t plen, int index)
{
	struct default_routes *q = arg;

	q->n += !dst && index == q->index;
	return 0;
}

/* Is everything as configure() leaves it? */
static bool right(struct dp *d, struct dp_net *n, const struct dp_net_cfg *cfg,
		  const struct ends *x)
{
	struct default_routes q = { .index = x->up.index };

	return (x->host.flags & x->up.flags & IFF_UP) &&
	       has(&d->nl, x->host.index, &cfg->host4, &cfg->host6) &&
	       has(&n->nl, x->up.index, &cfg->router4, &cfg->router6) &&
	       rtnl_route_each(&n->nl, AF_INET, count_default, &q, NULL) == 0 &&
	       rtnl_route_each(&n->nl, AF_INET6, count_default, &q, NULL) == 0 && q.n == 2;
}

static int find(struct dp *d, struct dp_net *n, const char *transit, struct ends *x, struct err **e)
{
	int r = rtnl_link_get(&d->nl, transit, 0, &x->host, e);

	return r < 0 ? r : rtnl_link_get(&n->nl, UP, 0, &x->up, e);
}

int bridge_transit_put(struct dp *d, struct dp_net *n, const struct dp_net_cfg *cfg, struct err **e)
{
	const struct rtnl_veth pair = { .name = cfg->transit,
					.queues = 1,
					.peer = { .name = UP, .netns_fd = n->fd } };
	_cleanup_(nl_batch_done) struct nl_batch b = { 0 };
	struct ends x = { 0 };
	bool made = false;
	int r = find(d, n, cfg->transit, &x, NULL);

	if (x.host.index && !bridge_ours(&x.host, "transit", cfg->id))
		return err_set(e, EEXIST, "net.foreign", "link '%s' is there already and not ours",
			       cfg->transit);
	if (r == 0 && right(d, n, cfg, &x))
		return 0;
	if (r < 0) {
		if (x.host.index) { /* its other end is in no namespace of ours */
			rtnl_put_link_del(&b, cfg->transit);
			nl_send(&d->nl, &b, NULL, NULL);
		}
		rtnl_put_veth(&b, &pair);
		r = nl_send(&d->nl, &b, NULL, e);
		made = r == 0;
		if (r == 0)
			r = find(d, n, cfg->transit, &x, e);
	}
	if (r == 0)
		r = configure(d, n, cfg, &x, e);
	if (r == 0)
		return 1;
	if (made) {
		nl_batch_clear(&b);
		rtnl_put_link_del(&b, cfg->transit);
		nl_send(&d->nl, &b, NULL, NULL);
	}
	return err_wrap(e, r, "link between host and router");
}
