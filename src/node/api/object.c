/* Reading objects of any type: lists with filters, and one by name or id. */
#include "node/api/api.h"

#include <string.h>
#include "base/str.h"

/* What the paths call them. */
static const struct {
	const char *plural, *type;
	bool global;
} kinds[] = {
	{ "datastores", "datastore", true },  { "images", "image", false },
	{ "instances", "instance", false },   { "networks", "network", false },
	{ "portgroups", "portgroup", false }, { "projects", "project", true },
	{ "snapshots", "snapshot", false },   { "volumes", "volume", false },
};

static int find_kind(const char *plural)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (streq(kinds[i].plural, plural))
			return (int)i;
	}
	return -ENOENT;
}

struct object *api_target(struct api_call *c, const char *type)
{
	struct err *e = NULL;
	struct object *o = inventory_find(c->node->inventory, type, c->project, c->params[0], &e);

	if (!o)
		api_fail(c, -ENOENT, e);
	return o;
}

void api_accepted(struct api_call *c, struct object *task)
{
	char location[64];

	snprintf(location, sizeof(location), "/v1/tasks/%s", task->id);
	httpd_add_header(c->req, "Location", location);
	api_text(c, 202, object_text(task));
}

nsec_t api_wait(struct api_call *c)
{
	const char *text = httpd_query(c->req, "wait");
	struct err *e = NULL;
	nsec_t d = 0;

	if (!text)
		return 0;
	if (parse_duration(*text ? text : "60s", &d) == 0 && d <= 3600 * NSEC_PER_SEC)
		return d;
	err_set(&e, EINVAL, "query.wait",
		"wait: '%s' is not a duration of at most an hour (try 30s)", text);
	api_fail(c, -EINVAL, e);
	return -1;
}

/* label=k or label=k=v; every given one must hold. */
struct filter {
	const struct object *o;
	bool ok;
};

static void match_label(void *arg, const char *name, const char *value)
{
	struct filter *f = arg;
	const char *eq = strchr(value, '='), *have;
	char key[129];
	size_t len = eq ? (size_t)(eq - value) : strlen(value);

	if (!streq(name, "label") || len >= sizeof(key))
		return;
	memcpy(key, value, len);
	key[len] = '\0';
	have = json_str(json_get(f->o->labels, key));
	f->ok &= have && (!eq || streq(have, eq + 1));
}

static bool wanted(struct api_call *c, const struct object *o)
{
	const char *name = httpd_query(c->req, "name"), *state = httpd_query(c->req, "state"), *is;
	struct filter f = { o, true };

	if (o->project[0] && !streq(c->project, "*") && !streq(o->project, c->project))
		return false;
	if (name && !streq(o->name, name))
		return false;
	is = json_str(json_get(o->status, "state"));
	if (state && (!is || !streq(is, state)))
		return false;
	httpd_each_query(c->req, match_label, &f);
	return f.ok;
}

static void list(struct api_call *c, const char *type)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	const char *sep = "";

	buf_adds(&b, "{\"items\":[");
	for (struct object *o = inventory_next(c->node->inventory, type, NULL); o;
	     o = inventory_next(c->node->inventory, type, o)) {
		const char *text;

		if (!wanted(c, o))
			continue;
		text = object_text(o);
		buf_addf(&b, "%s\n", sep);
		if (!text || buf_adds(&b, text) < 0) {
			api_fail(c, -ENOMEM, NULL);
			return;
		}
		sep = ",";
	}
	buf_adds(&b, "]}\n");
	api_buf(c, 200, "application/json", &b);
}

static void get_list(struct api_call *c)
{
	int k = find_kind(c->params[0]);

	if (k < 0) {
		struct err *e = NULL;

		err_set(&e, ENOENT, "http.path", "there is nothing at '%s'", httpd_path(c->req));
		api_fail(c, -ENOENT, e);
		return;
	}
	list(c, kinds[k].type);
}

static void get_one(struct api_call *c)
{
	int k = find_kind(c->params[0]);
	struct err *e = NULL;
	struct object *o;
	char etag[32];

	if (k < 0) {
		err_set(&e, ENOENT, "http.path", "there is nothing at '%s'", httpd_path(c->req));
		api_fail(c, -ENOENT, e);
		return;
	}
	o = inventory_find(c->node->inventory, kinds[k].type, kinds[k].global ? "" : c->project,
			   c->params[1], &e);
	if (!o) {
		api_fail(c, -ENOENT, e);
		return;
	}
	snprintf(etag, sizeof(etag), "\"%lld\"", (long long)o->revision);
	httpd_add_header(c->req, "ETag", etag);
	api_text(c, 200, object_text(o));
}

const struct route api_object_routes[] = {
	{ "GET", "/v1/{type}", ROLE_VIEWER, false, get_list },
	{ "GET", "/v1/{type}/{ref}", ROLE_VIEWER, false, get_one },
	{ NULL },
};
