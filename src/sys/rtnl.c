/* Links and addresses through rtnetlink, see rtnl.h; traffic control is in rtnl_tc.c. */
#include <errno.h>
#include <linux/if_addr.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <string.h>
#include <sys/socket.h>
#include "sys/rtnl.h"

static struct nlmsghdr *link_msg(struct nl_batch *b, uint16_t type, unsigned int flags, int index)
{
	struct nlmsghdr *h = nl_msg(b, type, flags);
	struct ifinfomsg *m;

	if (!h)
		return NULL;
	m = mnl_nlmsg_put_extra_header(h, sizeof(*m));
	m->ifi_family = AF_UNSPEC;
	m->ifi_index = index;
	return h;
}

static void parse_port(const struct nlattr *data, struct rtnl_link *l)
{
	const struct nlattr *a;

	mnl_attr_for_each_nested(a, data)
	{
		switch (mnl_attr_get_type(a)) {
		case IFLA_BRPORT_ISOLATED:
			l->port_isolated = mnl_attr_get_u8(a);
			break;
		case IFLA_BRPORT_LEARNING:
			l->port_learning = mnl_attr_get_u8(a);
			break;
		case IFLA_BRPORT_MODE:
			l->port_hairpin = mnl_attr_get_u8(a);
			break;
		}
	}
}

static void copy_text(char *to, size_t len, const struct nlattr *a)
{
	size_t n = MIN((size_t)mnl_attr_get_payload_len(a), len - 1);

	memcpy(to, mnl_attr_get_payload(a), n);
	to[n] = '\0';
}

static void parse_info(const struct nlattr *info, struct rtnl_link *l)
{
	const struct nlattr *a, *data = NULL, *slave = NULL, *v;

	mnl_attr_for_each_nested(a, info)
	{
		switch (mnl_attr_get_type(a)) {
		case IFLA_INFO_KIND:
			copy_text(l->kind, sizeof(l->kind), a);
			break;
		case IFLA_INFO_SLAVE_KIND:
			copy_text(l->slave_kind, sizeof(l->slave_kind), a);
			break;
		case IFLA_INFO_DATA:
			data = a;
			break;
		case IFLA_INFO_SLAVE_DATA:
			slave = a;
			break;
		}
	}
	if (slave && strcmp(l->slave_kind, "bridge") == 0)
		parse_port(slave, l);
	if (data && strcmp(l->kind, "vlan") == 0)
		mnl_attr_for_each_nested(v, data) if (mnl_attr_get_type(v) == IFLA_VLAN_ID)
			l->vlan = mnl_attr_get_u16(v);
}

static int parse_link(const struct nlmsghdr *h, struct rtnl_link *l)
{
	const struct ifinfomsg *m = mnl_nlmsg_get_payload(h);
	const struct nlattr *a;
	struct rtnl_link_stats64 st;

	*l = (struct rtnl_link){ .index = m->ifi_index, .flags = m->ifi_flags };
	mnl_attr_for_each(a, h, sizeof(*m))
	{
		switch (mnl_attr_get_type(a)) {
		case IFLA_IFNAME:
			copy_text(l->name, sizeof(l->name), a);
			break;
		case IFLA_IFALIAS:
			copy_text(l->alias, sizeof(l->alias), a);
			break;
		case IFLA_QDISC:
			copy_text(l->qdisc, sizeof(l->qdisc), a);
			break;
		case IFLA_MASTER:
			l->master = (int)mnl_attr_get_u32(a);
			break;
		case IFLA_LINK:
			l->peer = (int)mnl_attr_get_u32(a);
			break;
		case IFLA_MTU:
			l->mtu = mnl_attr_get_u32(a);
			break;
		case IFLA_ADDRESS:
			if (mnl_attr_get_payload_len(a) == 6)
				memcpy(l->mac, mnl_attr_get_payload(a), 6);
			break;
		case IFLA_LINKINFO:
			parse_info(a, l);
			break;
		case IFLA_STATS64:
			memset(&st, 0, sizeof(st));
			memcpy(&st, mnl_attr_get_payload(a),
			       MIN((size_t)mnl_attr_get_payload_len(a), sizeof(st)));
			l->rx_packets = st.rx_packets;
			l->tx_packets = st.tx_packets;
			l->rx_bytes = st.rx_bytes;
			l->tx_bytes = st.tx_bytes;
			l->rx_dropped = st.rx_dropped;
			l->tx_dropped = st.tx_dropped;
			l->rx_errors = st.rx_errors;
			l->tx_errors = st.tx_errors;
			break;
		}
	}
	return 0;
}

