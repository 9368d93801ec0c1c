/* strata image import and export, kernel default. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/str.h"
#include "cli/output.h"
#include "cli/request.h"

cli_command_fn cmd_image_import, cmd_image_export, cmd_kernel_default;

/* A file is the host's own: the daemon reads it there. */
int cmd_image_import(struct cli *cli, struct err **e)
{
	const char *source = cli->args.operands.v[0],
		   *name = cli->args.operands.n > 1 ? cli->args.operands.v[1] : NULL;
	const char *digest = gen_args_str(&cli->args, "digest");
	struct cli_request rq = { .route = cli_route("image_import") };
	_cleanup_(json_freep) struct json *body = json_new_obj(), *task = NULL, *image = NULL;
	_cleanup_(json_freep) struct json *query = cli_query(cli, rq.route);
	_cleanup_(freep) char *path = NULL;
	int r;

	if (strstr(source, "://")) {
		r = json_set(body, "url", json_new_str(source));
	} else {
		path = realpath(source, NULL);
		if (!path)
			return err_sys(e, errno, "'%s'", source);
		r = json_set(body, "path", json_new_str(path));
	}
	if (name)
		r = json_set(body, "name", json_new_str(name)) ?: r;
	if (digest)
		r = json_set(body, "digest", json_new_str(digest)) ?: r;
	if (r < 0)
		return err_sys(e, ENOMEM, "import");
	rq.body = body;
	json_remove(query, "digest");
	rq.query = query;
	r = cli_call(cli, &rq, &task, e);
	if (r == 0 && gen_args_on(&cli->args, "no-wait")) {
		printf("%s\n", json_str(json_get(task, "id")) ?: "");
		return 0;
	}
	if (r == 0)
		r = cli_wait(cli, task, &image, e);
	if (r == 0 && *output_name(image))
		printf("%s\n", output_name(image));
	else if (r == 0 && name)
		printf("%s\n", name);
	return r;
}

static int write_bytes(void *arg, const void *data, size_t len)
{
	return fwrite(data, 1, len, arg) == len ? 0 : -errno;
}

int cmd_image_export(struct cli *cli, struct err **e)
{
	const char *path = cli->args.operands.v[1];
	struct cli_request rq = { .route = cli_route("image_export"),
				  .params = { cli->args.operands.v[0] },
				  .query = cli->args.object };
	_cleanup_(freep) char *url = cli_url(&rq);
	bool out = streq(path, "-");
	FILE *f;
	int r = cli_connect(cli, e);

	if (r < 0)
		return r;
	f = out ? stdout : fopen(path, "we");
	if (!f)
		return err_sys(e, errno, "create '%s'", path);
	r = rest_download(cli->client, url, write_bytes, f, e);
	if (out ? fflush(f) : fclose(f))
		r = r < 0 ? r : err_sys(e, errno, "write '%s'", path);
	if (r < 0 && !out)
		unlink(path);
	return r;
}

int cmd_kernel_default(struct cli *cli, struct err **e)
{
	_cleanup_(json_freep) struct json *body = json_new_obj();
	struct cli_request rq = { .route = cli_route("kernel_patch"),
				  .params = { cli->args.operands.v[0] },
				  .body = body };

	if (json_set(body, "default", json_new_bool(true)) < 0)
		return err_sys(e, ENOMEM, "kernel");
	return cli_call(cli, &rq, NULL, e);
}
