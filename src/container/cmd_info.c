/* Commands that look or adjust: state, list, ps, events, update. */
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/atomicfile.h"
#include "base/opt.h"
#include "base/str.h"
#include "base/xalloc.h"
#include "container/cmd.h"
#include "container/lifecycle.h"
#include "sys/proc.h"

struct flags {
	char *format, *resources, *cpus, *mems, *interval;
	char *blkio_weight, *cpu_period, *cpu_quota, *cpu_burst, *cpu_shares, *cpu_rt_period,
		*cpu_rt_runtime, *cpu_idle, *memory, *reservation, *swap, *kernel, *kernel_tcp,
		*pids;
	char *l3, *mem_bw;
	bool quiet, all, regex, stats, help;
};

#define F(f, k, n, l, a, h) OPT(struct flags, f, k, n, l, a, h)
#define HELP		    F(help, FLAG, "help", 'h', NULL, "print this")

static const struct opt state_opts[] = { HELP, OPT_END };
static const struct opt list_opts[] = { F(format, STR, "format", 'f', "table|json", "how to print"),
					F(quiet, FLAG, "quiet", 'q', NULL, "only ids"), HELP,
					OPT_END };
static const struct opt ps_opts[] = { F(format, STR, "format", 'f', "table|json", "how to print"),
				      HELP, OPT_END };
static const struct opt events_opts[] = {
	F(interval, STR, "interval", 0, "TIME", "between statistics (default 5s)"),
	F(stats, FLAG, "stats", 0, NULL, "print statistics once"), HELP, OPT_END
};
static const struct opt update_opts[] = {
	F(resources, STR, "resources", 'r', "FILE", "linux.resources as JSON; - is standard input"),
	F(blkio_weight, STR, "blkio-weight", 0, "N", "10 to 1000"),
	F(cpu_period, STR, "cpu-period", 0, "USEC", "CPU period"),
	F(cpu_quota, STR, "cpu-quota", 0, "USEC", "CPU time in a period"),
	F(cpu_burst, STR, "cpu-burst", 0, "USEC", "unused quota that may be saved up"),
	F(cpu_shares, STR, "cpu-share", 0, "N", "CPU shares"),
	F(cpu_shares, STR, "cpu-shares", 0, "N", "the same"),
	F(cpu_rt_period, STR, "cpu-rt-period", 0, "USEC", "realtime period"),
	F(cpu_rt_runtime, STR, "cpu-rt-runtime", 0, "USEC", "realtime time in a period"),
	F(cpu_idle, STR, "cpu-idle", 0, "0|1", "SCHED_IDLE for all"),
	F(cpus, STR, "cpuset-cpus", 0, "LIST", "allowed CPUs"),
	F(mems, STR, "cpuset-mems", 0, "LIST", "allowed memory nodes"),
	F(kernel, STR, "kernel-memory", 0, "BYTES", "ignored, as by current kernels"),
	F(kernel_tcp, STR, "kernel-memory-tcp", 0, "BYTES", "TCP buffers"),
	F(memory, STR, "memory", 0, "BYTES", "memory; -1: no limit"),
	F(reservation, STR, "memory-reservation", 0, "BYTES", "soft limit"),
	F(swap, STR, "memory-swap", 0, "BYTES", "memory and swap together; -1: no limit"),
	F(pids, STR, "pids-limit", 0, "N", "processes"),
	F(l3, STR, "l3-cache-schema", 0, "S", "refused: no resource director technology"),
	F(mem_bw, STR, "mem-bw-schema", 0, "S", "refused: no resource director technology"),
	HELP,
	OPT_END
};

static int put(const struct buf *b, struct err **e)
{
	if (buf_error(b))
		return err_sys(e, ENOMEM, "print");
	return fwrite(buf_str(b), 1, b->len, stdout) == b->len ? 0 : err_sys(e, EIO, "print");
}

