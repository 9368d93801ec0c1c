/* Addresses as values, see addr.h. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "base/str.h"
#include "net/addr.h"

int ipaddr_parse(const char *s, struct ipaddr *ret)
{
	struct ipaddr a = { .family = strchr(s, ':') ? AF_INET6 : AF_INET };

	if (inet_pton(a.family, s, a.b) != 1)
		return -EINVAL;
	*ret = a;
	return 0;
}

char *ipaddr_format(const struct ipaddr *a, char *buf)
{
	if (!a->family || !inet_ntop(a->family, a->b, buf, IPADDR_TEXT))
		strcpy(buf, "-");
	return buf;
}

bool ipaddr_same(const struct ipaddr *a, const struct ipaddr *b)
{
	return a->family == b->family && memcmp(a->b, b->b, ipaddr_len(a)) == 0;
}

struct ipaddr ipaddr_of(int family, const void *bytes)
{
	struct ipaddr a = { .family = (uint8_t)family };

	memcpy(a.b, bytes, ipaddr_len(&a));
	return a;
}

struct ipaddr ipaddr_add(const struct ipaddr *a, uint64_t n)
{
	struct ipaddr r = *a;

	for (size_t i = ipaddr_len(a); i-- > 0 && n;) {
		uint64_t sum = r.b[i] + (n & 0xff);

		r.b[i] = (uint8_t)sum;
		n = (n >> 8) + (sum >> 8);
	}
	return r;
}

bool ipaddr_is_unicast(const struct ipaddr *a)
{
	static const uint8_t zero[16], loop6[16] = { [15] = 1 };

	if (a->family == AF_INET)
		return a->b[0] != 0 && a->b[0] != 127 && a->b[0] < 224;
	if (a->family == AF_INET6)
		return a->b[0] != 0xff && memcmp(a->b, zero, 16) != 0 &&
		       memcmp(a->b, loop6, 16) != 0;
	return false;
}

int ipprefix_parse(const char *s, struct ipprefix *ret)
{
	const char *slash = strchr(s, '/');
	struct ipprefix p = { 0 };
	char text[IPADDR_TEXT];
	uint64_t len;

	if (!slash || (size_t)(slash - s) >= sizeof(text))
		return -EINVAL;
	memcpy(text, s, (size_t)(slash - s));
	text[slash - s] = '\0';
	if (ipaddr_parse(text, &p.a) < 0 || parse_u64(slash + 1, ipaddr_len(&p.a) * 8, &len) < 0)
		return -EINVAL;
	p.len = (uint8_t)len;
	*ret = p;
	return 0;
}

char *ipprefix_format(const struct ipprefix *p, char *buf)
{
	ipaddr_format(&p->a, buf);
	if (p->a.family)
		snprintf(buf + strlen(buf), 5, "/%u", p->len);
	return buf;
}

static struct ipaddr masked(const struct ipprefix *p, bool ones)
{
	struct ipaddr r = p->a;

	for (size_t i = 0; i < ipaddr_len(&r); i++) {
		unsigned int keep = p->len >= (i + 1) * 8 ? 8
				    : p->len > i * 8	  ? p->len - (unsigned int)i * 8
							  : 0;
		uint8_t mask = (uint8_t)(0xff00U >> keep);

		r.b[i] = ones ? r.b[i] | (uint8_t)~mask : r.b[i] & mask;
	}
	return r;
}

struct ipaddr ipprefix_net(const struct ipprefix *p)
{
	return masked(p, false);
}

struct ipaddr ipprefix_last(const struct ipprefix *p)
{
	return masked(p, true);
}

bool ipprefix_contains(const struct ipprefix *p, const struct ipaddr *a)
{
	struct ipprefix q = { .a = *a, .len = p->len };
	struct ipaddr x = ipprefix_net(p), y = ipprefix_net(&q);

	return p->a.family && ipaddr_same(&x, &y);
}

bool ipprefix_overlap(const struct ipprefix *a, const struct ipprefix *b)
{
	if (!a->a.family || a->a.family != b->a.family)
		return false;
	return a->len <= b->len ? ipprefix_contains(a, &b->a) : ipprefix_contains(b, &a->a);
}

uint64_t ipprefix_hosts(const struct ipprefix *p)
{
	unsigned int bits = (unsigned int)ipaddr_len(&p->a) * 8 - p->len;
	uint64_t n = bits >= 64 ? UINT64_MAX : (uint64_t)1 << bits;

	if (p->a.family == AF_INET)
		return bits >= 2 ? n - 2 : n;
	return bits >= 2 ? n - 1 : n; /* IPv6: address 0 is the subnet-router anycast */
}

