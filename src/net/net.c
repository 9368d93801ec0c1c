/* The engine as a whole, and networks.  See net.h; portgroup.c, group.c, nic.c and forward.c hold the other objects,
 * rules are kept by rulesync.c, ports and bridges made by the datapath driver, whole states applied and mended in
 * reconcile.c. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/str.h"
#include "net/engine.h"
#include "net/spec.h"
#include "sys/netns.h"

void net_name(const char *prefix, const char *id, char *to, size_t len)
{
	snprintf(to, len, "%s%012llx", prefix, (unsigned long long)(stable_hash(id, prefix) >> 16));
}

/* ---- the whole ---- */

int net_new(const struct net_cfg *cfg, struct net **ret, struct err **e)
{
	struct net *n = calloc(1, sizeof(*n));
	int r = 0;

	if (!n)
		return err_sys(e, ENOMEM, "net");
	n->cfg = *cfg;
	n->ops = cfg->datapath ? cfg->datapath : &datapath_bridge;
	n->host_ns = -1;
	n->host_dirty = true;
	if (!cfg->transit4.a.family)
		ipprefix_parse("100.127.0.0/16", &n->cfg.transit4);
	if (!cfg->transit6.a.family)
		ipprefix_parse("fd53:7472:6174:7f00::/64", &n->cfg.transit6);
	if (hmap_init(&n->networks) < 0 || hmap_init(&n->portgroups) < 0 ||
	    hmap_init(&n->groups) < 0 || hmap_init(&n->nics) < 0 || hmap_init(&n->forwards) < 0 ||
	    hmap_init(&n->macs) < 0 || hmap_init(&n->names) < 0)
		r = err_sys(e, ENOMEM, "net");
	if (r == 0 && cfg->state_dir && mkdir(cfg->state_dir, 0755) < 0 && errno != EEXIST)
		r = err_sys(e, errno, "create %s", cfg->state_dir);
	if (r == 0)
		r = n->ops->open(&n->dp, e);
	if (r == 0 && cfg->loop && work_pool_new(cfg->loop, 1, &n->pool) < 0)
		r = err_sys(e, ENOMEM, "workers");
	if (r == 0 && cfg->loop)
		n->host_ns = netns_self(e);
	if (r < 0 || (cfg->loop && n->host_ns < 0)) {
		net_free(n);
		return r < 0 ? r : -EIO;
	}
	*ret = n;
	return 0;
}

static void network_free(struct network *w)
{
	if (w->dp)
		w->net->ops->net_close(w->dp);
	vec_done(&w->groups);
	vec_done(&w->policies);
	free(w);
}

void net_free(struct net *n)
{
	if (!n)
		return;
	NET_EACH(struct forward, f, &n->forwards)
		free(f);
	NET_EACH(struct nic, x, &n->nics)
		nic_free(x);
	NET_EACH(struct portgroup, pg, &n->portgroups)
		portgroup_free(pg);
	NET_EACH(struct group, g, &n->groups)
		group_free(g);
	NET_EACH(struct network, w, &n->networks)
		network_free(w);
	work_pool_free(n->pool);
	hmap_done(&n->forwards);
	hmap_done(&n->nics);
	hmap_done(&n->macs);
	hmap_done(&n->names);
	hmap_done(&n->portgroups);
	hmap_done(&n->groups);
	hmap_done(&n->networks);
	if (n->dp)
		n->ops->close(n->dp);
	safe_close(n->host_ns);
	free(n);
}

/* ---- networks ---- */

