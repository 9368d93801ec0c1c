/* Port groups of the bridge driver: a bridge, the gateway's addresses on it, the VLAN of an uplink.  See bridge.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/str.h"
#include "net/datapath/bridge.h"

static void vlan_name(const char *bridge, char name[16])
{
	snprintf(name, 16, "u%.14s",
		 bridge); /* usb...: the bridge's name is at most 14 characters */
}

/* No uplink, or another one than there was. */
static int drop_vlan(struct dp_net *n, const char *bridge)
{
	_cleanup_(nl_batch_done) struct nl_batch b = { 0 };
	char name[16];

	vlan_name(bridge, name);
	rtnl_put_link_del(&b, name);
	return nl_send(&n->nl, &b, NULL, NULL) == 0;
}

static int make_vlan(struct dp_net *n, const struct dp_group_cfg *cfg, const char *name, int parent,
		     struct err **e)
{
	_cleanup_(nl_batch_done) struct nl_batch b = { 0 };
	int r;

	if (!cfg->vlan)
		return err_set(
			e, EOPNOTSUPP, "net.uplink",
			"uplink '%s' without a VLAN: an untagged uplink needs a link of its own (give it a VLAN)",
			cfg->uplink);
	rtnl_put_vlan(&b, name, parent, cfg->vlan, n->fd);
	r = nl_send(&n->d->nl, &b, NULL, e);
	if (r == -EOPNOTSUPP) {
		if (e)
			err_clear(e);
		return err_set(e, EOPNOTSUPP, "net.vlan",
			       "VLAN %u: this kernel has no 802.1Q (module 8021q)", cfg->vlan);
	}
	if (r == -EEXIST) {
		if (e)
			err_clear(e);
		return err_set(e, EEXIST, "net.vlan",
			       "VLAN %u of uplink '%s' is in use on this host", cfg->vlan,
			       cfg->uplink);
	}
	return r;
}

static int put_uplink(struct dp_net *n, const struct dp_group_cfg *cfg, int bridge_index,
		      uint32_t *mtu, struct err **e)
{
	_cleanup_(nl_batch_done) struct nl_batch b = { 0 };
	struct rtnl_link parent, l;
	char name[16], alias[RTNL_ALIAS_MAX];
	int r = rtnl_link_get(&n->d->nl, cfg->uplink, 0, &parent, NULL), mended = 0;

	if (r < 0)
		return err_set(e, ENODEV, "net.uplink", "uplink '%s': the host has no such link",
			       cfg->uplink);
	if (cfg->mtu && cfg->mtu > parent.mtu)
		return err_set(e, EINVAL, "net.mtu", "MTU %u is above the %u of uplink '%s'",
			       cfg->mtu, parent.mtu, cfg->uplink);
	if (!cfg->mtu)
		*mtu = parent.mtu;
	vlan_name(cfg->bridge, name);
	snprintf(alias, sizeof(alias), "strata uplink %s", cfg->id);
	r = rtnl_link_get(&n->nl, name, 0, &l, NULL);
	if (r == 0 && (l.vlan != cfg->vlan || l.peer != parent.index)) {
		drop_vlan(n, cfg->bridge);
		r = -ENODEV;
	}
	if (r < 0) {
		r = make_vlan(n, cfg, name, parent.index, e);
		if (r < 0)
			return r;
		mended = 1;
	} else if (l.master == bridge_index && (l.flags & IFF_UP)) {
		return 0;
	}
	rtnl_put_change(&b, &(struct rtnl_change){ .name = name,
						   .set_up = true,
						   .up = true,
						   .set_master = true,
						   .master = bridge_index,
						   .alias = alias,
						   .addr_gen = 2 });
	r = nl_send(&n->nl, &b, NULL, e);
	return r < 0 ? r : mended + 1;
}

