/* Requests and tasks; see request.h. */
#include "cli/request.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/str.h"
#include "base/xalloc.h"

const struct gen_route *cli_route(const char *name)
{
	for (int i = 0; i < ROUTE_MAX; i++) {
		if (streq(gen_routes[i].name, name))
			return &gen_routes[i];
	}
	return NULL;
}

static void add_value(struct buf *b, const char *name, const struct json *v)
{
	_cleanup_(freep) char *text = json_str(v) ? NULL : json_text(v, JSON_COMPACT);

	buf_addf(b, "%c%s=", memchr(buf_str(b), '?', b->len) ? '&' : '?', name);
	rest_escape(b, json_str(v) ?: text ?: "");
}

static void add_query(struct buf *b, const struct json *query)
{
	for (struct json_iter it = json_iter(query); json_next(&it);) {
		if (json_kind(it.value) != JSON_K_ARRAY)
			add_value(b, it.key, it.value);
		for (size_t i = 0; json_kind(it.value) == JSON_K_ARRAY && i < json_len(it.value);
		     i++)
			add_value(b, it.key, json_at(it.value, i));
	}
}

char *cli_url(const struct cli_request *rq)
{
	struct buf b = { 0 };
	unsigned int n = 0;

	for (const char *p = rq->route->path; *p;) {
		size_t len = strcspn(p, "{");

		buf_add(&b, p, len);
		p += len;
		if (*p == '{') {
			rest_escape(&b, rq->params[n++]);
			p += strcspn(p, "}") + 1;
		}
	}
	add_query(&b, rq->query);
	if (buf_error(&b))
		abort(); /* short-lived: as xmalloc() does */
	return buf_take(&b);
}

static void set(struct json *obj, const char *key, struct json *v)
{
	if (json_set(obj, key, v) < 0)
		abort();
}

int cli_call(struct cli *cli, const struct cli_request *rq, struct json **ret, struct err **e)
{
	_cleanup_(json_freep) struct json *query = rq->query ? json_clone(rq->query)
							     : json_new_obj();
	struct cli_request with = *rq;
	_cleanup_(freep) char *url = NULL,
			      *body = rq->body ? json_text(rq->body, JSON_COMPACT) : NULL;
	int r = cli_connect(cli, e);

	with.query = query;
	if (cli->project && rq->route->query && gen_field_find(rq->route->query, "project", 7))
		set(query, "project", json_new_str(cli->project));
	url = cli_url(&with);

	if (r < 0)
		return r;
	if (cli->debug)
		fprintf(stderr, "%s %s%s%s\n", gen_method_name(rq->route->method), url,
			body ? " " : "", body ? body : "");
	return rest_call(cli->client, gen_method_name(rq->route->method), url, body, ret, e);
}

int cli_list(struct cli *cli, const struct cli_request *rq, struct json **ret, struct err **e)
{
	_cleanup_(json_freep) struct json *all = json_new_arr(),
					  *query = rq->query ? json_clone(rq->query)
							     : json_new_obj();
	struct cli_request page = *rq;

	for (page.query = query;;) {
		_cleanup_(json_freep) struct json *answer = NULL;
		const struct json *items;
		int r = cli_call(cli, &page, &answer, e);

		if (r < 0)
			return r;
		items = json_get(answer, "items");
		for (size_t i = 0; i < json_len(items) && r == 0; i++)
			r = json_push(all, json_ref((struct json *)json_at(items, i)));
		if (json_get(answer, "next") && r == 0)
			r = json_set(query, "after",
				     json_ref((struct json *)json_get(answer, "next")));
		if (r < 0)
			return err_sys(e, ENOMEM, "list");
		if (!json_get(answer, "next"))
			break;
	}
	*ret = TAKE(all);
	return 0;
}

struct json *cli_query(struct cli *cli, const struct gen_route *r)
{
	const struct gen_command *c = cli->args.command;
	struct json *q = c->type && c->type == r->query ? json_clone(cli->args.object)
							: json_new_obj();

