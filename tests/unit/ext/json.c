/* JSON values: strict parsing, reading with messages, building, printing. */
#include "unit.h"
#include "base/str.h"
#include "ext/json.h"

static struct json *parse(const char *text)
{
	struct json *v = NULL;
	struct err *e = NULL;

	if (json_parse(text, strlen(text), NULL, &v, &e) < 0)
		fail_msg("'%s': %s", text, err_msg(e));
	return v;
}

static void assert_refused(const char *text, size_t len, const struct json_limits *lim, int num,
			   const char *message)
{
	_cleanup_(err_freep) struct err *e = NULL;
	struct json *v = NULL;

	assert_int_equal(json_parse(text, len, lim, &v, &e), -num);
	assert_null(v);
	if (!strstr(err_msg(e), message))
		fail_msg("'%s': '%s' lacks '%s'", text, err_msg(e), message);
}

static void round_trip(void **state)
{
	static const char *const same[] = {
		"null",
		"true",
		"-9223372036854775808",
		"9223372036854775807",
		"\"\"",
		"[]",
		"{}",
		"0.1",
		"1e+300",
		"-0.0",
		"2.0",
		"1.2345678901234568e+17",
		"{\"b\":1,\"a\":[1,2.5,\"x\",null,{\"c\":{}}]}",
		"\"\\\"\\\\ \\n \\u0001 \xc3\xa4 \xf0\x9f\x98\x80\"",
	};

	for (size_t i = 0; i < ARRAY_SIZE(same); i++) {
		_cleanup_(json_freep) struct json *v = parse(same[i]);
		_cleanup_(json_freep) struct json *copy = json_clone(v);
		_cleanup_(freep) char *text = json_text(v, JSON_COMPACT);

		assert_string_equal(text, same[i]);
		assert_true(json_same(v, copy));
	}
}

static void strict(void **state)
{
	static const struct {
		const char *text, *message;
	} cases[] = {
		{ "", "line 1, column 1: " },
		{ "{\n  \"a\": 1,\n  \"a\": 2\n}", "line 3, column 5: duplicate object key" },
		{ "[1,]", "line 1, column 4" },
		{ "[1] 2", "line 1, column 5: end of file expected" },
		{ "9223372036854775808", "too big integer" },
		{ "-9223372036854775809", "too big negative integer" },
		{ "1e999", "real number overflow" },
		{ "[01]", "line 1" },
		{ "NaN", "line 1" },
		{ "'a'", "line 1" },
		{ "\"\\u0000\"", "\\u0000" },
		{ "\"\xff\"", "unable to decode byte 0xff" },
		{ "\"\xed\xa0\x80\"", "unable to decode byte 0xed" },
		{ "\"\\ud800\"", "invalid Unicode" },
		{ "\xef\xbb\xbf{}", "line 1" },
		{ "\"a\nb\"", "line 1" },
		{ "{\"a\":1", "line 1" },
		{ "/* c */ 1", "line 1" },
	};
	static const struct json_limits tight = { .size = 64, .depth = 3, .values = 10 };

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_refused(cases[i].text, strlen(cases[i].text), NULL, EINVAL,
			       cases[i].message);
	assert_refused("\"a\0b\"", 5, NULL, EINVAL, "line 1");
	assert_refused("[[[\n[1]]]]", 10, &tight, E2BIG,
		       "line 2, column 1: nested deeper than the limit of 3");
	assert_refused("[0,1,2,3,4,5,6,7,8,9]", 21, &tight, E2BIG,
		       "more values than the limit of 10");
	assert_refused("{\"[[[[\":[[[", 11, &tight, E2BIG, "nested deeper");
	assert_refused("                                                                 1", 66,
		       &tight, E2BIG, "66 bytes are more than the limit of 64");
	json_free(parse("[[[\"[[[[\\\"[[[\"]]]"));
}

/* A document of 100,000 opening brackets is refused without deep recursion. */
static void bombs(void **state)
{
	_cleanup_(freep) char *text = malloc(100000);

	memset(text, '[', 100000);
	assert_refused(text, 100000, NULL, E2BIG, "column 65: nested deeper");
	for (size_t i = 0; i < 100000; i++)
		text[i] = "[,"[i % 2];
	assert_refused(text, 100000, NULL, E2BIG, "nested deeper");
}

