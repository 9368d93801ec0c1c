/* strata run, start, attach, exec, console, logs: an instance's input and output here. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/str.h"
#include "base/xalloc.h"
#include "cli/cmds/instance.h"
#include "cli/cmds/since.h"
#include "cli/output.h"
#include "cli/request.h"
#include "cli/stream.h"

cli_command_fn cmd_run, cmd_start, cmd_attach, cmd_exec, cmd_console, cmd_logs;

static char *stream_url(struct cli *cli, const char *route, const char *id, const char *key,
			bool value)
{
	struct cli_request rq = { .route = cli_route(route), .params = { id } };
	_cleanup_(json_freep) struct json *query = cli_query(cli, rq.route);

	if (key && json_set(query, key, json_new_bool(value)) < 0)
		abort();
	rq.query = query;
	return cli_url(&rq);
}

/* How it ended, when the stream did not say. */
static int exit_status(struct cli *cli, const char *id, struct err **e)
{
	struct cli_request rq = { .route = cli_route("instance_wait"), .params = { id } };
	_cleanup_(json_freep) struct json *j = NULL;
	int r = cli_call(cli, &rq, &j, e);

	return r < 0 ? r : (int)json_int(json_get(j, "exit_code"), 0) & 255;
}

/* Input needs a terminal where the instance has one. */
static int check_tty(bool input, bool tty, struct err **e)
{
	if (input && tty && !isatty(0))
		return err_set(e, EINVAL, "cli.usage",
			       "the input is no terminal: leave -t out, or give it one");
	return 0;
}

/* Its output comes here until it ends: the exit status. */
static int follow(struct cli *cli, const char *id, bool input, bool tty, bool start, struct err **e)
{
	_cleanup_(freep) char *url = stream_url(cli, "instance_attach", id, "stdin", input);
	_cleanup_(cli_stream_freep) struct cli_stream *s = NULL;
	struct cli_stream_cfg cfg = { .input = input, .tty = tty, .id = id };
	int r = cli_stream_open(cli, url, &cfg, &s, e);

	/* connected first: nothing of its output is missed */
	if (r == 0 && start)
		r = instance_do(cli, "instance_start", id, e);
	if (r == 0)
		r = cli_stream_run(s, e);
	return r == -ENODATA ? exit_status(cli, id, e) : r;
}

int cmd_run(struct cli *cli, struct err **e)
{
	bool detach = gen_args_on(&cli->args, "detach");
	const struct json *spec = json_get(cli->args.object, "spec");
	bool input = json_bool(json_get(spec, "stdin"), false);
	bool tty = json_bool(json_get(spec, "tty"), false);
	_cleanup_(json_freep) struct json *made = NULL;
	_cleanup_(freep) char *id = NULL;
	int r = detach ? 0 : check_tty(input, tty, e);

	if (r == 0)
		r = instance_make(cli, detach, &made, e);
	if (r < 0)
		return r;
	id = xstrdup(json_str(json_get(made, "id")) ?: "");
	if (detach) {
		printf("%s\n", cli->quiet ? id : output_name(made));
		return 0;
	}
	r = follow(cli, id, input, tty, true, e);
	if (r < 0 && json_bool(json_get(spec, "auto_remove"), false)) {
		/* what never ran is not removed by its end */
		_cleanup_(err_freep) struct err *ignored = NULL;

		instance_do(cli, "instance_remove", id, &ignored);
	}
	return r;
}

int cmd_start(struct cli *cli, struct err **e)
{
	VEC(struct json *) tasks = { 0 };
	struct json **task;
	int status = 0;

	if (gen_args_on(&cli->args, "attach")) {
		if (cli->args.operands.n != 1)
			return err_set(e, EINVAL, "cli.usage", "--attach takes one instance");
		return follow(cli, cli->args.operands.v[0], false, false, true, e);
	}
	for (size_t i = 0; i < cli->args.operands.n; i++) {
		struct cli_request rq = { .route = cli_route("instance_start"),
					  .params = { cli->args.operands.v[i] } };
		_cleanup_(json_freep) struct json *query = cli_query(cli, rq.route);
		struct json *t = NULL;
		struct err *mine = NULL;

		rq.query = query;
		if (cli_call(cli, &rq, &t, &mine) < 0) {
			cli_complain(cli, "start", mine);
			status = 1;
		} else if (gen_args_on(&cli->args, "no-wait")) {
			printf("%s\n", json_str(json_get(t, "id")) ?: "");
			json_free(t);
		} else if (vec_push(&tasks, t) < 0) {
			return err_sys(e, ENOMEM, "start");
		}
	}
	vec_for_each(task, &tasks) {
		struct err *mine = NULL;

		if (cli_wait(cli, *task, NULL, &mine) < 0) {
			cli_complain(cli, "start", mine);
			status = 1;
		}
		json_free(*task);
	}
	vec_done(&tasks);
	return status;
}

