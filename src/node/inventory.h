/* The inventory: every object of the daemon, in memory, written through to the store.
 *
 * Reading costs nothing (indexes and printed text are kept); a change of `spec`, name or labels is on disk when the call
 * returns and counts a revision; a change of `status` is seen at once and written a moment later, many together, since
 * status is what the host says again after a restart.
 *
 * An object pointer is borrowed and lives until the object is deleted: keep the id across a return to the loop, or hold it with
 * object_ref().  Thread: the main loop's. */
#ifndef NODE_INVENTORY_H
#define NODE_INVENTORY_H

#include "base/hmap.h"
#include "base/list.h"
#include "base/loop.h"
#include "base/uuid.h"
#include "cluster/cluster.h"
#include "ext/json.h"

struct inventory;

struct object {		  /* read only; change it through the functions below */
	const char *type; /* interned: compare with streq all the same */
	char id[UUID_TEXT];
	char *project; /* "" for those that belong to none */
	char *name;
	char *description;	    /* NULL: none */
	struct json *labels;	    /* object of strings, or NULL */
	struct json *spec, *status; /* objects */
	nsec_t created;
	int64_t revision;
	bool deleted; /* kept alive by a reference alone */
	/* private */
	unsigned int refs;
	char *text;
	bool dirty;
	struct hnode by_id, by_name;
	struct list node, dirty_node;
};

/* What happened to an object; listeners are called after the fact, on the same stack. */
enum inventory_event { OBJECT_CREATED, OBJECT_CHANGED, OBJECT_STATUS, OBJECT_DELETED };
struct inventory_listener { /* caller's memory */
	void (*fn)(struct inventory_listener *l, enum inventory_event ev, struct object *o);
	void *data;
	struct list node;
};

/* store: taken.  Loads everything; a record that does not parse is refused with its type and name. */
int inventory_open(struct store *store, struct loop *loop, struct inventory **ret, struct err **e);
void inventory_close(struct inventory *inv); /* writes what is dirty; NULL: no effect */
DEFINE_CLEANUP(struct inventory *, inventory_close);
/* Write pending status now. */
int inventory_flush(struct inventory *inv, struct err **e);
struct store *inventory_store(struct inventory *inv);

/* -- reading -- */
struct object *inventory_get(struct inventory *inv, const char *id); /* NULL: none */
/* By name, id or an unambiguous prefix (4 or more characters) of an id.  project NULL: by id or prefix in any.
 * NULL: "<type>.not_found", "request.ambiguous". */
struct object *inventory_find(struct inventory *inv, const char *type, const char *project,
			      const char *ref, struct err **e);
/* Objects of a type in the order of creation: start with NULL. */
struct object *inventory_next(struct inventory *inv, const char *type, struct object *o);
size_t inventory_count(struct inventory *inv, const char *type);
/* The whole object as a tree, the caller's; NULL: out of memory. */
struct json *object_json(const struct object *o);
/* The same as text; kept until it changes. NULL: out of memory. */
const char *object_text(struct object *o);

struct object *object_ref(struct object *o);
void object_unref(struct object *o); /* NULL: no effect */
DEFINE_CLEANUP(struct object *, object_unref);

/* -- changing -- */
struct object_init {
	const char *type, *project, *name;
	const char *description;
	const struct json *labels, *spec, *status; /* borrowed; may be NULL */
};
/* -EEXIST "request.exists": the name is taken. */
int inventory_create(struct inventory *inv, const struct object_init *init, struct object **ret,
		     struct err **e);

struct object_change { /* NULL: as it is; json null in labels or "" in description: none */
	const char *name, *description;
	const struct json *labels, *spec;
	int64_t expect; /* revision that the client saw; 0: any */
};
/* -ESTALE "request.conflict" when expect differs. */
int inventory_change(struct inventory *inv, struct object *o, const struct object_change *c,
		     struct err **e);
/* status: taken, also on failure. */
int inventory_set_status(struct inventory *inv, struct object *o, struct json *status,
			 struct err **e);
/* Merge (RFC 7396) patch into the status; patch is taken. */
int inventory_patch_status(struct inventory *inv, struct object *o, struct json *patch,
			   struct err **e);
int inventory_delete(struct inventory *inv, struct object *o, struct err **e);

void inventory_listen(struct inventory *inv, struct inventory_listener *l);
void inventory_unlisten(struct inventory_listener *l);

#endif
