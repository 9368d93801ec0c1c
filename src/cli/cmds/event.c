/* strata event: what happens, as it happens. */
#include "cli/cmds/cmds.h"
#include "cli/output.h"

#include <stdio.h>
#include <stdlib.h>
#include "base/str.h"

struct options {
	struct cli_common common;
	char *type, *since;
	uint64_t count;
};

static const struct opt options[] = {
	OPT(struct options, type, STR, "type", 't', "TYPE",
	    "only this type or kind of object: instance, instance.created"),
	OPT(struct options, since, STR, "since", 0, "NUMBER",
	    "begin after this event; 0: with the oldest that is kept"),
	OPT(struct options, count, U64, "count", 'n', "N", "end after so many"),
	CLI_COMMON(struct options),
	OPT_END,
};

struct printer {
	struct cli *cli;
	uint64_t left; /* 0: no end */
};

/* One line: time, type, name; or the JSON as it came. */
static int print_event(void *arg, const char *line)
{
	_cleanup_(json_freep) struct json *j = NULL;
	struct printer *p = arg;
	const char *time, *name;

	if (p->cli->common->output == OUTPUT_JSON) {
		printf("%s\n", line);
	} else if (json_parse(line, strlen(line), NULL, &j, NULL) == 0) {
		time = json_str(json_get(j, "time"));
		name = json_str(json_walk(j, "object", "name", NULL));
		printf("%s  %-24s %s\n", time ? time : "", json_str(json_get(j, "type")) ?: "",
		       name ? name : "");
	}
	if (fflush(stdout) != 0)
		return -EPIPE;
	return p->left && --p->left == 0;
}

static int event(struct cli *cli, void *opts, int argc, char **argv, struct err **e)
{
	_cleanup_(buf_done) struct buf path = { 0 };
	struct options *o = opts;
	struct printer p = { cli, o->count };
	int r;

	buf_adds(&path, "/v1/events?follow=on&project=");
	rest_escape(&path, cli->common->project);
	if (o->type) {
		buf_adds(&path, "&type=");
		rest_escape(&path, o->type);
	}
	if (o->since) {
		buf_adds(&path, "&after=");
		rest_escape(&path, o->since);
	}
	if (buf_error(&path))
		return err_sys(e, ENOMEM, "event");
	r = rest_stream(cli->client, path.s, print_event, &p, e);
	return r == -EPIPE ? 0 : r;
}

const struct command cmd_event = {
	.words = "event",
	.help = "Follow events",
	.examples = "  strata event -t instance\n  strata event --since 0 -o json\n",
	.opts = options,
	.opts_size = sizeof(struct options),
	.run = event,
};
