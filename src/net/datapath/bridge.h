/* The bridge driver's own parts: a namespace per network, a kernel bridge per port group, veth and tap ports.
 * Between: the engine decides above (net.h); sys/rtnl.h, sys/nft.h and sys/tap.h act below.
 *
 * Invariants
 * (1) Everything we make carries an alias that starts with "strata "; what lacks it is never changed or removed.
 *     The alias of a namespace is that of its loopback link.
 * (2) A link is made and labelled in one send; a crash in between leaves a link without label, which the name
 *     (a hash of the id) still shows to be ours: such names are adopted.
 * (3) A port's rules are in place before its link is up; the engine sees to that order.
 * (4) Messages that follow the making of a link in the same send name it by the index that was asked for, never
 *     by its name: if the name is taken, they find nothing.
 *
 * Thread: the engine's; the reaper has one of its own. */
#ifndef NET_DATAPATH_BRIDGE_H
#define NET_DATAPATH_BRIDGE_H

#include "base/hmap.h"
#include "base/list.h"
#include "net/datapath/reaper.h"
#include "net/datapath_ops.h"
#include "sys/netns.h"
#include "sys/rtnl.h"

struct dp {
	struct nl nl;
	struct nft *nft;
	int ns; /* the host's namespace */
	struct list nets;
	int bridge_ct; /* -1: not tried yet */
	struct reaper *reaper;
	int next_index; /* for links that are made and used in one send */
};

struct dp_net {
	struct list node;
	struct dp *d;
	char name[32];
	int fd;
	struct nl nl;
	struct nft *nft;
	struct hmap bridges; /* struct bridge */
};

struct bridge { /* what is known of a port group's without asking */
	struct hnode node;
	char name[16];
	int index;
};

/* Is a link under one of our names ours?  kind: "port", "group", ... */
bool bridge_ours(const struct rtnl_link *l, const char *kind, const char *id);
/* An index that no link has, if the kernel agrees. */
int bridge_new_index(struct dp *d);

/* Write to /proc/sys/net as the namespace of fd sees it; a kernel without a part has nothing to switch off. */
int bridge_sysctl(int fd, const char *const (*kv)[2], size_t n, struct err **e);

int bridge_net_put(struct dp *d, struct dp_net **ret, const struct dp_net_cfg *cfg, struct err **e);
void bridge_net_close(struct dp_net *n);
int bridge_net_remove(struct dp *d, struct dp_net *n, const struct dp_net_cfg *cfg, struct err **e);
int bridge_net_fd(struct dp_net *n);

/* The link to the host; returns repairs. */
int bridge_transit_put(struct dp *d, struct dp_net *n, const struct dp_net_cfg *cfg,
		       struct err **e);
bool bridge_has_addr(const rtnl_addrs *a, int family, const uint8_t *addr, uint8_t plen);

int bridge_group_put(struct dp_net *n, const struct dp_group_cfg *cfg, struct err **e);
int bridge_group_remove(struct dp_net *n, const char *bridge, struct err **e);
int bridge_index(struct dp_net *n, const char *bridge);	  /* 0: not made by us since we started */
void bridge_forget(struct dp_net *n, const char *bridge); /* NULL: all */

int bridge_port_put(struct dp_net *n, const struct dp_port_cfg *cfg, struct err **e);
int bridge_port_remove(struct dp_net *n, const struct dp_port_cfg *cfg, struct err **e);
int bridge_port_stats(struct dp_net *n, const char *port, struct net_nic_status *ret,
		      struct err **e);
int bridge_port_fds(struct dp_net *n, const struct dp_port_cfg *cfg, int *fds, struct err **e);

int bridge_gc(struct dp *d, bool (*known)(void *arg, const char *kind, const char *name), void *arg,
	      struct err **e);

/* Rates of a port that is being made, into the batch that makes it. */
void bridge_rates_new(struct dp *d, struct nl_batch *b, const struct dp_port_cfg *cfg,
		      int port_index);
/* The same for one that is there; l: as it is now.  Returns repairs. */
int bridge_rates_put(struct dp_net *n, const struct dp_port_cfg *cfg, const struct rtnl_link *l,
		     bool fresh, struct err **e);

#endif
