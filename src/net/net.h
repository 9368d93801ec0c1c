/* Network on one host: port groups, NICs, addresses, firewall and rates, for VMs and containers alike.
 *
 * The caller describes what is wanted (struct net_spec, or one NIC at a time); the library makes the host so, and
 * keeps it so: whatever is missing or broken is mended, what is right is not touched, what is not ours is left
 * alone.  Nothing of the packet path lives in this process: traffic flows while it restarts.
 *
 * A network is a network namespace of its own ("strata-<hash>"): its bridges (one a port group), its router, its
 * firewall and its connection tracking.  So networks of different projects may use the same addresses, and
 * a network that is removed leaves nothing.  docs/internals/net.md has the whole picture.
 *
 * Errors: the first fault, as a chain; the object it belongs to is left as it was or absent, never half-made.
 *
 * Thread: the loop's, for every call: one at a time, from where net_new() was called.  They are synchronous and meant for
 * the loop: putting or removing one object takes about a millisecond or less, however many there are; net_apply(),
 * net_reconcile(), net_show() and a change of a whole port group take as long as there are objects of theirs (a
 * thousand NICs: a second or two to make, some tenths to look over).  What waits for the kernel or a disk, links on
 * their way out and lease files, has threads of its own; net_free() waits for those. */
#ifndef NET_NET_H
#define NET_NET_H

#include "base/err.h"
#include "base/loop.h"
#include "base/types.h"
#include "base/vec.h"
#include "net/addr.h"

#define NET_ID_MAX     64 /* with the NUL; ids, names, owners */
#define NET_ADDRS_MAX  8  /* addresses of a NIC, each family counted together */
#define NET_GROUPS_MAX 16 /* security groups of a NIC */
#define NET_RULES_MAX  1024
#define NET_DNS_MAX    4

/* ---- what is wanted ---- */

enum net_mode {
	NET_NAT, /* out through the host's address */
	NET_ROUTED, /* the host routes to the subnets, no translation; subnets unique among routed networks */
	NET_ISOLATED, /* no way out */
};

struct net_network {
	char id[NET_ID_MAX], name[NET_ID_MAX], project[NET_ID_MAX];
	enum net_mode mode;
	char domain[128];   /* DNS suffix of its instances; empty: "internal" */
	bool route_between; /* port groups reach each other through the network's router */
	bool host_access;   /* instances may open connections to the host's own addresses */
};

enum net_policy { NET_AUTO, NET_ACCEPT, NET_DROP };

struct net_rate {
	uint64_t average; /* bit/s of IP traffic in full-size packets; 0: no limit */
	uint64_t peak;	  /* bit/s; 0: no limit beyond the burst; never below average */
	uint64_t burst;	  /* bytes that may pass above the average; 0: worked out */
};

struct net_portgroup {
	char id[NET_ID_MAX], name[NET_ID_MAX], network[NET_ID_MAX];
	char uplink[16];		  /* a link of the host; empty: none */
	uint16_t vlan;			  /* 802.1Q tag on the uplink, 1 to 4094; 0: untagged */
	uint32_t mtu;			  /* 0: 1500, or the uplink's */
	struct ipprefix subnet4, subnet6; /* family 0: none */
	struct ipaddr gateway4, gateway6; /* ours, on the bridge; none: the first of the subnet */
	struct ipaddr range_first,
		range_last; /* IPv4 leases for MACs that no NIC has; none: only NICs get one */
	bool no_services;   /* no DHCP, RA, DNS, metadata: another router serves this segment */
	bool slaac;	    /* RA lets hosts form addresses by themselves (EUI-64) */
	bool isolate;	    /* ports of the group reach the router only, not each other */
	bool no_guard;	    /* do not check source MAC and addresses */
	struct net_rate to_nic, from_nic; /* for NICs that name none */
	enum net_policy in, out;	  /* for NICs that say NET_AUTO */
	struct ipaddr dns[NET_DNS_MAX];	  /* announced instead of ours */
	unsigned int n_dns;
};

enum net_dir { NET_IN, NET_OUT }; /* as the instance sees it */

