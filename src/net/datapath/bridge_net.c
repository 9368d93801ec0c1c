/* Networks of the bridge driver: the namespace and the router in it; bridge_transit.c links it to the host.  See bridge.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include "base/atomicfile.h"
#include "base/str.h"
#include "net/datapath/bridge.h"

/* In the namespace of fd: /proc/sys/net is that of the reader. */
int bridge_sysctl(int fd, const char *const (*kv)[2], size_t n, struct err **e)
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
	if (!bridge_ours(&lo, "net", cfg->id))
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
		/* Ports speak no IPv6 themselves: each would be a route that the next one's coming up walks over. */
		{ "ipv6/conf/default/disable_ipv6", "1" },
		{ "bridge/bridge-nf-call-iptables", "0" },
		{ "bridge/bridge-nf-call-ip6tables", "0" },
		{ "bridge/bridge-nf-call-arptables", "0" },
	};
	_cleanup_(nl_batch_done) struct nl_batch b = { 0 };
	char alias[RTNL_ALIAS_MAX];
	int r = bridge_sysctl(n->fd, kv, ARRAY_SIZE(kv), e);

	if (r < 0)
		return r;
	snprintf(alias, sizeof(alias), "strata net %s", cfg->id);
	rtnl_put_change(&b, &(struct rtnl_change){
				    .name = "lo", .set_up = true, .up = true, .alias = alias });
	return nl_send(&n->nl, &b, NULL, e);
}

void bridge_net_close(struct dp_net *n)
{
	if (!n)
		return;
	list_del(&n->node);
	bridge_forget(n, NULL);
	hmap_done(&n->bridges);
	nft_close(n->nft);
	nl_close(&n->nl);
	safe_close(n->fd);
	free(n);
}

int bridge_net_put(struct dp *d, struct dp_net **ret, const struct dp_net_cfg *cfg, struct err **e)
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
		if (hmap_init(&n->bridges) < 0) {
			free(n);
			return err_sys(e, ENOMEM, "open network");
		}
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
		r = bridge_transit_put(d, n, cfg, e);
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
			reaper_mark(&b, links.v[i].name);
	vec_done(&links);
	return r < 0 ? r : reaper_remove(&n->nl, &b, e);
}

int bridge_net_remove(struct dp *d, struct dp_net *n, const struct dp_net_cfg *cfg, struct err **e)
{
	_cleanup_(nl_batch_done) struct nl_batch b = { 0 };
	struct rtnl_link l;

	reaper_wait(d->reaper);
	/* Links first: what is left of a namespace goes in the background, and its veths with it. */
	drop_links(n, NULL);
	if (cfg->transit && rtnl_link_get(&d->nl, cfg->transit, 0, &l, NULL) == 0 &&
	    bridge_ours(&l, "transit", cfg->id)) {
		rtnl_put_link_del(&b, cfg->transit);
		nl_send(&d->nl, &b, NULL, NULL);
	}
	bridge_net_close(n);
	return netns_delete(cfg->ns, e);
}

int bridge_net_fd(struct dp_net *n)
{
	return n->fd;
}
