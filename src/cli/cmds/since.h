/* --since: a time, or how long ago. */
#ifndef CLI_SINCE_H
#define CLI_SINCE_H

#include "cli/cli.h"

/* Sets "since" in query when the flag was given. */
int cli_since(struct cli *cli, struct json *query, struct err **e);

#endif
