/* Every rule's violation gives its message: path, rule, id. */
#include "unit.h"
#include "base/str.h"
#include "gen/errors.h"
#include "gen/formats.h"
#include "gen/types.h"
#include "random_object.h"

struct bad {
	const char *text, *message, *id;
};

static void assert_bad(const struct gen_type *t, enum gen_mode mode, const struct bad *b)
{
	_cleanup_(freep) char *obj = calloc(1, t->size);
	_cleanup_(err_freep) struct err *e = NULL;

	if (gen_parse_text(t, b->text, strlen(b->text), NULL, NULL, mode, obj, &e) == 0)
		fail_msg("accepted: %s", b->text);
	assert_string_equal(err_msg(e), b->message);
	assert_string_equal(err_id(e), b->id);
	assert_non_null(gen_error_find(err_id(e)));
	gen_done(t, obj);
}

static void instance_messages(void **state)
{
	static const struct bad cases[] = {
		{ "{\"cpu\":{\"limit_mhz\":5}}",
		  "instance.cpu.limit_mhz: 5 is below the minimum 100", "schema.range" },
		{ "{\"cpu\":{\"lmit\":5}}",
		  "instance.cpu.lmit: unknown field; did you mean 'limit'?", "schema.unknown" },
		{ "{\"cpu\":{\"zzzzzzz\":5}}", "instance.cpu.zzzzzzz: unknown field",
		  "schema.unknown" },
		{ "{\"cpu\":{\"count\":-1}}", "instance.cpu.count: -1 is below the minimum 1",
		  "schema.range" },
		{ "{\"cpu\":{\"count\":1025}}",
		  "instance.cpu.count: 1025 is above the maximum 1024", "schema.range" },
		{ "{\"cpu\":{\"count\":1.5}}",
		  "instance.cpu.count: expected an integer, got a number", "schema.type" },
		{ "{\"cpu\":{\"limit\":0}}", "instance.cpu.limit: 0.0 is below the minimum 0.01",
		  "schema.range" },
		{ "{\"cpu\":7}", "instance.cpu: expected an object, got an integer",
		  "schema.type" },
		{ "{\"memory\":{\"size\":\"1M\"}}",
		  "instance.memory.size: 1M is below the minimum 4M", "schema.range" },
		{ "{\"memory\":{\"size\":-4}}", "instance.memory.size: -4 is below the minimum 0",
		  "schema.range" },
		{ "{\"memory\":{\"size\":\"many\"}}",
		  "instance.memory.size: 'many' is not a size such as 512M or 10G",
		  "schema.format" },
		{ "{\"memory\":{\"size\":\"99999P\"}}",
		  "instance.memory.size: '99999P' is too large", "schema.range" },
		{ "{\"memory\":{\"size\":true}}",
		  "instance.memory.size: expected a size such as 512M or 10G, got a boolean",
		  "schema.type" },
		{ "{\"memory\":{\"size\":\"1G\",\"reservation\":\"2G\"}}",
		  "instance.memory.reservation: 2G is above size, 1G", "schema.range" },
		{ "{\"stop_timeout\":\"2d\"}", "instance.stop_timeout: 2d is above the maximum 1d",
		  "schema.range" },
		{ "{\"stop_timeout\":\"x\"}",
		  "instance.stop_timeout: 'x' is not a duration such as 30s or 5m",
		  "schema.format" },
		{ "{\"stop_timeout\":-1}", "instance.stop_timeout: -1 seconds are out of range",
		  "schema.range" },
		{ "{\"kind\":\"vn\"}",
		  "instance.kind: 'vn' is not 'container' or 'vm'; did you mean 'vm'?",
		  "schema.value" },
		{ "{\"kind\":1}", "instance.kind: expected 'container' or 'vm', got an integer",
		  "schema.type" },
		{ "{\"vm\":{\"engine\":\"qemu\"}}", "instance.vm: only for kind 'vm'",
		  "schema.when" },
		{ "{\"kind\":\"vm\",\"sysctls\":{\"a.b\":\"1\"}}",
		  "instance.sysctls: only for kind 'container'", "schema.when" },
		{ "{\"hostname\":\"a_b\"}", "instance.hostname: 'a_b' is not a host name",
		  "schema.format" },
		{ "{\"hostname\":\"a\\nb\"}", "instance.hostname: 'a?b' is not a host name",
		  "schema.format" },
		{ "{\"tty\":\"yes\"}", "instance.tty: expected a boolean, got a string",
		  "schema.type" },
		{ "{\"env\":{\"A=B\":\"x\"}}",
		  "instance.env['A=B']: 'A=B' is not a variable name without '='",
		  "schema.format" },
		{ "{\"env\":{\"A\":1}}", "instance.env.A: expected a string, got an integer",
		  "schema.type" },
		{ "{\"env\":[]}", "instance.env: expected an object, got an array", "schema.type" },
		{ "{\"command\":\"sh\"}", "instance.command: expected an array, got a string",
		  "schema.type" },
		{ "{\"command\":[\"a\",null]}", "instance.command[1]: expected a string, got null",
		  "schema.type" },
		{ "{\"health\":{}}", "instance.health.command: is required", "schema.missing" },
		{ "{\"health\":{\"command\":[]}}", "instance.health.command: is required",
		  "schema.missing" },
		{ "{\"disks\":[{\"id\":\"d\"},{\"id\":\"e\"},{\"id\":\"d\"}]}",
		  "instance.disks[2].id: 'd' is there twice", "schema.duplicate" },
		{ "{\"nics\":[{\"mac\":\"01:00:00:00:00:00\"}]}",
		  "instance.nics[0].mac: '01:00:00:00:00:00' is not a unicast MAC address in lower case",
		  "schema.format" },
		{ "{\"nics\":[{\"limits\":{\"ingress\":{\"average\":\"10M\",\"peak\":\"5M\"}}}]}",
		  "instance.nics[0].limits.ingress.peak: 5M is below average, 10M",
		  "schema.range" },
		{ "{\"nics\":[{\"addresses\":[\"10.0.0.256\"]}]}",
		  "instance.nics[0].addresses[0]: '10.0.0.256' is not an IPv4 or IPv6 address",
		  "schema.format" },
		{ "{\"nics\":[{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{}]}",
		  "instance.nics: 17 are more than the maximum 16", "schema.items" },
		{ "[]", "instance: expected an object, got an array", "schema.type" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_bad(&api_instance_spec_type, GEN_TRUSTED, &cases[i]);
}

static void resource_messages(void **state)
{
	static const struct bad cases[] = {
		{ "{\"spec\":{}}", "instance.name: is required", "schema.missing" },
		{ "{\"name\":\"a\",\"spec\":{\"cpu\":{\"limit_mhz\":5}}}",
		  "instance.cpu.limit_mhz: 5 is below the minimum 100", "schema.range" },
		{ "{\"name\":\"a\",\"id\":\"x\"}", "instance.id: is set by the daemon",
		  "schema.readonly" },
		{ "{\"name\":\"a\",\"revision\":1}", "instance.revision: is set by the daemon",
		  "schema.readonly" },
		{ "{\"name\":\"\"}",
		  "instance.name: '' is not a name of letters, digits, '.', '_' and '-', a letter or digit first",
		  "schema.format" },
		{ "{\"name\":\"a\",\"created\":7}",
		  "instance.created: expected a time such as 2026-11-21T03:15:00Z, got an integer",
		  "schema.type" },
	};
	static const char ignored[] = "{\"name\":\"a\",\"status\":{\"state\":17}}";
	_cleanup_(api_instance_done) struct api_instance i = { 0 };
	char longname[100];
	_cleanup_(freep) char *text = NULL;
	struct bad b = { NULL, "instance.name: 64 characters are more than the maximum 63",
			 "schema.length" };

	for (size_t k = 0; k < ARRAY_SIZE(cases); k++)
		assert_bad(&api_instance_type, GEN_CREATE, &cases[k]);
	assert_int_equal(gen_parse_text(&api_instance_type, ignored, strlen(ignored), NULL, NULL,
					GEN_CREATE, &i, NULL),
			 0);
	assert_int_equal(i.status.state, API_INSTANCE_STATE_STOPPED);
	memset(longname, 'a', 64);
	longname[64] = '\0';
	assert_true(asprintf(&text, "{\"name\":\"%s\"}", longname) > 0);
	b.text = text;
	assert_bad(&api_instance_type, GEN_CREATE, &b);
}

/* Lengths count characters, not bytes. */
static void lengths(void **state)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	_cleanup_(freep) char *text = NULL;
	struct api_portgroup_spec spec;
	struct api_firewall_rule rule = { 0 };
	struct err *e = NULL;

	for (int i = 0; i < 255; i++)
		buf_adds(&b, "\xc3\xa4");
	assert_true(asprintf(&text, "{\"note\":\"%s\"}", buf_str(&b)) > 0);
	assert_int_equal(gen_parse_text(&api_firewall_rule_type, text, strlen(text), NULL, NULL, 0,
					&rule, NULL),
			 0);
	buf_adds(&b, "x");
	free(rule.note);
	rule.note = buf_take(&b);
	assert_int_equal(api_firewall_rule_validate(&rule, &e), -EINVAL);
	assert_string_equal(err_msg(e),
			    "firewall_rule.note: 256 characters are more than the maximum 255");
	err_clear(&e);
	rule.note[0] = '\xff';
	assert_int_equal(api_firewall_rule_validate(&rule, &e), -EINVAL);
	assert_string_equal(err_msg(e), "firewall_rule.note: is not UTF-8");
	err_clear(&e);
	api_firewall_rule_done(&rule);
	assert_int_equal(api_portgroup_spec_init(&spec), 0);
	spec.has_vlan = true;
	spec.vlan = 5000;
	assert_int_equal(api_portgroup_spec_validate(&spec, &e), -EINVAL);
	assert_string_equal(err_msg(e), "portgroup.vlan: 5000 is above the maximum 4094");
	err_clear(&e);
	api_portgroup_spec_done(&spec);
}

static void sizes_print_as_numbers(void **state)
{
	static const char text[] = "{\"size\":\"1.5G\",\"reservation\":\"512M\"}";
	_cleanup_(api_instance_memory_done) struct api_instance_memory m = { 0 };
	_cleanup_(buf_done) struct buf b = { 0 };

	assert_int_equal(gen_parse_text(&api_instance_memory_type, text, strlen(text), NULL, NULL,
					0, &m, NULL),
			 0);
	assert_true(m.has_size && m.size == 3 * GIB / 2);
	api_instance_memory_print(&m, 0, &b);
	assert_string_equal(
		buf_str(&b),
		"{\"size\":1610612736,\"shares\":1000,\"reservation\":536870912,\"hugepages\":false}");
}

/* Nesting is bounded by the types: what is deeper is unknown or of the wrong type, and the stack is safe. */
static void deep(void **state)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	struct api_instance i = { 0 };

	for (int k = 0; k < 100000; k++)
		buf_adds(&b, "{\"spec\":");
	assert_int_equal(gen_parse_text(&api_instance_type, b.s, b.len, NULL, NULL, GEN_CREATE, &i,
					NULL),
			 -E2BIG);
}

