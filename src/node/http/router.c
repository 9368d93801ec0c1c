/* The edge of the REST API; see router.h. */
#define LOG_MODULE "api"
#include "node/http/router.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "gen/error.h"
#include "gen/errors.h"
#include "node/audit.h"
#include "node/auth.h"
#include "node/node.h"

struct router {
	struct node *node;
};

#define API_ROW(id, name) [id] = route_##name,
static api_handler_fn *const handlers[ROUTE_MAX] = { GEN_ROUTES(API_ROW) };

int router_new(struct node *node, struct router **ret, struct err **e)
{
	struct router *r = calloc(1, sizeof(*r));

	if (!r)
		return err_sys(e, ENOMEM, "router");
	r->node = node;
	*ret = r;
	return 0;
}

void router_free(struct router *r)
{
	free(r);
}

/* -- answers -------------------------------------------------------------------------------------- */

static void object_free(const struct gen_type *t, void *o)
{
	if (o)
		gen_done(t, o);
	free(o);
}

/* What a call holds can be looked at until its handler returns, answered or not. */
static void call_free(struct api_call *c)
{
	c->ended = true;
	if (c->in_handler)
		return;
	if (c->route) {
		object_free(c->route->query, c->query);
		object_free(c->route->request, c->request);
	}
	json_free(c->body);
	json_free(c->projects);
	free(c);
}

/* Changes are in the audit log whoever made them, and who was turned away; other reads are not. */
static void audit(struct api_call *c, unsigned int status, const char *error_id)
{
	bool read = streq(httpd_method(c->req), "GET") || streq(httpd_method(c->req), "HEAD");

	if (!read || status == 401 || status == 403)
		audit_write(c->node->audit, c, status, error_id);
}

void api_done(struct api_call *c)
{
	audit(c, 200, NULL); /* a stream, a websocket, or nobody is there to be answered */
	call_free(c);
}

static void answer(struct api_call *c, unsigned int status, const char *type, const void *body,
		   size_t len)
{
	if (status < 400)
		audit(c, status, NULL);
	httpd_reply(c->req, status, type, body, len);
	call_free(c);
}

void api_text(struct api_call *c, unsigned int status, const char *json_text)
{
	if (json_text)
		answer(c, status, "application/json", json_text, strlen(json_text));
	else
		api_fail(c, -ENOMEM, NULL);
}

void api_json(struct api_call *c, unsigned int status, struct json *v)
{
	_cleanup_(freep) char *text = v ? json_text(v, JSON_COMPACT) : NULL;

	json_free(v);
	api_text(c, status, text);
}

void api_object(struct api_call *c, unsigned int status, const struct gen_type *t, const void *obj)
{
	_cleanup_(buf_done) struct buf b = { 0 };

	gen_print(t, obj, 0, &b);
	api_buf(c, status, "application/json", &b);
}

/* Large ones, lists, are handed over instead of copied. */
void api_buf_taken(struct api_call *c, unsigned int status, const char *type, struct buf *b)
{
	size_t len = b->len;

	if (buf_error(b) || !len) {
		api_buf(c, status, type, b);
		return;
	}
	audit(c, status, NULL);
	httpd_reply_taken(c->req, status, type, buf_take(b), len);
	call_free(c);
}

void api_buf(struct api_call *c, unsigned int status, const char *type, const struct buf *b)
{
	if (buf_error(b))
		api_fail(c, -ENOMEM, NULL);
	else
		answer(c, status, type, buf_str(b), b->len);
}

void api_empty(struct api_call *c)
{
	answer(c, 204, NULL, "", 0);
}

void api_fail(struct api_call *c, int r, struct err *e)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	const struct gen_error *known;
	const char *id;

	if (!e)
		err_set(&e, -r, "sys", "%s", strerror(-r));
	known = gen_error_of(e);
	id = gen_error_id(e);
	if (known->status >= 500 && known->status != 501) /* a host that cannot is no fault */
		log_err("request failed", "method", httpd_method(c->req), "path",
			httpd_path(c->req), "error", e);
	audit(c, (unsigned int)known->status, id);
	buf_adds(&b, "{\"error\":{\"id\":");
	buf_add_json(&b, id);
	buf_adds(&b, ",\"message\":");
	buf_add_json(&b, err_msg(e));
	if (known->hint) {
		buf_adds(&b, ",\"hint\":");
		buf_add_json(&b, known->hint);
	}
	buf_adds(&b, "}}");
	err_free(e);
	if (buf_error(&b))
		answer(c, 503, "text/plain", "out of memory\n", 14);
	else
		answer(c, (unsigned int)known->status, "application/json", b.s, b.len);
}

/* -- reading a request ---------------------------------------------------------------------------- */

