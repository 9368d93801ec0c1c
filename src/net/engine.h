/* The engine's objects, shared by the files of this folder and the address services; private to the room.
 * Thread: the loop's. */
#ifndef NET_ENGINE_H
#define NET_ENGINE_H

#include "base/hmap.h"
#include "base/list.h"
#include "net/datapath_ops.h"
#include "net/security/rules.h"
#include "net/services/lease.h"

struct svc; /* the services of a port group, services/svc.h */

struct net {
	struct net_cfg cfg;
	const struct datapath_ops *ops;
	struct dp *dp;
	struct work_pool *pool; /* for files; NULL without a loop */
	struct hmap networks, portgroups, groups, nics, forwards, macs, names;
	bool applied;	   /* net_apply() has run: what is not known now is a leftover */
	bool bulk;	   /* net_apply() is gathering: rules and ports are written at its end */
	bool host_dirty;   /* the host's table needs to be written */
	uint32_t host_gen; /* its generation when we last wrote it; 0: not written */
	int host_ns;	   /* where upstream DNS is reached */
};

struct network {
	struct hnode node;
	struct net *net;
	struct net_network spec;
	struct dp_net *dp; /* NULL: not there (yet) */
	char ns[32], transit[16];
	struct ipaddr host4, router4, host6, router6;
	unsigned int transit_index;
	struct list portgroups;
	bool dirty;   /* its tables need to be written whole */
	bool track;   /* some NIC has needed connection state */
	bool settled; /* ports that an earlier process made are known by now */
	uint32_t gen;
	VEC(struct group *) groups; /* written to the tables */
	VEC(uint64_t) policies;	    /* written to the tables, by hash; the place gives the number */
};

struct portgroup {
	struct hnode node;
	struct list in_network;
	struct network *network;
	struct net_portgroup spec;
	char bridge[16];
	uint8_t mac[6]; /* of the gateway */
	struct list nics;
	struct leases leases;
	struct svc *svc; /* NULL: none run */
	bool up;
};

struct group {
	struct hnode node;
	struct net_group spec;
	char name[20]; /* short, for chains and sets */
	unsigned int users;
};

struct nic {
	struct hnode node, by_mac, by_name;
	struct list in_portgroup;
	struct portgroup *pg;
	struct net_nic spec;
	uint8_t mac[6];
	struct ipaddr addrs[NET_ADDRS_MAX];
	unsigned int n_addrs;
	char port[16], limiter[16];
	char policy[20]; /* empty: none */
	struct group *groups[NET_GROUPS_MAX];
	bool admitted, up;
};

struct forward {
	struct hnode node;
	struct net_forward spec;
	struct nic *nic;
	uint16_t at; /* port on the link between host and router */
};

#define NET_FIND(type, map, idstr)                               \
	({                                                       \
		type *_found = NULL;                             \
		hmap_for_each(_n, map, hash_str(idstr)) {        \
			type *_o = container_of(_n, type, node); \
			if (strcmp(_o->spec.id, idstr) == 0)     \
				_found = _o;                     \
		}                                                \
		_found;                                          \
	})

/* Loops over all objects of a map; the object may be removed inside. */
#define NET_EACH(type, o, map)                                                                    \
	for (struct hnode *_i_##o = hmap_walk(map, NULL), *_next_##o; _i_##o; _i_##o = _next_##o) \
		for (type *o = (_next_##o = hmap_walk(map, _i_##o),                               \
			       container_of(_i_##o, type, node));                                 \
		     o; o = NULL)

/* MTU that instances of the group get. */
uint32_t portgroup_mtu(const struct portgroup *pg);
/* By what a service sees. */
struct nic *portgroup_nic_by_mac(struct portgroup *pg, const uint8_t mac[6]);
struct nic *portgroup_nic_by_addr(struct portgroup *pg, const struct ipaddr *a);
uint64_t nic_name_hash(const struct network *w,
		       const char *hostname); /* net.names; case does not matter */
const struct ipaddr *nic_addr(const struct nic *x,
			      int family); /* its first of the family, or NULL */

/* Rules, rulesync.c */
int rules_network(struct network *w, struct err **e); /* write all when dirty */
int rules_nic(struct nic *x, const struct nic *old,
	      struct err **e); /* old NULL: new; x NULL: gone */
int rules_group_changed(struct net *n, struct group *g, struct err **e);
int rules_forward(struct forward *f, bool remove, struct err **e);
int rules_host(struct net *n, struct err **e); /* write when dirty */
void nic_policy(struct nic *x);		       /* works out x->policy */

/* What was dropped, drops.c */
struct drop_field {
	const char *counter, *name; /* in the rules; for people */
	size_t offset;		    /* in struct net_drops */
};
extern const struct drop_field drop_fields[]; /* ends with counter NULL */
uint64_t nic_spoofed(const struct nic *x);
/* The counts of a network as text that makes them again: for before its elements, and with them. */
void drops_keep(struct network *w, struct buf *counters, struct buf *spoofed);
/* Forget ports that are no more. */
void drops_gc(struct network *w, bool (*known)(void *arg, const char *kind, const char *name),
	      void *arg);

/* Objects, net.c, portgroup.c, group.c, nic.c */
void net_name(const char *prefix, const char *id, char *to,
	      size_t len); /* of a thing on the host */
void portgroup_free(struct portgroup *pg);
void group_free(struct group *g);
void nic_free(struct nic *x); /* linked nowhere; NULL: no effect */
bool portgroup_tracks(
	const struct portgroup *pg); /* bridged traffic needs connection tracking by br_netfilter */

/* Who a NIC is, nic_addr.c; old: what it replaces, or NULL */
uint64_t nic_mac_hash(const struct network *w, const uint8_t mac[6]); /* net.macs */
int nic_choose_mac(struct nic *x, const struct nic *old, struct err **e);
int nic_choose_addrs(struct nic *x, struct err **e);

/* Ports, nic_port.c and the objects' own files */
void nic_port_drop(struct nic *x);
int nic_port_put(struct nic *x, bool fresh, struct err **e); /* fresh: there was none before */
int portgroup_put_dp(struct portgroup *pg, struct err **e);
int network_put_dp(struct network *w, struct err **e);

#endif
