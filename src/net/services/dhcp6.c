/* DHCPv6 messages and router advertisements, see dhcp6.h. */
#include <errno.h>
#include <string.h>
#include "net/services/dhcp6.h"

enum {
	OPT_CLIENTID = 1,
	OPT_SERVERID,
	OPT_IA_NA,
	OPT_IAADDR = 5,
	OPT_STATUS = 13,
	OPT_RAPID = 14,
	OPT_DNS = 23,
	OPT_DOMAINS = 24
};

static uint32_t be16(const uint8_t *p)
{
	return (uint32_t)p[0] << 8 | p[1];
}

static uint32_t be32(const uint8_t *p)
{
	return be16(p) << 16 | be16(p + 2);
}

/* The addresses inside an IA_NA. */
static int parse_ia(const uint8_t *p, size_t len, struct dhcp6_msg *m)
{
	size_t at = 12;

	if (len < 12)
		return -EBADMSG;
	if (m->n_ia < DHCP6_IAS_MAX)
		m->ia[m->n_ia++] = be32(p);
	while (len - at >= 4) {
		size_t n = be16(p + at + 2);

		if (n > len - at - 4)
			return -EBADMSG;
		if (be16(p + at) == OPT_IAADDR) {
			if (n < 24)
				return -EBADMSG;
			if (m->n_addrs < DHCP6_IAS_MAX)
				m->addrs[m->n_addrs++] = ipaddr_of(AF_INET6, p + at + 4);
		}
		at += 4 + n;
	}
	return at == len ? 0 : -EBADMSG;
}

int dhcp6_parse(const uint8_t *p, size_t len, struct dhcp6_msg *ret)
{
	struct dhcp6_msg m = { 0 };
	size_t at = 4;

	if (len < 4 || p[0] < DHCP6_SOLICIT || p[0] > DHCP6_INFORMATION)
		return -EBADMSG;
	m.type = p[0];
	memcpy(m.xid, p + 1, 3);
	while (len - at >= 4) {
		uint32_t code = be16(p + at), n = be16(p + at + 2);
		const uint8_t *v = p + at + 4;

		if (n > len - at - 4)
			return -EBADMSG;
		if ((code == OPT_CLIENTID || code == OPT_SERVERID) && (n < 3 || n > DHCP6_DUID_MAX))
			return -EBADMSG;
		if (code == OPT_CLIENTID) {
			memcpy(m.client, v, n);
			m.client_len = n;
		} else if (code == OPT_SERVERID) {
			memcpy(m.server, v, n);
			m.server_len = n;
		} else if (code == OPT_RAPID) {
			m.rapid_commit = true;
		} else if (code == OPT_IA_NA && parse_ia(v, n, &m) < 0) {
			return -EBADMSG;
		}
		at += 4 + n;
	}
	if (at != len)
		return -EBADMSG;
	*ret = m;
	return 0;
}

struct out {
	uint8_t *b;
	size_t len, cap;
};

static void put(struct out *o, const void *p, size_t n)
{
	if (n <= o->cap - o->len) {
		memcpy(o->b + o->len, p, n);
		o->len += n;
	}
}

static void put16(struct out *o, uint32_t v)
{
	uint8_t b[2] = { (uint8_t)(v >> 8), (uint8_t)v };

	put(o, b, 2);
}

static void put32(struct out *o, uint32_t v)
{
	put16(o, v >> 16);
	put16(o, v & 0xffff);
}

/* A name as DNS writes it; returns its length. */
static size_t wire_name(const char *s, uint8_t b[256])
{
	size_t n = 0;

	while (*s) {
		size_t label = strcspn(s, ".");

		if (label == 0 || label > 63 || n + label + 2 > 256)
			return 0;
		b[n++] = (uint8_t)label;
		memcpy(b + n, s, label);
		n += label;
		s += label + (s[label] == '.');
	}
	b[n++] = 0;
	return n;
}

static void put_status(struct out *o, int code, const char *text)
{
	put16(o, OPT_STATUS);
	put16(o, (uint32_t)(2 + strlen(text)));
	put16(o, (uint32_t)code);
	put(o, text, strlen(text));
}

