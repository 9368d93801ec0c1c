/* What a datapath does for the network engine (net.c): make namespaces, bridges and ports, and carry rules.
 *
 * Calls named put are idempotent: they make the thing or mend what differs, touch nothing that is right, and
 * return the number of repairs, 0 when all was well (so a reconcile run is a put of everything).  A put that
 * fails leaves the thing as it was or absent.  The engine has checked every value; names are unique and valid.
 * Thread: the engine's. */
#ifndef NET_DATAPATH_OPS_H
#define NET_DATAPATH_OPS_H

#include "net/net.h"
#include "sys/nft.h"

struct dp;     /* an open datapath */
struct dp_net; /* an open network */

struct dp_net_cfg {
	const char *id;	     /* marks ownership */
	const char *ns;	     /* name of the namespace */
	const char *transit; /* name of the host's end of the link to the router; NULL: isolated */
	struct ipaddr host4, router4, host6, router6; /* ends of that link, /31 and /127 */
	bool forward;				      /* the router forwards between its links */
};

struct dp_group_cfg {
	const char *id, *bridge;
	const char *uplink; /* NULL: none */
	uint16_t vlan;
	uint32_t mtu;
	uint8_t mac[6];		      /* of the gateway */
	struct ipprefix addr4, addr6; /* of the gateway with the subnet's length; family 0: none */
	bool metadata;		      /* carries 169.254.169.254 */
	int track; /* bridged IP traffic passes connection tracking, where rules cannot ask for it;
			       * -1: leave it as it is */
};

struct dp_port_cfg {
	const char *id, *port, *bridge;
	enum net_nic_kind kind;
	bool fresh; /* most likely not there yet */
	unsigned int queues;
	int tap_uid;
	int peer_ns; /* veth; an open fd */
	const char *ifname;
	bool configure; /* veth: give the other end its addresses and routes */
	bool default_route;
	uint8_t mac[6];
	uint32_t mtu;
	bool up, isolated, guarded;
	const struct ipaddr *addrs;
	unsigned int n_addrs;
	uint8_t plen4, plen6;
	struct ipaddr gw4, gw6;		  /* family 0: none */
	struct net_rate to_nic, from_nic; /* average 0: none */
	const char *limiter;		  /* name for the helper device of from_nic */
};

struct datapath_ops {
	const char *name;
	int (*open)(struct dp **ret, struct err **e);
	void (*close)(struct dp *d);
	/* Can rules of the bridge family ask for connection state?  Else the engine uses marks and cfg.track. */
	bool (*bridge_ct)(struct dp *d);

	int (*net_put)(struct dp *d, struct dp_net **n, const struct dp_net_cfg *cfg,
		       struct err **e);
	void (*net_close)(struct dp_net *n); /* forget, leave the host alone */
	int (*net_remove)(struct dp *d, struct dp_net *n, const struct dp_net_cfg *cfg,
			  struct err **e);
	int (*net_fd)(struct dp_net *n); /* its namespace, for sockets of the services; -1: none */

	int (*group_put)(struct dp_net *n, const struct dp_group_cfg *cfg, struct err **e);
	int (*group_remove)(struct dp_net *n, const char *bridge, struct err **e);
	int (*port_put)(struct dp_net *n, const struct dp_port_cfg *cfg, struct err **e);
	/* May finish in the background; a put of the same port or into the same place waits for it. */
	int (*port_remove)(struct dp_net *n, const struct dp_port_cfg *cfg, struct err **e);
	/* Fills in what the link knows: mtu, up and the counters. */
	int (*port_stats)(struct dp_net *n, const char *port, struct net_nic_status *ret,
			  struct err **e);
	int (*port_fds)(struct dp_net *n, const struct dp_port_cfg *cfg, int *fds, struct err **e);

	/* Rules; n NULL: the host's own. */
	int (*rules_run)(struct dp *d, struct dp_net *n, const char *text, struct err **e);
	int (*rules_elems)(struct dp *d, struct dp_net *n, struct nft_batch *b, struct err **e);
	/* A network's named counters; and those of the ports in a set, name NULL: all of them. */
	int (*rules_counters)(struct dp *d, struct dp_net *n, nft_count_fn *fn, void *arg,
			      struct err **e);
	int (*rules_counts)(struct dp *d, struct dp_net *n, const char *set, const char *name,
			    nft_count_fn *fn, void *arg, struct err **e);
	int (*rules_gen)(struct dp *d, struct dp_net *n, uint32_t *ret, struct err **e);

	/* Routes of routed networks on the host: dst through the transit link. */
	int (*route_put)(struct dp *d, const char *transit, const struct ipprefix *dst,
			 const struct ipaddr *via, struct err **e);
	int (*route_remove)(struct dp *d, const char *transit, const struct ipprefix *dst,
			    struct err **e);

	/* Things with our mark that `known` does not know: removed.  kind: "net", "group", "port", "limiter",
	 * "transit".  Returns how many. */
	int (*gc)(struct dp *d, bool (*known)(void *arg, const char *kind, const char *name),
		  void *arg, struct err **e);
	/* Subnets that the host itself is connected to or routes: for choosing free ones. */
	int (*host_routes)(struct dp *d, int (*fn)(void *arg, const struct ipprefix *p), void *arg,
			   struct err **e);
};

#endif
