/* NICs: checked, given addresses, and kept.  See net.h.
 *
 * Order for a port: admitted (checked, addresses chosen) - rules - link.  So no frame of a port is ever judged without
 * its rules. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/str.h"
#include "net/engine.h"
#include "net/spec.h"

void nic_free(struct nic *x)
{
	if (!x)
		return;
	free(x->spec.user_data);
	free(x->spec.ssh_keys);
	free(x->spec.instance_id);
	free(x);
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
		r = nic_choose_mac(x, old, e);
	if (r == 0)
		r = nic_choose_addrs(x, e);
	if (r < 0) {
		nic_free(x);
		return r;
	}
	net_name("sn", s->id, x->port, sizeof(x->port));
	net_name("si", s->id, x->limiter, sizeof(x->limiter));
	nic_policy(x);
	*ret = x;
	return 0;
}

static void nic_link(struct net *n, struct nic *x)
{
	hmap_add(&n->nics, &x->node, hash_str(x->spec.id));
	hmap_add(&n->macs, &x->by_mac, nic_mac_hash(x->pg->network, x->mac));
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

int net_nic_each(struct net *n, int (*fn)(void *arg, const char *id), void *arg)
{
	int r = 0;

	NET_EACH(struct nic, x, &n->nics)
		if (r >= 0)
			r = fn(arg, x->spec.id);
	return r < 0 ? r : 0;
}
