/* The bridge driver: a namespace per network, a kernel bridge per port group, veth and tap ports.
 * Between: net.c decides above; sys/rtnl.h, sys/nft.h and sys/tap.h act below.
 *
 * Invariants
 * (1) Everything we make carries an alias that starts with "strata "; what lacks it is never changed or removed.
 *     The alias of a namespace is that of its loopback link.
 * (2) A link is made and labelled in one send; a crash in between leaves a link without label, which the name
 *     (a hash of the id) still shows to be ours: such names are adopted.
 * (3) A port's rules are in place before its link is up; the engine sees to that order. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <dirent.h>
#include "base/atomicfile.h"
#include "base/list.h"
#include "base/str.h"
#include "net/datapath_ops.h"
#include "net/qos/shape.h"
#include "sys/netns.h"
#include "sys/rtnl.h"
#include "sys/tap.h"

#define UP "up0" /* the router's link to the host */

struct dp {
	struct nl nl;
	struct nft *nft;
	int ns; /* the host's namespace */
	struct list nets;
	int bridge_ct; /* -1: not tried yet */
};

struct dp_net {
	struct list node;
	struct dp *d;
	char name[32];
	int fd;
	struct nl nl;
	struct nft *nft;
};

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
	if (r < 0) {
		nl_close(&d->nl);
		safe_close(d->ns);
		free(d);
		return r;
	}
	*ret = d;
	return 0;
}

static void bridge_close(struct dp *d)
{
	if (!d)
		return;
	nft_close(d->nft);
	nl_close(&d->nl);
	safe_close(d->ns);
	free(d);
}

/* In the namespace of fd: /proc/sys/net is that of the reader. */
static int sysctl_at(int fd, const char *const (*kv)[2], size_t n, struct err **e)
{
	struct netns_saved saved;
	int r = netns_enter(fd, &saved, e);

	if (r < 0)
		return r;
	for (size_t i = 0; i < n && r == 0; i++) {
		char path[128];
		int f;

		snprintf(path, sizeof(path), "/proc/sys/net/%s", kv[i][0]);
		f = open(path, O_WRONLY | O_CLOEXEC);
		if (f < 0 && errno == ENOENT)
			continue; /* a kernel without that part has nothing to switch off */
		if (f < 0 || write_all(f, kv[i][1], strlen(kv[i][1])) < 0)
			r = err_sys(e, errno, "write %s", path);
		safe_close(f);
	}
	netns_leave(&saved);
	return r;
}

/* ---- can the kernel track bridged connections by itself? ---- */

static bool bridge_bridge_ct(struct dp *d)
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

/* ---- networks ---- */

static bool ours(const struct rtnl_link *l, const char *kind, const char *id)
{
	char want[RTNL_ALIAS_MAX];
	size_t n;

	if (!*l->alias)
		return true; /* invariant 2: our name, made but not yet labelled */
	n = (size_t)snprintf(want, sizeof(want), "strata %s %s", kind, id);
	return strncmp(l->alias, want, n) == 0 && (l->alias[n] == '\0' || l->alias[n] == ' ');
}

static int adopt_or_make(struct dp_net *n, const struct dp_net_cfg *cfg, struct err **e)
{
	rtnl_links links = { 0 };
	struct rtnl_link lo;
	int made = 0, r = netns_open(cfg->ns, &n->fd, NULL);

	if (r < 0) {
		if (r == -ENOENT)
			netns_delete(cfg->ns,
				     NULL); /* a mount point that lost its namespace at a reboot */
		r = netns_create(cfg->ns, &n->fd, e);
		if (r < 0)
			return r;
		made = 1;
	}
	r = nl_open_at(&n->nl, NETLINK_ROUTE, n->fd, e);
	if (r == 0)
		r = nft_open(n->fd, &n->nft, e);
	if (r == 0)
		r = rtnl_link_get(&n->nl, "lo", 0, &lo, e);
	if (r < 0 || made)
		return r < 0 ? r : made;
	if (!*lo.alias) {
		r = rtnl_link_list(&n->nl, 0, &links, e);
		if (r == 0 && links.n > 1)
			r = err_set(
				e, EEXIST, "net.foreign",
				"network namespace '%s' is there already and not ours: remove it or rename the network",
				cfg->ns);
		vec_done(&links);
		return r < 0 ? r : 1;
	}
	if (!ours(&lo, "net", cfg->id))
		return err_set(e, EEXIST, "net.foreign", "network namespace '%s' belongs to '%s'",
			       cfg->ns, lo.alias);
	return 0;
}