static int got_link(const struct nlmsghdr *h, void *arg)
{
	return h->nlmsg_type == RTM_NEWLINK ? parse_link(h, arg) : 0;
}

int rtnl_link_get(struct nl *n, const char *name, int index, struct rtnl_link *ret, struct err **e)
{
	_cleanup_(nl_batch_done) struct nl_batch b = { 0 };
	struct nlmsghdr *h = link_msg(&b, RTM_GETLINK, 0, index);

	if (!h)
		return err_sys(e, ENOMEM, "look up link");
	if (name)
		mnl_attr_put_strz(h, IFLA_IFNAME, name);
	return nl_query(n, &b, got_link, ret, e);
}

struct link_dump {
	rtnl_links *ret;
	int master;
};

static int add_link(const struct nlmsghdr *h, void *arg)
{
	struct link_dump *d = arg;
	struct rtnl_link l;

	if (h->nlmsg_type != RTM_NEWLINK)
		return 0;
	parse_link(h, &l);
	if (d->master && l.master != d->master)
		return 0;
	return vec_push(d->ret, l);
}

int rtnl_link_list(struct nl *n, int master, rtnl_links *ret, struct err **e)
{
	_cleanup_(nl_batch_done) struct nl_batch b = { 0 };
	struct nlmsghdr *h = link_msg(&b, RTM_GETLINK, NLM_F_DUMP, 0);
	struct link_dump d = { .ret = ret, .master = master };

	if (!h)
		return err_sys(e, ENOMEM, "list links");
	if (master)
		mnl_attr_put_u32(h, IFLA_MASTER, (uint32_t)master);
	return nl_query(n, &b, add_link, &d, e);
}

#define LINK_CREATE (NLM_F_CREATE | NLM_F_EXCL)

static void put_queues(struct nlmsghdr *h, uint32_t queues)
{
	if (!queues)
		return;
	mnl_attr_put_u32(h, IFLA_NUM_TX_QUEUES, queues);
	mnl_attr_put_u32(h, IFLA_NUM_RX_QUEUES, queues);
}

int rtnl_put_veth(struct nl_batch *b, const struct rtnl_veth *v)
{
	struct nlmsghdr *h = link_msg(b, RTM_NEWLINK, LINK_CREATE, v->index);
	struct nlattr *info, *data, *p;
	struct ifinfomsg *m;

	if (!h)
		return -ENOMEM;
	mnl_attr_put_strz(h, IFLA_IFNAME, v->name);
	if (v->mtu)
		mnl_attr_put_u32(h, IFLA_MTU, v->mtu);
	if (v->master)
		mnl_attr_put_u32(h, IFLA_MASTER, (uint32_t)v->master);
	put_queues(h, v->queues);
	info = mnl_attr_nest_start(h, IFLA_LINKINFO);
	mnl_attr_put_strz(h, IFLA_INFO_KIND, "veth");
	data = mnl_attr_nest_start(h, IFLA_INFO_DATA);
	p = mnl_attr_nest_start(h, VETH_INFO_PEER);
	m = mnl_nlmsg_put_extra_header(h, sizeof(*m));
	m->ifi_family = AF_UNSPEC;
	m->ifi_index = v->peer.index;
	mnl_attr_put_strz(h, IFLA_IFNAME, v->peer.name);
	if (v->peer.mac)
		mnl_attr_put(h, IFLA_ADDRESS, 6, v->peer.mac);
	if (v->peer.mtu)
		mnl_attr_put_u32(h, IFLA_MTU, v->peer.mtu);
	put_queues(h, v->queues);
	if (v->peer.netns_fd >= 0)
		mnl_attr_put_u32(h, IFLA_NET_NS_FD, (uint32_t)v->peer.netns_fd);
	mnl_attr_nest_end(h, p);
	mnl_attr_nest_end(h, data);
	mnl_attr_nest_end(h, info);
	return 0;
}

