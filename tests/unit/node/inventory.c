/* The inventory on a store in memory and a virtual clock. */
#include <errno.h>
#include "unit.h"
#include "node/inventory.h"

static struct clock clock;
static struct loop *loop;
static struct store *store;
static struct inventory *inv;
static int n_records;

static int setup(void **state)
{
	clock_virtual_init(&clock);
	return loop_new(&clock, &loop) | store_open_mem(&store, NULL) |
	       inventory_open(store, loop, &inv, NULL);
}

static int teardown(void **state)
{
	inventory_close(inv);
	loop_free(loop);
	return 0;
}

static struct object *make(const char *name)
{
	_cleanup_(json_freep) struct json *spec = json_new_obj();
	struct object_init init = {
		.type = "instance", .project = "default", .name = name, .spec = spec
	};
	struct object *o = NULL;

	json_set(spec, "cpus", json_new_int(2));
	assert_int_equal(inventory_create(inv, &init, &o, NULL), 0);
	return o;
}

static void objects_are_found_by_name_id_and_prefix(void **state)
{
	struct object *a = make("a"), *b = make("b");
	struct err *e = NULL;
	char prefix[5];

	assert_ptr_equal(inventory_find(inv, "instance", "default", "a", NULL), a);
	assert_ptr_equal(inventory_find(inv, "instance", "default", b->id, NULL), b);
	assert_ptr_equal(inventory_find(inv, "instance", "default", b->id, NULL), b);
	assert_null(inventory_find(inv, "instance", "other", "a", &e));
	assert_string_equal(err_msg(e), "there is no instance 'a'");
	err_clear(&e);
	snprintf(prefix, sizeof(prefix), "%.4s", a->id); /* both were made in the same second */
	assert_null(inventory_find(inv, "instance", "default", prefix, &e));
	assert_string_equal(err_id(e), "request.ambiguous");
	err_clear(&e);
	assert_null(inventory_find(inv, "volume", "default", a->id, NULL));
	assert_ptr_equal(inventory_next(inv, "instance", a), b);
	assert_int_equal(inventory_count(inv, "instance"), 2);
}

static void changes_count_revisions(void **state)
{
	_cleanup_(json_freep) struct json *spec = json_new_obj();
	struct object *o = make("a");
	struct object_change c = { .spec = spec, .expect = 1, .name = "z" };
	struct err *e = NULL;

	make("b");
	json_set(spec, "cpus", json_new_int(4));
	assert_non_null(strstr(object_text(o), "\"cpus\":2"));
	assert_int_equal(inventory_change(inv, o, &c, NULL), 0);
	assert_int_equal(o->revision, 2);
	assert_non_null(strstr(object_text(o), "\"name\":\"z\""));
	assert_non_null(strstr(object_text(o), "\"cpus\":4"));
	assert_null(inventory_find(inv, "instance", "default", "a", NULL));
	assert_int_equal(inventory_change(inv, o, &c, &e), -ESTALE);
	err_clear(&e);
	c = (struct object_change){ .name = "b" };
	assert_int_equal(inventory_change(inv, o, &c, &e), -EEXIST);
	err_clear(&e);
	assert_int_equal(o->revision, 2);
}

static int count_state(void *arg, const struct store_record *r, struct err **e)
{
	n_records++;
	if (strstr(r->body, "\"running\""))
		*(int *)arg += 1;
	return 0;
}

static void status_is_written_a_moment_later(void **state)
{
	struct object *o = make("a");
	struct json *patch = json_new_obj();
	int running = 0;

	json_set(patch, "state", json_new_str("running"));
	assert_int_equal(inventory_patch_status(inv, o, patch, NULL), 0);
	assert_non_null(strstr(object_text(o), "\"running\""));
	assert_int_equal(o->revision, 1);
	store_load(store, count_state, &running, NULL);
	assert_int_equal(running, 0);
	loop_once(loop, NSEC_PER_SEC);
	loop_once(loop, NSEC_PER_SEC);
	store_load(store, count_state, &running, NULL);
	assert_int_equal(running, 1);
}

static int events[4];

static void listener(struct inventory_listener *l, enum inventory_event ev, struct object *o)
{
	events[ev]++;
}

static void listeners_hear_everything(void **state)
{
	struct inventory_listener l = { .fn = listener };
	struct json *st = json_new_obj();
	struct object *o;

	memset(events, 0, sizeof(events));
	inventory_listen(inv, &l);
	o = object_ref(make("a"));
	json_set(st, "x", json_new_int(1));
	inventory_set_status(inv, o, json_clone(st), NULL);
	inventory_set_status(inv, o, st, NULL); /* the same again is no event */
	inventory_change(inv, o, &(struct object_change){ .description = "d" }, NULL);
	assert_int_equal(inventory_delete(inv, o, NULL), 0);
	assert_true(o->deleted);
	object_unref(o);
	inventory_unlisten(&l);
	make("b");
	assert_int_equal(events[OBJECT_CREATED], 1);
	assert_int_equal(events[OBJECT_STATUS], 1);
	assert_int_equal(events[OBJECT_CHANGED], 1);
	assert_int_equal(events[OBJECT_DELETED], 1);
}

static void a_reopened_inventory_is_the_same(void **state)
{
	char path[] = "/tmp/strata-unit-XXXXXX";
	struct inventory *i2;
	struct store *s;
	char text[1024];
	struct object *o, *mine = make("keep");
	int fd = mkstemp(path);

	close(fd);
	assert_int_equal(store_open_sqlite(path, &s, NULL), 0);
	assert_int_equal(inventory_open(s, loop, &i2, NULL), 0);
	for (int i = 0; i < 20; i++) {
		char name[8];
		struct object_init init = {
			.type = "instance", .project = "p", .name = name, .spec = mine->spec
		};

		snprintf(name, sizeof(name), "n%d", i);
		assert_int_equal(inventory_create(i2, &init, &o, NULL), 0);
	}
	snprintf(text, sizeof(text), "%s", object_text(o));
	inventory_close(i2);
	assert_int_equal(store_open_sqlite(path, &s, NULL), 0);
	assert_int_equal(inventory_open(s, loop, &i2, NULL), 0);
	assert_int_equal(inventory_count(i2, "instance"), 20);
	o = inventory_find(i2, "instance", "p", "n19", NULL);
	assert_string_equal(object_text(o), text);
	assert_null(inventory_next(i2, "instance", o)); /* in the order of creation */
	inventory_close(i2);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(objects_are_found_by_name_id_and_prefix, setup,
						teardown),
		cmocka_unit_test_setup_teardown(changes_count_revisions, setup, teardown),
		cmocka_unit_test_setup_teardown(status_is_written_a_moment_later, setup, teardown),
		cmocka_unit_test_setup_teardown(listeners_hear_everything, setup, teardown),
		cmocka_unit_test_setup_teardown(a_reopened_inventory_is_the_same, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
