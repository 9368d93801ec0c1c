/* Events: numbering, replay, loss told, the log file and its rotation. */
#include <fcntl.h>
#include <sys/stat.h>
#include "unit.h"
#include "base/atomicfile.h"
#include "base/str.h"
#include "node/events.h"

static struct loop *loop;
static struct inventory *inv;
static struct events *events;
static char dir[40], path[60];
static uint64_t seen, last_seen;

static int setup(void **state)
{
	struct store *s;

	seen = last_seen = 0;
	strcpy(dir, "/tmp/strata-unit-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/events", dir);
	assert_int_equal(loop_new(NULL, &loop) | store_open_mem(&s, NULL), 0);
	assert_int_equal(inventory_open(s, loop, &inv, NULL), 0);
	return events_new(inv, path, &events, NULL);
}

static int teardown(void **state)
{
	char p[80];

	events_free(events);
	inventory_close(inv);
	loop_free(loop);
	for (int i = 0; i < 5; i++) {
		snprintf(p, sizeof(p), i ? "%s.%d" : "%s", path, i);
		unlink(p);
	}
	return rmdir(dir);
}

static void count(void *arg, const struct event *ev)
{
	if (seen++)
		assert_int_equal(ev->number, last_seen + 1);
	last_seen = ev->number;
}

static void heard(struct event_listener *l, const struct event *ev)
{
	strcat(strcat(l->data, ev->type), " ");
}

static void changes_become_events(void **state)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	struct object_init init = { .type = "volume", .project = "p", .name = "v" };
	char types[256] = "";
	struct event_listener l = { .fn = heard, .data = types };
	struct json *st = json_new_obj();
	struct object *o;

	events_listen(events, &l);
	inventory_create(inv, &init, &o, NULL);
	json_set(st, "a", json_new_int(1));
	inventory_set_status(inv, o, st, NULL);
	events_emit(events, "volume.full", o, "root", NULL);
	inventory_delete(inv, o, NULL);
	events_unlisten(&l);
	assert_string_equal(types, "volume.created volume.status volume.full volume.deleted ");
	assert_int_equal(file_read(AT_FDCWD, path, 10000, &b, NULL), 0);
	assert_non_null(strstr(buf_str(&b), "\"user\":\"root\""));
	assert_null(strstr(buf_str(&b), "volume.status")); /* too many of these for a log */
}

static void loss_is_told(void **state)
{
	for (int i = 0; i < EVENTS_KEPT + 100; i++)
		events_emit(events, "x.status", NULL, NULL, NULL);
	assert_int_equal(events_last(events), EVENTS_KEPT + 100);
	assert_int_equal(events_replay(events, 40, count, NULL), 60);
	assert_int_equal(seen, EVENTS_KEPT);
	assert_int_equal(last_seen, EVENTS_KEPT + 100);
	seen = 0;
	assert_int_equal(events_replay(events, EVENTS_KEPT + 98, count, NULL), 0);
	assert_int_equal(seen, 2);
	assert_int_equal(events_replay(events, EVENTS_KEPT + 100, count, NULL), 0);
	assert_int_equal(seen, 2);
}

static void the_log_is_rotated(void **state)
{
	char *big = malloc(1 << 20), old[80];
	struct stat st;

	memset(big, 'x', (1 << 20) - 1);
	big[(1 << 20) - 1] = '\0';
	for (int i = 0; i < 20; i++) {
		struct json *j = json_new_obj();

		json_set(j, "text", json_new_str(big));
		events_emit(events, "a.b", NULL, NULL, j);
	}
	snprintf(old, sizeof(old), "%s.1", path);
	assert_int_equal(stat(old, &st), 0);
	assert_true(st.st_size > 16 << 20);
	assert_int_equal(stat(path, &st), 0);
	assert_true(st.st_size < 6 << 20);
	free(big);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(changes_become_events, setup, teardown),
		cmocka_unit_test_setup_teardown(loss_is_told, setup, teardown),
		cmocka_unit_test_setup_teardown(the_log_is_rotated, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