struct net_rule {
	enum net_dir dir;
	bool drop;	/* else accept; drops win */
	uint8_t family; /* AF_INET, AF_INET6; 0: both */
	int16_t proto;	/* IP protocol; -1: any; IPPROTO_ICMP means ICMPv6 too when family is 0 */
	uint16_t port_min, port_max; /* TCP, UDP, SCTP; 0, 0: any */
	int16_t icmp_type;	     /* -1: any */
	struct ipprefix peer;	     /* family 0: anyone */
	char peer_group[NET_ID_MAX]; /* members of this group on the same network */
};

struct net_group { /* security group */
	char id[NET_ID_MAX], name[NET_ID_MAX], project[NET_ID_MAX];
	struct net_rule *rules; /* owned by the spec that holds the group */
	size_t n_rules;
};

enum net_nic_kind { NET_VETH, NET_TAP };

struct net_nic {
	char id[NET_ID_MAX], owner[NET_ID_MAX], portgroup[NET_ID_MAX];
	char hostname[64]; /* its name in DNS; empty: none */
	enum net_nic_kind kind;
	uint8_t mac[6]; /* zero: worked out from the id */
	struct ipaddr
		addrs[NET_ADDRS_MAX]; /* static; none of a family: one is taken from the subnet */
	unsigned int n_addrs;
	/* veth: where the other end goes.  fd is borrowed for the call; -1 and no path: the host's own namespace */
	int netns_fd;
	char netns[128];       /* path or name under /run/netns, for those without an fd */
	char ifname[16];       /* its name there; empty: "eth0" */
	bool dhcp;	       /* leave addresses and routes to a client inside */
	bool no_default_route; /* one of several NICs */
	unsigned int queues;   /* tap: 1 to 64; 0: 1 */
	int tap_uid;	       /* who may open the tap; -1: root */
	struct net_rate to_nic, from_nic;
	char groups[NET_GROUPS_MAX][NET_ID_MAX];
	unsigned int n_groups;
	enum net_policy in,
		out; /* NET_AUTO: in drops what no rule accepts once there is a group; out drops only
				  * once a group has a rule for out */
	bool down;   /* link down */
	bool no_guard;
	char *user_data, *ssh_keys,
		*instance_id; /* for the metadata service; NULL: none; owned by the spec */
};

struct net_forward { /* a port of the host leads to a NIC */
	char id[NET_ID_MAX], nic[NET_ID_MAX];
	uint8_t proto;		 /* IPPROTO_TCP, IPPROTO_UDP */
	struct ipaddr host_addr; /* none: any address of the host */
	uint16_t host_port, port;
};

struct net_spec {
	VEC(struct net_network) networks;
	VEC(struct net_portgroup) portgroups;
	VEC(struct net_group) groups;
	VEC(struct net_nic) nics;
	VEC(struct net_forward) forwards;
};
void net_spec_done(struct net_spec *s);

/* From JSON text, the form of docs/internals/net.md.  -EINVAL names the field. */
int net_spec_parse(const char *text, size_t len, struct net_spec *ret, struct err **e);
/* Is it free of contradictions?  Overlaps, duplicates, ranges, dangling references: the first one found. */
int net_spec_check(const struct net_spec *s, struct err **e);
/* The network that every installation has: "default", NAT, subnets that overlap none of the host's routes. */
int net_spec_default(struct net_spec *ret, struct err **e);
void net_nic_init(struct net_nic *n); /* the defaults of a NIC */
/* An IPv4 subnet of 256 addresses that overlaps neither the host's routes nor one of taken[n]. */
int net_free_subnet(const struct ipprefix *taken, size_t n, struct ipprefix *ret, struct err **e);

/* ---- the engine ---- */

struct net;
struct datapath_ops;
extern const struct datapath_ops datapath_bridge, datapath_dummy;