int rtnl_put_bridge(struct nl_batch *b, const char *name, const uint8_t *mac,
		    bool multicast_snooping)
{
	struct nlmsghdr *h = link_msg(b, RTM_NEWLINK, LINK_CREATE, 0);
	struct nlattr *info, *data;

	if (!h)
		return -ENOMEM;
	mnl_attr_put_strz(h, IFLA_IFNAME, name);
	if (mac)
		mnl_attr_put(h, IFLA_ADDRESS, 6, mac);
	info = mnl_attr_nest_start(h, IFLA_LINKINFO);
	mnl_attr_put_strz(h, IFLA_INFO_KIND, "bridge");
	data = mnl_attr_nest_start(h, IFLA_INFO_DATA);
	mnl_attr_put_u32(h, IFLA_BR_FORWARD_DELAY, 0); /* no spanning tree: ports forward at once */
	mnl_attr_put_u32(h, IFLA_BR_STP_STATE, 0);
	mnl_attr_put_u8(h, IFLA_BR_MCAST_SNOOPING, multicast_snooping);
	mnl_attr_nest_end(h, data);
	mnl_attr_nest_end(h, info);
	return 0;
}

int rtnl_put_link(struct nl_batch *b, const char *kind, const char *name, int index)
{
	struct nlmsghdr *h = link_msg(b, RTM_NEWLINK, LINK_CREATE, index);
	struct nlattr *info;

	if (!h)
		return -ENOMEM;
	mnl_attr_put_strz(h, IFLA_IFNAME, name);
	info = mnl_attr_nest_start(h, IFLA_LINKINFO);
	mnl_attr_put_strz(h, IFLA_INFO_KIND, kind);
	mnl_attr_nest_end(h, info);
	return 0;
}

int rtnl_put_vlan(struct nl_batch *b, const char *name, int parent_index, uint16_t id, int netns_fd)
{
	struct nlmsghdr *h = link_msg(b, RTM_NEWLINK, LINK_CREATE, 0);
	struct nlattr *info, *data;

	if (!h)
		return -ENOMEM;
	mnl_attr_put_strz(h, IFLA_IFNAME, name);
	mnl_attr_put_u32(h, IFLA_LINK, (uint32_t)parent_index);
	if (netns_fd >= 0)
		mnl_attr_put_u32(h, IFLA_NET_NS_FD, (uint32_t)netns_fd);
	info = mnl_attr_nest_start(h, IFLA_LINKINFO);
	mnl_attr_put_strz(h, IFLA_INFO_KIND, "vlan");
	data = mnl_attr_nest_start(h, IFLA_INFO_DATA);
	mnl_attr_put_u16(h, IFLA_VLAN_ID, id);
	mnl_attr_nest_end(h, data);
	mnl_attr_nest_end(h, info);
	return 0;
}

int rtnl_put_link_del(struct nl_batch *b, const char *name)
{
	struct nlmsghdr *h = link_msg(b, RTM_DELLINK, 0, 0);

	if (!h)
		return -ENOMEM;
	mnl_attr_put_strz(h, IFLA_IFNAME, name);
	return 0;
}

int rtnl_put_group_del(struct nl_batch *b, uint32_t group)
{
	struct nlmsghdr *h = link_msg(b, RTM_DELLINK, 0, 0);

	if (!h)
		return -ENOMEM;
	mnl_attr_put_u32(h, IFLA_GROUP, group);
	return 0;
}

