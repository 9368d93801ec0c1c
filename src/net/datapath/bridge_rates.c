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
	struct shape s = shape_of(&cfg->to_nic, cfg->mtu);
	char alias[RTNL_ALIAS_MAX];
	int limiter;

	if (cfg->to_nic.average)
		rtnl_put_tbf(b, port_index, s.rate, s.burst, s.peak, s.peak_burst, s.limit);
	if (!cfg->from_nic.average)
		return;
	limiter = bridge_new_index(d);
	limiter_alias(cfg, alias);
	s = shape_of(&cfg->from_nic, cfg->mtu);
	rtnl_put_link(b, "ifb", cfg->limiter, limiter);
	rtnl_put_tbf(b, limiter, s.rate, s.burst, s.peak, s.peak_burst, s.limit);
	rtnl_put_change(b, &(struct rtnl_change){ .index = limiter,
						  .set_up = true,
						  .up = true,
						  .alias = alias,
						  .addr_gen = 2 });
	rtnl_put_clsact(b, port_index);
	rtnl_put_redirect(b, port_index, limiter);
}

static int put_limiter(struct dp_net *n, const struct dp_port_cfg *cfg, int port_index,
		       struct err **e)
{
	_cleanup_(nl_batch_done) struct nl_batch b = { 0 };
	struct shape s = shape_of(&cfg->from_nic, cfg->mtu);
	char alias[RTNL_ALIAS_MAX];
	struct rtnl_link l;
	bool made = rtnl_link_get(&n->nl, cfg->limiter, 0, &l, NULL) < 0;
	int r;

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
	rtnl_put_tbf(&b, l.index, s.rate, s.burst, s.peak, s.peak_burst, s.limit);
	if (made) {
		rtnl_put_clsact(&b, port_index);
		rtnl_put_redirect(&b, port_index, l.index);
	}
	r = nl_send(&n->nl, &b, NULL, e);
	return r < 0 ? err_wrap(e, r, "limit of traffic from the nic") : made;
}

int bridge_rates_put(struct dp_net *n, const struct dp_port_cfg *cfg, const struct rtnl_link *l,
		     bool fresh, struct err **e)
{
	_cleanup_(nl_batch_done) struct nl_batch b = { 0 };
	struct rtnl_link lim;
	int r = 0, mended = 0;

	if (cfg->to_nic.average) {
		struct shape s = shape_of(&cfg->to_nic, cfg->mtu);

		rtnl_put_tbf(&b, l->index, s.rate, s.burst, s.peak, s.peak_burst, s.limit);
		r = nl_send(&n->nl, &b, NULL, e);
		mended += !fresh && !streq(l->qdisc, "tbf");
	} else if (!fresh && streq(l->qdisc, "tbf")) {
		rtnl_put_qdisc_root_del(&b, l->index);
		r = nl_send(&n->nl, &b, NULL, e);
		mended++;
	}
	if (r < 0)
		return err_wrap(e, r, "limit of traffic to the nic");
	if (cfg->from_nic.average) {
		r = put_limiter(n, cfg, l->index, e);
		mended += MAX(r, 0);
	} else if (!fresh && rtnl_link_get(&n->nl, cfg->limiter, 0, &lim, NULL) == 0) {
		rtnl_put_clsact_del(&b, l->index);
		rtnl_put_link_del(&b, cfg->limiter);
		r = nl_send(&n->nl, &b, NULL, e);
		mended++;
	}
	return r < 0 ? r : mended;
}
