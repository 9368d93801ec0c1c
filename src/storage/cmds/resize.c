/* strata-disk resize: SIZE, +SIZE or -SIZE. */
#include "base/str.h"
#include "storage/cli.h"

struct args {
	char *format;
	int provision;
	bool shrink;
};

static const struct opt opts[] = {
	OPT(struct args, format, STR, "format", 'f', "FORMAT", "do not probe"),
	OPT(struct args, provision, ENUM, "provision", 0, "MODE", "of what is added",
	    .choices = provision_choices),
	OPT(struct args, shrink, FLAG, "shrink", 0, NULL, "allow the end to be cut off"),
	OPT_END,
};

static int run(int argc, char **argv, struct err **e)
{
	struct args a = { 0 };
	struct disk *d = NULL;
	const char *text;
	uint64_t size;
	/* -SIZE looks like an option: it is behind "--" or the last word */
	int r, k;
	bool minus = argc > 1 && argv[argc - 1][0] == '-' && argv[argc - 1][1] >= '0' &&
		     argv[argc - 1][1] <= '9';

	text = argc > 1 ? argv[argc - 1] : "";
	r = cli_operands(opts, &a, minus ? argc - 1 : argc, argv, minus ? 1 : 2, minus ? 1 : 2, e);
	if (r < 0)
		goto out;
	text = minus ? text : argv[2];
	if (parse_size(text + (text[0] == '+' || minus), &size) < 0) {
		r = err_set(e, EINVAL, "usage", "'%s' is not a size", text);
		goto out;
	}
	if (volume_is(argv[1])) {
		struct volume *v = NULL;

		r = text[0] == '+' || minus ? err_set(e, EINVAL, "usage",
						      "the new size of a volume is given as such")
					    : volume_open(argv[1], &v, e);
		r = r < 0 ? r : volume_resize(v, size, e);
		volume_close(v);
		goto out;
	}
	r = cli_open(argv[1], a.format, false, false, &d, e);
	if (r < 0)
		goto out;
	if (text[0] == '+')
		size += disk_size(d);
	else if (minus)
		size = size < disk_size(d) ? disk_size(d) - size : 0;
	r = disk_resize(d, size, (enum disk_provision)a.provision, a.shrink, e);
out:
	k = disk_close(d);
	opt_done(opts, &a);
	return r < 0 ? r : k < 0 ? err_sys(e, -k, "close") : 0;
}

const struct command cmd_resize = { "resize",
				    "[--shrink] [--provision M] [-f FORMAT] FILE [+|-]SIZE",
				    "change the size", run };