int rtnl_put_change(struct nl_batch *b, const struct rtnl_change *c)
{
	struct nlmsghdr *h = link_msg(b, RTM_NEWLINK, 0, c->name ? 0 : c->index);
	struct ifinfomsg *m;
	struct nlattr *info, *data;

	if (!h)
		return -ENOMEM;
	m = mnl_nlmsg_get_payload(h);
	if (c->set_up) {
		m->ifi_change = IFF_UP;
		m->ifi_flags = c->up ? IFF_UP : 0;
	}
	if (c->rename || c->name)
		mnl_attr_put_strz(h, IFLA_IFNAME, c->rename ? c->rename : c->name);
	if (c->set_master)
		mnl_attr_put_u32(h, IFLA_MASTER, (uint32_t)c->master);
	if (c->mtu)
		mnl_attr_put_u32(h, IFLA_MTU, c->mtu);
	if (c->mac)
		mnl_attr_put(h, IFLA_ADDRESS, 6, c->mac);
	if (c->group)
		mnl_attr_put_u32(h, IFLA_GROUP, c->group);
	if (c->alias)
		mnl_attr_put(h, IFLA_IFALIAS, MIN(strlen(c->alias), (size_t)RTNL_ALIAS_MAX - 1),
			     c->alias);
	if (c->addr_gen) {
		struct nlattr *af = mnl_attr_nest_start(h, IFLA_AF_SPEC);
		struct nlattr *v6 = mnl_attr_nest_start(h, AF_INET6);

		mnl_attr_put_u8(h, IFLA_INET6_ADDR_GEN_MODE, (uint8_t)(c->addr_gen - 1));
		mnl_attr_nest_end(h, v6);
		mnl_attr_nest_end(h, af);
	}
	if (c->set_port) {
		info = mnl_attr_nest_start(h, IFLA_LINKINFO);
		mnl_attr_put_strz(h, IFLA_INFO_SLAVE_KIND, "bridge");
		data = mnl_attr_nest_start(h, IFLA_INFO_SLAVE_DATA);
		mnl_attr_put_u8(h, IFLA_BRPORT_ISOLATED, c->isolated);
		mnl_attr_put_u8(h, IFLA_BRPORT_LEARNING, c->learning);
		mnl_attr_put_u8(h, IFLA_BRPORT_MODE, c->hairpin);
		mnl_attr_nest_end(h, data);
		mnl_attr_nest_end(h, info);
	}
	if (c->set_bridge_nf) {
		info = mnl_attr_nest_start(h, IFLA_LINKINFO);
		mnl_attr_put_strz(h, IFLA_INFO_KIND, "bridge");
		data = mnl_attr_nest_start(h, IFLA_INFO_DATA);
		mnl_attr_put_u8(h, IFLA_BR_NF_CALL_IPTABLES, c->nf_call);
		mnl_attr_put_u8(h, IFLA_BR_NF_CALL_IP6TABLES, c->nf_call);
		mnl_attr_put_u8(h, IFLA_BR_NF_CALL_ARPTABLES, 0);
		mnl_attr_nest_end(h, data);
		mnl_attr_nest_end(h, info);
	}
	return 0;
}

static size_t addr_len(int family)
{
	return family == AF_INET ? 4 : 16;
}

static int put_addr(struct nl_batch *b, uint16_t type, unsigned int flags, int index, int family,
		    const void *addr, uint8_t plen, bool link_scope)
{
	struct nlmsghdr *h = nl_msg(b, type, flags);
	struct ifaddrmsg *m;

	if (!h)
		return -ENOMEM;
	m = mnl_nlmsg_put_extra_header(h, sizeof(*m));
	m->ifa_family = (uint8_t)family;
	m->ifa_prefixlen = plen;
	m->ifa_index = (uint32_t)index;
	m->ifa_scope = link_scope ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
	if (family == AF_INET6)
		m->ifa_flags = IFA_F_NODAD; /* the inventory owns the addresses: none is in doubt */
	mnl_attr_put(h, IFA_LOCAL, addr_len(family), addr);
	mnl_attr_put(h, IFA_ADDRESS, addr_len(family), addr);
	return 0;
}

