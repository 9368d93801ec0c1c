/* strata-oci: the command line.  Options are the union of what runc and crun take, as far as engines pass them.
 * Exit status: the program's own for run and exec, else 0, 1 (failed) or 2 (usage). */
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "base/atomicfile.h"
#include "base/fault.h"
#include "base/opt.h"
#include "base/str.h"
#include "base/xalloc.h"
#include "container/cmd.h"
#include "container/spec.h"
#include "container/warn.h"

static const struct opt options[] = {
	OPT(struct globals, root, STR, "root", 0, "DIR", "where containers are remembered"),
	OPT(struct globals, log, STR, "log", 0, "FILE", "errors go there, too"),
	OPT(struct globals, log_format, STR, "log-format", 0, "text|json", "of that file"),
	OPT(struct globals, log_level, STR, "log-level", 0, "LEVEL", "error, warning or debug"),
	OPT(struct globals, debug, FLAG, "debug", 0, NULL, "also tell of limits that were clamped"),
	OPT(struct globals, systemd, FLAG, "systemd-cgroup", 0, NULL, "cgroups by systemd"),
	OPT(struct globals, manager_name, STR, "cgroup-manager", 0, "NAME",
	    "cgroupfs, systemd or disabled"),
	OPT(struct globals, criu, STR, "criu", 0, "PATH", "the criu program"),
	OPT(struct globals, rootless, STR, "rootless", 0, "auto|true|false",
	    "accepted for runc's callers"),
	OPT(struct globals, version, FLAG, "version", 'v', NULL, "print the version"),
	OPT(struct globals, help, FLAG, "help", 'h', NULL, "print this"),
	OPT_END
};

static const struct command commands[] = {
	{ "create", "ID", "make a container that waits for start", cmd_create },
	{ "delete", "ID", "remove a container that has ended", cmd_delete },
	{ "events", "ID", "print statistics and out-of-memory events as JSON", cmd_events },
	{ "exec", "ID COMMAND...", "run another program in a container", cmd_exec },
	{ "features", "", "print what this runtime can do as JSON", cmd_features },
	{ "kill", "ID [SIGNAL]", "send a signal (default SIGTERM)", cmd_kill },
	{ "list", "", "print all containers", cmd_list },
	{ "pause", "ID", "freeze all processes of a container", cmd_pause },
	{ "ps", "ID [PS OPTIONS]", "print the processes of a container", cmd_ps },
	{ "resume", "ID", "let a paused container go on", cmd_resume },
	{ "run", "ID", "create, start, wait, delete", cmd_run },
	{ "spec", "", "write an example config.json", cmd_spec },
	{ "start", "ID", "start the program of a created container", cmd_start },
	{ "state", "ID", "print the state of a container as JSON", cmd_state },
	{ "update", "ID", "change the limits of a container", cmd_update },
};

int usage(struct err **e, const char *fmt, ...)
{
	va_list ap;
	int r;

	va_start(ap, fmt);
	r = err_setv(e, EINVAL, "usage", fmt, ap);
	va_end(ap);
	return r;
}

int cmd_parse(const struct opt *table, void *target, const bool *help, int argc, char **argv,
	      bool stop, int min, int max, const char *what, struct err **e)
{
	int n = opt_parse(table, target, argc, argv, stop, e);

	if (n < 0)
		return n;
	if (*help) {
		_cleanup_(buf_done) struct buf b = { 0 };

		opt_help(table, 100, &b);
		printf("Usage: strata-oci %s [OPTIONS] %s\n\n%s", argv[0], what, buf_str(&b));
		return -ECANCELED;
	}
	return n < min || n > max ? usage(e, "wants: %s", what) : n;
}

static void help(void)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	size_t i;

	opt_help(options, 100, &b);
	printf("Usage: strata-oci [OPTIONS] COMMAND [OPTIONS] ...\n\n%s\nCommands (\"strata-oci COMMAND --help\" tells more):\n",
	       buf_str(&b));
	for (i = 0; i < ARRAY_SIZE(commands); i++)
		printf("  %-10s %-16s %s\n", commands[i].name, commands[i].args, commands[i].help);
}

/* The log file that engines read when a command has failed, and where warnings go then: standard error may be the
 * container's own. */
static void write_log(const struct globals *g, const char *level, const char *text)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	_cleanup_(closep) int fd = -1;
	struct timespec t;
	struct tm tm;
	char now[40];

	if (!g->log || !*g->log)
		return;
	fd = open(g->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (fd < 0)
		return;
	clock_gettime(CLOCK_REALTIME, &t);
	gmtime_r(&t.tv_sec, &tm);
	strftime(now, sizeof(now), "%Y-%m-%dT%H:%M:%SZ", &tm);
	if (g->log_format && streq(g->log_format, "json")) {
		buf_addf(&b, "{\"level\":\"%s\",\"msg\":", level);
		buf_add_json(&b, text);
		buf_addf(&b, ",\"time\":\"%s\"}\n", now);
	} else {
		buf_addf(&b, "time=\"%s\" level=%s msg=", now, level);
		buf_add_json(&b, text);
		buf_addc(&b, '\n');
	}
	write_all(fd, b.s, b.len);
}

