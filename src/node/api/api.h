/* What handlers of the REST API share.  A handler is route_<name>() in a file of this folder (node/http/router.h); it only
 * translates: what acts is elsewhere in the room, and long work is a task. */
#ifndef NODE_API_H
#define NODE_API_H

#include "node/http/router.h"
#include "node/node.h"
#include "node/resource.h"

/* Appends one object as its schema prints it. -errno. */
typedef int api_print_fn(struct node *n, struct object *o, struct buf *b);

/* GET of a collection: everything of that type that the query asks for (project, all_projects, label, name, limit, after: as
 * far as the route's query has them).  print NULL: as the inventory has it. */
void api_list(struct api_call *c, const char *type, api_print_fn *print);
/* The same with the route's own query: only those for which fits() says so; NULL: all. */
typedef bool api_fits_fn(const void *query, const struct object *o);
void api_list_if(struct api_call *c, const char *type, api_print_fn *print, api_fits_fn *fits);
/* GET of the object that the path names, with its ETag. */
void api_get(struct api_call *c, const char *type, api_print_fn *print);
void api_show(struct api_call *c, unsigned int status, struct object *o, api_print_fn *print);

/* The object that the path's first parameter names ("/v1/volumes/{id}": type "volume"), or NULL after api_fail(). */
struct object *api_target(struct api_call *c, const char *type);
/* PATCH and PUT of an object that nothing has to act on: checked by its schema, stored.  NULL after api_fail(). */
struct object *api_change(struct api_call *c, const char *type);
/* The project of the request, "default" when the query names none: NULL after api_fail() when there is no such project. */
struct object *api_project(struct api_call *c, const char *name);
/* The revision of the If-Match header; 0: none; -1 after api_fail(). */
int64_t api_if_match(struct api_call *c);
/* 202 with the task and its Location; with ?wait= when it ended or the time is over. */
void api_accepted(struct api_call *c, struct object *task);

/* instance.c: the instance that the path names; NULL after api_fail(). */
struct instance *api_instance(struct api_call *c);
struct instances;
/* exec.c: the daemon stops; commands inside go on. */
void api_execs_close(struct instances *all);
/* Hands a task about target in and answers with it; args: taken, may be NULL. */
void api_submit(struct api_call *c, const char *verb, const char *target, const char *project,
		struct json *args);

#endif
