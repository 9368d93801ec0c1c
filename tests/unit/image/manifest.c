/* Manifests, indexes, configs: reading, picking a platform, writing, and what must be refused. */
#include "unit.h"
#include "image/manifest.h"

#define D1	 "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define DESC(mt) "{\"mediaType\":\"" mt "\",\"digest\":\"" D1 "\",\"size\":7}"

static int parse(const char *text, struct image_doc *d, struct err **e)
{
	return doc_parse(text, strlen(text), NULL, d, e);
}

static void manifest(void **state)
{
	struct image_doc d = { 0 };
	struct buf b = { 0 };

	assert_int_equal(parse("{\"schemaVersion\":2,\"config\":" DESC(
				       MT_OCI_CONFIG) ",\"layers\":[" DESC(MT_OCI_LAYER_GZ) "]}",
			       &d, NULL),
			 0);
	assert_int_equal(d.kind, DOC_MANIFEST);
	assert_string_equal(d.media_type, MT_OCI_MANIFEST);
	assert_int_equal(d.list.n, 1);
	assert_int_equal(d.list.v[0].size, 7);
	assert_int_equal(manifest_build(&d.config, d.list.v, 1, &b), 0);
	doc_done(&d);
	assert_int_equal(doc_parse(buf_str(&b), b.len, MT_OCI_MANIFEST, &d, NULL), 0);
	doc_done(&d);
	buf_done(&b);
}

static void refused(void **state)
{
	static const char *const t[] = {
		"{}",
		"[]",
		"7",
		"{\"schemaVersion\":2}",
		"{\"schemaVersion\":1,\"fsLayers\":[]}",
		/* both: which one it is must not depend on who looks */
		"{\"schemaVersion\":2,\"manifests\":[],\"config\":" DESC(
			MT_OCI_CONFIG) ",\"layers\":[]}",
		"{\"schemaVersion\":2,\"mediaType\":\"" MT_OCI_MANIFEST "\",\"manifests\":[]}",
		"{\"schemaVersion\":2,\"config\":{\"digest\":\"sha256:1\",\"size\":1},\"layers\":[]}",
		"{\"schemaVersion\":2,\"config\":{\"digest\":\"" D1
		"\",\"size\":-1},\"layers\":[]}",
		"{\"schemaVersion\":2,\"config\":" DESC(MT_OCI_CONFIG) ",\"layers\":{}}",
	};
	struct buf deep = { 0 };
	struct image_doc d = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(t); i++)
		assert_true(parse(t[i], &d, NULL) < 0);
	buf_adds(&deep, "{\"schemaVersion\":2,\"layers\":");
	for (int i = 0; i < 100000; i++)
		buf_adds(&deep, "[");
	assert_true(doc_parse(buf_str(&deep), deep.len, NULL, &d, NULL) < 0);
	buf_done(&deep);
}

static void platforms(void **state)
{
	static const char text[] =
		"{\"schemaVersion\":2,\"manifests\":["
		"{\"mediaType\":\"" MT_OCI_MANIFEST "\",\"digest\":\"" D1
		"\",\"size\":1,\"platform\":{\"os\":\"linux\",\"architecture\":\"arm\",\"variant\":\"v6\"}},"
		"{\"mediaType\":\"" MT_OCI_MANIFEST "\",\"digest\":\"" D1
		"\",\"size\":2,\"platform\":{\"os\":\"linux\",\"architecture\":\"arm\",\"variant\":\"v7\"}},"
		"{\"mediaType\":\"" MT_OCI_MANIFEST "\",\"digest\":\"" D1
		"\",\"size\":3,\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\"}},"
		"{\"mediaType\":\"" MT_OCI_MANIFEST "\",\"digest\":\"" D1
		"\",\"size\":4,\"platform\":{\"os\":\"unknown\",\"architecture\":\"unknown\"}}]}";
	_cleanup_(err_freep) struct err *e = NULL;
	struct image_platform p;
	struct image_doc d = { 0 };
	struct image_desc got;

	assert_int_equal(parse(text, &d, NULL), 0);
	platform_parse("linux/arm/v7", &p, NULL);
	assert_int_equal(doc_pick(&d, &p, &got, NULL), 0);
	assert_int_equal(got.size, 2);
	platform_parse("linux/amd64", &p, NULL);
	assert_int_equal(doc_pick(&d, &p, &got, NULL), 0);
	assert_int_equal(got.size, 3);
	platform_parse("linux/s390x", &p, NULL);
	assert_int_equal(doc_pick(&d, &p, &got, &e), -ENOENT);
	assert_non_null(strstr(err_msg(e), "linux/amd64"));
	doc_done(&d);
	assert_int_equal(platform_parse("linux", &p, NULL), -EINVAL);
	assert_int_equal(platform_parse("linux/../x", &p, NULL), -EINVAL);
}

static void config(void **state)
{
	static const char text[] =
		"{\"os\":\"linux\",\"architecture\":\"amd64\",\"config\":{\"Env\":[\"A=1\"],\"Cmd\":null,"
		"\"User\":\"www\",\"ExposedPorts\":{\"80/tcp\":{}},\"Volumes\":null},"
		"\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"" D1 "\",\"" D1 "\"]},\"x\":[]}";
	struct image_config c = { 0 }, c2 = { 0 };
	struct digest chain;
	struct buf b = { 0 };

	assert_int_equal(config_parse(text, strlen(text), &c, NULL), 0);
	assert_string_equal(c.env[0], "A=1");
	assert_string_equal(c.user, "www");
	assert_string_equal(c.ports[0], "80/tcp");
	assert_null(c.cmd);
	assert_int_equal(c.diff_ids.n, 2);
	assert_int_equal(config_build(&c, "test", &b), 0);
	assert_int_equal(config_parse(buf_str(&b), b.len, &c2, NULL), 0);
	assert_string_equal(c2.user, "www");
	chain_id(c.diff_ids.v, 2, &chain); /* printf "D1 D1" | sha256sum */
	assert_string_equal(
		chain.s, "sha256:de9d9016b852e46e9f3973e20d3a6d17e120f7144931d50cd6e2a8ad53e81960");
	config_done(&c);
	config_done(&c2);
	buf_done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(manifest),
		cmocka_unit_test(refused),
		cmocka_unit_test(platforms),
		cmocka_unit_test(config),
	};

	return cmocka_run_group_tests_name("manifest", tests, NULL, NULL);
}
