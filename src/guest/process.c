/* Starting processes as the image wants them: user, environment, folder, terminal. */
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include "base/atomicfile.h"
#include "base/str.h"
#include "guest/init.h"

#define GROUPS_MAX 64

struct ids {
	uid_t uid;
	gid_t gid, groups[GROUPS_MAX];
	size_t n_groups;
	char home[256];
};

int proc_spec_read(const struct json_in *v, struct proc_spec *ret, struct err **e)
{
	struct proc_spec s = { .cwd = "/", .user = "" };
	int64_t rows = 0, cols = 0;
	int r = json_need_strv(v, "args", &s.args, e);

	if (r == 0)
		r = json_opt_strv(v, "env", &s.env, e);
	if (r >= 0)
		r = json_opt_str(v, "cwd", &s.cwd, e);
	if (r >= 0)
		r = json_opt_str(v, "user", &s.user, e);
	if (r >= 0)
		r = json_opt_bool(v, "tty", &s.tty, e);
	if (r >= 0)
		r = json_opt_int(v, "rows", 0, 10000, &rows, e);
	if (r >= 0)
		r = json_opt_int(v, "cols", 0, 10000, &cols, e);
	if (r >= 0 && (!s.args || !s.args[0] || !s.args[0][0]))
		r = json_bad(v, e, "guest.args", "no command");
	if (r < 0) {
		proc_spec_done(&s);
		return r;
	}
	s.rows = (int)rows;
	s.cols = (int)cols;
	*ret = s;
	return 0;
}

void proc_spec_done(struct proc_spec *s)
{
	strv_free(s->args);
	strv_free(s->env);
	s->args = s->env = NULL;
}

/* Field n of a passwd or group line, cut out in place. */
static char *field(char *line, int n)
{
	while (n-- > 0) {
		line = strchr(line, ':');
		if (!line)
			return NULL;
		line++;
	}
	return line;
}

static bool field_is(const char *f, const char *s)
{
	size_t n = strlen(s);

	return f && strncmp(f, s, n) == 0 && (f[n] == ':' || f[n] == '\0');
}

