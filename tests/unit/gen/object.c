/* Objects of every type: what is valid goes through JSON and comes back the same. */
#include "unit.h"
#include "base/str.h"
#include "gen/object_int.h"
#include "gen/types.h"
#include "random_object.h"

#define ROUNDS 40

static char *print_text(const struct gen_type *t, const void *obj)
{
	_cleanup_(buf_done) struct buf b = { 0 };

	assert_int_equal(gen_print(t, obj, GEN_SECRETS, &b), 0);
	return buf_take(&b);
}

static void round_trip_one(const struct gen_type *t, struct prng *r)
{
	_cleanup_(freep) char *a = calloc(1, t->size), *b = calloc(1, t->size),
			      *c = calloc(1, t->size);
	_cleanup_(freep) char *text = NULL, *again = NULL;
	struct err *e = NULL;

	random_object(t, r, a);
	if (gen_validate(t, a, NULL, &e) < 0)
		fail_msg("%s: the generator made what the rules refuse: %s", t->name, err_msg(e));
	text = print_text(t, a);
	if (gen_parse_text(t, text, strlen(text), NULL, NULL, GEN_TRUSTED, b, &e) < 0)
		fail_msg("%s: %s\n%s", t->name, err_msg(e), text);
	again = print_text(t, b);
	assert_string_equal(again, text);
	assert_true(gen_equal(t, a, b));
	assert_int_equal(gen_copy(t, b, c), 0);
	assert_true(gen_equal(t, a, c));
	gen_done(t, a);
	gen_done(t, b);
	gen_done(t, b);
	assert_true(gen_equal(t, c, c));
	gen_done(t, c);
}

static void round_trip(void **state)
{
	struct prng r;

	prng_seed(&r, 20261121);
	for (const struct gen_type *const *t = gen_types; *t; t++)
		for (int i = 0; i < ROUNDS; i++)
			round_trip_one(*t, &r);
}

/* A document without anything: either valid, or it says what is required. */
static void empty_documents(void **state)
{
	for (const struct gen_type *const *t = gen_types; *t; t++) {
		_cleanup_(freep) char *obj = calloc(1, (*t)->size);
		_cleanup_(err_freep) struct err *e = NULL;
		const struct gen_field *required = NULL;
		int r = gen_parse_text(*t, "{}", 2, NULL, NULL, GEN_TRUSTED, obj, &e);

		for (unsigned int i = 0; i < (*t)->n && !required; i++)
			if ((*t)->fields[i].flags & GEN_F_REQUIRED)
				required = &(*t)->fields[i];
		if (required) {
			_cleanup_(freep) char *want = NULL;

			assert_true(asprintf(&want, "%s.%s: is required", (*t)->path,
					     required->name) > 0);
			assert_int_equal(r, -EINVAL);
			assert_string_equal(err_msg(e), want);
			assert_string_equal(err_id(e), "schema.missing");
		} else if (r < 0) {
			fail_msg("%s: %s", (*t)->name, err_msg(e));
		}
		gen_done(*t, obj);
	}
}

/* An object that was half read is released: the sanitizers watch. */
static void cut_documents(void **state)
{
	struct prng r;

	prng_seed(&r, 7);
	for (const struct gen_type *const *t = gen_types; *t; t++) {
		_cleanup_(freep) char *obj = calloc(1, (*t)->size), *zero = calloc(1, (*t)->size);
		_cleanup_(json_freep) struct json *v = NULL;

		random_object(*t, &r, obj);
		v = gen_to_json(*t, obj, GEN_SECRETS);
		gen_done(*t, obj);
		json_set(v, "zzz", json_new_int(1));
		assert_int_equal(gen_parse(*t, v, NULL, GEN_TRUSTED, obj, NULL), -EINVAL);
		assert_memory_equal(obj, zero, (*t)->size);
		assert_int_equal(gen_parse(*t, json_get(v, "zzz"), NULL, GEN_TRUSTED, obj, NULL),
				 -EINVAL);
		assert_memory_equal(obj, zero, (*t)->size);
	}
}

/* An object differs from a copy in which one field is another. */
static void differences(void **state)
{
	struct prng r;

	prng_seed(&r, 99);
	for (const struct gen_type *const *t = gen_types; *t; t++) {
		_cleanup_(freep) char *a = calloc(1, (*t)->size), *b = calloc(1, (*t)->size);
		int differ = 0;

		for (int i = 0; i < 20; i++) {
			_cleanup_(freep) char *x = NULL, *y = NULL;

			random_object(*t, &r, a);
			random_object(*t, &r, b);
			x = print_text(*t, a);
			y = print_text(*t, b);
			assert_int_equal(gen_equal(*t, a, b), streq(x, y));
			differ += !streq(x, y);
			gen_done(*t, a);
			gen_done(*t, b);
		}
		assert_true(differ > 0);
	}
}

static void lists_and_maps(void **state)
{
	struct api_instance_spec spec;
	struct api_instance_disk *d;

	assert_int_equal(api_instance_spec_init(&spec), 0);
	d = GEN_ADD(&spec.disks, api_instance_disk);
	d->id = strdup("disk1");
	d->has_size = true;
	d->size = GIB;
	assert_int_equal(d->bus, API_DISK_BUS_VIRTIO);
	assert_int_equal(gen_map_set(&spec.env, "A", "1"), 0);
	assert_int_equal(gen_map_set(&spec.env, "B", "2"), 0);
	assert_int_equal(gen_map_set(&spec.env, "A", "3"), 0);
	assert_int_equal(spec.env.n, 2);
	assert_string_equal(gen_map_get(&spec.env, "A"), "3");
	assert_int_equal(gen_map_remove(&spec.env, "A"), 0);
	assert_int_equal(gen_map_remove(&spec.env, "A"), -ENOENT);
	assert_null(gen_map_get(&spec.env, "A"));
	assert_int_equal(api_instance_spec_validate(&spec, NULL), 0);
	api_instance_spec_done(&spec);
	api_instance_spec_done(&spec);
}

static void secrets(void **state)
{
	static const char text[] = "{\"username\":\"u\",\"password\":\"hush\"}";
	_cleanup_(api_registry_login_done) struct api_registry_login login = { 0 };
	_cleanup_(buf_done) struct buf without = { 0 }, with = { 0 };

	assert_int_equal(gen_parse_text(&api_registry_login_type, text, strlen(text), NULL, NULL,
					GEN_CREATE, &login, NULL),
			 0);
	assert_string_equal(login.password, "hush");
	api_registry_login_print(&login, 0, &without);
	assert_string_equal(buf_str(&without), "{\"username\":\"u\"}");
	api_registry_login_print(&login, GEN_SECRETS, &with);
	assert_string_equal(buf_str(&with), text);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(round_trip),	  cmocka_unit_test(empty_documents),
		cmocka_unit_test(cut_documents),  cmocka_unit_test(differences),
		cmocka_unit_test(lists_and_maps), cmocka_unit_test(secrets),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
