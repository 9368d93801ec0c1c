/* A terminal here, a process there: exec, attach, console, run. */
#ifndef CLI_STREAM_H
#define CLI_STREAM_H

#include "cli/cli.h"

struct cli_stream;

struct cli_stream_cfg {
	bool input;  /* what is typed goes there */
	bool tty;    /* of the process: ours is raw meanwhile, its size is told */
	bool escape; /* Ctrl-] ends the connection */
	const char *
		id; /* instance that gets our SIGINT and SIGTERM when there is no terminal in between; NULL: none */
};

/* Connects; nothing is read or written before cli_stream_run(). */
int cli_stream_open(struct cli *cli, const char *url, const struct cli_stream_cfg *cfg,
		    struct cli_stream **ret, struct err **e);
void cli_stream_free(struct cli_stream *s); /* NULL: no effect */
DEFINE_CLEANUP(struct cli_stream *, cli_stream_free);
/* Until one side ends.  Returns its exit status; -ENODATA: the daemon did not say; -ECANCELED: Ctrl-]; other -errno with e. */
int cli_stream_run(struct cli_stream *s, struct err **e);

#endif
