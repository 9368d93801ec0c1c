/* The pure parts of instances: restart policy, plans, health, lines of logs, users of an image. */
#include "node/engine/container.h"
#include "node/instance/instance.h"
#include "node/instance/logs.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "base/clock.h"
#include "base/str.h"
#include "unit.h"

static void restart_policy(void **state)
{
	struct api_restart_policy p = { .mode = API_RESTART_MODE_ON_FAILURE,
					.max_retries = 2,
					.delay = NSEC_PER_SEC };
	struct restart r = { 0 };
	nsec_t d = 0;

	assert_int_equal(restart_ended(&r, &p, 0, false, 0, &d), RESTART_NOT);
	assert_int_equal(restart_ended(&r, &p, 1, true, 0, &d), RESTART_NOT);
	assert_int_equal(restart_ended(&r, &p, 1, false, 0, &d), RESTART_AFTER);
	assert_int_equal(d, NSEC_PER_SEC);
	assert_int_equal(restart_ended(&r, &p, 1, false, 0, &d), RESTART_AFTER);
	assert_int_equal(d, 2 * NSEC_PER_SEC);
	assert_int_equal(restart_ended(&r, &p, 1, false, 0, &d), RESTART_GIVE_UP);
	/* a good run begins the row anew */
	assert_int_equal(restart_ended(&r, &p, 1, false, RESTART_GOOD, &d), RESTART_AFTER);
	assert_int_equal(d, NSEC_PER_SEC);
	assert_int_equal(r.total, 3);
	p.mode = API_RESTART_MODE_ALWAYS;
	p.max_retries = 0;
	restart_reset(&r);
	for (int k = 0; k < 1000; k++) {
		assert_int_equal(restart_ended(&r, &p, 0, false, 0, &d), RESTART_AFTER);
		assert_true(d >= NSEC_PER_SEC && d <= RESTART_DELAY_MAX);
	}
	assert_int_equal(d, RESTART_DELAY_MAX);
	assert_true(restart_at_boot(&p, false, false, true));
	p.mode = API_RESTART_MODE_UNLESS_STOPPED;
	assert_true(restart_at_boot(&p, false, true, false));
	assert_false(restart_at_boot(&p, false, true, true));
	p.mode = API_RESTART_MODE_NO;
	assert_false(restart_at_boot(&p, false, true, false));
	assert_true(restart_at_boot(&p, true, false, true));
}

static char *joined(char **v)
{
	static char b[512];

	b[0] = '\0';
	for (char **s = v; s && *s; s++) {
		strcat(b, *s);
		strcat(b, "|");
	}
	strv_free(v);
	return b;
}

static void commands(void **state)
{
	_cleanup_(strv_freep) char **entry = strv_split("/entry -x", " ");
	_cleanup_(strv_freep) char **cmd = strv_split("run", " ");
	_cleanup_(api_instance_spec_done) struct api_instance_spec s = { 0 };

	assert_int_equal(api_instance_spec_init(&s), 0);
	assert_string_equal(joined(plan_args(&s, entry, cmd)), "/entry|-x|run|");
	assert_string_equal(joined(plan_args(&s, NULL, cmd)), "run|");
	assert_string_equal(joined(plan_args(&s, NULL, NULL)), "");
	vec_push(&s.command, strdup("mine"));
	assert_string_equal(joined(plan_args(&s, entry, cmd)), "/entry|-x|mine|");
	vec_push(&s.entrypoint, strdup("/own"));
	assert_string_equal(joined(plan_args(&s, entry, cmd)), "/own|mine|");
	free(s.command.v[0]);
	s.command.n = 0;
	/* the image's command was the argument of its own entry point */
	assert_string_equal(joined(plan_args(&s, entry, cmd)), "/own|");
}

static void environment(void **state)
{
	_cleanup_(strv_freep) char **image = strv_split("PATH=/bin A=image B=image", " ");
	_cleanup_(api_instance_spec_done) struct api_instance_spec s = { 0 };

	assert_int_equal(api_instance_spec_init(&s), 0);
	gen_map_set(&s.env, "A", "mine");
	assert_string_equal(joined(plan_env(&s, image)), "PATH=/bin|B=image|A=mine|");
	s.tty = true;
	assert_string_equal(joined(plan_env(&s, image)), "PATH=/bin|B=image|A=mine|TERM=xterm|");
	assert_non_null(strstr(joined(plan_env(&s, NULL)), "PATH=/usr/local/sbin:"));
}

static void signals(void **state)
{
	assert_int_equal(signal_number("SIGTERM"), SIGTERM);
	assert_int_equal(signal_number("term"), SIGTERM);
	assert_int_equal(signal_number("9"), SIGKILL);
	assert_int_equal(signal_number("RTMIN+3"), 37);
	assert_int_equal(signal_number("SIGNONE"), 0);
	assert_int_equal(signal_number("65"), 0);
}

