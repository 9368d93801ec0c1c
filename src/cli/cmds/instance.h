/* Making instances, for run and create. */
#ifndef CLI_INSTANCE_H
#define CLI_INSTANCE_H

#include "cli/cli.h"

/* The request's body as the flags say: --profile below, fields above, files (--env-file, --user-data, --ssh-key) read; the
 * caller's. */
int instance_body(struct cli *cli, struct json **ret, struct err **e);
/* Pulls the image as --pull says, makes the instance and waits for it: *ret is the instance, the caller's. */
int instance_make(struct cli *cli, bool start, struct json **ret, struct err **e);
/* POST /v1/instances/ID/VERB, and waits for the task. */
int instance_do(struct cli *cli, const char *route, const char *id, struct err **e);

#endif
