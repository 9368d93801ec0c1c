/* The REST API's edge: finds the route of a request, decides who asks and whether they may, parses query and body by the
 * schema, and calls the route's handler.
 *
 * schema/rest.json lists the routes.  The handler of route `volume_get` is the function route_volume_get(), declared below for
 * every route that is not "planned"; a missing one does not link.  A handler gets an api_call and ends it with one of the
 * api_ answers, now or later.
 *
 * Errors travel as {"error":{"id":...,"message":...,"hint":...}} with the HTTP status of schema/errors.json.
 * Thread: the main loop's. */
#ifndef NODE_ROUTER_H
#define NODE_ROUTER_H

#include "ext/httpd.h"
#include "ext/json.h"
#include "gen/routes.h"

struct node; /* node/node.h */

struct api_call {
	struct node *node;
	struct httpd_req *req;
	const struct gen_route *route;
	enum gen_role role;
	char actor[128]; /* "uid:0", "certificate:alice", "token:ci": for tasks and the audit log */
	struct json *projects; /* the caller is confined to these (node/auth.h); NULL: it is not */
	const char *project;   /* ?project=, "default" without */
	const char *params[GEN_PARAMS_MAX]; /* what {...} matched: decoded, of their format */
	void *query;   /* struct api_<route->query>, defaults set; NULL: the route takes none */
	void *request; /* POST: struct api_<route->request>, checked; NULL: the route takes none */
	struct json *body; /* PATCH, PUT: for api_x_patch() and api_x_replace() */
	nsec_t began;
	void *data; /* the handler's, with its own `gone` through httpd_set_data() */
	/* private */
	struct gen_route_match match;
	bool in_handler, ended;
};

typedef void api_handler_fn(struct api_call *c);
#define API_DECLARE(id, name) void route_##name(struct api_call *c);
GEN_ROUTES(API_DECLARE)
#undef API_DECLARE

struct router;
int router_new(struct node *node, struct router **ret, struct err **e);
void router_free(struct router *r); /* NULL: no effect */
DEFINE_CLEANUP(struct router *, router_free);

/* For struct httpd_cfg: arg is the router. */
void router_handle(struct httpd_req *r, void *arg);
/* A field of the query by name, for handlers that serve several routes: NULL when the route has none such or the client gave none
 * and there is no default.  Of a duration: const nsec_t *; of text: char *const *; of a list: const struct gen_vec *. */
const void *api_query_field(const struct api_call *c, const char *name);
const char *api_query_str(const struct api_call *c,
			  const char *name);		       /* of text; NULL: not given */
bool api_query_on(const struct api_call *c, const char *name); /* of a boolean */

/* -- answers: each ends the call; it is freed then, or when its handler returns -- */
void api_json(struct api_call *c, unsigned int status,
	      struct json *v); /* v: taken; NULL: out of memory */
void api_text(struct api_call *c, unsigned int status,
	      const char *json_text); /* copied; NULL: out of memory */
/* An object of the schema; secrets are left out. */
void api_object(struct api_call *c, unsigned int status, const struct gen_type *t, const void *obj);
void api_buf(struct api_call *c, unsigned int status, const char *type, const struct buf *b);
void api_buf_taken(struct api_call *c, unsigned int status, const char *type,
		   struct buf *b);  /* b's memory is taken */
void api_empty(struct api_call *c); /* 204 */
/* e: taken; r: -errno, used when e is NULL. */
void api_fail(struct api_call *c, int r, struct err *e);
/* The handler made another kind of answer through httpd_: forget the call. */
void api_done(struct api_call *c);

#endif
