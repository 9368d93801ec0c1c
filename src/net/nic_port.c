/* From a NIC to its port on the datapath.  See engine.h. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include "base/str.h"
#include "net/datapath/dummy.h"
#include "net/engine.h"
#include "net/spec.h"
#include "sys/netns.h"

static const struct net_rate *rate_of(const struct net_rate *own, const struct net_rate *group)
{
	return own->average ? own : group;
}

static void nic_port_cfg(struct nic *x, struct dp_port_cfg *c)
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
	nic_port_cfg(x, &c);
	c.fresh = fresh && w->settled;
	r = w->net->ops == &datapath_dummy ? 0 : peer_ns(x, &c.peer_ns, &owned, e);
	if (r == 0)
		r = w->net->ops->port_put(w->dp, &c, e);
	if (owned)
		safe_close(c.peer_ns);
	x->up = r >= 0;
	return r < 0 ? err_wrap(e, r, "nic '%s'", x->spec.id) : r;
}

void nic_port_drop(struct nic *x)
{
	struct dp_port_cfg c;

	nic_port_cfg(x, &c);
	if (x->pg->network->dp)
		x->pg->network->net->ops->port_remove(x->pg->network->dp, &c, NULL);
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
	nic_port_cfg(x, &c);
	r = n->ops->port_fds(x->pg->network->dp, &c, fds, e);
	if (r == 0)
		*n_fds = c.queues;
	return r < 0 ? err_wrap(e, r, "nic '%s'", id) : 0;
}
