/* Rates of the bridge driver: a token bucket at the port for what goes to the NIC; for what comes from it one at an
 * ifb, a link that the port's arrivals are sent through.  See bridge.h. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "base/str.h"
#include "net/datapath/bridge.h"
#include "net/qos/shape.h"

static void limiter_alias(const struct dp_port_cfg *cfg, char *alias)
{
	snprintf(alias, RTNL_ALIAS_MAX, "strata limiter %s", cfg->id);
}

/* A queue discipline comes before its link is up: under one that is up the kernel waits for all processors. */
void bridge_rates_new(struct dp *d, struct nl_batch *b, const struct dp_port_cfg *cfg,
		      int port_index)
{
	struct rtnl_tbf s = shape_of(&cfg->to_nic, cfg->mtu);
	char alias[RTNL_ALIAS_MAX];
	int limiter;

	if (cfg->to_nic.average)
		rtnl_put_tbf(b, port_index, &s);
	if (!cfg->from_nic.average)
		return;
	limiter = bridge_new_index(d);
	limiter_alias(cfg, alias);
	s = shape_of(&cfg->from_nic, cfg->mtu);
	rtnl_put_link(b, "ifb", cfg->limiter, limiter);
	rtnl_put_tbf(b, limiter, &s);
	rtnl_put_change(b, &(struct rtnl_change){ .index = limiter,
						  .set_up = true,
						  .up = true,
						  .alias = alias,
						  .addr_gen = 2 });
	rtnl_put_clsact(b, port_index);
	rtnl_put_redirect(b, port_index, limiter);
}

/* Makes the bucket at a link as wanted; returns whether it was not.  A packet that waits for a bucket larger than the
 * new one would stop the link for good: then what waits is lost. */
static int put_bucket(struct dp_net *n, int index, const struct net_rate *rate, uint32_t mtu,
		      struct err **e)
{
	_cleanup_(nl_batch_done) struct nl_batch b = { 0 };
	struct rtnl_tbf want = shape_of(rate, mtu), have;
	bool there = rtnl_tbf_get(&n->nl, index, &have, NULL) == 0;
	int r;

	if (there && shape_same(&want, &have))
		return 0;
	if (there && shape_chokes(&want, &have))
		rtnl_put_qdisc_root_del(&b, index);
	rtnl_put_tbf(&b, index, &want);
	r = nl_send(&n->nl, &b, NULL, e);
	return r < 0 ? r : 1;
}

static int put_limiter(struct dp_net *n, const struct dp_port_cfg *cfg, int port_index,
		       struct err **e)
{
	_cleanup_(nl_batch_done) struct nl_batch b = { 0 };
	char alias[RTNL_ALIAS_MAX];
	struct rtnl_link l;
	bool made = rtnl_link_get(&n->nl, cfg->limiter, 0, &l, NULL) < 0;
	int r = 0, mended;

	if (made) {
		limiter_alias(cfg, alias);
		rtnl_put_link(&b, "ifb", cfg->limiter, 0);
		rtnl_put_change(&b, &(struct rtnl_change){ .name = cfg->limiter,
							   .set_up = true,
							   .up = true,
							   .alias = alias,
							   .addr_gen = 2 });
		r = nl_send(&n->nl, &b, NULL, e);
		if (r == 0)
			r = rtnl_link_get(&n->nl, cfg->limiter, 0, &l, e);
		if (r < 0)
			return err_wrap(e, r, "limit of traffic from the nic (needs ifb)");
		rtnl_put_clsact_del(&b, port_index); /* that of a limiter that somebody removed */
		nl_send(&n->nl, &b, NULL, NULL);
	}
	r = mended = put_bucket(n, l.index, &cfg->from_nic, cfg->mtu, e);
	if (r >= 0 && made) {
		rtnl_put_clsact(&b, port_index);
		rtnl_put_redirect(&b, port_index, l.index);
		r = nl_send(&n->nl, &b, NULL, e);
	}
	return r < 0 ? err_wrap(e, r, "limit of traffic from the nic") : made || mended;
}

int bridge_rates_put(struct dp_net *n, const struct dp_port_cfg *cfg, const struct rtnl_link *l,
		     bool fresh, struct err **e)
{
	_cleanup_(nl_batch_done) struct nl_batch b = { 0 };
	struct rtnl_link lim;
	int r = 0, mended = 0;

	if (cfg->to_nic.average) {
		r = put_bucket(n, l->index, &cfg->to_nic, cfg->mtu, e);
		mended += r > 0;
	} else if (!fresh && streq(l->qdisc, "tbf")) {
		rtnl_put_qdisc_root_del(&b, l->index);
		r = nl_send(&n->nl, &b, NULL, e);
		mended++;
	}
	if (r < 0)
		return err_wrap(e, r, "limit of traffic to the nic");
	if (cfg->from_nic.average) {
		r = put_limiter(n, cfg, l->index, e);
		mended += r > 0;
	} else if (!fresh && rtnl_link_get(&n->nl, cfg->limiter, 0, &lim, NULL) == 0) {
		rtnl_put_clsact_del(&b, l->index);
		rtnl_put_link_del(&b, cfg->limiter);
		r = nl_send(&n->nl, &b, NULL, e);
		mended++;
	}
	return r < 0 ? r : mended;
}
