/* strata-disk volume, clone, stream, and what the other commands do when they are given a volume.  See volume.h. */
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include "base/clock.h"
#include "base/str.h"
#include "storage/cli.h"
#include "storage/jobs/job_ops.h"

static volatile sig_atomic_t interrupted;

static void on_signal(int sig)
{
	interrupted = 1;
}

/* To its end, with a bar; an interrupt cancels it. */
int cli_job(struct job *j, uint64_t rate, struct err **e)
{
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = SA_RESETHAND }, old;
	struct job_info i;

	if (!j)
		return 0;
	if (rate)
		job_set_rate(j, rate);
	sigaction(SIGINT, &sa, &old);
	while (!job_ended(j)) {
		struct pollfd p = { .fd = job_fd(j), .events = POLLIN };

		poll(&p, 1, 100);
		if (interrupted)
			job_cancel(j);
		job_info(j, &i);
		if (i.total)
			cli_progress((void *)(uintptr_t)i.type, i.done, i.total);
	}
	sigaction(SIGINT, &old, NULL);
	return job_wait(j, e);
}

/* ---- looking ---- */

static bool last_child(const struct volume_info *i, size_t at)
{
	for (size_t k = at + 1; k < i->n_points; k++)
		if (streq(i->points[k].parent, i->points[at].parent))
			return false;
	return !streq(i->parent, i->points[at].parent);
}

static void tree(const struct volume_info *i, const char *parent, struct buf *indent, struct buf *b)
{
	for (size_t k = 0; k < i->n_points; k++) {
		const struct volume_point *p = &i->points[k];
		size_t was = indent->len;
		char size[16], when[32];

		if (!streq(p->parent, parent))
			continue;
		buf_addf(b, "%s%s %-24s %-7s %10s  %s%s%s\n", buf_str(indent),
			 last_child(i, k) ? "`-" : "|-", p->name, volume_kinds[p->kind],
			 format_size(p->used, size, sizeof(size)),
			 format_time(p->created, when, sizeof(when)),
			 p->complete ? "" : "  incomplete", p->protected ? "  protected" : "");
		buf_adds(indent, last_child(i, k) ? "   " : "|  ");
		tree(i, p->id, indent, b);
		indent->len = was;
		if (indent->s)
			indent->s[was] = '\0';
	}
	if (streq(i->parent, parent))
		buf_addf(b, "%s`- (current)\n", buf_str(indent));
}

static void table(const struct volume_info *i, struct buf *b)
{
	_cleanup_(buf_done) struct buf indent = { 0 };
	char t1[16], t2[16];

	buf_addf(b, "volume             %s\nid                 %s\nformat             %s\n", i->dir,
		 i->id, i->format);
	buf_addf(b, "size               %s (%llu bytes)\nused               %s\n",
		 format_size(i->size, t1, sizeof(t1)), (unsigned long long)i->size,
		 format_size(i->used, t2, sizeof(t2)));
	buf_addf(b, "depth              %u of %u\nfile               %s\n", i->depth, i->max_depth,
		 i->file);
	if (i->base_dir)
		buf_addf(b, "linked to          %s point %s\n", i->base_dir, i->base_point);
	for (size_t k = 0; k < i->n_clones; k++)
		buf_addf(b, "clone              %s\n", i->clones[k]);
	if (i->hidden)
		buf_addf(b, "to be merged       %u files\n", i->hidden);
	if (i->job)
		buf_addf(b, "unfinished         %s, %llu of %llu bytes\n", i->job,
			 (unsigned long long)i->job_done, (unsigned long long)i->job_total);
	if (i->n_points)
		tree(i, "", &indent, b);
}

int cli_volume_info(const char *dir, int out, struct err **e)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	struct volume_info i;
	int r = volume_info(dir, &i, e);

	if (r < 0)
		return r;
	if (out == OUT_JSON)
		volume_info_json(&i, &b);
	else
		table(&i, &b);
	fputs(buf_str(&b), stdout);
	volume_info_done(&i);
	return 0;
}

int cli_volume_points(const char *dir, int out, struct err **e)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	_cleanup_(buf_done) struct buf indent = { 0 };
	struct volume_info i;
	int r = volume_info(dir, &i, e);

	if (r < 0)
		return r;
	if (out == OUT_JSON)
		volume_info_json(&i, &b);
	else if (i.n_points)
		tree(&i, "", &indent, &b);
	fputs(buf_str(&b), stdout);
	volume_info_done(&i);
	return 0;
}

/* ---- volume ---- */

struct args {
	char *format, *point, *kind;
	int provision, out;
	uint64_t depth;
	uint64_t rate;
	bool full;
	opt_list o;
};

static const struct opt volume_opts[] = {
	OPT(struct args, format, STR, "format", 'f', "FORMAT", "create: qcow2 (default) or raw"),
	OPT(struct args, provision, ENUM, "provision", 0, "MODE", "create: thin, lazy or eager",
	    .choices = provision_choices),
	OPT(struct args, depth, U64, "max-depth", 0, "N",
	    "create: files in a chain before it is flattened", .max = 1000),
	OPT(struct args, o, LIST, "option", 'o', "k=v,...", "create: options of the format"),
	OPT(struct args, rate, SIZE, "rate", 0, "SIZE", "bytes a second at most"),
	OPT_END,
};

