/* strata-disk snapshot create|ls|apply|rm: internal snapshots of a qcow2 image. */
#include "base/clock.h"
#include "base/str.h"
#include "storage/cli.h"

struct args {
	char *format;
	int out, kind;
	uint64_t rate;
};

static const struct opt opts[] = {
	OPT(struct args, format, STR, "format", 'f', "FORMAT", "do not probe"),
	OPT(struct args, out, ENUM, "output", 'o', "FORM", "table or json", .choices = out_choices),
	OPT(struct args, kind, ENUM, "kind", 'k', "KIND",
	    "of a volume: row (default), cow, full or reflink", .choices = volume_kinds),
	OPT(struct args, rate, SIZE, "rate", 0, "SIZE",
	    "of a volume's jobs: bytes a second at most"),
	OPT_END,
};

static int list(struct disk *d, int out, struct err **e)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	struct disk_snapshot_list l;
	int r = disk_snapshot_ls(d, &l, e);

	if (r < 0)
		return r;
	buf_adds(&b, out == OUT_JSON ? "["
		     : l.n	     ? "ID    SIZE        CREATED                   NAME\n"
				     : "");
	for (size_t i = 0; i < l.n; i++) {
		char when[32], size[16];

		format_time(l.v[i].when, when, sizeof(when));
		if (out == OUT_TABLE) {
			buf_addf(&b, "%-5s %-11s %-25s %s\n", l.v[i].id,
				 format_size(l.v[i].size, size, sizeof(size)), when, l.v[i].name);
			continue;
		}
		buf_adds(&b, i ? ",{\"id\":" : "{\"id\":");
		buf_add_json(&b, l.v[i].id);
		buf_adds(&b, ",\"name\":");
		buf_add_json(&b, l.v[i].name);
		buf_addf(&b, ",\"size\":%llu,\"vm_state\":%llu,\"created\":\"%s\"}",
			 (unsigned long long)l.v[i].size, (unsigned long long)l.v[i].vm_state,
			 when);
	}
	buf_adds(&b, out == OUT_JSON ? "]\n" : "");
	fputs(buf_str(&b), stdout);
	disk_snapshot_list_done(&l);
	return 0;
}

static int of_volume(const struct args *a, const char *verb, char **argv, struct err **e)
{
	_cleanup_(volume_closep) struct volume *v = NULL;
	struct job *j = NULL;
	int r;

	if (streq(verb, "ls"))
		return cli_volume_points(argv[2], a->out, e);
	r = volume_open(argv[2], &v, e);
	if (r < 0)
		return r;
	volume_set_rate(v, a->rate);
	if (streq(verb, "create"))
		r = volume_snapshot(v, argv[3], (enum volume_kind)a->kind, NULL, &j, e);
	else if (streq(verb, "apply"))
		r = volume_restore(v, argv[3], &j, e);
	else
		r = volume_delete(v, argv[3], &j, e);
	return r < 0 ? r : cli_job(j, a->rate, e);
}

static int run(int argc, char **argv, struct err **e)
{
	struct args a = { 0 };
	struct disk_cfg cfg = { .backing = "" };
	const char *verb = argc > 1 ? argv[1] : "";
	struct disk *d = NULL;
	bool ls = streq(verb, "ls");
	int r, k;

	if (!ls && !streq(verb, "create") && !streq(verb, "apply") && !streq(verb, "rm"))
		return err_set(e, EINVAL, "usage", "snapshot: create, ls, apply or rm");
	r = cli_operands(opts, &a, argc - 1, argv + 1, ls ? 1 : 2, ls ? 1 : 2, e);
	if (r < 0)
		goto out;
	if (volume_is(argv[2])) {
		r = of_volume(&a, verb, argv, e);
		goto out;
	}
	cfg.path = argv[2];
	cfg.format = a.format;
	cfg.readonly = cfg.no_lock = ls;
	r = disk_open(&cfg, &d, e);
	if (r < 0)
		goto out;
	r = ls			    ? list(d, a.out, e)
	    : streq(verb, "create") ? disk_snapshot_create(d, argv[3], e)
	    : streq(verb, "apply")  ? disk_snapshot_apply(d, argv[3], e)
				    : disk_snapshot_rm(d, argv[3], e);
out:
	k = disk_close(d);
	opt_done(opts, &a);
	return r < 0 ? r : k < 0 ? err_sys(e, -k, "close") : 0;
}

const struct command cmd_snapshot = {
	"snapshot",
	"create [--kind row|cow|full|reflink] FILE|VOLUME NAME | ls [-o json] F | apply F NAME | rm F NAME",
	"snapshots of a volume, internal ones of a qcow2", run
};
