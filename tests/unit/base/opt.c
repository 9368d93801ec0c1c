/* Option tables. */
#include <errno.h>
#include "unit.h"
#include "base/opt.h"
#include "base/str.h"

struct cfg {
	char *kernel;
	uint64_t memory, cpus;
	int64_t nice;
	nsec_t timeout;
	int format;
	bool verbose;
	opt_list disks;
};

static const char *const formats[] = { "raw", "qcow2", NULL };
static const struct opt opts[] = {
	OPT(struct cfg, kernel, STR, "kernel", 'k', "FILE", "kernel image to start"),
	OPT(struct cfg, memory, SIZE, "memory", 'm', "SIZE", "guest memory", .min = MIB),
	OPT(struct cfg, cpus, U64, "cpus", 0, "N", "virtual CPUs", .min = 1, .max = 255),
	OPT(struct cfg, nice, I64, "nice", 0, "N", "priority", .min = (uint64_t)-20, .max = 19),
	OPT(struct cfg, timeout, DURATION, "timeout", 't', "TIME", "give up after"),
	OPT(struct cfg, format, ENUM, "format", 'f', "FORMAT", "raw or qcow2", .choices = formats),
	OPT(struct cfg, verbose, FLAG, "verbose", 'v', NULL, "say more"),
	OPT(struct cfg, disks, LIST, "disk", 'd', "path=P,...", "a disk; may be repeated"),
	OPT_END
};

/* Parses a line of words; operands end up in *rest. */
static int parse(struct cfg *c, const char *line, bool stop, char **rest, struct err **e)
{
	static char copy[512];
	static char *argv[32];
	int argc = 1, n;

	strcpy(copy, line);
	argv[0] = (char *)"prog";
	for (char *w = strtok(copy, " "); w; w = strtok(NULL, " "))
		argv[argc++] = w;
	argv[argc] = NULL;
	n = opt_parse(opts, c, argc, argv, stop, e);
	if (rest)
		*rest = n > 0 ? argv[n] : NULL;
	return n;
}

static void all_forms(void **state)
{
	struct cfg c = { 0 };
	char *last;

	assert_int_equal(
		parse(&c,
		      "a --kernel=k -m 512M -vfqcow2 --cpus 4 -d x -dy b --nice=-5 -t30s -- --c",
		      false, &last, NULL),
		3);
	assert_string_equal(last, "--c");
	assert_string_equal(c.kernel, "k");
	assert_true(c.memory == 512 * MIB && c.cpus == 4 && c.format == 1 && c.verbose &&
		    c.nice == -5);
	assert_true(c.timeout == 30 * NSEC_PER_SEC);
	assert_int_equal(c.disks.n, 2);
	assert_string_equal(c.disks.v[1], "y");
	assert_int_equal(parse(&c, "--no-verbose", false, NULL, NULL), 0);
	assert_false(c.verbose);
	opt_done(opts, &c);
	assert_null(c.kernel);
	assert_int_equal(c.disks.n, 0);
}

static void the_first_operand_may_end_the_options(void **state)
{
	struct cfg c = { 0 };
	char *last;

	assert_int_equal(parse(&c, "-v image ls -k --weird", true, &last, NULL), 4);
	assert_string_equal(last, "--weird");
	assert_null(c.kernel);
}

static void errors_name_the_option(void **state)
{
	static const struct {
		const char *line, *msg;
	} cases[] = {
		{ "--memroy 1G", "--memroy: unknown option; did you mean '--memory'?" },
		{ "--xyzzy", "--xyzzy: unknown option" },
		{ "-x", "-x: unknown option" },
		{ "--kernel", "--kernel: needs FILE" },
		{ "-m", "-m: needs SIZE" },
		{ "-m lots", "-m: 'lots' is not a size (try 512M or 10G)" },
		{ "-m 1K", "-m: 1K is below the minimum 1048576" },
		{ "--cpus 256", "--cpus: 256 is above the maximum 255" },
		{ "--cpus=0", "--cpus: 0 is below the minimum 1" },
		{ "--nice 20", "--nice: '20' is not a number in range" },
		{ "-f vhd", "-f: 'vhd' is none of raw, qcow2" },
		{ "--verbose=perhaps", "--verbose: 'perhaps' is neither on nor off" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct err *e = NULL;
		struct cfg c = { 0 };

		assert_int_equal(parse(&c, cases[i].line, false, NULL, &e), -EINVAL);
		assert_string_equal(err_msg(e), cases[i].msg);
		err_free(e);
		opt_done(opts, &c);
	}
}

static void key_value_lists(void **state)
{
	struct err *e = NULL;
	struct cfg c = { 0 };

	assert_int_equal(opt_parse_kv(opts, &c, "kernel=a,,b,verbose,format=qcow2", NULL), 0);
	assert_string_equal(c.kernel, "a,b");
	assert_true(c.verbose && c.format == 1);
	assert_int_equal(opt_parse_kv(opts, &c, "kernel", &e), -EINVAL);
	assert_string_equal(err_msg(e), "kernel: needs =FILE");
	err_clear(&e);
	assert_int_equal(opt_parse_kv(opts, &c, "fromat=raw", &e), -EINVAL);
	assert_string_equal(err_msg(e), "fromat: unknown option; did you mean 'format'?");
	err_clear(&e);
	assert_int_equal(opt_parse_kv(opts, &c, ",verbose", &e), -EINVAL);
	err_clear(&e);
	opt_done(opts, &c);
}

static void help_wraps(void **state)
{
	_cleanup_(buf_done) struct buf b = { 0 };

	opt_help(opts, 48, &b);
	assert_non_null(strstr(buf_str(&b), "  -k, --kernel FILE         kernel image to\n"
					    "                            start\n"));
	assert_non_null(strstr(buf_str(&b), "      --cpus N              virtual CPUs\n"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_forms),
		cmocka_unit_test(the_first_operand_may_end_the_options),
		cmocka_unit_test(errors_name_the_option),
		cmocka_unit_test(key_value_lists),
		cmocka_unit_test(help_wraps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