static void put_ia(struct out *o, uint32_t iaid, const struct dhcp6_reply *r)
{
	static const char none[] = "no address for you";
	size_t body = r->n_addrs ? 28U * r->n_addrs : 4 + 2 + sizeof(none) - 1;

	put16(o, OPT_IA_NA);
	put16(o, (uint32_t)(12 + body));
	put32(o, iaid);
	put32(o, r->lifetime / 2);
	put32(o, r->lifetime / 5 * 4);
	if (!r->n_addrs) {
		put_status(o, 2, none); /* NoAddrsAvail */
		return;
	}
	for (unsigned int i = 0; i < r->n_addrs; i++) {
		put16(o, OPT_IAADDR);
		put16(o, 24);
		put(o, r->addrs[i].b, 16);
		put32(o, r->lifetime);
		put32(o, r->lifetime);
	}
}

size_t dhcp6_write(uint8_t *b, size_t len, const struct dhcp6_msg *q, const struct dhcp6_reply *r)
{
	struct out o = { .b = b, .cap = len };
	uint8_t name[256], type = (uint8_t)r->type;
	size_t n = wire_name(r->domain, name);

	put(&o, &type, 1);
	put(&o, q->xid, 3);
	if (q->client_len) {
		put16(&o, OPT_CLIENTID);
		put16(&o, (uint32_t)q->client_len);
		put(&o, q->client, q->client_len);
	}
	put16(&o, OPT_SERVERID);
	put16(&o, (uint32_t)r->server_len);
	put(&o, r->server, r->server_len);
	if (r->type == DHCP6_REPLY && q->type == DHCP6_SOLICIT) {
		put16(&o, OPT_RAPID);
		put16(&o, 0);
	}
	if (r->status >= 0)
		put_status(&o, r->status, r->status ? "not on this link" : "done");
	if (q->type != DHCP6_CONFIRM && q->type != DHCP6_RELEASE && q->type != DHCP6_DECLINE)
		for (unsigned int i = 0; i < q->n_ia; i++)
			put_ia(&o, q->ia[i], r);
	if (r->n_dns) {
		put16(&o, OPT_DNS);
		put16(&o, 16 * r->n_dns);
		for (unsigned int i = 0; i < r->n_dns; i++)
			put(&o, r->dns[i].b, 16);
	}
	if (n > 1) {
		put16(&o, OPT_DOMAINS);
		put16(&o, (uint32_t)n);
		put(&o, name, n);
	}
	return o.len;
}

size_t ra_write(uint8_t *b, size_t len, const struct ra *r)
{
	uint8_t head[16] = { 134, 0, 0, 0, 64, (uint8_t)(r->managed ? 0xc0 : 0) },
		name[256 + 8] = { 0 };
	struct out o = { .b = b, .cap = len };
	struct ipaddr net = ipprefix_net(&r->prefix);
	size_t n = wire_name(r->domain, name);

	if (r->router) { /* seconds to be used as a default router */
		head[6] = 1800 >> 8;
		head[7] = 1800 & 0xff;
	}
	put(&o, head, 16);
	put(&o, (uint8_t[]){ 1, 1 }, 2); /* source link-layer address */
	put(&o, r->mac, 6);
	put(&o, (uint8_t[]){ 5, 1, 0, 0 }, 4);
	put32(&o, r->mtu);
	put(&o, (uint8_t[]){ 3, 4, r->prefix.len, (uint8_t)(0x80 | (r->autonomous ? 0x40 : 0)) },
	    4);
	put32(&o, 86400);
	put32(&o, 14400);
	put32(&o, 0);
	put(&o, net.b, 16);
	if (r->n_dns) {
		put(&o, (uint8_t[]){ 25, (uint8_t)(1 + 2 * r->n_dns), 0, 0 }, 4);
		put32(&o, 3600);
		for (unsigned int i = 0; i < r->n_dns; i++)
			put(&o, r->dns[i].b, 16);
	}
	if (n > 1) {
		size_t padded = ALIGN_UP(n, (size_t)8);

		put(&o, (uint8_t[]){ 31, (uint8_t)(1 + padded / 8), 0, 0 }, 4);
		put32(&o, 3600);
		put(&o, name, padded);
	}
	return o.len;
}

int rs_parse(const uint8_t *p, size_t len)
{
	size_t at = 8;

	if (len < 8 || p[0] != 133 || p[1] != 0)
		return -EBADMSG;
	while (at < len) { /* RFC 4861, 6.1.1: every option has a length above zero */
		if (len - at < 2 || p[at + 1] == 0 || (size_t)p[at + 1] * 8 > len - at)
			return -EBADMSG;
		at += (size_t)p[at + 1] * 8;
	}
	return 0;
}