static int label_net(struct dp_net *n, const struct dp_net_cfg *cfg, struct err **e)
{
	/* IPv6 addresses of the router are ours by decree: no time is lost on looking for a second owner. */
	const char *const kv[][2] = {
		{ "ipv4/ip_forward", cfg->forward ? "1" : "0" },
		{ "ipv6/conf/all/forwarding", cfg->forward ? "1" : "0" },
		{ "ipv4/conf/all/arp_ignore", "1" },
		{ "ipv4/conf/default/arp_ignore", "1" },
		{ "ipv6/conf/all/accept_ra", "0" },
		{ "ipv6/conf/default/accept_ra", "0" },
		{ "ipv6/conf/all/accept_dad", "0" },
		{ "ipv6/conf/default/accept_dad", "0" },
		{ "ipv6/conf/default/dad_transmits", "0" },
		{ "bridge/bridge-nf-call-iptables", "0" },
		{ "bridge/bridge-nf-call-ip6tables", "0" },
		{ "bridge/bridge-nf-call-arptables", "0" },
	};
	_cleanup_(nl_batch_done) struct nl_batch b = { 0 };
	char alias[RTNL_ALIAS_MAX];
	int r = sysctl_at(n->fd, kv, ARRAY_SIZE(kv), e);

	if (r < 0)
		return r;
	snprintf(alias, sizeof(alias), "strata net %s", cfg->id);
	rtnl_put_change(&b, &(struct rtnl_change){
				    .name = "lo", .set_up = true, .up = true, .alias = alias });
	return nl_send(&n->nl, &b, NULL, e);
}

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

