/* config.json: what is read, and errors that name the field. */
#include "unit.h"
#include <sched.h>
#include "container/spec.h"
#include "container/warn.h"

#define PROCESS "\"process\":{\"cwd\":\"/\",\"args\":[\"x\"]}"
#define HEAD	"{\"ociVersion\":\"1.0.2\",\"root\":{\"path\":\"r\"},"

static int parse(struct spec *s, const char *text, struct err **e)
{
	memset(s, 0, sizeof(*s));
	return spec_parse(s, text, strlen(text), e);
}

static void reads(void **state)
{
	struct spec s;
	_cleanup_(err_freep) struct err *e = NULL;
	int r = parse(
		&s,
		HEAD
		"\"process\":{\"cwd\":\"/x\",\"args\":[\"a\",\"b\"],\"user\":{\"uid\":5,\"gid\":6,\"additionalGids\":[7]},"
		"\"rlimits\":[{\"type\":\"RLIMIT_NOFILE\",\"soft\":10,\"hard\":20}],\"noNewPrivileges\":true},"
		"\"hostname\":\"h\",\"linux\":{\"namespaces\":[{\"type\":\"pid\"},{\"type\":\"network\",\"path\":\"/n\"},{\"type\":\"uts\"}],"
		"\"resources\":{\"memory\":{\"limit\":1000},\"pids\":{\"limit\":-1}}}}",
		&e);

	if (r < 0)
		fail_msg("%s", err_msg(e));
	assert_string_equal(s.process.args[1], "b");
	assert_int_equal(s.process.gid, 6);
	assert_int_equal(s.process.groups[0], 7);
	assert_int_equal(s.process.rlimits[0].hard, 20);
	assert_true(s.ns[NS_PID].present && !s.ns[NS_PID].path);
	assert_string_equal(s.ns[NS_NET].path, "/n");
	assert_true(s.res.mem_limit.set && s.res.mem_limit.v == 1000);
	assert_true(s.res.pids.set && s.res.pids.v == -1);
	spec_done(&s);
	spec_done(&s);
}

static void names_the_field(void **state)
{
	static const struct {
		const char *text, *field;
	} bad[] = {
		{ "{\"root\":{\"path\":\"r\"}," PROCESS "}", "ociVersion" },
		{ "{\"ociVersion\":\"2.0.0\",\"root\":{\"path\":\"r\"}," PROCESS "}",
		  "ociVersion" },
		{ "{\"ociVersion\":\"1.0.0\"," PROCESS "}", "root" },
		{ HEAD "\"process\":{\"cwd\":\"x\",\"args\":[\"x\"]}}", "process.cwd" },
		{ HEAD "\"process\":{\"cwd\":\"/\",\"args\":[5]}}", "process.args[0]" },
		{ HEAD
		  "\"process\":{\"cwd\":\"/\",\"args\":[\"x\"],\"rlimits\":[{\"type\":\"RLIMIT_X\",\"soft\":1,\"hard\":1}]}}",
		  "process.rlimits[0]" },
		{ HEAD PROCESS ",\"linux\":{\"namespaces\":[{\"type\":\"nonsense\"}]}}",
		  "linux.namespaces[0]" },
		{ HEAD PROCESS
		  ",\"linux\":{\"namespaces\":[{\"type\":\"pid\"},{\"type\":\"pid\"}]}}",
		  "linux.namespaces[1]" },
		{ HEAD PROCESS ",\"linux\":{\"resources\":{\"memory\":{\"limit\":\"x\"}}}}",
		  "linux.resources.memory.limit" },
		{ HEAD PROCESS ",\"mounts\":[{\"type\":\"proc\"}]}", "mounts[0].destination" },
		{ HEAD PROCESS ",\"linux\":{\"devices\":[{\"path\":\"/dev/x\",\"type\":\"q\"}]}}",
		  "linux.devices[0].type" },
		{ HEAD PROCESS ",\"hooks\":{\"prestart\":[{\"path\":\"relative\"}]}}",
		  "hooks.prestart[0].path" },
		{ HEAD PROCESS ",\"linux\":{\"rootfsPropagation\":\"odd\"}}",
		  "linux.rootfsPropagation" },
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		_cleanup_(err_freep) struct err *e = NULL;
		struct spec s;
		int r = parse(&s, bad[i].text, &e);

		if (r == 0)
			fail_msg("accepted: %s", bad[i].text);
		if (!strstr(err_msg(e), bad[i].field))
			fail_msg("'%s' does not name %s", err_msg(e), bad[i].field);
		spec_done(&s);
	}
}

static void process_may_be_absent(void **state)
{
	struct spec s;
	_cleanup_(err_freep) struct err *e = NULL;

	assert_int_equal(parse(&s, "{\"ociVersion\":\"1.0.2\",\"root\":{\"path\":\"r\"}}", &e), 0);
	assert_false(s.has_process);
	spec_done(&s);
}

static void unknown_capabilities_are_a_warning(void **state)
{
	struct spec s;
	_cleanup_(buf_done) struct buf w = { 0 };

	ct_warn_to(&w);
	assert_int_equal(
		parse(&s,
		      HEAD
		      "\"process\":{\"cwd\":\"/\",\"args\":[\"x\"],\"capabilities\":{\"bounding\":[\"CAP_KILL\",\"CAP_NONE\"]}}}",
		      NULL),
		0);
	ct_warn_to(NULL);
	assert_int_equal(s.process.caps.bounding, 1ULL << 5);
	assert_non_null(strstr(w.s, "process.capabilities.bounding[1]"));
	spec_done(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads),
		cmocka_unit_test(names_the_field),
		cmocka_unit_test(process_may_be_absent),
		cmocka_unit_test(unknown_capabilities_are_a_warning),
	};

	return cmocka_run_group_tests_name("container/spec", tests, NULL, NULL);
}
