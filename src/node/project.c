/* Projects; see project.h. */
#include "node/project.h"

#include <stdlib.h>
#include <string.h>
#include "base/str.h"
#include "node/resource.h"

int project_ensure_default(struct inventory *inv, struct err **e)
{
	_cleanup_(api_project_done) struct api_project p = { 0 };
	struct object *o = inventory_find(inv, "project", "", "default", NULL);
	int r;

	if (o)
		return 0;
	r = api_project_init(&p);
	p.name = strdup("default");
	if (r < 0 || !p.name)
		return err_sys(e, ENOMEM, "project");
	return resource_create(inv, "project", &api_project_type, &p, "", NULL, &o, e);
}

static uint64_t size_of(const struct json *v)
{
	return (uint64_t)MAX(json_int(v, 0), (int64_t)0);
}

void project_usage(struct inventory *inv, const char *name, struct api_project_status *ret)
{
	struct object *o;

	*ret = (struct api_project_status){ 0 };
	for (o = inventory_next(inv, "instance", NULL); o; o = inventory_next(inv, "instance", o)) {
		if (!streq(o->project, name))
			continue;
		ret->instances++;
		ret->cpus += size_of(json_walk(o->spec, "cpu", "count", NULL));
		ret->memory += size_of(json_walk(o->spec, "memory", "size", NULL));
		ret->disk += size_of(json_walk(o->spec, "root", "size", NULL));
	}
	for (o = inventory_next(inv, "volume", NULL); o; o = inventory_next(inv, "volume", o))
		ret->disk += streq(o->project, name) ? size_of(json_get(o->spec, "size")) : 0;
	for (o = inventory_next(inv, "network", NULL); o; o = inventory_next(inv, "network", o))
		ret->networks += streq(o->project, name);
}

bool project_in_use(struct inventory *inv, const char *name)
{
	static const char *const types[] = { "instance",  "volume",   "image",	 "network",
					     "portgroup", "firewall", "snapshot" };

	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		for (struct object *o = inventory_next(inv, types[i], NULL); o;
		     o = inventory_next(inv, types[i], o)) {
			if (streq(o->project, name))
				return true;
		}
	}
	return false;
}