int cmd_state(const struct globals *g, int argc, char **argv, struct err **e)
{
	struct flags f = { 0 };
	struct container c = { .dir = -1 };
	_cleanup_(buf_done) struct buf b = { 0 };
	int r = cmd_parse(state_opts, &f, &f.help, argc, argv, false, 1, 1, "ID", e);

	if (r < 0)
		return r == -ECANCELED ? 0 : r;
	r = container_load(&c, g->root, argv[1], e);
	if (r == 0) {
		container_state_json(&c, ct_status_names[container_status(&c)], true, &b);
		r = put(&b, e);
	}
	container_done(&c);
	return r;
}

/* The state object on one line. */
static void add_state_line(struct buf *b, struct container *c, const char *status)
{
	_cleanup_(buf_done) struct buf full = { 0 };
	bool text = false;
	const char *p;

	container_state_json(c, status, true, &full);
	for (p = buf_str(&full); *p; p++) {
		if (text || (*p != ' ' && *p != '\n'))
			buf_addc(b, *p);
		if (text && *p == '\\')
			buf_addc(b, *++p);
		else if (*p == '"')
			text = !text;
	}
}

int cmd_list(const struct globals *g, int argc, char **argv, struct err **e)
{
	struct flags f = { 0 };
	_cleanup_(strv_freep) char **ids = NULL;
	_cleanup_(buf_done) struct buf b = { 0 };
	int r = cmd_parse(list_opts, &f, &f.help, argc, argv, false, 0, 0, "", e);
	bool json, first = true;
	size_t i;

	if (r < 0)
		return r == -ECANCELED ? 0 : r;
	json = f.format && streq(f.format, "json");
	if (f.format && !json && !streq(f.format, "table"))
		return usage(e, "--format: '%s' is not table or json", f.format);
	ids = container_list(g->root, e);
	if (!ids)
		return -err_num(*e);
	if (json && !f.quiet)
		buf_adds(&b, ids[0] ? "[" : "null");
	else if (!f.quiet)
		buf_addf(&b, "%-24s%-12s%-12s%-40s%-32s%s\n", "ID", "PID", "STATUS", "BUNDLE",
			 "CREATED", "OWNER");
	for (i = 0; ids[i]; i++) {
		struct container c = { .dir = -1 };
		enum ct_status s;

		/* One that was deleted meanwhile is no error. */
		if (f.quiet) {
			buf_addf(&b, "%s\n", ids[i]);
			continue;
		}
		if (container_load(&c, g->root, ids[i], NULL) < 0) {
			container_done(&c);
			continue;
		}
		s = container_status(&c);
		if (json) {
			if (!first)
				buf_addc(&b, ',');
			add_state_line(&b, &c, ct_status_names[s]);
		} else {
			buf_addf(&b, "%-23s %-11d %-11s %-39s %-31s %s\n", c.id,
				 s == CT_STOPPED ? 0 : (int)c.pid, ct_status_names[s], c.bundle,
				 c.created, c.owner ? c.owner : "");
		}
		first = false;
		container_done(&c);
	}
	if (json && !f.quiet)
		buf_adds(&b, ids[0] ? "]\n" : "\n");
	return put(&b, e);
}

/* ps(1) prints, its lines are picked by pid: all of its options work that way. */
static int ps_table(const pid_t *pids, size_t n, char **opts, struct err **e)
{
	static char *const usual[] = { (char *)"-ef", NULL };
	_cleanup_(buf_done) struct buf out = { 0 };
	char *line, *save = NULL, *at;
	int pipes[2], status, col = -1, k;
	pid_t pid;
	size_t i;

	if (pipe2(pipes, O_CLOEXEC) < 0)
		return err_sys(e, errno, "pipe");
	pid = fork();
	if (pid == 0) {
		char *args[64] = { (char *)"ps" };
		char *const *o = opts && opts[0] ? opts : usual;

		for (k = 0; k < 62 && o[k]; k++)
			args[k + 1] = o[k];
		dup2(pipes[1], 1);
		execvp("ps", args);
		dprintf(2, "strata-oci: execute ps: %s\n", strerror(errno));
		_exit(127);
	}
	close(pipes[1]);
	fd_read_all(pipes[0], 64 << 20, &out, NULL);
	close(pipes[0]);
	if (pid < 0)
		return err_sys(e, errno, "new process");
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return err_set(e, EIO, "ps.failed", "ps failed");
	for (line = out.s ? strtok_r(out.s, "\n", &save) : NULL; line;
	     line = strtok_r(NULL, "\n", &save)) {
		char *copy = xstrdup(line), *word, *s2 = NULL;

		for (k = 0, word = strtok_r(copy, " \t", &s2); word;
		     word = strtok_r(NULL, " \t", &s2), k++) {
			if (col < 0 && streq(word, "PID"))
				break;
			if (k == col)
				break;
		}
		at = word;
		if (col < 0) {
			if (!at) {
				free(copy);
				return err_set(e, EINVAL, "ps.pid",
					       "the output of ps has no PID column");
			}
			col = k;
			puts(line);
		} else if (at) {
			for (i = 0; i < n; i++)
				if (strtol(at, NULL, 10) == pids[i])
					puts(line);
		}
		free(copy);
	}
	return 0;
}

