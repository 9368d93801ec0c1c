/* One question to the servers of the host, for an address service that does not know the answer itself.
 *
 * Over UDP each try leaves on a socket of its own in the host's namespace, so that its source port and id are fresh
 * random values (RFC 5452); over TCP when the one who asks came that way, for answers that UDP has no room for.
 * Thread: the loop's. */
#ifndef NET_SERVICES_DNS_ASK_H
#define NET_SERVICES_DNS_ASK_H

#include "base/loop.h"
#include "net/addr.h"

#define DNS_ANSWER_MAX 65535

struct dns_servers {
	struct ipaddr at[4];
	unsigned int n;
	int ns; /* where they are reached: a network namespace */
	struct loop *loop;
};
/* The nameserver lines of a resolv.conf; other lines and what is no address are passed over. */
void dns_servers_parse(char *text, struct dns_servers *ret);

struct dns_ask;
/* b: the answer with the id of the question; NULL: no server has answered.  The dns_ask is gone when it is called. */
typedef void dns_answer_fn(void *arg, const uint8_t *b, size_t len);

/* q: a message that dns_parse() took; its question ends at question_end.  -EIO: no server could be asked, fn is not
 * called. */
int dns_ask(const struct dns_servers *s, const uint8_t *q, size_t len, size_t question_end,
	    bool tcp, dns_answer_fn *fn, void *arg, struct dns_ask **ret);
void dns_ask_cancel(struct dns_ask *a); /* fn is not called; NULL: no effect */

#endif
