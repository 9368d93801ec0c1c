/* strata-disk ctl: one request to a running server's control socket. */
#include <string.h>
#include "base/rpc.h"
#include "base/str.h"
#include "ext/json.h"
#include "storage/cli.h"

static const struct opt opts[] = { OPT_END };

static int run(int argc, char **argv, struct err **e)
{
	_cleanup_(json_freep) struct json *request = NULL, *answer = NULL;
	_cleanup_(freep) char *text = NULL;
	_cleanup_(closep) int fd = -1;
	struct rpc_frame f = { 0 };
	char none = 0;
	int r = cli_operands(opts, &none, argc, argv, 2, 3, e), n = r;

	if (r < 0)
		return r;
	r = json_parse(n == 3 ? argv[3] : "{}", strlen(n == 3 ? argv[3] : "{}"), NULL, &request, e);
	if (r < 0)
		return r;
	if (json_kind(request) != JSON_K_OBJECT)
		return err_set(e, EINVAL, "usage", "the argument must be a JSON object");
	json_set(request, "verb", json_new_str(argv[2]));
	text = json_text(request, JSON_COMPACT);
	if (!text)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	fd = rpc_connect(argv[1], e);
	if (fd < 0)
		return fd;
	r = rpc_send(fd, text, strlen(text), NULL, 0);
	if (r == 0)
		r = rpc_recv(fd, 600 * NSEC_PER_SEC, &f);
	if (r == 0)
		r = json_parse(buf_str(&f.text), f.text.len, NULL, &answer, e);
	else
		r = err_sys(e, -r, "talk to '%s'", argv[1]);
	rpc_frame_done(&f);
	if (r < 0)
		return r;
	free(text);
	text = json_text(answer, JSON_PRETTY);
	fputs(text ?: "", stdout);
	return json_bool(json_get(answer, "ok"), false) ? 0 : 1;
}

const struct command cmd_ctl = { "ctl", "SOCKET status|throttle|resize|stop [JSON]",
				 "talk to a server started with --ctl", run };
