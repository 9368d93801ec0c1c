/* What the shell may offer: strata __complete WORD... prints candidates for the last word, a line each.  Commands and flags come
 * from the schema, names from the daemon, which has a moment to answer. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/str.h"
#include "cli/output.h"
#include "cli/request.h"

static void offer(const char *word, const char *begin)
{
	if (str_starts(word, begin))
		puts(word);
}

static const struct gen_route *route_named(const char *kind)
{
	char name[64];

	snprintf(name, sizeof(name), "%s_list", kind);
	for (int i = 0; i < ROUTE_MAX; i++) {
		if (streq(gen_routes[i].name, name) && gen_routes[i].n_params == 0)
			return &gen_routes[i];
	}
	return NULL;
}

static void offer_names(struct cli *cli, const char *kind, const char *begin)
{
	struct cli_request rq = { .route = route_named(kind) };
	_cleanup_(json_freep) struct json *list = NULL, *query = NULL;

	if (streq(kind, "file")) {
		puts(":file"); /* the shell knows better */
		return;
	}
	if (!rq.route)
		return;
	rq.query = query = cli_query(cli, rq.route);
	if (cli_list(cli, &rq, &list, NULL) < 0)
		return;
	for (size_t i = 0; i < json_len(list); i++) {
		const struct json *names = json_get(json_at(list, i), "names");

		offer(output_name(json_at(list, i)), begin);
		for (size_t k = 1; k < json_len(names); k++)
			offer(json_str(json_at(names, k)) ?: "", begin);
	}
}

static const struct gen_command *subcommand(const struct gen_command *c, const char *name)
{
	for (unsigned int i = 0; i < c->n_commands; i++) {
		if (streq(c->commands[i].name, name))
			return &c->commands[i];
	}
	return NULL;
}

static const struct gen_flag *flag_in(const struct gen_command *c, const char *word)
{
	for (unsigned int g = 0; g < c->n_groups; g++) {
		for (unsigned int i = 0; i < c->groups[g].n; i++) {
			const struct gen_flag *f = &c->groups[g].flags[i];

			if (str_starts(word, "--")		    ? streq(f->name, word + 2)
			    : word[0] == '-' && word[1] && !word[2] ? f->letter == word[1]
								    : false)
				return f;
		}
	}
	return NULL;
}

static const struct gen_flag *find_flag(const struct gen_command *c, const char *word)
{
	return flag_in(c, word) ?: flag_in(&cli_root, word);
}

static void offer_flags(const struct gen_command *c, const char *begin)
{
	for (unsigned int g = 0; g < c->n_groups; g++) {
		for (unsigned int i = 0; i < c->groups[g].n; i++) {
			char word[80];

			snprintf(word, sizeof(word), "--%s", c->groups[g].flags[i].name);
			offer(word, begin);
		}
	}
}

static void offer_value(struct cli *cli, const struct gen_flag *f, const char *begin)
{
	const struct gen_enum *values = f->field->values;

	for (unsigned int i = 0; f->field->kind == GEN_ENUM && i < values->n; i++)
		offer(values->names[i], begin);
	if (f->complete)
		offer_names(cli, f->complete, begin);
}

struct reader {
	struct cli cli;
	const struct gen_command *c;
	const struct gen_flag *wants; /* the word before is a flag that wants a value */
	unsigned int n_operands;
	bool rest; /* all that follows belongs to the last operand */
};

static void take(struct reader *r, const char *word)
{
	const struct gen_command *sub = r->c->n_commands ? subcommand(r->c, word) : NULL;

	if (r->wants) {
		if (streq(r->wants->name, "project"))
			r->cli.project = word;
		else if (streq(r->wants->name, "server"))
			setenv("STRATA_SERVER", word, 1);
		r->wants = NULL;
	} else if (!r->rest && *word == '-' && word[1]) {
		const struct gen_flag *f = find_flag(r->c, word);

		r->wants = f && f->arg ? f : NULL;
	} else if (sub) {
		r->c = sub;
	} else {
		r->n_operands++;
		r->rest = r->c->n_operands && r->c->operands[r->c->n_operands - 1].rest &&
			  r->n_operands >= r->c->n_operands;
	}
}

/* The operand that the next word is for. */
static const struct gen_operand *operand_now(const struct reader *r)
{
	for (unsigned int i = 0; i < r->c->n_operands; i++) {
		if (i == r->n_operands || (r->c->operands[i].repeat && i < r->n_operands))
			return &r->c->operands[i];
	}
	return NULL;
}

static void offer_all(struct reader *r, const char *begin)
{
	const char *eq = str_starts(begin, "--") ? strchr(begin, '=') : NULL;
	const struct gen_operand *o;

	if (r->wants) {
		offer_value(&r->cli, r->wants, begin);
	} else if (r->rest || eq) {
		return;
	} else if (*begin == '-') {
		offer_flags(r->c, begin);
		offer_flags(&cli_root, begin);
		offer("--help", begin);
	} else {
		for (unsigned int i = 0; i < r->c->n_commands; i++)
			offer(r->c->commands[i].name, begin);
		o = operand_now(r);
		if (o)
			offer_names(&r->cli, o->kind, begin);
	}
}

void cli_complete(int argc, char **argv)
{
	struct reader r = { .c = &cli_root };

	if (argc < 1)
		return;
	r.cli.args.command = &cli_root;
	r.cli.project = getenv("STRATA_PROJECT");
	alarm(3); /* a person waits at the prompt */
	for (int i = 0; i < argc - 1; i++)
		take(&r, argv[i]);
	offer_all(&r, argv[argc - 1]);
	rest_client_free(r.cli.client);
}
