/* Ethernet, IPv4 and UDP headers, see udp4.h. */
#include <errno.h>
#include <string.h>
#include "net/packet/udp4.h"

static uint16_t be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static void put16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

int udp4_read(const uint8_t *f, size_t len, struct udp4 *ret)
{
	const uint8_t *ip = f + 14, *udp;
	size_t ihl, total, ulen;

	if (len < UDP4_HEADERS || be16(f + 12) != 0x0800 || ip[0] >> 4 != 4)
		return -EBADMSG;
	ihl = (size_t)(ip[0] & 15) * 4;
	total = be16(ip + 2);
	if (ihl < 20 || total < ihl + 8 || total > len - 14 || ip[9] != 17 ||
	    (be16(ip + 6) & 0x3fff))
		return -EBADMSG;
	udp = ip + ihl;
	ulen = be16(udp + 4);
	if (ulen < 8 || ulen > total - ihl)
		return -EBADMSG;
	memcpy(ret->dst_mac, f, 6);
	memcpy(ret->src_mac, f + 6, 6);
	memcpy(ret->src, ip + 12, 4);
	memcpy(ret->dst, ip + 16, 4);
	ret->sport = be16(udp);
	ret->dport = be16(udp + 2);
	ret->data = udp + 8;
	ret->len = ulen - 8;
	return 0;
}

static uint32_t sum(const uint8_t *p, size_t len, uint32_t s)
{
	for (size_t i = 0; i + 1 < len; i += 2)
		s += be16(p + i);
	if (len & 1)
		s += (uint32_t)p[len - 1] << 8;
	return s;
}

static uint16_t fold(uint32_t s)
{
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return (uint16_t)~s;
}

size_t udp4_write(uint8_t *f, const struct udp4 *u)
{
	uint8_t *ip = f + 14, *udp = ip + 20;
	uint16_t ulen = (uint16_t)(u->len + 8), check;

	memcpy(f, u->dst_mac, 6);
	memcpy(f + 6, u->src_mac, 6);
	put16(f + 12, 0x0800);
	memset(ip, 0, 28);
	ip[0] = 0x45;
	put16(ip + 2, (uint16_t)(ulen + 20));
	ip[8] = 64;
	ip[9] = 17;
	memcpy(ip + 12, u->src, 4);
	memcpy(ip + 16, u->dst, 4);
	put16(ip + 10, fold(sum(ip, 20, 0)));
	put16(udp, u->sport);
	put16(udp + 2, u->dport);
	put16(udp + 4, ulen);
	check = fold(sum(udp, ulen, sum(ip + 12, 8, 17U + ulen)));
	put16(udp + 6, check ? check : 0xffff);
	return UDP4_HEADERS + u->len;
}