struct net_cfg {
	struct loop *loop;		     /* for the address services; NULL: none are run */
	const char *state_dir;		     /* leases; NULL: kept in memory only */
	const char *resolv_conf;	     /* upstream DNS servers; NULL: /etc/resolv.conf */
	const struct datapath_ops *datapath; /* NULL: bridge */
	bool look_only; /* for `show`: net_apply() gathers objects and changes nothing on the host */
	struct ipprefix transit4,
		transit6; /* links between host and networks; none: 100.127.0.0/16 and a ULA */
};

/* Opens the host's side in the calling thread's network namespace: that is "the host" from now on. */
int net_new(const struct net_cfg *cfg, struct net **ret, struct err **e);
/* Lets go; the host stays as it is. */
void net_free(struct net *n);
DEFINE_CLEANUP(struct net *, net_free);

/* Make the host as s says, by the difference to what was applied before; objects not in s are removed, and
 * with the first call also what an earlier process left behind.  A spec that net_spec_check() refuses changes
 * nothing.  Otherwise every object is tried; the first fault is returned and *n_failed says how many there were
 * (may be NULL).  net copies what it keeps. */
int net_apply(struct net *n, const struct net_spec *s, unsigned int *n_failed, struct err **e);

/* One at a time: the same checks, and a cost that does not depend on how many there are.  A put of an id that
 * exists changes what differs, in place. */
int net_network_put(struct net *n, const struct net_network *s, struct err **e);
int net_network_remove(struct net *n, const char *id, struct err **e); /* -EBUSY: has port groups */
int net_portgroup_put(struct net *n, const struct net_portgroup *s, struct err **e);
int net_portgroup_remove(struct net *n, const char *id, struct err **e); /* -EBUSY: has NICs */
int net_group_put(struct net *n, const struct net_group *s, struct err **e);
int net_group_remove(struct net *n, const char *id, struct err **e); /* -EBUSY: in use */
int net_nic_put(struct net *n, const struct net_nic *s, struct err **e);
/* No frame of it passes any more; its link goes within a moment, and a put into the same place waits for that.
 * -ENOENT: no such NIC. */
int net_nic_remove(struct net *n, const char *id, struct err **e);
int net_forward_put(struct net *n, const struct net_forward *s, struct err **e);
int net_forward_remove(struct net *n, const char *id, struct err **e);

/* Compare the host with what was applied and mend; *mended (may be NULL) counts the things that were wrong. */
int net_reconcile(struct net *n, unsigned int *mended, struct err **e);
/* Remove what carries our mark and belongs to no object; *removed may be NULL. */
int net_gc(struct net *n, unsigned int *removed, struct err **e);
/* Remove everything of ours, objects included. */
int net_clear(struct net *n, struct err **e);

/* ---- what is ---- */

struct net_nic_status {
	char portgroup[NET_ID_MAX], network[NET_ID_MAX], owner[NET_ID_MAX];
	char port[16];	/* the host's side */
	char netns[32]; /* namespace of the host's side */
	uint8_t mac[6];
	struct ipaddr addrs[NET_ADDRS_MAX];
	unsigned int n_addrs;
	uint32_t mtu;
	bool up;
	/* As the instance sees it. */
	uint64_t rx_packets, rx_bytes, rx_dropped, tx_packets, tx_bytes, tx_dropped;
	uint64_t spoofed; /* frames that the guard dropped */
};
int net_nic_status(struct net *n, const char *id, struct net_nic_status *ret, struct err **e);
int net_nic_each(struct net *n, int (*fn)(void *arg, const char *id),
		 void *arg); /* ids in no order */

/* The queues of a tap for the VMM that will use it: cfg queues descriptors, the caller's. */
int net_nic_tap_fds(struct net *n, const char *id, int *fds, unsigned int *n_fds, struct err **e);

/* Frames that were dropped on a network, by reason, since it was made; a restart of the daemon does not count anew. */
struct net_drops {
	uint64_t mac, ip, arp, nd, dhcp, ra, other, group_in, group_out;
};
int net_network_drops(struct net *n, const char *id, struct net_drops *ret, struct err **e);

/* Everything as JSON, for people and tests. */
int net_show(struct net *n, struct buf *out, struct err **e);

#endif
