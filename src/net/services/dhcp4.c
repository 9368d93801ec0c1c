/* DHCPv4 messages, see dhcp4.h. */
#include <errno.h>
#include <string.h>
#include "net/services/dhcp4.h"

static const uint8_t cookie[4] = { 99, 130, 83, 99 };

int dhcp4_parse(const uint8_t *p, size_t len, struct dhcp4_msg *ret)
{
	struct dhcp4_msg m = { 0 };
	size_t i = 240;

	if (len < 241 || p[0] != 1 || p[1] != 1 || p[2] != 6 || memcmp(p + 236, cookie, 4) != 0)
		return -EBADMSG;
	memcpy(m.xid, p + 4, 4);
	m.flags = (uint16_t)(p[10] << 8 | p[11]);
	memcpy(m.ciaddr, p + 12, 4);
	memcpy(m.giaddr, p + 24, 4);
	memcpy(m.chaddr, p + 28, 6);
	while (i < len && p[i] != 255) {
		uint8_t code = p[i++], n;

		if (code == 0)
			continue;
		if (i >= len)
			return -EBADMSG;
		n = p[i++];
		if (n > len - i)
			return -EBADMSG;
		if (code == 53 && n == 1)
			m.type = p[i];
		if (code == 50 && n == 4) {
			m.has_requested = true;
			memcpy(m.requested, p + i, 4);
		}
		if (code == 54 && n == 4) {
			m.has_server = true;
			memcpy(m.server, p + i, 4);
		}
		i += n;
	}
	if (m.type < DHCP4_DISCOVER || m.type > DHCP4_INFORM)
		return -EBADMSG;
	*ret = m;
	return 0;
}

void dhcp4_start(struct dhcp4_out *o, const struct dhcp4_msg *q, enum dhcp4_type type,
		 const uint8_t yiaddr[4], const uint8_t server[4])
{
	uint8_t t = (uint8_t)type;

	memset(o, 0, sizeof(*o));
	o->b[0] = 2;
	o->b[1] = 1;
	o->b[2] = 6;
	memcpy(o->b + 4, q->xid, 4);
	o->b[10] = (uint8_t)(q->flags >> 8);
	o->b[11] = (uint8_t)q->flags;
	if (type == DHCP4_ACK)
		memcpy(o->b + 12, q->ciaddr, 4);
	if (type != DHCP4_NAK && yiaddr)
		memcpy(o->b + 16, yiaddr, 4);
	memcpy(o->b + 24, q->giaddr, 4);
	memcpy(o->b + 28, q->chaddr, 6);
	memcpy(o->b + 236, cookie, 4);
	o->len = 240;
	dhcp4_option(o, 53, &t, 1);
	dhcp4_option(o, 54, server, 4);
}

void dhcp4_option(struct dhcp4_out *o, uint8_t code, const void *data, size_t len)
{
	if (len > 255 || o->len + len + 3 > sizeof(o->b))
		return;
	o->b[o->len++] = code;
	o->b[o->len++] = (uint8_t)len;
	memcpy(o->b + o->len, data, len);
	o->len += len;
}

void dhcp4_option32(struct dhcp4_out *o, uint8_t code, uint32_t v)
{
	uint8_t b[4] = { (uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v };

	dhcp4_option(o, code, b, 4);
}

void dhcp4_end(struct dhcp4_out *o)
{
	o->b[o->len++] = 255;
	if (o->len < 300)
		o->len = 300; /* the size of BOOTP, which some clients insist on */
}
