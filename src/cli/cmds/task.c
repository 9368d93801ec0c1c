/* strata task: long operations. */
#include "cli/cmds/cmds.h"
#include "cli/output.h"

#include <stdio.h>
#include <stdlib.h>
#include "base/str.h"

struct options {
	struct cli_common common;
	char *state;
};

static const struct opt options[] = { CLI_COMMON(struct options), OPT_END };
static const struct opt ls_options[] = {
	OPT(struct options, state, STR, "state", 0, "STATE",
	    "only those that are waiting, running, succeeded, failed, cancelled"),
	CLI_COMMON(struct options),
	OPT_END,
};

static const struct column columns[] = {
	{ .name = "ID", .path = "id" },
	{ .name = "ACTION", .path = "action" },
	{ .name = "STATE", .path = "state" },
	{ .name = "%", .path = "progress.done", .flags = TABLE_RIGHT },
	{ .name = "AGE", .path = "created", .show = SHOW_AGE, .flags = TABLE_RIGHT },
	{ .name = "ERROR", .path = "error.message", .flags = TABLE_CUT },
	{ .name = "USER", .path = "user", .wide = true },
	{ .name = "OBJECT", .path = "object.name", .wide = true },
};

static int ls(struct cli *cli, void *opts, int argc, char **argv, struct err **e)
{
	_cleanup_(buf_done) struct buf query = { 0 };
	_cleanup_(json_freep) struct json *j = NULL;
	_cleanup_(freep) char *path = NULL;
	struct options *o = opts;
	int r;

	if (o->state) {
		buf_adds(&query, "state=");
		rest_escape(&query, o->state);
	}
	path = cli_path(cli, "tasks", NULL, NULL, buf_str(&query));
	if (!path)
		return err_sys(e, ENOMEM, "task");
	r = rest_call(cli->client, "GET", path, NULL, &j, e);
	return r < 0 ? r : output_list(cli, json_get(j, "items"), columns, ARRAY_SIZE(columns), e);
}

static int show(struct cli *cli, void *opts, int argc, char **argv, struct err **e)
{
	for (int i = 0; i < argc; i++) {
		_cleanup_(json_freep) struct json *j = NULL;
		_cleanup_(freep) char *path = cli_path(cli, "tasks", argv[i], NULL, NULL);
		int r = path ? rest_call(cli->client, "GET", path, NULL, &j, e) : -ENOMEM;

		if (r == 0)
			r = output_object(cli, j, e);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Until all ended; status 1 when one failed. */
static int wait_tasks(struct cli *cli, void *opts, int argc, char **argv, struct err **e)
{
	int status = 0;

	for (int i = 0; i < argc;) {
		_cleanup_(json_freep) struct json *j = NULL;
		_cleanup_(freep) char *path =
			cli_path(cli, "tasks", argv[i], "wait", "timeout=60s");
		const char *state, *message;
		int r = path ? rest_call(cli->client, "GET", path, NULL, &j, e) : -ENOMEM;

		if (r < 0)
			return r;
		if (!json_get(j, "finished"))
			continue;
		state = json_str(json_get(j, "state")) ?: "";
		message = json_str(json_walk(j, "error", "message", NULL));
		if (!streq(state, "succeeded")) {
			fprintf(stderr, "%s: %s%s%s\n", argv[i], state, message ? ": " : "",
				message ? message : "");
			status = 1;
		}
		i++;
	}
	return status;
}

static int cancel(struct cli *cli, void *opts, int argc, char **argv, struct err **e)
{
	for (int i = 0; i < argc; i++) {
		_cleanup_(freep) char *path = cli_path(cli, "tasks", argv[i], "cancel", NULL);
		int r = path ? rest_call(cli->client, "POST", path, "{}", NULL, e) : -ENOMEM;

		if (r < 0)
			return r;
	}
	return 0;
}

#define TASK_COMMAND(w, fn, table, lo, hi, what, h)                                        \
	{                                                                                  \
		.words = (w), .operands = (what), .help = (h), .opts = (table),            \
		.opts_size = sizeof(struct options), .min = (lo), .max = (hi), .run = (fn) \
	}

const struct command cmd_task_ls =
	TASK_COMMAND("task ls", ls, ls_options, 0, 0, NULL, "List tasks");
const struct command cmd_task_show =
	TASK_COMMAND("task show", show, options, 1, -1, "TASK...", "Show tasks whole");
const struct command cmd_task_wait =
	TASK_COMMAND("task wait", wait_tasks, options, 1, -1, "TASK...", "Wait until tasks end");
const struct command cmd_task_cancel =
	TASK_COMMAND("task cancel", cancel, options, 1, -1, "TASK...", "Cancel tasks");
