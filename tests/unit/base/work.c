/* Worker pool: everything submitted is done exactly once, cancelled or not. */
#include "unit.h"
#include <errno.h>
#include "base/work.h"

enum { N = 200 };

static struct work works[N];
static int ran, finished;

static void run(struct work *w)
{
	__atomic_fetch_add(&ran, 1, __ATOMIC_RELAXED);
	if ((w - works) % 10 == 0)
		usleep(1000);
}

static void done(struct work *w)
{
	if (++finished == N && w->data)
		loop_stop(w->data, 1);
}

static int setup(void **state)
{
	memset(works, 0, sizeof(works));
	ran = finished = 0;
	return 0;
}

static void all_are_done(void **state)
{
	_cleanup_(loop_freep) struct loop *l = NULL;
	_cleanup_(work_pool_freep) struct work_pool *p = NULL;

	loop_new(NULL, &l);
	assert_int_equal(work_pool_new(l, 4, &p), 0);
	for (int i = 0; i < N; i++) {
		works[i].data = l;
		assert_int_equal(work_submit(p, &works[i], run, done), 0);
	}
	assert_int_equal(loop_run(l), 1);
	assert_int_equal(ran, N);
}

static void freeing_cancels_and_still_calls_back(void **state)
{
	_cleanup_(loop_freep) struct loop *l = NULL;
	struct work_pool *p = NULL;

	loop_new(NULL, &l);
	assert_int_equal(work_pool_new(l, 1, &p), 0);
	for (int i = 0; i < N; i++)
		work_submit(p, &works[i], run, done);
	work_pool_free(p);
	assert_int_equal(finished, N);
	assert_true(ran < N);
	work_pool_free(NULL);
}

static void waiting_calls_done_at_once(void **state)
{
	_cleanup_(loop_freep) struct loop *l = NULL;
	_cleanup_(work_pool_freep) struct work_pool *p = NULL;

	loop_new(NULL, &l);
	assert_int_equal(work_pool_new(l, 1, &p), 0);
	for (int i = 0; i < 3; i++)
		work_submit(p, &works[i], run, done);
	work_wait(&works[1]);
	assert_true(ran >= 2);
	assert_int_equal(finished, 1);
	work_pool_free(TAKE(p));
	assert_int_equal(finished, 3);
}

static void a_stopped_pool_takes_nothing(void **state)
{
	_cleanup_(loop_freep) struct loop *l = NULL;
	_cleanup_(work_pool_freep) struct work_pool *p = NULL;

	loop_new(NULL, &l);
	assert_int_equal(work_pool_new(l, 1, &p), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(work_submit(p, &works[i], run, done), 0);
	work_pool_stop(p);
	assert_int_equal(finished, 3);
	assert_int_equal(work_submit(p, &works[3], run, done), -ESHUTDOWN);
	work_pool_stop(p);
	assert_int_equal(finished, 3);
}

static void wait_for_cancel(struct work *w)
{
	while (!work_cancelled(w))
		usleep(100);
}

static void stop_loop(struct work *w)
{
	loop_stop(w->data, 2);
}

static void a_running_work_sees_the_cancel(void **state)
{
	_cleanup_(loop_freep) struct loop *l = NULL;
	_cleanup_(work_pool_freep) struct work_pool *p = NULL;

	loop_new(NULL, &l);
	assert_int_equal(work_pool_new(l, 1, &p), 0);
	works[0].data = l;
	work_submit(p, &works[0], wait_for_cancel, stop_loop);
	usleep(2000);
	work_cancel(&works[0]);
	assert_int_equal(loop_run(l), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(all_are_done, setup),
		cmocka_unit_test_setup(freeing_cancels_and_still_calls_back, setup),
		cmocka_unit_test_setup(waiting_calls_done_at_once, setup),
		cmocka_unit_test_setup(a_stopped_pool_takes_nothing, setup),
		cmocka_unit_test_setup(a_running_work_sees_the_cancel, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
