/* DHCPv6 messages and router solicitations. */
#include "net/services/dhcp6.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ipaddr a[8] = { { .family = AF_INET6 } };
	static const uint8_t server[10] = { 0, 3, 0, 1, 2 };
	uint8_t out[1024];
	struct dhcp6_msg q;
	struct dhcp6_reply r = { .type = DHCP6_REPLY,
				 .server = server,
				 .server_len = sizeof(server),
				 .addrs = a,
				 .n_addrs = 8,
				 .status = 0,
				 .lifetime = 60,
				 .dns = a,
				 .n_dns = 4,
				 .domain = "lan.example" };

	rs_parse(data, size);
	if (dhcp6_parse(data, size, &q) == 0 && dhcp6_write(out, sizeof(out), &q, &r) > sizeof(out))
		__builtin_trap();
	return 0;
}
