/* Error chains. */
#include "unit.h"
#include "base/err.h"
#include "base/str.h"

static int inner(struct err **e)
{
	return err_set(e, EBUSY, "lock.held", "lock '%s': held by %s", "x", "n3");
}

static int outer(struct err **e)
{
	int r = inner(e);

	return err_wrap(e, r, "attach '%s'", "d0");
}

static void chain_reads_from_outside_in(void **state)
{
	_cleanup_(err_freep) struct err *e = NULL;

	assert_int_equal(outer(&e), -EBUSY);
	assert_string_equal(err_msg(e), "attach 'd0': lock 'x': held by n3");
	assert_string_equal(err_id(e), "lock.held");
	assert_int_equal(err_num(e), EBUSY);
}

static void null_chain_only_numbers(void **state)
{
	assert_int_equal(outer(NULL), -EBUSY);
	assert_int_equal(err_sys(NULL, ENOENT, "open"), -ENOENT);
	assert_string_equal(err_msg(NULL), "no error");
	assert_int_equal(err_num(NULL), 0);
	err_free(NULL);
}

static void sys_adds_the_errno_text(void **state)
{
	_cleanup_(err_freep) struct err *e = NULL;

	assert_int_equal(err_sys(&e, ENOENT, "open '%s'", "/x"), -ENOENT);
	assert_string_equal(err_msg(e), "open '/x': No such file or directory");
	assert_string_equal(err_id(e), "sys.ENOENT");
}

static void wrap_of_a_bare_number_makes_a_chain(void **state)
{
	_cleanup_(err_freep) struct err *e = NULL;

	assert_int_equal(err_wrap(&e, -EIO, "read"), -EIO);
	assert_string_equal(err_msg(e), "read: Input/output error");
}

static void the_first_fault_is_kept(void **state)
{
	_cleanup_(err_freep) struct err *e = NULL;

	err_set(&e, EINVAL, "a.b", "first");
	err_set(&e, EIO, "c.d", "second");
	assert_string_equal(err_msg(e), "first");
	err_clear(&e);
	assert_null(e);
}

static void long_ids_are_cut(void **state)
{
	_cleanup_(err_freep) struct err *e = NULL;

	err_set(&e, EINVAL, "0123456789012345678901234567890123456789012345678901234567890", "m");
	assert_int_equal(strlen(err_id(e)), ERR_ID_MAX - 1);
}

static void move_hands_over(void **state)
{
	_cleanup_(err_freep) struct err *a = NULL;
	struct err *b = NULL;

	err_set(&b, EINVAL, "a.b", "m");
	err_move(&a, &b);
	assert_null(b);
	assert_string_equal(err_msg(a), "m");
	err_set(&b, EIO, "c.d", "dropped");
	err_move(NULL, &b);
	assert_null(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(chain_reads_from_outside_in),
		cmocka_unit_test(null_chain_only_numbers),
		cmocka_unit_test(sys_adds_the_errno_text),
		cmocka_unit_test(wrap_of_a_bare_number_makes_a_chain),
		cmocka_unit_test(the_first_fault_is_kept),
		cmocka_unit_test(long_ids_are_cut),
		cmocka_unit_test(move_hands_over),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
