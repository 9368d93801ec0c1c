/* Event loop: timers on a virtual clock, removal inside callbacks, signals, children, posts. */
#include "unit.h"
#include <pthread.h>
#include <sys/wait.h>
#include "base/loop.h"

static char trace[64];

static void note(const char *s)
{
	strncat(trace, s, sizeof(trace) - strlen(trace) - 1);
}

static int setup(void **state)
{
	trace[0] = '\0';
	return 0;
}

static void note_name(struct timer *t)
{
	note(t->name);
}

static void stop(struct timer *t)
{
	loop_stop(t->loop ? t->loop : t->data, 7);
}

static void a_day_in_a_millisecond(void **state)
{
	_cleanup_(loop_freep) struct loop *l = NULL;
	struct timer hourly = { 0 }, end = { 0 }, b = { 0 }, a = { 0 };
	struct clock c;

	clock_virtual_init(&c);
	assert_int_equal(loop_new(&c, &l), 0);
	end.data = l;
	timer_start(l, &hourly, "h", 3600 * NSEC_PER_SEC, 3600 * NSEC_PER_SEC, note_name);
	timer_start(l, &end, "end", 24 * 3600 * NSEC_PER_SEC + 1, 0, stop);
	timer_start(l, &a, "a", NSEC_PER_SEC, 0, note_name);
	timer_start(l, &b, "b", NSEC_PER_SEC, 0, note_name);
	assert_int_equal(loop_run(l), 7);
	assert_string_equal(trace, "abhhhhhhhhhhhhhhhhhhhhhhhh");
	assert_true(loop_now(l) == 24 * 3600 * NSEC_PER_SEC + 1);
	timer_stop(&hourly);
	timer_stop(&hourly);
}

static void many_timers_fire_in_order(void **state)
{
	enum { N = 500 };
	_cleanup_(loop_freep) struct loop *l = NULL;
	static struct timer t[N];
	struct clock c;
	nsec_t last = -1;

	clock_virtual_init(&c);
	loop_new(&c, &l);
	for (int i = 0; i < N; i++)
		timer_start(l, &t[i], "t", (i * 7919) % N + 1, 0, note_name);
	for (int i = 0; i < N; i += 3)
		timer_stop(&t[i]);
	while (loop_once(l, 1000000) > 0) {
		assert_true(loop_now(l) > last);
		last = loop_now(l);
	}
	for (int i = 0; i < N; i++)
		assert_false(timer_active(&t[i]));
}

static struct watch w1, w2;

static void remove_other(struct watch *w, uint32_t events)
{
	note("x");
	watch_remove(w == &w1 ? &w2 : &w1);
}

static void a_callback_may_remove_a_ready_watch(void **state)
{
	_cleanup_(loop_freep) struct loop *l = NULL;
	int p1[2], p2[2];

	loop_new(NULL, &l);
	assert_int_equal(pipe(p1) | pipe(p2), 0);
	assert_int_equal(write(p1[1], "x", 1) + write(p2[1], "x", 1), 2);
	assert_int_equal(watch_fd(l, &w1, "1", p1[0], EPOLLIN, remove_other), 0);
	assert_int_equal(watch_fd(l, &w2, "2", p2[0], EPOLLIN, remove_other), 0);
	assert_int_equal(watch_fd(l, &w2, "2", p1[0], EPOLLIN, remove_other), -EBUSY);
	loop_once(l, 0);
	assert_string_equal(trace, "x");
	watch_remove(&w1);
	watch_remove(&w2);
	close(p1[0]);
	close(p1[1]);
	close(p2[0]);
	close(p2[1]);
}

static void got_child(struct watch *w, const siginfo_t *si)
{
	assert_int_equal(si->si_code, CLD_EXITED);
	assert_int_equal(si->si_status, 5);
	assert_false(watch_active(w));
	loop_stop(w->data, 1);
}

static void children_are_reaped(void **state)
{
	_cleanup_(loop_freep) struct loop *l = NULL;
	struct watch w = { 0 };
	pid_t pid;

	loop_new(NULL, &l);
	w.data = l;
	pid = fork();
	if (pid == 0)
		_exit(5);
	assert_int_equal(watch_child(l, &w, "child", pid, got_child), 0);
	assert_int_equal(loop_run(l), 1);
	assert_int_equal(waitpid(pid, NULL, WNOHANG), -1);
}

static void got_signal(struct watch *w, const struct signalfd_siginfo *si)
{
	assert_int_equal(si->ssi_signo, SIGUSR1);
	loop_stop(w->loop, 2);
}

static void signals_arrive(void **state)
{
	_cleanup_(loop_freep) struct loop *l = NULL;
	struct watch w = { 0 };

	loop_new(NULL, &l);
	assert_int_equal(watch_signal(l, &w, "usr1", SIGUSR1, got_signal), 0);
	kill(getpid(), SIGUSR1);
	assert_int_equal(loop_run(l), 2);
	watch_remove(&w);
}

static int posted;

static void count_post(void *arg)
{
	if (++posted == 1000)
		loop_stop(arg, 3);
}

static void *poster(void *arg)
{
	for (int i = 0; i < 500; i++)
		loop_post(arg, count_post, arg);
	return NULL;
}

static void other_threads_post(void **state)
{
	_cleanup_(loop_freep) struct loop *l = NULL;
	pthread_t a, b;

	loop_new(NULL, &l);
	pthread_create(&a, NULL, poster, l);
	pthread_create(&b, NULL, poster, l);
	assert_int_equal(loop_run(l), 3);
	pthread_join(a, NULL);
	pthread_join(b, NULL);
	assert_int_equal(posted, 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(a_day_in_a_millisecond, setup),
		cmocka_unit_test_setup(many_timers_fire_in_order, setup),
		cmocka_unit_test_setup(a_callback_may_remove_a_ready_watch, setup),
		cmocka_unit_test_setup(children_are_reaped, setup),
		cmocka_unit_test_setup(signals_arrive, setup),
		cmocka_unit_test_setup(other_threads_post, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
