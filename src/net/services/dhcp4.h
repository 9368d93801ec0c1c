/* DHCPv4 messages: a parser that trusts nothing and a writer.  Spec: RFC 2131, 2132, 3442.  Pure. */
#ifndef NET_SERVICES_DHCP4_H
#define NET_SERVICES_DHCP4_H

#include "base/types.h"

enum dhcp4_type {
	DHCP4_DISCOVER = 1,
	DHCP4_OFFER,
	DHCP4_REQUEST,
	DHCP4_DECLINE,
	DHCP4_ACK,
	DHCP4_NAK,
	DHCP4_RELEASE,
	DHCP4_INFORM
};

struct dhcp4_msg {
	uint8_t type; /* enum dhcp4_type */
	uint8_t xid[4], chaddr[6];
	uint16_t flags; /* 0x8000: answer by broadcast */
	uint8_t ciaddr[4], giaddr[4];
	bool has_requested, has_server;
	uint8_t requested[4], server[4];
};

/* 0; -EBADMSG: broken, or not from an Ethernet client. */
int dhcp4_parse(const uint8_t *p, size_t len, struct dhcp4_msg *ret);

#define DHCP4_MAX 576

struct dhcp4_out {
	uint8_t b[DHCP4_MAX];
	size_t len;
};
void dhcp4_start(struct dhcp4_out *o, const struct dhcp4_msg *q, enum dhcp4_type type,
		 const uint8_t yiaddr[4], const uint8_t server[4]);
/* An option that no longer fits is left out. */
void dhcp4_option(struct dhcp4_out *o, uint8_t code, const void *data, size_t len);
void dhcp4_option32(struct dhcp4_out *o, uint8_t code, uint32_t v);
void dhcp4_end(struct dhcp4_out *o);

#endif
