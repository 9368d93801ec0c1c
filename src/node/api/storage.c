/* Datastores and volumes over REST. */
#include "node/api/api.h"

#include <string.h>
#include <sys/stat.h>
#include "gen/rest.h"
#include "node/service/storage.h"

static int print_datastore(struct node *n, struct object *o, struct buf *b)
{
	const char *text;

	datastore_refresh(n, o);
	text = object_text(o);
	return text ? buf_adds(b, text) : -ENOMEM;
}

void route_datastore_list(struct api_call *c)
{
	api_list(c, "datastore", print_datastore);
}

void route_datastore_get(struct api_call *c)
{
	api_get(c, "datastore", print_datastore);
}

void route_datastore_patch(struct api_call *c)
{
	struct object *o = api_change(c, "datastore");

	if (o)
		api_show(c, 200, o, print_datastore);
}

void route_datastore_create(struct api_call *c)
{
	api_submit(c, "datastore.create", "", "", gen_to_json(&api_datastore_type, c->request, 0));
}

void route_datastore_remove(struct api_call *c)
{
	struct object *o = api_target(c, "datastore");

	if (o)
		api_submit(c, "datastore.remove", o->id, "", NULL);
}

/* What a volume takes is read when somebody looks. */
static int print_volume(struct node *n, struct object *o, struct buf *b)
{
	_cleanup_(api_volume_done) struct api_volume v = { 0 };
	char path[4096];
	struct stat st;
	int r = resource_load(o, &api_volume_type, &v, NULL);

	if (r < 0)
		return r;
	if (volume_file(n, o, path, sizeof(path), NULL) == 0 && stat(path, &st) == 0)
		v.status.used = (uint64_t)st.st_blocks * 512;
	return api_volume_print(&v, 0, b);
}

void route_volume_list(struct api_call *c)
{
	api_list(c, "volume", print_volume);
}

void route_volume_get(struct api_call *c)
{
	api_get(c, "volume", print_volume);
}

void route_volume_create(struct api_call *c)
{
	struct api_volume *in = c->request;
	const char *project = in->project ? in->project : c->project;
	_cleanup_(json_freep) struct json *status = json_new_obj();
	struct err *e = NULL;
	struct object *o = NULL;
	int r;

	if (!api_project(c, project))
		return;
	json_set(status, "state", json_new_str("creating"));
	r = volume_admit(c->node, in, &e);
	if (r == 0)
		r = resource_create(c->node->inventory, "volume", &api_volume_type, in, project,
				    status, &o, &e);
	if (r < 0 || !o)
		api_fail(c, r, e);
	else
		api_submit(c, "volume.create", o->id, o->project, NULL);
}

void route_volume_remove(struct api_call *c)
{
	struct object *o = api_target(c, "volume");
	struct err *e = NULL;
	int r;

	if (!o)
		return;
	r = volume_remove_check(c->node, o, &e);
	if (r < 0)
		api_fail(c, r, e);
	else
		api_submit(c, "volume.remove", o->id, o->project, NULL);
}
