/* Every type of the schema from any bytes.  The first two bytes choose the type and the mode, the rest is JSON.
 * Property: what is accepted keeps the rules, prints, parses again and is equal; a merge patch of it neither crashes
 * nor breaks the rules. */
#include <assert.h>
#include <string.h>
#include "gen/route.h"
#include "gen/types.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void patch(const struct gen_type *t, const void *obj, const struct json *v)
{
	_cleanup_(freep) char *next = calloc(1, t->size);

	if (gen_patch(t, obj, v, true, next, NULL) == 0)
		assert(gen_validate(t, next, NULL, NULL) == 0);
	gen_done(t, next);
	if (gen_replace(t, obj, v, false, next, NULL) == 0)
		assert(gen_validate(t, next, NULL, NULL) == 0);
	gen_done(t, next);
}

static void object(const struct gen_type *t, enum gen_mode mode, const char *text, size_t len)
{
	_cleanup_(freep) char *a = calloc(1, t->size), *b = calloc(1, t->size);
	_cleanup_(json_freep) struct json *v = NULL;
	_cleanup_(buf_done) struct buf out = { 0 };
	struct err *e = NULL;

	if (json_parse(text, len, NULL, &v, NULL) < 0)
		return;
	if (gen_parse(t, v, NULL, mode, a, &e) < 0) {
		assert(*err_msg(e));
		err_free(e);
		return;
	}
	assert(gen_validate(t, a, NULL, NULL) == 0);
	assert(gen_print(t, a, GEN_SECRETS, &out) == 0);
	assert(gen_parse_text(t, out.s, out.len, NULL, NULL, GEN_TRUSTED, b, NULL) == 0);
	assert(gen_equal(t, a, b));
	patch(t, a, v);
	gen_done(t, a);
	gen_done(t, b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(freep) char *text = NULL, *query = NULL;
	struct gen_route_match m;
	size_t n = 0;

	if (size < 2)
		return 0;
	while (gen_types[n])
		n++;
	text = strndup((const char *)data + 2, size - 2);
	object(gen_types[data[0] % n], (enum gen_mode)(data[1] % 3), (const char *)data + 2,
	       size - 2);
	gen_route_find((enum gen_method)(data[1] % GEN_METHODS), text, &m, NULL);
	query = calloc(1, gen_types[data[0] % n]->size);
	gen_parse_query(gen_types[data[0] % n], text, query, NULL);
	gen_done(gen_types[data[0] % n], query);
	return 0;
}
