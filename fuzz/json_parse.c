/* JSON: any bytes.  Property: what parses prints, compact, pretty and sorted, and parses again to the same value. */
#include <assert.h>
#include "ext/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const unsigned int styles[] = { JSON_COMPACT, JSON_PRETTY, JSON_SORTED };
	static const struct json_limits limits = { .size = 1 << 20, .depth = 32, .values = 10000 };
	_cleanup_(json_freep) struct json *v = NULL;
	struct err *e = NULL;

	if (json_parse((const char *)data, size, &limits, &v, &e) < 0) {
		assert(*err_msg(e));
		err_free(e);
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(styles); i++) {
		_cleanup_(buf_done) struct buf b = { 0 };
		_cleanup_(json_freep) struct json *again = NULL;

		assert(json_print(v, styles[i], &b) == 0);
		assert(json_parse(b.s, b.len, NULL, &again, NULL) == 0);
		assert(json_same(v, again));
	}
	return 0;
}
