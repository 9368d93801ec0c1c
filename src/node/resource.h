/* Objects of the inventory as the schema's structs and back.
 *
 *	_cleanup_(api_volume_done) struct api_volume v = { 0 };
 *	if (resource_load(o, &api_volume_type, &v, e) < 0) ...
 *
 * Thread: the main loop's. */
#ifndef NODE_RESOURCE_H
#define NODE_RESOURCE_H

#include "gen/object.h"
#include "node/inventory.h"

/* ret: zeroed memory of t->size, a resource type; the caller releases it with gen_done(). */
int resource_load(const struct object *o, const struct gen_type *t, void *ret, struct err **e);

/* A new object with obj's name, description, labels and spec, defaults filled in.  project: "" for types without.
 * status (borrowed): NULL for none. */
int resource_create(struct inventory *inv, const char *type, const struct gen_type *t,
		    const void *obj, const char *project, const struct json *status,
		    struct object **ret, struct err **e);

/* Name, description, labels and spec of o become those of next, when they differ.
 * expect: revision that the client saw; 0: any. */
int resource_store(struct inventory *inv, struct object *o, const struct gen_type *t,
		   const void *next, int64_t expect, struct err **e);

#endif
