/* Commands over a container's life: create, run, start, exec, kill, delete, pause, resume. */
#include <limits.h>
#include <regex.h>
#include <signal.h>
#include "base/opt.h"
#include "base/str.h"
#include "container/cmd.h"
#include "container/create.h"
#include "container/exec.h"
#include "container/lifecycle.h"

struct flags {
	char *bundle, *config, *console_socket, *pid_file;
	uint64_t preserve_fds;
	bool no_pivot, no_new_keyring, no_subreaper, detach, keep, tty, help;
	/* exec */
	char *cwd, *user, *process, *apparmor, *label;
	opt_list env, groups, caps, cgroups;
	bool no_new_privs, ignore_paused;
	/* kill, delete */
	bool all, force, regex;
};

#define F(f, k, n, l, a, h) OPT(struct flags, f, k, n, l, a, h)
#define HELP		    F(help, FLAG, "help", 'h', NULL, "print this")
#define CREATE_OPTIONS                                                                           \
	F(bundle, STR, "bundle", 'b', "DIR", "folder with config.json (default: here)"),         \
		F(config, STR, "config", 'f', "FILE", "configuration, instead of config.json"),  \
		F(console_socket, STR, "console-socket", 0, "PATH", "where the terminal goes"),  \
		F(pid_file, STR, "pid-file", 0, "FILE", "write the first process's pid there"),  \
		F(preserve_fds, U64, "preserve-fds", 0, "N", "pass descriptors 3 to 2+N"),       \
		F(no_pivot, FLAG, "no-pivot", 0, NULL, "no pivot_root (the root is a ramdisk)"), \
		F(no_new_keyring, FLAG, "no-new-keyring", 0, NULL, "keep the session keyring"),  \
		F(no_subreaper, FLAG, "no-subreaper", 0, NULL, "accepted for runc's callers")

static const struct opt create_opts[] = { CREATE_OPTIONS, HELP, OPT_END };
static const struct opt run_opts[] = {
	CREATE_OPTIONS, F(detach, FLAG, "detach", 'd', NULL, "do not stay with the container"),
	F(keep, FLAG, "keep", 0, NULL, "do not delete it when it ends"), HELP, OPT_END
};
static const struct opt exec_options[] = {
	F(cwd, STR, "cwd", 0, "DIR", "working directory"),
	F(env, LIST, "env", 'e', "K=V", "set a variable; may be repeated"),
	F(tty, FLAG, "tty", 't', NULL, "with a terminal"),
	F(user, STR, "user", 'u', "UID[:GID]", "as this user"),
	F(groups, LIST, "additional-gids", 'g', "GID", "with this group, too; may be repeated"),
	F(process, STR, "process", 'p', "FILE", "the process object of config.json form"),
	F(detach, FLAG, "detach", 'd', NULL, "do not stay with the process"),
	F(pid_file, STR, "pid-file", 0, "FILE", "write its pid there"),
	F(label, STR, "process-label", 0, "LABEL", "SELinux label"),
	F(apparmor, STR, "apparmor", 0, "PROFILE", "AppArmor profile"),
	F(no_new_privs, FLAG, "no-new-privs", 0, NULL, "set no_new_privs"),
	F(caps, LIST, "cap", 'c', "CAP", "add a capability; may be repeated"),
	F(console_socket, STR, "console-socket", 0, "PATH", "where the terminal goes"),
	F(preserve_fds, U64, "preserve-fds", 0, "N", "pass descriptors 3 to 2+N"),
	F(cgroups, LIST, "cgroup", 0, "[CTRL,...:]PATH",
	  "in this cgroup below the container's; may be repeated"),
	F(ignore_paused, FLAG, "ignore-paused", 0, NULL, "also when the container is paused"),
	F(no_subreaper, FLAG, "no-subreaper", 0, NULL, "accepted for runc's callers"),
	HELP,
	OPT_END
};
static const struct opt kill_opts[] = {
	F(all, FLAG, "all", 'a', NULL, "to all processes of the container"),
	F(regex, FLAG, "regex", 'r', NULL, "ID is a regular expression"), HELP, OPT_END
};
static const struct opt delete_opts[] = {
	F(force, FLAG, "force", 'f', NULL, "kill it first when it runs"),
	F(regex, FLAG, "regex", 'r', NULL, "ID is a regular expression"), HELP, OPT_END
};
static const struct opt plain_opts[] = { HELP, OPT_END };

static int create(const struct globals *g, int argc, char **argv, bool run, struct err **e)
{
	const struct opt *table = run ? run_opts : create_opts;
	struct flags f = { 0 };
	struct create_opts o = { .root = g->root, .manager = g->manager, .run = run };
	int r = cmd_parse(table, &f, &f.help, argc, argv, false, 1, 1, "ID", e);

	if (r == -ECANCELED)
		return 0;
	if (r > 0) {
		o.id = argv[1];
		o.bundle = f.bundle;
		o.config = f.config;
		o.console_socket = f.console_socket;
		o.pid_file = f.pid_file;
		o.preserve_fds = (unsigned int)f.preserve_fds;
		o.no_pivot = f.no_pivot;
		o.no_new_keyring = f.no_new_keyring;
		o.detach = f.detach;
		o.keep = f.keep;
		r = f.preserve_fds > 1000 ? usage(e, "--preserve-fds: more than 1000")
					  : container_create(&o, e);
	}
	opt_done(table, &f);
	return r;
}

