/* The command line, routes and query strings. */
#include "unit.h"
#include "base/str.h"
#include "gen/cli.h"
#include "gen/routes.h"
#include "gen/types.h"

static int parse(const char *line, struct gen_args *a, char **got, struct err **e)
{
	static char *words[64]; /* borrowed by a */
	static char text[1024];
	int n = 0, r;

	snprintf(text, sizeof(text), "strata %s", line);
	for (char *p = strtok(text, " "); p; p = strtok(NULL, " "))
		words[n++] = p;
	r = gen_args_parse(&cli_root, n, words, a, e);
	*got = a->object ? json_text(a->object, JSON_COMPACT) : NULL;
	return r;
}

static void sets_fields(void **state)
{
	static const char *const cases[][2] = {
		{ "run -it --rm img sh -c ls",
		  "{\"spec\":{\"stdin\":true,\"tty\":true,\"auto_remove\":true,\"image\":\"img\",\"command\":[\"sh\",\"-c\",\"ls\"]}}" },
		{ "run -n web --cpus 2 -m 1.5G --label a=b img",
		  "{\"name\":\"web\",\"spec\":{\"cpu\":{\"count\":2},\"memory\":{\"size\":\"1.5G\"},\"image\":\"img\"},\"labels\":{\"a\":\"b\"}}" },
		{ "run --vm --engine=qemu img",
		  "{\"spec\":{\"kind\":\"vm\",\"vm\":{\"engine\":\"qemu\"},\"image\":\"img\"}}" },
		{ "run -p 8080:80/udp -p 127.0.0.1::53 -p [::1]:1:2 -p 7 img",
		  "{\"spec\":{\"ports\":[{\"host\":8080,\"guest\":80,\"protocol\":\"udp\"},{\"host_ip\":\"127.0.0.1\",\"guest\":53},"
		  "{\"host_ip\":\"::1\",\"host\":1,\"guest\":2},{\"guest\":7}],\"image\":\"img\"}}" },
		{ "run -v data:/d:ro -v /h:/e -v /f --tmpfs /t:1M img",
		  "{\"spec\":{\"mounts\":[{\"source\":\"data\",\"type\":\"volume\",\"target\":\"/d\",\"readonly\":true},{\"source\":\"/h\",\"type\":\"bind\",\"target\":\"/e\"},"
		  "{\"type\":\"volume\",\"target\":\"/f\"},{\"type\":\"tmpfs\",\"target\":\"/t\",\"size\":\"1M\"}],\"image\":\"img\"}}" },
		{ "run --net none img", "{\"spec\":{\"nics\":[],\"image\":\"img\"}}" },
		{ "run --net a,ip=10.0.0.1,in=5M --add-disk 1G,iops=9 --add-disk vol img",
		  "{\"spec\":{\"nics\":[{\"portgroup\":\"a\",\"addresses\":[\"10.0.0.1\"],\"limits\":{\"ingress\":{\"average\":\"5M\"}}}],"
		  "\"disks\":[{\"size\":\"1G\",\"limits\":{\"iops\":{\"rate\":9}}},{\"volume\":\"vol\"}],\"image\":\"img\"}}" },
		{ "set web db cpu.shares=7 --memory 1G protected=on",
		  "{\"spec\":{\"cpu\":{\"shares\":7},\"memory\":{\"size\":\"1G\"},\"protected\":true}}" },
		{ "set web labels.a.b/c=7 labels=d=e",
		  "{\"labels\":{\"a.b/c\":\"7\",\"d\":\"e\"}}" },
		{ "snapshot restore web s1 --no-memory", "{\"snapshot\":\"s1\",\"memory\":false}" },
		{ "exec -e A=1 web env -i",
		  "{\"env\":{\"A\":\"1\"},\"command\":[\"env\",\"-i\"]}" },
		{ "firewall create f -r protocol=tcp,ports=80",
		  "{\"spec\":{\"rules\":[{\"protocol\":\"tcp\",\"ports\":\"80\"}]},\"name\":\"f\"}" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct gen_args a;
		struct err *e = NULL;
		_cleanup_(freep) char *got = NULL;
		_cleanup_(json_freep) struct json *want = NULL;

		if (parse(cases[i][0], &a, &got, &e) < 0)
			fail_msg("%s: %s", cases[i][0], err_msg(e));
		assert_int_equal(json_parse(cases[i][1], strlen(cases[i][1]), NULL, &want, NULL),
				 0);
		if (!json_same(a.object, want))
			fail_msg("%s:\n%s", cases[i][0], got);
		gen_args_done(&a);
		gen_args_done(&a);
	}
}

static void mistakes(void **state)
{
	static const char *const cases[][2] = {
		{ "", "a command is missing" },
		{ "image", "a command is missing" },
		{ "rum x", "rum: unknown command; did you mean 'run'?" },
		{ "image lss", "lss: unknown command; did you mean 'ls'?" },
		{ "run", "IMAGE is missing" },
		{ "run --memroy 1G x", "--memroy: unknown flag; did you mean '--memory'?" },
		{ "run -Z x", "-Z: unknown flag" },
		{ "run --cpus 5000 x", "--cpus: 5000 is above the maximum 1024" },
		{ "run --cpus x y", "--cpus: 'x' is not a whole number" },
		{ "run --cpus", "--cpus: needs N" },
		{ "run --rm=maybe x", "--rm: takes no value" },
		{ "run --vm=on x", "--vm: takes no value" },
		{ "run --env A x", "--env: 'A' is not NAME=VALUE" },
		{ "run --engine foo x", "--engine: 'foo' is not 'auto', 'native' or 'qemu'" },
		{ "run --cpu-limit-mhz 5 x", "--cpu-limit-mhz: 5 is below the minimum 100" },
		{ "run --net web,ipp=3 x", "--net: ipp: unknown field; did you mean 'ip'?" },
		{ "run --net web,ip=10.0.0.300 x",
		  "--net: ip: '10.0.0.300' is not an IPv4 or IPv6 address" },
		{ "run --net web,,x x", "--net: 'web,,x' is not a list of KEY=VALUE" },
		{ "run -p 99999 x", "-p: 99999 is above the maximum 65535" },
		{ "run -p 1:2:3:4/x x", "-p: '1:2' is not an IPv4 or IPv6 address" },
		{ "run -v a:b x",
		  "-v: 'b' is not an absolute path without empty parts or a final '/'" },
		{ "run -v a:/b:rx x", "-v: 'a:/b:rx' is not VOLUME|DIR:PATH[:ro]" },
		{ "run --pull sometimes x",
		  "--pull: 'sometimes' is not 'missing', 'always' or 'never'" },
		{ "set web cpu.lmit=3", "cpu.lmit: unknown field; did you mean 'limit'?" },
		{ "set web disks=3", "disks: cannot be set as text" },
		{ "rename a b c", "c: is one operand too many" },
		{ "stop", "INSTANCE is missing" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct gen_args a;
		_cleanup_(err_freep) struct err *e = NULL;
		_cleanup_(freep) char *got = NULL;

		if (parse(cases[i][0], &a, &got, &e) == 0)
			fail_msg("accepted: %s", cases[i][0]);
		assert_string_equal(err_msg(e), cases[i][1]);
		assert_non_null(a.command);
		gen_args_done(&a);
	}
}

static void own_flags(void **state)
{
	struct gen_args a;
	_cleanup_(freep) char *got = NULL;
	size_t pos = 0;

	assert_int_equal(parse("ps -a -f kind=vm --filter name=w* -o json --project lab", &a, &got,
			       NULL),
			 0);
	assert_string_equal(a.command->name, "ps");
	assert_true(gen_args_on(&a, "all"));
	assert_false(gen_args_on(&a, "quiet"));
	assert_string_equal(gen_args_str(&a, "output"), "json");
	assert_string_equal(gen_args_str(&a, "project"), "lab");
	assert_true(gen_args_given(&a, "output"));
	assert_false(gen_args_given(&a, "format"));
	assert_string_equal(gen_args_each(&a, "filter", &pos), "kind=vm");
	assert_string_equal(gen_args_each(&a, "filter", &pos), "name=w*");
	assert_null(gen_args_each(&a, "filter", &pos));
	gen_args_done(&a);
	assert_int_equal(parse("run img", &a, &got, NULL), 0);
	assert_string_equal(gen_args_str(&a, "pull"), "missing");
	assert_int_equal(a.operands.n, 1);
	gen_args_done(&a);
	free(TAKE(got));
	assert_int_equal(parse("run --help", &a, &got, NULL), 0);
	assert_true(a.help);
	gen_args_done(&a);
}

static void routes(void **state)
{
	struct gen_route_match m;
	_cleanup_(err_freep) struct err *e = NULL;

	for (int i = 0; i < ROUTE_MAX; i++) {
		const struct gen_route *r = &gen_routes[i];
		_cleanup_(buf_done) struct buf path = { 0 };

		assert_int_equal(r->id, i);
		for (const char *p = r->path; *p; p++) {
			if (*p == '{') {
				buf_adds(&path, streq(p, "{exec}") || str_starts(p, "{exec}")
							? "01935f6a-7b1c-7c3a-9d50-0a1b2c3d4e5f"
							: "nic0");
				p = strchr(p, '}');
			} else {
				buf_addc(&path, *p);
			}
		}
		if (gen_route_find(r->method, buf_str(&path), &m, &e) < 0)
			fail_msg("%s: %s", buf_str(&path), err_msg(e));
		assert_ptr_equal(m.route, r);
	}
	assert_int_equal(gen_route_find(GEN_GET, "/v1/images/reg%2Fapp:1", &m, NULL), 0);
	assert_string_equal(m.params[0], "reg/app:1");
	/* "pull" is a path of its own for POST only: with GET it is an image */
	assert_int_equal(gen_route_find(GEN_GET, "/v1/images/pull", &m, NULL), 0);
	assert_int_equal(m.route->id, ROUTE_IMAGE_GET);
	assert_int_equal(gen_route_find(GEN_POST, "/v1/images/pull", &m, NULL), 0);
	assert_int_equal(m.route->id, ROUTE_IMAGE_PULL);
	assert_int_equal(gen_route_find(GEN_METHODS, "/v1/instances", &m, NULL), -EOPNOTSUPP);
	assert_int_equal(gen_route_find(GEN_DELETE, "/v1/instances", &m, &e), -EOPNOTSUPP);
	assert_int_equal(m.allowed, 1 << GEN_GET | 1 << GEN_POST);
	assert_string_equal(err_id(e), "request.method");
	err_clear(&e);
	for (const char *const *bad =
		     (const char *const[]){ "/", "/v2", "v1/instances", "/v1/nothing",
					    "/v1//instances", "/v1/instances/a/b/c/d/e", "", NULL };
	     *bad; bad++)
		assert_int_equal(gen_route_find(GEN_GET, *bad, &m, NULL), -ENOENT);
	for (const char *const *bad =
		     (const char *const[]){ "/v1/instances/a%", "/v1/instances/a%2",
					    "/v1/instances/a%00", "/v1/instances/%ff",
					    "/v1/instances/a b", NULL };
	     *bad; bad++)
		assert_int_equal(gen_route_find(GEN_GET, *bad, &m, NULL), -EINVAL);
}

static void queries(void **state)
{
	_cleanup_(api_instance_list_query_done) struct api_instance_list_query q = { 0 };
	static const char *const bad[][2] = {
		{ "limit=0", "query.limit: 0 is below the minimum 1" },
		{ "limit=x", "query.limit: 'x' is not a whole number" },
		{ "limit=1&limit=2", "query.limit: is there twice" },
		{ "limt=1", "query.limt: unknown field; did you mean 'limit'?" },
		{ "name=%zz", "query: is not percent-encoded UTF-8" },
		{ "name=%ff", "query: is not percent-encoded UTF-8" },
		{ "state=runing",
		  "query.state: 'runing' is not 'creating', 'stopped', 'starting', 'running', 'paused', 'stopping', 'suspended' or 'failed'; did you mean 'running'?" },
	};

	assert_int_equal(
		gen_parse_query(
			&api_instance_list_query_type,
			"label=a%3Db&label=c&kind=vm&state=running&state=paused&all_projects&&limit=5&name=w%2A+x",
			&q, NULL),
		0);
	assert_int_equal(q.label.n, 2);
	assert_string_equal(q.label.v[0], "a=b");
	assert_true(q.has_kind && q.kind == API_INSTANCE_KIND_VM);
	assert_int_equal(q.state.v[1], API_INSTANCE_STATE_PAUSED);
	assert_true(q.all_projects);
	assert_int_equal(q.limit, 5);
	assert_string_equal(q.name, "w* x");
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct api_instance_list_query b;
		_cleanup_(err_freep) struct err *e = NULL;

		assert_int_equal(gen_parse_query(&api_instance_list_query_type, bad[i][0], &b, &e),
				 -EINVAL);
		assert_string_equal(err_msg(e), bad[i][1]);
	}
}

static void amounts(void **state)
{
	char text[32];
	uint64_t v;

	assert_string_equal(gen_format_size(0, text), "0");
	assert_string_equal(gen_format_size(GIB, text), "1G");
	assert_string_equal(gen_format_size(1536, text), "1536");
	assert_string_equal(gen_format_bitrate(1500000, text), "1500k");
	assert_string_equal(gen_format_duration(90 * NSEC_PER_SEC, text), "90s");
	assert_string_equal(gen_format_duration(2 * 86400 * NSEC_PER_SEC, text), "2d");
	assert_int_equal(gen_parse_bitrate("10M", &v), 0);
	assert_int_equal(v, 10000000);
	assert_int_equal(gen_parse_bitrate("10K", &v), 0);
	assert_int_equal(gen_parse_bitrate("10MB", &v), -EINVAL);
	assert_int_equal(gen_parse_bitrate("", &v), -EINVAL);
	assert_int_equal(gen_parse_bitrate("99999999999999T", &v), -ERANGE);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(sets_fields), cmocka_unit_test(mistakes),
		cmocka_unit_test(own_flags),   cmocka_unit_test(routes),
		cmocka_unit_test(queries),     cmocka_unit_test(amounts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
