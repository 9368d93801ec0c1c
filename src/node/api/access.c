/* Tokens and client certificates. */
#include "node/api/api.h"

#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/str.h"
#include "ext/x509.h"
#include "gen/access.h"
#include "gen/errors.h"
#include "node/auth.h"
#include "node/http/server.h"

/* In the inventory both have a spec as other objects; the API shows them flat. */
static int print_flat(struct object *o, const struct gen_type *t, const char *secret, struct buf *b)
{
	_cleanup_(json_freep) struct json *j = json_clone(o->spec);
	_cleanup_(freep) void *obj = calloc(1, t->size);
	const struct json *used = json_get(o->status, "last_used");
	char created[32];
	int r = json_set(j, "id", json_new_str(o->id));

	json_remove(j, "hash");
	r = json_set(j, "name", json_new_str(o->name)) ?: r;
	r = json_set(j, "created", json_new_str(format_time(o->created, created, sizeof(created))))
		    ?: r;
	if (used)
		r = json_set(j, "last_used", json_clone(used)) ?: r;
	if (secret)
		r = json_set(j, "secret", json_new_str(secret)) ?: r;
	if (r < 0 || !obj)
		return -ENOMEM;
	r = gen_parse(t, j, NULL, GEN_TRUSTED, obj, NULL);
	if (r == 0)
		r = gen_print(t, obj, secret ? GEN_SECRETS : 0, b);
	gen_done(t, obj);
	return r;
}

static int print_token(struct node *n, struct object *o, struct buf *b)
{
	return print_flat(o, &api_token_type, NULL, b);
}

static int print_certificate(struct node *n, struct object *o, struct buf *b)
{
	return print_flat(o, &api_certificate_type, NULL, b);
}

static int check_names(struct node *n, const struct gen_vec *projects, struct err **e)
{
	for (size_t i = 0; i < projects->n; i++) {
		if (!inventory_find(n->inventory, "project", "", ((char *const *)projects->v)[i],
				    e))
			return -ENOENT;
	}
	return 0;
}

/* The request's fields and ours (taken) become the spec. */
static int create(struct api_call *c, const char *type, struct json *ours, struct object **ret,
		  struct err **e)
{
	_cleanup_(json_freep) struct json *given =
		gen_to_json(c->route->request, c->request, GEN_SECRETS);
	_cleanup_(json_freep) struct json *extra = ours, *spec = NULL;
	struct object_init init = { .type = type, .name = json_str(json_get(c->body, "name")) };

	spec = given && extra ? json_merge_patch(given, extra) : NULL;
	if (!spec)
		return err_sys(e, ENOMEM, "create %s", type);
	json_remove(spec, "name");
	init.spec = spec;
	return inventory_create(c->node->inventory, &init, ret, e);
}

static struct json *pair(const char *key, const char *value)
{
	struct json *j = json_new_obj();

	if (json_set(j, key, json_new_str(value)) == 0)
		return j;
	json_free(j);
	return NULL;
}

static void removed(struct api_call *c, const char *type)
{
	struct object *o = api_target(c, type);
	struct err *e = NULL;
	int r;

	if (!o)
		return;
	r = inventory_delete(c->node->inventory, o, &e);
	if (r < 0) {
		api_fail(c, r, e);
		return;
	}
	if (streq(type, "certificate"))
		servers_trust_changed(c->node->servers);
	api_empty(c);
}

void route_token_list(struct api_call *c)
{
	api_list(c, "token", print_token);
}

void route_token_create(struct api_call *c)
{
	const struct api_token *t = c->request;
	_cleanup_(buf_done) struct buf b = { 0 };
	char secret[AUTH_TOKEN_MAX], hash[65];
	struct object *o = NULL;
	struct err *e = NULL;
	int r = check_names(c->node, (const struct gen_vec *)&t->projects, &e);

	auth_make_token(secret, hash);
	if (r == 0)
		r = create(c, "token", pair("hash", hash), &o, &e);
	if (r == 0)
		r = print_flat(o, &api_token_type, secret, &b);
	mem_wipe(secret, sizeof(secret));
	if (r < 0) {
		api_fail(c, r, e);
		return;
	}
	httpd_add_header(c->req, "Cache-Control", "no-store");
	api_buf(c, 201, "application/json", &b);
	mem_wipe(b.s, b.len);
}

void route_token_remove(struct api_call *c)
{
	removed(c, "token");
}

void route_certificate_list(struct api_call *c)
{
	api_list(c, "certificate", print_certificate);
}

void route_certificate_create(struct api_call *c)
{
	const struct api_certificate *t = c->request;
	char fingerprint[65], expires[32];
	struct object *o = NULL;
	struct err *e = NULL;
	nsec_t until = 0;
	int r = x509_read(t->pem, fingerprint, &until, &e);

	for (o = inventory_next(c->node->inventory, "certificate", NULL); r == 0 && o;
	     o = inventory_next(c->node->inventory, "certificate", o)) {
		if (streq(json_str(json_get(o->spec, "fingerprint")) ?: "", fingerprint))
			r = err_set(&e, EEXIST, ERR_REQUEST_EXISTS,
				    "this certificate is '%s' already", o->name);
	}
	if (r == 0)
		r = check_names(c->node, (const struct gen_vec *)&t->projects, &e);
	if (r == 0) {
		struct json *ours = pair("fingerprint", fingerprint);

		json_set(ours, "expires",
			 json_new_str(format_time(until, expires, sizeof(expires))));
		r = create(c, "certificate", ours, &o, &e);
	}
	if (r < 0) {
		api_fail(c, r, e);
		return;
	}
	servers_trust_changed(c->node->servers);
	api_show(c, 201, o, print_certificate);
}

void route_certificate_remove(struct api_call *c)
{
	removed(c, "certificate");
}
