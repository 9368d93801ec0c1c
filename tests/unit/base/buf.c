/* Growing byte buffer. */
#include "unit.h"
#include "base/buf.h"

static void adds_and_grows(void **state)
{
	_cleanup_(buf_done) struct buf b = { 0 };

	assert_string_equal(buf_str(&b), "");
	for (int i = 0; i < 1000; i++)
		assert_int_equal(buf_addf(&b, "%d,", i), 0);
	assert_int_equal(b.len, strlen(b.s));
	assert_true(strstr(b.s, ",998,999,") != NULL);
}

static void holds_binary(void **state)
{
	_cleanup_(buf_done) struct buf b = { 0 };

	buf_add(&b, "a\0b", 3);
	assert_int_equal(b.len, 3);
	assert_memory_equal(b.s, "a\0b", 4);
	buf_consume(&b, 2);
	assert_string_equal(buf_str(&b), "b");
}

static void json_escapes_bytes(void **state)
{
	_cleanup_(buf_done) struct buf b = { 0 };

	buf_add_json_n(&b, "a\0b\xc3", 4);
	assert_string_equal(b.s, "\"a\\u0000b\xef\xbf\xbd\"");
	buf_clear(&b);
	buf_add_json_n(&b, "", 0);
	assert_string_equal(b.s, "\"\"");
}

static void json_escapes(void **state)
{
	_cleanup_(buf_done) struct buf b = { 0 };

	buf_add_json(&b, "a\"b\\c\n\x01\xff\xc3\xa4");
	assert_string_equal(buf_str(&b), "\"a\\\"b\\\\c\\n\\u0001\xef\xbf\xbd\xc3\xa4\"");
}

static void shell_quotes(void **state)
{
	_cleanup_(buf_done) struct buf b = { 0 };

	buf_add_shell(&b, "plain-1.0");
	buf_addc(&b, ' ');
	buf_add_shell(&b, "it's");
	buf_addc(&b, ' ');
	buf_add_shell(&b, "");
	assert_string_equal(buf_str(&b), "plain-1.0 'it'\\''s' ''");
}

static void take_gives_the_string_away(void **state)
{
	struct buf b = { 0 };
	char *s;

	buf_adds(&b, "x");
	s = buf_take(&b);
	assert_string_equal(s, "x");
	assert_null(b.s);
	free(s);
	s = buf_take(&b);
	assert_string_equal(s, "");
	free(s);
	buf_done(&b);
}

static void failure_is_sticky(void **state)
{
	_cleanup_(buf_done) struct buf b = { 0 };

	buf_adds(&b, "x");
	assert_int_equal(buf_reserve(&b, SIZE_MAX - 1), -ENOMEM);
	assert_int_equal(buf_adds(&b, "y"), -ENOMEM);
	assert_int_equal(buf_error(&b), -ENOMEM);
	buf_clear(&b);
	assert_int_equal(buf_adds(&b, "z"), 0);
	assert_string_equal(buf_str(&b), "z");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(adds_and_grows),    cmocka_unit_test(holds_binary),
		cmocka_unit_test(json_escapes),	     cmocka_unit_test(json_escapes_bytes),
		cmocka_unit_test(shell_quotes),	     cmocka_unit_test(take_gives_the_string_away),
		cmocka_unit_test(failure_is_sticky),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