static void write_warnings(const struct globals *g, struct buf *w)
{
	char *line, *save = NULL;

	for (line = w->s ? strtok_r(w->s, "\n", &save) : NULL; line;
	     line = strtok_r(NULL, "\n", &save))
		write_log(g, "warning", line);
}

/* Root of a user namespace that an engine made for itself is not root here. */
static bool host_root(void)
{
	unsigned int inside = 1, outside = 1;
	FILE *f;

	if (geteuid() != 0)
		return false;
	f = fopen("/proc/self/uid_map", "re");
	if (!f)
		return true;
	if (fscanf(f, "%u %u", &inside, &outside) != 2)
		inside = outside = 0;
	fclose(f);
	return inside == 0 && outside == 0;
}

static char *default_root(void)
{
	const char *run = getenv("XDG_RUNTIME_DIR");

	if (host_root())
		return xstrdup("/run/strata/oci");
	if (run && *run)
		return xasprintf("%s/strata/oci", run);
	return xasprintf("/tmp/strata-oci-%u", (unsigned int)geteuid());
}

static int globals_check(struct globals *g, struct err **e)
{
	if (g->systemd)
		g->manager = CG_SYSTEMD;
	if (g->manager_name) {
		if (streq(g->manager_name, "systemd"))
			g->manager = CG_SYSTEMD;
		else if (streq(g->manager_name, "cgroupfs"))
			g->manager = CG_CGROUPFS;
		else if (streq(g->manager_name, "disabled"))
			g->manager = CG_DISABLED;
		else
			return usage(e,
				     "--cgroup-manager: '%s' is not cgroupfs, systemd or disabled",
				     g->manager_name);
	}
	if (g->log_format && !streq(g->log_format, "json") && !streq(g->log_format, "text"))
		return usage(e, "--log-format: '%s' is not text or json", g->log_format);
	if (!g->root) {
		g->root = default_root();
	} else if (g->root[0] != '/') {
		char cwd[PATH_MAX], *abs;

		if (!getcwd(cwd, sizeof(cwd)))
			return err_sys(e, errno, "--root");
		abs = xasprintf("%s/%s", cwd, g->root);
		free(g->root);
		g->root = abs;
	}
	return 0;
}

int main(int argc, char **argv)
{
	_cleanup_(err_freep) struct err *e = NULL;
	_cleanup_(buf_done) struct buf warnings = { 0 };
	struct globals g = { .manager = CG_CGROUPFS };
	const struct command *c = NULL;
	size_t i;
	int n, r, fd;

	/* A caller without standard streams must not see our files in their place. */
	for (fd = 0; fd < 3; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0)
			return 1;
	/* Whoever starts us may ignore it, and that is inherited: the kernel would then reap our children by itself, their exit
	 * status would be lost and their pids could be somebody else's by the time we look. */
	signal(SIGCHLD, SIG_DFL);
	fault_init();
	n = opt_parse(options, &g, argc, argv, true, &e);
	if (n < 0)
		goto fail;
	if (g.version) {
		printf("strata-oci version " STRATA_VERSION "\nspec: " SPEC_VERSION "\n");
		return 0;
	}
	if (g.help || n == 0 || streq(argv[1], "help")) {
		help();
		return g.help || n > 0 ? 0 : 2;
	}
	for (i = 0; i < ARRAY_SIZE(commands); i++)
		if (streq(argv[1], commands[i].name))
			c = &commands[i];
	if (!c) {
		usage(&e, "'%s' is not a command; see strata-oci --help", argv[1]);
		goto fail;
	}
	if (globals_check(&g, &e) < 0)
		goto fail;
	ct_notes(g.debug);
	if (g.log && *g.log)
		ct_warn_to(&warnings);
	r = c->run(&g, n, argv + 1, &e);
	fflush(stdout);
	write_warnings(&g, &warnings);
	if (r >= 0) {
		opt_done(options, &g);
		return r;
	}
fail:
	fprintf(stderr, "strata-oci: %s%s%s\n", c ? c->name : "", c ? ": " : "", err_msg(e));
	write_log(&g, "error", err_msg(e));
	opt_done(options, &g);
	if (streq(err_id(e), "usage") || str_starts(err_id(e), "option."))
		return 2;
	/* Apart from the program's own statuses, as callers of exec expect. */
	return c && c->run == cmd_exec ? 255 : 1;
}
