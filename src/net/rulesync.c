/* Keeps the rules on the host equal to the engine's objects: whole tables when a network is new or was tampered
 * with, elements for everything else.  Neighbours: security/rules.h words them, net.c calls.
 *
 * Invariant: a network whose tables are not `dirty` holds exactly the elements of its admitted NICs and forwards. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "net/engine.h"

static void short_name(const char *id, const char *salt, char *to, size_t len)
{
	snprintf(to, len, "%014llx", (unsigned long long)(stable_hash(id, salt) >> 8));
}

static enum net_policy policy_of(enum net_policy own, enum net_policy group)
{
	return own != NET_AUTO ? own : group;
}

void nic_policy(struct nic *x)
{
	const struct net_portgroup *pg = &x->pg->spec;
	enum net_policy in = policy_of(x->spec.in, pg->in), out = policy_of(x->spec.out, pg->out);
	char key[NET_GROUPS_MAX * 24 + 16];
	size_t len = 0;

	*x->policy = '\0';
	if (x->spec.n_groups == 0 && in != NET_DROP && out != NET_DROP)
		return;
	len += (size_t)snprintf(key, sizeof(key), "%d %d", in, out);
	for (unsigned int i = 0; i < x->spec.n_groups; i++)
		len += (size_t)snprintf(key + len, sizeof(key) - len, " %s", x->groups[i]->name);
	short_name(key, "policy", x->policy, sizeof(x->policy));
}

static bool has_group(const struct network *w, const struct group *g)
{
	for (size_t i = 0; i < w->groups.n; i++)
		if (w->groups.v[i] == g)
			return true;
	return false;
}

static const char *peer_name(void *arg, const char *id)
{
	struct network *w = arg;
	struct group *g = NET_FIND(struct group, &w->net->groups, id);

	return g && has_group(w, g) ? g->name : NULL;
}

/* Into w->groups: g and, so that rules can name their sets, the groups its rules name. */
static int want_group(struct network *w, struct group *g)
{
	if (has_group(w, g))
		return 0;
	if (vec_push(&w->groups, g) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < g->spec.n_rules; i++) {
		const char *peer = g->spec.rules[i].peer_group;
		struct group *p = *peer ? NET_FIND(struct group, &w->net->groups, peer) : NULL;

		if (p && want_group(w, p) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* Text for groups from index `first` on.  Sets first: rules name sets of groups that come later. */
static void write_groups(struct network *w, size_t first, struct buf *b)
{
	for (size_t i = first; i < w->groups.n; i++) {
		buf_addf(b, "add set bridge strata m4_%s { type ipv4_addr; }\n",
			 w->groups.v[i]->name);
		buf_addf(b, "add set bridge strata m6_%s { type ipv6_addr; }\n",
			 w->groups.v[i]->name);
	}
	for (size_t i = first; i < w->groups.n; i++)
		sec_group(b, w->groups.v[i]->name, &w->groups.v[i]->spec, peer_name, w);
}

/* 0: none, or not written yet. */
static uint32_t policy_number(const struct nic *x)
{
	const struct network *w = x->pg->network;
	uint64_t hash = stable_hash(x->policy, "");

	for (size_t i = 0; *x->policy && i < w->policies.n; i++)
		if (w->policies.v[i] == hash)
			return SEC_POLICY_FIRST + (uint32_t)i;
	return 0;
}

static void policy_text(struct nic *x, struct buf *b)
{
	const char *names[NET_GROUPS_MAX];
	const struct net_group *specs[NET_GROUPS_MAX];
	struct sec_policy p = { .name = x->policy,
				.number = policy_number(x),
				.groups = names,
				.specs = specs,
				.n = x->spec.n_groups,
				.in = policy_of(x->spec.in, x->pg->spec.in),
				.out = policy_of(x->spec.out, x->pg->spec.out) };

	for (unsigned int i = 0; i < p.n; i++) {
		names[i] = x->groups[i]->name;
		specs[i] = &x->groups[i]->spec;
	}
	sec_policy(b, &p);
}

static int write_policy(struct nic *x, struct buf *b)
{
	struct network *w = x->pg->network;

	if (!*x->policy || policy_number(x))
		return 0;
	if (vec_push(&w->policies, stable_hash(x->policy, "")) < 0)
		return -ENOMEM;
	policy_text(x, b);
	return 0;
}

/* Do we alone answer there?  Behind an uplink there may be others. */
static bool router_only(const struct portgroup *pg)
{
	return !*pg->spec.uplink && !pg->spec.no_services;
}

static void view_of(const struct nic *x, struct sec_port *p, const char *members[NET_GROUPS_MAX])
{
	*p = (struct sec_port){ .name = x->port,
				.guarded = !x->spec.no_guard && !x->pg->spec.no_guard,
				.addrs = x->addrs,
				.n_addrs = x->n_addrs,
				.policy = policy_number(x),
				.router = router_only(x->pg) ? x->pg->mac : NULL,
				.members = members,
				.n_members = x->spec.n_groups };
	memcpy(p->mac, x->mac, 6);
	for (unsigned int i = 0; i < x->spec.n_groups; i++)
		members[i] = x->groups[i]->name;
}

static int remember_gen(struct network *w, struct err **e)
{
	return w->net->ops->rules_gen(w->net->dp, w->dp, &w->gen, e);
}

/* Everything a network's namespace has, in one transaction. */
int rules_network(struct network *w, struct err **e)
{
	_cleanup_(buf_done) struct buf b = { 0 }, counters = { 0 }, spoofed = { 0 };
	VEC(const char *) bridges = { 0 };
	struct sec_out o = { .text = &b };
	const char *members[NET_GROUPS_MAX];
	struct net *n = w->net;
	struct portgroup *pg;
	struct sec_port p;
	struct nic *x;
	int r = 0;

	if (!w->dirty || n->bulk)
		return 0;
	if (n->cfg.look_only) {
		w->dirty = false;
		return 0;
	}
	w->groups.n = w->policies.n = 0;
	w->track = false;
	list_for_each_entry(pg, &w->portgroups, in_network) {
		if (vec_push(&bridges, (const char *)pg->bridge) < 0)
			r = -ENOMEM;
		list_for_each_entry(x, &pg->nics, in_portgroup) {
			w->track |= x->admitted && *x->policy;
			for (unsigned int i = 0; x->admitted && i < x->spec.n_groups && r == 0; i++)
				r = want_group(w, x->groups[i]);
		}
	}
	drops_keep(w, &counters, &spoofed);
	sec_network(&b, &(struct sec_network){ .track = w->track,
					       .bridge_ct = n->ops->bridge_ct(n->dp),
					       .mode = w->spec.mode,
					       .route_between = w->spec.route_between,
					       .counters = buf_str(&counters),
					       .bridges = bridges.v,
					       .n_bridges = bridges.n });
	vec_done(&bridges);
	buf_adds(&b, buf_str(&spoofed));
	write_groups(w, 0, &b);
	list_for_each_entry(pg, &w->portgroups, in_network)
		list_for_each_entry(x, &pg->nics, in_portgroup) {
			if (!x->admitted || r < 0)
				continue;
			r = write_policy(x, &b);
			view_of(x, &p, members);
			sec_port(&o, &p);
		}
	NET_EACH(struct forward, f, &n->forwards)
		if (f->nic->pg->network == w)
			for (unsigned int i = 0; i < f->nic->n_addrs; i++)
				if (nic_addr(f->nic, f->nic->addrs[i].family) == &f->nic->addrs[i])
					sec_forward(&o, f->spec.proto, f->at, &f->nic->addrs[i],
						    f->spec.port);
	if (r < 0 || o.error || buf_error(&b))
		return err_sys(e, ENOMEM, "network '%s': rules", w->spec.id);
	r = n->ops->rules_run(n->dp, w->dp, buf_str(&b), e);
	if (r < 0)
		return err_wrap(e, r, "network '%s': rules", w->spec.id);
	w->dirty = false;
	return remember_gen(w, e);
}

/* Chains that x needs and the tables lack. */
static int ensure_policy(struct nic *x, struct err **e)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	struct network *w = x->pg->network;
	size_t had_groups = w->groups.n, had_policies = w->policies.n;
	int r = 0;

	if (!*x->policy)
		return 0;
	if (!w->track) { /* the first one: hooks are missing too */
		w->dirty = true;
		return 0;
	}
	for (unsigned int i = 0; i < x->spec.n_groups && r == 0; i++)
		r = want_group(w, x->groups[i]);
	write_groups(w, had_groups, &b);
	if (r == 0)
		r = write_policy(x, &b);
	if (r == 0 && b.len)
		r = w->net->ops->rules_run(w->net->dp, w->dp, buf_str(&b), e);
	if (r < 0) {
		w->groups.n = had_groups;
		w->policies.n = had_policies;
		return err_wrap(e, r, "nic '%s': security groups", x->spec.id);
	}
	return 0;
}

/* One of x and old is there. */
int rules_nic(struct nic *x, const struct nic *old, struct err **e)
{
	/* cppcheck-suppress nullPointerRedundantCheck */
	struct network *w = (x ? x : old)->pg->network;
	struct nft_batch batch = { 0 };
	const char *members[NET_GROUPS_MAX];
	struct sec_out o = { .batch = &batch };
	struct sec_port p;
	int r = 0;

	if (x && !w->dirty)
		r = ensure_policy(x, e);
	if (r < 0)
		return r;
	if (w->dirty)
		return w->dp ? rules_network(w, e) : 0;
	if (old) {
		view_of(old, &p, members);
		o.remove = true;
		sec_port(&o, &p);
	}
	if (x) {
		view_of(x, &p, members);
		o.remove = false;
		sec_port(&o, &p);
	}
	r = o.error ? err_sys(e, ENOMEM, "rules")
		    : w->net->ops->rules_elems(w->net->dp, w->dp, &batch, e);
	nft_batch_done(&batch);
	if (r == -ENOENT) { /* somebody emptied the tables: write them anew */
		if (e)
			err_clear(e);
		w->dirty = true;
		return rules_network(w, e);
	}
	return r < 0 ? err_wrap(e, r, "nic '%s'", (x ? x : old)->spec.id) : remember_gen(w, e);
}

/* Whether out drops by default depends on the groups' rules.  Policies that no NIC has any more are forgotten. */
static int rewrite_policies(struct network *w, struct buf *b)
{
	_cleanup_(freep) bool *seen = calloc(w->policies.n + 1, sizeof(*seen));
	struct portgroup *pg;
	struct nic *x;

	if (!seen)
		return -ENOMEM;
	list_for_each_entry(pg, &w->portgroups, in_network)
		list_for_each_entry(x, &pg->nics, in_portgroup) {
			uint32_t number = policy_number(x);

			if (number == 0 || seen[number - SEC_POLICY_FIRST])
				continue;
			seen[number - SEC_POLICY_FIRST] = true;
			policy_text(x, b);
		}
	for (size_t i = 0; i < w->policies.n; i++)
		if (!seen[i])
			w->policies.v[i] = 0;
	return 0;
}

int rules_group_changed(struct net *n, struct group *g, struct err **e)
{
	NET_EACH(struct network, w, &n->networks) {
		_cleanup_(buf_done) struct buf b = { 0 };
		size_t had;
		int r = 0;

		if (!w->dp || w->dirty || !has_group(w, g))
			continue;
		had = w->groups.n;
		for (size_t i = 0; i < g->spec.n_rules && r == 0; i++) {
			const char *peer = g->spec.rules[i].peer_group;
			struct group *p = *peer ? NET_FIND(struct group, &n->groups, peer) : NULL;

			r = p ? want_group(w, p) : 0;
		}
		write_groups(w, had, &b);
		sec_group(&b, g->name, &g->spec, peer_name, w);
		if (r == 0)
			r = rewrite_policies(w, &b);
		if (r == 0 && !buf_error(&b))
			r = n->ops->rules_run(n->dp, w->dp, buf_str(&b), e);
		if (r < 0)
			return err_wrap(e, r, "security group '%s'", g->spec.id);
		r = remember_gen(w, e);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- the host's table ---- */

static void host_forward(struct sec_out *o, struct forward *f)
{
	struct network *w = f->nic->pg->network;
	int families[] = { AF_INET, AF_INET6 };

	for (int i = 0; i < 2; i++)
		if (nic_addr(f->nic, families[i]) &&
		    (!f->spec.host_addr.family || f->spec.host_addr.family == families[i]))
			sec_host_forward(o, &f->spec.host_addr, f->spec.proto, f->spec.host_port,
					 families[i] == AF_INET ? &w->router4 : &w->router6, f->at);
}

int rules_host(struct net *n, struct err **e)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	struct sec_out o = { .text = &b };
	bool any = false;
	int r;

	if (!n->host_dirty || n->bulk)
		return 0;
	if (n->cfg.look_only)
		return 0;
	sec_host(&b, &n->cfg.transit4, &n->cfg.transit6);
	NET_EACH(struct network, w, &n->networks)
		if (w->spec.mode != NET_ISOLATED) {
			any = true;
			sec_host_network(&o, w->transit, w->spec.mode == NET_ROUTED,
					 w->spec.host_access);
		}
	NET_EACH(struct forward, f, &n->forwards)
		host_forward(&o, f);
	if (!any) {
		buf_clear(&b);
		buf_adds(&b, "add table inet strata\ndelete table inet strata\n");
	}
	if (o.error || buf_error(&b))
		return err_sys(e, ENOMEM, "host rules");
	r = n->ops->rules_run(n->dp, NULL, buf_str(&b), e);
	if (r < 0)
		return err_wrap(e, r, "host rules");
	n->host_dirty = false;
	return n->ops->rules_gen(n->dp, NULL, &n->host_gen, e);
}

int rules_forward(struct forward *f, bool remove, struct err **e)
{
	struct net *n = f->nic->pg->network->net;
	struct network *w = f->nic->pg->network;
	struct nft_batch inside = { 0 }, host = { 0 };
	struct sec_out in = { .batch = &inside, .remove = remove },
		       out = { .batch = &host, .remove = remove };
	int r = 0;

	if (n->cfg.look_only)
		return 0;
	for (unsigned int i = 0; i < f->nic->n_addrs; i++)
		if (nic_addr(f->nic, f->nic->addrs[i].family) == &f->nic->addrs[i])
			sec_forward(&in, f->spec.proto, f->at, &f->nic->addrs[i], f->spec.port);
	host_forward(&out, f);
	if (!w->dirty)
		r = n->ops->rules_elems(n->dp, w->dp, &inside, e) ?: remember_gen(w, e);
	if (r == 0 && !n->host_dirty)
		r = n->ops->rules_elems(n->dp, NULL, &host, e)
			    ?: n->ops->rules_gen(n->dp, NULL, &n->host_gen, e);
	nft_batch_done(&inside);
	nft_batch_done(&host);
	return r < 0 ? err_wrap(e, r, "forward '%s'", f->spec.id) : 0;
}
