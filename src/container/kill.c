/* Signals to containers; see lifecycle.h. */
#include <ctype.h>
#include <signal.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
#include "base/str.h"
#include "container/lifecycle.h"
#include "sys/proc.h"

static const struct {
	const char *name;
	int num;
} signals[] = {
	{ "HUP", SIGHUP },   { "INT", SIGINT },	    { "QUIT", SIGQUIT }, { "ILL", SIGILL },
	{ "TRAP", SIGTRAP }, { "ABRT", SIGABRT },   { "IOT", SIGABRT },	 { "BUS", SIGBUS },
	{ "FPE", SIGFPE },   { "KILL", SIGKILL },   { "USR1", SIGUSR1 }, { "SEGV", SIGSEGV },
	{ "USR2", SIGUSR2 }, { "PIPE", SIGPIPE },   { "ALRM", SIGALRM }, { "TERM", SIGTERM },
	{ "STKFLT", 16 },    { "CHLD", SIGCHLD },   { "CLD", SIGCHLD },	 { "CONT", SIGCONT },
	{ "STOP", SIGSTOP }, { "TSTP", SIGTSTP },   { "TTIN", SIGTTIN }, { "TTOU", SIGTTOU },
	{ "URG", SIGURG },   { "XCPU", SIGXCPU },   { "XFSZ", SIGXFSZ }, { "VTALRM", SIGVTALRM },
	{ "PROF", SIGPROF }, { "WINCH", SIGWINCH }, { "IO", SIGIO },	 { "POLL", SIGIO },
	{ "PWR", SIGPWR },   { "SYS", SIGSYS },
};

int signal_number(const char *s)
{
	uint64_t v;
	size_t i;

	if (isdigit((unsigned char)*s))
		return parse_u64(s, 64, &v) == 0 ? (int)v : -1;
	if (strncasecmp(s, "SIG", 3) == 0)
		s += 3;
	for (i = 0; i < ARRAY_SIZE(signals); i++)
		if (strcasecmp(s, signals[i].name) == 0)
			return signals[i].num;
	/* The kernel's numbers: the C library keeps the first two for itself. */
	if (strncasecmp(s, "RTMIN", 5) == 0)
		return s[5] == '\0'				      ? 34
		       : s[5] == '+' && parse_u64(s + 6, 30, &v) == 0 ? 34 + (int)v
								      : -1;
	if (strncasecmp(s, "RTMAX", 5) == 0)
		return s[5] == '\0'				      ? 64
		       : s[5] == '-' && parse_u64(s + 6, 30, &v) == 0 ? 64 - (int)v
								      : -1;
	return -1;
}

int container_kill(const char *root, const char *id, int sig, bool all, struct err **e)
{
	struct container c = { .dir = -1 };
	struct cgroups cg = { 0 };
	int r = container_load(&c, root, id, e), fd;

	if (r < 0)
		goto out;
	if (all) {
		r = container_load_cgroups(&c, &cg, e);
		if (r == 0 && sig == SIGKILL && cgroups_frozen(&cg))
			cgroups_freeze(&cg, false, NULL);
		if (r == 0)
			r = cgroups_kill(&cg, sig, e);
		cgroups_close(&cg);
		goto out;
	}
	fd = container_pidfd(&c);
	if (fd < 0) {
		r = err_set(e, ESRCH, "container.state", "container not running");
		goto out;
	}
	r = sys_pidfd_send_signal(fd, sig);
	close(fd);
	if (r < 0) {
		err_sys(e, -r, "send signal %d to '%s'", sig, id);
		goto out;
	}
	/* A paused container must be able to die. */
	if (sig == SIGKILL && container_load_cgroups(&c, &cg, NULL) == 0) {
		bool v2 = cg.n == 1 && cg.h[0].v2;

		if (!v2 && cgroups_frozen(&cg))
			cgroups_freeze(&cg, false, NULL);
		cgroups_close(&cg);
	}
out:
	container_done(&c);
	return r;
}