static void health(void **state)
{
	struct api_health_check c = { .retries = 2, .start_period = 10 * NSEC_PER_SEC };
	struct health h = { .state = API_HEALTH_STATE_STARTING };

	assert_int_equal(health_result(&h, &c, false, NSEC_PER_SEC), API_HEALTH_STATE_STARTING);
	assert_int_equal(h.failures, 0); /* in the start period */
	assert_int_equal(health_result(&h, &c, true, 2 * NSEC_PER_SEC), API_HEALTH_STATE_HEALTHY);
	assert_int_equal(health_result(&h, &c, false, 3 * NSEC_PER_SEC), API_HEALTH_STATE_HEALTHY);
	assert_int_equal(health_result(&h, &c, false, 4 * NSEC_PER_SEC),
			 API_HEALTH_STATE_UNHEALTHY);
	assert_int_equal(health_result(&h, &c, true, 5 * NSEC_PER_SEC), API_HEALTH_STATE_HEALTHY);
}

static bool line(const struct log_want *w, const char *text, bool *fresh, struct buf *b)
{
	return log_line_add(w, text, strlen(text), fresh, b);
}

static void log_lines(void **state)
{
	struct log_want w = { .out = true };
	_cleanup_(buf_done) struct buf b = { 0 };
	bool fresh = true;

	assert_true(line(&w, "2026-11-21T08:00:00.000000000Z stdout F one", &fresh, &b));
	assert_false(line(&w, "2026-11-21T08:00:00.000000000Z stderr F err", &fresh, &b));
	assert_true(line(&w, "2026-11-21T08:00:01.000000000Z stdout P tw", &fresh, &b));
	assert_false(fresh);
	assert_true(line(&w, "2026-11-21T08:00:01.000000000Z stdout F o", &fresh, &b));
	assert_string_equal(buf_str(&b), "one\ntwo\n");
	assert_false(line(&w, "", &fresh, &b));
	assert_false(line(&w, "nothing of ours", &fresh, &b));
	assert_false(line(&w, "x stdout F", &fresh, &b));
	buf_clear(&b);
	w.timestamps = true;
	assert_true(line(&w, "2026-11-21T08:00:00.000000000Z stdout F ", &fresh, &b));
	assert_string_equal(buf_str(&b), "2026-11-21T08:00:00.000000000Z \n");
	assert_int_equal(parse_time("2026-11-21T08:00:00Z", &w.since), 0);
	assert_false(line(&w, "2026-11-21T07:59:59.000000000Z stdout F old", &fresh, &b));
}

static void put(const char *dir, const char *name, const char *text)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "we");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void users(void **state)
{
	char dir[] = "/tmp/strata-unit.XXXXXX", etc[64];
	struct ct_user u;

	assert_non_null(mkdtemp(dir));
	snprintf(etc, sizeof(etc), "%s/etc", dir);
	assert_int_equal(mkdir(etc, 0755), 0);
	put(etc, "passwd",
	    "root:x:0:0:root:/root:/bin/sh\nbroken\napp:x:1000:1001:App:/home/app:/bin/sh\n");
	put(etc, "group", "root:x:0:\napp:x:1001:\nvideo:x:44:x,app\n");
	assert_int_equal(ct_user_find(dir, NULL, &u, NULL), 0);
	assert_int_equal(u.uid, 0);
	assert_int_equal(ct_user_find(dir, "app", &u, NULL), 0);
	assert_int_equal(u.uid, 1000);
	assert_int_equal(u.gid, 1001);
	assert_string_equal(u.home, "/home/app");
	assert_int_equal(u.n_groups, 1);
	assert_int_equal(u.groups[0], 44);
	assert_int_equal(ct_user_find(dir, "1000:video", &u, NULL), 0);
	assert_int_equal(u.gid, 44);
	assert_int_equal(ct_user_find(dir, "4242", &u, NULL), 0);
	assert_int_equal(u.uid, 4242);
	assert_int_equal(u.gid, 0);
	assert_int_equal(ct_user_find(dir, "nobody", &u, NULL), -ENOENT);
	assert_int_equal(ct_user_find(dir, "app:none", &u, NULL), -ENOENT);
	put(etc, "passwd", "");
	put(etc, "group", "");
	assert_int_equal(ct_user_find(dir, "app", &u, NULL), -ENOENT);
	snprintf(etc, sizeof(etc), "%s/etc/passwd", dir);
	unlink(etc);
	snprintf(etc, sizeof(etc), "%s/etc/group", dir);
	unlink(etc);
	snprintf(etc, sizeof(etc), "%s/etc", dir);
	rmdir(etc);
	rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(restart_policy), cmocka_unit_test(commands),
		cmocka_unit_test(environment),	  cmocka_unit_test(signals),
		cmocka_unit_test(health),	  cmocka_unit_test(log_lines),
		cmocka_unit_test(users),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
