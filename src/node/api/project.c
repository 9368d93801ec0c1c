/* Projects. */
#include "node/api/api.h"

#include <string.h>
#include "base/str.h"
#include "gen/errors.h"
#include "gen/formats.h"
#include "gen/project.h"
#include "node/project.h"

static int print_project(struct node *n, struct object *o, struct buf *b)
{
	_cleanup_(api_project_done) struct api_project p = { 0 };
	int r = resource_load(o, &api_project_type, &p, NULL);

	if (r < 0)
		return r;
	project_usage(n->inventory, o->name, &p.status);
	return api_project_print(&p, 0, b);
}

void route_project_list(struct api_call *c)
{
	api_list(c, "project", print_project);
}

void route_project_get(struct api_call *c)
{
	api_get(c, "project", print_project);
}

void route_project_create(struct api_call *c)
{
	const struct api_project *p = c->request;
	struct err *e = NULL;
	struct object *o;
	int r = 0;

	/* other objects name it, in a narrower form than names have */
	if (!gen_format_fits(&gen_format_project, p->name) ||
	    strlen(p->name) > gen_format_project.max_len)
		r = err_set(&e, EINVAL, ERR_SCHEMA_FORMAT, "project.name: '%s' is not %s", p->name,
			    gen_format_project.help);
	if (r == 0)
		r = resource_create(c->node->inventory, "project", &api_project_type, p, "", NULL,
				    &o, &e);
	if (r < 0)
		api_fail(c, r, e);
	else
		api_show(c, 201, o, print_project);
}

void route_project_patch(struct api_call *c)
{
	const char *name = json_str(json_get(c->body, "name"));
	struct object *o;

	if (name && !streq(name, c->params[0])) {
		struct err *e = NULL;

		err_set(&e, EPERM, ERR_SCHEMA_IMMUTABLE,
			"project.name: cannot be changed: other objects name the project");
		api_fail(c, -EPERM, e);
		return;
	}
	o = api_change(c, "project");
	if (o)
		api_show(c, 200, o, print_project);
}

void route_project_remove(struct api_call *c)
{
	struct object *o = api_target(c, "project");
	struct err *e = NULL;
	int r = 0;

	if (!o)
		return;
	if (streq(o->name, "default"))
		r = err_set(&e, EBUSY, ERR_REQUEST_PROTECTED, "the project 'default' stays");
	else if (project_in_use(c->node->inventory, o->name))
		r = err_set(&e, EBUSY, ERR_REQUEST_IN_USE, "project '%s' is not empty", o->name);
	if (r == 0)
		r = inventory_delete(c->node->inventory, o, &e);
	if (r < 0)
		api_fail(c, r, e);
	else
		api_empty(c);
}
