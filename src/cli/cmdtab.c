/* Every command, in the order of the help. */
#include "cli/cmds/cmds.h"

const struct command *const command_table[] = {
	&cmd_doctor,	&cmd_host,	  &cmd_task_ls, &cmd_task_show,
	&cmd_task_wait, &cmd_task_cancel, &cmd_event,	NULL,
};
