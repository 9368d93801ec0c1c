/* strata event: what happened and what happens. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/str.h"
#include "cli/cmds/since.h"
#include "cli/output.h"
#include "cli/request.h"

struct printer {
	struct cli *cli;
	struct json *list; /* gathered for a table; NULL: print as they come */
	struct err *e;
};

/* One line: time, type, object; whole when another form is asked for. */
static int print_event(struct printer *p, const struct json *j, const char *line)
{
	const char *form = gen_args_str(&p->cli->args, "output"), *time, *type, *name;

	if (streq(form, "json")) {
		printf("%s\n", line);
	} else if (!streq(form, "table") || gen_args_str(&p->cli->args, "format")) {
		return output_object(p->cli, j, &p->e);
	} else {
		time = json_str(json_get(j, "time"));
		type = json_str(json_get(j, "type"));
		name = json_str(json_walk(j, "object", "name", NULL));
		printf("%s  %-24s %s\n", time ? time : "", type ? type : "", name ? name : "");
	}
	return fflush(stdout) == 0 ? 0 : -EPIPE;
}

static int on_line(void *arg, const char *line)
{
	_cleanup_(json_freep) struct json *j = NULL;
	struct printer *p = arg;

	if (json_parse(line, strlen(line), NULL, &j, NULL) < 0)
		return 0;
	if (!p->list)
		return print_event(p, j, line);
	return json_push(p->list, TAKE(j));
}

static int stream(struct cli *cli, bool follow, struct printer *p, struct err **e)
{
	_cleanup_(json_freep) struct json *query = cli_query(cli, &gen_routes[ROUTE_EVENT_LIST]);
	struct cli_request rq = { .route = &gen_routes[ROUTE_EVENT_LIST], .query = query };
	_cleanup_(freep) char *url = NULL;
	int r = cli_since(cli, query, e);

	if (r == 0)
		r = cli_connect(cli, e);
	if (r < 0)
		return r;
	/* nothing that was: after all there can be */
	if (follow && (json_set(query, "follow", json_new_bool(true)) < 0 ||
		       json_set(query, "after", json_new_int(INT64_MAX)) < 0))
		return err_sys(e, ENOMEM, "events");
	url = cli_url(&rq);
	r = rest_stream(cli->client, url, on_line, p, e);
	if (p->e)
		err_move(e, &p->e);
	return r == -EPIPE ? 0 : r;
}

int cmd_event_watch(struct cli *cli, struct err **e)
{
	struct printer p = { .cli = cli };

	return stream(cli, true, &p, e);
}

int cmd_event_ls(struct cli *cli, struct err **e)
{
	struct printer p = { .cli = cli, .list = json_new_arr() };
	_cleanup_(json_freep) struct json *list = p.list;
	int r = list ? stream(cli, false, &p, e) : err_sys(e, ENOMEM, "events");

	return r < 0 ? r : output_list(cli, gen_routes[ROUTE_EVENT_LIST].response, list, e);
}
