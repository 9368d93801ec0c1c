/* strata-disk: the image tool.  One file of cmds/ per command; this table names them. */
#include <stdlib.h>
#include "base/str.h"
#include "storage/cli.h"

static const struct command *const commands[] = {
	&cmd_create, &cmd_info,	  &cmd_check,  &cmd_map,     &cmd_compare, &cmd_convert,
	&cmd_resize, &cmd_rebase, &cmd_commit, &cmd_measure, &cmd_bench,   &cmd_snapshot,
	&cmd_serve,  &cmd_volume, &cmd_clone,  &cmd_stream,  &cmd_ctl,
};

static int usage(FILE *to)
{
	fputs("usage: strata-disk COMMAND ...\n", to);
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		fprintf(to, "  %-9s %-62s %s\n", commands[i]->name, commands[i]->args,
			commands[i]->help);
	fputs("`strata-disk COMMAND --help` shows the options of one.\n", to);
	return to == stdout ? 0 : 2;
}

int main(int argc, char **argv)
{
	_cleanup_(err_freep) struct err *e = NULL;
	const char *name = argc > 1 ? argv[1] : "";
	int r;

	if (streq(name, "--version")) {
		puts("strata-disk " STRATA_VERSION);
		return 0;
	}
	if (streq(name, "help") || streq(name, "--help") || streq(name, "-h"))
		return usage(stdout);
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (!streq(commands[i]->name, name))
			continue;
		r = commands[i]->run(argc - 1, argv + 1, &e);
		if (r >= 0)
			return r;
		fprintf(stderr, "strata-disk %s: %s\n", name, e ? err_msg(e) : err_name(-r));
		return e && streq(err_id(e), "usage") ? 2 : 1;
	}
	return usage(stderr);
}
