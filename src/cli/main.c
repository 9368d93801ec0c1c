/* strata: finds the command, reads its options, connects, runs it, prints the error.
 * Exit status: the command's; 1: failed; 2: usage. */
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "base/atomicfile.h"
#include "base/str.h"
#include "base/xalloc.h"
#include "cli/cli.h"

#include <fcntl.h>

const char *const cli_outputs[] = { "table", "wide", "json", "yaml", "name", NULL };

static size_t terminal_width(int fd)
{
	struct winsize ws;

	if (!isatty(fd))
		return 0;
	return ioctl(fd, TIOCGWINSZ, &ws) == 0 && ws.ws_col ? ws.ws_col : 80;
}

/* How many words of argv the command's words match; 0: no match. */
static int match_words(const char *words, int argc, char **argv)
{
	int n = 0;

	while (*words) {
		size_t len = strcspn(words, " ");

		if (n >= argc || strlen(argv[n]) != len || memcmp(argv[n], words, len) != 0)
			return 0;
		n++;
		words += len + (words[len] == ' ');
	}
	return n;
}

static void print_overview(FILE *f)
{
	fprintf(f, "Usage: strata COMMAND [OPTION]... [OPERAND]...\n\n"
		   "Virtual machines and containers as one kind of thing.\n\nCommands:\n");
	for (const struct command *const *c = command_table; *c; c++) {
		char left[64];

		snprintf(left, sizeof(left), "%s %s", (*c)->words,
			 (*c)->operands ? (*c)->operands : "");
		fprintf(f, "  %-32s %s\n", left, (*c)->help);
	}
	fprintf(f, "\n'strata COMMAND --help' shows a command's options and examples.\n");
}

static void print_help(const struct command *c)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	size_t width = terminal_width(1);

	opt_help(c->opts, width ? width : 100, &b);
	printf("Usage: strata %s [OPTION]...%s%s\n\n%s.\n\nOptions:\n%s", c->words,
	       c->operands ? " " : "", c->operands ? c->operands : "", c->help, buf_str(&b));
	if (c->examples)
		printf("\nExamples:\n%s", c->examples);
}

