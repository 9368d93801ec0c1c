/* The commands of strata-image: tables that main.c walks. */
#ifndef IMAGE_CLI_H
#define IMAGE_CLI_H

#include "base/opt.h"
#include "image/image.h"

struct cli_cmd {
	const char *name, *args, *help;
	const struct opt *opts;
	size_t size; /* of the struct that opts fills */
	int min_args, max_args;
	bool storeless; /* needs no store */
	/* The exit status, or -errno with *e. */
	int (*run)(struct image_store *s, const void *opts, char **args, int n, struct err **e);
};

extern const struct cli_cmd *const cli_tables[]; /* NULL at the end */
extern const struct cli_cmd cli_store_cmds[], cli_disk_cmds[], cli_registry_cmds[], cli_vm_cmds[];

extern struct image_op cli_op; /* progress on stderr, cancelled by SIGINT and SIGTERM */
extern bool cli_quiet;

#endif
