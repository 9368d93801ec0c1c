/* Log lines: form, levels, escaping, limits. */
#include "unit.h"
#define LOG_MODULE "test"
#include "base/log.h"
#include "base/str.h"

static int fds[2];

static const char *line(void)
{
	static char b[1024];
	ssize_t n = read(fds[0], b, sizeof(b) - 1);

	b[n > 0 ? n : 0] = '\0';
	return b;
}

static int setup(void **state)
{
	setenv("JOURNAL_STREAM", "1:1", 1);
	log_set_level(NULL, LOG_INFO);
	log_setup(NULL, fds[1], LOG_TEXT);
	return 0;
}

static void fields_by_type(void **state)
{
	uint8_t small = 7;

	log_warn("msg", "s", "a b", "i", -1, "u", (uint64_t)1 << 63, "small", small, "b",
		 (bool)true);
	assert_string_equal(line(),
			    "warn test: msg s=\"a b\" i=-1 u=9223372036854775808 small=7 b=true\n");
	log_info("bare");
	assert_string_equal(line(), "info test: bare\n");
}

static void outside_text_cannot_forge_a_line(void **state)
{
	log_info("x", "name", "a\nerror test: forged");
	assert_string_equal(line(), "info test: x name=\"a\\nerror test: forged\"\n");
}

static void levels_by_module(void **state)
{
	_cleanup_(err_freep) struct err *e = NULL;

	log_debug("hidden");
	log_info("seen");
	assert_string_equal(line(), "info test: seen\n");
	assert_int_equal(log_set_levels("error,test=debug", &e), 0);
	log_debug("now seen");
	assert_string_equal(line(), "debug test: now seen\n");
	assert_int_equal(log_set_levels("test=info,info", &e), 0);
	assert_int_equal(log_set_levels("loud", &e), -EINVAL);
	assert_true(strstr(err_msg(e), "'loud'") != NULL);
}

static void json_lines(void **state)
{
	log_setup(NULL, fds[1], LOG_JSON);
	log_err("m\"", "k", 1.5);
	assert_true(
		strstr(line(),
		       "\"level\":\"error\",\"module\":\"test\",\"msg\":\"m\\\"\",\"k\":1.5}\n") !=
		NULL);
}

static void limited_lines_say_what_was_dropped(void **state)
{
	static struct ratelimit rl = LOG_RATE(10, 2);

	for (int i = 0; i < 10; i++)
		log_warn_rl(&rl, "noisy", "i", i);
	assert_string_equal(line(), "warn test: noisy i=0\nwarn test: noisy i=1\n");
	usleep(250000);
	log_warn_rl(&rl, "noisy", "i", 10);
	assert_string_equal(line(), "warn test: noisy suppressed=8 i=10\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(fields_by_type, setup),
		cmocka_unit_test_setup(outside_text_cannot_forge_a_line, setup),
		cmocka_unit_test_setup(levels_by_module, setup),
		cmocka_unit_test_setup(json_lines, setup),
		cmocka_unit_test_setup(limited_lines_say_what_was_dropped, setup),
	};

	if (pipe(fds) < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
