/* Tables for people. */
#include "unit.h"
#include "ext/table.h"

static const struct table_column columns[] = { { "NAME", TABLE_CUT }, { "SIZE", TABLE_RIGHT } };

static char *print(size_t width, bool no_headings, size_t rows)
{
	static const char *const cells[][2] = { { "a", "1" },
						{ "a-rather-long-name-for-a-thing", "12345" },
						{ NULL, "" } };
	_cleanup_(table_freep) struct table *t = NULL;
	struct buf b = { 0 };

	assert_int_equal(table_new(columns, 2, width, &t, NULL), 0);
	for (size_t i = 0; i < rows; i++)
		assert_int_equal(table_add(t, cells[i], NULL), 0);
	assert_int_equal(table_print(t, no_headings, &b, NULL), 0);
	return buf_take(&b);
}

static void lines_up(void **state)
{
	char *s = print(0, false, 3);

	assert_string_equal(s, "NAME                             SIZE\n"
			       "a                                   1\n"
			       "a-rather-long-name-for-a-thing  12345\n"
			       "-                                   -\n");
	free(s);
}

static void fits_the_terminal(void **state)
{
	char *s = print(20, true, 2);

	for (char *line = strtok(s, "\n"); line; line = strtok(NULL, "\n"))
		assert_true(strlen(line) <= 20);
	free(s);
}

static void empty_ones_show_headings(void **state)
{
	char *s = print(0, false, 0), *nothing = print(0, true, 0);

	assert_string_equal(s, "NAME  SIZE\n");
	assert_string_equal(nothing, "");
	free(s);
	free(nothing);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines_up),
		cmocka_unit_test(fits_the_terminal),
		cmocka_unit_test(empty_ones_show_headings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
