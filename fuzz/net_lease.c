/* Lease files of port groups. */
#include <stdlib.h>
#include <string.h>
#include "net/services/lease.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct leases l;
	char *text = malloc(size + 1);

	if (!text || leases_open(&l, NULL, NULL, NULL, NULL) < 0)
		abort();
	memcpy(text, data, size);
	text[size] = '\0';
	leases_parse(&l, text);
	leases_close(&l);
	free(text);
	return 0;
}