int rtnl_put_addr(struct nl_batch *b, int index, int family, const void *addr, uint8_t plen,
		  bool link_scope)
{
	return put_addr(b, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, index, family, addr, plen,
			link_scope);
}

int rtnl_put_addr_del(struct nl_batch *b, int index, int family, const void *addr, uint8_t plen)
{
	return put_addr(b, RTM_DELADDR, 0, index, family, addr, plen, false);
}

struct addr_dump {
	rtnl_addrs *ret;
	int index;
};

static int add_addr(const struct nlmsghdr *h, void *arg)
{
	const struct ifaddrmsg *m = mnl_nlmsg_get_payload(h);
	struct addr_dump *d = arg;
	struct rtnl_addr a = { .index = (int)m->ifa_index,
			       .family = m->ifa_family,
			       .plen = m->ifa_prefixlen,
			       .scope = m->ifa_scope };
	const struct nlattr *t;
	bool local = false;

	if (h->nlmsg_type != RTM_NEWADDR || (d->index && d->index != a.index))
		return 0;
	mnl_attr_for_each(t, h, sizeof(*m))
	{
		uint16_t type = mnl_attr_get_type(t);

		if ((type == IFA_LOCAL || (type == IFA_ADDRESS && !local)) &&
		    mnl_attr_get_payload_len(t) <= sizeof(a.addr)) {
			local |= type == IFA_LOCAL;
			memcpy(a.addr, mnl_attr_get_payload(t), mnl_attr_get_payload_len(t));
		}
	}
	return vec_push(d->ret, a);
}

int rtnl_addr_list(struct nl *n, int index, rtnl_addrs *ret, struct err **e)
{
	_cleanup_(nl_batch_done) struct nl_batch b = { 0 };
	struct nlmsghdr *h = nl_msg(&b, RTM_GETADDR, NLM_F_DUMP);
	struct addr_dump d = { .ret = ret, .index = index };

	if (!h)
		return err_sys(e, ENOMEM, "list addresses");
	mnl_nlmsg_put_extra_header(h, sizeof(struct ifaddrmsg));
	return nl_query(n, &b, add_addr, &d, e);
}

static int put_route(struct nl_batch *b, uint16_t type, unsigned int flags, int family,
		     const void *dst, uint8_t plen, const void *gw, int index)
{
	struct nlmsghdr *h = nl_msg(b, type, flags);
	struct rtmsg *m;

	if (!h)
		return -ENOMEM;
	m = mnl_nlmsg_put_extra_header(h, sizeof(*m));
	m->rtm_family = (uint8_t)family;
	m->rtm_dst_len = dst ? plen : 0;
	m->rtm_table = RT_TABLE_MAIN;
	m->rtm_protocol = RTPROT_STATIC;
	m->rtm_scope = gw || family == AF_INET6 ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK;
	if (type == RTM_DELROUTE)
		m->rtm_scope = RT_SCOPE_NOWHERE;
	m->rtm_type = RTN_UNICAST;
	if (dst && plen)
		mnl_attr_put(h, RTA_DST, addr_len(family), dst);
	if (gw)
		mnl_attr_put(h, RTA_GATEWAY, addr_len(family), gw);
	if (index)
		mnl_attr_put_u32(h, RTA_OIF, (uint32_t)index);
	return 0;
}

int rtnl_put_route(struct nl_batch *b, int family, const void *dst, uint8_t plen, const void *gw,
		   int index, bool replace)
{
	return put_route(b, RTM_NEWROUTE, NLM_F_CREATE | (replace ? NLM_F_REPLACE : NLM_F_EXCL),
			 family, dst, plen, gw, index);
}