static void plain_reading(void **state)
{
	_cleanup_(json_freep) struct json *v =
		parse("{\"b\":true,\"i\":-3,\"r\":1.5,\"s\":\"text\",\"a\":[1,2],"
		      "\"o\":{\"x\":{\"y\":7}}}");
	struct json_iter it;

	assert_true(json_bool(json_get(v, "b"), false));
	assert_false(json_bool(json_get(v, "i"), false));
	assert_int_equal(json_int(json_get(v, "i"), 0), -3);
	assert_int_equal(json_int(json_get(v, "s"), 99), 99);
	assert_true(json_num(json_get(v, "i"), 0) == -3.0);
	assert_true(json_num(json_get(v, "r"), 0) == 1.5);
	assert_string_equal(json_str(json_get(v, "s")), "text");
	assert_null(json_str(json_get(v, "i")));
	assert_null(json_get(v, "nothing"));
	assert_null(json_get(json_get(v, "a"), "x"));
	assert_int_equal(json_len(json_get(v, "a")), 2);
	assert_int_equal(json_len(json_get(v, "s")), 4);
	assert_int_equal(json_int(json_at(json_get(v, "a"), 1), 0), 2);
	assert_null(json_at(json_get(v, "a"), 2));
	assert_int_equal(json_int(json_walk(v, "o", "x", "y", NULL), 0), 7);
	assert_null(json_walk(v, "o", "nothing", "y", NULL));
	assert_int_equal(json_kind(NULL), JSON_K_NULL);
	it = json_iter(v);
	for (const char *const *key = (const char *const[]){ "b", "i", "r", "s", "a", "o", NULL };
	     *key; key++) {
		assert_true(json_next(&it));
		assert_string_equal(it.key, *key);
	}
	assert_false(json_next(&it));
	it = json_iter(json_get(v, "a"));
	assert_false(json_next(&it));
}

static void messages(void **state)
{
	_cleanup_(json_freep) struct json *v = parse(
		"{\"process\":{\"cwd\":7,\"args\":[\"a\",3],\"tty\":true,\"n\":5,\"z\":null,"
		"\"org.x\":{\"k\":1},\"env\":[\"A=1\",\"B=2\"]},\"mounts\":[{},{\"type\":false}]}");
	struct json_in root = json_in(v, "config"), process = { 0 }, mounts = { 0 }, m, org;
	_cleanup_(strv_freep) char **env = NULL, **args = NULL;
	struct err *e = NULL;
	const char *s = "untouched";
	int64_t n = 1;
	bool flag = false;

	assert_int_equal(json_need_obj(&root, "process", &process, &e), 0);
	assert_int_equal(json_need_str(&process, "cwd", &s, &e), -EINVAL);
	assert_string_equal(err_msg(e), "config.process.cwd: expected a string, got an integer");
	assert_string_equal(err_id(e), "json.type");
	err_clear(&e);
	assert_int_equal(json_need_str(&process, "user", &s, &e), -EINVAL);
	assert_string_equal(err_msg(e), "config.process.user: is required");
	assert_string_equal(err_id(e), "json.missing");
	err_clear(&e);
	assert_int_equal(json_opt_str(&process, "user", &s, &e), 0);
	assert_int_equal(json_opt_str(&process, "z", &s, &e), 0);
	assert_string_equal(s, "untouched");
	assert_int_equal(json_opt_bool(&process, "tty", &flag, &e), 1);
	assert_true(flag);
	assert_int_equal(json_opt_int(&process, "n", 6, 9, &n, &e), -EINVAL);
	assert_string_equal(err_msg(e), "config.process.n: 5 is below the minimum 6");
	err_clear(&e);
	assert_int_equal(json_opt_int(&process, "n", 0, 4, &n, &e), -EINVAL);
	assert_string_equal(err_msg(e), "config.process.n: 5 is above the maximum 4");
	err_clear(&e);
	assert_int_equal(json_opt_strv(&process, "args", &args, &e), -EINVAL);
	assert_string_equal(err_msg(e),
			    "config.process.args[1]: expected a string, got an integer");
	err_clear(&e);
	assert_int_equal(json_need_strv(&process, "env", &env, &e), 0);
	assert_string_equal(env[1], "B=2");
	assert_null(env[2]);
	assert_int_equal(json_need_arr(&root, "mounts", &mounts, &e), 0);
	assert_int_equal(json_in_len(&mounts), 2);
	m = json_in_item(&mounts, 1);
	assert_int_equal(json_need_str(&m, "type", &s, &e), -EINVAL);
	assert_string_equal(err_msg(e), "config.mounts[1].type: expected a string, got a boolean");
	err_clear(&e);
	assert_int_equal(json_need_obj(&process, "org.x", &org, &e), 0);
	assert_int_equal(json_need_bool(&org, "k", &flag, &e), -EINVAL);
	assert_string_equal(err_msg(e),
			    "config.process[\"org.x\"].k: expected a boolean, got an integer");
	err_clear(&e);
	assert_int_equal(json_only(&root, (const char *const[]){ "proces", "mounts", NULL }, &e),
			 -EINVAL);
	assert_string_equal(err_msg(e), "config.process: unknown field; did you mean 'proces'?");
	err_clear(&e);
	assert_int_equal(json_only(&root, (const char *const[]){ "process", "mounts", NULL }, &e),
			 0);
}

