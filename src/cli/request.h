/* Requests of the routes of schema/rest.json, and waiting for tasks. */
#ifndef CLI_REQUEST_H
#define CLI_REQUEST_H

#include "cli/cli.h"

struct cli_request {
	const struct gen_route *route;
	const char *params[GEN_PARAMS_MAX];
	const struct json *query; /* object; NULL: none */
	const struct json *body;  /* NULL: none */
};
/* By name, for routes that a daemon of this build may not serve; NULL: it does not. */
const struct gen_route *cli_route(const char *name);
/* The path with its query, the caller's. */
char *cli_url(const struct cli_request *rq);
/* *ret (may be NULL): the answer, the caller's; NULL when it has none. */
int cli_call(struct cli *cli, const struct cli_request *rq, struct json **ret, struct err **e);
/* All items of a list, over as many answers as it takes. */
int cli_list(struct cli *cli, const struct cli_request *rq, struct json **ret, struct err **e);
/* What the flags say about the route's query, as far as it has such fields; the caller's. */
struct json *cli_query(struct cli *cli, const struct gen_route *r);

/* Waits for the task to end, with its progress on stderr when that takes over a second.  *ret (may be NULL): its result, the
 * caller's, NULL when it has none.  A task that failed is an error with its id and message. */
int cli_wait(struct cli *cli, const struct json *task, struct json **ret, struct err **e);

#endif
