/* Ports of the bridge driver: veth pairs and taps with their rates.  See bridge.h. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include "base/str.h"
#include "net/datapath/bridge.h"
#include "sys/tap.h"

static void port_alias(const struct dp_port_cfg *cfg, char *alias)
{
	struct stat st = { 0 };

	if (cfg->kind == NET_VETH && cfg->peer_ns >= 0)
		fstat(cfg->peer_ns, &st);
	if (cfg->kind == NET_VETH)
		snprintf(alias, RTNL_ALIAS_MAX, "strata port %s netns %lu %s", cfg->id,
			 (unsigned long)st.st_ino, cfg->ifname);
	else
		snprintf(alias, RTNL_ALIAS_MAX, "strata port %s queues %u", cfg->id, cfg->queues);
}

/* The far end of a veth: up, with its addresses and routes. */
static int configure_at(struct nl *nl, const struct dp_port_cfg *cfg, int index, const uint8_t *mac,
			uint32_t mtu, struct err **e)
{
	_cleanup_(nl_batch_done) struct nl_batch b = { 0 };
	int r;

	rtnl_put_change(
		&b,
		&(struct rtnl_change){
			.index = index, .set_up = true, .up = cfg->up, .mac = mac, .mtu = mtu });
	if (cfg->configure) {
		for (unsigned int i = 0; i < cfg->n_addrs; i++) {
			const struct ipaddr *a = &cfg->addrs[i];

			rtnl_put_addr(&b, index, a->family, a->b,
				      a->family == AF_INET ? cfg->plen4 : cfg->plen6, false);
		}
		if (cfg->up && cfg->default_route && cfg->gw4.family)
			rtnl_put_route(&b, AF_INET, NULL, 0, cfg->gw4.b, index, true);
		if (cfg->up && cfg->default_route && cfg->gw6.family)
			rtnl_put_route(&b, AF_INET6, NULL, 0, cfg->gw6.b, index, true);
	}
	r = nl_send(nl, &b, NULL, e);
	return r < 0 ? err_wrap(e, r, "configure '%s' inside the instance", cfg->ifname) : 0;
}

static int configure_peer(const struct dp_port_cfg *cfg, struct err **e)
{
	_cleanup_(nl_close) struct nl nl = { 0 };
	struct rtnl_link l;
	int r = nl_open_at(&nl, NETLINK_ROUTE, cfg->peer_ns, e);

	if (r == 0)
		r = rtnl_link_get(&nl, cfg->ifname, 0, &l, e);
	return r < 0 ? r
		     : configure_at(&nl, cfg, l.index, memcmp(l.mac, cfg->mac, 6) ? cfg->mac : NULL,
				    l.mtu != cfg->mtu ? cfg->mtu : 0, e);
}

static void put_fdb(struct nl_batch *b, const struct dp_port_cfg *cfg, int index)
{
	/* The inventory knows where a MAC is: no learning, no flooding to find it, nothing to poison. */
	if (cfg->guarded)
		rtnl_put_fdb(b, index, cfg->mac);
}

/* An index for the far end that is most likely free, as the kernel would count; not all programs take large ones. */
static int index_inside(const struct dp_port_cfg *cfg)
{
	size_t digits = strcspn(cfg->ifname, "0123456789");
	uint64_t n;

	if (parse_u64(cfg->ifname + digits, 1000, &n) < 0)
		n = 0;
	return 2 + (int)n; /* after lo */
}

/* The link, or a tap without anything else; index 0: the kernel's choice. */
static int make_link(struct dp_net *n, struct nl_batch *b, const struct dp_port_cfg *cfg, int index,
		     int bridge, struct err **e)
{
	const struct rtnl_veth pair = { .name = cfg->port,
					.index = index,
					.master = bridge,
					.mtu = cfg->mtu,
					.queues = 1,
					.peer = { .name = cfg->ifname,
						  .index = index ? index_inside(cfg) : 0,
						  .netns_fd = cfg->peer_ns,
						  .mac = cfg->mac,
						  .mtu = cfg->mtu } };
	const struct tap_cfg t = { .name = cfg->port,
				   .queues = cfg->queues,
				   .persistent = true,
				   .uid = cfg->tap_uid,
				   .netns_fd = n->fd,
				   .new_index = index };
	struct rtnl_change c = { .mtu = cfg->mtu, .set_master = true, .master = bridge };

	if (cfg->kind == NET_VETH)
		return rtnl_put_veth(b, &pair);
	c.name = index ? NULL : cfg->port;
	c.index = index;
	return tap_create(&t, e) ?: rtnl_put_change(b, &c);
}

