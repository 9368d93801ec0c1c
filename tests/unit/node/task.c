/* Tasks: order, undo, cancel, and a crash before every step of a task and of its undoing. */
#include <errno.h>
#include "unit.h"
#include "base/str.h"
#include "node/task.h"

static struct clock clk;
static struct loop *loop;
static struct inventory *inv;
static struct tasks *tasks;
static char path[40];

/* The world that the steps change: one letter a step that is done. */
static char world[8], trace[256];
static int fail_at,
	crash_after; /* numbers of steps; crash: stop calling back after so many runs and undos */
static struct task *hanging;

static bool crashed(struct task *t)
{
	if (crash_after-- != 0)
		return false;
	hanging = t;
	return true;
}

static void run(struct task *t)
{
	char c = t->verb->steps[t->step].name[0];

	strncat(trace, &c, 1);
	if (crashed(t))
		return; /* killed before the work */
	if ((int)t->step == fail_at) {
		struct err *e = NULL;

		err_set(&e, EIO, "x.y", "step %c broke", c);
		task_fail(t, e);
		return;
	}
	world[t->step] = c;
	if (crashed(t))
		return; /* killed after it */
	task_next(t);
}

static void undo(struct task *t)
{
	char c = t->verb->steps[t->step].name[0] - 'a' + 'A';

	strncat(trace, &c, 1);
	if (crashed(t))
		return;
	world[t->step] = '.';
	if (crashed(t))
		return;
	task_next(t);
}

static void cancel(struct task *t)
{
	task_fail(t, NULL);
}

static void wait_forever(struct task *t)
{
	hanging = t;
}

static int open_fails(struct task *t, struct err **e)
{
	return err_set(e, ENOENT, "t.gone", "the target is gone");
}

static const struct task_step steps[] = { { "a", run, undo },
					  { "b", run, undo },
					  { "c", run, undo } };
static const struct task_step waits[] = { { "a", run, undo }, { "w", wait_forever, undo } };
static const struct task_verb make = { .name = "make", .steps = steps, .n_steps = 3 };
static const struct task_verb drop = {
	.name = "drop", .steps = steps, .n_steps = 3, .forward = true
};
static const struct task_verb hang = {
	.name = "hang", .steps = waits, .n_steps = 2, .cancel = cancel
};
static const struct task_verb gone = {
	.name = "gone", .steps = steps, .n_steps = 3, .open = open_fails
};
static const struct task_verb *const verbs[] = { &make, &drop, &hang, &gone, NULL };

static void open_all(void)
{
	struct store *s;

	assert_int_equal(store_open_sqlite(path, &s, NULL), 0);
	assert_int_equal(inventory_open(s, loop, &inv, NULL), 0);
	assert_int_equal(tasks_new(inv, verbs, NULL, &tasks, NULL), 0);
}

static int setup(void **state)
{
	strcpy(path, "/tmp/strata-unit-XXXXXX");
	close(mkstemp(path));
	strcpy(world, "...");
	trace[0] = '\0';
	fail_at = -1;
	crash_after = -1;
	hanging = NULL;
	clock_virtual_init(&clk);
	assert_int_equal(loop_new(&clk, &loop), 0);
	open_all();
	return 0;
}

static int teardown(void **state)
{
	tasks_free(tasks);
	inventory_close(inv);
	loop_free(loop);
	return unlink(path);
}

/* As after kill -9: memory is gone, what is on disk stays. */
static void restart(void)
{
	tasks_free(tasks);
	inventory_close(inv);
	hanging = NULL;
	crash_after = -1;
	open_all();
	assert_int_equal(tasks_recover(tasks, NULL), 0);
}

static struct object *submit(const char *verb, const char *target)
{
	struct object *o = NULL;

	assert_int_equal(task_submit(tasks,
				     &(struct task_request){ .verb = verb, .target = target }, &o,
				     NULL),
			 0);
	return o;
}

static const char *state_of(struct object *o)
{
	return json_str(json_get(o->status, "state"));
}

static void steps_run_in_order(void **state)
{
	struct object *o = submit("make", "x");

	assert_string_equal(state_of(o), "succeeded");
	assert_string_equal(trace, "abc");
	assert_int_equal(json_int(json_get(o->status, "progress"), 0), 100);
}

