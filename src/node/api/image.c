/* Images and guest kernels over REST. */
#include "node/api/api.h"

#include <string.h>
#include "base/str.h"
#include "gen/image.h"
#include "gen/rest.h"
#include "node/service/image.h"

static void items(struct api_call *c, struct json *list, struct err *e)
{
	struct json *o;

	if (!list) {
		api_fail(c, -err_num(e), e);
		return;
	}
	o = json_new_obj();
	json_set(o, "items", list);
	api_json(c, 200, o);
}

void route_image_list(struct api_call *c)
{
	struct err *e = NULL;
	struct json *list = images_list(c->node->images, &e);

	items(c, list, e);
}

static void show(struct api_call *c, const char *ref)
{
	struct err *e = NULL;
	struct json *o = images_show(c->node->images, ref, &e);

	if (o)
		api_json(c, 200, o);
	else
		api_fail(c, -err_num(e), e);
}

void route_image_get(struct api_call *c)
{
	show(c, c->params[0]);
}

void route_image_tag(struct api_call *c)
{
	const struct api_image_tag *rq = c->request;
	struct err *e = NULL;
	int r = images_tag(c->node->images, c->params[0], rq->name, &e);

	if (r < 0)
		api_fail(c, r, e);
	else
		show(c, rq->name);
}

/* Instances made from the image are named: they keep its layers, but it would be missing at their next start. */
static struct object *user_of(struct api_call *c, const struct image_entry *i)
{
	struct inventory *inv = c->node->inventory;

	for (struct object *o = inventory_next(inv, "instance", NULL); o;
	     o = inventory_next(inv, "instance", o)) {
		const char *d = json_str(json_get(o->status, "image_digest"));

		if (d && streq(d, i->parts.desc.digest.s))
			return o;
	}
	return NULL;
}

void route_image_remove(struct api_call *c)
{
	const struct api_remove_query *q = c->query;
	_cleanup_(image_entry_unrefp) struct image_entry *i = NULL;
	struct err *e = NULL;
	struct object *user;
	struct json *args;
	int r = images_find(c->node->images, c->params[0], &i, &e);

	user = r == 0 ? user_of(c, i) : NULL;
	if (user && !q->force)
		r = err_set(&e, EBUSY, "image.used",
			    "instance '%s' is made from image '%s': remove it first, or use force",
			    user->name, c->params[0]);
	if (r < 0) {
		api_fail(c, r, e);
		return;
	}
	args = json_new_obj();
	json_set(args, "image", json_new_str(c->params[0]));
	api_submit(c, "image.remove", "", "", args);
}

/* The request as it came is the task's arguments. */
static void submit(struct api_call *c, const char *verb, const struct gen_type *t)
{
	api_submit(c, verb, "", c->project, gen_to_json(t, c->request, GEN_SECRETS));
}

void route_image_pull(struct api_call *c)
{
	submit(c, "image.pull", &api_image_pull_type);
}

void route_image_push(struct api_call *c)
{
	submit(c, "image.push", &api_image_push_type);
}

void route_image_import(struct api_call *c)
{
	if (c->role < GEN_ROLE_ADMIN) {
		struct err *e = NULL;

		err_set(&e, EACCES, "auth.role", "files of the host are the administrator's");
		api_fail(c, -EACCES, e);
		return;
	}
	submit(c, "image.import", &api_image_import_type);
}

void route_image_bootstrap(struct api_call *c)
{
	submit(c, "image.bootstrap", &api_image_bootstrap_type);
}

void route_image_prune(struct api_call *c)
{
	submit(c, "image.prune", &api_image_prune_type);
}

/* -- kernels -------------------------------------------------------------------------------------- */

void route_kernel_list(struct api_call *c)
{
	struct err *e = NULL;
	struct json *list = kernels_list(c->node->images, &e);

	items(c, list, e);
}

void route_kernel_get(struct api_call *c)
{
	struct err *e = NULL;
	struct json *list = kernels_list(c->node->images, &e);

	for (size_t k = 0; k < json_len(list); k++) {
		const struct json *o = json_at(list, k);

		if (streq(json_str(json_get(o, "version")) ?: "", c->params[0])) {
			struct json *one = json_clone(o);

			json_free(list);
			api_json(c, 200, one);
			return;
		}
	}
	if (list)
		err_set(&e, ENOENT, "kernel.missing", "there is no guest kernel '%s'",
			c->params[0]);
	json_free(list);
	api_fail(c, -err_num(e), e);
}

void route_kernel_install(struct api_call *c)
{
	submit(c, "kernel.install", &api_kernel_install_type);
}

void route_kernel_remove(struct api_call *c)
{
	struct err *e = NULL;
	int r = kernels_remove(c->node->images, c->params[0], &e);

	if (r < 0)
		api_fail(c, r, e);
	else
		api_empty(c);
}