int rtnl_put_route_del(struct nl_batch *b, int family, const void *dst, uint8_t plen, int index)
{
	return put_route(b, RTM_DELROUTE, 0, family, dst, plen, NULL, index);
}

struct route_dump {
	int (*fn)(void *arg, const uint8_t *dst, uint8_t plen, int index);
	void *arg;
};

static int got_route(const struct nlmsghdr *h, void *arg)
{
	const struct rtmsg *m = mnl_nlmsg_get_payload(h);
	struct route_dump *d = arg;
	const struct nlattr *a;
	const uint8_t *dst = NULL;
	int index = 0;

	if (h->nlmsg_type != RTM_NEWROUTE || m->rtm_type != RTN_UNICAST ||
	    m->rtm_table != RT_TABLE_MAIN)
		return 0;
	mnl_attr_for_each(a, h, sizeof(*m))
	{
		if (mnl_attr_get_type(a) == RTA_DST)
			dst = mnl_attr_get_payload(a);
		else if (mnl_attr_get_type(a) == RTA_OIF)
			index = (int)mnl_attr_get_u32(a);
	}
	return d->fn(d->arg, dst, m->rtm_dst_len, index);
}

int rtnl_route_each(struct nl *n, int family,
		    int (*fn)(void *arg, const uint8_t *dst, uint8_t plen, int index), void *arg,
		    struct err **e)
{
	_cleanup_(nl_batch_done) struct nl_batch b = { 0 };
	struct nlmsghdr *h = nl_msg(&b, RTM_GETROUTE, NLM_F_DUMP);
	struct route_dump d = { .fn = fn, .arg = arg };
	struct rtmsg *m;

	if (!h)
		return err_sys(e, ENOMEM, "list routes");
	m = mnl_nlmsg_put_extra_header(h, sizeof(*m));
	m->rtm_family = (uint8_t)family;
	return nl_query(n, &b, got_route, &d, e);
}

static struct ndmsg *neigh_msg(struct nl_batch *b, uint16_t type, unsigned int flags,
			       struct nlmsghdr **h)
{
	*h = nl_msg(b, type, flags);
	return *h ? mnl_nlmsg_put_extra_header(*h, sizeof(struct ndmsg)) : NULL;
}

int rtnl_put_neigh(struct nl_batch *b, int index, int family, const void *addr, const uint8_t *mac)
{
	struct nlmsghdr *h;
	struct ndmsg *m = neigh_msg(b, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, &h);

	if (!m)
		return -ENOMEM;
	m->ndm_family = (uint8_t)family;
	m->ndm_ifindex = index;
	m->ndm_state = NUD_PERMANENT;
	mnl_attr_put(h, NDA_DST, addr_len(family), addr);
	mnl_attr_put(h, NDA_LLADDR, 6, mac);
	return 0;
}

int rtnl_put_neigh_del(struct nl_batch *b, int index, int family, const void *addr)
{
	struct nlmsghdr *h;
	struct ndmsg *m = neigh_msg(b, RTM_DELNEIGH, 0, &h);

	if (!m)
		return -ENOMEM;
	m->ndm_family = (uint8_t)family;
	m->ndm_ifindex = index;
	mnl_attr_put(h, NDA_DST, addr_len(family), addr);
	return 0;
}

int rtnl_put_fdb(struct nl_batch *b, int port_index, const uint8_t *mac)
{
	struct nlmsghdr *h;
	struct ndmsg *m = neigh_msg(b, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, &h);

	if (!m)
		return -ENOMEM;
	m->ndm_family = AF_BRIDGE;
	m->ndm_ifindex = port_index;
	/* By an authority of its own: not aged, and not copied to the filters of every other port as a static one is. */
	m->ndm_flags = NTF_MASTER | NTF_EXT_LEARNED;
	m->ndm_state = NUD_REACHABLE;
	mnl_attr_put(h, NDA_LLADDR, 6, mac);
	return 0;
}
