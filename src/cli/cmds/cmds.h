/* The commands of src/cli/cmds/, one noun a file. */
#ifndef CLI_CMDS_H
#define CLI_CMDS_H

#include "cli/cli.h"

extern const struct command cmd_doctor;
extern const struct command cmd_event;
extern const struct command cmd_host;
extern const struct command cmd_task_cancel;
extern const struct command cmd_task_ls;
extern const struct command cmd_task_show;
extern const struct command cmd_task_wait;

#endif
