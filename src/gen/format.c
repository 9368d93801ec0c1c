/* Shapes of text: stepping through the automata of the patterns, and the few that are checked by hand. */
#include "gen/format.h"

#include <arpa/inet.h>
#include "base/str.h"
#include "gen/object.h"

bool gen_format_fits(const struct gen_format *f, const char *s)
{
	unsigned int state = 1;

	if (f->check)
		return f->check(s);
	for (; *s && state; s++)
		state = f->next[state * f->n_classes + f->classes[(unsigned char)*s]];
	return f->accept[state];
}

int gen_enum_find(const struct gen_enum *en, const char *name)
{
	for (unsigned int i = 0; i < en->n; i++)
		if (streq(en->names[i], name))
			return (int)i;
	return -1;
}

bool gen_check_ipv4(const char *s)
{
	struct in_addr a;

	return inet_pton(AF_INET, s, &a) == 1;
}

bool gen_check_ipv6(const char *s)
{
	struct in6_addr a;

	return inet_pton(AF_INET6, s, &a) == 1;
}

bool gen_check_ip(const char *s)
{
	return gen_check_ipv4(s) || gen_check_ipv6(s);
}

/* ADDRESS/BITS with no bit of the host set. */
static bool is_net(const char *s, int family, unsigned int bits)
{
	const char *slash = strchr(s, '/');
	char text[INET6_ADDRSTRLEN];
	uint8_t addr[16] = { 0 };
	uint64_t len;

	if (!slash || (size_t)(slash - s) >= sizeof(text) || (slash[1] == '0' && slash[2]))
		return false;
	memcpy(text, s, (size_t)(slash - s));
	text[slash - s] = '\0';
	if (strspn(slash + 1, "0123456789") != strlen(slash + 1) ||
	    parse_u64(slash + 1, bits, &len) < 0 || inet_pton(family, text, addr) != 1)
		return false;
	for (unsigned int i = (unsigned int)len; i < bits; i++)
		if (addr[i / 8] & 0x80 >> i % 8)
			return false;
	return true;
}

bool gen_check_cidr4(const char *s)
{
	return is_net(s, AF_INET, 32);
}

bool gen_check_cidr6(const char *s)
{
	return is_net(s, AF_INET6, 128);
}

bool gen_check_cidr(const char *s)
{
	return gen_check_cidr4(s) || gen_check_cidr6(s);
}