/* A slot of the transit range: where the id's hash points, or the next free one. */
static int pick_transit(struct net *n, struct network *w, struct err **e)
{
	uint32_t slots = (uint32_t)1 << (31 - n->cfg.transit4.len), slot;
	struct ipaddr base4 = ipprefix_net(&n->cfg.transit4),
		      base6 = ipprefix_net(&n->cfg.transit6);

	slot = (uint32_t)(stable_hash(w->spec.id, "transit") % slots);
	for (uint32_t tries = 0; tries < slots; tries++, slot = (slot + 1) % slots) {
		bool taken = false;

		NET_EACH(struct network, o, &n->networks)
			taken |= o != w && o->transit_index == slot;
		if (!taken) {
			w->transit_index = slot;
			w->host4 = ipaddr_add(&base4, (uint64_t)slot * 2);
			w->router4 = ipaddr_add(&base4, (uint64_t)slot * 2 + 1);
			w->host6 = ipaddr_add(&base6, (uint64_t)slot * 2);
			w->router6 = ipaddr_add(&base6, (uint64_t)slot * 2 + 1);
			return 0;
		}
	}
	return err_set(e, ENOSPC, "net.transit",
		       "network '%s': %u networks are the most that the transit range holds",
		       w->spec.id, slots);
}

static void network_cfg(const struct network *w, struct dp_net_cfg *c)
{
	*c = (struct dp_net_cfg){ .id = w->spec.id,
				  .ns = w->ns,
				  .transit = w->spec.mode == NET_ISOLATED ? NULL : w->transit,
				  .host4 = w->host4,
				  .router4 = w->router4,
				  .host6 = w->host6,
				  .router6 = w->router6,
				  .forward = w->spec.mode != NET_ISOLATED ||
					     w->spec.route_between };
}

int network_put_dp(struct network *w, struct err **e)
{
	struct dp_net *before = w->dp;
	struct dp_net_cfg c;
	int r;

	network_cfg(w, &c);
	r = w->net->ops->net_put(w->net->dp, &w->dp, &c, e);
	if (r >= 0 && w->dp != before) {
		w->dirty = true;
		w->settled |= r > 0;
	}
	return r < 0 ? err_wrap(e, r, "network '%s'", w->spec.id) : r;
}

int net_network_put(struct net *n, const struct net_network *s, struct err **e)
{
	struct network *w = NET_FIND(struct network, &n->networks, s->id);
	struct net_network old;
	int r = spec_check_network(s, e);

	if (r < 0)
		return r;
	if (w) {
		old = w->spec;
		/* NOLINTNEXTLINE(bugprone-suspicious-memory-comparison): zeroed before filled */
		if (memcmp(&old, s, sizeof(old)) == 0 && w->dp)
			return 0;
		if (old.mode != s->mode && (old.mode == NET_ISOLATED || s->mode == NET_ISOLATED) &&
		    w->dp)
			return err_set(e, EBUSY, "net.mode",
				       "network '%s': remove it to make it %sisolated", s->id,
				       s->mode == NET_ISOLATED ? "" : "not ");
		w->spec = *s;
	} else {
		w = calloc(1, sizeof(*w));
		if (!w)
			return err_sys(e, ENOMEM, "network '%s'", s->id);
		w->net = n;
		w->spec = *s;
		list_init(&w->portgroups);
		net_name("strata-", s->id, w->ns, sizeof(w->ns));
		net_name("sv", s->id, w->transit, sizeof(w->transit));
		r = pick_transit(n, w, e);
		if (r < 0) {
			free(w);
			return r;
		}
		hmap_add(&n->networks, &w->node, hash_str(s->id));
	}
	w->dirty = true;
	n->host_dirty = true;
	r = network_put_dp(w, e);
	if (r >= 0)
		r = rules_network(w, e);
	if (r == 0)
		r = rules_host(n, e);
	if (r < 0 && !w->dp) {
		hmap_remove(&n->networks, &w->node);
		network_free(w);
	}
	return r;
}

int net_network_remove(struct net *n, const char *id, struct err **e)
{
	struct network *w = NET_FIND(struct network, &n->networks, id);
	struct dp_net_cfg c;
	int r = 0;

	if (!w)
		return err_set(e, ENOENT, "net.reference", "no network '%s'", id);
	if (!list_empty(&w->portgroups))
		return err_set(e, EBUSY, "net.busy", "network '%s' has port groups", id);
	network_cfg(w, &c);
	if (w->dp)
		r = n->ops->net_remove(n->dp, w->dp, &c, e);
	w->dp = NULL;
	hmap_remove(&n->networks, &w->node);
	network_free(w);
	n->host_dirty = true;
	return rules_host(n, r < 0 ? NULL : e) ?: r;
}
