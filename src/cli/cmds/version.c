/* strata version: of client and daemon. */
#include <stdio.h>
#include <stdlib.h>
#include "base/str.h"
#include "cli/output.h"
#include "cli/request.h"

int cmd_version(struct cli *cli, struct err **e)
{
	struct cli_request rq = { .route = &gen_routes[ROUTE_SERVER_GET] };
	_cleanup_(json_freep) struct json *server = NULL, *both = json_new_obj();
	bool table = streq(gen_args_str(&cli->args, "output"), "table") &&
		     !gen_args_str(&cli->args, "format");
	int r;

	if (table)
		printf("client  %s\n", STRATA_VERSION);
	r = cli_call(cli, &rq, &server, e);
	if (r < 0)
		return r;
	if (table) {
		printf("daemon  %s on %s\n", json_str(json_get(server, "version")) ?: "",
		       json_str(json_get(server, "host")) ?: "");
		return 0;
	}
	if (json_set(both, "client", json_new_str(STRATA_VERSION)) < 0 ||
	    json_set(both, "daemon", json_ref(server)) < 0)
		return err_sys(e, ENOMEM, "version");
	return output_object(cli, both, e);
}
