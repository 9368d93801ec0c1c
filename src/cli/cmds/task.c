/* strata task wait. */
#include "base/str.h"
#include "cli/request.h"

int cmd_task_wait(struct cli *cli, struct err **e)
{
	int status = 0;

	for (size_t i = 0; i < cli->args.operands.n; i++) {
		struct cli_request rq = { .route = &gen_routes[ROUTE_TASK_GET],
					  .params = { cli->args.operands.v[i] } };
		_cleanup_(json_freep) struct json *task = NULL;
		struct err *mine = NULL;

		if (cli_call(cli, &rq, &task, &mine) < 0 || cli_wait(cli, task, NULL, &mine) < 0) {
			cli_complain(cli, cli->args.command->words, mine);
			status = 1;
		}
	}
	return status;
}