int cmd_ps(const struct globals *g, int argc, char **argv, struct err **e)
{
	struct flags f = { 0 };
	pid_t *pids = NULL;
	size_t n = 0, i;
	int argn = cmd_parse(ps_opts, &f, &f.help, argc, argv, true, 1, INT_MAX, "ID [PS OPTIONS]",
			     e),
	    r;
	bool json;

	if (argn < 0)
		return argn == -ECANCELED ? 0 : argn;
	/* "ps ID -f json": options of ours may follow the id. */
	argv[argn + 1] = NULL;
	json = f.format && streq(f.format, "json");
	if (f.format && !json && !streq(f.format, "table"))
		return usage(e, "--format: '%s' is not table or json", f.format);
	r = container_pids(g->root, argv[1], &pids, &n, e);
	if (r == 0 && json) {
		putchar('[');
		for (i = 0; i < n; i++)
			printf("%s%d", i ? "," : "", (int)pids[i]);
		puts("]");
	} else if (r == 0) {
		r = ps_table(pids, n, argn > 1 ? argv + 2 : NULL, e);
	}
	free(pids);
	return r;
}

/* -- events -- */

static int print_stats(struct container *c, struct cgroups *cg, struct err **e)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	int r;

	buf_adds(&b, "{\"type\":\"stats\",\"id\":");
	buf_add_json(&b, c->id);
	buf_adds(&b, ",\"data\":");
	r = cgroups_stats_json(cg, &b, e);
	if (r < 0)
		return r;
	buf_adds(&b, "}\n");
	r = put(&b, e);
	fflush(stdout);
	return r;
}

static int watch_events(struct container *c, struct cgroups *cg, int pidfd, nsec_t interval,
			struct err **e)
{
	int oom = cgroups_oom_fd(cg), r = print_stats(c, cg, e);
	int64_t kills = cgroups_oom_kills(cg);

	while (r == 0) {
		struct pollfd p[2] = { { .fd = pidfd, .events = POLLIN },
				       { .fd = oom, .events = POLLIN } };
		int n = poll(p, 2, (int)MIN(interval / NSEC_PER_MSEC, (nsec_t)INT_MAX));

		if (n < 0 && errno != EINTR)
			return err_sys(e, errno, "wait");
		if (p[1].revents) {
			char skip[4096];
			int64_t now = cgroups_oom_kills(cg);

			while (read(oom, skip, sizeof(skip)) > 0)
				;
			if (now > kills || now < 0) {
				_cleanup_(buf_done) struct buf b = { 0 };

				buf_adds(&b, "{\"type\":\"oom\",\"id\":");
				buf_add_json(&b, c->id);
				buf_adds(&b, "}\n");
				put(&b, NULL);
				fflush(stdout);
				kills = now;
			}
		}
		if (p[0].revents)
			break; /* it has ended */
		if (n == 0)
			r = print_stats(c, cg, e);
	}
	safe_close(oom);
	return r;
}

