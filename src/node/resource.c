/* Objects and structs; see resource.h. */
#include "node/resource.h"

#include <stdlib.h>
#include <string.h>
#include "base/str.h"

int resource_load(const struct object *o, const struct gen_type *t, void *ret, struct err **e)
{
	_cleanup_(json_freep) struct json *j = object_json(o);
	int r = j ? gen_parse(t, j, NULL, GEN_TRUSTED, ret, e) : err_sys(e, ENOMEM, "read");

	return r < 0 ? err_wrap(e, r, "%s '%s'", o->type, o->name) : 0;
}

int resource_create(struct inventory *inv, const char *type, const struct gen_type *t,
		    const void *obj, const char *project, const struct json *status,
		    struct object **ret, struct err **e)
{
	_cleanup_(json_freep) struct json *j = gen_to_json(t, obj, GEN_SECRETS | GEN_NO_STATUS);
	struct object_init init = {
		.type = type,
		.project = project,
		.name = json_str(json_get(j, "name")),
		.description = json_str(json_get(j, "description")),
		.labels = json_get(j, "labels"),
		.spec = json_get(j, "spec"),
		.status = status,
	};

	if (!j)
		return err_sys(e, ENOMEM, "create %s", type);
	return inventory_create(inv, &init, ret, e);
}

int resource_store(struct inventory *inv, struct object *o, const struct gen_type *t,
		   const void *next, int64_t expect, struct err **e)
{
	_cleanup_(json_freep) struct json *j = gen_to_json(t, next, GEN_SECRETS | GEN_NO_STATUS);
	_cleanup_(json_freep) struct json *none = json_new_null(), *empty = json_new_obj();
	struct object_change c = { .expect = expect };
	const char *name = json_str(json_get(j, "name"));
	const char *description = json_str(json_get(j, "description"));
	const struct json *labels = json_get(j, "labels"), *spec = json_get(j, "spec");

	if (!j || !none || !empty || !name)
		return err_sys(e, ENOMEM, "change %s '%s'", o->type, o->name);
	spec = spec ? spec : empty;
	if (!streq(name, o->name))
		c.name = name;
	if (!streq(description ? description : "", o->description ? o->description : ""))
		c.description = description ? description : "";
	if (!json_same(labels, o->labels) && (json_len(labels) || json_len(o->labels)))
		c.labels = labels ? labels : none;
	if (!json_same(spec, o->spec))
		c.spec = spec;
	if (expect || c.name || c.description || c.labels || c.spec)
		return inventory_change(inv, o, &c, e);
	return 0;
}
