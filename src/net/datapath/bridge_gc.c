/* Leftovers of the bridge driver: what carries our mark and belongs to nobody.  See bridge.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/str.h"
#include "net/datapath/bridge.h"

struct gc {
	struct dp *d;
	bool (*known)(void *arg, const char *kind, const char *name);
	void *arg;
	int removed;
};

/* host: the namespace is not ours alone, so links go one by one. */
static int gc_links(struct gc *g, struct nl *nl, bool host)
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
				if (host)
					rtnl_put_link_del(&b, l->name);
				else
					reaper_mark(&b, l->name);
				g->removed++;
			}
		}
	vec_done(&links);
	if (host)
		nl_send(nl, &b, NULL, NULL);
	else
		reaper_remove(nl, &b, NULL);
	return 0;
}

static int gc_net(const char *name, void *arg)
{
	struct gc *g = arg;
	struct dp_net *n;
	struct rtnl_link lo;

	list_for_each_entry(n, &g->d->nets, node)
		if (streq(n->name, name))
			return gc_links(g, &n->nl, false);
	if (g->known(g->arg, "net", name))
		return 0;
	n = calloc(1, sizeof(*n));
	if (!n)
		return -ENOMEM;
	if (hmap_init(&n->bridges) < 0) {
		free(n);
		return -ENOMEM;
	}
	list_init(&n->node);
	n->d = g->d;
	n->fd = -1;
	if (netns_open(name, &n->fd, NULL) < 0) {
		netns_delete(name, NULL);
		bridge_net_close(n);
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

int bridge_gc(struct dp *d, bool (*known)(void *arg, const char *kind, const char *name), void *arg,
	      struct err **e)
{
	struct gc g = { .d = d, .known = known, .arg = arg };
	int r;

	reaper_wait(d->reaper);
	r = netns_each("strata-", gc_net, &g);

	if (r < 0)
		return err_sys(e, -r, "look for leftovers");
	gc_links(&g, &d->nl, true);
	return g.removed;
}
