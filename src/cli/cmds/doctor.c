/* strata doctor: what this host can do, what is missing, and how to get it. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "base/str.h"
#include "cli/output.h"
#include "cli/request.h"

static const char *mark(const char *result, bool color)
{
	if (streq(result, "ok"))
		return color ? "\033[32mok     \033[0m" : "ok     ";
	if (streq(result, "warning"))
		return color ? "\033[33mwarning\033[0m" : "warning";
	return color ? "\033[31mmissing\033[0m" : "missing";
}

static void print_check(const struct cli *cli, const struct json *c)
{
	const char *id = json_str(json_get(c, "id")), *fix = json_str(json_get(c, "fix"));
	const char *message = json_str(json_get(c, "message"));

	printf("%s  %-22s %s\n",
	       mark(json_str(json_get(c, "result")) ?: "", cli->color && cli->width), id ? id : "",
	       message ? message : "");
	if (fix)
		printf("%33s%s\n", "to get it: ", fix);
}

/* The daemon's own host comes first. */
static int own_host(struct cli *cli, char **ret, struct err **e)
{
	struct cli_request rq = { .route = &gen_routes[ROUTE_HOST_LIST] };
	_cleanup_(json_freep) struct json *hosts = NULL;
	int r = cli_list(cli, &rq, &hosts, e);

	if (r < 0)
		return r;
	*ret = strdup(json_str(json_get(json_at(hosts, 0), "id")) ?: "");
	return *ret ? 0 : err_sys(e, ENOMEM, "doctor");
}

/* 0: all that is needed is there; 1: something needed is missing. */
int cmd_doctor(struct cli *cli, struct err **e)
{
	struct cli_request rq = { .route = &gen_routes[ROUTE_HOST_CHECKS] };
	_cleanup_(json_freep) struct json *checks = NULL;
	_cleanup_(freep) char *host = NULL;
	int r = own_host(cli, &host, e), status = 0;

	rq.params[0] = host;
	if (r == 0)
		r = cli_list(cli, &rq, &checks, e);
	if (r < 0)
		return r;
	for (size_t i = 0; i < json_len(checks); i++)
		status |= streq(json_str(json_get(json_at(checks, i), "result")) ?: "", "missing");
	if (!streq(gen_args_str(&cli->args, "output"), "table") ||
	    gen_args_str(&cli->args, "format")) {
		r = output_list(cli, rq.route->list, checks, e);
		return r < 0 ? r : status;
	}
	for (size_t i = 0; i < json_len(checks); i++)
		print_check(cli, json_at(checks, i));
	return status;
}
