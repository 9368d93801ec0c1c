/* strata-disk convert: formats by option, else the source by probing and the target by its name. */
#include <string.h>
#include "base/str.h"
#include "storage/cli.h"
#include "storage/jobs/copy.h"

struct args {
	char *from, *to, *backing, *backing_format;
	int provision;
	bool compress, shared;
	opt_list o;
};

static const struct opt opts[] = {
	OPT(struct args, from, STR, "format", 'f', "FORMAT", "of the source (else probed)"),
	OPT(struct args, to, STR, "output-format", 'O', "FORMAT",
	    "of the target (else by its name)"),
	OPT(struct args, compress, FLAG, "compress", 'c', NULL, "compress clusters (qcow2)"),
	OPT(struct args, provision, ENUM, "provision", 0, "MODE", "thin, lazy or eager",
	    .choices = provision_choices),
	OPT(struct args, shared, FLAG, "force-share", 'U', NULL,
	    "the source may be in use by a writer"),
	OPT(struct args, o, LIST, "option", 'o', "k=v,...", "options of the target's format"),
	OPT_END,
};

static int run(int argc, char **argv, struct err **e)
{
	struct args a = { 0 };
	struct disk_create c = { 0 };
	struct copy_opts o = { .dst_zero = true,
			       .progress = cli_progress,
			       .arg = (void *)(uintptr_t) "convert" };
	struct disk *src = NULL, *dst = NULL;
	const char **params = NULL;
	int r = cli_operands(opts, &a, argc, argv, 2, 2, e), k;

	if (r >= 0)
		r = cli_params(&a.o, &params, e);
	if (r >= 0)
		r = cli_open(argv[1], a.from, true, a.shared, &src, e);
	if (r < 0)
		goto out;
	c = (struct disk_create){ .format = a.to ?: cli_format_of_name(argv[2]) ?: "raw", .path = argv[2],
				  .size = disk_size(src), .provision = (enum disk_provision)a.provision, .params = params };
	if (a.compress && streq(c.format, "raw")) {
		r = err_set(e, EINVAL, "usage", "raw images are not compressed");
		goto out;
	}
	r = disk_create(&c, e);
	if (r == 0)
		r = cli_open(argv[2], c.format, false, false, &dst, e);
	if (r == 0) {
		o.compress = a.compress;
		r = disk_copy(src, dst, &o, e);
	}
out:
	disk_close(src);
	k = disk_close(dst);
	cli_params_free(params);
	opt_done(opts, &a);
	return r < 0 ? r : k < 0 ? err_sys(e, -k, "close '%s'", argv[2]) : 0;
}

const struct command cmd_convert = { "convert",
				     "[-f F] [-O F] [-c] [--provision M] [-o k=v,...] SRC DST",
				     "copy into another image", run };