static int put_transit(struct dp *d, struct dp_net *n, const struct dp_net_cfg *cfg, struct err **e)
{
	static const char *const kv[][2] = { { "ipv4/ip_forward", "1" } };
	static const char *const kv6[][2] = { { "ipv6/conf/all/forwarding", "1" } };
	_cleanup_(nl_batch_done) struct nl_batch b = { 0 };
	struct rtnl_link host, up;
	char alias[RTNL_ALIAS_MAX], path[64];
	int made = 0, r = rtnl_link_get(&d->nl, cfg->transit, 0, &host, NULL);
	const struct rtnl_peer peer = { .name = UP, .netns_fd = n->fd };
	const char *local[1][2];

	if (r == 0 && !ours(&host, "transit", cfg->id))
		return err_set(e, EEXIST, "net.foreign", "link '%s' is there already and not ours",
			       cfg->transit);
	if (r == 0 && rtnl_link_get(&n->nl, UP, 0, &up, NULL) < 0) {
		rtnl_put_link_del(&b, cfg->transit); /* its other end is in no namespace of ours */
		nl_send(&d->nl, &b, NULL, NULL);
		r = -ENODEV;
	}
	if (r < 0) {
		rtnl_put_veth(&b, cfg->transit, 0, 0, 0, NULL, &peer);
		made = 1;
	} else if (host.flags & up.flags & IFF_UP) {
		return 0;
	}
	snprintf(alias, sizeof(alias), "strata transit %s", cfg->id);
	rtnl_put_change(&b, &(struct rtnl_change){ .name = cfg->transit,
						   .set_up = true,
						   .up = true,
						   .alias = alias,
						   .addr_gen = 2 });
	r = nl_send(&d->nl, &b, NULL, e);
	if (r == 0)
		r = rtnl_link_get(&d->nl, cfg->transit, 0, &host, e);
	if (r == 0)
		r = rtnl_link_get(&n->nl, UP, 0, &up, e);
	if (r < 0)
		goto undo;
	rtnl_put_addr(&b, host.index, AF_INET, cfg->host4.b, 31, false);
	rtnl_put_addr(&b, host.index, AF_INET6, cfg->host6.b, 127, false);
	r = nl_send(&d->nl, &b, NULL, e);
	if (r < 0)
		goto undo;
	snprintf(alias, sizeof(alias), "strata up %s", cfg->id);
	rtnl_put_change(
		&b,
		&(struct rtnl_change){
			.name = UP, .set_up = true, .up = true, .alias = alias, .addr_gen = 2 });
	rtnl_put_addr(&b, up.index, AF_INET, cfg->router4.b, 31, false);
	rtnl_put_addr(&b, up.index, AF_INET6, cfg->router6.b, 127, false);
	rtnl_put_route(&b, AF_INET, NULL, 0, cfg->host4.b, up.index, true);
	rtnl_put_route(&b, AF_INET6, NULL, 0, cfg->host6.b, up.index, true);
	r = nl_send(&n->nl, &b, NULL, e);
	if (r == 0)
		r = sysctl_at(d->ns, kv, 1, e);
	if (r == 0 && accept_ra_too(d->ns) == 0)
		r = sysctl_at(d->ns, kv6, 1, e);
	if (r ==
	    0) { /* forwards answer on the host's 127.0.0.1 too; the host's rules keep networks from it */
		snprintf(path, sizeof(path), "ipv4/conf/%s/route_localnet", cfg->transit);
		local[0][0] = path;
		local[0][1] = "1";
		r = sysctl_at(d->ns, local, 1, e);
	}
	if (r == 0)
		return 1;
undo:
	if (made) {
		nl_batch_clear(&b);
		rtnl_put_link_del(&b, cfg->transit);
		nl_send(&d->nl, &b, NULL, NULL);
	}
	return err_wrap(e, r, "link between host and router");
}

static void bridge_net_close(struct dp_net *n)
{
	if (!n)
		return;
	list_del(&n->node);
	nft_close(n->nft);
	nl_close(&n->nl);
	safe_close(n->fd);
	free(n);
}

static int bridge_net_remove(struct dp *d, struct dp_net *n, const struct dp_net_cfg *cfg,
			     struct err **e);

static int bridge_net_put(struct dp *d, struct dp_net **ret, const struct dp_net_cfg *cfg,
			  struct err **e)
{
	struct dp_net *n = *ret;
	bool fresh = !n;
	int r = 0, mended = 0;

	if (n) { /* is the name still there, and does it still mean ours? */
		int fd = -1;

		if (netns_open(cfg->ns, &fd, NULL) == 0 && netns_same(fd, n->fd)) {
			safe_close(fd);
		} else {
			safe_close(fd);
			bridge_net_close(n);
			n = *ret = NULL;
		}
	}
	if (!n) {
		n = calloc(1, sizeof(*n));
		if (!n)
			return err_sys(e, ENOMEM, "open network");
		n->fd = -1;
		n->d = d;
		list_init(&n->node);
		snprintf(n->name, sizeof(n->name), "%s", cfg->ns);
		r = adopt_or_make(n, cfg, e);
		if (r < 0) {
			bridge_net_close(n);
			return r;
		}
		mended = r;
		list_add_tail(&d->nets, &n->node);
	}
	r = label_net(n, cfg, e);
	if (r == 0 && cfg->transit)
		r = put_transit(d, n, cfg, e);
	if (r < 0) {
		if (fresh && mended)
			bridge_net_remove(d, n, cfg, NULL);
		else if (fresh)
			bridge_net_close(n);
		return r;
	}
	*ret = n;
	return mended + r;
}

