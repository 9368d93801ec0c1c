/* All commands of strata-image, in the order of its help. */
#include "image/cli.h"

const struct cli_cmd *const cli_tables[] = {
	cli_store_cmds, cli_registry_cmds, cli_disk_cmds, cli_vm_cmds, NULL,
};
