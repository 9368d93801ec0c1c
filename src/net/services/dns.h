/* DNS messages: reading a query, writing an answer.  Spec: RFC 1035, 6891.  Pure. */
#ifndef NET_SERVICES_DNS_H
#define NET_SERVICES_DNS_H

#include "base/types.h"
#include "net/addr.h"

#define DNS_NAME_MAX 256
#define DNS_MAX	     4096

enum { DNS_A = 1, DNS_PTR = 12, DNS_AAAA = 28, DNS_ANY = 255 };
enum {
	DNS_OK = 0,
	DNS_FORMERR = 1,
	DNS_SERVFAIL = 2,
	DNS_NXDOMAIN = 3,
	DNS_NOTIMP = 4,
	DNS_REFUSED = 5
};

struct dns_query {
	uint16_t id, flags, type, class;
	char name[DNS_NAME_MAX]; /* lower case, without the final dot; "" is the root */
	size_t question_end;	 /* bytes of header and question */
};

/* 0; -EBADMSG: not a query that could be answered, not even by an error. */
int dns_parse(const uint8_t *p, size_t len, struct dns_query *ret);

struct dns_out {
	uint8_t b[DNS_MAX];
	size_t len;
	unsigned int answers;
};
/* The query's header and question with an answer's flags; p is what dns_parse() read. */
void dns_start(struct dns_out *o, const uint8_t *p, const struct dns_query *q, unsigned int rcode,
	       bool authoritative);
void dns_add_addr(struct dns_out *o, const struct ipaddr *a, uint32_t ttl);
void dns_add_ptr(struct dns_out *o, const char *name, uint32_t ttl);

/* The address that a name under in-addr.arpa or ip6.arpa stands for. */
bool dns_reverse(const char *name, struct ipaddr *ret);

#endif