bool bridge_has_addr(const rtnl_addrs *a, int family, const uint8_t *addr, uint8_t plen)
{
	for (size_t i = 0; i < a->n; i++)
		if (a->v[i].family == family && a->v[i].plen == plen &&
		    memcmp(a->v[i].addr, addr, family == AF_INET ? 4 : 16) == 0)
			return true;
	return false;
}

static int put_gateway(struct dp_net *n, const struct dp_group_cfg *cfg, int index, struct err **e)
{
	static const uint8_t meta[4] = { 169, 254, 169, 254 };
	_cleanup_(nl_batch_done) struct nl_batch b = { 0 };
	rtnl_addrs have = { 0 };
	int r = rtnl_addr_list(&n->nl, index, &have, e), mended = 0;

	if (r < 0)
		return r;
	if (cfg->addr4.a.family &&
	    !bridge_has_addr(&have, AF_INET, cfg->addr4.a.b, cfg->addr4.len)) {
		rtnl_put_addr(&b, index, AF_INET, cfg->addr4.a.b, cfg->addr4.len, false);
		mended++;
	}
	if (cfg->addr6.a.family &&
	    !bridge_has_addr(&have, AF_INET6, cfg->addr6.a.b, cfg->addr6.len)) {
		rtnl_put_addr(&b, index, AF_INET6, cfg->addr6.a.b, cfg->addr6.len, false);
		mended++;
	}
	if (cfg->metadata && !bridge_has_addr(&have, AF_INET, meta, 32)) {
		rtnl_put_addr(&b, index, AF_INET, meta, 32, true);
		mended++;
	}
	for (size_t i = 0; i < have.n; i++) { /* what an earlier subnet left */
		const struct rtnl_addr *a = &have.v[i];
		const struct ipprefix *want = a->family == AF_INET ? &cfg->addr4 : &cfg->addr6;

		if (a->scope != 0 || (want->a.family && want->len == a->plen &&
				      memcmp(want->a.b, a->addr, ipaddr_len(&want->a)) == 0))
			continue;
		rtnl_put_addr_del(&b, index, a->family, a->addr, a->plen);
		mended++;
	}
	vec_done(&have);
	r = nl_send(&n->nl, &b, NULL, e);
	return r < 0 ? r : mended;
}

int bridge_index(struct dp_net *n, const char *bridge)
{
	hmap_for_each(h, &n->bridges, hash_str(bridge)) {
		struct bridge *b = container_of(h, struct bridge, node);

		if (streq(b->name, bridge))
			return b->index;
	}
	return 0;
}

void bridge_forget(struct dp_net *n, const char *bridge)
{
	struct hnode *h, *next;

	for (h = hmap_walk(&n->bridges, NULL); h; h = next) {
		struct bridge *b = container_of(h, struct bridge, node);

		next = hmap_walk(&n->bridges, h);
		if (bridge && !streq(b->name, bridge))
			continue;
		hmap_remove(&n->bridges, h);
		free(b);
	}
}

/* Without memory it is asked for each time. */
static void remember(struct dp_net *n, const char *bridge, int index)
{
	struct bridge *b;

	if (bridge_index(n, bridge) == index)
		return;
	bridge_forget(n, bridge);
	b = calloc(1, sizeof(*b));
	if (!b)
		return;
	snprintf(b->name, sizeof(b->name), "%s", bridge);
	b->index = index;
	hmap_add(&n->bridges, &b->node, hash_str(bridge));
}

int bridge_group_remove(struct dp_net *n, const char *bridge, struct err **e)
{
	_cleanup_(nl_batch_done) struct nl_batch b = { 0 };

	reaper_wait(n->d->reaper);
	bridge_forget(n, bridge);
	drop_vlan(n, bridge);
	rtnl_put_link_del(&b, bridge);
	nl_send(&n->nl, &b, NULL, NULL);
	return 0;
}

/* Hand bridged packets to the inet hooks, or no longer.  Cannot be read back cheaply and costs nothing to say again;
 * kernels without it need no telling to stop.  A kernel whose module is not loaded takes the setting and does nothing. */