static int drop_links(struct dp_net *n, struct err **e)
{
	_cleanup_(nl_batch_done) struct nl_batch b = { 0 };
	rtnl_links links = { 0 };
	int r = rtnl_link_list(&n->nl, 0, &links, e);

	for (size_t i = 0; r == 0 && i < links.n; i++)
		if (str_starts(links.v[i].alias, "strata ") && !streq(links.v[i].name, "lo"))
			rtnl_put_link_del(&b, links.v[i].name);
	vec_done(&links);
	nl_send(&n->nl, &b, NULL, NULL); /* a veth may have gone with its peer: no fault */
	return r;
}

static int bridge_net_remove(struct dp *d, struct dp_net *n, const struct dp_net_cfg *cfg,
			     struct err **e)
{
	_cleanup_(nl_batch_done) struct nl_batch b = { 0 };
	struct rtnl_link l;

	/* Links first: what is left of a namespace goes in the background, and its veths with it. */
	drop_links(n, NULL);
	if (cfg->transit && rtnl_link_get(&d->nl, cfg->transit, 0, &l, NULL) == 0 &&
	    ours(&l, "transit", cfg->id)) {
		rtnl_put_link_del(&b, cfg->transit);
		nl_send(&d->nl, &b, NULL, NULL);
	}
	bridge_net_close(n);
	return netns_delete(cfg->ns, e);
}

static int bridge_net_fd(struct dp_net *n)
{
	return n->fd;
}

/* ---- port groups ---- */

