/* strata-disk map: JSON has the same fields as `qemu-img map --output=json`. */
#include "storage/cli.h"

struct args {
	char *format;
	int out;
};

static const struct opt opts[] = {
	OPT(struct args, format, STR, "format", 'f', "FORMAT", "do not probe"),
	OPT(struct args, out, ENUM, "output", 'o', "FORM", "table or json", .choices = out_choices),
	OPT_END,
};

static int run(int argc, char **argv, struct err **e)
{
	struct args a = { 0 };
	struct extent_list l = { 0 };
	struct disk *d = NULL;
	int r = cli_operands(opts, &a, argc, argv, 1, 1, e);

	if (r >= 0)
		r = cli_open(argv[1], a.format, true, true, &d, e);
	if (r < 0)
		goto out;
	r = disk_extents(d, 0, disk_size(d), &l);
	if (r < 0) {
		r = err_sys(e, -r, "map '%s'", argv[1]);
		goto out;
	}
	printf(a.out == OUT_JSON ? "[" : "%-18s %-18s %-18s %s\n", "offset", "length", "at",
	       "file");
	for (size_t i = 0; i < l.n; i++) {
		const struct extent *x = &l.v[i];
		bool data = x->flags & EXTENT_DATA, off = data && x->flags & EXTENT_OFFSET;

		if (a.out == OUT_JSON) {
			printf("%s{\"start\": %llu, \"length\": %llu, \"depth\": %u, \"present\": %s, \"zero\": %s, \"data\": %s",
			       i ? ",\n" : "", (unsigned long long)x->off,
			       (unsigned long long)x->len, x->depth,
			       x->flags & EXTENT_ALLOCATED ? "true" : "false",
			       x->flags & EXTENT_ZERO ? "true" : "false", data ? "true" : "false");
			if (off)
				printf(", \"offset\": %llu", (unsigned long long)x->host);
			printf("}");
		} else if (data) {
			printf("%#-18llx %#-18llx ", (unsigned long long)x->off,
			       (unsigned long long)x->len);
			if (off)
				printf("%#-18llx %s\n", (unsigned long long)x->host, x->file);
			else
				printf("%-18s %s\n",
				       x->flags & EXTENT_COMPRESSED ? "compressed" : "-", x->file);
		}
	}
	if (a.out == OUT_JSON)
		printf("]\n");
out:
	extent_list_done(&l);
	disk_close(d);
	opt_done(opts, &a);
	return r < 0 ? r : 0;
}

const struct command cmd_map = { "map", "[-f FORMAT] [-o json] FILE", "show which file holds what",
				 run };
