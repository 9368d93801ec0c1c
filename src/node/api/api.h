/* The route tables of src/node/api/, one a file; main.c lists them. */
#ifndef NODE_API_H
#define NODE_API_H

#include "node/http/router.h"
#include "node/node.h"

extern const struct route api_event_routes[];
extern const struct route api_host_routes[];
extern const struct route api_object_routes[];
extern const struct route api_task_routes[];

/* For handlers: the object that the path names ("/v1/instances/{ref}": type "instance"), or NULL after api_fail(). */
struct object *api_target(struct api_call *c, const char *type);
/* 202 with the task and its Location. */
void api_accepted(struct api_call *c, struct object *task);
/* ?wait=DURATION of a request, at most an hour; 0: none; -1 after api_fail(). */
nsec_t api_wait(struct api_call *c);

#endif