	if (!q)
		abort();
	if (!r->query)
		return q;
	if (cli->project && gen_field_find(r->query, "project", 7))
		set(q, "project", json_new_str(cli->project));
	for (size_t i = 0; i < cli->args.flags.n; i++) {
		const struct gen_arg *a = &cli->args.flags.v[i];
		_cleanup_(freep) char *name = xstrdup(a->flag->name);

		for (char *p = name; *p; p++)
			*p = *p == '-' ? '_' : *p;
		/* "format" may be the form of the output and a field of the query: the command's own flag is the output's */
		if (gen_field_find(r->query, name, strlen(name)) && !streq(name, "project"))
			set(q, name, json_new_str(a->value));
	}
	return q;
}

/* ---- tasks ---- */

static char interrupted[128]; /* what the handler writes */

static void on_interrupt(int sig)
{
	if (write(2, interrupted, strlen(interrupted)) < 0)
		_exit(1);
	_exit(128 + sig);
}

static void say_on_interrupt(const char *id)
{
	snprintf(interrupted, sizeof(interrupted),
		 "\nThe task goes on; to wait for it: strata task wait %.36s\n", id);
	signal(SIGINT, on_interrupt);
}

static void erase_line(bool *drawn)
{
	if (*drawn)
		fputs("\r\033[K", stderr);
	*drawn = false;
}

static void draw(struct cli *cli, const struct json *task, bool *drawn)
{
	const struct json *p = json_get(task, "progress");
	int64_t done = json_int(json_get(p, "done"), 0), total = json_int(json_get(p, "total"), 0);
	const char *action = json_str(json_get(task, "action"));
	const char *object = json_str(json_walk(task, "object", "name", NULL));
	const char *stage = json_str(json_get(task, "stage"));
	char line[512], percent[16] = "";

	if (!cli->progress)
		return;
	if (total > 0)
		snprintf(percent, sizeof(percent), " %lld %%", (long long)(done * 100 / total));
	snprintf(line, sizeof(line), "%s%s%s%s  %s", action ? action : "", object ? " " : "",
		 object ? object : "", percent, stage ? stage : "");
	fprintf(stderr, "\r\033[K%.*s", (int)(cli->width ? cli->width - 1 : 79), line);
	fflush(stderr);
	*drawn = true;
}

static int outcome(const struct json *task, struct json **ret, struct err **e)
{
	const char *state = json_str(json_get(task, "state"));
	const struct json *error = json_get(task, "error");

	if (!streq(state ? state : "", "succeeded"))
		return err_set(e, EIO, json_str(json_get(error, "id")) ?: "task.failed", "%s",
			       json_str(json_get(error, "message")) ?: state ?: "failed");
	if (ret)
		*ret = json_ref((struct json *)json_get(task, "result"));
	return 0;
}

int cli_wait(struct cli *cli, const struct json *task, struct json **ret, struct err **e)
{
	const char *id = json_str(json_get(task, "id"));
	_cleanup_(json_freep) struct json *now = json_ref((struct json *)task);
	nsec_t began = now_mono();
	bool drawn = false;
	int r = 0;

	say_on_interrupt(id ? id : "");
	while (r == 0 && id && !json_get(now, "finished")) {
		_cleanup_(json_freep) struct json *query = json_new_obj();
		struct cli_request rq = { &gen_routes[ROUTE_TASK_WAIT], { id }, query, NULL };
		struct json *next = NULL;

		/* short looks while somebody watches, so that progress moves */
		set(query, "timeout", json_new_str(cli->progress ? "300ms" : "1m"));
		r = cli_call(cli, &rq, &next, e);
		if (r < 0)
			break;
		json_free(now);
		now = next;
		if (now_mono() - began > NSEC_PER_SEC && !json_get(now, "finished"))
			draw(cli, now, &drawn);
	}
	erase_line(&drawn);
	signal(SIGINT, SIG_DFL);
	return r < 0 ? r : outcome(now, ret, e);
}
