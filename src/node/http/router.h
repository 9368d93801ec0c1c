/* Routes: which handler answers which method and path, and who may.
 *
 * A table of routes is matched segment by segment; "{ref}" takes any one segment.  Unknown paths get 404, known paths with
 * another method 405 with Allow.  Handlers get an api_call and end it with one of the api_ answers, now or later.
 *
 * Errors travel as {"error":{"id":...,"message":...}} with the HTTP status that fits the errno.
 * Thread: the main loop's. */
#ifndef NODE_ROUTER_H
#define NODE_ROUTER_H

#include "ext/httpd.h"
#include "ext/json.h"

struct node; /* node/node.h */

enum api_role { ROLE_NONE, ROLE_VIEWER, ROLE_OPERATOR, ROLE_ADMIN };

#define ROUTE_PARAMS 3

struct api_call {
	struct node *node;
	struct httpd_req *req;
	const struct route *route;
	enum api_role role;
	char actor[128];	    /* "uid:0", "cert:ab12...", "token:name": for the audit log */
	const char *project;	    /* ?project=, "default" without */
	char *params[ROUTE_PARAMS]; /* what {…} matched, decoded */
	struct json *body;	    /* parsed when the route wants it; NULL otherwise */
	nsec_t began;
	void *data; /* the handler's, with its own `gone` through httpd_set_data() */
};

struct route {
	const char *method, *path;
	enum api_role role;
	bool body; /* a JSON body is parsed; missing means {} */
	void (*handler)(struct api_call *c);
};

struct router;
/* tables: NULL-terminated list of route arrays, each ended by a route without method; borrowed. */
int router_new(struct node *node, const struct route *const *tables, struct router **ret,
	       struct err **e);
void router_free(struct router *r); /* NULL: no effect */
DEFINE_CLEANUP(struct router *, router_free);

/* For struct httpd_cfg: arg is the router.  auth decides role and actor of a request; the default asks the unix socket's
 * peer: root and members of the group that may open the socket are admins. */
void router_handle(struct httpd_req *r, void *arg);
typedef int router_auth_fn(struct node *node, struct httpd_req *r, enum api_role *role,
			   char actor[128], struct err **e);
void router_set_auth(struct router *r, router_auth_fn *fn);

/* -- answers: each ends the call and frees it -- */
void api_json(struct api_call *c, unsigned int status,
	      struct json *v); /* v: taken; NULL: out of memory */
void api_text(struct api_call *c, unsigned int status,
	      const char *json_text); /* copied; NULL: out of memory */
void api_buf(struct api_call *c, unsigned int status, const char *type, const struct buf *b);
void api_empty(struct api_call *c); /* 204 */
/* e: taken; r: -errno, used when e is NULL. */
void api_fail(struct api_call *c, int r, struct err *e);
/* The handler made another kind of answer through httpd_: forget the call. */
void api_done(struct api_call *c);

/* HTTP status of an errno. */
unsigned int api_status_of(int num);

#endif
