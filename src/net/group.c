/* Security groups: rules that NICs share.  See net.h; security/rules.h words them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/str.h"
#include "net/engine.h"
#include "net/spec.h"

void group_free(struct group *g)
{
	free(g->spec.rules);
	free(g);
}

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
