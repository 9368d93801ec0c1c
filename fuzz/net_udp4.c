/* Frames from instances: Ethernet, IPv4 and UDP headers. */
#include "net/packet/udp4.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct udp4 u;

	if (udp4_read(data, size, &u) < 0)
		return 0;
	if (u.data < data || u.data + u.len > data + size)
		__builtin_trap();
	return 0;
}
