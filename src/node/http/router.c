/* Routes and answers; see router.h. */
#define LOG_MODULE "api"
#include "node/http/router.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "base/vec.h"

#define SEGMENTS_MAX 12

struct router {
	struct node *node;
	const struct route *const *tables;
	router_auth_fn *auth;
};

static int auth_by_socket(struct node *node, struct httpd_req *r, enum api_role *role,
			  char actor[128], struct err **e)
{
	struct ucred peer;

	if (httpd_peer(r, &peer) < 0)
		return err_set(e, EACCES, "auth.none",
			       "this address wants a certificate or a token");
	*role = ROLE_ADMIN;
	snprintf(actor, 128, "uid:%u", (unsigned int)peer.uid);
	return 0;
}

int router_new(struct node *node, const struct route *const *tables, struct router **ret,
	       struct err **e)
{
	struct router *r = calloc(1, sizeof(*r));

	if (!r)
		return err_sys(e, ENOMEM, "router");
	r->node = node;
	r->tables = tables;
	r->auth = auth_by_socket;
	*ret = r;
	return 0;
}

void router_free(struct router *r)
{
	free(r);
}

void router_set_auth(struct router *r, router_auth_fn *fn)
{
	r->auth = fn ? fn : auth_by_socket;
}

/* -- answers -------------------------------------------------------------------------------------- */

unsigned int api_status_of(int num)
{
	switch (num) {
	case EINVAL:
	case ERANGE:
	case ENAMETOOLONG:
	case EPROTO:
		return 400;
	case EACCES:
	case EPERM:
		return 403;
	case ENOENT:
	case ESRCH:
		return 404;
	case EEXIST:
	case EBUSY:
		return 409;
	case ESTALE:
		return 412;
	case EFBIG:
	case E2BIG:
		return 413;
	case ENOTSUP:
	case ENOSYS:
		return 422;
	case ENOMEM:
	case EAGAIN:
		return 503;
	case ETIMEDOUT:
		return 504;
	case ENOSPC:
	case EDQUOT:
		return 507;
	default:
		return 500;
	}
}

static void call_free(struct api_call *c)
{
	for (size_t i = 0; i < ROUTE_PARAMS; i++)
		free(c->params[i]);
	json_free(c->body);
	free(c);
}

void api_done(struct api_call *c)
{
	call_free(c);
}

/* Changes are in the audit log whoever made them; reads are not. */
static void audit(struct api_call *c, unsigned int status)
{
	if (streq(httpd_method(c->req), "GET") || streq(httpd_method(c->req), "HEAD"))
		return;
	log_info("audit", "actor", c->actor, "from", httpd_remote(c->req), "method",
		 httpd_method(c->req), "path", httpd_path(c->req), "status", status);
}

static void answer(struct api_call *c, unsigned int status, const char *type, const void *body,
		   size_t len)
{
	audit(c, status);
	httpd_reply(c->req, status, type, body, len);
	call_free(c);
}

void api_text(struct api_call *c, unsigned int status, const char *json_text)
{
	_cleanup_(buf_done) struct buf b = { 0 };

	if (!json_text || buf_addf(&b, "%s\n", json_text) < 0) {
		api_fail(c, -ENOMEM, NULL);
		return;
	}
	answer(c, status, "application/json", b.s, b.len);
}

void api_json(struct api_call *c, unsigned int status, struct json *v)
{
	_cleanup_(freep) char *text = v ? json_text(v, JSON_COMPACT) : NULL;

	json_free(v);
	api_text(c, status, text);
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
	int num = e ? err_num(e) : -r;
	/* the one refusal that no errno says */
	unsigned int status = e && streq(err_id(e), "http.method") ? 405 : api_status_of(num);

	buf_adds(&b, "{\"error\":{\"id\":");
	if (e)
		buf_add_json(&b, err_id(e));
	else
		buf_addf(&b, "\"sys.%s\"", err_name(num));
	buf_adds(&b, ",\"message\":");
	buf_add_json(&b, e ? err_msg(e) : strerror(num));
	buf_adds(&b, "}}\n");
	err_free(e);
	if (buf_error(&b))
		answer(c, 503, "text/plain", "out of memory\n", 14);
	else
		answer(c, status, "application/json", b.s, b.len);
}

/* -- matching ------------------------------------------------------------------------------------- */

struct segment {
	const char *s;
	size_t len;
};