struct ipaddr ipprefix_host(const struct ipprefix *p, uint64_t i)
{
	struct ipaddr net = ipprefix_net(p);
	unsigned int bits = (unsigned int)ipaddr_len(&p->a) * 8 - p->len;

	return ipaddr_add(&net, bits >= 2 ? i + 1 : i);
}

int mac_parse(const char *s, uint8_t mac[6])
{
	uint8_t m[6];

	if (strlen(s) != 17)
		return -EINVAL;
	for (int i = 0; i < 6; i++) {
		char pair[3] = { s[3 * i], s[3 * i + 1], '\0' };

		if (hex_decode(pair, &m[i], 1) < 0 || (i < 5 && s[3 * i + 2] != ':'))
			return -EINVAL;
	}
	memcpy(mac, m, 6);
	return 0;
}

char *mac_format(const uint8_t mac[6], char *buf)
{
	snprintf(buf, MAC_TEXT, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3],
		 mac[4], mac[5]);
	return buf;
}

bool mac_is_zero(const uint8_t mac[6])
{
	return (mac[0] | mac[1] | mac[2] | mac[3] | mac[4] | mac[5]) == 0;
}

bool mac_is_unicast(const uint8_t mac[6])
{
	return !(mac[0] & 1) && !mac_is_zero(mac);
}

uint64_t stable_hash(const char *s, const char *salt)
{
	uint64_t h = 0xcbf29ce484222325;

	for (const char *p = salt; *p; p++)
		h = (h ^ (uint8_t)*p) * 0x100000001b3;
	h = (h ^ 0xff) * 0x100000001b3;
	for (; *s; s++)
		h = (h ^ (uint8_t)*s) * 0x100000001b3;
	h ^= h >> 33; /* FNV alone leaves its low bits too regular for short texts */
	h *= 0xff51afd7ed558ccd;
	h ^= h >> 33;
	h *= 0xc4ceb9fe1a85ec53;
	return h ^ h >> 33;
}

void mac_of_id(const char *id, unsigned int attempt, uint8_t mac[6])
{
	char salt[24];
	uint64_t h;

	snprintf(salt, sizeof(salt), "mac%u", attempt);
	h = stable_hash(id, salt);
	mac[0] = 0x0a;
	for (int i = 1; i < 6; i++)
		mac[i] = (uint8_t)(h >> (8 * i));
}

struct ipaddr ip6_eui64(const struct ipaddr *net, const uint8_t mac[6])
{
	struct ipaddr a = *net;

	a.b[8] = mac[0] ^ 2;
	a.b[9] = mac[1];
	a.b[10] = mac[2];
	a.b[11] = 0xff;
	a.b[12] = 0xfe;
	a.b[13] = mac[3];
	a.b[14] = mac[4];
	a.b[15] = mac[5];
	return a;
}

struct ipaddr ip6_link_local(const uint8_t mac[6])
{
	struct ipaddr net = { .family = AF_INET6, .b = { 0xfe, 0x80 } };

	return ip6_eui64(&net, mac);
}

bool ip6_mac(const struct ipaddr *a, uint8_t mac[6])
{
	if (a->family != AF_INET6 || a->b[11] != 0xff || a->b[12] != 0xfe)
		return false;
	mac[0] = a->b[8] ^ 2;
	mac[1] = a->b[9];
	mac[2] = a->b[10];
	mac[3] = a->b[13];
	mac[4] = a->b[14];
	mac[5] = a->b[15];
	return true;
}
