/* Reading objects of any type: lists with filters, and one by name or id. */
#include "node/api/api.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include "base/str.h"
#include "gen/errors.h"
#include "node/auth.h"

/* Types that belong to no project. */
static bool is_global(const char *type)
{
	static const char *const types[] = { "certificate", "datastore", "host",  "kernel",
					     "project",	    "storage",	 "token", NULL };

	for (const char *const *t = types; *t; t++) {
		if (streq(*t, type))
			return true;
	}
	return false;
}

/* Where names of a type are looked up: "" for global ones, NULL (ids only) when the route's query names no project. */
static const char *where(const struct api_call *c, const char *type)
{
	const struct gen_type *q = c->route->query;

	if (is_global(type))
		return "";
	return q && gen_field_find(q, "project", 7) ? c->project : NULL;
}

struct object *api_project(struct api_call *c, const char *name)
{
	struct err *e = NULL;
	struct object *o = inventory_find(c->node->inventory, "project", "", name, &e);

	if (!o)
		api_fail(c, -ENOENT, e);
	return o;
}

struct object *api_target(struct api_call *c, const char *type)
{
	struct err *e = NULL;
	struct object *o =
		inventory_find(c->node->inventory, type, where(c, type), c->params[0], &e);

	if (o && !auth_may_see(c, o->project)) {
		err_set(&e, ENOENT, ERR_REQUEST_NOT_FOUND, "there is no %s '%s'", type,
			c->params[0]);
		o = NULL;
	}
	if (!o)
		api_fail(c, -ENOENT, e);
	return o;
}

int64_t api_if_match(struct api_call *c)
{
	const char *text = httpd_header(c->req, "If-Match");
	struct err *e = NULL;
	char digits[24];
	uint64_t n;
	size_t len;

	if (!text || streq(text, "*"))
		return 0;
	len = strlen(text);
	if (len > 2 && len < sizeof(digits) && text[0] == '"' && text[len - 1] == '"') {
		snprintf(digits, sizeof(digits), "%.*s", (int)len - 2, text + 1);
		if (parse_u64(digits, INT64_MAX, &n) == 0 && n > 0)
			return (int64_t)n;
	}
	err_set(&e, EINVAL, ERR_SCHEMA_FORMAT, "If-Match: '%.100s' is not a revision in quotes",
		text);
	api_fail(c, -EINVAL, e);
	return -1;
}

static int change(struct api_call *c, struct object *o, int64_t expect, struct err **e)
{
	const struct gen_type *t = c->route->request;
	_cleanup_(freep) void *now = calloc(1, t->size), *next = calloc(1, t->size);
	int r = now && next ? resource_load(o, t, now, e) : -ENOMEM;

	if (r < 0)
		return r;
	r = (c->route->method == GEN_PATCH ? gen_patch : gen_replace)(t, now, c->body, false, next,
								      e);
	if (r == 0)
		r = resource_store(c->node->inventory, o, t, next, expect, e);
	gen_done(t, now);
	gen_done(t, next);
	return r;
}

struct object *api_change(struct api_call *c, const char *type)
{
	struct object *o = api_target(c, type);
	int64_t expect = o ? api_if_match(c) : -1;
	struct err *e = NULL;
	int r;

	if (expect < 0)
		return NULL;
	r = change(c, o, expect, &e);
	if (r < 0) {
		api_fail(c, r, e);
		return NULL;
	}
	return o;
}

/* -- lists ---------------------------------------------------------------------------------------- */

struct filter {
	const char *project; /* NULL: any */
	const char *name;    /* pattern; NULL: any */
	const char *after;   /* id; NULL: from the start */
	const struct gen_vec *labels;
	uint64_t limit;
};

/* NAME or NAME=VALUE */
static bool has_label(const struct object *o, const char *want)
{
	size_t len = strcspn(want, "=");
	const char *have;
	char key[256];

	if (len >= sizeof(key))
		return false;
	memcpy(key, want, len);
	key[len] = '\0';
	have = json_str(json_get(o->labels, key));
	return have && (!want[len] || streq(have, want + len + 1));
}

static bool wanted(const struct filter *f, const struct object *o)
{
	if (f->project && !streq(o->project, f->project))
		return false;
	if (f->name && fnmatch(f->name, o->name, 0) != 0)
		return false;
	for (size_t i = 0; f->labels && i < f->labels->n; i++) {
		if (!has_label(o, ((char *const *)f->labels->v)[i]))
			return false;
	}
	/* ids of later objects are greater: the one itself may be gone meanwhile */
	return !f->after || strcmp(o->id, f->after) > 0;
}

static struct filter read_filter(struct api_call *c, const char *type)
{
	const uint64_t *limit = api_query_field(c, "limit");
	struct filter f = {
		.name = api_query_str(c, "name"),
		.after = api_query_str(c, "after"),
		.labels = api_query_field(c, "label"),
		.limit = limit ? *limit : UINT64_MAX,
	};

	if (!is_global(type) && !api_query_on(c, "all_projects"))
		f.project = where(c, type);
	return f;
}

void api_list(struct api_call *c, const char *type, api_print_fn *print)
{
	api_list_if(c, type, print, NULL);
}

void api_list_if(struct api_call *c, const char *type, api_print_fn *print, api_fits_fn *fits)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	struct filter f = read_filter(c, type);
	struct object *last = NULL;
	uint64_t n = 0;

	if (f.project && !api_project(c, f.project))
		return;
	buf_adds(&b, "{\"items\":[");
	for (struct object *o = inventory_next(c->node->inventory, type, NULL); o;
	     o = inventory_next(c->node->inventory, type, o)) {
		int r = 0;

		if (!wanted(&f, o) || (fits && !fits(c->query, o)))
			continue;
		if (n++ == f.limit)
			break;
		if (last)
			buf_addc(&b, ',');
		last = o;
		if (print)
			r = print(c->node, o, &b);
		else
			buf_adds(&b, object_text(o) ?: "");
		if (r < 0 || !(print || object_text(o))) {
			api_fail(c, r < 0 ? r : -ENOMEM, NULL);
			return;
		}
	}
	buf_addc(&b, ']');
	if (n > f.limit)
		buf_addf(&b, ",\"next\":\"%s\"", last->id);
	buf_addc(&b, '}');
	api_buf_taken(c, 200, "application/json", &b);
}

/* -- one ------------------------------------------------------------------------------------------ */

void api_show(struct api_call *c, unsigned int status, struct object *o, api_print_fn *print)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	char etag[32];
	int r;

	snprintf(etag, sizeof(etag), "\"%lld\"", (long long)o->revision);
	httpd_add_header(c->req, "ETag", etag);
	if (!print) {
		api_text(c, status, object_text(o));
		return;
	}
	r = print(c->node, o, &b);
	if (r < 0)
		api_fail(c, r, NULL);
	else
		api_buf(c, status, "application/json", &b);
}

void api_get(struct api_call *c, const char *type, api_print_fn *print)
{
	struct object *o = api_target(c, type);

	if (o)
		api_show(c, 200, o, print);
}
