/* Frames and DHCPv4 messages: whatever comes in, and what is answered to it. */
#include "net/packet/udp4.h"
#include "net/services/dhcp4.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t addr[4] = { 10, 0, 0, 1 };
	struct dhcp4_msg q;
	struct dhcp4_out o;
	struct udp4 u;

	if (udp4_read(data, size, &u) == 0) {
		data = u.data;
		size = u.len;
	}
	if (dhcp4_parse(data, size, &q) < 0)
		return 0;
	dhcp4_start(&o, &q, DHCP4_OFFER, addr, addr);
	for (int i = 0; i < 20; i++)
		dhcp4_option(&o, (uint8_t)i, data, size < 255 ? size : 255);
	dhcp4_end(&o);
	if (o.len > sizeof(o.b))
		__builtin_trap();
	return 0;
}
