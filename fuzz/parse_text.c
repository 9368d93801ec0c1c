/* The parsers of what people type: numbers, sizes, durations, times, UTF-8, hex.
 * Property: what parses prints and parses again to the same value where a printer exists. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "base/buf.h"
#include "base/clock.h"
#include "base/str.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	char *s = strndup((const char *)data, size);
	char text[32];
	uint64_t u;
	int64_t i;
	nsec_t t, t2;
	bool flag;

	parse_u64(s, UINT64_MAX, &u);
	parse_i64(s, INT64_MIN, INT64_MAX, &i);
	parse_size(s, &u);
	parse_duration(s, &t);
	parse_bool(s, &flag);
	if (parse_time(s, &t) == 0) {
		format_time(t, text, sizeof(text));
		assert(parse_time(text, &t2) == 0);
		assert(t - t2 < NSEC_PER_MSEC && t2 <= t);
	}
	utf8_valid(s);
	buf_add_json(&b, s);
	assert(utf8_valid(buf_str(&b)));
	buf_add_shell(&b, s);
	hex_decode(s, text, sizeof(text));
	free(s);
	return 0;
}
