/* The command line: a client of the REST API and of nothing else.
 *
 * A command is one entry of cmdtab.c: its words ("task ls"), its options, a function.  The function talks to the daemon
 * through cli->client and prints through cli/output.h; stdout is data, stderr is chatter.  It returns an exit status, or
 * -errno with the error set, which main() prints. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include "base/opt.h"
#include "ext/rest_client.h"

enum cli_output { OUTPUT_TABLE, OUTPUT_WIDE, OUTPUT_JSON, OUTPUT_YAML, OUTPUT_NAME };

/* First member of every command's options, so that the common ones work before and after the command's words. */
struct cli_common {
	char *socket, *host, *token_file, *ca, *cert, *key, *project;
	int output; /* enum cli_output */
	bool no_headings, help;
};

extern const char *const cli_outputs[];

/* Rows of an option table whose target struct T begins with `struct cli_common common`. */
#define CLI_COMMON(T)                                                                           \
	OPT(T, common.output, ENUM, "output", 'o', "FORMAT", "table, wide, json, yaml or name", \
	    .choices = cli_outputs),                                                            \
		OPT(T, common.no_headings, FLAG, "no-headings", 0, NULL,                        \
		    "leave out the table's headings"),                                          \
		OPT(T, common.project, STR, "project", 0, "NAME",                               \
		    "work in this project ($STRATA_PROJECT, default)"),                         \
		OPT(T, common.socket, STR, "socket", 0, "PATH",                                 \
		    "the daemon's socket ($STRATA_SOCKET, /run/strata/strata.sock)"),           \
		OPT(T, common.host, STR, "host", 0, "URL",                                      \
		    "a daemon elsewhere, https://NAME:8443 ($STRATA_HOST)"),                    \
		OPT(T, common.token_file, STR, "token-file", 0, "FILE", "token for --host"),    \
		OPT(T, common.ca, STR, "ca", 0, "FILE",                                         \
		    "authority that signed the daemon's certificate"),                          \
		OPT(T, common.cert, STR, "cert", 0, "FILE", "client certificate for --host"),   \
		OPT(T, common.key, STR, "key", 0, "FILE", "its key"),                           \
		OPT(T, common.help, FLAG, "help", 'h', NULL, "show this")

struct cli {
	struct cli_common *common;
	struct rest_client *client;
	size_t width; /* of the terminal; 0: stdout is none */
};

struct command {
	const char *words;    /* "task ls" */
	const char *operands; /* "TASK...", or NULL */
	const char *help;     /* one line */
	const char *examples; /* lines, or NULL */
	const struct opt *opts;
	size_t opts_size; /* of the target struct, zeroed by main() */
	int min, max;	  /* operands; max -1: any number */
	bool stop_at_operand;
	int (*run)(struct cli *cli, void *opts, int argc, char **argv, struct err **e);
};

extern const struct command *const command_table[]; /* NULL-terminated, in the order of the help */

/* Paths: "/v1/instances/<escaped ref>?project=p"; the caller frees.  NULL: out of memory. */
char *cli_path(const struct cli *cli, const char *collection, const char *ref, const char *verb,
	       const char *query);

#endif
