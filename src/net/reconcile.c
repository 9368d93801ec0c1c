/* Whole states: apply a spec by difference, compare with the host and mend, remove leftovers.  See net.h. */
#define LOG_MODULE "net"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "base/str.h"
#include "net/engine.h"

/* Keeps the first fault and counts all of them. */
struct faults {
	unsigned int n;
	int first;
	struct err **e;
};

static struct err **slot(struct faults *f)
{
	return f->n ? NULL : f->e;
}

static void note(struct faults *f, int r)
{
	if (r >= 0)
		return;
	if (f->n++ == 0)
		f->first = r;
}

#define LISTED(vec, idstr)                                        \
	({                                                        \
		bool _hit = false;                                \
		for (size_t _k = 0; _k < (vec)->n && !_hit; _k++) \
			_hit = streq((vec)->v[_k].id, idstr);     \
		_hit;                                             \
	})

struct id_node {
	struct hnode node;
	const char *id;
};

/* Ids of the NICs that are wanted: the one list that is long. */
static bool wanted(struct hmap *m, const char *id)
{
	hmap_for_each(n, m, hash_str(id))
		if (streq(container_of(n, struct id_node, node)->id, id))
			return true;
	return false;
}

static void remove_stale(struct net *n, const struct net_spec *s, struct hmap *ids,
			 struct faults *f)
{
	NET_EACH(struct forward, fw, &n->forwards)
		if (!LISTED(&s->forwards, fw->spec.id))
			note(f, net_forward_remove(n, fw->spec.id, slot(f)));
	NET_EACH(struct nic, x, &n->nics)
		if (!wanted(ids, x->spec.id))
			note(f, net_nic_remove(n, x->spec.id, slot(f)));
	NET_EACH(struct portgroup, pg, &n->portgroups)
		if (!LISTED(&s->portgroups, pg->spec.id) && list_empty(&pg->nics))
			note(f, net_portgroup_remove(n, pg->spec.id, slot(f)));
	NET_EACH(struct network, w, &n->networks)
		if (!LISTED(&s->networks, w->spec.id) && list_empty(&w->portgroups))
			note(f, net_network_remove(n, w->spec.id, slot(f)));
}

/* What net_apply() gathered: connection state, then rules of all ports in one transaction a network, then links.
 * After a restart this changes nothing on a host that is right, and no rule is missing for a moment. */
static void write_all_at_once(struct net *n, struct faults *f)
{
	NET_EACH(struct network, w, &n->networks) {
		struct portgroup *pg;
		int r = 0;

		if (!w->dirty || !w->dp)
			continue;
		list_for_each_entry(pg, &w->portgroups, in_network) {
			r = portgroup_put_dp(pg, slot(f));
			note(f, r);
		}
		note(f, rules_network(w, slot(f)));
	}
	NET_EACH(struct nic, x, &n->nics)
		if (!x->up && !x->pg->network->dirty) {
			int r = nic_port_put(x, true, slot(f));

			note(f, r);
			x->spec.netns_fd = -1;
			if (r < 0) /* not half-made: its rules and addresses go too */
				net_nic_remove(n, x->spec.id, NULL);
		}
	NET_EACH(struct network, w, &n->networks)
		w->settled = true;
}

int net_apply(struct net *n, const struct net_spec *s, unsigned int *n_failed, struct err **e)
{
	struct id_node *nodes = NULL;
	struct faults f = { .e = e };
	struct hmap ids = { 0 };
	int r = net_spec_check(s, e);

	if (n_failed)
		*n_failed = 0;
	if (r < 0)
		return r;
	nodes = calloc(s->nics.n + 1, sizeof(*nodes));
	if (!nodes || hmap_init(&ids) < 0) {
		free(nodes);
		return err_sys(e, ENOMEM, "apply");
	}
	for (size_t i = 0; i < s->nics.n; i++) {
		nodes[i].id = s->nics.v[i].id;
		hmap_add(&ids, &nodes[i].node, hash_str(nodes[i].id));
	}
	remove_stale(n, s, &ids, &f);
	n->bulk = true;
	for (size_t i = 0; i < s->networks.n; i++)
		note(&f, net_network_put(n, &s->networks.v[i], slot(&f)));
	n->applied = false; /* groups may name each other in any order */
	for (size_t i = 0; i < s->groups.n; i++)
		note(&f, net_group_put(n, &s->groups.v[i], slot(&f)));
	n->applied = true;
	for (size_t i = 0; i < s->portgroups.n; i++)
		note(&f, net_portgroup_put(n, &s->portgroups.v[i], slot(&f)));
	for (size_t i = 0; i < s->nics.n; i++)
		note(&f, net_nic_put(n, &s->nics.v[i], slot(&f)));
	n->bulk = false;
	/* Leftovers go before the rules that do not know them.  With faults, what is unknown may belong to what
	 * failed, and stays. */
	if (f.n == 0 && !n->cfg.look_only)
		note(&f, net_gc(n, NULL, slot(&f)));
	write_all_at_once(n, &f);
	for (size_t i = 0; i < s->forwards.n; i++)
		note(&f, net_forward_put(n, &s->forwards.v[i], slot(&f)));
	note(&f, rules_host(n, slot(&f)));
	NET_EACH(struct group, g, &n->groups)
		if (!LISTED(&s->groups, g->spec.id) && !g->users)
			note(&f, net_group_remove(n, g->spec.id, slot(&f)));
	hmap_done(&ids);
	free(nodes);
	if (n_failed)
		*n_failed = f.n;
	return f.n ? f.first : 0;
}

