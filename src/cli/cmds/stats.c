/* strata stats: what instances use, again every second. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/str.h"
#include "cli/output.h"
#include "cli/request.h"

cli_command_fn cmd_stats;

struct sample {
	char *name, *id;
	struct json *now, *before; /* NULL: it could not be read */
};
typedef VEC(struct sample) samples;

static void sample_free(struct sample *s)
{
	free(s->name);
	free(s->id);
	json_free(s->now);
	json_free(s->before);
}

static int add(samples *v, const struct json *i, struct err **e)
{
	struct sample s = { .name = strdup(output_name(i)),
			    .id = strdup(json_str(json_get(i, "id")) ?: "") };

	if (!s.name || !s.id || vec_push(v, s) < 0) {
		sample_free(&s);
		return err_sys(e, ENOMEM, "stats");
	}
	return 0;
}

/* Those that were named, or all that run. */
static int choose(struct cli *cli, samples *v, struct err **e)
{
	struct cli_request rq = { .route = cli_route("instance_list") };
	_cleanup_(json_freep) struct json *query = cli_query(cli, rq.route), *list = NULL;
	int r = 0;

	for (size_t i = 0; i < cli->args.operands.n && r == 0; i++) {
		struct cli_request get = { .route = cli_route("instance_get"),
					   .params = { cli->args.operands.v[i] } };
		_cleanup_(json_freep) struct json *one = NULL;

		r = cli_call(cli, &get, &one, e);
		r = r < 0 ? r : add(v, one, e);
	}
	if (cli->args.operands.n)
		return r;
	if (json_set(query, "state", json_new_str("running")) < 0)
		return err_sys(e, ENOMEM, "stats");
	rq.query = query;
	r = cli_list(cli, &rq, &list, e);
	for (size_t i = 0; i < json_len(list) && r == 0; i++)
		r = add(v, json_at(list, i), e);
	return r;
}

static void look(struct cli *cli, samples *v)
{
	struct sample *s;

	vec_for_each(s, v) {
		struct cli_request rq = { .route = cli_route("instance_stats"),
					  .params = { s->id } };

		json_free(s->before);
		s->before = TAKE(s->now);
		/* one that ended meanwhile shows dashes */
		cli_call(cli, &rq, &s->now, NULL);
	}
}

static int64_t counter(const struct json *stats, const char *list, const char *field)
{
	const struct json *v = json_get(stats, list);
	int64_t sum = 0;

	for (size_t i = 0; i < json_len(v); i++)
		sum += json_int(json_get(json_at(v, i), field), 0);
	return sum;
}

static void add_size(struct buf *b, int64_t bytes)
{
	char text[32];

	buf_adds(b, format_size((uint64_t)bytes, text, sizeof(text)));
}

/* Busy CPUs between the two readings, in per cent of one. */
static void add_cpu(struct buf *b, const struct sample *s)
{
	nsec_t t0, t1;
	int64_t used = json_int(json_walk(s->now, "cpu", "usage", NULL), 0) -
		       json_int(json_walk(s->before, "cpu", "usage", NULL), 0);

	if (s->before && parse_time(json_str(json_get(s->now, "time")) ?: "", &t1) == 0 &&
	    parse_time(json_str(json_get(s->before, "time")) ?: "", &t0) == 0 && t1 > t0)
		buf_addf(b, "%.1f", 100.0 * (double)used / (double)(t1 - t0));
}

static int print(struct cli *cli, const samples *v, struct err **e)
{
	static const struct table_column heads[] = {
		{ "NAME", 0 },
		{ "CPU %", TABLE_RIGHT },
		{ "MEMORY", TABLE_RIGHT },
		{ "LIMIT", TABLE_RIGHT },
		{ "NET IN", TABLE_RIGHT },
		{ "NET OUT", TABLE_RIGHT },
		{ "READ", TABLE_RIGHT },
		{ "WRITTEN", TABLE_RIGHT },
		{ "PROCESSES", TABLE_RIGHT },
	};
	_cleanup_(table_freep) struct table *t = NULL;
	_cleanup_(buf_done) struct buf out = { 0 };
	const struct sample *s;
	int r = table_new(heads, ARRAY_SIZE(heads), cli->width, &t, e);

	vec_for_each(s, v) {
		struct buf c[ARRAY_SIZE(heads)] = { 0 };
		const char *texts[ARRAY_SIZE(heads)];

		buf_adds(&c[0], s->name);
		if (s->now) {
			add_cpu(&c[1], s);
			add_size(&c[2], json_int(json_walk(s->now, "memory", "used", NULL), 0));
			if (json_walk(s->now, "memory", "limit", NULL))
				add_size(&c[3],
					 json_int(json_walk(s->now, "memory", "limit", NULL), 0));
			add_size(&c[4], counter(s->now, "nics", "rx_bytes"));
			add_size(&c[5], counter(s->now, "nics", "tx_bytes"));
			add_size(&c[6], counter(s->now, "disks", "bytes_read"));
			add_size(&c[7], counter(s->now, "disks", "bytes_written"));
			if (json_get(s->now, "processes"))
				output_field(s->now, "processes", &c[8]);
		}
		for (size_t i = 0; i < ARRAY_SIZE(heads); i++)
			texts[i] = buf_str(&c[i]);
		r = r < 0 ? r : table_add(t, texts, e);
		for (size_t i = 0; i < ARRAY_SIZE(heads); i++)
			buf_done(&c[i]);
	}
	if (r == 0)
		r = table_print(t, gen_args_on(&cli->args, "no-headers"), &out, e);
	if (r == 0 && (fputs(buf_str(&out), stdout) < 0 || fflush(stdout) != 0))
		r = err_sys(e, errno, "write to standard output");
	return r;
}

/* The figures as they came, in the other forms of output. */
static int print_raw(struct cli *cli, const samples *v, struct err **e)
{
	_cleanup_(json_freep) struct json *list = json_new_arr();
	const struct sample *s;

	vec_for_each(s, v) {
		_cleanup_(json_freep) struct json *one = s->now ? json_clone(s->now) : NULL;

		if (one && (json_set(one, "name", json_new_str(s->name)) < 0 ||
			    json_push(list, TAKE(one)) < 0))
			return err_sys(e, ENOMEM, "stats");
	}
	return output_list(cli, cli_route("instance_stats")->response, list, e);
}

int cmd_stats(struct cli *cli, struct err **e)
{
	const char *form = gen_args_str(&cli->args, "output");
	bool table = streq(form, "table") && !gen_args_str(&cli->args, "format") && !cli->quiet;
	bool once = gen_args_on(&cli->args, "no-stream") || !table;
	samples v = { 0 };
	struct sample *s;
	int r = choose(cli, &v, e);

	if (r == 0)
		look(cli, &v);
	while (r == 0) {
		if (table) {
			usleep(once ? 300000 : 1000000);
			look(cli, &v);
			if (!once && cli->width)
				fputs("\033[H\033[2J", stdout);
		}
		r = table ? print(cli, &v, e) : print_raw(cli, &v, e);
		if (once)
			break;
	}
	vec_for_each(s, &v)
		sample_free(s);
	vec_done(&v);
	return r;
}
