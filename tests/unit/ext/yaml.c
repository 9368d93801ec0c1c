/* YAML: the core schema, refusals with their place, expansion limits, printing. */
#include "unit.h"
#include "base/str.h"
#include "ext/yaml.h"

static struct json *parse(const char *text)
{
	struct json *v = NULL;
	struct err *e = NULL;

	if (yaml_parse(text, strlen(text), NULL, &v, &e) < 0)
		fail_msg("'%s': %s", text, err_msg(e));
	return v;
}

static void reads(void **state)
{
	static const char *const cases[][2] = {
		{ "", "null" },
		{ "# only a comment\n", "null" },
		{ "a: 1\nb: [x, y]\n", "{\"a\":1,\"b\":[\"x\",\"y\"]}" },
		{ "{a: ~, b: , c: null, d: 'null'}",
		  "{\"a\":null,\"b\":null,\"c\":null,\"d\":\"null\"}" },
		{ "[true, True, yes, on, \"true\"]", "[true,true,\"yes\",\"on\",\"true\"]" },
		{ "[12, -12, +12, 0o17, 0x1F, 017, 0b1, 1_000]",
		  "[12,-12,12,15,31,17,\"0b1\",\"1_000\"]" },
		{ "[1.5, .5, 5., 1e3, -1.5E-2, 1.2.3, '1.5', .]",
		  "[1.5,0.5,5.0,1000.0,-0.015,\"1.2.3\",\"1.5\",\".\"]" },
		{ "[2001-12-14, 12:30:45, ab]", "[\"2001-12-14\",\"12:30:45\",\"ab\"]" },
		{ "a: |\n  one\n  two\nb: >\n  folded\n  line\n",
		  "{\"a\":\"one\\ntwo\\n\",\"b\":\"folded line\\n\"}" },
		{ "80: x\ntrue: y\n", "{\"80\":\"x\",\"true\":\"y\"}" },
		{ "[!!str 12, !!int 12, !!float 12, !!bool true, ! 12, !!null ~]",
		  "[\"12\",12,12,true,\"12\",null]" },
		{ "!!map {a: !!seq [1]}", "{\"a\":[1]}" },
		{ "base: &b {x: 1}\ncopy: *b\nlist: [*b]",
		  "{\"base\":{\"x\":1},\"copy\":{\"x\":1},\"list\":[{\"x\":1}]}" },
		{ "[&a 1, *a, &a 2, *a]", "[1,1,2,2]" },
		{ "{\"a\": \"\\u00e4\\x41\"}", "{\"a\":\"\xc3\xa4"
					       "A\"}" },
		{ "9223372036854775807", "9223372036854775807" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_(json_freep) struct json *v = parse(cases[i][0]);
		_cleanup_(freep) char *text = json_text(v, JSON_COMPACT);

		assert_string_equal(text, cases[i][1]);
	}
}

static void refuses(void **state)
{
	static const struct {
		const char *text, *message;
	} cases[] = {
		{ "a: 1\na: 2\n", "line 2, column 1: duplicate key 'a'" },
		{ "a: [1\n", "line 2, column 1: did not find expected ',' or ']'" },
		{ "a: *b\n", "line 1, column 4: unknown alias '*b'" },
		{ "a: &a [*a]\n", "line 1, column 8: unknown alias '*a'" },
		{ "b: &b {x: 1}\nc:\n  <<: *b\n", "line 3, column 3: merge keys" },
		{ "[1]: x\n", "line 1, column 1: a key must be plain or quoted text" },
		{ "a: !python/object x\n", "line 1, column 4: unknown tag '!python/object'" },
		{ "a: !!binary aGk=\n", "'aGk=' is not a value of the tag '!!binary'" },
		{ "a: !!int x\n", "'x' is not a value of the tag '!!int'" },
		{ "a: !!set {x}\n", "unknown tag 'tag:yaml.org,2002:set'" },
		{ "a: .inf\n", "line 1, column 4: infinity" },
		{ "a: 1e999\n", "beyond the range of a double" },
		{ "a: 9223372036854775808\n", "line 1, column 4: an integer beyond 64 bits" },
		{ "a: 0x8000000000000000\n", "an integer beyond 64 bits" },
		{ "a: \"\\0\"\n", "line 1, column 4: a NUL character" },
		{ "a: \xff\n", "invalid leading UTF-8 octet" },
		{ "--- 1\n--- 2\n", "2 documents where one is expected" },
		{ "\ta: 1\n", "line 1, column 1: found character that cannot start any token" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct err *e = NULL;
		struct json *v = NULL;

		assert_int_equal(yaml_parse(cases[i].text, strlen(cases[i].text), NULL, &v, &e),
				 -EINVAL);
		assert_null(v);
		assert_string_equal(err_id(e), "yaml.syntax");
		if (!strstr(err_msg(e), cases[i].message))
			fail_msg("'%s': '%s' lacks '%s'", cases[i].text, err_msg(e),
				 cases[i].message);
		err_free(e);
	}
}

static void assert_limit(const char *text, const struct json_limits *lim, const char *message)
{
	_cleanup_(err_freep) struct err *e = NULL;
	struct json *v = NULL;

	assert_int_equal(yaml_parse(text, strlen(text), lim, &v, &e), -E2BIG);
	if (!strstr(err_msg(e), message))
		fail_msg("'%s' lacks '%s'", err_msg(e), message);
}

static void limits(void **state)
{
	static const struct json_limits tight = { .size = 1000, .depth = 4, .values = 100 };
	_cleanup_(buf_done) struct buf laughs = { 0 }, deep = { 0 };

	buf_adds(&laughs, "a: &a [x, x, x, x, x, x, x, x, x]\n");
	for (char c = 'b'; c <= 'i'; c++)
		buf_addf(&laughs, "%c: &%c [*%c, *%c, *%c, *%c, *%c, *%c, *%c, *%c, *%c]\n", c, c,
			 c - 1, c - 1, c - 1, c - 1, c - 1, c - 1, c - 1, c - 1, c - 1);
	assert_limit(buf_str(&laughs), NULL, "more values than the limit of 262144");
	assert_limit("[[[[[1]]]]]", &tight, "line 1, column 5: nested deeper than the limit of 4");
	assert_limit("[&a [[1]], [[*a]]]", &tight, "nested deeper than the limit of 4");
	for (int i = 0; i < 998; i++)
		buf_adds(&deep, "- ");
	assert_limit(buf_str(&deep), NULL, "nested deeper than the limit of 64");
	assert_limit(buf_str(&deep), &tight, "more than the limit of 1000");
	json_free(parse("[&a [[1]], [*a]]"));
}

static void streams(void **state)
{
	static const char text[] = "---\na: &x 1\n---\n# nothing\n---\nb: 2\n...\n";
	static const char leak[] = "a: &x 1\n---\nb: *x\n";
	_cleanup_(json_freep) struct json *docs = NULL;
	_cleanup_(freep) char *got = NULL;
	_cleanup_(err_freep) struct err *e = NULL;

	assert_int_equal(yaml_parse_all(text, strlen(text), NULL, &docs, NULL), 0);
	got = json_text(docs, JSON_COMPACT);
	assert_string_equal(got, "[{\"a\":1},{\"b\":2}]");
	json_free(TAKE(docs));
	assert_int_equal(yaml_parse_all(leak, strlen(leak), NULL, &docs, &e), -EINVAL);
	assert_string_equal(err_msg(e), "line 3, column 4: unknown alias '*x'");
}

static void prints(void **state)
{
	static const char *const texts[] = {
		"null",
		"\"a\\nb\\n\"",
		"\"--- x\\n%y\\n...\\n# z\"",
		"\"\\n\"",
		"[]",
		"{}",
		"{\"a\":{},\"b\":[],\"c\":[[1,2],{\"d\":3}]}",
		"[\"true\",\"Null\",\"~\",\"\",\"12\",\"-1.5\",\"1_000\",\"0x1f\",\"yes\",\"y\",\"on\",\".5\",\"12:30\",\"<<\",\"=\"]",
		"[true,null,12,-1.5,2.0,1e+300,9223372036854775807]",
		("[\" lead\",\"trail \",\"a: b\",\"a #b\",\"- x\",\"*x\",\"&x\",\"!x\",\"%x\",\"@x\",\"`x`\",\"'q'\",\"\\\"dq\\\"\","
		 "\"---\",\"...\",\"{\",\"]\",\"a,b\",\"?\",\":\",\"|\",\">\"]"),
		"[\"one\\ntwo\\n\",\"one\\ntwo\",\"\\n\",\"\\n\\n\",\"a\\n\\nb\\n\\n\",\" a\\nb\",\"a\\n b\\n\",\"a \\nb\",\"#!/bin/sh\\necho\\n\"]",
		"[\"\\u0001\\t\\u007f\",\"\xc3\xa4\",\"\xe2\x80\xa8\",\"\xc2\x85\",\"\xef\xbb\xbf\",\"\xf0\x9f\x98\x80\"]",
		"{\"true\":1,\"\":2,\"a b\":3,\"a: b\":4,\"x\\ny\":5,\"12\":6}",
	};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		_cleanup_(json_freep) struct json *v = NULL, *back = NULL;
		_cleanup_(buf_done) struct buf out = { 0 };
		_cleanup_(freep) char *text = NULL;
		struct err *e = NULL;

		assert_int_equal(json_parse(texts[i], strlen(texts[i]), NULL, &v, NULL), 0);
		assert_int_equal(yaml_print(v, &out), 0);
		if (yaml_parse(out.s, out.len, NULL, &back, &e) < 0)
			fail_msg("%s\n%s", err_msg(e), out.s);
		text = json_text(back, JSON_COMPACT);
		if (!json_same(v, back))
			fail_msg("%s\nbecame\n%s\nby\n%s", texts[i], text, out.s);
	}
}

static void prints_readably(void **state)
{
	static const char want[] = "name: web\n"
				   "cpu:\n"
				   "  count: 2\n"
				   "ports:\n"
				   "- guest: 80\n"
				   "  proto: tcp\n"
				   "tag: \"12\"\n"
				   "answer: \"no\"\n"
				   "script: |\n"
				   "  #!/bin/sh\n"
				   "  exit 0\n"
				   "empty: {}\n";
	_cleanup_(json_freep) struct json *v = parse(want);
	_cleanup_(buf_done) struct buf out = { 0 };

	assert_int_equal(yaml_print(v, &out), 0);
	assert_string_equal(buf_str(&out), want);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads),  cmocka_unit_test(refuses),
		cmocka_unit_test(limits), cmocka_unit_test(streams),
		cmocka_unit_test(prints), cmocka_unit_test(prints_readably),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