static int create(const struct args *a, const char *dir, const char *size, struct err **e)
{
	struct volume_create c = { .format = a->format,
				   .provision = a->provision,
				   .max_depth = (unsigned int)a->depth };
	const char **params = NULL;
	int r;

	if (parse_size(size, &c.size) < 0)
		return err_set(e, EINVAL, "usage", "'%s' is not a size", size);
	r = cli_params(&a->o, &params, e);
	c.params = params;
	r = r ?: volume_create(dir, &c, e);
	cli_params_free(params);
	return r;
}

static int volume_run(int argc, char **argv, struct err **e)
{
	static const struct {
		const char *name;
		int operands;
		int (*job)(struct volume *v, struct job **job, struct err **e);
	} verbs[] = {
		{ "create", 2 },
		{ "import", 2 },
		{ "rm", 1 },
		{ "resize", 2 },
		{ "compact", 1, volume_compact },
		{ "flatten", 1, volume_flatten },
		{ "promote", 1, volume_promote },
		{ "resume", 1, volume_resume },
	};
	_cleanup_(volume_closep) struct volume *v = NULL;
	const char *verb = argc > 1 ? argv[1] : "";
	struct args a = { 0 };
	struct job *j = NULL;
	uint64_t size;
	size_t k = 0;
	int r;

	while (k < ARRAY_SIZE(verbs) && !streq(verbs[k].name, verb))
		k++;
	if (k == ARRAY_SIZE(verbs))
		return err_set(
			e, EINVAL, "usage",
			"volume: create, import, rm, resize, compact, flatten, promote or resume");
	r = cli_operands(volume_opts, &a, argc - 1, argv + 1, verbs[k].operands, verbs[k].operands,
			 e);
	if (r < 0)
		goto out;
	if (streq(verb, "create")) {
		r = create(&a, argv[2], argv[3], e);
	} else if (streq(verb, "import")) {
		r = volume_import(argv[3], argv[2], a.format, e);
	} else if (streq(verb, "rm")) {
		r = volume_remove(argv[2], e);
	} else if (streq(verb, "resize")) {
		if (parse_size(argv[3], &size) < 0)
			r = err_set(e, EINVAL, "usage", "'%s' is not a size", argv[3]);
		else
			r = volume_open(argv[2], &v, e);
		r = r < 0 ? r : volume_resize(v, size, e);
	} else {
		r = volume_open(argv[2], &v, e);
		if (r >= 0)
			volume_set_rate(v, a.rate);
		r = r < 0 ? r : verbs[k].job(v, &j, e);
		r = r < 0 ? r : cli_job(j, a.rate, e);
	}
out:
	opt_done(volume_opts, &a);
	return MIN(r, 0);
}

const struct command cmd_volume = {
	"volume",
	"create DIR SIZE | import FILE DIR | rm|compact|flatten|promote|resume DIR | resize DIR SIZE",
	"volumes: an image with its tree of snapshots", volume_run
};

/* ---- clone ---- */

static const struct opt clone_opts[] = {
	OPT(struct args, full, FLAG, "full", 0, NULL, "copy every block; else the clone is linked"),
	OPT(struct args, point, STR, "point", 'p', "NAME",
	    "clone this snapshot; else the current state"),
	OPT(struct args, rate, SIZE, "rate", 0, "SIZE", "with --full: bytes a second at most"),
	OPT_END,
};

static int clone_run(int argc, char **argv, struct err **e)
{
	_cleanup_(volume_closep) struct volume *v = NULL;
	struct args a = { 0 };
	struct job *j = NULL;
	int r = cli_operands(clone_opts, &a, argc, argv, 2, 2, e);

	r = r < 0 ? r : volume_open(argv[1], &v, e);
	if (r >= 0)
		volume_set_rate(v, a.rate);
	r = r < 0 ? r : volume_clone(v, a.point, argv[2], a.full, &j, e);
	r = r < 0 ? r : cli_job(j, a.rate, e);
	opt_done(clone_opts, &a);
	return r;
}

const struct command cmd_clone = { "clone", "[--full [--rate SIZE]] [--point NAME] VOLUME DIR",
				   "make a volume from a volume", clone_run };

/* ---- stream ---- */

static const struct opt stream_opts[] = {
	OPT(struct args, format, STR, "format", 'f', "FORMAT", "do not probe"),
	OPT(struct args, rate, SIZE, "rate", 0, "SIZE", "volumes: bytes a second at most"),
	OPT_END,
};

static int stream_image(const char *path, const char *format, struct err **e)
{
	struct move m = { 0 };
	struct disk *d = NULL;
	int r = cli_open(path, format, false, false, &d, e), k;

	r = r ?: move_stream(d, UINT_MAX, &m, e);
	r = r ?: disk_set_backing(d, NULL, NULL, e);
	k = disk_close(d);
	return r < 0 ? r : k < 0 ? err_sys(e, -k, "close") : 0;
}

static int stream_run(int argc, char **argv, struct err **e)
{
	_cleanup_(volume_closep) struct volume *v = NULL;
	struct args a = { 0 };
	struct job *j = NULL;
	int r = cli_operands(stream_opts, &a, argc, argv, 1, 1, e);

	if (r >= 0 && !volume_is(argv[1])) {
		r = stream_image(argv[1], a.format, e);
	} else if (r >= 0) {
		r = volume_open(argv[1], &v, e);
		if (r >= 0)
			volume_set_rate(v, a.rate);
		r = r < 0 ? r : volume_flatten(v, &j, e);
		r = r < 0 ? r : cli_job(j, a.rate, e);
	}
	opt_done(stream_opts, &a);
	return r;
}

const struct command cmd_stream = { "stream", "[-f FORMAT] FILE | [--rate SIZE] VOLUME",
				    "pull what lies below into the image", stream_run };
