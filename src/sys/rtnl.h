/* Links, addresses, routes, neighbours, bridge tables and traffic control through rtnetlink.
 *
 * The put functions append one request to a batch, so that a port is one or two system calls; nl_send() says
 * which one was refused.  They return -ENOMEM only.  The get functions ask at once.
 * Spec: include/uapi/linux/{rtnetlink,if_link,pkt_sched,neighbour}.h. */
#ifndef SYS_RTNL_H
#define SYS_RTNL_H

#include <net/if.h>
#include "base/types.h"
#include "base/vec.h"
#include "sys/netlink.h"

#define RTNL_ALIAS_MAX 256

/* A link as the kernel has it. */
struct rtnl_link {
	int index, master, peer; /* master, peer (IFLA_LINK): 0 none */
	uint32_t flags;		 /* IFF_* */
	uint32_t mtu;
	uint8_t mac[6];
	char name[IFNAMSIZ];
	char kind[16];	     /* "veth", "bridge", "tun", "vlan", ""; */
	char slave_kind[16]; /* "bridge" for a bridge port */
	bool port_isolated, port_hairpin, port_learning;
	char qdisc[16]; /* at the root */
	uint16_t vlan;	/* kind vlan: its id */
	uint64_t rx_packets, tx_packets, rx_bytes, tx_bytes, rx_dropped, tx_dropped, rx_errors,
		tx_errors;
	char alias[RTNL_ALIAS_MAX];
};
typedef VEC(struct rtnl_link) rtnl_links;

/* name or index (the other NULL or 0).  -ENODEV: none such. */
int rtnl_link_get(struct nl *n, const char *name, int index, struct rtnl_link *ret, struct err **e);
/* Every link of the socket's namespace; master > 0: only its ports.  Adds to ret. */
int rtnl_link_list(struct nl *n, int master, rtnl_links *ret, struct err **e);

struct rtnl_peer { /* the far end of a veth pair */
	const char *name;
	int index;	    /* 0: the kernel's choice */
	int netns_fd;	    /* -1: the socket's namespace */
	const uint8_t *mac; /* NULL: random */
	uint32_t mtu;	    /* 0: default */
};
struct rtnl_veth {
	const char *name;
	int index, master;
	uint32_t mtu;
	/* Of both ends; 0: the kernel makes one a processor and uses one, for which it waits for all processors. */
	uint32_t queues;
	struct rtnl_peer peer;
};
int rtnl_put_veth(struct nl_batch *b, const struct rtnl_veth *v);
int rtnl_put_bridge(struct nl_batch *b, const char *name, const uint8_t *mac,
		    bool multicast_snooping);
/* kind: "ifb", "dummy", "bridge": a link without parameters.  index 0: the kernel's choice. */
int rtnl_put_link(struct nl_batch *b, const char *kind, const char *name, int index);
/* An 802.1Q subinterface of the link parent_index in parent_ns_fd (-1: the socket's namespace). */
int rtnl_put_vlan(struct nl_batch *b, const char *name, int parent_index, uint16_t id,
		  int netns_fd);
int rtnl_put_link_del(struct nl_batch *b, const char *name);
/* Every link of a group number (rtnl_change.group), all at once. */
int rtnl_put_group_del(struct nl_batch *b, uint32_t group);

struct rtnl_change { /* what to set on an existing link; the rest stays */
	const char *name;
	int index; /* used when name is NULL */
	bool set_up, up;
	bool set_master;
	int master;	    /* 0: none */
	uint32_t mtu;	    /* 0: keep */
	const uint8_t *mac; /* NULL: keep */
	const char *alias, *rename;
	bool set_port, isolated, learning, hairpin;
	bool set_bridge_nf, nf_call; /* bridges: hand frames to the inet hooks */
	uint32_t group;		     /* 0: keep */
	int8_t addr_gen;	     /* 0: keep; else 1 + IN6_ADDR_GEN_MODE_* */
};
int rtnl_put_change(struct nl_batch *b, const struct rtnl_change *c);

/* family: AF_INET or AF_INET6; addr of 4 or 16 bytes. */
int rtnl_put_addr(struct nl_batch *b, int index, int family, const void *addr, uint8_t plen,
		  bool link_scope);
int rtnl_put_addr_del(struct nl_batch *b, int index, int family, const void *addr, uint8_t plen);
struct rtnl_addr {
	int index;
	uint8_t family, plen, scope;
	uint8_t addr[16];
};
typedef VEC(struct rtnl_addr) rtnl_addrs;
int rtnl_addr_list(struct nl *n, int index, rtnl_addrs *ret, struct err **e); /* index 0: all */

/* dst NULL: default route.  gw NULL: on link.  index 0: by gw alone. */
int rtnl_put_route(struct nl_batch *b, int family, const void *dst, uint8_t plen, const void *gw,
		   int index, bool replace);
int rtnl_put_route_del(struct nl_batch *b, int family, const void *dst, uint8_t plen, int index);
/* fn for every unicast route of the main table: dst NULL for the default route. */
int rtnl_route_each(struct nl *n, int family,
		    int (*fn)(void *arg, const uint8_t *dst, uint8_t plen, int index), void *arg,
		    struct err **e);

/* Permanent neighbour: address to MAC. */
int rtnl_put_neigh(struct nl_batch *b, int index, int family, const void *addr, const uint8_t *mac);
int rtnl_put_neigh_del(struct nl_batch *b, int index, int family, const void *addr);
/* Entry of a bridge's forwarding table: this MAC is behind this port, until it is removed. */
int rtnl_put_fdb(struct nl_batch *b, int port_index, const uint8_t *mac);

/* Token bucket at the root of a link: rates in bytes per second, sizes in bytes. */
struct rtnl_tbf {
	uint64_t rate, peak;	    /* peak 0: none */
	uint32_t burst, peak_burst; /* peak_burst: bucket of the peak rate, at least one packet */
	uint32_t limit;		    /* bytes that may wait */
};
int rtnl_put_tbf(struct nl_batch *b, int index, const struct rtnl_tbf *t);
/* The one that is there; sizes as exactly as the kernel tells, which is within some bytes.  -ENOENT: none. */
int rtnl_tbf_get(struct nl *n, int index, struct rtnl_tbf *ret, struct err **e);
int rtnl_put_qdisc_root_del(struct nl_batch *b, int index);
int rtnl_put_clsact(struct nl_batch *b, int index);
int rtnl_put_clsact_del(struct nl_batch *b, int index);
/* Everything that arrives on index goes out of to_index instead (u32 and mirred: the pair most kernels have). */
int rtnl_put_redirect(struct nl_batch *b, int index, int to_index);

#endif