static int find_route(struct api_call *c, struct err **e)
{
	_cleanup_(buf_done) struct buf allow = { 0 };
	const char *name = httpd_method(c->req);
	enum gen_method m = GEN_METHODS; /* of none: fits no route */
	int r;

	gen_method_parse(streq(name, "HEAD") ? "GET" : name, &m);
	r = gen_route_find(m, httpd_raw_path(c->req), &c->match, e);
	if (r == 0)
		c->route = c->match.route;
	for (enum gen_method k = 0; r == -EOPNOTSUPP && k < GEN_METHODS; k++) {
		if (c->match.allowed & (1U << k))
			buf_addf(&allow, "%s%s", allow.len ? ", " : "", gen_method_name(k));
	}
	if (allow.len)
		httpd_add_header(c->req, "Allow", buf_str(&allow));
	return r;
}

static int parse_query(struct api_call *c, struct err **e)
{
	const struct gen_type *t = c->route->query;
	const char *query = httpd_raw_query(c->req), *project;
	int r;

	c->project = "default";
	if (!t)
		return *query ? err_set(e, EINVAL, ERR_SCHEMA_UNKNOWN, "%s takes no query",
					c->route->path)
			      : 0;
	c->query = calloc(1, t->size);
	if (!c->query)
		return -ENOMEM;
	r = gen_parse_query(t, query, c->query, e);
	if (r < 0)
		return r;
	project = api_query_str(c, "project");
	if (project)
		c->project = project;
	return 0;
}

static int parse_body(struct api_call *c, struct err **e)
{
	const struct gen_type *t = c->route->request;
	const struct buf *b = httpd_body(c->req);
	const char *type = httpd_header(c->req, "Content-Type");
	int r;

	if (!t) {
		if (b->len && !(b->len == 2 && memcmp(b->s, "{}", 2) == 0))
			return err_set(e, EINVAL, ERR_REQUEST_SYNTAX, "%s takes no body",
				       c->route->path);
		return 0;
	}
	if (b->len && type && !strstr(type, "json"))
		return err_set(e, EINVAL, ERR_REQUEST_MEDIA_TYPE,
			       "the body must be application/json, not '%s'", type);
	r = b->len			  ? json_parse(b->s, b->len, NULL, &c->body, e)
	    : !(c->body = json_new_obj()) ? -ENOMEM
					  : 0;
	if (r < 0)
		return err_wrap(e, r, "request body");
	if (json_kind(c->body) != JSON_K_OBJECT)
		return err_set(e, EINVAL, ERR_SCHEMA_TYPE, "%s: expected an object, got %s",
			       t->path, json_kind_name(c->body));
	if (c->route->method != GEN_POST)
		return 0;
	c->request = calloc(1, t->size);
	if (!c->request)
		return -ENOMEM;
	return gen_parse(t, c->body, NULL, GEN_CREATE, c->request, e);
}

static int read_call(struct api_call *c, struct err **e)
{
	int r = find_route(c, e);

	if (r < 0)
		return r;
	for (unsigned int i = 0; i < c->route->n_params; i++)
		c->params[i] = c->match.params[i];
	if (c->route->role != GEN_ROLE_NONE) {
		r = auth_identify(c, e);
		if (r < 0)
			return r;
		if (c->role < c->route->role)
			return err_set(e, EACCES, ERR_AUTH_DENIED,
				       "your role does not permit this: it takes the role %s",
				       gen_role_name(c->route->role));
	}
	r = parse_query(c, e);
	if (r == 0)
		r = parse_body(c, e);
	return r < 0 ? r : auth_check_projects(c, e);
}

void router_handle(struct httpd_req *req, void *arg)
{
	struct api_call *c = calloc(1, sizeof(*c));
	struct router *rt = arg;
	struct err *e = NULL;
	int r;

	if (!c) {
		httpd_reply(req, 503, "text/plain", "out of memory\n", 14);
		return;
	}
	c->node = rt->node;
	c->req = req;
	c->began = now_mono();
	r = read_call(c, &e);
	if (r < 0) {
		api_fail(c, r, e);
		return;
	}
	c->in_handler = true;
	handlers[c->route->id](c);
	c->in_handler = false;
	if (c->ended)
		call_free(c);
}

const void *api_query_field(const struct api_call *c, const char *name)
{
	const struct gen_type *t = c->route->query;
	const struct gen_field *f = t ? gen_field_find(t, name, strlen(name)) : NULL;

	if (!f || (f->has != GEN_NO_HAS && !*((const bool *)c->query + f->has)))
		return NULL;
	return (const char *)c->query + f->offset;
}

const char *api_query_str(const struct api_call *c, const char *name)
{
	char *const *s = api_query_field(c, name);

	return s ? *s : NULL;
}

bool api_query_on(const struct api_call *c, const char *name)
{
	const bool *b = api_query_field(c, name);

	return b && *b;
}
