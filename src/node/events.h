/* Events: what happened, in order, for streams and for the log.
 *
 * Every change in the inventory is an event by itself ("instance.created", "instance.changed", "instance.status",
 * "instance.deleted"); the rooms add what they see ("instance.oom", "host.started").  The last EVENTS_KEPT are kept in memory,
 * so that a client that reconnects with the last number it saw misses nothing; one that was away longer is told so.
 * All but status changes also go to a JSON-lines file, rotated by size.
 * Thread: the main loop's. */
#ifndef NODE_EVENTS_H
#define NODE_EVENTS_H

#include "node/inventory.h"

#define EVENTS_KEPT 4096

struct events;

struct event {
	uint64_t number; /* from 1, without gaps, since this daemon started; "sequence" in the text */
	nsec_t time;	 /* wall clock */
	const char *type, *project;
	const char *object_id, *object_name; /* NULL: of no object */
	const char *text; /* the whole event as one line of JSON, without the newline */
};

struct event_listener { /* caller's memory */
	void (*fn)(struct event_listener *l, const struct event *ev);
	void *data;
	struct list node;
};

/* log_path: NULL for none; the folder exists. */
int events_new(struct inventory *inv, const char *log_path, struct events **ret, struct err **e);
void events_free(struct events *ev); /* NULL: no effect */
DEFINE_CLEANUP(struct events *, events_free);

/* object may be NULL; data (taken, may be NULL): details, an object; actor: who caused it, NULL for the daemon. */
void events_emit(struct events *ev, const char *type, const struct object *object,
		 const char *actor, struct json *data);
void events_listen(struct events *ev, struct event_listener *l);
void events_unlisten(struct event_listener *l);

/* Calls fn for every kept event after number `since` (0: all kept).  Returns how many were lost in between. */
uint64_t events_replay(struct events *ev, uint64_t since,
		       void (*fn)(void *arg, const struct event *ev), void *arg);
uint64_t events_last(const struct events *ev);

#endif
