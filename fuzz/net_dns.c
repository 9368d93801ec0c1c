/* DNS queries and reverse names. */
#include <string.h>
#include "net/services/dns.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct dns_query q;
	struct dns_out o;
	struct ipaddr a = { .family = AF_INET6 };

	if (dns_parse(data, size, &q) < 0)
		return 0;
	if (strlen(q.name) >= sizeof(q.name) || q.question_end > size)
		__builtin_trap();
	dns_reverse(q.name, &a);
	dns_start(&o, data, &q, DNS_OK, true);
	for (int i = 0; i < 200; i++)
		dns_add_addr(&o, &a, 1);
	dns_add_ptr(&o, q.name, 1);
	if (o.len > sizeof(o.b))
		__builtin_trap();
	return 0;
}
