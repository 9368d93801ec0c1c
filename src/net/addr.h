/* Addresses as values: IP, prefix, MAC; parsing, printing, arithmetic, and the MACs and addresses that are worked
 * out from an id, so that they are the same after every restart and on every host.  Pure; any thread. */
#ifndef NET_ADDR_H
#define NET_ADDR_H

#include <netinet/in.h>
#include "base/types.h"

struct ipaddr {
	uint8_t family; /* 0: none; AF_INET; AF_INET6 */
	uint8_t b[16];	/* network order; 4 or 16 bytes, the rest zero */
};

struct ipprefix {
	struct ipaddr a; /* as written: host bits may be set */
	uint8_t len;
};

#define IPADDR_TEXT 46
#define MAC_TEXT    18

static inline size_t ipaddr_len(const struct ipaddr *a)
{
	return a->family == AF_INET ? 4 : a->family == AF_INET6 ? 16 : 0;
}
static inline bool ipaddr_set(const struct ipaddr *a)
{
	return a->family != 0;
}

int ipaddr_parse(const char *s, struct ipaddr *ret);	/* -EINVAL */
char *ipaddr_format(const struct ipaddr *a, char *buf); /* buf: IPADDR_TEXT; returns buf */
bool ipaddr_same(const struct ipaddr *a, const struct ipaddr *b);
struct ipaddr ipaddr_of(int family, const void *bytes);
/* a + n, within its family; wraps at the end of the family's space. */
struct ipaddr ipaddr_add(const struct ipaddr *a, uint64_t n);
bool ipaddr_is_unicast(
	const struct ipaddr *a); /* not zero, loopback, multicast, broadcast or reserved */

int ipprefix_parse(const char *s, struct ipprefix *ret);    /* "10.0.0.1/24"; -EINVAL */
char *ipprefix_format(const struct ipprefix *p, char *buf); /* buf: IPADDR_TEXT + 4 */
struct ipaddr ipprefix_net(const struct ipprefix *p);	    /* host bits cleared */
struct ipaddr ipprefix_last(const struct ipprefix *p);	    /* host bits set */
bool ipprefix_contains(const struct ipprefix *p, const struct ipaddr *a);
bool ipprefix_overlap(const struct ipprefix *a, const struct ipprefix *b);
/* Addresses of hosts in it (without network and broadcast address for IPv4 up to /30), cut at UINT64_MAX. */
uint64_t ipprefix_hosts(const struct ipprefix *p);
struct ipaddr ipprefix_host(const struct ipprefix *p, uint64_t i); /* the i-th of them */

int mac_parse(const char *s, uint8_t mac[6]);	   /* -EINVAL; six hex pairs with colons */
char *mac_format(const uint8_t mac[6], char *buf); /* MAC_TEXT */
bool mac_is_unicast(const uint8_t mac[6]);	   /* not a group address, not zero */
bool mac_is_zero(const uint8_t mac[6]);

/* 64 bits that depend on the text alone (SipHash-2-4 would need a key to share; this is FNV-1a with a final
 * mix): same on every host and in every release.  Not for keys in hash tables that users fill. */
uint64_t stable_hash(const char *s, const char *salt);
/* 0a:xx:xx:xx:xx:xx for an id: locally administered, unicast; 40 bits of hash. */
void mac_of_id(const char *id, unsigned int attempt, uint8_t mac[6]);
/* The address with MAC's modified EUI-64 in its low half (RFC 4291, 2.5.1). */
struct ipaddr ip6_eui64(const struct ipaddr *net, const uint8_t mac[6]);
struct ipaddr ip6_link_local(const uint8_t mac[6]);
/* The MAC inside a modified EUI-64 address; false: it has none. */
bool ip6_mac(const struct ipaddr *a, uint8_t mac[6]);

#endif
