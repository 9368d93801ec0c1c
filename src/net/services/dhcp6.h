/* DHCPv6 messages and router advertisements.  Spec: RFC 8415, 4861, 8106.  Pure. */
#ifndef NET_SERVICES_DHCP6_H
#define NET_SERVICES_DHCP6_H

#include "base/types.h"
#include "net/addr.h"

enum dhcp6_type {
	DHCP6_SOLICIT = 1,
	DHCP6_ADVERTISE,
	DHCP6_REQUEST,
	DHCP6_CONFIRM,
	DHCP6_RENEW,
	DHCP6_REBIND,
	DHCP6_REPLY,
	DHCP6_RELEASE,
	DHCP6_DECLINE,
	DHCP6_RECONFIGURE,
	DHCP6_INFORMATION
};

#define DHCP6_DUID_MAX 130
#define DHCP6_IAS_MAX  4

struct dhcp6_msg {
	uint8_t type, xid[3];
	uint8_t client[DHCP6_DUID_MAX], server[DHCP6_DUID_MAX];
	size_t client_len, server_len; /* 0: no such option */
	bool rapid_commit;
	unsigned int n_ia;
	uint32_t ia[DHCP6_IAS_MAX]; /* IAIDs of IA_NA */
	unsigned int n_addrs;
	struct ipaddr addrs[DHCP6_IAS_MAX]; /* that it has or wants */
};

int dhcp6_parse(const uint8_t *p, size_t len, struct dhcp6_msg *ret); /* 0, -EBADMSG */

struct dhcp6_reply {
	enum dhcp6_type type;
	const uint8_t *server;
	size_t server_len;
	const struct ipaddr *addrs; /* for every IA; none: the status says so */
	unsigned int n_addrs;
	int status; /* of the message; -1: none */
	uint32_t lifetime;
	const struct ipaddr *dns;
	unsigned int n_dns;
	const char *domain;
};
/* Bytes written to b (len at least 1024); what does not fit is left out. */
size_t dhcp6_write(uint8_t *b, size_t len, const struct dhcp6_msg *q, const struct dhcp6_reply *r);

struct ra {
	bool managed, autonomous,
		router; /* DHCPv6 has addresses; hosts may form their own; there is a way out */
	uint8_t mac[6];
	uint32_t mtu;
	struct ipprefix prefix;
	const struct ipaddr *dns;
	unsigned int n_dns;
	const char *domain;
};
size_t ra_write(uint8_t *b, size_t len,
		const struct ra *r); /* ICMPv6, checksum left to the kernel; len >= 512 */
/* A router solicitation?  0, or -EBADMSG. */
int rs_parse(const uint8_t *p, size_t len);

#endif