static int instance_of(struct cli *cli, const char *ref, struct json **ret, struct err **e)
{
	struct cli_request rq = { .route = cli_route("instance_get"), .params = { ref } };
	_cleanup_(json_freep) struct json *query = cli_query(cli, rq.route);

	rq.query = query;
	return cli_call(cli, &rq, ret, e);
}

int cmd_attach(struct cli *cli, struct err **e)
{
	_cleanup_(json_freep) struct json *i = NULL;
	int r = instance_of(cli, cli->args.operands.v[0], &i, e);
	const struct json *spec = json_get(i, "spec");
	bool input = !gen_args_on(&cli->args, "no-stdin") &&
		     json_bool(json_get(spec, "stdin"), false);

	if (r < 0)
		return r;
	return follow(cli, json_str(json_get(i, "id")) ?: "", input,
		      json_bool(json_get(spec, "tty"), false), false, e);
}

int cmd_exec(struct cli *cli, struct err **e)
{
	struct cli_request rq = { .route = cli_route("exec_create"),
				  .params = { cli->args.operands.v[0] },
				  .body = cli->args.object };
	bool input = json_bool(json_get(cli->args.object, "stdin"), false);
	bool tty = json_bool(json_get(cli->args.object, "tty"), false);
	_cleanup_(json_freep) struct json *query = cli_query(cli, rq.route), *session = NULL;
	_cleanup_(cli_stream_freep) struct cli_stream *s = NULL;
	struct cli_stream_cfg cfg = { .input = input, .tty = tty };
	_cleanup_(freep) char *url = NULL;
	int r = check_tty(input, tty, e);

	rq.query = query;
	if (r == 0)
		r = cli_call(cli, &rq, &session, e);
	if (r < 0)
		return r;
	if (gen_args_on(&cli->args, "detach")) {
		printf("%s\n", json_str(json_get(session, "id")) ?: "");
		return 0;
	}
	url = cli_url(
		&(struct cli_request){ .route = cli_route("exec_attach"),
				       .params = { json_str(json_get(session, "id")) ?: "" } });
	r = cli_stream_open(cli, url, &cfg, &s, e);
	if (r == 0)
		r = cli_stream_run(s, e);
	if (r == -ENODATA)
		r = err_set(e, EIO, "exec.lost", "the connection ended before the command did");
	return r;
}

int cmd_console(struct cli *cli, struct err **e)
{
	bool readonly = gen_args_on(&cli->args, "read-only");
	struct cli_request rq = { .route = cli_route("instance_console"),
				  .params = { cli->args.operands.v[0] } };
	_cleanup_(json_freep) struct json *query = cli_query(cli, rq.route);
	_cleanup_(cli_stream_freep) struct cli_stream *s = NULL;
	struct cli_stream_cfg cfg = { .input = !readonly, .tty = true, .escape = true };
	_cleanup_(freep) char *url = NULL;
	int r;

	if (readonly && json_set(query, "readonly", json_new_bool(true)) < 0)
		return err_sys(e, ENOMEM, "console");
	rq.query = query;
	url = cli_url(&rq);
	r = cli_stream_open(cli, url, &cfg, &s, e);
	if (r == 0 && isatty(0) && !cli->quiet)
		fprintf(stderr, "Connected to '%s'; Ctrl-] ends the connection.\n",
			cli->args.operands.v[0]);
	if (r == 0)
		r = cli_stream_run(s, e);
	if (isatty(0))
		fputc('\n', stderr);
	return r == -ECANCELED || r == -ENODATA ? 0 : r;
}

static int print_bytes(void *arg, const void *data, size_t len)
{
	return fwrite(data, 1, len, stdout) == len && fflush(stdout) == 0 ? 0 : -EPIPE;
}

int cmd_logs(struct cli *cli, struct err **e)
{
	struct cli_request rq = { .route = cli_route("instance_logs"),
				  .params = { cli->args.operands.v[0] } };
	_cleanup_(json_freep) struct json *query = cli_query(cli, rq.route);
	_cleanup_(freep) char *url = NULL;
	int r = cli_since(cli, query, e);

	if (r == 0)
		r = cli_connect(cli, e);
	if (r < 0)
		return r;
	rq.query = query;
	url = cli_url(&rq);
	r = rest_download(cli->client, url, print_bytes, NULL, e);
	return r == -EPIPE ? 0 : r;
}