static struct rtnl_change port_change(const struct dp_port_cfg *cfg, const char *alias)
{
	return (struct rtnl_change){ .set_up = true,
				     .up = cfg->up,
				     .alias = alias,
				     .set_port = true,
				     .isolated = cfg->isolated,
				     .learning = !cfg->guarded,
				     .addr_gen = 2 };
}

static void remove_at_once(struct dp_net *n, const struct dp_port_cfg *cfg)
{
	_cleanup_(nl_batch_done) struct nl_batch b = { 0 };

	rtnl_put_link_del(&b, cfg->limiter);
	rtnl_put_link_del(&b, cfg->port);
	nl_send(&n->nl, &b, NULL, NULL); /* what is not there is no fault */
}

/* A port that is most likely new: everything in two sends, and nothing is looked up.  Any failure leaves nothing of
 * it, and the careful way finds out what is the matter. */
static int make_blind(struct dp_net *n, const struct dp_port_cfg *cfg, const char *alias)
{
	_cleanup_(nl_batch_done) struct nl_batch b = { 0 };
	_cleanup_(nl_close) struct nl nl = { 0 };
	int bridge = bridge_index(n, cfg->bridge), index = bridge_new_index(n->d), r;
	struct rtnl_change c = port_change(cfg, alias);
	unsigned int at;

	if (!bridge || reaper_has(n->d->reaper, cfg->port))
		return -EAGAIN;
	c.index = index;
	r = make_link(n, &b, cfg, index, bridge, NULL);
	if (r < 0)
		return r;
	bridge_rates_new(n->d, &b, cfg, index);
	rtnl_put_change(&b, &c);
	put_fdb(&b, cfg, index);
	r = nl_send(&n->nl, &b, &at, NULL);
	if (r < 0 && at == 0 && cfg->kind == NET_VETH)
		return r;
	if (r == 0 && cfg->kind == NET_VETH)
		r = nl_open_at(&nl, NETLINK_ROUTE, cfg->peer_ns, NULL)
			    ?: configure_at(&nl, cfg, index_inside(cfg), NULL, 0, NULL);
	if (r < 0)
		remove_at_once(n, cfg);
	return r;
}

static int mend_port(struct dp_net *n, const struct dp_port_cfg *cfg, const struct rtnl_link *l,
		     int bridge_index, const char *alias, struct err **e)
{
	_cleanup_(nl_batch_done) struct nl_batch b = { 0 };
	struct rtnl_change c = { .name = cfg->port };
	bool need = false;

	if (l->master != bridge_index) {
		rtnl_put_change(&b, &(struct rtnl_change){ .name = cfg->port,
							   .set_master = true,
							   .master = bridge_index });
		need = true;
	}
	if (need || l->port_isolated != cfg->isolated || l->port_learning != !cfg->guarded ||
	    l->port_hairpin) {
		c.set_port = true;
		c.isolated = cfg->isolated;
		c.learning = !cfg->guarded;
		need = true;
	}
	if (!!(l->flags & IFF_UP) != cfg->up) {
		c.set_up = true;
		c.up = cfg->up;
		need = true;
	}
	if (l->mtu != cfg->mtu) {
		c.mtu = cfg->mtu;
		need = true;
	}
	if (!streq(l->alias, alias)) {
		c.alias = alias;
		need = true;
	}
	if (!need)
		return 0;
	rtnl_put_change(&b, &c);
	return nl_send(&n->nl, &b, NULL, e) ?: 1;
}