static void vlan_name(const struct dp_group_cfg *cfg, char name[16])
{
	snprintf(name, 16, "u%s",
		 cfg->bridge); /* usb...: the bridge's name is at most 14 characters */
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
	vlan_name(cfg, name);
	snprintf(alias, sizeof(alias), "strata uplink %s", cfg->id);
	r = rtnl_link_get(&n->nl, name, 0, &l, NULL);
	if (r < 0) {
		if (cfg->vlan) {
			r = rtnl_put_vlan(&b, name, parent.index, cfg->vlan, n->fd)
				    ?: nl_send(&n->d->nl, &b, NULL, e);
			if (r == -EOPNOTSUPP) {
				if (e)
					err_clear(e);
				return err_set(e, EOPNOTSUPP, "net.vlan",
					       "VLAN %u: this kernel has no 802.1Q (module 8021q)",
					       cfg->vlan);
			}
		} else {
			r = err_set(
				e, EOPNOTSUPP, "net.uplink",
				"uplink '%s' without a VLAN: an untagged uplink needs a link of its own (give it a VLAN)",
				cfg->uplink);
		}
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

static bool has_addr(const rtnl_addrs *a, int family, const uint8_t *addr, uint8_t plen)
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
	if (cfg->addr4.a.family && !has_addr(&have, AF_INET, cfg->addr4.a.b, cfg->addr4.len)) {
		rtnl_put_addr(&b, index, AF_INET, cfg->addr4.a.b, cfg->addr4.len, false);
		mended++;
	}
	if (cfg->addr6.a.family && !has_addr(&have, AF_INET6, cfg->addr6.a.b, cfg->addr6.len)) {
		rtnl_put_addr(&b, index, AF_INET6, cfg->addr6.a.b, cfg->addr6.len, false);
		mended++;
	}
	if (cfg->metadata && !has_addr(&have, AF_INET, meta, 32)) {
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

static int bridge_group_remove(struct dp_net *n, const char *bridge, struct err **e)
{
	_cleanup_(nl_batch_done) struct nl_batch b = { 0 };
	char up[16];

	snprintf(up, sizeof(up), "u%.14s", bridge);
	rtnl_put_link_del(&b, up);
	nl_send(&n->nl, &b, NULL, NULL);
	rtnl_put_link_del(&b, bridge);
	nl_send(&n->nl, &b, NULL, NULL);
	return 0;
}

static int bridge_group_put(struct dp_net *n, const struct dp_group_cfg *cfg, struct err **e)
{
	_cleanup_(nl_batch_done) struct nl_batch b = { 0 };
	uint32_t mtu = cfg->mtu ? cfg->mtu : 1500;
	struct rtnl_link l;
	char alias[RTNL_ALIAS_MAX];
	bool made = false;
	int r = rtnl_link_get(&n->nl, cfg->bridge, 0, &l, NULL), mended = 0;

	if (r == 0 && (!streq(l.kind, "bridge") || !ours(&l, "group", cfg->id)))
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
	/* Cannot be read back cheaply and costs nothing to say again.  Kernels without it need no telling. */
	r = nl_send(&n->nl, &b, NULL, e);
	if (r == 0 && cfg->track >= 0) {
		rtnl_put_change(&b, &(struct rtnl_change){ .name = cfg->bridge,
							   .set_bridge_nf = true,
							   .nf_call = cfg->track > 0 });
		if (nl_send(&n->nl, &b, NULL, cfg->track ? e : NULL) < 0 && cfg->track)
			r = err_wrap(
				e, -EOPNOTSUPP,
				"security groups need br_netfilter or nf_conntrack_bridge in the kernel");
	}
	if (r == 0)
		r = rtnl_link_get(&n->nl, cfg->bridge, 0, &l, e);
	if (r == 0 && cfg->uplink) {
		r = put_uplink(n, cfg, l.index, &mtu, e);
		mended += MAX(r, 0);
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
	return mended;
}

/* ---- ports ---- */

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
static int configure_peer(const struct dp_port_cfg *cfg, struct err **e)
{
	_cleanup_(nl_batch_done) struct nl_batch b = { 0 };
	_cleanup_(nl_close) struct nl nl = { 0 };
	struct rtnl_link l;
	int r = nl_open_at(&nl, NETLINK_ROUTE, cfg->peer_ns, e);

	if (r == 0)
		r = rtnl_link_get(&nl, cfg->ifname, 0, &l, e);
	if (r < 0)
		return r;
	rtnl_put_change(&b,
			&(struct rtnl_change){ .name = cfg->ifname,
					       .set_up = true,
					       .up = cfg->up,
					       .mac = memcmp(l.mac, cfg->mac, 6) ? cfg->mac : NULL,
					       .mtu = l.mtu != cfg->mtu ? cfg->mtu : 0 });
	if (cfg->configure) {
		for (unsigned int i = 0; i < cfg->n_addrs; i++) {
			const struct ipaddr *a = &cfg->addrs[i];

			rtnl_put_addr(&b, l.index, a->family, a->b,
				      a->family == AF_INET ? cfg->plen4 : cfg->plen6, false);
		}
		if (cfg->up && cfg->default_route && cfg->gw4.family)
			rtnl_put_route(&b, AF_INET, NULL, 0, cfg->gw4.b, l.index, true);
		if (cfg->up && cfg->default_route && cfg->gw6.family)
			rtnl_put_route(&b, AF_INET6, NULL, 0, cfg->gw6.b, l.index, true);
	}
	r = nl_send(&nl, &b, NULL, e);
	return r < 0 ? err_wrap(e, r, "configure '%s' inside the instance", cfg->ifname) : 0;
}

static int put_limiter(struct dp_net *n, const struct dp_port_cfg *cfg, int port_index,
		       struct err **e)
{
	_cleanup_(nl_batch_done) struct nl_batch b = { 0 };
	struct shape s = shape_of(&cfg->from_nic, cfg->mtu);
	char alias[RTNL_ALIAS_MAX];
	struct rtnl_link l;
	bool made = rtnl_link_get(&n->nl, cfg->limiter, 0, &l, NULL) < 0;
	int r;

	if (made) {
		snprintf(alias, sizeof(alias), "strata limiter %s", cfg->id);
		rtnl_put_link(&b, "ifb", cfg->limiter);
		rtnl_put_change(&b, &(struct rtnl_change){ .name = cfg->limiter,
							   .set_up = true,
							   .up = true,
							   .alias = alias,
							   .addr_gen = 2 });
		r = nl_send(&n->nl, &b, NULL, e);
		if (r == 0)
			r = rtnl_link_get(&n->nl, cfg->limiter, 0, &l, e);
		if (r < 0)
			return err_wrap(e, r, "limit of traffic from the nic (needs ifb)");
		rtnl_put_clsact_del(&b, port_index); /* that of a limiter that somebody removed */
		nl_send(&n->nl, &b, NULL, NULL);
	}
	rtnl_put_tbf(&b, l.index, s.rate, s.burst, s.peak, s.peak_burst, s.limit);
	if (made) {
		rtnl_put_clsact(&b, port_index);
		rtnl_put_redirect(&b, port_index, l.index);
	}
	r = nl_send(&n->nl, &b, NULL, e);
	return r < 0 ? err_wrap(e, r, "limit of traffic from the nic") : made;
}

/* l: the port as it is now. */
static int put_rates(struct dp_net *n, const struct dp_port_cfg *cfg, const struct rtnl_link *l,
		     bool fresh, struct err **e)
{
	_cleanup_(nl_batch_done) struct nl_batch b = { 0 };
	struct rtnl_link lim;
	int r = 0, mended = 0;

	if (cfg->to_nic.average) {
		struct shape s = shape_of(&cfg->to_nic, cfg->mtu);

		rtnl_put_tbf(&b, l->index, s.rate, s.burst, s.peak, s.peak_burst, s.limit);
		r = nl_send(&n->nl, &b, NULL, e);
		mended += !fresh && !streq(l->qdisc, "tbf");
	} else if (!fresh && streq(l->qdisc, "tbf")) {
		rtnl_put_qdisc_root_del(&b, l->index);
		r = nl_send(&n->nl, &b, NULL, e);
		mended++;
	}
	if (r < 0)
		return err_wrap(e, r, "limit of traffic to the nic");
	if (cfg->from_nic.average) {
		r = put_limiter(n, cfg, l->index, e);
		mended += MAX(r, 0);
	} else if (!fresh && rtnl_link_get(&n->nl, cfg->limiter, 0, &lim, NULL) == 0) {
		rtnl_put_clsact_del(&b, l->index);
		rtnl_put_link_del(&b, cfg->limiter);
		r = nl_send(&n->nl, &b, NULL, e);
		mended++;
	}
	return r < 0 ? r : mended;
}

static int put_fdb(struct dp_net *n, const struct dp_port_cfg *cfg, int index, struct err **e)
{
	_cleanup_(nl_batch_done) struct nl_batch b = { 0 };

	if (!cfg->guarded)
		return 0;
	/* The inventory knows where a MAC is: no learning, no flooding to find it, nothing to poison. */
	rtnl_put_fdb(&b, index, cfg->mac);
	return nl_send(&n->nl, &b, NULL, e);
}

static int make_port(struct dp_net *n, const struct dp_port_cfg *cfg, int bridge_index,
		     const char *alias, unsigned int *at, struct err **e)
{
	_cleanup_(nl_batch_done) struct nl_batch b = { 0 };
	const struct rtnl_peer peer = {
		.name = cfg->ifname, .netns_fd = cfg->peer_ns, .mac = cfg->mac, .mtu = cfg->mtu
	};
	struct rtnl_change c = { .name = cfg->port,
				 .set_up = true,
				 .up = cfg->up,
				 .alias = alias,
				 .set_port = true,
				 .isolated = cfg->isolated,
				 .learning = !cfg->guarded,
				 .addr_gen = 2 };
	int r;

	*at = 1;
	if (cfg->kind == NET_TAP) {
		const struct tap_cfg t = { .name = cfg->port,
					   .queues = cfg->queues,
					   .persistent = true,
					   .uid = cfg->tap_uid,
					   .netns_fd = n->fd };

		r = tap_create(&t, e);
		if (r < 0)
			return r;
		rtnl_put_change(&b, &(struct rtnl_change){ .name = cfg->port,
							   .mtu = cfg->mtu,
							   .set_master = true,
							   .master = bridge_index });
	} else {
		rtnl_put_veth(&b, cfg->port, bridge_index, cfg->mtu, 0, NULL, &peer);
	}
	rtnl_put_change(&b, &c);
	return nl_send(&n->nl, &b, at, e);
}

static int drop_port(struct dp_net *n, const char *port, const char *limiter)
{
	_cleanup_(nl_batch_done) struct nl_batch b = { 0 };
	struct rtnl_link l;

	if (rtnl_link_get(&n->nl, limiter, 0, &l, NULL) == 0)
		rtnl_put_link_del(&b, limiter);
	rtnl_put_link_del(&b, port);
	return nl_send(&n->nl, &b, NULL, NULL);
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

static int bridge_port_put(struct dp_net *n, const struct dp_port_cfg *cfg, struct err **e)
{
	struct rtnl_link bridge, l;
	char alias[RTNL_ALIAS_MAX];
	bool fresh = false;
	unsigned int at;
	int r = rtnl_link_get(&n->nl, cfg->bridge, 0, &bridge, e), mended = 0;
	size_t shared;

	if (r < 0)
		return err_wrap(e, r, "bridge '%s'", cfg->bridge);
	port_alias(cfg, alias);
	r = rtnl_link_get(&n->nl, cfg->port, 0, &l, NULL);
	if (r == 0 && !ours(&l, "port", cfg->id))
		return err_set(e, EEXIST, "net.foreign",
			       "link '%s' is there already and not ours ('%s')", cfg->port,
			       l.alias);
	shared = strlen("strata port ") + strlen(cfg->id);
	if (r == 0 && !streq(l.alias, alias) && strlen(l.alias) > shared) {
		drop_port(
			n, cfg->port,
			cfg->limiter); /* another namespace or number of queues: not the same port */
		r = -ENODEV;
		mended++;
	}
	if (r < 0) {
		fresh = true;
		r = make_port(n, cfg, bridge.index, alias, &at, e);
		if (r == -EEXIST && at == 0)
			r = err_wrap(e, r, "'%s' is taken inside the instance", cfg->ifname);
		else if (r == 0)
			r = rtnl_link_get(&n->nl, cfg->port, 0, &l, e);
		mended += !mended;
	} else {
		r = mend_port(n, cfg, &l, bridge.index, alias, e);
		mended += MAX(r, 0);
	}
	if (r >= 0 && (fresh || mended || cfg->guarded))
		r = put_fdb(n, cfg, l.index, e);
	if (r >= 0 && cfg->kind == NET_VETH)
		r = configure_peer(cfg, e);
	if (r >= 0) {
		r = put_rates(n, cfg, &l, fresh, e);
		mended += fresh ? 0 : MAX(r, 0);
	}
	if (r < 0) {
		if (fresh)
			drop_port(n, cfg->port, cfg->limiter);
		return r;
	}
	return mended;
}

static int bridge_port_remove(struct dp_net *n, const struct dp_port_cfg *cfg, struct err **e)
{
	drop_port(n, cfg->port,
		  cfg->limiter); /* gone with the instance's namespace already: no fault */
	return 0;
}

static int bridge_port_stats(struct dp_net *n, const char *port, struct dp_port_stats *ret,
			     struct err **e)
{
	struct rtnl_link l;
	int r = rtnl_link_get(&n->nl, port, 0, &l, e);

	if (r < 0)
		return r;
	*ret = (struct dp_port_stats){ .up = l.flags & IFF_UP,
				       .mtu = l.mtu,
				       .rx_packets = l.tx_packets,
				       .rx_bytes = l.tx_bytes,
				       .rx_dropped = l.tx_dropped,
				       .tx_packets = l.rx_packets,
				       .tx_bytes = l.rx_bytes,
				       .tx_dropped = l.rx_dropped };
	return 0;
}

static int bridge_port_fds(struct dp_net *n, const struct dp_port_cfg *cfg, int *fds,
			   struct err **e)
{
	const struct tap_cfg t = { .name = cfg->port,
				   .queues = cfg->queues,
				   .persistent = true,
				   .uid = cfg->tap_uid,
				   .netns_fd = n->fd };

	return tap_open(&t, fds, e);
}

/* ---- rules, routes, leftovers ---- */

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

static int bridge_rules_read(struct dp *d, struct dp_net *n, const char *text, struct buf *out,
			     struct err **e)
{
	return nft_read(nft_of(d, n), text, true, out, e);
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

struct gc {
	struct dp *d;
	bool (*known)(void *arg, const char *kind, const char *name);
	void *arg;
	int removed;
};

static int gc_links(struct gc *g, struct nl *nl)
{
	static const char *const kinds[] = { "group", "port", "limiter", "transit" };
	_cleanup_(nl_batch_done) struct nl_batch b = { 0 };
	rtnl_links links = { 0 };
	int r = rtnl_link_list(nl, 0, &links, NULL);

	for (size_t i = 0; r == 0 && i < links.n; i++)
		for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
			const struct rtnl_link *l = &links.v[i];
			size_t len = strlen(kinds[k]);

			if (str_starts(l->alias, "strata ") &&
			    strncmp(l->alias + 7, kinds[k], len) == 0 && l->alias[7 + len] == ' ' &&
			    !g->known(g->arg, kinds[k], l->name)) {
				rtnl_put_link_del(&b, l->name);
				g->removed++;
			}
		}
	vec_done(&links);
	nl_send(nl, &b, NULL, NULL);
	return 0;
}

static int gc_net(const char *name, void *arg)
{
	struct gc *g = arg;
	struct dp_net *n;
	struct rtnl_link lo;

	list_for_each_entry(n, &g->d->nets, node)
		if (streq(n->name, name))
			return gc_links(g, &n->nl);
	if (g->known(g->arg, "net", name))
		return 0;
	n = calloc(1, sizeof(*n));
	if (!n)
		return -ENOMEM;
	list_init(&n->node);
	n->d = g->d;
	n->fd = -1;
	if (netns_open(name, &n->fd, NULL) < 0) {
		netns_delete(name, NULL);
		free(n);
		g->removed++;
		return 0;
	}
	if (nl_open_at(&n->nl, NETLINK_ROUTE, n->fd, NULL) == 0 &&
	    rtnl_link_get(&n->nl, "lo", 0, &lo, NULL) == 0 && str_starts(lo.alias, "strata net ")) {
		const struct dp_net_cfg cfg = { .id = lo.alias + strlen("strata net "),
						.ns = name };

		bridge_net_remove(g->d, n, &cfg, NULL);
		g->removed++;
	} else {
		bridge_net_close(n);
	}
	return 0;
}

static int bridge_gc(struct dp *d, bool (*known)(void *arg, const char *kind, const char *name),
		     void *arg, struct err **e)
{
	struct gc g = { .d = d, .known = known, .arg = arg };
	int r = netns_each("strata-", gc_net, &g);

	if (r < 0)
		return err_sys(e, -r, "look for leftovers");
	gc_links(&g, &d->nl);
	return g.removed;
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
	.bridge_ct = bridge_bridge_ct,
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
	.rules_read = bridge_rules_read,
	.rules_gen = bridge_rules_gen,
	.route_put = bridge_route_put,
	.route_remove = bridge_route_remove,
	.gc = bridge_gc,
	.host_routes = bridge_host_routes,
};
