/* Ethernet, IPv4 and UDP headers of one datagram, read from and written to a frame.  Pure. */
#ifndef NET_PACKET_UDP4_H
#define NET_PACKET_UDP4_H

#include "base/types.h"

struct udp4 {
	uint8_t dst_mac[6], src_mac[6];
	uint8_t src[4], dst[4];
	uint16_t sport, dport;
	const uint8_t *data; /* into the frame */
	size_t len;
};

#define UDP4_HEADERS 42

/* 0, or -EBADMSG: not an unfragmented UDP datagram over IPv4.  Checksums are not looked at: between namespaces of
 * one host they are left to a network card that is not there. */
int udp4_read(const uint8_t *frame, size_t len, struct udp4 *ret);
/* Fills in headers before data that is in place at frame + UDP4_HEADERS; returns the frame's length. */
size_t udp4_write(uint8_t *frame, const struct udp4 *u);

#endif
