/* strata-disk create */
#include <string.h>
#include "base/str.h"
#include "storage/cli.h"

struct args {
	char *format, *backing, *backing_format;
	int provision;
	opt_list o;
};

static const struct opt opts[] = {
	OPT(struct args, format, STR, "format", 'f', "FORMAT", "qcow2 (default) or raw"),
	OPT(struct args, provision, ENUM, "provision", 0, "MODE", "thin, lazy or eager",
	    .choices = provision_choices),
	OPT(struct args, backing, STR, "backing", 'b', "BASE", "backing file"),
	OPT(struct args, backing_format, STR, "backing-format", 'F', "FORMAT",
	    "of the backing file (else probed now)"),
	OPT(struct args, o, LIST, "option", 'o', "k=v,...", "options of the format"),
	OPT_END,
};

static int run(int argc, char **argv, struct err **e)
{
	struct args a = { 0 };
	struct disk_create c = { 0 };
	struct disk *base = NULL;
	const char **params = NULL;
	char *full = NULL;
	int n = cli_operands(opts, &a, argc, argv, 1, 2, e), r = n;

	if (n < 0)
		goto out;
	r = cli_params(&a.o, &params, e);
	if (r < 0)
		goto out;
	c = (struct disk_create){ .format = a.format ?: "qcow2",
				  .path = argv[1],
				  .params = params,
				  .provision = (enum disk_provision)a.provision,
				  .backing = a.backing,
				  .backing_format = a.backing_format };
	if (n == 2 && parse_size(argv[2], &c.size) < 0) {
		r = err_set(e, EINVAL, "usage", "'%s' is not a size", argv[2]);
		goto out;
	}
	if (a.backing) { /* its name is relative to the new image */
		const char *slash = strrchr(argv[1], '/');

		if (a.backing[0] == '/' || !slash)
			full = strdup(a.backing);
		else if (asprintf(&full, "%.*s%s", (int)(slash - argv[1] + 1), argv[1], a.backing) <
			 0)
			full = NULL;
		r = full ? cli_open(full, a.backing_format, true, true, &base, e) : -ENOMEM;
		if (r < 0)
			goto out;
		if (!c.backing_format)
			c.backing_format = disk_format(base);
		if (n == 1)
			c.size = disk_size(base);
	} else if (n == 1) {
		r = err_set(e, EINVAL, "usage", "create: missing SIZE");
		goto out;
	}
	r = disk_create(&c, e);
out:
	disk_close(base);
	free(full);
	cli_params_free(params);
	opt_done(opts, &a);
	return r < 0 ? r : 0;
}

const struct command cmd_create = {
	"create", "[-f qcow2|raw] [--provision M] [-b BASE] [-o k=v,...] FILE [SIZE]",
	"make an image", run
};
