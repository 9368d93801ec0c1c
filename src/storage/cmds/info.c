/* strata-disk info */
#include <string.h>
#include "base/clock.h"
#include "base/str.h"
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

struct sink {
	struct buf *b;
	int out;
};

static void emit(void *arg, const char *name, const char *value)
{
	struct sink *s = arg;
	bool bare = streq(value, "true") || streq(value, "false") ||
		    (value[0] && strspn(value, "0123456789") == strlen(value));

	if (s->out == OUT_TABLE) {
		buf_addf(s->b, "%-18s %s\n", name, value);
		return;
	}
	buf_addc(s->b, ',');
	buf_add_json(s->b, name);
	buf_addc(s->b, ':');
	if (bare)
		buf_adds(s->b, value);
	else
		buf_add_json(s->b, value);
}

static void snapshots(struct buf *b, struct disk *d, int out)
{
	struct disk_snapshot_list l;

	if (disk_snapshot_ls(d, &l, NULL) < 0)
		return;
	if (out == OUT_JSON)
		buf_adds(b, ",\"snapshot_list\":[");
	for (size_t i = 0; i < l.n; i++) {
		char when[32];

		format_time(l.v[i].when, when, sizeof(when));
		if (out == OUT_TABLE) {
			buf_addf(b, "snapshot           %s %s %s\n", l.v[i].id, l.v[i].name, when);
			continue;
		}
		buf_adds(b, i ? ",{\"id\":" : "{\"id\":");
		buf_add_json(b, l.v[i].id);
		buf_adds(b, ",\"name\":");
		buf_add_json(b, l.v[i].name);
		buf_addf(b, ",\"size\":%llu,\"vm_state\":%llu,\"created\":\"%s\"}",
			 (unsigned long long)l.v[i].size, (unsigned long long)l.v[i].vm_state,
			 when);
	}
	if (out == OUT_JSON)
		buf_adds(b, "]");
	disk_snapshot_list_done(&l);
}

static int run(int argc, char **argv, struct err **e)
{
	struct args a = { 0 };
	_cleanup_(buf_done) struct buf b = { 0 };
	struct disk_cfg cfg = { .readonly = true, .no_lock = true, .backing = "" };
	struct sink s = { &b, 0 };
	uint64_t alloc = 0, file = 0;
	struct disk *d = NULL;
	char t1[16], t2[16];
	int r = cli_operands(opts, &a, argc, argv, 1, 1, e);

	cfg.path = argv[1];
	cfg.format = a.format;
	s.out = a.out;
	if (r >= 0 && volume_is(argv[1])) {
		r = cli_volume_info(argv[1], a.out, e);
		goto out;
	}
	if (r >= 0)
		r = disk_open(&cfg, &d, e);
	if (r < 0)
		goto out;
	disk_usage(d, &alloc, &file);
	if (a.out == OUT_JSON) {
		buf_adds(&b, "{\"file\":");
		buf_add_json(&b, argv[1]);
		buf_addf(&b,
			 ",\"format\":\"%s\",\"size\":%llu,\"allocated\":%llu,\"file_size\":%llu",
			 disk_format(d), (unsigned long long)disk_size(d),
			 (unsigned long long)alloc, (unsigned long long)file);
	} else {
		buf_addf(
			&b,
			"file               %s\nformat             %s\nsize               %s (%llu bytes)\n"
			"allocated          %s\n",
			argv[1], disk_format(d), format_size(disk_size(d), t1, sizeof(t1)),
			(unsigned long long)disk_size(d), format_size(alloc, t2, sizeof(t2)));
	}
	disk_info(d, emit, &s);
	snapshots(&b, d, a.out);
	if (a.out == OUT_JSON)
		buf_adds(&b, "}\n");
	fputs(buf_str(&b), stdout);
out:
	disk_close(d);
	opt_done(opts, &a);
	return r < 0 ? r : 0;
}

const struct command cmd_info = { "info", "[-f FORMAT] [-o json] FILE|VOLUME",
				  "show what an image or volume is", run };
