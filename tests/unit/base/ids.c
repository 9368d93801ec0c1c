/* UUIDs and checksums. */
#include <errno.h>
#include "unit.h"
#include "base/crc.h"
#include "base/uuid.h"

static void uuids_print_and_parse(void **state)
{
	static const char *const bad[] = { "", "017f22e2-79b0-7cc3-98c4-dc0c0c07398",
					   "017f22e279b07cc398c4dc0c0c07398fffff",
					   "g17f22e2-79b0-7cc3-98c4-dc0c0c07398f" };
	char text[UUID_TEXT];
	struct uuid u;

	assert_int_equal(uuid_parse("017F22E2-79B0-7cc3-98C4-DC0C0C07398F", &u),
			 0); /* RFC 9562, A.6 */
	assert_string_equal(uuid_format(&u, text), "017f22e2-79b0-7cc3-98c4-dc0c0c07398f");
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(uuid_parse(bad[i], &u), -EINVAL);
}

static void version_7_sorts_by_creation(void **state)
{
	struct uuid last = uuid_v7();

	assert_int_equal(last.b[6] >> 4, 7);
	assert_int_equal(last.b[8] >> 6, 2);
	for (int i = 0; i < 10000; i++) {
		struct uuid u = uuid_v7();

		assert_true(memcmp(&last, &u, sizeof(u)) < 0);
		last = u;
	}
	assert_int_equal(uuid_v4().b[6] >> 4, 4);
}

static void checksums_match_the_published_check_values(void **state)
{
	const char *s = "123456789";

	assert_int_equal(crc32_ieee(0, s, 9), 0xcbf43926);
	assert_int_equal(crc32c(0, s, 9), 0xe3069283);
	assert_int_equal(crc32c(crc32c(0, s, 4), s + 4, 5), 0xe3069283);
	assert_int_equal(crc32_ieee(crc32_ieee(0, s, 4), s + 4, 5), 0xcbf43926);
	assert_int_equal(crc32c(0, s, 0), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(uuids_print_and_parse),
		cmocka_unit_test(version_7_sorts_by_creation),
		cmocka_unit_test(checksums_match_the_published_check_values),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
