/* Fault points and state machines. */
#include <errno.h>
#include <sys/wait.h>
#include "unit.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/sm.h"

/* Runs fn in a child with $STRATA_FAULT set; returns its wait status. */
static int in_child(const char *spec, int (*fn)(void))
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		setenv("STRATA_FAULT", spec, 1);
		fclose(stderr);
		fault_init();
		_exit(fn());
	}
	waitpid(pid, &status, 0);
	return status;
}

static int second_fails(void)
{
	return FAULT_POINT("a.b") == 0 && FAULT_POINT("c.d") == 0 && FAULT_POINT("a.b") == -EIO &&
	       FAULT_POINT("a.b") == 0;
}

static int die(void)
{
	return FAULT_POINT("x") + FAULT_POINT("y");
}

static int slow(void)
{
	nsec_t t = now_mono();

	return FAULT_POINT("x") == 0 && now_mono() - t >= 20 * NSEC_PER_MSEC;
}

static void faults_do_what_the_variable_says(void **state)
{
	int status;

	assert_int_equal(WEXITSTATUS(in_child("a.b:2:EIO", second_fails)), 1);
	status = in_child("*:2:kill", die);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	assert_int_equal(WEXITSTATUS(in_child("x:0:delay=20;z:1:kill", slow)), 1);
	assert_int_equal(FAULT_POINT("a.b"), 0);
}

static void typing_errors_do_not_pass(void **state)
{
	assert_int_equal(WEXITSTATUS(in_child("a.b:2", die)), 2);
	assert_int_equal(WEXITSTATUS(in_child("a.b:2:EWHAT", die)), 2);
	assert_int_equal(WEXITSTATUS(in_child("a.b:x:kill", die)), 2);
}

enum { CREATED, RUNNING, STOPPED, N_STATES };
static const char *const names[] = { "created", "running", "stopped" };
static const uint32_t moves[N_STATES] = {
	[CREATED] = TO(RUNNING) | TO(STOPPED),
	[RUNNING] = TO(STOPPED),
};
static const struct sm sm = SM("vm 'a'", moves, names);

static void machines_move_by_table(void **state)
{
	struct err *e = NULL;
	unsigned int s = CREATED;

	assert_int_equal(sm_move(&sm, &s, RUNNING, NULL), 0);
	assert_int_equal(sm_move(&sm, &s, CREATED, &e), -EBUSY);
	assert_string_equal(err_msg(e), "vm 'a': cannot go from running to created");
	err_free(e);
	assert_int_equal(s, RUNNING);
	assert_false(sm_may(&sm, STOPPED, RUNNING));
	assert_false(sm_may(&sm, 99, 0));
	assert_string_equal(sm_name(&sm, 99), "?");
	assert_int_equal(sm_parse(&sm, "stopped"), STOPPED);
	assert_int_equal(sm_parse(&sm, "flying"), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(faults_do_what_the_variable_says),
		cmocka_unit_test(typing_errors_do_not_pass),
		cmocka_unit_test(machines_move_by_table),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