/* The line of /etc/passwd or /etc/group whose name or number is `who`; into buf. */
static char *find_line(const char *file, const char *who, struct buf *buf)
{
	char *save = NULL;

	buf_clear(buf);
	if (file_read(AT_FDCWD, file, 16 * MIB, buf, NULL) < 0 || !buf->s)
		return NULL;
	for (char *l = strtok_r(buf->s, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		if (field_is(l, who) || field_is(field(l, 2), who))
			return l;
	}
	return NULL;
}

static void more_groups(const char *user, struct ids *ids)
{
	_cleanup_(buf_done) struct buf text = { 0 };
	char *save = NULL, *save2;

	if (file_read(AT_FDCWD, "/etc/group", 16 * MIB, &text, NULL) < 0 || !text.s)
		return;
	for (char *l = strtok_r(text.s, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		char *gid = field(l, 2), *members = field(l, 3);

		for (char *m = members ? strtok_r(members, ",", &save2) : NULL; m;
		     m = strtok_r(NULL, ",", &save2)) {
			if (streq(m, user) && ids->n_groups < GROUPS_MAX)
				ids->groups[ids->n_groups++] = (gid_t)strtoul(gid, NULL, 10);
		}
	}
}

/* config.md, "User": user, uid, user:group, uid:gid, uid:group, user:gid. */
static int resolve_user(const char *spec, struct ids *ids, struct err **e)
{
	_cleanup_(buf_done) struct buf text = { 0 };
	char user[128], *colon, *line;
	uint64_t num;

	*ids = (struct ids){ .home = "/" };
	if (snprintf(user, sizeof(user), "%s", spec) >= (int)sizeof(user))
		return err_set(e, EINVAL, "guest.user", "the user's name is too long");
	colon = strchr(user, ':');
	if (colon)
		*colon++ = '\0';
	if (!user[0])
		strcpy(user, "0");
	line = find_line("/etc/passwd", user, &text);
	if (line) {
		char *home = field(line, 5), name[128];

		ids->uid = (uid_t)strtoul(field(line, 2), NULL, 10);
		ids->gid = field(line, 3) ? (gid_t)strtoul(field(line, 3), NULL, 10) : 0;
		if (home)
			snprintf(ids->home, sizeof(ids->home), "%.*s", (int)strcspn(home, ":"),
				 home);
		snprintf(name, sizeof(name), "%.*s", (int)strcspn(line, ":"), line);
		if (!colon)
			more_groups(name, ids);
	} else if (parse_u64(user, UINT32_MAX - 1, &num) == 0) {
		ids->uid = (uid_t)num;
	} else {
		return err_set(e, ENOENT, "guest.user", "the image has no user '%s'", user);
	}
	if (!colon || !*colon) {
		/* as initgroups(3): the user's own group is one of its groups */
		memmove(ids->groups + 1, ids->groups,
			MIN(ids->n_groups, (size_t)GROUPS_MAX - 1) * sizeof(gid_t));
		ids->groups[0] = ids->gid;
		ids->n_groups = MIN(ids->n_groups + 1, (size_t)GROUPS_MAX);
		return 0;
	}
	line = find_line("/etc/group", colon, &text);
	if (line)
		ids->gid = (gid_t)strtoul(field(line, 2), NULL, 10);
	else if (parse_u64(colon, UINT32_MAX - 1, &num) == 0)
		ids->gid = (gid_t)num;
	else
		return err_set(e, ENOENT, "guest.user", "the image has no group '%s'", colon);
	return 0;
}

static int open_tty(int *master, char *name, size_t len)
{
	int n, unlock = 0;

	*master = open("/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (*master < 0 || ioctl(*master, TIOCSPTLCK, &unlock) < 0 ||
	    ioctl(*master, TIOCGPTN, &n) < 0)
		return -errno;
	snprintf(name, len, "/dev/pts/%d", n);
	return 0;
}

/* In the child; never returns.  report: close-on-exec, gets "what: why" when something fails. */
static _noreturn_ void child(const struct proc_spec *s, const struct ids *ids, int in, int out,
			     int err_fd, const char *tty, int report)
{
	const char *what = "set up";
	bool has_home = false, has_path = false;
	sigset_t none;
	char text[512];

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	for (int i = 1; i < _NSIG; i++)
		signal(i, SIG_DFL);
	setsid();
	if (tty) {
		what = "open the terminal";
		in = out = err_fd = open(tty, O_RDWR);
		if (in < 0 || ioctl(in, TIOCSCTTY, 0) < 0)
			goto failed;
	} else if (in >= 0 && isatty(in)) {
		ioctl(in, TIOCSCTTY, 0); /* the console, when nobody has it */
	}
	what = "connect standard input and output";
	if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(err_fd, 2) < 0)
		goto failed;
	if (in > 2)
		close(in);
	clearenv();
	for (char **v = s->env; v && *v; v++) {
		has_home |= str_starts(*v, "HOME=");
		has_path |= str_starts(*v, "PATH=");
		putenv(*v);
	}
	if (!has_home)
		setenv("HOME", ids->home, 1);
	if (!has_path)
		setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
	if (s->tty && !getenv("TERM"))
		setenv("TERM", "xterm", 1);
	what = "change the user";
	if (setgroups(ids->n_groups, ids->groups) < 0 ||
	    setresgid(ids->gid, ids->gid, ids->gid) < 0 ||
	    setresuid(ids->uid, ids->uid, ids->uid) < 0)
		goto failed;
	what = "change the folder";
	if (chdir(s->cwd && *s->cwd ? s->cwd : "/") < 0)
		goto failed;
	what = s->args[0];
	execvp(s->args[0], s->args);
failed:
	snprintf(text, sizeof(text), "%c%s: %s", errno & 0x7f, what, strerror(errno));
	write_all(report, text, strlen(text));
	_exit(errno == ENOENT ? 127 : 126);
}

struct pipes {
	int in[2], out[2], err[2];
};

static void pipes_done(struct pipes *p)
{
	for (int i = 0; i < 2; i++) {
		safe_close(p->in[i]);
		safe_close(p->out[i]);
		safe_close(p->err[i]);
	}
}

static int open_stdio(const struct proc_spec *s, struct proc_fds *fds, struct pipes *p, char *tty,
		      size_t len, struct err **e)
{
	int r;

	if (!fds) {
		p->in[0] = open("/dev/console", O_RDWR | O_NOCTTY | O_CLOEXEC);
		p->out[1] = fcntl(p->in[0], F_DUPFD_CLOEXEC, 3);
		p->err[1] = fcntl(p->in[0], F_DUPFD_CLOEXEC, 3);
		return p->in[0] < 0 || p->err[1] < 0 ? err_sys(e, errno, "open the console") : 0;
	}
	if (s->tty) {
		struct winsize ws = { .ws_row = (unsigned short)s->rows,
				      .ws_col = (unsigned short)s->cols };

		r = open_tty(&p->in[1], tty, len);
		if (r < 0)
			return err_sys(e, -r, "make a terminal");
		if (s->rows)
			ioctl(p->in[1], TIOCSWINSZ, &ws);
		return 0;
	}
	if (pipe2(p->in, O_CLOEXEC) < 0 || pipe2(p->out, O_CLOEXEC) < 0 ||
	    pipe2(p->err, O_CLOEXEC) < 0)
		return err_sys(e, errno, "make pipes");
	/* the child's ends belong to its user: /dev/stdout can be opened again */
	return 0;
}

pid_t proc_start(const struct proc_spec *s, struct proc_fds *fds, struct err **e)
{
	_cleanup_(pipes_done) struct pipes p = { { -1, -1 }, { -1, -1 }, { -1, -1 } };
	_cleanup_(closep) int report_r = -1, report_w = -1;
	char tty[32] = "", text[512];
	struct ids ids;
	int report[2], r;
	ssize_t n;
	pid_t pid;

	r = resolve_user(s->user ? s->user : "", &ids, e);
	if (r == 0)
		r = open_stdio(s, fds, &p, tty, sizeof(tty), e);
	if (r < 0)
		return r;
	if (tty[0] && chown(tty, ids.uid, (gid_t)5) < 0)
		return err_sys(e, errno, "give the terminal to its user");
	for (int i = 0; !tty[0] && fds && i < 2; i++) {
		if (fchown(i ? p.out[1] : p.in[0], ids.uid, ids.gid) < 0 ||
		    fchown(p.err[1], ids.uid, ids.gid) < 0)
			return err_sys(e, errno, "give the pipes to their user");
	}
	if (pipe2(report, O_CLOEXEC) < 0)
		return err_sys(e, errno, "start");
	report_r = report[0];
	report_w = report[1];
	pid = fork();
	if (pid < 0)
		return err_sys(e, errno, "start");
	if (pid == 0)
		child(s, &ids, p.in[0], p.out[1], p.err[1], tty[0] ? tty : NULL, report_w);
	close(TAKE_FD(report_w));
	n = read(report_r, text, sizeof(text) - 1);
	if (n > 1) {
		text[n] = '\0';
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
		return err_set(e, text[0], "guest.exec", "%s", text + 1);
	}
	if (fds) {
		fds->in = TAKE_FD(p.in[1]);
		fds->out = tty[0] ? fcntl(fds->in, F_DUPFD_CLOEXEC, 3) : TAKE_FD(p.out[0]);
		fds->err = TAKE_FD(p.err[0]);
	}
	return pid;
}

pid_t proc_fork(int (*fn)(void *arg), void *arg, struct proc_fds *fds, struct err **e)
{
	_cleanup_(pipes_done) struct pipes p = { { -1, -1 }, { -1, -1 }, { -1, -1 } };
	sigset_t none;
	pid_t pid;

	if (pipe2(p.in, O_CLOEXEC) < 0 || pipe2(p.out, O_CLOEXEC) < 0 ||
	    pipe2(p.err, O_CLOEXEC) < 0)
		return err_sys(e, errno, "make pipes");
	pid = fork();
	if (pid < 0)
		return err_sys(e, errno, "start");
	if (pid == 0) {
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		for (int i = 1; i < _NSIG; i++)
			signal(i, SIG_DFL);
		setsid();
		if (dup2(p.in[0], 0) < 0 || dup2(p.out[1], 1) < 0 || dup2(p.err[1], 2) < 0)
			_exit(126);
		close_range(3, ~0U, 0); /* nothing is executed that would close them */
		_exit(fn(arg));
	}
	fds->in = TAKE_FD(p.in[1]);
	fds->out = TAKE_FD(p.out[0]);
	fds->err = TAKE_FD(p.err[0]);
	return pid;
}