static void building(void **state)
{
	_cleanup_(json_freep) struct json *o = json_new_obj();
	_cleanup_(freep) char *text = NULL, *pretty = NULL, *sorted = NULL;
	struct json *list = json_new_arr();
	char p[] = "p", q[] = "q", *pq[] = { p, q, NULL };

	assert_int_equal(json_set(o, "z", json_new_str("last letter first")), 0);
	assert_int_equal(json_set(o, "list", list), 0);
	assert_int_equal(json_push(list, json_new_int(INT64_MIN)), 0);
	assert_int_equal(json_push(list, json_new_fmt("%d-%s", 7, "x")), 0);
	assert_int_equal(json_push(list, NULL), -ENOMEM);
	assert_int_equal(json_set(o, "bad", json_new_str("\xff")), -ENOMEM);
	assert_int_equal(json_set(o, "nan", json_new_real(0.0 / 0.0)), -ENOMEM);
	assert_int_equal(json_set(list, "x", json_new_null()), -EINVAL);
	assert_int_equal(json_set(NULL, "x", json_new_null()), -ENOMEM);
	assert_int_equal(json_set(o, "a", json_new_strv(pq)), 0);
	assert_int_equal(json_set(o, "z", json_new_bool(false)), 0);
	assert_int_equal(json_set_at(list, 1, json_new_null()), 0);
	assert_int_equal(json_remove(o, "nothing"), -ENOENT);
	text = json_text(o, JSON_COMPACT);
	assert_string_equal(
		text, "{\"z\":false,\"list\":[-9223372036854775808,null],\"a\":[\"p\",\"q\"]}");
	pretty = json_text(json_get(o, "list"), JSON_PRETTY);
	assert_string_equal(pretty, "[\n  -9223372036854775808,\n  null\n]\n");
	assert_int_equal(json_remove_at(json_edit(o, "list"), 0), 0);
	assert_int_equal(json_remove(o, "a"), 0);
	sorted = json_text(o, JSON_SORTED);
	assert_string_equal(sorted, "{\"list\":[null],\"z\":false}");
}

/* The examples of RFC 7396, appendix A. */
static void merge_patch(void **state)
{
	static const char *const cases[][3] = {
		{ "{\"a\":\"b\"}", "{\"a\":\"c\"}", "{\"a\":\"c\"}" },
		{ "{\"a\":\"b\"}", "{\"b\":\"c\"}", "{\"a\":\"b\",\"b\":\"c\"}" },
		{ "{\"a\":\"b\"}", "{\"a\":null}", "{}" },
		{ "{\"a\":\"b\",\"b\":\"c\"}", "{\"a\":null}", "{\"b\":\"c\"}" },
		{ "{\"a\":[\"b\"]}", "{\"a\":\"c\"}", "{\"a\":\"c\"}" },
		{ "{\"a\":\"c\"}", "{\"a\":[\"b\"]}", "{\"a\":[\"b\"]}" },
		{ "{\"a\":{\"b\":\"c\"}}", "{\"a\":{\"b\":\"d\",\"c\":null}}",
		  "{\"a\":{\"b\":\"d\"}}" },
		{ "{\"a\":[{\"b\":\"c\"}]}", "{\"a\":[1]}", "{\"a\":[1]}" },
		{ "[\"a\",\"b\"]", "[\"c\",\"d\"]", "[\"c\",\"d\"]" },
		{ "{\"a\":\"b\"}", "[\"c\"]", "[\"c\"]" },
		{ "{\"a\":\"foo\"}", "null", "null" },
		{ "{\"a\":\"foo\"}", "\"bar\"", "\"bar\"" },
		{ "{\"e\":null}", "{\"a\":1}", "{\"e\":null,\"a\":1}" },
		{ "[1,2]", "{\"a\":\"b\",\"c\":null}", "{\"a\":\"b\"}" },
		{ "{}", "{\"a\":{\"bb\":{\"ccc\":null}}}", "{\"a\":{\"bb\":{}}}" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_(json_freep) struct json *target = parse(cases[i][0]);
		_cleanup_(json_freep) struct json *patch = parse(cases[i][1]);
		_cleanup_(json_freep) struct json *merged = json_merge_patch(target, patch);
		_cleanup_(freep) char *text = json_text(merged, JSON_COMPACT);

		assert_string_equal(text, cases[i][2]);
	}
}

static void files(void **state)
{
	char path[] = "/tmp/strata-unit-json.XXXXXX";
	static const struct json_limits tiny = { .size = 4, .depth = 9, .values = 9 };
	int fd = mkstemp(path);
	struct err *e = NULL;
	struct json *v = NULL;
	_cleanup_(freep) char *want = NULL;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, "[1, 2", 5), 5);
	assert_int_equal(json_parse_file(path, NULL, &v, &e), -EINVAL);
	assert_true(asprintf(&want, "%s: line 1, column 5: ", path) > 0);
	assert_true(str_starts(err_msg(e), want));
	err_clear(&e);
	assert_int_equal(json_parse_file(path, &tiny, &v, &e), -EFBIG);
	err_clear(&e);
	assert_int_equal(write(fd, "]", 1), 1);
	assert_int_equal(json_parse_file(path, NULL, &v, &e), 0);
	assert_int_equal(json_len(v), 2);
	json_free(v);
	close(fd);
	unlink(path);
	assert_int_equal(json_parse_file(path, NULL, &v, &e), -ENOENT);
	err_clear(&e);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(round_trip),  cmocka_unit_test(strict),
		cmocka_unit_test(bombs),       cmocka_unit_test(plain_reading),
		cmocka_unit_test(messages),    cmocka_unit_test(building),
		cmocka_unit_test(merge_patch), cmocka_unit_test(files),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