int net_reconcile(struct net *n, unsigned int *mended, struct err **e)
{
	struct faults f = { .e = e };
	unsigned int count = 0, leftovers = 0;
	uint32_t gen = 0;
	int r;

	NET_EACH(struct network, w, &n->networks) {
		struct portgroup *pg;

		r = network_put_dp(w, slot(&f));
		note(&f, r);
		if (r < 0)
			continue;
		count += (unsigned int)r;
		list_for_each_entry(pg, &w->portgroups, in_network) {
			r = portgroup_put_dp(pg, slot(&f));
			note(&f, r);
			count += (unsigned int)MAX(r, 0);
		}
		if (n->ops->rules_gen(n->dp, w->dp, &gen, NULL) == 0 && gen != w->gen &&
		    !w->dirty) {
			w->dirty = true; /* somebody else wrote here */
			count++;
		}
		note(&f, rules_network(w, slot(&f)));
	}
	if (n->networks.n && n->ops->rules_gen(n->dp, NULL, &gen, NULL) == 0 &&
	    gen != n->host_gen) {
		n->host_dirty = true;
		note(&f, rules_host(n, slot(&f)));
	}
	NET_EACH(struct nic, x, &n->nics) {
		r = nic_port_put(x, false, slot(&f));
		note(&f, r);
		count += (unsigned int)MAX(r, 0);
	}
	note(&f, net_gc(n, &leftovers, slot(&f)));
	if (mended)
		*mended = count + leftovers;
	if (count + leftovers)
		log_info("host mended", "things", count, "leftovers", leftovers);
	return f.n ? f.first : 0;
}

static bool known(void *arg, const char *kind, const char *name)
{
	struct net *n = arg;
	bool hit = false;

	/* gc asks once per marked link; names are found by walking, and leftovers are rare, so index by kind. */
	if (streq(kind, "net") || streq(kind, "transit")) {
		NET_EACH(struct network, w, &n->networks)
			hit |= streq(streq(kind, "net") ? w->ns : w->transit, name);
	} else if (streq(kind, "group")) {
		NET_EACH(struct portgroup, pg, &n->portgroups)
			hit |= streq(pg->bridge, name);
	}
	return hit;
}

/* Port and limiter names by hash, for the walk over possibly thousands of links. */
struct port_index {
	struct net *n;
	struct hmap map;
	struct id_node *nodes;
};

static bool known_port(void *arg, const char *kind, const char *name)
{
	struct port_index *p = arg;

	if (streq(kind, "port") || streq(kind, "limiter"))
		return wanted(&p->map, name);
	return known(p->n, kind, name);
}

int net_gc(struct net *n, unsigned int *removed, struct err **e)
{
	struct port_index p = { .n = n };
	size_t i = 0;
	int r;

	p.nodes = calloc(n->nics.n * 2 + 1, sizeof(*p.nodes));
	if (!p.nodes || hmap_init(&p.map) < 0) {
		free(p.nodes);
		return err_sys(e, ENOMEM, "look for leftovers");
	}
	NET_EACH(struct nic, x, &n->nics)
		for (int k = 0; k < 2; k++, i++) {
			p.nodes[i].id = k ? x->limiter : x->port;
			hmap_add(&p.map, &p.nodes[i].node, hash_str(p.nodes[i].id));
		}
	r = n->ops->gc(n->dp, known_port, &p, e);
	NET_EACH(struct network, w, &n->networks)
		drops_gc(w, known_port, &p);
	hmap_done(&p.map);
	free(p.nodes);
	if (r > 0)
		log_info("leftovers removed", "things", r);
	if (removed)
		*removed = (unsigned int)MAX(r, 0);
	return r < 0 ? r : 0;
}

int net_clear(struct net *n, struct err **e)
{
	struct net_spec none = { 0 };
	int r = net_apply(n, &none, NULL, e);

	n->host_dirty = true;
	return rules_host(n, r < 0 ? NULL : e) ?: r;
}
