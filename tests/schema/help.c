/* Prints what the golden files hold: `help` all help texts, `errors` all errors, `routes` all routes. */
#include <stdio.h>
#include "base/str.h"
#include "gen/cli.h"
#include "gen/error.h"
#include "gen/routes.h"

static void helps(const struct gen_command *c, struct buf *b)
{
	buf_addf(b, "---- %s\n", c->usage);
	gen_command_help(&cli_root, c, 80, b);
	buf_addc(b, '\n');
	for (unsigned int i = 0; i < c->n_commands; i++)
		helps(&c->commands[i], b);
}

int main(int argc, char **argv)
{
	static const char *const roles[] = { "none", "viewer", "operator", "admin" };
	_cleanup_(buf_done) struct buf b = { 0 };
	const char *what = argc > 1 ? argv[1] : "";

	if (streq(what, "help"))
		helps(&cli_root, &b);
	for (size_t i = 0; streq(what, "errors") && i < gen_n_errors; i++)
		buf_addf(&b, "%d %s: %s%s%s\n", gen_errors[i].status, gen_errors[i].id,
			 gen_errors[i].help, gen_errors[i].hint ? " | " : "",
			 gen_errors[i].hint ? gen_errors[i].hint : "");
	for (size_t i = 0; streq(what, "routes") && i < ROUTE_MAX; i++)
		buf_addf(&b, "%-6s %-45s %-8s %d %s\n", gen_method_name(gen_routes[i].method),
			 gen_routes[i].path, roles[gen_routes[i].role], gen_routes[i].status,
			 gen_routes[i].task ? gen_routes[i].task : "");
	fputs(buf_str(&b), stdout);
	return 0;
}
