/* Events; see events.h. */
#define LOG_MODULE "events"
#include "node/events.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/atomicfile.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"

#define LOG_SIZE_MAX (16 * MIB)
#define LOG_FILES    4

struct kept {
	uint64_t number;
	nsec_t time;
	char *type, *project, *object_name, *text;
	char object_id[UUID_TEXT]; /* "": of no object */
};

struct events {
	struct inventory *inv;
	struct inventory_listener changes;
	struct list listeners;
	struct kept ring[EVENTS_KEPT]; /* number n is at n % EVENTS_KEPT */
	uint64_t last;
	char *log_path;
	int log_fd;
	uint64_t log_size;
};

/* -- the file ------------------------------------------------------------------------------------- */

static int open_log(struct events *ev, struct err **e)
{
	struct stat st;

	ev->log_fd = open(ev->log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
	if (ev->log_fd < 0 || fstat(ev->log_fd, &st) < 0)
		return err_sys(e, errno, "open '%s'", ev->log_path);
	ev->log_size = (uint64_t)st.st_size;
	return 0;
}

/* path -> path.1 -> ... -> path.3, the oldest goes. */
static void rotate_log(struct events *ev)
{
	_cleanup_(err_freep) struct err *e = NULL;
	char from[4096], to[4096];

	ev->log_fd = safe_close(ev->log_fd);
	for (int i = LOG_FILES - 1; i > 0; i--) {
		if (i > 1)
			snprintf(from, sizeof(from), "%s.%d", ev->log_path, i - 1);
		else
			snprintf(from, sizeof(from), "%s", ev->log_path);
		snprintf(to, sizeof(to), "%s.%d", ev->log_path, i);
		if (rename(from, to) < 0 && errno != ENOENT)
			log_warn("the event log is not rotated", "from", from, "errno",
				 err_name(errno));
	}
	if (open_log(ev, &e) < 0)
		log_err("events are no longer logged", "error", e);
}

static void write_log(struct events *ev, const char *text)
{
	static struct ratelimit rl = LOG_RATE(1, 1);
	_cleanup_(buf_done) struct buf b = { 0 };

	if (ev->log_fd < 0)
		return;
	if (ev->log_size > LOG_SIZE_MAX)
		rotate_log(ev);
	buf_addf(&b, "%s\n", text);
	if (buf_error(&b) || write_all(ev->log_fd, b.s, b.len) < 0)
		log_warn_rl(&rl, "an event is not logged", "errno", err_name(errno));
	else
		ev->log_size += b.len;
}

/* -- making --------------------------------------------------------------------------------------- */

static struct json *ref_json(const struct object *o)
{
	struct json *j = json_new_obj();

	json_set(j, "type", json_new_str(o->type));
	json_set(j, "id", json_new_str(o->id));
	json_set(j, "name", json_new_str(o->name));
	if (o->project[0])
		json_set(j, "project", json_new_str(o->project));
	return j;
}

static char *event_text(uint64_t number, nsec_t time, const char *type, const struct object *o,
			const char *actor, struct json *data)
{
	_cleanup_(json_freep) struct json *j = json_new_obj();
	char now[32];
	int r = json_set(j, "sequence", json_new_int((int64_t)number));

	r = json_set(j, "time", json_new_str(format_time(time, now, sizeof(now)))) ?: r;
	r = json_set(j, "type", json_new_str(type)) ?: r;
	if (o)
		r = json_set(j, "object", ref_json(o)) ?: r;
	if (actor)
		r = json_set(j, "user", json_new_str(actor)) ?: r;
	if (data)
		r = json_set(j, "data", data) ?: r;
	return r < 0 ? NULL : json_text(j, JSON_COMPACT);
}

static void keep(struct events *ev, struct kept k)
{
	struct kept *slot = &ev->ring[k.number % EVENTS_KEPT];

	free(slot->type);
	free(slot->project);
	free(slot->object_name);
	free(slot->text);
	*slot = k;
}

static struct event view(const struct kept *k)
{
	return (struct event){
		.number = k->number,
		.time = k->time,
		.type = k->type,
		.project = k->project,
		.object_id = k->object_id[0] ? k->object_id : NULL,
		.object_name = k->object_name,
		.text = k->text,
	};
}

void events_emit(struct events *ev, const char *type, const struct object *object,
		 const char *actor, struct json *data)
{
	nsec_t now = now_real();
	struct kept k = {
		.number = ev->last + 1,
		.time = now,
		.type = strdup(type),
		.project = strdup(object ? object->project : ""),
		.object_name = object ? strdup(object->name) : NULL,
		.text = event_text(ev->last + 1, now, type, object, actor, data),
	};
	struct event_listener *l, *tmp;
	struct event view_of_k;

	if (!k.type || !k.project || !k.text || (object && !k.object_name)) {
		log_err("an event is lost: out of memory", "type", type);
		free(k.type);
		free(k.project);
		free(k.object_name);
		free(k.text);
		return;
	}
	if (object)
		snprintf(k.object_id, sizeof(k.object_id), "%s", object->id);
	ev->last++;
	keep(ev, k);
	if (!str_ends(type, ".status"))
		write_log(ev, k.text);
	view_of_k = view(&k);
	list_for_each_entry_safe(l, tmp, &ev->listeners, node)
		l->fn(l, &view_of_k);
}

static void on_change(struct inventory_listener *l, enum inventory_event what, struct object *o)
{
	static const char *const verbs[] = { "created", "changed", "status", "deleted" };
	struct json *data = NULL;
	char type[64];

	snprintf(type, sizeof(type), "%s.%s", o->type, verbs[what]);
	if (what == OBJECT_STATUS) {
		data = json_new_obj();
		json_set(data, "status", json_ref(o->status));
	} else if (what != OBJECT_DELETED) {
		data = json_new_obj();
		json_set(data, "revision", json_new_int(o->revision));
	}
	events_emit(l->data, type, o, NULL, data);
}

int events_new(struct inventory *inv, const char *log_path, struct events **ret, struct err **e)
{
	_cleanup_(events_freep) struct events *ev = calloc(1, sizeof(*ev));
	int r;

	if (!ev)
		return err_sys(e, ENOMEM, "events");
	list_init(&ev->listeners);
	list_init(&ev->changes.node);
	ev->log_fd = -1;
	if (log_path) {
		ev->log_path = strdup(log_path);
		r = ev->log_path ? open_log(ev, e) : err_sys(e, ENOMEM, "events");
		if (r < 0)
			return r;
	}
	ev->inv = inv;
	ev->changes.fn = on_change;
	ev->changes.data = ev;
	inventory_listen(inv, &ev->changes);
	*ret = TAKE(ev);
	return 0;
}

void events_free(struct events *ev)
{
	if (!ev)
		return;
	inventory_unlisten(&ev->changes);
	for (size_t i = 0; i < EVENTS_KEPT; i++)
		keep(ev, (struct kept){ .number = i });
	safe_close(ev->log_fd);
	free(ev->log_path);
	free(ev);
}

/* -- reading -------------------------------------------------------------------------------------- */

void events_listen(struct events *ev, struct event_listener *l)
{
	list_add_tail(&ev->listeners, &l->node);
}

void events_unlisten(struct event_listener *l)
{
	list_del(&l->node);
}

uint64_t events_last(const struct events *ev)
{
	return ev->last;
}

uint64_t events_replay(struct events *ev, uint64_t since,
		       void (*fn)(void *arg, const struct event *ev), void *arg)
{
	uint64_t first = ev->last > EVENTS_KEPT ? ev->last - EVENTS_KEPT + 1 : 1, n = since + 1,
		 lost = 0;

	if (n < first) {
		lost = first - n;
		n = first;
	}
	for (; n <= ev->last; n++) {
		struct event e = view(&ev->ring[n % EVENTS_KEPT]);

		fn(arg, &e);
	}
	return lost;
}
