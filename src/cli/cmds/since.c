/* --since; see since.h. */
#include "cli/cmds/since.h"

#include "base/clock.h"
#include "base/str.h"

int cli_since(struct cli *cli, struct json *query, struct err **e)
{
	const char *text = gen_args_str(&cli->args, "since");
	char b[32];
	nsec_t t;

	if (!text)
		return 0;
	if (parse_duration(text, &t) == 0)
		t = now_real() - t;
	else if (parse_time(text, &t) < 0)
		return err_set(
			e, EINVAL, "cli.usage",
			"--since: '%s' is neither a time (2026-11-21T08:00:00Z) nor a duration (10m)",
			text);
	return json_set(query, "since", json_new_str(format_time(t, b, sizeof(b)))) < 0
		       ? err_sys(e, ENOMEM, "since")
		       : 0;
}