/* What was meant by words that are no command. */
static int unknown_command(int argc, char **argv)
{
	VEC(const char *) names = { 0 };
	char given[64];
	const char *near;

	snprintf(given, sizeof(given), "%s%s%s", argv[0], argc > 1 && argv[1][0] != '-' ? " " : "",
		 argc > 1 && argv[1][0] != '-' ? argv[1] : "");
	for (const struct command *const *c = command_table; *c; c++) {
		if (vec_push(&names, (*c)->words) < 0)
			break;
		/* "strata task": show what there is */
		if (str_starts((*c)->words, argv[0]) && (*c)->words[strlen(argv[0])] == ' ')
			fprintf(stderr, "  strata %s %s\t%s\n", (*c)->words,
				(*c)->operands ? (*c)->operands : "", (*c)->help);
	}
	near = near_miss(given, names.v, names.n);
	if (!near)
		near = near_miss(argv[0], names.v, names.n);
	fprintf(stderr, "strata: '%s' is no command%s%s%s\nTry 'strata --help'.\n", given,
		near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
	vec_done(&names);
	return 2;
}

/* Options before the command's words ("strata --project x ps") move behind them. */
static void globals_last(int argc, char **argv)
{
	int n = 1;

	while (n < argc && argv[n][0] == '-' && argv[n][1]) {
		bool has_value = !strchr(argv[n], '=') && !streq(argv[n], "--no-headings") &&
				 !streq(argv[n], "-h") && !streq(argv[n], "--help");

		n += has_value && n + 1 < argc ? 2 : 1;
	}
	if (n > 1 && n < argc) {
		char **front = xcalloc((size_t)n, sizeof(*front));
		int words = 1;

		memcpy(front, argv + 1, (size_t)(n - 1) * sizeof(*front));
		for (const struct command *const *c = command_table; *c; c++)
			words = MAX(words, match_words((*c)->words, argc - n, argv + n));
		memmove(argv + 1, argv + n, (size_t)words * sizeof(*argv));
		memcpy(argv + 1 + words, front, (size_t)(n - 1) * sizeof(*front));
		free(front);
	}
}

static const char *or_env(const char *s, const char *name, const char *otherwise)
{
	const char *v = s ? s : getenv(name);

	return v && *v ? v : otherwise;
}

static int connect_daemon(struct cli *cli, struct err **e)
{
	struct cli_common *o = cli->common;
	const char *url = or_env(o->host, "STRATA_HOST", NULL);
	_cleanup_(buf_done) struct buf token = { 0 };
	struct rest_cfg cfg = {
		.url = url ? url : "http://localhost", .ca = o->ca, .cert = o->cert, .key = o->key
	};
	int r;

	if (!url)
		cfg.unix_socket = or_env(o->socket, "STRATA_SOCKET", "/run/strata/strata.sock");
	if (!o->project)
		o->project = xstrdup(or_env(NULL, "STRATA_PROJECT", "default"));
	if (o->token_file) {
		r = file_read(AT_FDCWD, o->token_file, 4096, &token, e);
		if (r < 0)
			return r;
		token.s[strcspn(token.s, "\r\n")] = '\0';
		cfg.token = token.s;
	}
	r = rest_client_new(&cfg, &cli->client, e);
	if (token.s)
		mem_wipe(token.s, token.len);
	return r;
}

char *cli_path(const struct cli *cli, const char *collection, const char *ref, const char *verb,
	       const char *query)
{
	struct buf b = { 0 };

	buf_addf(&b, "/v1/%s", collection);
	if (ref) {
		buf_addc(&b, '/');
		rest_escape(&b, ref);
	}
	if (verb)
		buf_addf(&b, "/%s", verb);
	if (query && *query)
		buf_addf(&b, "?%s", query);
	return buf_take(&b);
}

static int check_operands(const struct command *c, int n, struct err **e)
{
	if (n < c->min)
		return err_set(e, EINVAL, "usage.operand", "wants %s",
			       c->operands ? c->operands : "an operand");
	if (c->max >= 0 && n > c->max)
		return err_set(e, EINVAL, "usage.operand", "takes %s",
			       c->max ? c->operands : "no operand");
	return 0;
}

/* argv[0] is the last of the command's words. */
static int run(const struct command *c, int argc, char **argv)
{
	_cleanup_(err_freep) struct err *e = NULL;
	void *opts = xcalloc(1, c->opts_size);
	struct cli cli = { .common = opts, .width = terminal_width(1) };
	int n = opt_parse(c->opts, opts, argc, argv, c->stop_at_operand, &e), status = 2;

	if (n >= 0 && cli.common->help) {
		print_help(c);
		status = 0;
	} else if (n < 0 || check_operands(c, n, &e) < 0) {
		fprintf(stderr, "strata %s: %s\nTry 'strata %s --help'.\n", c->words, err_msg(e),
			c->words);
	} else {
		status = connect_daemon(&cli, &e);
		if (status == 0)
			status = c->run(&cli, opts, n, argv + 1, &e);
		if (status < 0) {
			fprintf(stderr, "strata %s: %s\n", c->words, err_msg(e));
			status = 1;
		}
	}
	rest_client_free(cli.client);
	opt_done(c->opts, opts);
	free(opts);
	return status;
}

int main(int argc, char **argv)
{
	const struct command *best = NULL;
	int words = 0;

	if (argc < 2) {
		print_overview(stderr);
		return 2;
	}
	if (streq(argv[1], "--version") || streq(argv[1], "-V")) {
		printf("strata %s\n", STRATA_VERSION);
		return 0;
	}
	if (argc == 2 &&
	    (streq(argv[1], "--help") || streq(argv[1], "-h") || streq(argv[1], "help"))) {
		print_overview(stdout);
		return 0;
	}
	globals_last(argc, argv);
	for (const struct command *const *c = command_table; *c; c++) {
		int n = match_words((*c)->words, argc - 1, argv + 1);

		if (n > words) {
			best = *c;
			words = n;
		}
	}
	if (!best)
		return unknown_command(argc - 1, argv + 1);
	return run(best, argc - words, argv + words);
}