/* "/v1/instances/a" -> 3 segments; -1: more than SEGMENTS_MAX.  Empty segments do not match anything. */
static int split(const char *path, struct segment out[SEGMENTS_MAX])
{
	int n = 0;

	while (*path == '/') {
		size_t len = strcspn(++path, "/");

		if (n == SEGMENTS_MAX)
			return -1;
		out[n++] = (struct segment){ path, len };
		path += len;
	}
	return n;
}

static bool is_param(const struct segment *s)
{
	return s->len > 2 && s->s[0] == '{';
}

static bool matches(const struct route *r, const struct segment *got, int n)
{
	struct segment want[SEGMENTS_MAX];

	if (split(r->path, want) != n)
		return false;
	for (int i = 0; i < n; i++) {
		if (is_param(&want[i]) ? got[i].len == 0
				       : want[i].len != got[i].len ||
						 memcmp(want[i].s, got[i].s, got[i].len) != 0)
			return false;
	}
	return true;
}

static int take_params(struct api_call *c, const struct segment *got, int n)
{
	struct segment want[SEGMENTS_MAX];
	size_t k = 0;

	split(c->route->path, want);
	for (int i = 0; i < n; i++) {
		if (!is_param(&want[i]) || k == ROUTE_PARAMS)
			continue;
		c->params[k] = strndup(got[i].s, got[i].len);
		if (!c->params[k++])
			return -ENOMEM;
	}
	return 0;
}

/* The route, or NULL with the methods that the path knows in `allow`. */
static const struct route *find_route(struct router *rt, const char *method,
				      const struct segment *got, int n, struct buf *allow)
{
	for (const struct route *const *t = rt->tables; *t; t++) {
		for (const struct route *r = *t; r->method; r++) {
			if (!matches(r, got, n))
				continue;
			if (streq(r->method, method) ||
			    (streq(r->method, "GET") && streq(method, "HEAD")))
				return r;
			if (!strstr(buf_str(allow), r->method))
				buf_addf(allow, "%s%s", allow->len ? ", " : "", r->method);
		}
	}
	return NULL;
}

static int parse_body(struct api_call *c, struct err **e)
{
	const struct buf *b = httpd_body(c->req);
	const char *type = httpd_header(c->req, "Content-Type");
	int r;

	if (b->len == 0) {
		c->body = json_new_obj();
		return c->body ? 0 : -ENOMEM;
	}
	if (type && !strstr(type, "json"))
		return err_set(e, EINVAL, "http.type",
			       "the body must be application/json, not '%s'", type);
	r = json_parse(b->s, b->len, NULL, &c->body, e);
	if (r < 0)
		return err_wrap(e, r, "request body");
	if (json_kind(c->body) != JSON_K_OBJECT)
		return err_set(e, EINVAL, "http.body", "request body: expected an object, got %s",
			       json_kind_name(c->body));
	return 0;
}

static int check(struct router *rt, struct api_call *c, const struct segment *got, int n,
		 struct err **e)
{
	_cleanup_(buf_done) struct buf allow = { 0 };
	const char *method = httpd_method(c->req);
	int r;

	c->route = n < 0 ? NULL : find_route(rt, method, got, n, &allow);
	if (!c->route && allow.len) {
		httpd_add_header(c->req, "Allow", allow.s);
		return err_set(e, EPERM, "http.method", "%s is not possible here, %s is", method,
			       allow.s);
	}
	if (!c->route)
		return err_set(e, ENOENT, "http.path", "there is nothing at '%s'",
			       httpd_path(c->req));
	r = rt->auth(rt->node, c->req, &c->role, c->actor, e);
	if (r < 0)
		return r;
	if (c->role < c->route->role)
		return err_set(e, EACCES, "auth.role", "your role does not allow this");
	r = take_params(c, got, n);
	if (r == 0 && c->route->body)
		r = parse_body(c, e);
	return r;
}

void router_handle(struct httpd_req *req, void *arg)
{
	struct api_call *c = calloc(1, sizeof(*c));
	struct segment got[SEGMENTS_MAX];
	struct router *rt = arg;
	struct err *e = NULL;
	const char *project;
	int r;

	if (!c) {
		httpd_reply(req, 503, "text/plain", "out of memory\n", 14);
		return;
	}
	c->node = rt->node;
	c->req = req;
	c->began = now_mono();
	project = httpd_query(req, "project");
	c->project = project && *project ? project : "default";
	r = check(rt, c, got, split(httpd_path(req), got), &e);
	if (r < 0)
		api_fail(c, r, e);
	else
		c->route->handler(c);
}
