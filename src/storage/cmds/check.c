/* strata-disk check: exit status 0 clean (or all mended), 2 corruptions remain, 3 only leaks remain, 63 nothing to
 * check in this format, 1 could not check. */
#include "storage/cli.h"

struct args {
	char *format;
	int out, mode;
	bool repair;
};

static const char *const modes[] = { "all", "leaks", NULL };
static const struct opt opts[] = {
	OPT(struct args, format, STR, "format", 'f', "FORMAT", "do not probe"),
	OPT(struct args, repair, FLAG, "repair", 'r', NULL, "mend what is found"),
	OPT(struct args, mode, ENUM, "what", 0, "WHAT", "with --repair: all or leaks",
	    .choices = modes),
	OPT(struct args, out, ENUM, "output", 'o', "FORM", "table or json", .choices = out_choices),
	OPT_END,
};

static void message(void *arg, const char *text)
{
	fprintf(stderr, "%s\n", text);
}

static int run(int argc, char **argv, struct err **e)
{
	struct args a = { 0 };
	struct disk_check c = { .message = message };
	struct disk_cfg cfg = { .backing = "" };
	struct disk *d = NULL;
	int r = cli_operands(opts, &a, argc, argv, 1, 1, e), k;
	uint64_t left;

	if (r < 0)
		goto out;
	cfg.path = argv[1];
	cfg.format = a.format;
	cfg.readonly = !a.repair;
	cfg.repair = a.repair;
	r = disk_open(&cfg, &d, e);
	if (r < 0)
		goto out;
	r = disk_check(d,
		       !a.repair     ? DISK_REPAIR_NONE
		       : a.mode == 1 ? DISK_REPAIR_LEAKS
				     : DISK_REPAIR_ALL,
		       &c, e);
	if (r == -ENOTSUP) {
		err_clear(e);
		printf(a.out == OUT_JSON ? "{\"check\":\"not supported\"}\n"
					 : "This format has nothing to check.\n");
		r = 63;
		goto out;
	}
	if (r < 0)
		goto out;
	if (a.out == OUT_JSON)
		printf("{\"corruptions\":%llu,\"leaks\":%llu,\"errors\":%llu,\"corruptions_fixed\":%llu,\"leaks_fixed\":%llu,"
		       "\"allocated_clusters\":%llu,\"total_clusters\":%llu,\"fragmented_clusters\":%llu,"
		       "\"compressed_clusters\":%llu,\"image_end\":%llu}\n",
		       (unsigned long long)c.corruptions, (unsigned long long)c.leaks,
		       (unsigned long long)c.errors, (unsigned long long)c.corruptions_fixed,
		       (unsigned long long)c.leaks_fixed, (unsigned long long)c.allocated,
		       (unsigned long long)c.total, (unsigned long long)c.fragmented,
		       (unsigned long long)c.compressed, (unsigned long long)c.image_end);
	else if (c.corruptions + c.leaks + c.errors == 0)
		printf("No errors were found; %llu of %llu clusters are allocated.\n",
		       (unsigned long long)c.allocated, (unsigned long long)c.total);
	else
		printf("%llu corruptions (%llu mended), %llu leaked clusters (%llu mended), %llu could not be checked.\n",
		       (unsigned long long)c.corruptions, (unsigned long long)c.corruptions_fixed,
		       (unsigned long long)c.leaks, (unsigned long long)c.leaks_fixed,
		       (unsigned long long)c.errors);
	left = c.corruptions > c.corruptions_fixed ? c.corruptions - c.corruptions_fixed : 0;
	r = c.errors ? 1 : left ? 2 : c.leaks > c.leaks_fixed ? 3 : 0;
out:
	k = disk_close(d);
	opt_done(opts, &a);
	return r >= 0 && r < 63 && k < 0 ? err_sys(e, -k, "close") : r;
}

const struct command cmd_check = { "check",
				   "[--repair [--what all|leaks]] [-f FORMAT] [-o json] FILE",
				   "find damage, and mend it", run };
