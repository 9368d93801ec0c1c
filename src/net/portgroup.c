/* Port groups: a bridge, its gateway, leases and services.  See net.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/str.h"
#include "net/engine.h"
#include "net/services/svc.h"
#include "net/spec.h"

void portgroup_free(struct portgroup *pg)
{
	svc_stop(pg->svc);
	leases_close(&pg->leases);
	free(pg);
}

uint32_t portgroup_mtu(const struct portgroup *pg)
{
	return pg->spec.mtu ? pg->spec.mtu : 1500;
}

bool portgroup_tracks(const struct portgroup *pg)
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
		net_name("sb", s->id, pg->bridge, sizeof(pg->bridge));
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
