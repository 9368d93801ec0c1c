/* YAML: any bytes.  Property: what parses prints as YAML and parses again to the same value, in bounded memory. */
#include <assert.h>
#include "ext/yaml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct json_limits limits = { .size = 64 << 10, .depth = 32, .values = 2000 };
	static const struct json_limits ours = { .size = 64 << 20, .depth = 64, .values = 20000 };
	_cleanup_(json_freep) struct json *v = NULL, *again = NULL, *docs = NULL;
	_cleanup_(buf_done) struct buf b = { 0 };
	struct err *e = NULL;

	yaml_parse_all((const char *)data, size, &limits, &docs, NULL);
	if (yaml_parse((const char *)data, size, &limits, &v, &e) < 0) {
		assert(*err_msg(e));
		err_free(e);
		return 0;
	}
	assert(yaml_print(v, &b) == 0);
	assert(yaml_parse(b.s, b.len, &ours, &again, NULL) == 0);
	assert(json_same(v, again));
	return 0;
}
