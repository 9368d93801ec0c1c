/* strata-net: the network engine as a program of its own, for hosts without the daemon, for tests and for looking.
 *
 * `run` keeps a state file applied and answers as DHCP, DNS and metadata server until it is told to stop; SIGHUP
 * reads the file again.  The other commands act and end; a host keeps what they made. */
#define LOG_MODULE "net"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include "base/atomicfile.h"
#include "base/log.h"
#include "base/opt.h"
#include "base/str.h"
#include "net/net.h"

#define STATE_MAX (64 << 20)

struct args {
	char *state_dir, *resolv_conf;
	bool verbose, help;
	uint64_t every;
};

static const struct opt opts[] = {
	OPT(struct args, state_dir, STR, "state-dir", 0, "DIR",
	    "where leases are kept (default /var/lib/strata/net)"),
	OPT(struct args, resolv_conf, STR, "resolv-conf", 0, "FILE",
	    "upstream DNS servers (default /etc/resolv.conf)"),
	OPT(struct args, every, U64, "every", 0, "SECONDS",
	    "run: compare with the host so often (default 10)", .max = 86400),
	OPT(struct args, verbose, FLAG, "verbose", 'v', NULL, "say more"),
	OPT(struct args, help, FLAG, "help", 'h', NULL, "this text"),
	OPT_END
};

struct running {
	struct net *net;
	struct loop *loop;
	const char *file;
	struct watch hup, term, intr;
	struct timer check;
};

static int load(const char *file, struct net_spec *s, struct err **e)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	int r;

	if (streq(file, "default"))
		return net_spec_default(s, e);
	r = streq(file, "-") ? fd_read_all(0, STATE_MAX, &b, e)
			     : file_read(AT_FDCWD, file, STATE_MAX, &b, e);
	return r < 0 ? r : net_spec_parse(buf_str(&b), b.len, s, e);
}

static int apply_file(struct net *n, const char *file, struct err **e)
{
	struct net_spec s = { 0 };
	unsigned int failed = 0;
	int r = load(file, &s, e);

	if (r == 0)
		r = net_apply(n, &s, &failed, e);
	net_spec_done(&s);
	if (failed > 1)
		err_wrap(e, r, "%u objects failed, the first", failed);
	return r;
}

static void on_hup(struct watch *w, const struct signalfd_siginfo *si)
{
	struct running *u = w->data;
	struct err *e = NULL;

	if (apply_file(u->net, u->file, &e) < 0)
		log_err("state not applied", "file", u->file, "err", e);
	else
		log_info("state applied", "file", u->file);
	err_free(e);
}

static void on_stop(struct watch *w, const struct signalfd_siginfo *si)
{
	struct running *u = w->data;

	loop_stop(u->loop, 0);
}

static void on_check(struct timer *t)
{
	struct running *u = t->data;
	struct err *e = NULL;

	if (net_reconcile(u->net, NULL, &e) < 0)
		log_err("host not mended", "err", e);
	err_free(e);
}

static int run(struct net *n, struct loop *l, const char *file, nsec_t every, struct err **e)
{
	struct running u = { .net = n, .loop = l, .file = file };
	int r;

	u.hup.data = u.term.data = u.intr.data = u.check.data = &u;
	/* Before the services answer: who sees them may signal. */
	if (watch_signal(l, &u.hup, "hup", SIGHUP, on_hup) < 0 ||
	    watch_signal(l, &u.term, "term", SIGTERM, on_stop) < 0 ||
	    watch_signal(l, &u.intr, "int", SIGINT, on_stop) < 0)
		return err_sys(e, EIO, "watch signals");
	r = apply_file(n, file, e);
	if (r < 0)
		return r;
	if (every && timer_start(l, &u.check, "reconcile", every, every, on_check) < 0)
		return err_sys(e, ENOMEM, "start timer");
	log_info("running", "file", file);
	r = loop_run(l);
	return r < 0 ? err_sys(e, -r, "loop") : 0;
}

static int usage(FILE *f, int code)
{
	_cleanup_(buf_done) struct buf b = { 0 };

	opt_help(opts, 100, &b);
	fprintf(f,
		"usage: strata-net [OPTIONS] COMMAND\n"
		"  apply FILE     make the host as FILE says and remove what it does not name (FILE: -, or default)\n"
		"  run FILE       the same, then serve addresses and names, and mend the host; SIGHUP reads FILE again\n"
		"  show FILE      what is there for FILE, as JSON, with counters\n"
		"  check FILE     is FILE free of contradictions?\n"
		"  reconcile FILE compare with the host and mend; prints how many things were wrong\n"
		"  clear          remove everything of ours from the host\n%s",
		buf_str(&b));
	return code;
}

static int act(struct net *n, struct loop *l, const char *cmd, const char *file, nsec_t every,
	       struct err **e)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	unsigned int mended = 0;
	int r;

	if (streq(cmd, "clear"))
		return net_clear(n, e);
	if (streq(cmd, "apply"))
		return apply_file(n, file, e);
	if (streq(cmd, "run"))
		return run(n, l, file, every, e);
	r = apply_file(n, file, e);
	if (r < 0)
		return r;
	if (streq(cmd, "show")) {
		r = net_show(n, &b, e);
		if (r == 0)
			fputs(buf_str(&b), stdout);
		return r;
	}
	r = net_reconcile(n, &mended, e);
	if (r == 0)
		printf("%u\n", mended);
	return r;
}

int main(int argc, char **argv)
{
	static const char *const cmds[] = { "apply", "run", "show", "reconcile", "check", "clear" };
	_cleanup_(err_freep) struct err *e = NULL;
	struct args a = { .every = 10 };
	struct net_cfg cfg = { 0 };
	struct loop *l = NULL;
	struct net *n = NULL;
	const char *cmd = NULL, *file = NULL;
	int r = opt_parse(opts, &a, argc, argv, false, &e);

	if (r < 0) {
		fprintf(stderr, "strata-net: %s\n", err_msg(e));
		return 2;
	}
	if (a.help)
		return usage(stdout, 0);
	for (size_t i = 0; r >= 1 && i < ARRAY_SIZE(cmds); i++)
		if (streq(argv[1], cmds[i]))
			cmd = argv[1];
	if (!cmd || r != (streq(cmd, "clear") ? 1 : 2))
		return usage(stderr, 2);
	file = argv[2];
	log_setup("strata-net", 2, LOG_TEXT);
	log_set_level(NULL, a.verbose ? LOG_DEBUG : LOG_INFO);
	if (streq(cmd, "check")) {
		struct net_spec s = { 0 };

		r = load(file, &s, &e);
		if (r == 0)
			r = net_spec_check(&s, &e);
		net_spec_done(&s);
		goto out;
	}
	cfg.state_dir = a.state_dir ? a.state_dir : "/var/lib/strata/net";
	cfg.resolv_conf = a.resolv_conf;
	cfg.look_only = streq(cmd, "show");
	r = 0;
	if (streq(cmd, "run")) {
		r = loop_new(NULL, &l);
		cfg.loop = l;
	}
	if (r == 0)
		r = net_new(&cfg, &n, &e);
	if (r == 0)
		r = act(n, l, cmd, file, (nsec_t)a.every * NSEC_PER_SEC, &e);
out:
	net_free(n);
	loop_free(l);
	opt_done(opts, &a);
	if (r < 0)
		fprintf(stderr, "strata-net: %s\n", err_msg(e));
	return r < 0 ? 1 : 0;
}
