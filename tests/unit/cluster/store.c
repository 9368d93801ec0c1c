/* The same contract on every store. */
#include <errno.h>
#include "unit.h"
#include "base/str.h"
#include "cluster/cluster.h"

static char dir[64], path[80];

static int setup_mem(void **state)
{
	return store_open_mem((struct store **)state, NULL);
}

static int setup_sqlite(void **state)
{
	strcpy(dir, "/tmp/strata-unit.XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/db", dir);
	return store_open_sqlite(path, (struct store **)state, NULL);
}

static int teardown(void **state)
{
	store_free(*state);
	if (dir[0]) {
		unlink(path);
		assert_int_equal(rmdir(dir), 0);
		dir[0] = '\0';
	}
	return 0;
}

#define PUT(id_, project_, name_, rev_, expect_)                                       \
	{                                                                              \
		.op = STORE_PUT, .record = { "vm", id_, project_, name_, rev_, "{}" }, \
		.expect = expect_,                                                     \
	}
#define DELETE(id_, expect_)                                                   \
	{                                                                      \
		.op = STORE_DELETE, .record = { .id = id_ }, .expect = expect_ \
	}

static int apply1(struct store *s, struct store_change c, const char *message)
{
	_cleanup_(err_freep) struct err *e = NULL;
	int r = store_apply(s, &c, 1, &e);

	if (message)
		assert_string_equal(err_msg(e), message);
	return r;
}

static int add_name(void *arg, const struct store_record *r, struct err **e)
{
	strcat(strcat(strcat(arg, r->project), "/"), r->name);
	return 0;
}

static void revisions_are_compared(void **state)
{
	struct store *s = *state;

	assert_int_equal(apply1(s, (struct store_change)PUT("1", "p", "a", 1, 0), NULL), 0);
	assert_int_equal(apply1(s, (struct store_change)PUT("1", "p", "a", 1, 0),
				"vm 'a' exists already"),
			 -EEXIST);
	assert_int_equal(apply1(s, (struct store_change)PUT("1", "p", "a", 2, 1), NULL), 0);
	assert_int_equal(apply1(s, (struct store_change)PUT("1", "p", "a", 2, 1),
				"vm 'a' was changed meanwhile (revision 2, not 1)"),
			 -ESTALE);
	assert_int_equal(apply1(s, (struct store_change)PUT("9", "p", "x", 2, 1),
				"there is no vm 'x'"),
			 -ENOENT);
	assert_int_equal(apply1(s, (struct store_change)DELETE("9", -1), NULL), -ENOENT);
	assert_int_equal(apply1(s, (struct store_change)DELETE("1", 1), NULL), -ESTALE);
	assert_int_equal(apply1(s, (struct store_change)DELETE("1", 2), NULL), 0);
}

static void names_are_unique_in_a_project(void **state)
{
	struct store *s = *state;

	assert_int_equal(apply1(s, (struct store_change)PUT("1", "p", "a", 1, 0), NULL), 0);
	assert_int_equal(apply1(s, (struct store_change)PUT("2", "p", "a", 1, 0),
				"vm 'a' exists already"),
			 -EEXIST);
	assert_int_equal(apply1(s, (struct store_change)PUT("2", "q", "a", 1, 0), NULL), 0);
	/* a rename frees the old name */
	assert_int_equal(apply1(s, (struct store_change)PUT("1", "p", "b", 2, 1), NULL), 0);
	assert_int_equal(apply1(s, (struct store_change)PUT("3", "p", "a", 1, 0), NULL), 0);
}

static void a_batch_is_all_or_nothing(void **state)
{
	struct store_change batch[] = { PUT("1", "p", "a", 1, 0), PUT("2", "p", "b", 1, 0),
					DELETE("9", -1) };
	char names[64] = "";

	assert_int_equal(store_apply(*state, batch, 3, NULL), -ENOENT);
	assert_int_equal(store_load(*state, add_name, names, NULL), 0);
	assert_string_equal(names, "");
	assert_int_equal(store_apply(*state, batch, 2, NULL), 0);
	assert_int_equal(store_load(*state, add_name, names, NULL), 0);
	assert_true(streq(names, "p/ap/b") || streq(names, "p/bp/a"));
}

static void sqlite_keeps_what_was_applied(void **state)
{
	char names[64] = "";

	assert_int_equal(apply1(*state, (struct store_change)PUT("1", "p", "a", 1, 0), NULL), 0);
	store_free(*state);
	assert_int_equal(store_open_sqlite(path, (struct store **)state, NULL), 0);
	assert_int_equal(store_load(*state, add_name, names, NULL), 0);
	assert_string_equal(names, "p/a");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(revisions_are_compared, setup_mem, teardown),
		cmocka_unit_test_setup_teardown(revisions_are_compared, setup_sqlite, teardown),
		cmocka_unit_test_setup_teardown(names_are_unique_in_a_project, setup_mem, teardown),
		cmocka_unit_test_setup_teardown(names_are_unique_in_a_project, setup_sqlite,
						teardown),
		cmocka_unit_test_setup_teardown(a_batch_is_all_or_nothing, setup_mem, teardown),
		cmocka_unit_test_setup_teardown(a_batch_is_all_or_nothing, setup_sqlite, teardown),
		cmocka_unit_test_setup_teardown(sqlite_keeps_what_was_applied, setup_sqlite,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
