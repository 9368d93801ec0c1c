/* Requests to the metadata service. */
#include "net/services/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct http_request q;
	int r = http_parse((const char *)data, size, &q);

	if (r > 0 && ((size_t)r > size || q.path[0] != '/'))
		__builtin_trap();
	return 0;
}
