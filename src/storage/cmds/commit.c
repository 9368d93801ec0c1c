/* strata-disk commit: the image's own contents go down into its backing file; the image is then empty. */
#include <string.h>
#include "base/str.h"
#include "storage/cli.h"

#define CHUNK (2 * MIB)

struct args {
	char *format;
	bool keep;
};

static const struct opt opts[] = {
	OPT(struct args, format, STR, "format", 'f', "FORMAT", "do not probe"),
	OPT(struct args, keep, FLAG, "keep", 'd', NULL, "do not empty the image afterwards"),
	OPT_END,
};

struct names {
	char *file, *format;
};

static void emit(void *arg, const char *name, const char *value)
{
	struct names *n = arg;

	if (streq(name, "backing_file"))
		n->file = strdup(value);
	else if (streq(name, "backing_format"))
		n->format = strdup(value);
}

static int run(int argc, char **argv, struct err **e)
{
	struct args a = { 0 };
	_cleanup_(freep) uint8_t *buf = malloc(CHUNK);
	struct names names = { 0 };
	struct disk_cfg cfg = { .backing = "" }; /* what lies below must be free for writing */
	struct extent_list l = { 0 };
	struct disk *d = NULL, *base = NULL;
	char *full = NULL;
	const char *slash;
	int r = cli_operands(opts, &a, argc, argv, 1, 1, e), k;

	if (r < 0)
		goto out;
	if (volume_is(argv[1])) {
		struct volume *v = NULL;
		struct job *j = NULL;

		r = volume_open(argv[1], &v, e);
		r = r < 0 ? r : volume_compact(v, &j, e);
		r = r < 0 ? r : cli_job(j, 0, e);
		volume_close(v);
		goto out;
	}
	cfg.path = argv[1];
	cfg.format = a.format;
	r = buf ? disk_open(&cfg, &d, e) : -ENOMEM;
	if (r < 0)
		goto out;
	disk_info(d, emit, &names);
	if (!names.file) {
		r = err_set(e, EINVAL, "disk.backing", "'%s' has no backing file", argv[1]);
		goto out;
	}
	slash = strrchr(argv[1], '/');
	r = names.file[0] == '/' || !slash
		    ? asprintf(&full, "%s", names.file)
		    : asprintf(&full, "%.*s%s", (int)(slash - argv[1] + 1), argv[1], names.file);
	r = r < 0 ? -ENOMEM : cli_open(full, names.format, false, false, &base, e);
	if (r == 0 && disk_size(base) < disk_size(d))
		r = disk_resize(base, disk_size(d), DISK_THIN, false, e);
	if (r == 0)
		r = disk_extents(d, 0, disk_size(d), &l);
	for (size_t i = 0; r == 0 && i < l.n; i++) {
		const struct extent *x = &l.v[i];

		if (x->flags & EXTENT_ALLOCATED && x->flags & EXTENT_ZERO)
			r = disk_sync_op(base, DISK_WRITE_ZEROES, DISK_MAY_UNMAP, x->off, x->len);
		for (uint64_t off = x->off, n;
		     x->flags & EXTENT_DATA && r == 0 && off < x->off + x->len; off += n) {
			n = MIN(CHUNK - off % CHUNK, x->off + x->len - off);
			r = disk_pread(d, buf, n, off) ?: disk_pwrite(base, buf, n, off);
			cli_progress((void *)(uintptr_t) "commit", off + n, disk_size(d));
		}
	}
	if (r == 0)
		r = disk_flush(base); /* before anything goes from the image */
	if (r == 0 && !a.keep)
		r = disk_sync_op(d, DISK_DISCARD, 0, 0, disk_size(d));
	if (r < 0)
		r = e && *e ? r : err_sys(e, -r, "commit");
out:
	extent_list_done(&l);
	k = disk_close(base);
	r = r ?: k;
	k = disk_close(d);
	free(full);
	free(names.file);
	free(names.format);
	opt_done(opts, &a);
	return r < 0 ? r : k < 0 ? err_sys(e, -k, "close") : 0;
}

const struct command cmd_commit = {
	"commit", "[-d] [-f FORMAT] FILE | VOLUME",
	"write changes into the backing file; merge a volume's spare files", run
};
