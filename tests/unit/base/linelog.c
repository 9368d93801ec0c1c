/* Log files of containers: formats, parts of lines, rotation, a full disk. */
#include "unit.h"
#include <fcntl.h>
#include <sys/resource.h>
#include <signal.h>
#include "base/atomicfile.h"
#include "base/linelog.h"

#define AT 1763706600123456789LL /* 2025-11-21T06:30:00.123456789Z */

static char dir[] = "/tmp/strata-unit-log.XXXXXX";
static char path[64];

static int setup(void **state)
{
	strcpy(dir, "/tmp/strata-unit-log.XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/log", dir);
	return 0;
}

static int teardown(void **state)
{
	char cmd[128];

	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", dir);
	return system(cmd);
}

static const char *text(struct buf *b, const char *suffix)
{
	char name[80];

	buf_clear(b);
	snprintf(name, sizeof(name), "%s%s", path, suffix);
	if (file_read(AT_FDCWD, name, 1 << 20, b, NULL) < 0)
		return "(none)";
	return buf_str(b);
}

static void json_lines(void **state)
{
	static struct linelog l;
	_cleanup_(buf_done) struct buf b = { 0 };

	assert_int_equal(linelog_open(&l, path, LINELOG_JSON, 0, 0, NULL), 0);
	linelog_add(&l, 0, "he", 2, AT);
	assert_string_equal(text(&b, ""), "");
	linelog_add(&l, 1, "err\n", 4, AT);
	linelog_add(&l, 0, "llo \"x\"\n\nrest", 13, AT);
	linelog_finish(&l, AT);
	assert_string_equal(
		text(&b, ""),
		"{\"log\":\"err\\n\",\"stream\":\"stderr\",\"time\":\"2025-11-21T06:30:00.123456789Z\"}\n"
		"{\"log\":\"hello \\\"x\\\"\\n\",\"stream\":\"stdout\",\"time\":\"2025-11-21T06:30:00.123456789Z\"}\n"
		"{\"log\":\"\\n\",\"stream\":\"stdout\",\"time\":\"2025-11-21T06:30:00.123456789Z\"}\n"
		"{\"log\":\"rest\",\"stream\":\"stdout\",\"time\":\"2025-11-21T06:30:00.123456789Z\"}\n");
	assert_int_equal(l.bytes, b.len);
	linelog_close(&l);
	linelog_close(&l);
}

static void cri_lines(void **state)
{
	static struct linelog l;
	_cleanup_(buf_done) struct buf b = { 0 };
	static char line[LINELOG_LINE_MAX];

	assert_int_equal(linelog_open(&l, path, LINELOG_CRI, 0, 0, NULL), 0);
	linelog_add(&l, 0, "one\ntwo", 7, AT);
	linelog_finish(&l, AT);
	assert_string_equal(text(&b, ""), "2025-11-21T06:30:00.123456789Z stdout F one\n"
					  "2025-11-21T06:30:00.123456789Z stdout F two\n");
	/* A line that is too long comes as parts, and is put together again by P and F. */
	memset(line, 'x', sizeof(line));
	linelog_add(&l, 1, line, sizeof(line), AT);
	linelog_add(&l, 1, "y\n", 2, AT);
	text(&b, "");
	assert_non_null(strstr(b.s, "Z stderr P xxx"));
	assert_non_null(strstr(b.s, "Z stderr F xy\n"));
	linelog_close(&l);
}

static void rotates(void **state)
{
	static struct linelog l;
	_cleanup_(buf_done) struct buf b = { 0 };

	assert_int_equal(linelog_open(&l, path, LINELOG_RAW, 8, 3, NULL), 0);
	for (int i = 0; i < 5; i++) {
		char s[8];

		snprintf(s, sizeof(s), "line %d\n", i);
		linelog_add(&l, 0, s, 7, AT);
	}
	assert_string_equal(text(&b, ""), "line 4\n");
	assert_string_equal(text(&b, ".1"), "line 3\n");
	assert_string_equal(text(&b, ".2"), "line 2\n");
	assert_string_equal(text(&b, ".3"), "(none)");
	linelog_close(&l);
	/* One file: it begins anew.  And a record larger than the limit is written whole. */
	assert_int_equal(linelog_open(&l, path, LINELOG_RAW, 8, 1, NULL), 0);
	linelog_add(&l, 0, "a long line that does not fit\n", 30, AT);
	assert_string_equal(text(&b, ""), "a long line that does not fit\n");
	linelog_close(&l);
}

static void reopens(void **state)
{
	static struct linelog l;
	_cleanup_(buf_done) struct buf b = { 0 };
	char other[80];

	assert_int_equal(linelog_open(&l, path, LINELOG_RAW, 0, 0, NULL), 0);
	linelog_add(&l, 0, "a\n", 2, AT);
	snprintf(other, sizeof(other), "%s.old", path);
	assert_int_equal(rename(path, other), 0);
	linelog_add(&l, 0, "b\n", 2, AT);
	assert_int_equal(linelog_reopen(&l, NULL), 0);
	linelog_add(&l, 0, "c\n", 2, AT);
	assert_string_equal(text(&b, ".old"), "a\nb\n");
	assert_string_equal(text(&b, ""), "c\n");
	linelog_close(&l);
}

static void counts_what_is_lost(void **state)
{
	static struct linelog l;
	struct rlimit old, small;

	assert_int_equal(linelog_open(&l, path, LINELOG_RAW, 0, 0, NULL), 0);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	small = old;
	small.rlim_cur = 2;
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	linelog_add(&l, 0, "ab", 2, AT);
	linelog_add(&l, 0, "lost", 4, AT);
	setrlimit(RLIMIT_FSIZE, &old);
	assert_int_equal(l.dropped, 4);
	assert_int_equal(l.fault, EFBIG);
	linelog_add(&l, 0, "cd", 2, AT);
	assert_int_equal(l.fault, 0);
	assert_int_equal(l.bytes, 4);
	linelog_close(&l);
}

static void names(void **state)
{
	enum linelog_format f;

	assert_int_equal(linelog_format_from_name("cri", &f), 0);
	assert_int_equal(f, LINELOG_CRI);
	assert_int_equal(linelog_format_from_name("syslog", &f), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(json_lines, setup, teardown),
		cmocka_unit_test_setup_teardown(cri_lines, setup, teardown),
		cmocka_unit_test_setup_teardown(rotates, setup, teardown),
		cmocka_unit_test_setup_teardown(reopens, setup, teardown),
		cmocka_unit_test_setup_teardown(counts_what_is_lost, setup, teardown),
		cmocka_unit_test(names),
	};

	return cmocka_run_group_tests_name("linelog", tests, NULL, NULL);
}
