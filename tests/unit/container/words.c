/* Words from outside: signals, mount options, container ids, CPU shares. */
#include "unit.h"
#include <signal.h>
#include "container/lifecycle.h"
#include "container/mount_opts.h"
#include "sys/mountapi.h"

static void signals(void **state)
{
	assert_int_equal(signal_number("9"), SIGKILL);
	assert_int_equal(signal_number("KILL"), SIGKILL);
	assert_int_equal(signal_number("SIGterm"), SIGTERM);
	assert_int_equal(signal_number("RTMIN+3"), 37);
	assert_int_equal(signal_number("SIGRTMAX-1"), 63);
	assert_int_equal(signal_number("RTMIN+31"), -1);
	assert_int_equal(signal_number("65"), -1);
	assert_int_equal(signal_number("NONE"), -1);
	assert_int_equal(signal_number(""), -1);
}

static void mount_options(void **state)
{
	_cleanup_(arena_done) struct arena a = { 0 };
	char *words[] = { (char *)"ro",	    (char *)"nosuid",  (char *)"rnoexec", (char *)"rbind",
			  (char *)"rslave", (char *)"size=5m", (char *)"noatime", NULL };
	struct mount_opts o;

	mount_opts_parse(&a, words, &o);
	assert_true(o.bind && o.rbind && !o.remount);
	assert_true(o.attr_set & MOUNT_ATTR_RDONLY);
	assert_true(o.attr_set & MOUNT_ATTR_NOSUID);
	assert_true(o.attr_set & MOUNT_ATTR_NOATIME);
	assert_true(o.rattr_set == MOUNT_ATTR_NOEXEC);
	assert_int_equal(o.propagation, MS_SLAVE | MS_REC);
	assert_string_equal(o.sb[0], "size=5m");
	assert_string_equal(o.sb[1], "ro");
	assert_null(o.sb[2]);
}

static void last_word_counts(void **state)
{
	_cleanup_(arena_done) struct arena a = { 0 };
	char *words[] = { (char *)"ro", (char *)"rw", NULL };
	struct mount_opts o;

	mount_opts_parse(&a, words, &o);
	assert_false(o.attr_set & MOUNT_ATTR_RDONLY);
	assert_null(o.sb[0]);
}

static void ids(void **state)
{
	assert_true(container_id_valid("a-b_c.D+9"));
	assert_false(container_id_valid(""));
	assert_false(container_id_valid("."));
	assert_false(container_id_valid(".."));
	assert_false(container_id_valid("a/b"));
	assert_false(container_id_valid("a b"));
}

static void weights(void **state)
{
	assert_int_equal(cg_shares_to_weight(2), 1);
	assert_int_equal(cg_shares_to_weight(262144), 10000);
	assert_true(cg_shares_to_weight(1024) > 1 && cg_shares_to_weight(1024) < 10000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(signals),	    cmocka_unit_test(mount_options),
		cmocka_unit_test(last_word_counts), cmocka_unit_test(ids),
		cmocka_unit_test(weights),
	};

	return cmocka_run_group_tests_name("container/words", tests, NULL, NULL);
}
