/* strata-disk compare: exit status 0 same, 1 different, as cmp(1); an image that is longer may only add zeroes. */
#include <string.h>
#include "storage/cli.h"

#define CHUNK (2 * MIB)

struct args {
	char *f1, *f2;
	bool strict;
};

static const struct opt opts[] = {
	OPT(struct args, f1, STR, "format", 'f', "FORMAT", "of the first image"),
	OPT(struct args, f2, STR, "format2", 'F', "FORMAT", "of the second image"),
	OPT(struct args, strict, FLAG, "strict", 's', NULL, "sizes must be equal too"),
	OPT_END,
};

static int piece(struct disk *d, uint8_t *p, uint64_t off, uint64_t len)
{
	uint64_t size = disk_size(d), n = off < size ? MIN(len, size - off) : 0;

	memset(p + n, 0, len - n);
	return disk_pread(d, p, n, off);
}

static int run(int argc, char **argv, struct err **e)
{
	struct args a = { 0 };
	_cleanup_(freep) uint8_t *b1 = malloc(CHUNK), *b2 = malloc(CHUNK);
	struct disk *d1 = NULL, *d2 = NULL;
	uint64_t size, off = 0;
	int r = cli_operands(opts, &a, argc, argv, 2, 2, e);

	if (r >= 0)
		r = b1 && b2 ? cli_open(argv[1], a.f1, true, true, &d1, e) : -ENOMEM;
	if (r >= 0)
		r = cli_open(argv[2], a.f2, true, true, &d2, e);
	if (r < 0)
		goto out;
	size = MAX(disk_size(d1), disk_size(d2));
	r = a.strict && disk_size(d1) != disk_size(d2);
	if (r)
		printf("The sizes differ.\n");
	for (; off < size && r == 0; off += CHUNK) {
		uint64_t n = MIN(size - off, CHUNK), i = 0;

		r = piece(d1, b1, off, n) ?: piece(d2, b2, off, n);
		if (r < 0) {
			r = err_sys(e, -r, "read at %llu", (unsigned long long)off);
		} else if (memcmp(b1, b2, n) != 0) {
			while (b1[i] == b2[i])
				i++;
			printf("The images differ at offset %llu.\n",
			       (unsigned long long)(off + i));
			r = 1;
		}
		cli_progress((void *)(uintptr_t) "compare", MIN(off + n, size), size);
	}
	if (r == 0)
		printf("The images are identical.\n");
out:
	disk_close(d1);
	disk_close(d2);
	opt_done(opts, &a);
	return r;
}

const struct command cmd_compare = { "compare", "[-s] [-f FORMAT] [-F FORMAT] FILE FILE",
				     "compare contents", run };