static int hand_to_inet(struct dp_net *n, const struct dp_group_cfg *cfg, struct err **e)
{
	_cleanup_(nl_batch_done) struct nl_batch b = { 0 };
	int r = 0;

	rtnl_put_change(&b, &(struct rtnl_change){ .name = cfg->bridge,
						   .set_bridge_nf = true,
						   .nf_call = cfg->track > 0 });
	if (cfg->track > 0 && access("/proc/sys/net/bridge/bridge-nf-call-iptables", F_OK) < 0)
		r = -EOPNOTSUPP;
	if (r == 0)
		r = nl_send(&n->nl, &b, NULL, NULL);
	if (r < 0 && cfg->track > 0)
		return err_set(
			e, EOPNOTSUPP, "net.conntrack",
			"security groups need nf_conntrack_bridge or br_netfilter in the kernel");
	return 0;
}

/* In our namespaces links do not, but for the router's own. */
static int speak_ipv6(struct dp_net *n, const char *bridge, struct err **e)
{
	char path[64];
	const char *const kv[][2] = { { path, "0" } };

	snprintf(path, sizeof(path), "ipv6/conf/%s/disable_ipv6", bridge);
	return bridge_sysctl(n->fd, kv, 1, e);
}

int bridge_group_put(struct dp_net *n, const struct dp_group_cfg *cfg, struct err **e)
{
	_cleanup_(nl_batch_done) struct nl_batch b = { 0 };
	uint32_t mtu = cfg->mtu ? cfg->mtu : 1500;
	struct rtnl_link l;
	char alias[RTNL_ALIAS_MAX];
	bool made = false;
	int r = rtnl_link_get(&n->nl, cfg->bridge, 0, &l, NULL), mended = 0;

	if (r == 0 && (!streq(l.kind, "bridge") || !bridge_ours(&l, "group", cfg->id)))
		return err_set(e, EEXIST, "net.foreign",
			       "link '%s' is there already and not ours (%s '%s')", cfg->bridge,
			       *l.kind ? l.kind : "a link", l.alias);
	snprintf(alias, sizeof(alias), "strata group %s", cfg->id);
	if (r < 0) {
		rtnl_put_bridge(&b, cfg->bridge, cfg->mac, false);
		made = true;
		mended++;
	}
	if (made || !(l.flags & IFF_UP) || memcmp(l.mac, cfg->mac, 6) != 0 ||
	    !streq(l.alias, alias)) {
		rtnl_put_change(&b, &(struct rtnl_change){ .name = cfg->bridge,
							   .set_up = true,
							   .up = true,
							   .mac = cfg->mac,
							   .alias = alias });
		mended += !made;
	}
	r = nl_send(&n->nl, &b, NULL, e);
	if (r == 0 && cfg->track >= 0)
		r = hand_to_inet(n, cfg, e);
	if (r == 0 && made)
		r = speak_ipv6(n, cfg->bridge, e);
	if (r == 0)
		r = rtnl_link_get(&n->nl, cfg->bridge, 0, &l, e);
	if (r == 0 && cfg->uplink) {
		r = put_uplink(n, cfg, l.index, &mtu, e);
		mended += MAX(r, 0);
	} else if (r == 0 && !made) {
		mended += drop_vlan(n, cfg->bridge);
	}
	if (r >= 0 && l.mtu != mtu) {
		rtnl_put_change(&b, &(struct rtnl_change){ .name = cfg->bridge, .mtu = mtu });
		r = nl_send(&n->nl, &b, NULL, e);
		mended += !made;
	}
	if (r >= 0) {
		r = put_gateway(n, cfg, l.index, e);
		mended += made ? 0 : MAX(r, 0);
	}
	if (r < 0) {
		if (made)
			bridge_group_remove(n, cfg->bridge, NULL);
		return err_wrap(e, r, "port group '%s'", cfg->id);
	}
	remember(n, cfg->bridge, l.index);
	return mended;
}
