/* References and digests: what docker accepts, what it refuses, and printing back. */
#include "unit.h"
#include "image/ref.h"

static void accepts(void **state)
{
	static const struct {
		const char *in, *full, *familiar;
	} t[] = {
		{ "debian", "docker.io/library/debian:latest", "debian:latest" },
		{ "debian:bookworm", "docker.io/library/debian:bookworm", "debian:bookworm" },
		{ "a/b", "docker.io/a/b:latest", "a/b:latest" },
		{ "localhost/x", "localhost/x:latest", "localhost/x:latest" },
		{ "localhost:5000/a/b__c.d--e:T_1", "localhost:5000/a/b__c.d--e:T_1",
		  "localhost:5000/a/b__c.d--e:T_1" },
		{ "[::1]:5000/x:1", "[::1]:5000/x:1", "[::1]:5000/x:1" },
		{ "index.docker.io/library/a", "docker.io/library/a:latest", "a:latest" },
		{ "r.example/x@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		  "r.example/x@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		  "r.example/x" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		struct image_ref r, again;
		char buf[REF_MAX];

		assert_int_equal(ref_parse(t[i].in, &r, NULL), 0);
		assert_string_equal(ref_format(&r, buf), t[i].full);
		assert_int_equal(ref_parse(buf, &again, NULL), 0);
		assert_memory_equal(&r, &again, sizeof(r));
		assert_string_equal(ref_familiar(&r, buf), t[i].familiar);
	}
}

static void refuses(void **state)
{
	static const char *const t[] = {
		"",
		":",
		"a:",
		"A",
		"a/B",
		"a//b",
		"/a",
		"a/",
		"-a",
		"a-",
		"a..b",
		"a___b",
		"a._b",
		"x.y/",
		"-x.y/a",
		"x-.y/a",
		"a:b:c",
		"a:-b",
		"a@sha256:12",
		"a@md5:d41d8cd98f00b204e9800998ecf8427e",
		"a b",
		"..",
		"../a",
		"h.x:123456/a",
		"h.x:/a",
		"[::1/a",
		"[]:1/a",
		"x..y/a",
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
	};

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		_cleanup_(err_freep) struct err *e = NULL;
		struct image_ref r;

		assert_int_equal(ref_parse(t[i], &r, &e), -EINVAL);
		assert_string_equal(err_id(e), "image.reference");
	}
}

/* A short name is longer in full: the limits hold for the full form, else it would not read back. */
static void limits(void **state)
{
	char s[REF_MAX + 1], full[REF_MAX], a_512[513];
	struct image_ref r, again;

	memset(a_512, 'a', 512);
	a_512[512] = '\0';

	for (size_t path = 1; path < 256; path++) {
		for (size_t tag = 1; tag <= 128; tag++) {
			snprintf(s, sizeof(s), "%.*s:%.*s@sha512:%.*s", (int)path, a_512, (int)tag,
				 a_512, 128, a_512);
			if (ref_parse(s, &r, NULL) < 0)
				continue;
			assert_int_equal(ref_parse(ref_format(&r, full), &again, NULL), 0);
			assert_memory_equal(&r, &again, sizeof(r));
		}
	}
	snprintf(s, sizeof(s), "%.*s", 247, a_512);
	assert_int_equal(ref_parse(s, &r, NULL), 0);
	snprintf(s, sizeof(s), "%.*s", 248, a_512);
	assert_int_equal(ref_parse(s, &r, NULL), -EINVAL);
}

static void digests(void **state)
{
	struct digest d;

	digest_of("", 0, &d);
	assert_string_equal(
		d.s, "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	assert_int_equal(
		digest_parse(
			"sha256:E3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
			&d),
		-EINVAL);
	assert_int_equal(
		digest_parse(
			"sha512:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
			&d),
		-EINVAL);
	assert_int_equal(digest_parse("sha256:../../../../etc/passwd", &d), -EINVAL);
}

static void loopback(void **state)
{
	assert_true(ref_domain_is_loopback("localhost:5000"));
	assert_true(ref_domain_is_loopback("127.0.0.1:5000"));
	assert_true(ref_domain_is_loopback("[::1]:5000"));
	assert_false(ref_domain_is_loopback("127.0.0.1.example.com"));
	assert_false(ref_domain_is_loopback("localhost.example.com"));
	assert_false(ref_domain_is_loopback("10.0.0.1"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(accepts), cmocka_unit_test(refuses),  cmocka_unit_test(limits),
		cmocka_unit_test(digests), cmocka_unit_test(loopback),
	};

	return cmocka_run_group_tests_name("ref", tests, NULL, NULL);
}
