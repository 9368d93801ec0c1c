/* config.json from anybody: parsed and checked, or refused with a message; never a crash, never an error without words. */
#include <stdint.h>
#include <stdlib.h>
#include "container/spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct spec s = { 0 };
	struct err *e = NULL;
	int r = spec_parse(&s, (const char *)data, size, &e);

	if ((r < 0) != (e != NULL) || (e && !*err_msg(e)))
		abort();
	spec_done(&s);
	err_free(e);
	return 0;
}