int cmd_events(const struct globals *g, int argc, char **argv, struct err **e)
{
	struct flags f = { 0 };
	struct container c = { .dir = -1 };
	struct cgroups cg = { 0 };
	nsec_t interval = 5 * NSEC_PER_SEC;
	int r = cmd_parse(events_opts, &f, &f.help, argc, argv, false, 1, 1, "ID", e), pidfd = -1;

	if (r < 0)
		return r == -ECANCELED ? 0 : r;
	if (f.interval && (parse_duration(f.interval, &interval) < 0 || interval <= 0))
		return usage(e, "--interval: duration interval must be greater than 0");
	r = container_load(&c, g->root, argv[1], e);
	if (r == 0) {
		pidfd = container_pidfd(&c);
		if (pidfd < 0)
			r = err_set(e, EINVAL, "container.state", "container '%s' is not running",
				    argv[1]);
	}
	if (r == 0)
		r = container_load_cgroups(&c, &cg, e);
	if (r == 0)
		r = f.stats ? print_stats(&c, &cg, e) : watch_events(&c, &cg, pidfd, interval, e);
	safe_close(pidfd);
	cgroups_close(&cg);
	container_done(&c);
	return r;
}

/* -- update -- */

static int number(const char *opt, const char *text, bool size, struct lim *l, struct err **e)
{
	uint64_t u;

	if (!text)
		return 0;
	l->set = true;
	if (size && text[0] != '-') {
		if (parse_size(text, &u) < 0 || u > INT64_MAX)
			return usage(e, "invalid value '%s' for %s", text, opt);
		l->v = (int64_t)u;
	} else if (parse_i64(text, INT64_MIN, INT64_MAX, &l->v) < 0) {
		return usage(e, "invalid value '%s' for %s", text, opt);
	}
	return 0;
}

static int read_options(const struct flags *f, struct spec_resources *s, struct err **e)
{
	const struct {
		const char *name, *text;
		bool size;
		struct lim *l;
	} all[] = {
		{ "blkio-weight", f->blkio_weight, false, &s->blkio_weight },
		{ "cpu-period", f->cpu_period, false, &s->cpu_period },
		{ "cpu-quota", f->cpu_quota, false, &s->cpu_quota },
		{ "cpu-burst", f->cpu_burst, false, &s->cpu_burst },
		{ "cpu-share", f->cpu_shares, false, &s->cpu_shares },
		{ "cpu-rt-period", f->cpu_rt_period, false, &s->cpu_rt_period },
		{ "cpu-rt-runtime", f->cpu_rt_runtime, false, &s->cpu_rt_runtime },
		{ "cpu-idle", f->cpu_idle, false, &s->cpu_idle },
		{ "memory", f->memory, true, &s->mem_limit },
		{ "memory-reservation", f->reservation, true, &s->mem_reservation },
		{ "memory-swap", f->swap, true, &s->mem_swap },
		{ "kernel-memory", f->kernel, true, &s->mem_kernel },
		{ "kernel-memory-tcp", f->kernel_tcp, true, &s->mem_kernel_tcp },
		{ "pids-limit", f->pids, false, &s->pids },
	};
	size_t i;
	int r = 0;

	for (i = 0; i < ARRAY_SIZE(all) && r == 0; i++)
		r = number(all[i].name, all[i].text, all[i].size, all[i].l, e);
	s->cpus = f->cpus;
	s->mems = f->mems;
	return r;
}

int cmd_update(const struct globals *g, int argc, char **argv, struct err **e)
{
	struct flags f = { 0 };
	struct spec_resources s = { 0 };
	_cleanup_(buf_done) struct buf b = { 0 };
	int r = cmd_parse(update_opts, &f, &f.help, argc, argv, false, 1, 1, "ID", e);

	if (r < 0)
		return r == -ECANCELED ? 0 : r;
	if (f.l3 || f.mem_bw)
		return err_set(e, EOPNOTSUPP, "config.field", "Intel RDT is not supported");
	if (f.resources) {
		r = streq(f.resources, "-")
			    ? fd_read_all(0, JDOC_TEXT_MAX, &b, e)
			    : file_read(AT_FDCWD, f.resources, JDOC_TEXT_MAX, &b, e);
		if (r == 0)
			r = container_update_json(g->root, argv[1], buf_str(&b), b.len, e);
	} else {
		r = read_options(&f, &s, e);
		if (r == 0)
			r = container_update(g->root, argv[1], &s, e);
	}
	return r;
}
