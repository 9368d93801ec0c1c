/* Networks and port groups over REST.  Making one takes milliseconds: it is done at once, and answered as a task all the same,
 * as the schema has it. */
#include "node/api/api.h"

#include <string.h>
#include "gen/network.h"
#include "node/service/network.h"

void route_network_list(struct api_call *c)
{
	api_list(c, "network", NULL);
}

void route_network_get(struct api_call *c)
{
	api_get(c, "network", NULL);
}

void route_portgroup_list(struct api_call *c)
{
	api_list(c, "portgroup", NULL);
}

void route_portgroup_get(struct api_call *c)
{
	api_get(c, "portgroup", NULL);
}

void route_network_create(struct api_call *c)
{
	struct api_network *in = c->request;

	if (!api_project(c, in->project ? in->project : c->project))
		return;
	api_submit(c, "network.create", "", in->project ? in->project : c->project,
		   gen_to_json(&api_network_type, in, 0));
}

void route_portgroup_create(struct api_call *c)
{
	struct api_portgroup *in = c->request;

	if (!api_project(c, in->project ? in->project : c->project))
		return;
	api_submit(c, "portgroup.create", "", in->project ? in->project : c->project,
		   gen_to_json(&api_portgroup_type, in, 0));
}

static void on_object(struct api_call *c, const char *type, const char *verb)
{
	struct object *o = api_target(c, type);

	if (o)
		api_submit(c, verb, o->id, o->project, NULL);
}

void route_network_remove(struct api_call *c)
{
	on_object(c, "network", "network.remove");
}

void route_portgroup_remove(struct api_call *c)
{
	on_object(c, "portgroup", "portgroup.remove");
}

static void change(struct api_call *c, const char *type)
{
	struct object *o = api_target(c, type);
	struct json *before = o ? json_clone(o->spec) : NULL, *args;

	if (!o)
		return;
	o = api_change(c, type);
	if (!o) {
		json_free(before);
		return;
	}
	args = json_new_obj();
	json_set(args, "before", before);
	api_submit(c, "network.change", o->id, o->project, args);
}

void route_network_patch(struct api_call *c)
{
	change(c, "network");
}

void route_portgroup_patch(struct api_call *c)
{
	change(c, "portgroup");
}
