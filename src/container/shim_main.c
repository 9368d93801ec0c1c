/* strata-shim: the monitor of one container; see shim.h. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/fault.h"
#include "base/str.h"
#include "container/shim_state.h"
#include "sys/proc.h"

static int fail(const char *what, const struct err *e)
{
	dprintf(2, "strata-shim: %s%s%s\n", what, e ? ": " : "", e ? err_msg(e) : "");
	return 1;
}

/* Leave the caller: no session, no descriptors, no working directory, no inherited dispositions of theirs. */
static int leave(int *fd)
{
	sys_reset_signals();
	for (int i = 1; i < NSIG; i++)
		if (i == SIGHUP || i == SIGINT || i == SIGQUIT || i == SIGPIPE || i == SIGUSR1 ||
		    i == SIGUSR2 || i == SIGTTIN || i == SIGTTOU || i == SIGTSTP)
			signal(i, SIG_IGN);
	setsid(); /* fails only for who leads one already */
	umask(022);
	if (*fd >= 0 && *fd != 3) {
		if (dup2(*fd, 3) < 0)
			return -errno;
		*fd = 3;
	}
	sys_close_range(*fd >= 0 ? 4 : 3, ~0U);
	if (*fd >= 0)
		fcntl(*fd, F_SETFD, FD_CLOEXEC);
	if (chdir("/") < 0 || prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
		return -errno;
	return 0;
}

static int silence(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), i;

	if (null < 0)
		return -errno;
	for (i = 0; i < 3; i++)
		if (dup2(null, i) < 0)
			return -errno;
	close(null);
	return 0;
}

int main(int argc, char **argv)
{
	static struct shim s; /* 50 KiB, of which most is never touched */
	_cleanup_(err_freep) struct err *e = NULL;
	struct loop *l = NULL;
	const char *dir = NULL;
	uint64_t n = 0;
	int fd = -1, i, r;

	for (i = 1; i < argc; i++) {
		if (streq(argv[i], "--dir") && i + 1 < argc) {
			dir = argv[++i];
		} else if (streq(argv[i], "--fd") && i + 1 < argc) {
			if (parse_u64(argv[++i], 65535, &n) < 0 || n < 3)
				return fail("--fd: not a descriptor above 2", NULL) + 1;
			fd = (int)n;
		} else if (streq(argv[i], "--version")) {
			printf("strata-shim version " STRATA_VERSION "\n");
			return 0;
		} else {
			dprintf(2,
				"Usage: strata-shim --dir DIR [--fd N]\n\nMonitor of one container, started by stratad; container/shim.h tells how.\n");
			return streq(argv[i], "--help") ? 0 : 2;
		}
	}
	if (!dir)
		return fail("--dir is missing; see --help", NULL) + 1;
	for (i = 0; i < 3; i++)
		if (fcntl(i, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0)
			return 1;
	fault_init();
	if (dir[0] != '/') {
		dir = realpath(dir, NULL);
		if (!dir)
			return fail("--dir: no such folder", NULL);
	}
	r = leave(&fd);
	if (r == 0)
		r = loop_new(NULL, &l);
	if (r < 0)
		err_sys(&e, -r, "leave the caller");
	else
		r = shim_init(&s, l, dir, fd, &e);
	if (r < 0)
		return fail("cannot start", e);
	/* From here on nobody reads what is printed. */
	r = silence();
	if (r == 0)
		r = loop_run(l);
	shim_done(&s);
	loop_free(l);
	return r == 0 ? 0 : 1;
}