static void a_failure_is_undone_in_reverse(void **state)
{
	struct object *o;

	fail_at = 1;
	o = submit("make", "x");
	assert_string_equal(state_of(o), "failed");
	assert_string_equal(trace, "abBA");
	assert_string_equal(world, "...");
	assert_string_equal(json_str(json_walk(o->status, "error", "message", NULL)),
			    "step b broke");
}

static void one_target_one_task(void **state)
{
	struct object *first = submit("hang", "x"), *second = submit("make", "x"),
		      *other = submit("make", "y");

	assert_string_equal(state_of(first), "running");
	assert_string_equal(state_of(second), "queued");
	assert_string_equal(state_of(other), "succeeded");
	task_next(hanging);
	assert_string_equal(state_of(first), "succeeded");
	assert_string_equal(state_of(second), "succeeded");
}

static void cancelling(void **state)
{
	struct object *first = submit("hang", "x"), *second = submit("make", "x");
	struct err *e = NULL;

	assert_int_equal(task_cancel(tasks, second->id, NULL), 0);
	assert_string_equal(state_of(second), "cancelled");
	assert_int_equal(task_cancel(tasks, first->id, NULL), 0);
	assert_string_equal(state_of(first), "cancelled");
	assert_string_equal(world, "...");
	assert_int_equal(task_cancel(tasks, first->id, &e), -ENOENT);
	err_clear(&e);
}

static void unknown_and_gone(void **state)
{
	_cleanup_(err_freep) struct err *e = NULL;
	struct object *o = submit("gone", "x");

	assert_string_equal(state_of(o), "failed");
	assert_string_equal(trace, "");
	assert_int_equal(task_submit(tasks, &(struct task_request){ .verb = "fly" }, NULL, &e),
			 -EINVAL);
}

static struct object *only_task(void)
{
	return inventory_next(inv, "task", NULL);
}

static void a_crash_anywhere_is_undone(void **state)
{
	/* six stops on the way forward of three steps (before and after each one's work) */
	for (int stop = 0; stop < 6; stop++) {
		crash_after = stop;
		submit("make", "x");
		assert_non_null(hanging);
		restart();
		assert_string_equal(world, "...");
		assert_string_equal(state_of(only_task()), "failed");
		assert_string_equal(json_str(json_walk(only_task()->status, "error", "id", NULL)),
				    "task.interrupted");
		inventory_delete(inv, only_task(), NULL);
	}
}

static void a_crash_while_undoing_is_undone(void **state)
{
	for (int stop = 5; stop < 11; stop++) {
		crash_after = stop;
		fail_at = 2;
		submit("make", "x");
		if (!hanging)
			fail_msg("stop %d did not happen", stop);
		restart();
		fail_at = -1;
		assert_string_equal(world, "...");
		inventory_delete(inv, only_task(), NULL);
	}
}

static void a_forward_verb_is_finished(void **state)
{
	for (int stop = 0; stop < 6; stop++) {
		strcpy(world, "...");
		crash_after = stop;
		submit("drop", "x");
		restart();
		assert_string_equal(world, "abc");
		assert_string_equal(state_of(only_task()), "succeeded");
		inventory_delete(inv, only_task(), NULL);
	}
}

static void what_waited_is_started(void **state)
{
	submit("hang", "x");
	submit("make", "x");
	restart();
	assert_string_equal(world, "abc");
	assert_string_equal(state_of(only_task()), "failed");
	assert_string_equal(state_of(inventory_next(inv, "task", only_task())), "succeeded");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(steps_run_in_order, setup, teardown),
		cmocka_unit_test_setup_teardown(a_failure_is_undone_in_reverse, setup, teardown),
		cmocka_unit_test_setup_teardown(one_target_one_task, setup, teardown),
		cmocka_unit_test_setup_teardown(cancelling, setup, teardown),
		cmocka_unit_test_setup_teardown(unknown_and_gone, setup, teardown),
		cmocka_unit_test_setup_teardown(a_crash_anywhere_is_undone, setup, teardown),
		cmocka_unit_test_setup_teardown(a_crash_while_undoing_is_undone, setup, teardown),
		cmocka_unit_test_setup_teardown(a_forward_verb_is_finished, setup, teardown),
		cmocka_unit_test_setup_teardown(what_waited_is_started, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
