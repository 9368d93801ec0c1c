/* strata-disk measure: the file size that a conversion needs, and the size if all were allocated. */
#include "base/str.h"
#include "storage/cli.h"

struct args {
	char *from, *to;
	uint64_t size, cluster;
	int out;
};

static const struct opt opts[] = {
	OPT(struct args, from, STR, "format", 'f', "FORMAT", "of the source"),
	OPT(struct args, to, STR, "output-format", 'O', "FORMAT", "raw or qcow2 (default)"),
	OPT(struct args, size, SIZE, "size", 0, "SIZE",
	    "an empty image of this size instead of a source"),
	OPT(struct args, cluster, SIZE, "cluster-size", 0, "SIZE", "of the target", .min = 512,
	    .max = 2 << 20),
	OPT(struct args, out, ENUM, "output", 'o', "FORM", "table or json", .choices = out_choices),
	OPT_END,
};

static uint64_t qcow2_bytes(uint64_t size, uint64_t data, uint64_t cs)
{
	uint64_t guest = DIV_ROUND_UP(size, cs), l2 = DIV_ROUND_UP(guest, cs / 8),
		 l1 = DIV_ROUND_UP(l2 * 8, cs);
	uint64_t rt = 1, rb = 1, total, before;

	do {
		before = rt + rb;
		total = 1 + rt + rb + l1 + l2 + data;
		rb = DIV_ROUND_UP(total, cs / 2);
		rt = DIV_ROUND_UP(rb * 8, cs);
	} while (before != rt + rb);
	return total * cs;
}

static int run(int argc, char **argv, struct err **e)
{
	struct args a = { .cluster = 65536 };
	struct extent_list l = { 0 };
	struct disk *d = NULL;
	uint64_t size, need = 0, last = UINT64_MAX, full;
	int r = cli_operands(opts, &a, argc, argv, 0, 1, e);

	if (r >= 0 && (r == 0) != (a.size > 0))
		r = err_set(e, EINVAL, "usage", "measure: a FILE or --size SIZE");
	if (r > 0)
		r = cli_open(argv[1], a.from, true, true, &d, e);
	if (r < 0)
		goto out;
	if (!is_pow2(a.cluster)) {
		r = err_set(e, EINVAL, "usage", "the cluster size must be a power of two");
		goto out;
	}
	size = d ? disk_size(d) : a.size;
	r = d ? disk_extents(d, 0, size, &l) : 0;
	if (r < 0)
		goto out;
	for (size_t i = 0; i < l.n; i++) { /* clusters with any data, each once */
		uint64_t first = l.v[i].off / a.cluster,
			 end = DIV_ROUND_UP(l.v[i].off + l.v[i].len, a.cluster);

		if (!(l.v[i].flags & EXTENT_DATA))
			continue;
		need += end - first - (first == last);
		last = end - 1;
	}
	if (a.to && streq(a.to, "raw")) {
		need = full = size;
	} else {
		need = qcow2_bytes(size, need, a.cluster);
		full = qcow2_bytes(size, DIV_ROUND_UP(size, a.cluster), a.cluster);
	}
	printf(a.out == OUT_JSON ? "{\"required\":%llu,\"fully_allocated\":%llu}\n"
				 : "required size: %llu\nfully allocated size: %llu\n",
	       (unsigned long long)need, (unsigned long long)full);
out:
	extent_list_done(&l);
	disk_close(d);
	opt_done(opts, &a);
	return r < 0 ? r : 0;
}

const struct command cmd_measure = { "measure", "[-O FORMAT] [--size SIZE | FILE] [-o json]",
				     "how large a file would be", run };
