/* Saved-state streams: hostile bytes behind a right checksum.  Property: load never crashes; what loads saves again. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "base/crc.h"
#include "base/save.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct inner {
	uint16_t a;
	uint8_t raw[3];
};
struct outer {
	bool flag;
	uint32_t n[4];
	struct inner in[2];
	struct save_blob blob;
	uint64_t late;
};

static const struct save_field inner_fields[] = {
	SAVE(struct inner, a, U16, 1),
	SAVE(struct inner, raw, BYTES, 1),
};
static const struct save_desc inner_save = SAVE_DESC("inner", 1, 1, inner_fields);
static const struct save_field outer_fields[] = {
	SAVE(struct outer, flag, BOOL, 1),
	SAVE_ARRAY(struct outer, n, U32, 1),
	SAVE_NESTED_ARRAY(struct outer, in, &inner_save, 1),
	SAVE_VBYTES(struct outer, blob, 4096, 2),
	SAVE(struct outer, late, U64, 3),
};
static const struct save_desc outer_save = SAVE_DESC("outer", 3, 1, outer_fields);

static int find(void *arg, const char *id, const char *name, struct save_target *ret)
{
	*ret = (struct save_target){ &outer_save, arg };
	return name[0] == 'o' ? 0 : 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(buf_done) struct buf b = { 0 }, again = { 0 };
	struct outer o = { 0 };
	uint32_t sum;

	/* header, the fuzzer's bytes, an end section with the right sum */
	save_begin(&b, "x86_64", NULL);
	buf_add(&b, data, size);
	buf_add(&b, "\0\3end\1\0\0\0\1\0\0\0\4\0\0\0", 17);
	sum = htole32(crc32c(0, b.s, b.len));
	buf_add(&b, &sum, 4);
	if (load_stream(b.s, b.len, "x86_64", find, &o, NULL) == 0)
		assert(save_section(&again, "o", &outer_save, &o, NULL) == 0);
	load_stream(data, size, "x86_64", find, &o, NULL);
	free(o.blob.data);
	return 0;
}
