/* Requests of strata-vmm's control socket. */
#include <string.h>
#include "vmm/request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct request q;
	uint64_t v;

	if (request_parse((const char *)data, len, &q, NULL) == 0) {
		request_string(&q, "verb");
		request_number(&q, "value", &v);
	}
	request_done(&q);
	return 0;
}
