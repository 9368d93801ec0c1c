/* strata token create, certificate add. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/atomicfile.h"
#include "base/clock.h"
#include "base/str.h"
#include "cli/output.h"
#include "cli/request.h"

/* --expires: a time, or how long from now. */
static int set_expires(struct cli *cli, struct json *body, struct err **e)
{
	const char *text = gen_args_str(&cli->args, "expires");
	char b[32];
	nsec_t t;

	if (!text)
		return 0;
	if (parse_duration(text, &t) == 0)
		t += now_real();
	else if (parse_time(text, &t) < 0)
		return err_set(
			e, EINVAL, "cli.usage",
			"--expires: '%s' is neither a time (2027-01-01T00:00:00Z) nor a duration (30d)",
			text);
	return json_set(body, "expires", json_new_str(format_time(t, b, sizeof(b)))) < 0
		       ? err_sys(e, ENOMEM, "token")
		       : 0;
}

/* The secret, and nothing else, so that it can go into a file. */
int cmd_token_create(struct cli *cli, struct err **e)
{
	struct cli_request rq = { .route = cli_route("token_create"), .body = cli->args.object };
	_cleanup_(json_freep) struct json *made = NULL;
	int r = set_expires(cli, cli->args.object, e);

	if (r == 0)
		r = cli_call(cli, &rq, &made, e);
	if (r == 0)
		printf("%s\n", json_str(json_get(made, "secret")) ?: "");
	return r;
}

int cmd_certificate_add(struct cli *cli, struct err **e)
{
	struct cli_request rq = { .route = cli_route("certificate_create"),
				  .body = cli->args.object };
	_cleanup_(json_freep) struct json *made = NULL;
	_cleanup_(buf_done) struct buf pem = { 0 };
	int r = file_read(AT_FDCWD, cli->args.operands.v[1], 64 * KIB, &pem, e);

	if (r == 0 && json_set(cli->args.object, "pem", json_new_str(buf_str(&pem))) < 0)
		r = err_set(e, EINVAL, "certificate.invalid", "'%s' is no text",
			    cli->args.operands.v[1]);
	if (r == 0)
		r = cli_call(cli, &rq, &made, e);
	if (r == 0)
		printf("%s\n", output_name(made));
	return r;
}
