/* From NICs, groups and modes to nftables.  Writes text (whole tables, chains of groups) and elements (a port's
 * addresses and verdicts); does not act.  docs/internals/net.md shows the tables.
 *
 * Every decision that depends on a port is a lookup keyed by its name, so that a packet costs the same with one
 * port and with thousands, and a port is added by elements alone. */
#ifndef NET_SECURITY_RULES_H
#define NET_SECURITY_RULES_H

#include "net/net.h"
#include "sys/nft.h"

/* Where elements go: into a batch, or as commands into a text.  Zero-initialise and set one. */
struct sec_out {
	struct buf *text;
	struct nft_batch *batch;
	bool remove;
	int error; /* sticky */
};

/* A port as the rules see it. */
struct sec_port {
	const char *name;
	bool guarded;
	uint8_t mac[6];
	const struct ipaddr *addrs;
	unsigned int n_addrs;
	const uint8_t *
		router; /* MAC of the one that answers DHCP and router solicitations; NULL: any may */
	uint32_t policy;	    /* number of its policy; 0: no groups and nothing to drop */
	const char *const *members; /* names of the groups whose member sets hold its addresses */
	unsigned int n_members;
};
void sec_port(struct sec_out *o, const struct sec_port *p);
/* Counts as they were: a named counter, a port's entry among those that sent frames they must not. */
void sec_counter(struct buf *b, const char *name, uint64_t packets, uint64_t bytes);
void sec_spoofed(struct buf *b, const char *port, uint64_t packets, uint64_t bytes);
/* Removes such an entry; refused by the kernel when there is none. */
void sec_spoofed_gone(struct sec_out *o, const char *port);

/* Numbers of policies travel as packet marks; 1 means that the connection is established. */
#define SEC_POLICY_FIRST 2

struct sec_network {
	bool track;	/* some port has groups: connection state is needed */
	bool bridge_ct; /* the bridge family knows it itself */
	enum net_mode mode;
	bool route_between;
	const char *const *bridges;
	size_t n_bridges;
	const char *counters; /* text of sec_counter() for those that do not start at 0 */
};
/* Both tables of a network's namespace, empty of ports, replacing what was there. */
void sec_network(struct buf *b, const struct sec_network *n);

/* A group's chains and member sets, replacing the rules.  name: short and unique; peer_name maps a peer group's id
 * to its short name. */
void sec_group(struct buf *b, const char *name, const struct net_group *g,
	       const char *(*peer_name)(void *arg, const char *id), void *arg);
bool sec_group_has(const struct net_group *g, enum net_dir dir, bool drop);

struct sec_policy {
	const char *name;	   /* chains "pi_<name>", "po_<name>" */
	uint32_t number;	   /* SEC_POLICY_FIRST and up, unique on the network */
	const char *const *groups; /* short names */
	const struct net_group *const *specs;
	unsigned int n;
	enum net_policy in, out;
};
void sec_policy(struct buf *b, const struct sec_policy *p);

/* A forward inside the namespace: proto and port arrive on the link to the host, and go to addr and port. */
void sec_forward(struct sec_out *o, uint8_t proto, uint16_t at, const struct ipaddr *to,
		 uint16_t port);

/* The host's table. */
void sec_host(struct buf *b, const struct ipprefix *transit4, const struct ipprefix *transit6);
void sec_host_network(struct sec_out *o, const char *transit, bool routed, bool host_access);
void sec_host_forward(struct sec_out *o, const struct ipaddr *host, uint8_t proto,
		      uint16_t host_port, const struct ipaddr *router, uint16_t at);

#endif
