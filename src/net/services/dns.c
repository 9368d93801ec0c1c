/* DNS messages, see dns.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/str.h"
#include "net/services/dns.h"

static uint16_t be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static void put16(uint8_t *p, unsigned int v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

int dns_parse(const uint8_t *p, size_t len, struct dns_query *ret)
{
	struct dns_query q = { 0 };
	size_t at = 12, n = 0;

	if (len < 17 || len > DNS_MAX || (p[2] & 0x80) || be16(p + 4) != 1)
		return -EBADMSG;
	q.id = be16(p);
	q.flags = be16(p + 2);
	for (;;) {
		uint8_t label;

		if (at >= len)
			return -EBADMSG;
		label = p[at++];
		if (label == 0)
			break;
		/* A question has nothing before it that a pointer could point to. */
		if (label > 63 || label > len - at || n + label + 2 > sizeof(q.name))
			return -EBADMSG;
		if (n)
			q.name[n++] = '.';
		for (uint8_t i = 0; i < label; i++) {
			uint8_t c = p[at++];

			if (c >= 'A' && c <= 'Z')
				c |= 0x20;
			if (c < 0x21 || c > 0x7e || c == '.')
				return -EBADMSG; /* would read as another name */
			q.name[n++] = (char)c;
		}
	}
	if (len - at < 4)
		return -EBADMSG;
	q.type = be16(p + at);
	q.class = be16(p + at + 2);
	q.question_end = at + 4;
	*ret = q;
	return 0;
}

void dns_start(struct dns_out *o, const uint8_t *p, const struct dns_query *q, unsigned int rcode,
	       bool authoritative)
{
	memcpy(o->b, p, q->question_end);
	o->len = q->question_end;
	o->answers = 0;
	put16(o->b + 2, 0x8080U | (q->flags & 0x7900U) | (authoritative ? 0x0400U : 0) | rcode);
	memset(o->b + 6, 0, 6);
}

static uint8_t *add_record(struct dns_out *o, uint16_t type, uint32_t ttl, size_t len)
{
	uint8_t *r = o->b + o->len;

	if (o->len + 12 + len > sizeof(o->b))
		return NULL;
	put16(r, 0xc00c); /* the name of the question */
	put16(r + 2, type);
	put16(r + 4, 1);
	put16(r + 6, ttl >> 16);
	put16(r + 8, ttl & 0xffff);
	put16(r + 10, (unsigned int)len);
	o->len += 12 + len;
	put16(o->b + 6, ++o->answers);
	return r + 12;
}

void dns_add_addr(struct dns_out *o, const struct ipaddr *a, uint32_t ttl)
{
	uint8_t *r = add_record(o, a->family == AF_INET ? DNS_A : DNS_AAAA, ttl, ipaddr_len(a));

	if (r)
		memcpy(r, a->b, ipaddr_len(a));
}

void dns_add_ptr(struct dns_out *o, const char *name, uint32_t ttl)
{
	uint8_t wire[DNS_NAME_MAX + 2], *r;
	size_t n = 0;

	while (*name) {
		size_t label = strcspn(name, ".");

		if (label == 0 || label > 63 || n + label + 2 > sizeof(wire))
			return;
		wire[n++] = (uint8_t)label;
		memcpy(wire + n, name, label);
		n += label;
		name += label + (name[label] == '.');
	}
	wire[n++] = 0;
	r = add_record(o, DNS_PTR, ttl, n);
	if (r)
		memcpy(r, wire, n);
}

bool dns_reverse(const char *name, struct ipaddr *ret)
{
	struct ipaddr a = { 0 };

	if (str_ends(name, ".in-addr.arpa")) {
		const char *p = name;

		a.family = AF_INET;
		for (int i = 3; i >= 0; i--) {
			unsigned int v = 0, digits = 0;

			for (; *p >= '0' && *p <= '9' && digits < 3; p++, digits++)
				v = v * 10 + (unsigned int)(*p - '0');
			if (!digits || v > 255 || *p++ != '.')
				return false;
			a.b[i] = (uint8_t)v;
		}
		if (strcmp(p, "in-addr.arpa") != 0)
			return false;
	} else if (strlen(name) == 72 && str_ends(name, ".ip6.arpa")) {
		a.family = AF_INET6;
		for (int i = 0; i < 32; i++) {
			char c = name[i * 2];
			unsigned int v = c >= '0' && c <= '9'	? (unsigned int)(c - '0')
					 : c >= 'a' && c <= 'f' ? (unsigned int)(c - 'a' + 10)
								: 99;

			if (v > 15 || name[i * 2 + 1] != '.')
				return false;
			a.b[15 - i / 2] |= (uint8_t)(v << (i & 1 ? 4 : 0));
		}
	} else {
		return false;
	}
	*ret = a;
	return true;
}
