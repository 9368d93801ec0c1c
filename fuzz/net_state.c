/* The desired state: reading and checking it. */
#include "net/net.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct net_spec s = { 0 };

	if (net_spec_parse((const char *)data, size, &s, NULL) == 0)
		net_spec_check(&s, NULL);
	net_spec_done(&s);
	return 0;
}
