/* strata host, strata doctor: what this host is and what it can do. */
#include "cli/cmds/cmds.h"
#include "cli/output.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "base/str.h"

struct options {
	struct cli_common common;
};

static const struct opt options[] = { CLI_COMMON(struct options), OPT_END };

static int host(struct cli *cli, void *opts, int argc, char **argv, struct err **e)
{
	_cleanup_(json_freep) struct json *j = NULL;
	int r = rest_call(cli->client, "GET", "/v1/hosts", NULL, &j, e);

	return r < 0 ? r : output_object(cli, json_at(json_get(j, "items"), 0), e);
}

static const char *mark(const char *state, bool colour)
{
	if (streq(state, "ok"))
		return colour ? "\033[32mok     \033[0m" : "ok     ";
	if (streq(state, "warning"))
		return colour ? "\033[33mwarning\033[0m" : "warning";
	return colour ? "\033[31mmissing\033[0m" : "missing";
}

/* 0: all that is needed is there; 1: something needed is missing. */
static int doctor(struct cli *cli, void *opts, int argc, char **argv, struct err **e)
{
	_cleanup_(json_freep) struct json *hosts = NULL, *j = NULL;
	_cleanup_(freep) char *path = NULL;
	const struct json *checks;
	const char *id;
	int r = rest_call(cli->client, "GET", "/v1/hosts", NULL, &hosts, e), status = 0;

	if (r < 0)
		return r;
	id = json_str(json_get(json_at(json_get(hosts, "items"), 0), "id"));
	if (asprintf(&path, "/v1/hosts/%s/checks", id ? id : "") < 0)
		return -ENOMEM;
	r = rest_call(cli->client, "GET", path, NULL, &j, e);
	if (r < 0)
		return r;
	checks = json_get(j, "items");
	for (size_t i = 0; i < json_len(checks); i++) {
		if (streq(json_str(json_get(json_at(checks, i), "result")) ?: "", "missing"))
			status = 1;
	}
	if (cli->common->output != OUTPUT_TABLE && cli->common->output != OUTPUT_WIDE) {
		r = output_object(cli, checks, e);
		return r < 0 ? r : status;
	}
	for (size_t i = 0; i < json_len(checks); i++) {
		const struct json *c = json_at(checks, i);
		const char *fix = json_str(json_get(c, "fix"));

		printf("%s  %-22s %s\n",
		       mark(json_str(json_get(c, "result")) ?: "", cli->width != 0),
		       json_str(json_get(c, "id")) ?: "", json_str(json_get(c, "message")) ?: "");
		if (fix)
			printf("%33s%s\n", "to get it: ", fix);
	}
	return status;
}

const struct command cmd_host = {
	.words = "host",
	.help = "Show this host: processors, memory, kernel, version",
	.examples = "  strata host -o json\n",
	.opts = options,
	.opts_size = sizeof(struct options),
	.run = host,
};

const struct command cmd_doctor = {
	.words = "doctor",
	.help = "Say what this host can do, what is missing, and how to get it",
	.examples = "  strata doctor\n  strata doctor -o json\n",
	.opts = options,
	.opts_size = sizeof(struct options),
	.run = doctor,
};