/* The port as it is, or not: asks first, acts then. */
static int put_careful(struct dp_net *n, const struct dp_port_cfg *cfg, const char *alias,
		       struct err **e)
{
	_cleanup_(nl_batch_done) struct nl_batch b = { 0 };
	struct rtnl_change c = port_change(cfg, alias);
	struct rtnl_link bridge, l;
	bool fresh = false;
	unsigned int at = 0;
	int r = rtnl_link_get(&n->nl, cfg->bridge, 0, &bridge, e), mended = 0;

	if (r < 0)
		return err_wrap(e, r, "bridge '%s'", cfg->bridge);
	r = rtnl_link_get(&n->nl, cfg->port, 0, &l, NULL);
	if (r == 0 && !bridge_ours(&l, "port", cfg->id))
		return err_set(e, EEXIST, "net.foreign",
			       "link '%s' is there already and not ours ('%s')", cfg->port,
			       l.alias);
	if (r == 0 && !streq(l.alias, alias) &&
	    strlen(l.alias) > strlen("strata port ") + strlen(cfg->id)) {
		/* another namespace or number of queues: not the same port */
		remove_at_once(n, cfg);
		r = -ENODEV;
		mended++;
	}
	if (r < 0) {
		fresh = true;
		r = make_link(n, &b, cfg, 0, bridge.index, e);
		c.name = cfg->port;
		rtnl_put_change(&b, &c);
		if (r == 0)
			r = nl_send(&n->nl, &b, &at, e);
		if (r == -EEXIST && at == 0)
			r = err_wrap(e, r, "'%s' is taken inside the instance", cfg->ifname);
		else if (r == 0)
			r = rtnl_link_get(&n->nl, cfg->port, 0, &l, e);
		mended += !mended;
	} else {
		r = mend_port(n, cfg, &l, bridge.index, alias, e);
		mended += MAX(r, 0);
	}
	if (r >= 0) {
		put_fdb(&b, cfg, l.index);
		r = nl_send(&n->nl, &b, NULL, e);
	}
	if (r >= 0 && cfg->kind == NET_VETH)
		r = configure_peer(cfg, e);
	if (r >= 0) {
		r = bridge_rates_put(n, cfg, &l, fresh, e);
		mended += fresh ? 0 : MAX(r, 0);
	}
	if (r < 0) {
		if (fresh)
			remove_at_once(n, cfg);
		return r;
	}
	return mended;
}

int bridge_port_put(struct dp_net *n, const struct dp_port_cfg *cfg, struct err **e)
{
	char alias[RTNL_ALIAS_MAX];

	port_alias(cfg, alias);
	if (cfg->fresh && make_blind(n, cfg, alias) == 0)
		return 1;
	/* Under this name, or under its name inside, a port may be on its way out. */
	if (cfg->fresh && reaper_wait(n->d->reaper) && make_blind(n, cfg, alias) == 0)
		return 1;
	return put_careful(n, cfg, alias, e);
}

int bridge_port_remove(struct dp_net *n, const struct dp_port_cfg *cfg, struct err **e)
{
	const char *const names[] = { cfg->limiter, cfg->port, NULL };

	/* Its rules go next, and without them no frame of it passes. */
	if (reaper_add(n->d->reaper, n->fd, names) < 0)
		remove_at_once(n, cfg);
	return 0;
}

int bridge_port_stats(struct dp_net *n, const char *port, struct net_nic_status *ret,
		      struct err **e)
{
	struct rtnl_link l;
	int r = rtnl_link_get(&n->nl, port, 0, &l, e);

	if (r < 0)
		return r;
	*ret = (struct net_nic_status){ .up = l.flags & IFF_UP,
					.mtu = l.mtu,
					.rx_packets = l.tx_packets,
					.rx_bytes = l.tx_bytes,
					.rx_dropped = l.tx_dropped,
					.tx_packets = l.rx_packets,
					.tx_bytes = l.rx_bytes,
					.tx_dropped = l.rx_dropped };
	return 0;
}

int bridge_port_fds(struct dp_net *n, const struct dp_port_cfg *cfg, int *fds, struct err **e)
{
	const struct tap_cfg t = { .name = cfg->port,
				   .queues = cfg->queues,
				   .persistent = true,
				   .uid = cfg->tap_uid,
				   .netns_fd = n->fd };

	return tap_open(&t, fds, e);
}
