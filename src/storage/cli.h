/* What the commands of strata-disk share.  Thread: main. */
#ifndef STORAGE_CLI_H
#define STORAGE_CLI_H

#include "base/opt.h"
#include "storage/storage.h"

struct command {
	const char *name, *args, *help;
	int (*run)(int argc, char **argv,
		   struct err **e); /* argv[0]: the command; exit status or -errno */
};
extern const struct command cmd_create, cmd_info, cmd_check, cmd_map, cmd_compare, cmd_convert,
	cmd_resize, cmd_rebase, cmd_commit, cmd_measure, cmd_bench, cmd_snapshot, cmd_serve,
	cmd_volume, cmd_clone, cmd_stream, cmd_ctl;

enum { OUT_TABLE, OUT_JSON };
extern const char *const out_choices[];	      /* for OPT_K_ENUM */
extern const char *const provision_choices[]; /* thin, lazy, eager: enum disk_provision */

/* Operands between min and max, else a usage error. */
int cli_operands(const struct opt *table, void *target, int argc, char **argv, int min, int max,
		 struct err **e);
int cli_open(const char *path, const char *format, bool readonly, bool shared, struct disk **ret,
	     struct err **e);
/* "k=v,k=v" strings into a NULL-terminated list of pairs; freed with cli_params_free(). */
int cli_params(const opt_list *in, const char ***ret, struct err **e);
void cli_params_free(const char **v);
/* A bar on stderr when that is a terminal; done == total ends it. */
void cli_progress(void *arg, uint64_t done, uint64_t total); /* arg: what is being done */
/* The format that a file name suggests, or NULL. */
const char *cli_format_of_name(const char *path);

/* A job (NULL: nothing) to its end with a bar; an interrupt cancels it.  rate: bytes/s, 0: no limit. */
int cli_job(struct job *j, uint64_t rate, struct err **e);
int cli_volume_info(const char *dir, int out, struct err **e);
int cli_volume_points(const char *dir, int out, struct err **e);

#endif
