/* strata-image: the image room as a program, for tests, and for people where no daemon runs. */
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/opt.h"
#include "image/cli.h"

struct image_op cli_op;
bool cli_quiet;

static void on_signal(int signo)
{
	atomic_store(&cli_op.cancelled, true);
}

static const char *const phase_names[] = {
	"resolve", "download", "upload", "unpack", "pack", "run"
};

/* One line for each finished item; a terminal also sees what goes on. */
static void show_progress(void *arg, const struct image_progress *p)
{
	static nsec_t last;
	char done[24], total[24];
	bool tty = isatty(2);

	if (cli_quiet || (!p->finished && (!tty || now_mono() - last < 100 * NSEC_PER_MSEC)))
		return;
	last = now_mono();
	fprintf(stderr, "%s%-8s %.19s  %s%s%s%s%s", tty ? "\r\033[K" : "", phase_names[p->phase],
		p->item, p->reused ? "already there" : format_size(p->done, done, sizeof(done)),
		p->total && !p->finished ? " of " : "",
		p->total && !p->finished ? format_size(p->total, total, sizeof(total)) : "",
		p->finished && !p->reused ? " done" : "", p->finished || !tty ? "\n" : "");
}

static int usage(FILE *f)
{
	fprintf(f, "usage: strata-image [--store DIR] [--quiet] COMMAND [OPTIONS] [ARGUMENTS]\n\n");
	for (const struct cli_cmd *const *t = cli_tables; *t; t++) {
		for (const struct cli_cmd *c = *t; c->name; c++)
			fprintf(f, "  %-15s %s\n", c->name, c->help);
	}
	fprintf(f, "\nstrata-image COMMAND --help shows its options.\n");
	return f == stdout ? 0 : 2;
}

static int help(const struct cli_cmd *c)
{
	_cleanup_(buf_done) struct buf b = { 0 };

	opt_help(c->opts, 80, &b);
	printf("usage: strata-image %s %s\n\n%s\n\n%s", c->name, c->args, c->help, buf_str(&b));
	return 0;
}

static const struct cli_cmd *find(const char *name)
{
	for (const struct cli_cmd *const *t = cli_tables; *t; t++) {
		for (const struct cli_cmd *c = *t; c->name; c++) {
			if (streq(c->name, name))
				return c;
		}
	}
	return NULL;
}

static int run(const struct cli_cmd *c, const char *store, int argc, char **argv)
{
	_cleanup_(store_closep) struct image_store *s = NULL;
	_cleanup_(err_freep) struct err *e = NULL;
	void *target = calloc(1, c->size ? c->size : 1);
	int n, r;

	if (!target)
		return 1;
	n = opt_parse(c->opts, target, argc, argv, false, &e);
	if (n >= 0 && (n < c->min_args || n > c->max_args))
		n = err_set(&e, EINVAL, "usage", "usage: strata-image %s %s", c->name, c->args);
	if (n < 0) {
		fprintf(stderr, "strata-image %s: %s\n", c->name, err_msg(e));
		opt_done(c->opts, target);
		free(target);
		return 2;
	}
	argv[n + 1] = NULL;
	r = c->storeless ? 0 : store_open(store, &s, &e);
	if (r == 0)
		r = c->run(s, target, argv + 1, n, &e);
	opt_done(c->opts, target);
	free(target);
	if (r >= 0)
		return r;
	fprintf(stderr, "strata-image: %s: %s\n", c->name, err_msg(e));
	return 1;
}

int main(int argc, char **argv)
{
	const char *store = getenv("STRATA_IMAGE_STORE");
	struct sigaction sa = { .sa_handler = on_signal };
	const struct cli_cmd *c;
	int i = 1;

	log_setup("strata-image", 2, LOG_TEXT);
	fault_init();
	if (!store || !*store)
		store = IMAGE_STORE_DEFAULT;
	for (; i < argc && argv[i][0] == '-'; i++) {
		if (streq(argv[i], "--store") && i + 1 < argc)
			store = argv[++i];
		else if (streq(argv[i], "--quiet") || streq(argv[i], "-q"))
			cli_quiet = true;
		else if (streq(argv[i], "--help") || streq(argv[i], "-h"))
			return usage(stdout);
		else if (streq(argv[i], "--version"))
			return printf("strata-image %s\n", STRATA_VERSION) < 0;
		else
			return usage(stderr);
	}
	if (i >= argc)
		return usage(stderr);
	c = find(argv[i]);
	if (!c) {
		fprintf(stderr, "strata-image: there is no command '%s'\n", argv[i]);
		return 2;
	}
	for (int k = i + 1; k < argc && !streq(argv[k], "--"); k++) {
		if (streq(argv[k], "--help"))
			return help(c);
	}
	cli_op.progress = show_progress;
	/* once: the second one kills */
	sa.sa_flags = (int)SA_RESETHAND;
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	signal(SIGPIPE, SIG_IGN);
	return run(c, store, argc - i, argv + i);
}
