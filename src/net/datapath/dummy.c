/* The dummy driver: a host in memory, so that the engine is tested without root.  It keeps what it was told, checks
 * the order that real drivers rely on, and fails where dummy_fail says. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/list.h"
#include "base/str.h"
#include "net/datapath/dummy.h"

struct dp {
	struct list nets;
	uint32_t gen;
	struct buf rules;
};

struct thing {
	struct list node;
	char kind[8], name[16], bridge[16];
	struct net_nic_status stats;
};

struct dp_net {
	struct list node;
	char ns[32];
	struct list things;
	uint32_t gen;
	struct buf rules;
};

struct dummy_control dummy;

static int fault(const char *op, struct err **e)
{
	if (dummy.fail_op && streq(dummy.fail_op, op) && dummy.fail_after-- == 0) {
		dummy.fail_op = NULL;
		dummy.fail_after = 0;
		return err_set(e, EIO, "net.dummy", "dummy: %s fails", op);
	}
	return 0;
}

static int dummy_open(struct dp **ret, struct err **e)
{
	struct dp *d = calloc(1, sizeof(*d));

	if (!d)
		return err_sys(e, ENOMEM, "dummy");
	list_init(&d->nets);
	*ret = d;
	return 0;
}

static void dummy_net_close(struct dp_net *n)
{
	struct list *l;

	if (!n)
		return;
	while ((l = list_pop(&n->things)))
		free(list_entry(l, struct thing, node));
	list_del(&n->node);
	buf_done(&n->rules);
	free(n);
}

static void dummy_close(struct dp *d)
{
	if (!d)
		return;
	buf_done(&d->rules);
	free(d);
}

static bool dummy_bridge_ct(struct dp *d)
{
	return dummy.bridge_ct;
}

static int dummy_net_put(struct dp *d, struct dp_net **n, const struct dp_net_cfg *cfg,
			 struct err **e)
{
	int r = fault("net_put", e);

	if (r < 0 || *n)
		return r;
	*n = calloc(1, sizeof(**n));
	if (!*n)
		return err_sys(e, ENOMEM, "dummy");
	snprintf((*n)->ns, sizeof((*n)->ns), "%s", cfg->ns);
	list_init(&(*n)->things);
	list_add_tail(&d->nets, &(*n)->node);
	dummy.n_nets++;
	return 1;
}

static int dummy_net_remove(struct dp *d, struct dp_net *n, const struct dp_net_cfg *cfg,
			    struct err **e)
{
	dummy_net_close(n);
	dummy.n_nets--;
	return 0;
}

static int dummy_net_fd(struct dp_net *n)
{
	return -1;
}

static struct thing *find(struct dp_net *n, const char *kind, const char *name)
{
	struct thing *t;

	list_for_each_entry(t, &n->things, node)
		if (streq(t->kind, kind) && streq(t->name, name))
			return t;
	return NULL;
}

static int put(struct dp_net *n, const char *kind, const char *name, struct err **e)
{
	struct thing *t = find(n, kind, name);

	if (t)
		return 0;
	t = calloc(1, sizeof(*t));
	if (!t)
		return err_sys(e, ENOMEM, "dummy");
	snprintf(t->kind, sizeof(t->kind), "%s", kind);
	snprintf(t->name, sizeof(t->name), "%s", name);
	list_add_tail(&n->things, &t->node);
	return 1;
}

static int drop(struct dp_net *n, const char *kind, const char *name)
{
	struct thing *t = find(n, kind, name);

	if (t) {
		list_del(&t->node);
		free(t);
	}
	return t != NULL;
}

static int dummy_group_put(struct dp_net *n, const struct dp_group_cfg *cfg, struct err **e)
{
	int r = fault("group_put", e);

	return r < 0 ? r : put(n, "group", cfg->bridge, e);
}

static int dummy_group_remove(struct dp_net *n, const char *bridge, struct err **e)
{
	drop(n, "group", bridge);
	return 0;
}

static int dummy_port_put(struct dp_net *n, const struct dp_port_cfg *cfg, struct err **e)
{
	int r = fault("port_put", e);

	if (r < 0)
		return r;
	if (!find(n, "group", cfg->bridge))
		return err_set(e, ENODEV, "net.dummy", "dummy: port before its bridge");
	r = put(n, "port", cfg->port, e);
	if (r < 0)
		return r;
	find(n, "port", cfg->port)->stats =
		(struct net_nic_status){ .up = cfg->up, .mtu = cfg->mtu };
	dummy.n_ports += r;
	return r;
}

static int dummy_port_remove(struct dp_net *n, const struct dp_port_cfg *cfg, struct err **e)
{
	dummy.n_ports -= drop(n, "port", cfg->port);
	return 0;
}

static int dummy_port_stats(struct dp_net *n, const char *port, struct net_nic_status *ret,
			    struct err **e)
{
	struct thing *t = find(n, "port", port);

	if (!t)
		return err_set(e, ENODEV, "net.dummy", "no port '%s'", port);
	*ret = t->stats;
	return 0;
}

static int dummy_port_fds(struct dp_net *n, const struct dp_port_cfg *cfg, int *fds, struct err **e)
{
	return err_set(e, EOPNOTSUPP, "net.dummy", "the dummy datapath has no taps");
}

static int dummy_rules_run(struct dp *d, struct dp_net *n, const char *text, struct err **e)
{
	struct buf *b = n ? &n->rules : &d->rules;
	int r = fault("rules_run", e);

	if (r < 0)
		return r;
	if (str_starts(text, "add table"))
		buf_clear(b);
	buf_adds(b, text);
	*(n ? &n->gen : &d->gen) += 1;
	dummy.last_rules = buf_str(b);
	return 0;
}

static int dummy_rules_elems(struct dp *d, struct dp_net *n, struct nft_batch *b, struct err **e)
{
	int r = fault("rules_elems", e);

	if (r == 0) {
		dummy.n_elems += b->n;
		*(n ? &n->gen : &d->gen) += 1;
	}
	nl_batch_clear(&b->nl);
	b->n = 0;
	return r;
}

static int dummy_rules_counters(struct dp *d, struct dp_net *n, nft_count_fn *fn, void *arg,
				struct err **e)
{
	return fn(arg, &(struct nft_count){ .name = "c_mac", .packets = dummy.drops });
}

static int dummy_rules_counts(struct dp *d, struct dp_net *n, const char *set, const char *name,
			      nft_count_fn *fn, void *arg, struct err **e)
{
	return fn(arg, &(struct nft_count){ .name = name ?: "snabc", .packets = dummy.drops });
}

static int dummy_rules_gen(struct dp *d, struct dp_net *n, uint32_t *ret, struct err **e)
{
	*ret = n ? n->gen : d->gen;
	return 0;
}

static int dummy_route_put(struct dp *d, const char *transit, const struct ipprefix *dst,
			   const struct ipaddr *via, struct err **e)
{
	return fault("route_put", e);
}

static int dummy_route_remove(struct dp *d, const char *transit, const struct ipprefix *dst,
			      struct err **e)
{
	return 0;
}

static int dummy_gc(struct dp *d, bool (*known)(void *arg, const char *kind, const char *name),
		    void *arg, struct err **e)
{
	struct thing *t, *tmp;
	struct dp_net *n;
	int removed = 0;

	list_for_each_entry(n, &d->nets, node)
		list_for_each_entry_safe(t, tmp, &n->things, node)
			if (!known(arg, t->kind, t->name)) {
				list_del(&t->node);
				free(t);
				removed++;
			}
	return removed;
}

static int dummy_host_routes(struct dp *d, int (*fn)(void *arg, const struct ipprefix *p),
			     void *arg, struct err **e)
{
	return 0;
}

const struct datapath_ops datapath_dummy = {
	.name = "dummy",
	.open = dummy_open,
	.close = dummy_close,
	.bridge_ct = dummy_bridge_ct,
	.net_put = dummy_net_put,
	.net_close = dummy_net_close,
	.net_remove = dummy_net_remove,
	.net_fd = dummy_net_fd,
	.group_put = dummy_group_put,
	.group_remove = dummy_group_remove,
	.port_put = dummy_port_put,
	.port_remove = dummy_port_remove,
	.port_stats = dummy_port_stats,
	.port_fds = dummy_port_fds,
	.rules_run = dummy_rules_run,
	.rules_elems = dummy_rules_elems,
	.rules_counters = dummy_rules_counters,
	.rules_counts = dummy_rules_counts,
	.rules_gen = dummy_rules_gen,
	.route_put = dummy_route_put,
	.route_remove = dummy_route_remove,
	.gc = dummy_gc,
	.host_routes = dummy_host_routes,
};
