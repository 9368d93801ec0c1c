/* strata-disk rebase: another backing file; contents stay what they are, unless -u. */
#include <string.h>
#include "base/str.h"
#include "storage/cli.h"

#define CHUNK (1 * MIB)

struct args {
	char *format, *backing, *backing_format;
	bool unsafe;
};

static const struct opt opts[] = {
	OPT(struct args, format, STR, "format", 'f', "FORMAT", "do not probe"),
	OPT(struct args, backing, STR, "backing", 'b', "BASE",
	    "the new backing file; \"\" for none"),
	OPT(struct args, backing_format, STR, "backing-format", 'F', "FORMAT",
	    "its format (else probed now)"),
	OPT(struct args, unsafe, FLAG, "unsafe", 'u', NULL, "only record the name"),
	OPT_END,
};

/* What the image takes from the old chain and the new one shows differently is written into the image. */
static int copy_difference(struct disk *d, struct disk *base, struct err **e)
{
	_cleanup_(freep) uint8_t *b1 = malloc(CHUNK), *b2 = malloc(CHUNK);
	uint32_t grain = disk_limits(d).opt_io;
	struct extent_list l = { 0 };
	int r = b1 && b2 ? disk_extents(d, 0, disk_size(d), &l) : -ENOMEM;

	for (size_t i = 0; r == 0 && i < l.n; i++) {
		const struct extent *x = &l.v[i];

		if (x->depth == 0 && x->flags & EXTENT_ALLOCATED)
			continue;
		for (uint64_t off = x->off, n; r == 0 && off < x->off + x->len; off += n) {
			uint64_t size = base ? disk_size(base) : 0, m;

			n = MIN(CHUNK - off % CHUNK, x->off + x->len - off);
			r = disk_pread(d, b1, n, off);
			m = off < size ? MIN(n, size - off) : 0;
			memset(b2 + m, 0, n - m);
			if (r == 0 && m > 0)
				r = disk_pread(base, b2, m, off);
			for (uint64_t k = 0, g; r == 0 && k < n; k += g) {
				g = MIN(grain - (off + k) % grain, n - k);
				if (memcmp(b1 + k, b2 + k, g) != 0)
					r = disk_pwrite(d, b1 + k, g, off + k);
			}
		}
		cli_progress((void *)(uintptr_t) "rebase", x->off + x->len, disk_size(d));
	}
	extent_list_done(&l);
	if (r == 0)
		r = disk_flush(d);
	return r < 0 ? err_sys(e, -r, "copy what differs") : 0;
}

static int run(int argc, char **argv, struct err **e)
{
	struct args a = { 0 };
	struct disk_cfg cfg = { 0 };
	struct disk *d = NULL, *base = NULL;
	char *full = NULL;
	const char *format;
	int r = cli_operands(opts, &a, argc, argv, 1, 1, e), k;

	if (r < 0)
		goto out;
	if (!a.backing) {
		r = err_set(e, EINVAL, "usage", "rebase: missing -b BASE (\"\" for none)");
		goto out;
	}
	cfg = (struct disk_cfg){ .path = argv[1],
				 .format = a.format,
				 .backing = a.unsafe ? "" : NULL };
	r = disk_open(&cfg, &d, e);
	if (r < 0)
		goto out;
	format = a.backing_format;
	if (a.backing[0] && !(a.unsafe && format)) {
		const char *slash = strrchr(argv[1], '/');

		r = a.backing[0] == '/' || !slash
			    ? asprintf(&full, "%s", a.backing)
			    : asprintf(&full, "%.*s%s", (int)(slash - argv[1] + 1), argv[1],
				       a.backing);
		r = r < 0 ? -ENOMEM : cli_open(full, format, true, false, &base, e);
		if (r < 0)
			goto out;
		format = disk_format(base);
	}
	if (!a.unsafe)
		r = copy_difference(d, base, e);
	if (r >= 0)
		r = disk_set_backing(d, a.backing[0] ? a.backing : NULL, format, e);
out:
	disk_close(base);
	k = disk_close(d);
	free(full);
	opt_done(opts, &a);
	return r < 0 ? r : k < 0 ? err_sys(e, -k, "close") : 0;
}

const struct command cmd_rebase = { "rebase", "[-u] -b BASE [-F FORMAT] [-f FORMAT] FILE",
				    "change the backing file", run };
