/* The command line: a client of the REST API and of nothing else.
 *
 * Commands, flags, operands, help and examples come from schema/cli.json (gen/cli.h).  A command with a route is made from
 * that alone (generic.c): operands fill the path, flags the query and the body, the answer is printed by the columns of its type.
 * Others are functions cmd_<words>() in cmds/, one for each entry of CLI_HAND_TABLE.
 *
 * stdout is data, stderr is chatter.  A command returns an exit status (0, 1, the guest's own), or -errno with the error set,
 * which main() prints. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include "gen/cli.h"
#include "gen/routes.h"
#include "ext/rest_client.h"

struct cli {
	struct gen_args args;
	struct rest_client *client; /* connected when it is first used */
	const char *project;	    /* NULL: the daemon's own default */
	size_t width;		    /* of the terminal; 0: stdout is none */
	bool quiet, color, debug;
	bool progress; /* stderr is a terminal, and not --quiet */
};

typedef int cli_command_fn(struct cli *cli, struct err **e);
int cmd_by_route(struct cli *cli, struct err **e);
#define CLI_DECLARE(id, name) cli_command_fn cmd_##name;
CLI_HAND_TABLE(CLI_DECLARE)
#undef CLI_DECLARE

/* "what: why\nhint" on stderr; takes e. */
void cli_complain(struct cli *cli, const char *what, struct err *e);
int cli_connect(struct cli *cli, struct err **e);
/* What the shell may offer for the last of these words: a line each.  Never complains. */
void cli_complete(int argc, char **argv);

#endif
