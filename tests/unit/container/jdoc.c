/* The room's JSON reader: kinds, getters, errors that name the place, hostile text. */
#include "unit.h"
#include "container/jdoc.h"

static struct jval *parse(struct arena *a, const char *text, struct err **e)
{
	struct jval *v = NULL;

	return jdoc_parse(a, text, strlen(text), &v, e) < 0 ? NULL : v;
}

static void reads(void **state)
{
	_cleanup_(arena_done) struct arena a = { 0 };
	_cleanup_(err_freep) struct err *e = NULL;
	struct jr r = { .a = &a, .e = &e };
	struct jval *o = parse(
		&a,
		"{\"s\":\"a\\u00e4\\n\",\"i\":-5,\"u\":18446744073709551615,\"b\":true,\"n\":null,\"l\":[\"x\",\"y\"],\"i\":7}",
		&e);
	const char *s = NULL;
	int64_t i = 0;
	uint64_t u = 0;
	bool b = false;
	char **l = NULL;
	size_t n = 0;

	assert_non_null(o);
	assert_true(jr_str(&r, o, "s", &s));
	assert_string_equal(s, "a\xc3\xa4\n");
	jr_i64(&r, o, "i", &i);
	assert_int_equal(i, 7); /* the last counts */
	jr_u64(&r, o, "u", &u);
	assert_true(u == UINT64_MAX);
	jr_bool(&r, o, "b", &b);
	assert_true(b);
	assert_false(jr_str(&r, o, "n", &s));
	assert_false(jr_str(&r, o, "absent", &s));
	jr_strv(&r, o, "l", &l, &n);
	assert_int_equal(n, 2);
	assert_string_equal(l[1], "y");
	assert_null(l[2]);
	assert_int_equal(r.r, 0);
}

static void names_the_place(void **state)
{
	_cleanup_(arena_done) struct arena a = { 0 };
	_cleanup_(err_freep) struct err *e = NULL;
	struct jr r = { .a = &a, .e = &e };
	struct jval *o = parse(&a, "{\"a\":{\"b\":[{\"c\":\"text\"}]}}", &e), *c;
	int64_t i;

	c = jget(jget(o, "a"), "b")->first;
	jr_i64(&r, c, "c", &i);
	assert_true(r.r < 0);
	assert_non_null(strstr(err_msg(e), "a.b[0].c"));
}

static void subtree_text(void **state)
{
	_cleanup_(arena_done) struct arena a = { 0 };
	const char *text = "{\"x\": {\"y\" : [1, 2]} ,\"z\":0}";
	struct jval *o = parse(&a, text, NULL), *x = jget(o, "x");

	assert_int_equal(x->to - x->from, strlen("{\"y\" : [1, 2]}"));
	assert_memory_equal(text + x->from, "{\"y\" : [1, 2]}", x->to - x->from);
}

static void refuses(void **state)
{
	static const char *const bad[] = { "",		 "{",	     "{\"a\"}", "[1,]",
					   "{\"a\":1,}", "nul",	     "\"\\q\"", "\"\\ud800\"x",
					   "01",	 "1.",	     "[1] x",	"\"a",
					   "{1:2}",	 "\"\x01\"", "-" };
	char deep[300];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		_cleanup_(arena_done) struct arena a = { 0 };
		_cleanup_(err_freep) struct err *e = NULL;

		if (parse(&a, bad[i], &e))
			fail_msg("accepted: %s", bad[i]);
		assert_non_null(e);
	}
	memset(deep, '[', sizeof(deep));
	deep[299] = '\0';
	{
		_cleanup_(arena_done) struct arena a = { 0 };

		assert_null(parse(&a, deep, NULL));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads),
		cmocka_unit_test(names_the_place),
		cmocka_unit_test(subtree_text),
		cmocka_unit_test(refuses),
	};

	return cmocka_run_group_tests_name("container/jdoc", tests, NULL, NULL);
}
