/* Commands that are made from a route: operands fill its path, flags its query and body.
 *
 * The last operand of the path may be repeated: then all requests are made first, and the tasks that they started are waited
 * for together; what fails for one does not keep the others from it. */
#include <stdio.h>
#include <string.h>
#include "base/str.h"
#include "base/xalloc.h"
#include "cli/output.h"
#include "cli/request.h"

struct run {
	struct cli *cli;
	const struct gen_route *route;
	struct json *query, *body;
	VEC(struct json *) tasks;
	bool failed;
};

static void complain(struct run *run, struct err *e)
{
	cli_complain(run->cli, run->cli->args.command->words, e);
	run->failed = true;
}

/* Does the command print objects? */
static bool shows(const struct cli *cli)
{
	const struct gen_command *c = cli->args.command;

	for (unsigned int g = 0; g < c->n_groups; g++) {
		for (unsigned int i = 0; i < c->groups[g].n; i++) {
			if (streq(c->groups[g].flags[i].name, "output"))
				return true;
		}
	}
	return false;
}

static bool creates(const struct gen_route *r)
{
	return r->method == GEN_POST && r->n_params == 0;
}

static int show_result(struct run *run, const struct json *object, struct err **e)
{
	if (!object || json_kind(object) != JSON_K_OBJECT)
		return 0;
	if (shows(run->cli))
		return output_object(run->cli, object, e);
	if (creates(run->route))
		printf("%s\n", run->cli->quiet ? json_str(json_get(object, "id")) ?: ""
					       : output_name(object));
	return 0;
}

static int body_for(struct run *run, struct err **e)
{
	const struct gen_args *a = &run->cli->args;
	const struct gen_type *t = run->route->request;

	if (!t)
		return 0;
	run->body = a->command->type == t ? json_clone(a->object) : json_new_obj();
	if (!run->body)
		return err_sys(e, ENOMEM, "request");
	if (run->route->method == GEN_PATCH && json_len(run->body) == 0)
		return err_set(e, EINVAL, "cli.usage",
			       "nothing to change: give a flag or FIELD=VALUE");
	if (creates(run->route) && run->cli->project && gen_field_find(t, "project", 7) &&
	    json_set(run->body, "project", json_new_str(run->cli->project)) < 0)
		return err_sys(e, ENOMEM, "request");
	return 0;
}

static int call_one(struct run *run, const char *const *params, struct err **e)
{
	struct cli_request rq = { .route = run->route, .query = run->query, .body = run->body };
	_cleanup_(json_freep) struct json *answer = NULL;
	int r;

	for (unsigned int i = 0; i < run->route->n_params; i++)
		rq.params[i] = params[i];
	if (run->route->list) {
		r = cli_list(run->cli, &rq, &answer, e);
		return r < 0 ? r : output_list(run->cli, run->route->list, answer, e);
	}
	r = cli_call(run->cli, &rq, &answer, e);
	if (r < 0 || !answer)
		return r;
	if (!run->route->task)
		return show_result(run, answer, e);
	if (gen_args_on(&run->cli->args, "no-wait")) {
		printf("%s\n", json_str(json_get(answer, "id")) ?: "");
		return 0;
	}
	if (vec_push(&run->tasks, answer) < 0)
		return err_sys(e, ENOMEM, "request");
	answer = NULL;
	return 0;
}

/* The route that lists what `r` is one of; NULL: none. */
static const struct gen_route *list_of(const struct gen_route *r)
{
	for (int i = 0; i < ROUTE_MAX; i++) {
		if (gen_routes[i].list && gen_routes[i].n_params + 1 == r->n_params &&
		    str_starts(r->path, gen_routes[i].path) &&
		    r->path[strlen(gen_routes[i].path)] == '/')
			return &gen_routes[i];
	}
	return NULL;
}

/* An operand that was left out stands for every object there is. */
static int call_for_all(struct run *run, struct err **e)
{
	struct cli_request rq = { .route = list_of(run->route) };
	_cleanup_(json_freep) struct json *all = NULL;
	int r;

	if (!rq.route)
		return err_set(e, EINVAL, "cli.usage", "%s is missing",
			       run->cli->args.command->operands[0].name);
	r = cli_list(run->cli, &rq, &all, e);
	for (size_t i = 0; r == 0 && i < json_len(all); i++) {
		const char *name = output_name(json_at(all, i));

		r = call_one(run, &name, e);
	}
	return r;
}

static int call_all(struct run *run, struct err **e)
{
	const struct gen_args *a = &run->cli->args;
	unsigned int n = run->route->n_params;
	const char *params[GEN_PARAMS_MAX + 1] = { 0 };
	bool many;

	if (n == 0)
		return call_one(run, params, e);
	if (a->operands.n < n)
		return call_for_all(run, e);
	memcpy(params, a->operands.v, n * sizeof(params[0]));
	many = a->command->operands[n - 1].repeat;
	for (size_t i = n - 1; i < (many ? a->operands.n : n); i++) {
		struct err *mine = NULL;

		params[n - 1] = a->operands.v[i];
		if (call_one(run, params, &mine) < 0)
			complain(run, mine);
	}
	return 0;
}

static void wait_all(struct run *run)
{
	for (size_t i = 0; i < run->tasks.n; i++) {
		_cleanup_(json_freep) struct json *result = NULL;
		struct err *e = NULL;

		if (cli_wait(run->cli, run->tasks.v[i], &result, &e) < 0 ||
		    show_result(run, result, &e) < 0)
			complain(run, e);
		json_free(run->tasks.v[i]);
	}
	vec_done(&run->tasks);
}

int cmd_by_route(struct cli *cli, struct err **e)
{
	struct run run = { .cli = cli, .route = cli->args.command->route };
	int r = body_for(&run, e);

	if (r == 0) {
		run.query = cli_query(cli, run.route);
		r = call_all(&run, e);
	}
	wait_all(&run);
	json_free(run.query);
	json_free(run.body);
	return r < 0 ? r : run.failed;
}
