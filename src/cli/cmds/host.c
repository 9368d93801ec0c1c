/* strata host, strata doctor: what this host is and what it can do. */
#include "cli/cmds/cmds.h"
#include "cli/output.h"

#include <stdio.h>
#include <unistd.h>
#include "base/str.h"

struct options {
	struct cli_common common;
};

static const struct opt options[] = { CLI_COMMON(struct options), OPT_END };

static int host(struct cli *cli, void *opts, int argc, char **argv, struct err **e)
{
	_cleanup_(json_freep) struct json *j = NULL;
	int r = rest_call(cli->client, "GET", "/v1/host", NULL, &j, e);

	return r < 0 ? r : output_object(cli, j, e);
}

static const char *mark(const char *state, bool colour)
{
	if (streq(state, "ok"))
		return colour ? "\033[32mok     \033[0m" : "ok     ";
	if (streq(state, "missing"))
		return colour ? "\033[33mmissing\033[0m" : "missing";
	return colour ? "\033[31mbroken \033[0m" : "broken ";
}

/* 0: all that is needed is there; 1: something needed is missing. */
static int doctor(struct cli *cli, void *opts, int argc, char **argv, struct err **e)
{
	_cleanup_(json_freep) struct json *j = NULL;
	const struct json *checks;
	int r = rest_call(cli->client, "GET", "/v1/doctor", NULL, &j, e), status = 0;

	if (r < 0)
		return r;
	checks = json_get(j, "checks");
	for (size_t i = 0; i < json_len(checks); i++) {
		const struct json *c = json_at(checks, i);

		if (json_bool(json_get(c, "needed"), false) &&
		    !streq(json_str(json_get(c, "state")) ?: "", "ok"))
			status = 1;
	}
	if (cli->common->output != OUTPUT_TABLE && cli->common->output != OUTPUT_WIDE) {
		r = output_object(cli, j, e);
		return r < 0 ? r : status;
	}
	for (size_t i = 0; i < json_len(checks); i++) {
		const struct json *c = json_at(checks, i);
		const char *state = json_str(json_get(c, "state")),
			   *fix = json_str(json_get(c, "fix"));

		printf("%s  %-22s %s\n", mark(state ? state : "", cli->width != 0),
		       json_str(json_get(c, "name")) ?: "", json_str(json_get(c, "detail")) ?: "");
		if (fix && state && !streq(state, "ok"))
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