int cmd_create(const struct globals *g, int argc, char **argv, struct err **e)
{
	return create(g, argc, argv, false, e);
}

int cmd_run(const struct globals *g, int argc, char **argv, struct err **e)
{
	return create(g, argc, argv, true, e);
}

int cmd_start(const struct globals *g, int argc, char **argv, struct err **e)
{
	struct flags f = { 0 };
	int r = cmd_parse(plain_opts, &f, &f.help, argc, argv, false, 1, 1, "ID", e);

	return r < 0 ? (r == -ECANCELED ? 0 : r) : container_start(g->root, argv[1], e);
}

int cmd_exec(const struct globals *g, int argc, char **argv, struct err **e)
{
	struct flags f = { 0 };
	struct exec_opts o = { .root = g->root };
	int n = cmd_parse(exec_options, &f, &f.help, argc, argv, true, 1, INT_MAX,
			  "ID [COMMAND...]", e),
	    r;

	if (n < 0)
		return n == -ECANCELED ? 0 : n;
	vec_push(&f.env, NULL);
	vec_push(&f.groups, NULL);
	vec_push(&f.caps, NULL);
	vec_push(&f.cgroups, NULL);
	o.id = argv[1];
	o.args = n > 1 ? argv + 2 : NULL;
	if (o.args)
		o.args[n - 1] = NULL;
	o.process_file = f.process;
	o.env = f.env.v;
	o.groups = f.groups.v;
	o.caps = f.caps.v;
	o.cwd = f.cwd;
	o.user = f.user;
	o.apparmor = f.apparmor;
	o.label = f.label;
	o.console_socket = f.console_socket;
	o.pid_file = f.pid_file;
	o.cgroups = f.cgroups.v;
	o.tty = f.tty;
	o.no_new_privs = f.no_new_privs;
	o.detach = f.detach;
	o.ignore_paused = f.ignore_paused;
	o.preserve_fds = (unsigned int)f.preserve_fds;
	if (!o.process_file && !o.args)
		r = usage(e, "wants: ID COMMAND..., or --process");
	else
		r = container_exec(&o, e);
	opt_done(exec_options, &f);
	return r;
}

/* Call fn for each container whose id matches. */
static int each(const struct globals *g, const char *pattern, bool regex, struct err **e,
		int (*fn)(const struct globals *g, const char *id, void *arg, struct err **e),
		void *arg)
{
	_cleanup_(strv_freep) char **ids = NULL;
	regex_t re;
	size_t i;
	int r = 0;

	if (!regex)
		return fn(g, pattern, arg, e);
	if (regcomp(&re, pattern, REG_EXTENDED | REG_NOSUB) != 0)
		return usage(e, "'%s' is not a regular expression", pattern);
	ids = container_list(g->root, e);
	for (i = 0; ids && ids[i] && r == 0; i++)
		if (regexec(&re, ids[i], 0, NULL, 0) == 0)
			r = fn(g, ids[i], arg, e);
	regfree(&re);
	return ids ? r : -err_num(e ? *e : NULL);
}

struct kill_args {
	int sig;
	bool all;
};

static int each_kill(const struct globals *g, const char *id, void *arg, struct err **e)
{
	const struct kill_args *a = arg;

	return container_kill(g->root, id, a->sig, a->all, e);
}

int cmd_kill(const struct globals *g, int argc, char **argv, struct err **e)
{
	struct flags f = { 0 };
	struct kill_args a = { .sig = SIGTERM };
	int n = cmd_parse(kill_opts, &f, &f.help, argc, argv, false, 1, 2, "ID [SIGNAL]", e);

	if (n < 0)
		return n == -ECANCELED ? 0 : n;
	if (n == 2)
		a.sig = signal_number(argv[2]);
	if (a.sig < 0)
		return usage(e, "unknown signal '%s'", argv[2]);
	a.all = f.all;
	return each(g, argv[1], f.regex, e, each_kill, &a);
}

static int each_delete(const struct globals *g, const char *id, void *arg, struct err **e)
{
	return container_delete(g->root, id, *(bool *)arg, e);
}

int cmd_delete(const struct globals *g, int argc, char **argv, struct err **e)
{
	struct flags f = { 0 };
	int n = cmd_parse(delete_opts, &f, &f.help, argc, argv, false, 1, 1, "ID", e);

	return n < 0 ? (n == -ECANCELED ? 0 : n)
		     : each(g, argv[1], f.regex, e, each_delete, &f.force);
}

static int freeze(const struct globals *g, int argc, char **argv, bool on, struct err **e)
{
	struct flags f = { 0 };
	int r = cmd_parse(plain_opts, &f, &f.help, argc, argv, false, 1, 1, "ID", e);

	return r < 0 ? (r == -ECANCELED ? 0 : r) : container_freeze(g->root, argv[1], on, e);
}

int cmd_pause(const struct globals *g, int argc, char **argv, struct err **e)
{
	return freeze(g, argc, argv, true, e);
}

int cmd_resume(const struct globals *g, int argc, char **argv, struct err **e)
{
	return freeze(g, argc, argv, false, e);
}
