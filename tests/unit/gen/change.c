/* Changing objects: merge patches, replacements, what may change when. */
#include "unit.h"
#include "base/str.h"
#include "gen/types.h"

static struct json *parse(const char *text)
{
	struct json *v = NULL;

	assert_int_equal(json_parse(text, strlen(text), NULL, &v, NULL), 0);
	return v;
}

static void make(struct api_instance *i)
{
	static const char text[] =
		"{\"id\":\"01935f6a-7b1c-7c3a-9d50-0a1b2c3d4e5f\",\"name\":\"web\",\"revision\":5,\"created\":\"2026-11-21T03:15:00Z\","
		"\"labels\":{\"a\":\"1\",\"b\":\"2\"},\"spec\":{\"kind\":\"vm\",\"cpu\":{\"count\":2,\"limit_mhz\":500},"
		"\"vm\":{\"engine\":\"qemu\"},\"cloud_init\":{\"password\":\"hush\"},"
		"\"disks\":[{\"id\":\"disk1\",\"size\":\"1G\",\"bus\":\"sata\"},{\"id\":\"disk2\",\"size\":\"2G\"}]},"
		"\"status\":{\"state\":\"running\",\"pid\":42}}";

	assert_int_equal(gen_parse_text(&api_instance_type, text, strlen(text), NULL, NULL,
					GEN_TRUSTED, i, NULL),
			 0);
}

static void assert_refused(const char *patch, bool whole, bool running, int num,
			   const char *message, const char *id)
{
	_cleanup_(api_instance_done) struct api_instance now = { 0 }, next = { 0 };
	_cleanup_(json_freep) struct json *v = parse(patch);
	_cleanup_(err_freep) struct err *e = NULL;
	int r;

	make(&now);
	r = whole ? api_instance_replace(&now, v, running, &next, &e)
		  : api_instance_patch(&now, v, running, &next, &e);
	if (r == 0)
		fail_msg("accepted: %s", patch);
	assert_string_equal(err_msg(e), message);
	assert_string_equal(err_id(e), id);
	assert_int_equal(r, -num);
}

static void patches(void **state)
{
	_cleanup_(api_instance_done) struct api_instance now = { 0 }, next = { 0 };
	_cleanup_(json_freep) struct json *v = parse(
		"{\"labels\":{\"a\":null,\"c\":\"3\"},\"revision\":5,\"status\":{\"pid\":1},\"spec\":{\"cpu\":{\"limit_mhz\":null,"
		"\"shares\":2000},\"disks\":[{\"id\":\"disk2\",\"size\":\"4G\"},{\"id\":\"disk1\",\"size\":\"1G\"}]}}");
	struct err *e = NULL;

	make(&now);
	if (api_instance_patch(&now, v, true, &next, &e) < 0)
		fail_msg("%s", err_msg(e));
	assert_false(next.spec.cpu.has_limit_mhz);
	assert_int_equal(next.spec.cpu.shares, 2000);
	assert_int_equal(next.spec.cpu.count, 2);
	assert_null(gen_map_get(&next.labels, "a"));
	assert_string_equal(gen_map_get(&next.labels, "c"), "3");
	assert_int_equal(next.status.pid, 42);
	assert_int_equal(next.spec.disks.v[0].size, 4 * GIB);
	/* what cannot change stays when a list element leaves it out */
	assert_int_equal(next.spec.disks.v[1].bus, API_DISK_BUS_SATA);
	assert_string_equal(next.spec.cloud_init->password, "hush");
	assert_int_equal(next.revision, 5);
}

static void refused(void **state)
{
	assert_refused("{\"spec\":{\"cpu\":{\"count\":4}}}", false, true, EBUSY,
		       "instance.cpu.count: cannot change while running", "schema.running");
	assert_refused("{\"spec\":{\"kind\":\"container\",\"vm\":null,\"cloud_init\":null}}", false,
		       false, EPERM, "instance.kind: cannot be changed", "schema.immutable");
	assert_refused(
		"{\"spec\":{\"disks\":[{\"id\":\"disk1\",\"size\":\"1G\",\"bus\":\"usb\"}]}}",
		false, false, EPERM, "instance.disks[0].bus: cannot be changed",
		"schema.immutable");
	assert_refused("{\"id\":\"01935f6a-7b1c-7c3a-9d50-000000000000\"}", false, false, EPERM,
		       "instance.id: is set by the daemon", "schema.readonly");
	assert_refused("{\"created\":null}", false, false, EPERM,
		       "instance.created: is set by the daemon", "schema.readonly");
	assert_refused(
		"{\"revision\":4}", false, false, EEXIST,
		"instance.revision: 4 is not the present one, 5: somebody changed the object",
		"schema.conflict");
	assert_refused("{\"spec\":{\"cpu\":{\"limit_mhz\":5}}}", false, false, EINVAL,
		       "instance.cpu.limit_mhz: 5 is below the minimum 100", "schema.range");
	assert_refused("{\"spec\":{\"cpu\":{\"lmit\":5}}}", false, false, EINVAL,
		       "instance.cpu.lmit: unknown field; did you mean 'limit'?", "schema.unknown");
	assert_refused("{\"name\":null}", false, false, EINVAL, "instance.name: is required",
		       "schema.missing");
	assert_refused("[]", false, false, EINVAL, "instance: expected an object, got an array",
		       "schema.type");
	assert_refused("{\"name\":\"web\",\"spec\":{\"kind\":\"vm\",\"cpu\":{\"count\":3}}}", true,
		       true, EBUSY, "instance.cpu.count: cannot change while running",
		       "schema.running");
	assert_refused(
		"{\"name\":\"web\",\"revision\":6}", true, false, EEXIST,
		"instance.revision: 6 is not the present one, 5: somebody changed the object",
		"schema.conflict");
}

static void stopped_may_more(void **state)
{
	_cleanup_(api_instance_done) struct api_instance now = { 0 }, next = { 0 };
	_cleanup_(json_freep) struct json *v =
		parse("{\"spec\":{\"cpu\":{\"count\":4},\"disks\":null}}");

	make(&now);
	assert_int_equal(api_instance_patch(&now, v, false, &next, NULL), 0);
	assert_int_equal(next.spec.cpu.count, 4);
	assert_int_equal(next.spec.disks.n, 0);
}

/* PUT of what GET gave is no change; what is left out goes back to its default, what is fixed stays. */
static void replacements(void **state)
{
	_cleanup_(api_instance_done) struct api_instance now = { 0 }, same = { 0 }, next = { 0 };
	_cleanup_(json_freep) struct json
		*whole = NULL,
		*little = parse("{\"name\":\"web2\",\"spec\":{\"cpu\":{\"count\":2}}}");

	make(&now);
	whole = gen_to_json(&api_instance_type, &now, GEN_SECRETS);
	assert_int_equal(api_instance_replace(&now, whole, true, &same, NULL), 0);
	assert_true(api_instance_equal(&now, &same));
	assert_int_equal(api_instance_replace(&now, little, false, &next, NULL), 0);
	assert_string_equal(next.name, "web2");
	assert_string_equal(next.id, now.id);
	assert_int_equal(next.spec.kind, API_INSTANCE_KIND_VM);
	assert_int_equal(next.spec.disks.n, 0);
	assert_false(next.spec.cpu.has_limit_mhz);
	assert_int_equal(next.status.pid, 42);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(patches),
		cmocka_unit_test(refused),
		cmocka_unit_test(stopped_may_more),
		cmocka_unit_test(replacements),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
