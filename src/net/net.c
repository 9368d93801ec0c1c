/* The engine: objects in, host out.  See net.h; rules are kept by rulesync.c, ports and bridges made by the
 * datapath driver, whole states applied and mended in reconcile.c.
 *
 * Order for a port: admitted (checked, addresses chosen) - rules - link.  Removal goes the other way.  So no frame
 * of a port is ever judged without its rules. */
#define LOG_MODULE "net"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/log.h"
#include "base/str.h"
#include "net/engine.h"
#include "net/services/svc.h"
#include "net/spec.h"
#include "sys/netns.h"

static void name_of(const char *prefix, const char *id, char *to, size_t len)
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

static void group_free(struct group *g)
{
	free(g->spec.rules);
	free(g);
}

static void nic_free(struct nic *x)
{
	if (!x)
		return;
	free(x->spec.user_data);
	free(x->spec.ssh_keys);
	free(x->spec.instance_id);
	free(x);
}

static void portgroup_free(struct portgroup *pg)
{
	svc_stop(pg->svc);
	leases_close(&pg->leases);
	free(pg);
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
		name_of("strata-", s->id, w->ns, sizeof(w->ns));
		name_of("sv", s->id, w->transit, sizeof(w->transit));
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

/* ---- port groups ---- */

uint32_t portgroup_mtu(const struct portgroup *pg)
{
	return pg->spec.mtu ? pg->spec.mtu : 1500;
}

static bool portgroup_tracks(const struct portgroup *pg)
{
	struct nic *x;

	if (pg->network->net->ops->bridge_ct(pg->network->net->dp))
		return false;
	list_for_each_entry(x, &pg->nics, in_portgroup)
		if (*x->policy)
			return true;
	return false;
}

int portgroup_put_dp(struct portgroup *pg, struct err **e)
{
	struct dp_group_cfg c = { .id = pg->spec.id,
				  .bridge = pg->bridge,
				  .uplink = *pg->spec.uplink ? pg->spec.uplink : NULL,
				  .vlan = pg->spec.vlan,
				  .mtu = pg->spec.mtu,
				  .metadata = !pg->spec.no_services && pg->spec.subnet4.a.family,
				  .track = pg->network->net->bulk ? -1 : portgroup_tracks(pg) };
	struct network *w = pg->network;
	int r;

	memcpy(c.mac, pg->mac, 6);
	if (!pg->spec.no_services || !*pg->spec.uplink) {
		c.addr4 =
			(struct ipprefix){ spec_gateway(&pg->spec, AF_INET), pg->spec.subnet4.len };
		c.addr6 = (struct ipprefix){ spec_gateway(&pg->spec, AF_INET6),
					     pg->spec.subnet6.len };
	}
	if (w->net->cfg.look_only)
		return 0;
	if (!w->dp)
		return err_set(e, ENODEV, "net.state", "port group '%s': its network is not there",
			       pg->spec.id);
	r = w->net->ops->group_put(w->dp, &c, e);
	if (r >= 0 && w->spec.mode == NET_ROUTED) {
		const struct ipprefix *p[] = { &pg->spec.subnet4, &pg->spec.subnet6 };
		const struct ipaddr *via[] = { &w->router4, &w->router6 };

		for (int i = 0; i < 2; i++)
			if (p[i]->a.family) {
				int q = w->net->ops->route_put(w->net->dp, w->transit, p[i], via[i],
							       e);

				if (q < 0)
					return err_wrap(e, q, "port group '%s': route on the host",
							pg->spec.id);
			}
	}
	return r;
}

static int check_against_others(struct net *n, const struct net_portgroup *s, struct network *w,
				struct err **e)
{
	int r = 0;

	NET_EACH(struct portgroup, o, &n->portgroups) {
		if (r < 0 || streq(o->spec.id, s->id))
			continue;
		if (o->network == w ||
		    (o->network->spec.mode == NET_ROUTED && w->spec.mode == NET_ROUTED))
			r = spec_check_pair(&o->spec, s, e);
		if (r == 0 && *s->uplink && streq(s->uplink, o->spec.uplink) &&
		    s->vlan == o->spec.vlan)
			r = err_set(
				e, EEXIST, "net.vlan",
				"port group '%s': uplink '%s' with VLAN %u belongs to port group '%s'",
				s->id, s->uplink, s->vlan, o->spec.id);
	}
	return r;
}

static int start_services(struct portgroup *pg, struct err **e)
{
	struct net *n = pg->network->net;

	if (!n->cfg.loop || pg->svc || pg->spec.no_services ||
	    n->ops->net_fd(pg->network->dp) < 0 ||
	    (!pg->spec.subnet4.a.family && !pg->spec.subnet6.a.family))
		return 0;
	return svc_start(pg, &pg->svc, e);
}

int net_portgroup_put(struct net *n, const struct net_portgroup *s, struct err **e)
{
	struct portgroup *pg = NET_FIND(struct portgroup, &n->portgroups, s->id);
	struct network *w = NET_FIND(struct network, &n->networks, s->network);
	struct net_portgroup old = { 0 };
	char path[256], salt[NET_ID_MAX + 8];
	bool fresh = !pg, made;
	int r = spec_check_portgroup(s, e);

	if (r < 0)
		return r;
	if (!w)
		return err_set(e, ENOENT, "net.reference", "port group '%s': no network '%s'",
			       s->id, s->network);
	r = check_against_others(n, s, w, e);
	if (r < 0)
		return r;
	if (pg) {
		old = pg->spec;
		/* NOLINTNEXTLINE(bugprone-suspicious-memory-comparison): zeroed before filled */
		if (memcmp(&old, s, sizeof(old)) == 0 && pg->up)
			return 0;
		if (pg->network != w)
			return err_set(e, EBUSY, "net.busy",
				       "port group '%s' cannot change its network", s->id);
		if (!list_empty(&pg->nics) &&
		    (memcmp(&old.subnet4, &s->subnet4, sizeof(old.subnet4)) != 0 ||
		     memcmp(&old.subnet6, &s->subnet6, sizeof(old.subnet6)) != 0))
			return err_set(e, EBUSY, "net.busy",
				       "port group '%s' has NICs: its subnets cannot change",
				       s->id);
		svc_stop(pg->svc);
		pg->svc = NULL;
		pg->spec = *s;
	} else {
		pg = calloc(1, sizeof(*pg));
		if (!pg)
			return err_sys(e, ENOMEM, "port group '%s'", s->id);
		pg->spec = *s;
		pg->network = w;
		list_init(&pg->nics);
		name_of("sb", s->id, pg->bridge, sizeof(pg->bridge));
		snprintf(salt, sizeof(salt), "gateway %s", s->id);
		mac_of_id(salt, 0, pg->mac);
		if (n->cfg.state_dir)
			snprintf(path, sizeof(path), "%s/%s.leases", n->cfg.state_dir, pg->bridge);
		r = leases_open(&pg->leases, n->cfg.state_dir ? path : NULL, n->cfg.loop, n->pool,
				e);
		if (r < 0) {
			portgroup_free(pg);
			return r;
		}
		hmap_add(&n->portgroups, &pg->node, hash_str(s->id));
		list_add_tail(&w->portgroups, &pg->in_network);
	}
	w->dirty = true;
	r = portgroup_put_dp(pg, e);
	made = r >= 0;
	if (r >= 0)
		r = rules_network(w, e);
	if (r == 0)
		r = start_services(pg, e);
	if (r < 0) {
		if (fresh) {
			w->dirty = true;
			if (w->dp && made) /* else it may be somebody else's */
				n->ops->group_remove(w->dp, pg->bridge, NULL);
			list_del(&pg->in_network);
			hmap_remove(&n->portgroups, &pg->node);
			portgroup_free(pg);
		} else { /* back to what was; the next reconcile run repeats it if this fails too */
			pg->spec = old;
			w->dirty = true;
			if (portgroup_put_dp(pg, NULL) >= 0 && rules_network(w, NULL) == 0)
				start_services(pg, NULL);
		}
		return r;
	}
	pg->up = true;
	if (!fresh) { /* the ports follow: rates, isolation, MTU, policies */
		struct nic *x;

		list_for_each_entry(x, &pg->nics, in_portgroup) {
			int q;

			nic_policy(x);
			w->dirty = true;
			q = nic_port_put(x, false, r < 0 ? NULL : e);
			r = q < 0 && r == 0 ? q : r;
		}
		if (portgroup_tracks(pg) && portgroup_put_dp(pg, r < 0 ? NULL : e) < 0 && r == 0)
			r = -EOPNOTSUPP;
		if (rules_network(w, r < 0 ? NULL : e) < 0 && r == 0)
			r = -EIO;
	}
	return r;
}

int net_portgroup_remove(struct net *n, const char *id, struct err **e)
{
	struct portgroup *pg = NET_FIND(struct portgroup, &n->portgroups, id);
	struct network *w;
	int r = 0;

	if (!pg)
		return err_set(e, ENOENT, "net.reference", "no port group '%s'", id);
	if (!list_empty(&pg->nics))
		return err_set(e, EBUSY, "net.busy", "port group '%s' has NICs", id);
	w = pg->network;
	svc_stop(pg->svc);
	pg->svc = NULL;
	if (w->dp) {
		if (w->spec.mode == NET_ROUTED && pg->spec.subnet4.a.family)
			n->ops->route_remove(n->dp, w->transit, &pg->spec.subnet4, NULL);
		if (w->spec.mode == NET_ROUTED && pg->spec.subnet6.a.family)
			n->ops->route_remove(n->dp, w->transit, &pg->spec.subnet6, NULL);
		r = n->ops->group_remove(w->dp, pg->bridge, e);
	}
	list_del(&pg->in_network);
	hmap_remove(&n->portgroups, &pg->node);
	leases_save(&pg->leases, NULL); /* a write under way must not make the file again */
	pg->leases.dirty = false;
	if (*pg->leases.path)
		unlink(pg->leases.path);
	portgroup_free(pg);
	w->dirty = true;
	return r < 0 ? r : w->dp ? rules_network(w, e) : 0;
}

/* ---- security groups ---- */

int net_group_put(struct net *n, const struct net_group *s, struct err **e)
{
	struct group *g = NET_FIND(struct group, &n->groups, s->id);
	struct net_rule *rules;
	int r = spec_check_group(s, e);

	if (r < 0)
		return r;
	for (size_t i = 0; i < s->n_rules; i++)
		if (*s->rules[i].peer_group && !streq(s->rules[i].peer_group, s->id) &&
		    !NET_FIND(struct group, &n->groups, s->rules[i].peer_group) && n->applied)
			return err_set(e, ENOENT, "net.reference",
				       "security group '%s', rule %zu: no group '%s'", s->id, i,
				       s->rules[i].peer_group);
	if (g && g->spec.n_rules == s->n_rules &&
	    (s->n_rules == 0 ||
	     memcmp(g->spec.rules, s->rules, s->n_rules * sizeof(*rules)) == 0)) {
		rules = g->spec.rules;
		g->spec = *s;
		g->spec.rules = rules;
		return 0;
	}
	rules = calloc(s->n_rules ? s->n_rules : 1, sizeof(*rules));
	if (!rules)
		return err_sys(e, ENOMEM, "security group '%s'", s->id);
	if (s->n_rules)
		memcpy(rules, s->rules, s->n_rules * sizeof(*rules));
	if (!g) {
		g = calloc(1, sizeof(*g));
		if (!g) {
			free(rules);
			return err_sys(e, ENOMEM, "security group '%s'", s->id);
		}
		g->spec = *s;
		g->spec.rules = rules;
		snprintf(g->name, sizeof(g->name), "%014llx",
			 (unsigned long long)(stable_hash(s->id, "group") >> 8));
		hmap_add(&n->groups, &g->node, hash_str(s->id));
		return 0;
	}
	struct net_group old = g->spec;

	g->spec = *s;
	g->spec.rules = rules;
	r = rules_group_changed(n, g, e);
	if (r < 0) {
		g->spec = old;
		free(rules);
		NET_EACH(struct network, w, &n->networks)
			w->dirty = true; /* half of them may have the new rules */
		NET_EACH(struct network, v, &n->networks)
			if (v->dp)
				rules_network(v, NULL);
		return r;
	}
	free(old.rules);
	return 0;
}

int net_group_remove(struct net *n, const char *id, struct err **e)
{
	struct group *g = NET_FIND(struct group, &n->groups, id);

	if (!g)
		return err_set(e, ENOENT, "net.reference", "no security group '%s'", id);
	if (g->users)
		return err_set(e, EBUSY, "net.busy", "security group '%s' has %u NICs", id,
			       g->users);
	hmap_remove(&n->groups, &g->node);
	NET_EACH(struct network, w, &n->networks)
		for (size_t i = 0; i < w->groups.n; i++)
			if (w->groups.v[i] == g)
				w->dirty = true; /* its chains go with the next writing */
	NET_EACH(struct network, v, &n->networks)
		if (v->dirty && v->dp)
			rules_network(v, NULL);
	group_free(g);
	return 0;
}

/* ---- NICs ---- */

const struct ipaddr *nic_addr(const struct nic *x, int family)
{
	for (unsigned int i = 0; i < x->n_addrs; i++)
		if (x->addrs[i].family == family)
			return &x->addrs[i];
	return NULL;
}

static uint64_t mac_hash(const struct network *w, const uint8_t mac[6])
{
	return hash_bytes(mac, 6) ^ hash_u64((uint64_t)(uintptr_t)w);
}

uint64_t nic_name_hash(const struct network *w, const char *hostname)
{
	char low[64];
	size_t n = 0;

	for (; hostname[n] && n < sizeof(low); n++)
		low[n] = hostname[n] >= 'A' && hostname[n] <= 'Z' ? (char)(hostname[n] | 0x20)
								  : hostname[n];
	return hash_bytes(low, n) ^ hash_u64((uint64_t)(uintptr_t)w);
}

static struct nic *find_mac(struct network *w, const uint8_t mac[6])
{
	hmap_for_each(n, &w->net->macs, mac_hash(w, mac)) {
		struct nic *x = container_of(n, struct nic, by_mac);

		if (x->pg->network == w && memcmp(x->mac, mac, 6) == 0)
			return x;
	}
	return NULL;
}

struct nic *portgroup_nic_by_mac(struct portgroup *pg, const uint8_t mac[6])
{
	struct nic *x = find_mac(pg->network, mac);

	return x && x->pg == pg ? x : NULL;
}

struct nic *portgroup_nic_by_addr(struct portgroup *pg, const struct ipaddr *a)
{
	struct lease *l = lease_of_addr(&pg->leases, a);

	return l && *l->nic ? NET_FIND(struct nic, &pg->network->net->nics, l->nic) : NULL;
}

static int choose_mac(struct nic *x, const struct nic *old, struct err **e)
{
	struct network *w = x->pg->network;
	char a[MAC_TEXT];
	struct nic *o;

	if (!mac_is_zero(x->spec.mac)) {
		memcpy(x->mac, x->spec.mac, 6);
		o = find_mac(w, x->mac);
		if (o && o != old)
			return err_set(e, EEXIST, "net.mac",
				       "nic '%s': nic '%s' has the MAC %s already", x->spec.id,
				       o->spec.id, mac_format(x->mac, a));
		return 0;
	}
	for (unsigned int i = 0; i < 64; i++) {
		mac_of_id(x->spec.id, i, x->mac);
		o = find_mac(w, x->mac);
		if (!o || o == old)
			return 0;
	}
	return err_set(e, EEXIST, "net.mac", "nic '%s': no free MAC", x->spec.id);
}

static bool addr_free(struct portgroup *pg, const struct ipaddr *a, const char *nic)
{
	struct lease *l = lease_of_addr(&pg->leases, a);

	if (!l || streq(l->nic, nic))
		return true;
	if (*l->nic) /* kept for a NIC that is no more? */
		return !NET_FIND(struct nic, &pg->network->net->nics, l->nic);
	return l->until < now_real() / NSEC_PER_SEC;
}

static bool in_range(const struct net_portgroup *s, const struct ipaddr *a)
{
	return s->range_first.family && memcmp(a->b, s->range_first.b, 4) >= 0 &&
	       memcmp(a->b, s->range_last.b, 4) <= 0;
}

/* The address it had, or the first free one from where the id's hash points. */
static int choose_addr(struct nic *x, int family, struct ipaddr *ret, struct err **e)
{
	struct portgroup *pg = x->pg;
	const struct ipprefix *p = family == AF_INET ? &pg->spec.subnet4 : &pg->spec.subnet6;
	struct lease *had = lease_of(&pg->leases, x->spec.id, NULL, family);
	struct ipaddr gw = spec_gateway(&pg->spec, family);
	uint64_t n = ipprefix_hosts(p), at;

	if (had && ipprefix_contains(p, &had->addr) && !ipaddr_same(&had->addr, &gw)) {
		*ret = had->addr;
		return 0;
	}
	if (family == AF_INET6 && p->len <= 64) { /* the address that SLAAC forms as well */
		struct ipaddr net = ipprefix_net(p);

		*ret = ip6_eui64(&net, x->mac);
		if (addr_free(pg, ret, x->spec.id) && !ipaddr_same(ret, &gw))
			return 0;
	}
	at = stable_hash(x->spec.id, "address") % n;
	for (uint64_t i = 0; i < n && i < 1 << 20; i++, at = (at + 1) % n) {
		*ret = ipprefix_host(p, at);
		if (!ipaddr_same(ret, &gw) && !in_range(&pg->spec, ret) &&
		    addr_free(pg, ret, x->spec.id))
			return 0;
	}
	return err_set(e, ENOSPC, "net.address", "nic '%s': port group '%s' has no free address",
		       x->spec.id, pg->spec.id);
}

static int choose_addrs(struct nic *x, struct err **e)
{
	const struct ipprefix *p[] = { &x->pg->spec.subnet4, &x->pg->spec.subnet6 };
	char text[IPADDR_TEXT];
	int r;

	x->n_addrs = x->spec.n_addrs;
	memcpy(x->addrs, x->spec.addrs, sizeof(x->addrs));
	for (unsigned int i = 0; i < x->n_addrs; i++) {
		struct lease *l = lease_of_addr(&x->pg->leases, &x->addrs[i]);

		if (!addr_free(x->pg, &x->addrs[i], x->spec.id))
			return err_set(e, EEXIST, "net.address", "nic '%s': %s belongs to %s '%s'",
				       x->spec.id, ipaddr_format(&x->addrs[i], text),
				       *l->nic ? "nic" : "a lease", l->nic);
	}
	for (int i = 0; i < 2; i++) {
		if (!p[i]->a.family || nic_addr(x, p[i]->a.family) || x->n_addrs == NET_ADDRS_MAX)
			continue;
		r = choose_addr(x, p[i]->a.family, &x->addrs[x->n_addrs], e);
		if (r < 0)
			return r;
		x->n_addrs++;
	}
	return 0;
}

static int copy_nic(const struct net_nic *s, struct nic *x, struct err **e)
{
	x->spec = *s;
	x->spec.user_data = s->user_data ? strdup(s->user_data) : NULL;
	x->spec.ssh_keys = s->ssh_keys ? strdup(s->ssh_keys) : NULL;
	x->spec.instance_id = s->instance_id ? strdup(s->instance_id) : NULL;
	if ((s->user_data && !x->spec.user_data) || (s->ssh_keys && !x->spec.ssh_keys) ||
	    (s->instance_id && !x->spec.instance_id))
		return err_sys(e, ENOMEM, "nic '%s'", s->id);
	if (x->spec.queues == 0)
		x->spec.queues = 1;
	if (!*x->spec.ifname)
		strcpy(x->spec.ifname, "eth0");
	return 0;
}

/* A checked nic with MAC, addresses and groups; not linked anywhere. */
static int nic_make(struct net *n, const struct net_nic *s, const struct nic *old, struct nic **ret,
		    struct err **e)
{
	struct nic *x;
	struct portgroup *pg;
	int r = spec_check_nic(s, e);

	if (r < 0)
		return r;
	pg = NET_FIND(struct portgroup, &n->portgroups, s->portgroup);
	if (!pg)
		return err_set(e, ENOENT, "net.reference", "nic '%s': no port group '%s'", s->id,
			       s->portgroup);
	r = spec_check_nic_in(s, &pg->spec, e);
	if (r < 0)
		return r;
	x = calloc(1, sizeof(*x));
	if (!x)
		return err_sys(e, ENOMEM, "nic '%s'", s->id);
	x->pg = pg;
	list_init(&x->in_portgroup);
	r = copy_nic(s, x, e);
	for (unsigned int i = 0; r == 0 && i < s->n_groups; i++) {
		x->groups[i] = NET_FIND(struct group, &n->groups, s->groups[i]);
		if (!x->groups[i])
			r = err_set(e, ENOENT, "net.reference", "nic '%s': no security group '%s'",
				    s->id, s->groups[i]);
	}
	if (r == 0)
		r = choose_mac(x, old, e);
	if (r == 0)
		r = choose_addrs(x, e);
	if (r < 0) {
		nic_free(x);
		return r;
	}
	name_of("sn", s->id, x->port, sizeof(x->port));
	name_of("si", s->id, x->limiter, sizeof(x->limiter));
	nic_policy(x);
	*ret = x;
	return 0;
}

static void nic_link(struct net *n, struct nic *x)
{
	hmap_add(&n->nics, &x->node, hash_str(x->spec.id));
	hmap_add(&n->macs, &x->by_mac, mac_hash(x->pg->network, x->mac));
	hmap_add(&n->names, &x->by_name,
		 *x->spec.hostname ? nic_name_hash(x->pg->network, x->spec.hostname)
				   : hash_str(x->spec.id)); /* no name: nobody finds it */
	list_add_tail(&x->pg->nics, &x->in_portgroup);
	for (unsigned int i = 0; i < x->spec.n_groups; i++)
		x->groups[i]->users++;
	for (unsigned int i = 0; i < x->n_addrs; i++)
		lease_set(&x->pg->leases, &x->addrs[i], x->spec.id, NULL, 0);
	x->admitted = true;
}

static void nic_unlink(struct net *n, struct nic *x)
{
	hmap_remove(&n->nics, &x->node);
	hmap_remove(&n->macs, &x->by_mac);
	hmap_remove(&n->names, &x->by_name);
	list_del(&x->in_portgroup);
	for (unsigned int i = 0; i < x->spec.n_groups; i++)
		x->groups[i]->users--;
	x->admitted = false;
}

static void drop_addrs(struct nic *x, const struct nic *keep)
{
	for (unsigned int i = 0; i < x->n_addrs; i++) {
		struct lease *l = lease_of_addr(&x->pg->leases, &x->addrs[i]);
		bool kept = false;

		for (unsigned int k = 0; keep && keep->pg == x->pg && k < keep->n_addrs; k++)
			kept |= ipaddr_same(&keep->addrs[k], &x->addrs[i]);
		if (l && !kept && streq(l->nic, x->spec.id))
			lease_drop(&x->pg->leases, l);
	}
}

static const struct net_rate *rate_of(const struct net_rate *own, const struct net_rate *group)
{
	return own->average ? own : group;
}

static void port_cfg(struct nic *x, struct dp_port_cfg *c)
{
	const struct net_portgroup *s = &x->pg->spec;

	*c = (struct dp_port_cfg){ .id = x->spec.id,
				   .port = x->port,
				   .bridge = x->pg->bridge,
				   .kind = x->spec.kind,
				   .queues = x->spec.queues,
				   .tap_uid = x->spec.tap_uid,
				   .peer_ns = -1,
				   .ifname = x->spec.ifname,
				   .configure = !x->spec.dhcp,
				   .default_route = !x->spec.no_default_route,
				   .mtu = portgroup_mtu(x->pg),
				   .up = !x->spec.down,
				   .isolated = s->isolate,
				   .guarded = !x->spec.no_guard && !s->no_guard,
				   .addrs = x->addrs,
				   .n_addrs = x->n_addrs,
				   .plen4 = s->subnet4.a.family ? s->subnet4.len : 32,
				   .plen6 = s->subnet6.a.family ? s->subnet6.len : 128,
				   .gw4 = spec_gateway(s, AF_INET),
				   .gw6 = spec_gateway(s, AF_INET6),
				   .to_nic = *rate_of(&x->spec.to_nic, &s->to_nic),
				   .from_nic = *rate_of(&x->spec.from_nic, &s->from_nic),
				   .limiter = x->limiter };
	memcpy(c->mac, x->mac, 6);
	if (x->pg->network->spec.mode == NET_ISOLATED && !x->pg->network->spec.route_between &&
	    s->no_services)
		c->default_route = false;
}

/* The far end's namespace: an fd that the caller closes when *owned. */
static int peer_ns(struct nic *x, int *fd, bool *owned, struct err **e)
{
	int r;

	*owned = false;
	*fd = x->spec.netns_fd;
	if (x->spec.kind != NET_VETH || *fd >= 0)
		return 0;
	*owned = true;
	if (!*x->spec.netns) {
		r = netns_self(e);
		*fd = r;
		return r < 0 ? r : 0;
	}
	if (!strchr(x->spec.netns, '/'))
		return netns_open(x->spec.netns, fd, e);
	*fd = open(x->spec.netns, O_RDONLY | O_CLOEXEC);
	return *fd < 0 ? err_sys(e, errno, "open network namespace %s", x->spec.netns) : 0;
}

int nic_port_put(struct nic *x, bool fresh, struct err **e)
{
	struct network *w = x->pg->network;
	struct dp_port_cfg c;
	bool owned = false;
	int r;

	if (!w->dp)
		return err_set(e, ENODEV, "net.state", "nic '%s': its network is not there",
			       x->spec.id);
	if (w->net->cfg.look_only) {
		x->up = true;
		return 0;
	}
	port_cfg(x, &c);
	c.fresh = fresh && w->settled;
	r = w->net->ops == &datapath_dummy ? 0 : peer_ns(x, &c.peer_ns, &owned, e);
	if (r == 0)
		r = w->net->ops->port_put(w->dp, &c, e);
	if (owned)
		safe_close(c.peer_ns);
	x->up = r >= 0;
	return r < 0 ? err_wrap(e, r, "nic '%s'", x->spec.id) : r;
}

static void nic_port_drop(struct nic *x)
{
	struct dp_port_cfg c;

	port_cfg(x, &c);
	if (x->pg->network->dp)
		x->pg->network->net->ops->port_remove(x->pg->network->dp, &c, NULL);
}

static bool same_nic(const struct net_nic *a, const struct net_nic *b)
{
	struct net_nic x = *a, y = *b;
	bool same = true;

	x.user_data = x.ssh_keys = x.instance_id = y.user_data = y.ssh_keys = y.instance_id = NULL;
	x.netns_fd = y.netns_fd = -1;
	/* NOLINTNEXTLINE(bugprone-suspicious-memory-comparison): zeroed before filled */
	same &= memcmp(&x, &y, sizeof(x)) == 0;
	same &= streq(a->user_data ?: "", b->user_data ?: "") &&
		streq(a->ssh_keys ?: "", b->ssh_keys ?: "");
	return same && streq(a->instance_id ?: "", b->instance_id ?: "");
}

static int replace_forwards(struct net *n, const struct nic *old, struct nic *x)
{
	NET_EACH(struct forward, f, &n->forwards)
		if (f->nic == old) {
			rules_forward(f, true, NULL);
			f->nic = x;
			rules_forward(f, false, NULL);
		}
	return 0;
}

int net_nic_put(struct net *n, const struct net_nic *s, struct err **e)
{
	struct nic *old = NET_FIND(struct nic, &n->nics, s->id), *x;
	bool tracked;
	int r;

	if (old && same_nic(&old->spec, s) && old->up)
		return 0;
	if (old && !streq(old->spec.portgroup, s->portgroup)) {
		r = net_nic_remove(n, s->id, e); /* another segment: another port */
		if (r < 0)
			return r;
		old = NULL;
	}
	r = nic_make(n, s, old, &x, e);
	if (r < 0)
		return r;
	tracked = portgroup_tracks(x->pg);
	if (old)
		nic_unlink(n, old);
	nic_link(n, x);
	if (n->bulk && x->pg->network->dirty) { /* net_apply() goes on when all are admitted */
		if (old) {
			drop_addrs(old, x);
			NET_EACH(struct forward, f, &n->forwards)
				if (f->nic == old)
					f->nic = x;
			nic_free(old);
		}
		return 0;
	}
	if (!tracked && portgroup_tracks(x->pg)) /* state before the rules that ask for it */
		r = portgroup_put_dp(x->pg, e);
	if (r >= 0)
		r = rules_nic(x, old, e);
	if (r >= 0)
		r = nic_port_put(x, !old, e);
	x->spec.netns_fd = -1; /* borrowed for the call */
	if (r < 0) {
		nic_unlink(n, x);
		if (old) {
			nic_link(n, old);
			rules_nic(old, x, NULL);
			nic_port_put(old, false, NULL);
		} else {
			rules_nic(NULL, x, NULL);
		}
		drop_addrs(x, old);
		nic_free(x);
		return r;
	}
	if (old) {
		drop_addrs(old, x);
		replace_forwards(n, old, x);
		nic_free(old);
	}
	return 0;
}

int net_nic_remove(struct net *n, const char *id, struct err **e)
{
	struct nic *x = NET_FIND(struct nic, &n->nics, id);
	int r;

	if (!x)
		return err_set(e, ENOENT, "net.reference", "no nic '%s'", id);
	NET_EACH(struct forward, f, &n->forwards)
		if (f->nic == x)
			net_forward_remove(n, f->spec.id, NULL);
	nic_port_drop(x);
	nic_unlink(n, x);
	r = rules_nic(NULL, x, e);
	drop_addrs(x, NULL);
	nic_free(x);
	return r;
}

int net_nic_tap_fds(struct net *n, const char *id, int *fds, unsigned int *n_fds, struct err **e)
{
	struct nic *x = NET_FIND(struct nic, &n->nics, id);
	struct dp_port_cfg c;
	int r;

	if (!x)
		return err_set(e, ENOENT, "net.reference", "no nic '%s'", id);
	if (x->spec.kind != NET_TAP)
		return err_set(e, EINVAL, "net.kind", "nic '%s' is not a tap", id);
	port_cfg(x, &c);
	r = n->ops->port_fds(x->pg->network->dp, &c, fds, e);
	if (r == 0)
		*n_fds = c.queues;
	return r < 0 ? err_wrap(e, r, "nic '%s'", id) : 0;
}

int net_nic_each(struct net *n, int (*fn)(void *arg, const char *id), void *arg)
{
	int r = 0;

	NET_EACH(struct nic, x, &n->nics)
		if (r >= 0)
			r = fn(arg, x->spec.id);
	return r < 0 ? r : 0;
}

/* ---- forwards ---- */

static uint16_t pick_inner_port(struct net *n, const struct network *w, const struct net_forward *s)
{
	uint32_t at = s->host_port;

	for (unsigned int tries = 0; tries < 65535; tries++) {
		bool taken = false;

		NET_EACH(struct forward, f, &n->forwards)
			taken |= f->nic->pg->network == w && f->spec.proto == s->proto &&
				 f->at == at;
		if (!taken)
			return (uint16_t)at;
		at = at == 65535 ? 1024 : at + 1;
	}
	return 0;
}

int net_forward_put(struct net *n, const struct net_forward *s, struct err **e)
{
	struct forward *f = NET_FIND(struct forward, &n->forwards, s->id);
	struct nic *x = NET_FIND(struct nic, &n->nics, s->nic);
	int r = spec_check_forward(s, e);

	if (r < 0)
		return r;
	if (f && memcmp(&f->spec, s, sizeof(*s)) == 0)
		return 0;
	if (!x)
		return err_set(e, ENOENT, "net.reference", "forward '%s': no nic '%s'", s->id,
			       s->nic);
	if (x->pg->network->spec.mode == NET_ISOLATED)
		return err_set(e, EINVAL, "net.forward", "forward '%s': network '%s' is isolated",
			       s->id, x->pg->network->spec.id);
	NET_EACH(struct forward, o, &n->forwards)
		if (r == 0 && !streq(o->spec.id, s->id) && o->spec.proto == s->proto &&
		    o->spec.host_port == s->host_port &&
		    ipaddr_same(&o->spec.host_addr, &s->host_addr))
			r = err_set(e, EEXIST, "net.forward",
				    "forward '%s': port %u belongs to forward '%s'", s->id,
				    s->host_port, o->spec.id);
	if (r == 0 && f)
		r = net_forward_remove(n, s->id, e);
	if (r < 0)
		return r;
	f = calloc(1, sizeof(*f));
	if (!f)
		return err_sys(e, ENOMEM, "forward '%s'", s->id);
	f->spec = *s;
	f->nic = x;
	f->at = pick_inner_port(n, x->pg->network, s);
	r = rules_forward(f, false, e);
	if (r < 0) {
		rules_forward(f, true, NULL);
		free(f);
		return r;
	}
	hmap_add(&n->forwards, &f->node, hash_str(s->id));
	return 0;
}

int net_forward_remove(struct net *n, const char *id, struct err **e)
{
	struct forward *f = NET_FIND(struct forward, &n->forwards, id);
	int r;

	if (!f)
		return err_set(e, ENOENT, "net.reference", "no forward '%s'", id);
	r = rules_forward(f, true, e);
	hmap_remove(&n->forwards, &f->node);
	free(f);
	return r;
}
