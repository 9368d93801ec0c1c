/* Commands of strata-oci: one function each, in the table of main.c. */
#ifndef CONTAINER_CMD_H
#define CONTAINER_CMD_H

#include "base/err.h"
#include "container/cgroup/cgroup.h"

struct globals {
	char *root, *log, *log_format, *log_level, *criu, *rootless, *manager_name;
	bool debug, systemd, version, help;
	enum cg_manager manager;
};

struct command {
	const char *name, *args, *help;
	/* argv[0] is the command's name.  Returns the exit status, or -errno with e set; -EINVAL with id "usage": status 2. */
	int (*run)(const struct globals *g, int argc, char **argv, struct err **e);
};

int cmd_create(const struct globals *g, int argc, char **argv, struct err **e);
int cmd_run(const struct globals *g, int argc, char **argv, struct err **e);
int cmd_start(const struct globals *g, int argc, char **argv, struct err **e);
int cmd_exec(const struct globals *g, int argc, char **argv, struct err **e);
int cmd_kill(const struct globals *g, int argc, char **argv, struct err **e);
int cmd_delete(const struct globals *g, int argc, char **argv, struct err **e);
int cmd_state(const struct globals *g, int argc, char **argv, struct err **e);
int cmd_list(const struct globals *g, int argc, char **argv, struct err **e);
int cmd_ps(const struct globals *g, int argc, char **argv, struct err **e);
int cmd_pause(const struct globals *g, int argc, char **argv, struct err **e);
int cmd_resume(const struct globals *g, int argc, char **argv, struct err **e);
int cmd_update(const struct globals *g, int argc, char **argv, struct err **e);
int cmd_events(const struct globals *g, int argc, char **argv, struct err **e);
int cmd_spec(const struct globals *g, int argc, char **argv, struct err **e);
int cmd_features(const struct globals *g, int argc, char **argv, struct err **e);

/* Options of one command.  help: the flag of --help in target.  Returns the number of operands (argv[1] and on), -EINVAL, or
 * -ECANCELED when the help was printed. */
struct opt;
int cmd_parse(const struct opt *table, void *target, const bool *help, int argc, char **argv,
	      bool stop, int min, int max, const char *what, struct err **e);
/* "usage" error. */
int usage(struct err **e, const char *fmt, ...) _printf_(2, 3);

#endif
