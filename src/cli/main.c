/* strata: reads the command line by its schema, connects, runs the command, prints the error.
 * Exit status: the command's; 1: failed; 2: usage. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "base/atomicfile.h"
#include "base/str.h"
#include "base/xalloc.h"
#include "cli/cli.h"

static size_t terminal_width(int fd)
{
	struct winsize ws;

	if (!isatty(fd))
		return 0;
	return ioctl(fd, TIOCGWINSZ, &ws) == 0 && ws.ws_col ? ws.ws_col : 80;
}

void cli_complain(struct cli *cli, const char *what, struct err *e)
{
	const char *hint = cli->client ? rest_client_hint(cli->client) : NULL;
	bool red = cli->color && isatty(2);

	fprintf(stderr, "%sstrata%s%s:%s %s\n", red ? "\033[1;31m" : "", *what ? " " : "", what,
		red ? "\033[0m" : "", err_msg(e));
	if (hint)
		fprintf(stderr, "hint: %s\n", hint);
	err_free(e);
}

static const char *or_env(const char *s, const char *name)
{
	const char *v = s ? s : getenv(name);

	return v && *v ? v : NULL;
}

static int read_token(struct cli *cli, struct buf *token, struct err **e)
{
	const char *file = gen_args_str(&cli->args, "token-file"), *text = getenv("STRATA_TOKEN");
	int r = 0;

	if (file)
		r = file_read(AT_FDCWD, file, 4096, token, e);
	else if (text)
		r = buf_adds(token, text);
	if (token->s)
		token->s[strcspn(token->s, "\r\n")] = '\0';
	return r;
}

int cli_connect(struct cli *cli, struct err **e)
{
	const char *server = or_env(gen_args_str(&cli->args, "server"), "STRATA_SERVER");
	_cleanup_(buf_done) struct buf token = { 0 };
	struct rest_cfg cfg = {
		.url = "http://localhost",
		.ca = or_env(gen_args_str(&cli->args, "ca"), "STRATA_CA"),
		.cert = or_env(gen_args_str(&cli->args, "cert"), "STRATA_CERT"),
		.key = or_env(gen_args_str(&cli->args, "key"), "STRATA_KEY"),
	};
	int r;

	if (cli->client)
		return 0;
	if (!server)
		cfg.unix_socket = "/run/strata/strata.sock";
	else if (str_starts(server, "unix:"))
		cfg.unix_socket = server + 5;
	else if (*server == '/')
		cfg.unix_socket = server;
	else if (str_starts(server, "https://"))
		cfg.url = server;
	else
		return err_set(e, EINVAL, "cli.usage",
			       "--server: '%s' is neither unix:PATH nor https://HOST:PORT", server);
	r = read_token(cli, &token, e);
	if (r < 0)
		return r;
	cfg.token = token.len && *token.s ? token.s : NULL;
	r = rest_client_new(&cfg, &cli->client, e);
	if (token.s)
		mem_wipe(token.s, token.len);
	return r;
}

static int help(const struct cli *cli)
{
	_cleanup_(buf_done) struct buf b = { 0 };

	gen_command_help(&cli_root, cli->args.command, cli->width ? cli->width : 100, &b);
	fputs(buf_str(&b), stdout);
	return fflush(stdout) == 0 ? 0 : 1;
}

#define CLI_ROW(id, name) [id] = cmd_##name,
static cli_command_fn *const commands[CLI_HANDS] = { [CLI_BY_ROUTE] = cmd_by_route,
						     CLI_HAND_TABLE(CLI_ROW) };

static int run(struct cli *cli)
{
	struct err *e = NULL;
	int status;

	cli->width = terminal_width(1);
	cli->quiet = gen_args_on(&cli->args, "quiet");
	cli->debug = gen_args_on(&cli->args, "debug");
	cli->color = !gen_args_on(&cli->args, "no-color") && !getenv("NO_COLOR");
	cli->progress = isatty(2) && !cli->quiet;
	cli->project = or_env(gen_args_str(&cli->args, "project"), "STRATA_PROJECT");
	status = commands[cli->args.command->hand](cli, &e);
	if (status < 0) {
		bool usage = streq(err_id(e), "cli.usage");

		cli_complain(cli, cli->args.command->words, e);
		status = usage ? 2 : 1;
	}
	rest_client_free(cli->client);
	return status;
}

/* A mistake in the command line: what it is, and where to read on. */
static int usage(const struct cli *cli, struct err *e)
{
	const char *words = cli->args.command->words;

	fprintf(stderr, "strata%s%s: %s\nTry 'strata%s%s --help'.\n", *words ? " " : "", words,
		err_msg(e), *words ? " " : "", words);
	err_free(e);
	return 2;
}

/* "strata help image ls" is "strata image ls --help". */
static void help_last(int argc, char **argv)
{
	char *word = argv[1];

	memmove(argv + 1, argv + 2, (size_t)(argc - 2) * sizeof(*argv));
	argv[argc - 1] = word;
	strcpy(word, "-h");
}

int main(int argc, char **argv)
{
	struct cli cli = { .color = !getenv("NO_COLOR") };
	struct err *e = NULL;
	int status;

	if (argc > 1 && streq(argv[1], "__complete")) {
		cli_complete(argc - 2, argv + 2);
		return 0;
	}
	if (argc == 2 && (streq(argv[1], "--version") || streq(argv[1], "-V"))) {
		printf("strata %s\n", STRATA_VERSION);
		return 0;
	}
	if (argc > 1 && streq(argv[1], "help"))
		help_last(argc, argv);
	if (gen_args_parse(&cli_root, argc, argv, &cli.args, &e) < 0)
		status = usage(&cli, e);
	else if (cli.args.help)
		status = help(&cli);
	else
		status = run(&cli);
	gen_args_done(&cli.args);
	return status;
}
