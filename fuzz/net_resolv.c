/* The host's resolv.conf. */
#include <stdlib.h>
#include <string.h>
#include "base/types.h"
#include "net/services/dns_ask.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct dns_servers s = { 0 };
	char *text = malloc(size + 1);

	if (!text)
		abort();
	memcpy(text, data, size);
	text[size] = '\0';
	dns_servers_parse(text, &s);
	if (s.n > ARRAY_SIZE(s.at))
		__builtin_trap();
	free(text);
	return 0;
}
