/* Routes of the REST API: schema/rest.json.  gen/routes.h numbers them, so that a handler table is an array:
 *
 *	static handler_fn *const handlers[ROUTE_MAX] = { [ROUTE_INSTANCE_GET] = get_instance, ... };
 *	if (gen_route_find(GEN_GET, "/v1/instances/web", &match, e) == 0) handlers[match.route->id](&match, ...); */
#ifndef GEN_ROUTE_H
#define GEN_ROUTE_H

#include "gen/object.h"

enum gen_method { GEN_GET, GEN_POST, GEN_PUT, GEN_PATCH, GEN_DELETE, GEN_METHODS };
/* Each may do what those before it may. */
enum gen_role { GEN_ROLE_NONE, GEN_ROLE_VIEWER, GEN_ROLE_OPERATOR, GEN_ROLE_ADMIN };

#define GEN_PARAMS_MAX 2
#define GEN_PARAM_LEN  1024

struct gen_route {
	int id;		  /* enum gen_route_id */
	const char *name; /* "instance_get" */
	enum gen_method method;
	const char *path; /* "/v1/instances/{id}" */
	enum gen_role role;
	const struct gen_type *query; /* NULL: takes no query */
	const struct gen_type
		*request; /* of the body; NULL: takes none.  For GEN_PATCH: of what is patched */
	const struct gen_type *response; /* one object */
	const struct gen_type *list;	 /* {"items": [...], "next": "..."} of these */
	const char *task;		 /* answers 202 and a task with this action */
	const struct gen_type *result;	 /* of that task */
	const char *content;		 /* media type of an answer that is not JSON */
	const char *upload;		 /* media type of a body that is not JSON */
	bool stream; /* the answer may go on: JSON objects a line each, or text */
	bool websocket;
	int status; /* of success */
	unsigned int n_params;
	struct {
		const char *name;
		const struct gen_format *format;
	} params[GEN_PARAMS_MAX];
	const char *help;
};

struct gen_route_node { /* private: a tree of path parts */
	const char *literal;
	uint16_t first, n, param;
	uint16_t routes[GEN_METHODS]; /* plus one; 0: none */
};

struct gen_route_match {
	const struct gen_route *route;
	char params[GEN_PARAMS_MAX][GEN_PARAM_LEN]; /* decoded and of their format */
	unsigned int allowed; /* 1 << method: what the path knows; for 405's Allow */
};

/* path: without the query.  method GEN_METHODS: one that is none of ours, which no path knows.  -ENOENT request.no_path, -EOPNOTSUPP request.method (allowed is set), -EINVAL
 * schema.format: a parameter is malformed. */
int gen_route_find(enum gen_method method, const char *path, struct gen_route_match *ret,
		   struct err **e);
/* -EINVAL: none of ours (HEAD is the server's to treat as GET). */
int gen_method_parse(const char *name, enum gen_method *ret);
const char *gen_method_name(enum gen_method m);
const char *gen_role_name(enum gen_role r);

#endif