static void formats(void **state)
{
	struct prng r;

	prng_seed(&r, 3);
	for (const struct gen_format *const *f = gen_formats; *f; f++) {
		for (int i = 0; i < 200; i++) {
			_cleanup_(freep) char *s = random_format(*f, &r, (*f)->max_len);

			if (!gen_format_fits(*f, s))
				fail_msg("%s: '%s' does not fit", (*f)->name, s);
		}
		assert_false(gen_format_fits(*f, ""));
	}
	assert_true(gen_format_fits(&gen_format_cidr, "10.0.0.0/24"));
	assert_true(gen_format_fits(&gen_format_cidr, "0.0.0.0/0"));
	assert_true(gen_format_fits(&gen_format_cidr6, "fd00::/8"));
	for (const char *const *bad =
		     (const char *const[]){ "10.0.0.1/24", "10.0.0.0/33", "10.0.0.0/",
					    "10.0.0.0/+8", "10.0.0.0/08", "10.0.0.0", "/8",
					    "fd00::1/64", "x/8", NULL };
	     *bad; bad++)
		assert_false(gen_format_fits(&gen_format_cidr, *bad));
}

static void errors(void **state)
{
	struct err *e = NULL;

	for (size_t i = 0; i < gen_n_errors; i++) {
		assert_ptr_equal(gen_error_find(gen_errors[i].id), &gen_errors[i]);
		assert_true(gen_errors[i].status >= 400 && gen_errors[i].status < 600);
	}
	assert_null(gen_error_find("no.such"));
	assert_string_equal(gen_error_of(NULL)->id, "request.internal");
	err_set(&e, ENOENT, ERR_INSTANCE_NOT_FOUND, "no instance 'x'");
	assert_int_equal(gen_error_of(e)->status, 404);
	err_clear(&e);
	err_sys(&e, EEXIST, "mkdir");
	assert_int_equal(gen_error_of(e)->status, 409);
	err_clear(&e);
	err_set(&e, EIO, "made.up", "x");
	assert_int_equal(gen_error_of(e)->status, 500);
	err_clear(&e);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(instance_messages),
		cmocka_unit_test(resource_messages),
		cmocka_unit_test(lengths),
		cmocka_unit_test(sizes_print_as_numbers),
		cmocka_unit_test(deep),
		cmocka_unit_test(formats),
		cmocka_unit_test(errors),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
