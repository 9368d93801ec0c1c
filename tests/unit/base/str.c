/* Text helpers: what people type. */
#include "unit.h"
#include "base/str.h"

static void numbers(void **state)
{
	uint64_t u;
	int64_t i;

	assert_int_equal(parse_u64("0", 10, &u), 0);
	assert_int_equal(u, 0);
	assert_int_equal(parse_u64("0xFf", 255, &u), 0);
	assert_int_equal(u, 255);
	assert_int_equal(parse_u64("256", 255, &u), -ERANGE);
	assert_int_equal(parse_u64("18446744073709551616", UINT64_MAX, &u), -ERANGE);
	assert_int_equal(parse_u64("", 1, &u), -EINVAL);
	assert_int_equal(parse_u64("0x", 1, &u), -EINVAL);
	assert_int_equal(parse_u64(" 1", 1, &u), -EINVAL);
	assert_int_equal(parse_u64("+1", 1, &u), -EINVAL);
	assert_int_equal(parse_u64("1 ", 1, &u), -EINVAL);
	assert_int_equal(parse_i64("-9223372036854775808", INT64_MIN, 0, &i), 0);
	assert_true(i == INT64_MIN);
	assert_int_equal(parse_i64("-5", -4, 4, &i), -ERANGE);
	assert_int_equal(parse_i64("--5", -9, 4, &i), -EINVAL);
}

static void sizes(void **state)
{
	static const struct {
		const char *s;
		int r;
		uint64_t v;
	} cases[] = {
		{ "4096", 0, 4096 },	    { "512M", 0, 512 * MIB }, { "10G", 0, 10 * GIB },
		{ "1.5G", 0, 3 * GIB / 2 }, { "2KiB", 0, 2048 },      { "2kB", 0, 2048 },
		{ "17B", 0, 17 },	    { "1p", 0, 1024 * TIB },  { "16384P", -ERANGE, 0 },
		{ "1.5", -EINVAL, 0 },	    { "1.", -EINVAL, 0 },     { "G", -EINVAL, 0 },
		{ "-1", -EINVAL, 0 },	    { "1GG", -EINVAL, 0 },    { "1X", -EINVAL, 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t v = 0;

		assert_int_equal(parse_size(cases[i].s, &v), cases[i].r);
		assert_true(v == cases[i].v);
	}
}

static void sizes_print(void **state)
{
	static const struct {
		uint64_t v;
		const char *s;
	} cases[] = {
		{ 0, "0 B" },
		{ 999, "999 B" },
		{ 1000, "1.0 KiB" },
		{ 1024, "1 KiB" },
		{ 1536, "1.5 KiB" },
		{ 10 * GIB, "10 GiB" },
		{ 1023 * KIB, "1.0 MiB" },
		{ 150 * KIB + 300, "150 KiB" },
		{ UINT64_MAX, "16 EiB" },
	};
	char b[16];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_string_equal(format_size(cases[i].v, b, sizeof(b)), cases[i].s);
}

static void durations(void **state)
{
	nsec_t d;
	char b[16];

	assert_int_equal(parse_duration("250ms", &d), 0);
	assert_true(d == 250 * NSEC_PER_MSEC);
	assert_int_equal(parse_duration("10", &d), 0);
	assert_true(d == 10 * NSEC_PER_SEC);
	assert_int_equal(parse_duration("10x", &d), -EINVAL);
	assert_int_equal(parse_duration("999999999999d", &d), -ERANGE);
	assert_string_equal(format_duration(850 * NSEC_PER_MSEC, b, sizeof(b)), "850ms");
	assert_string_equal(format_duration(4200 * NSEC_PER_MSEC, b, sizeof(b)), "4.2s");
	assert_string_equal(format_duration(192 * NSEC_PER_SEC, b, sizeof(b)), "3m12s");
	assert_string_equal(format_duration(18180 * NSEC_PER_SEC, b, sizeof(b)), "5h03m");
}

static void utf8(void **state)
{
	assert_true(utf8_valid("a\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"));
	assert_false(utf8_valid("\xc0\x80"));	      /* overlong NUL */
	assert_false(utf8_valid("\xed\xa0\x80"));     /* surrogate */
	assert_false(utf8_valid("\xf4\x90\x80\x80")); /* above U+10FFFF */
	assert_false(utf8_valid("\xe2\x82"));	      /* cut short */
}

static void vectors(void **state)
{
	_cleanup_(strv_freep) char **v = strv_split(",a,,bc,", ",");
	_cleanup_(strv_freep) char **c = strv_copy(v);

	assert_int_equal(strv_len(c), 2);
	assert_string_equal(c[1], "bc");
	assert_true(strv_contains(c, "a"));
	assert_false(strv_contains(c, "b"));
	assert_false(strv_contains(NULL, "b"));
}

static void hex(void **state)
{
	unsigned char out[2];
	char s[5];

	assert_int_equal(hex_decode("a0fF", out, 2), 0);
	hex_encode(out, 2, s);
	assert_string_equal(s, "a0ff");
	assert_int_equal(hex_decode("a0f", out, 2), -EINVAL);
	assert_int_equal(hex_decode("a0fff", out, 2), -EINVAL);
	assert_int_equal(hex_decode("a0fg", out, 2), -EINVAL);
}

static void booleans_and_ends(void **state)
{
	bool b;

	assert_int_equal(parse_bool("on", &b), 0);
	assert_true(b);
	assert_int_equal(parse_bool("false", &b), 0);
	assert_false(b);
	assert_int_equal(parse_bool("maybe", &b), -EINVAL);
	assert_true(str_starts("abc", "ab"));
	assert_true(str_ends("abc", "bc"));
	assert_false(str_ends("c", "bc"));
	assert_true(mem_equal_secret("abc", "abc", 3));
	assert_false(mem_equal_secret("abc", "abd", 3));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers),     cmocka_unit_test(sizes),
		cmocka_unit_test(sizes_print), cmocka_unit_test(durations),
		cmocka_unit_test(utf8),	       cmocka_unit_test(vectors),
		cmocka_unit_test(hex),	       cmocka_unit_test(booleans_and_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
