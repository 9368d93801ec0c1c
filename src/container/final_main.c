/* strata-final: from a container's finished namespaces to the user's program; see final.h.
 *
 * Static, no library but libc, no allocation, no file of the host.  One thread.  Errors go to the runtime as text; after
 * the runtime let go they only show in the exit status. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "container/final.h"
#include "sys/caps.h"
#include "sys/proc.h"
#include "sys/pty.h"

#define KEYCTL_JOIN_SESSION_KEYRING 1
#define KEYCTL_SETPERM		    5
#define KEYCTL_DESCRIBE		    6

static struct final_plan *plan;
static int plan_fd = -1;
static char exe[PATH_MAX];

static const char *str(uint32_t off)
{
	return (const char *)plan + off;
}

static int send_msg(enum final_kind kind, int value, const char *text, int fd)
{
	struct final_msg m = { .kind = kind, .value = value };
	struct iovec iov = { .iov_base = &m };
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(sizeof(int))];
	} c = { 0 };
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	if (text)
		snprintf(m.text, sizeof(m.text), "%s", text);
	iov.iov_len = FINAL_MSG_HEAD + (text ? strlen(m.text) + 1 : 0);
	if (fd >= 0) {
		h.msg_control = &c;
		h.msg_controllen = sizeof(c);
		c.h.cmsg_len = CMSG_LEN(sizeof(int));
		c.h.cmsg_level = SOL_SOCKET;
		c.h.cmsg_type = SCM_RIGHTS;
		memcpy(CMSG_DATA(&c.h), &fd, sizeof(int));
	}
	do {
		n = sendmsg(plan->sync_fd, &h, MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

static _noreturn_ void die(int num, const char *fmt, ...)
{
	char text[512], full[900];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (num)
		snprintf(full, sizeof(full), "%s: %s", text, strerror(num));
	else
		snprintf(full, sizeof(full), "%s", text);
	if (plan && plan->sync_fd >= 0)
		send_msg(FM_ERROR, num ? num : EINVAL, full, -1);
	_exit(num == ENOENT ? 127 : 126);
}

/* The runtime's word to go on; its end means that it died, and so do we. */
static bool wait_go(void)
{
	struct final_msg m;
	ssize_t n;

	do {
		n = recv(plan->sync_fd, &m, sizeof(m), 0);
	} while (n < 0 && errno == EINTR);
	return n >= (ssize_t)FINAL_MSG_HEAD && m.kind == FM_GO;
}

/* -- joining (exec) -- */

static void tty_open(void)
{
	int root, master, slave, r;
	struct iovec iov = { .iov_base = (char *)"/dev/ptmx", .iov_len = 9 };
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(sizeof(int))];
	} c = { 0 };
	struct msghdr h = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof(c)
	};

	if (setsid() < 0)
		die(errno, "new session");
	root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	r = pty_open(root, "dev/pts/ptmx", &master, &slave);
	if (r < 0)
		die(-r, "open a terminal on the container's /dev/pts/ptmx");
	close(root);
	if (plan->rows || plan->cols)
		pty_resize(master, plan->rows, plan->cols);
	if (fchown(slave, plan->uid, (gid_t)-1) < 0 && errno != EPERM && errno != EINVAL)
		die(errno, "give the terminal to uid %u", plan->uid);
	c.h.cmsg_len = CMSG_LEN(sizeof(int));
	c.h.cmsg_level = SOL_SOCKET;
	c.h.cmsg_type = SCM_RIGHTS;
	memcpy(CMSG_DATA(&c.h), &master, sizeof(int));
	if (sendmsg(plan->console_fd, &h, MSG_NOSIGNAL) < 0)
		die(errno, "send the terminal to the console socket");
	close(master);
	close(plan->console_fd);
	r = pty_adopt(slave);
	if (r < 0)
		die(-r, "take the terminal");
	if (slave > 2)
		close(slave);
}

static void join(void)
{
	uint32_t i;

	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	for (i = 0; i < plan->n_attach; i++) {
		/* "0" is this thread: moving oneself needs no lock over all process groups (6 ms). */
		if (write(plan->attach_fds[i], "0", 1) < 0)
			die(errno, "join the container's cgroup");
		close(plan->attach_fds[i]);
	}
	if (plan->join_flags && setns(plan->join_pidfd, plan->join_flags) < 0)
		die(errno, "join the container's namespaces");
	close(plan->join_pidfd);
	if (plan->join_flags & CLONE_NEWUSER) {
		/* Root of the user namespace, where it has one. */
		if (plan->may_setgroups && setgroups(0, NULL) < 0 && errno != EPERM)
			die(errno, "drop groups");
		if (setresgid(0, 0, 0) < 0 && errno != EINVAL)
			die(errno, "become group 0 of the user namespace");
		if (setresuid(0, 0, 0) < 0 && errno != EINVAL)
			die(errno, "become user 0 of the user namespace");
		prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	}
	if (plan->join_fork) {
		pid_t pid = sys_clone3(CLONE_PARENT, 0, NULL, -1);

		if (pid < 0)
			die(-pid, "start a process in the container");
		if (pid > 0) {
			send_msg(FM_PID, pid, NULL, -1);
			_exit(0);
		}
	} else {
		send_msg(FM_PID, (int)getpid(), NULL, -1);
	}
}

/* -- hooks of kind startContainer -- */

static char **table(const struct final_tab *t, char **buf, size_t max)
{
	const uint32_t *off = (const void *)((const char *)plan + t->off);
	uint32_t i;

	for (i = 0; i < t->n && i + 1 < max; i++)
		buf[i] = (char *)plan + off[i];
	buf[i] = NULL;
	return buf;
}

static void run_hook(const struct final_hook *h)
{
	char *args[512], *env[512];
	int in[2], pidfd, status = 0, r;
	const char *state = str(plan->state);
	struct pollfd p;
	pid_t pid;

	if (pipe2(in, O_CLOEXEC) < 0)
		die(errno, "hook '%s': pipe", str(h->path));
	pid = sys_clone3(0, SIGCHLD, &pidfd, -1);
	if (pid == -ENOSYS || pid == -EPERM) { /* the filter */
		pid = fork();
		pidfd = pid > 0 ? sys_pidfd_open(pid) : -1;
	}
	if (pid < 0)
		die(errno, "hook '%s': new process", str(h->path));
	if (pid == 0) {
		dup2(in[0], 0);
		sys_cloexec_range(3, ~0U);
		execve(str(h->path), table(&h->args, args, ARRAY_SIZE(args)),
		       table(&h->env, env, ARRAY_SIZE(env)));
		_exit(127);
	}
	close(in[0]);
	/* The state fits a pipe's buffer unless annotations are huge; a hook that reads nothing must not stop us. */
	fcntl(in[1], F_SETFL, O_NONBLOCK);
	if (write(in[1], state, strlen(state)) < 0 && errno != EPIPE && errno != EAGAIN)
		die(errno, "hook '%s': write the state", str(h->path));
	close(in[1]);
	p = (struct pollfd){ .fd = pidfd, .events = POLLIN };
	do {
		/* without a pidfd (the filter again) a timeout cannot be kept */
		r = pidfd < 0 ? 1 : poll(&p, 1, h->timeout > 0 ? h->timeout * 1000 : -1);
	} while (r < 0 && errno == EINTR);
	if (r == 0)
		kill(pid, SIGKILL);
	if (pidfd >= 0)
		close(pidfd);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (r == 0)
		die(ETIMEDOUT, "startContainer hook '%s' took more than %d s", str(h->path),
		    h->timeout);
	if (WIFSIGNALED(status)) {
		char text[64];

		snprintf(text, sizeof(text), "%s", strsignal(WTERMSIG(status)));
		text[0] = (char)(text[0] | 0x20);
		die(0, "error running hook: startContainer hook '%s' died: %s", str(h->path), text);
	}
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		die(0, "error running hook: startContainer hook '%s' failed with status %d",
		    str(h->path), WEXITSTATUS(status));
}

/* -- the program -- */

static const char *env_of(const char *name)
{
	const uint32_t *off = (const void *)((const char *)plan + plan->envp.off);
	size_t len = strlen(name);
	uint32_t i;

	for (i = 0; i < plan->envp.n; i++) {
		const char *s = str(off[i]);

		if (strncmp(s, name, len) == 0 && s[len] == '=')
			return s + len + 1;
	}
	return NULL;
}

/* execve() decides in the end; this finds the file on PATH and words the usual failures before `create` returns. */
static void find_exe(void)
{
	const char *name =
		str(((const uint32_t *)(const void *)((const char *)plan + plan->argv.off))[0]);
	const char *path = env_of("PATH");
	struct stat st;
	int last = ENOENT;

	if (strchr(name, '/')) {
		snprintf(exe, sizeof(exe), "%s", name);
		if (stat(exe, &st) < 0)
			die(errno, "exec '%s'", exe);
		if (S_ISDIR(st.st_mode))
			die(EACCES, "exec '%s' (a directory)", exe);
		if (!(st.st_mode & 0111))
			die(EACCES, "exec '%s'", exe);
		return;
	}
	if (!*name)
		die(ENOENT, "exec '': executable file not found in $PATH");
	if (!path || !*path)
		path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
	while (*path) {
		const char *end = strchrnul(path, ':');

		snprintf(exe, sizeof(exe), "%.*s/%s", (int)(end - path), end == path ? "." : path,
			 name);
		if (stat(exe, &st) == 0 && S_ISREG(st.st_mode)) {
			if (st.st_mode & 0111)
				return;
			last = EACCES;
		} else if (errno == EACCES) {
			last = EACCES;
		}
		path = *end ? end + 1 : end;
	}
	die(last, "exec '%s': executable file not found in $PATH", name);
}

/* HOME from the container's /etc/passwd, as login(1) would have it. */
static char *home(char *buf, size_t len)
{
	char text[16384], *line, *save = NULL;
	int fd = open("/etc/passwd", O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;

	if (fd >= 0)
		close(fd);
	snprintf(buf, len, "HOME=/");
	if (plan->uid == 0)
		snprintf(buf, len, "HOME=/root");
	if (n <= 0)
		return buf;
	text[n] = '\0';
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *f[7] = { 0 }, *p = line;
		int i;

		for (i = 0; i < 7 && p; i++) {
			f[i] = p;
			p = strchr(p, ':');
			if (p)
				*p++ = '\0';
		}
		if (i >= 6 && f[2][0] && strtoul(f[2], NULL, 10) == plan->uid && f[5][0] == '/') {
			snprintf(buf, len, "HOME=%s", f[5]);
			break;
		}
	}
	return buf;
}

static void write_attr(const char *file, const char *alt, const char *text, const char *what)
{
	char path[64];
	int fd = -1;

	if (alt) {
		snprintf(path, sizeof(path), "thread-self/attr/%s", alt);
		fd = openat(plan->proc_fd, path, O_WRONLY | O_CLOEXEC);
	}
	if (fd < 0) {
		snprintf(path, sizeof(path), "thread-self/attr/%s", file);
		fd = openat(plan->proc_fd, path, O_WRONLY | O_CLOEXEC);
	}
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		die(errno, "set %s '%s'", what, text);
	close(fd);
}

static void labels(void)
{
	char text[PATH_MAX];

	if (plan->apparmor) {
		snprintf(text, sizeof(text), "exec %s", str(plan->apparmor));
		write_attr("exec", "apparmor/exec", text, "AppArmor profile");
	}
	if (plan->selinux)
		write_attr("exec", NULL, str(plan->selinux), "SELinux label");
}

static void keyring(void)
{
	long id = syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, str(plan->keyring));
	char text[256], *perm;
	long n;

	if (id < 0) {
		if (errno == ENOSYS || errno == EPERM || errno == EDQUOT || errno == EACCES)
			return; /* no keyrings here, or the quota is gone: the old session keyring is not reachable
				 * for the container either way once its user differs */
		die(errno, "new session keyring");
	}
	/* Give the user of the keyring the right to find it, as session keyrings of logins have. */
	n = syscall(SYS_keyctl, KEYCTL_DESCRIBE, id, text, sizeof(text) - 1);
	if (n <= 0 || n >= (long)sizeof(text))
		return;
	text[n] = '\0';
	perm = strchr(text, ';');
	perm = perm ? strchr(perm + 1, ';') : NULL;
	perm = perm ? strchr(perm + 1, ';') : NULL;
	if (perm)
		syscall(SYS_keyctl, KEYCTL_SETPERM, id, strtoul(perm + 1, NULL, 16) | 0x080000);
}

static void seccomp(void)
{
	const struct seccomp_insn *prog = (const void *)((const char *)plan + plan->seccomp.off);
	int fd = -1, r;

	if (plan->seccomp_flags & SYS_SECCOMP_NEW_LISTENER) {
		/* After the filter is in, any system call may wait for the listener.  So the runtime is told the number
		 * the listener will have, takes it from outside, and says so in shared memory. */
		fd = fcntl(plan->sync_fd, F_DUPFD_CLOEXEC, 0);
		if (fd < 0)
			die(errno, "find a descriptor");
		close(fd);
		send_msg(FM_NOTIFY, fd, NULL, plan_fd);
		if (!wait_go())
			_exit(126);
	}
	r = sys_seccomp_load(prog, (uint16_t)plan->seccomp.n, plan->seccomp_flags);
	if (r < 0)
		die(-r, "install the seccomp filter");
	if (plan->seccomp_flags & SYS_SECCOMP_NEW_LISTENER)
		while (!plan->notify_taken)
			__builtin_ia32_pause();
}

static void identity(void)
{
	const gid_t *groups = (const void *)((const char *)plan + plan->groups.off);
	uint64_t keep;
	int r, bad = -1;

	if (plan->has_caps) {
		keep = plan->bounding;
		r = caps_bound(keep);
		if (r < 0)
			die(-r, "drop from the bounding set");
	}
	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
		die(errno, "keep capabilities");
	if (plan->may_setgroups && setgroups(plan->groups.n, groups) < 0)
		die(errno, "set supplementary groups");
	if (syscall(SYS_setresgid, plan->gid, plan->gid, plan->gid) < 0)
		die(errno, "set gid %u", plan->gid);
	if (syscall(SYS_setresuid, plan->uid, plan->uid, plan->uid) < 0)
		die(errno, "set uid %u", plan->uid);
	if (prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) < 0)
		die(errno, "keep capabilities");
	if (!plan->has_caps && plan->uid != 0) {
		/* No set was asked for: a user other than root has none, as after execve(). */
		r = caps_set(0, 0, 0);
		if (r < 0)
			die(-r, "set capabilities");
	}
	if (!plan->has_caps)
		return;
	r = caps_set(plan->effective, plan->permitted, plan->inheritable);
	if (r < 0)
		die(-r, "set capabilities");
	r = caps_ambient(plan->ambient, &bad);
	/* EPERM: it is not permitted and inheritable as well.  Buildah asks for such, and no runtime makes words about it. */
	if (r < 0 && bad >= 0 && r != -EPERM) {
		char text[128];
		const char *name = cap_to_name(bad);

		snprintf(text, sizeof(text), "ambient capability %s cannot be raised: %s",
			 name ? name : "?", strerror(-r));
		send_msg(FM_WARN, 0, text, -1);
	}
	if (r < 0)
		caps_ambient(plan->ambient & plan->permitted & plan->inheritable, NULL);
}

static void enter_cwd(bool *done)
{
	char buf[PATH_MAX];

	if (!*done)
		*done = chdir(str(plan->cwd)) == 0;
	/* A folder outside the root (a descriptor that leaked, CVE-2024-21626) has no path in here. */
	if (*done && (syscall(SYS_getcwd, buf, sizeof(buf)) < 0 || buf[0] != '/'))
		die(ENOENT, "working directory '%s' is outside the container's root",
		    str(plan->cwd));
}

int main(int argc, char **argv)
{
	static char home_text[PATH_MAX];
	static char *args[65536], *env[65536];
	struct stat st;
	bool in_cwd = false;
	uint32_t i;

	plan_fd = argc > 1 ? atoi(argv[1]) : -1;
	if (plan_fd < 0 || fstat(plan_fd, &st) < 0)
		return 125;
	plan = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, plan_fd, 0);
	if (plan == MAP_FAILED || plan->magic != FINAL_MAGIC || (off_t)plan->size > st.st_size)
		return 125;
	if (plan->argv.n >= ARRAY_SIZE(args) || plan->envp.n >= ARRAY_SIZE(env))
		die(E2BIG, "more than 65535 arguments or variables");
	if (plan->join_pidfd >= 0)
		join();
	sys_reset_signals();
	if (plan->open_tty)
		tty_open();
	if (plan->keyring)
		keyring();
	if (plan->has_personality && personality((unsigned long)plan->personality) < 0)
		die(errno, "set the personality");
	/* Tried with the privileges of root first, then again as the user: either may be the one with access. */
	enter_cwd(&in_cwd);
	if (plan->argv.n > 0) /* else there is no process to start, and `start` refuses */
		find_exe();
	table(&plan->envp, env, ARRAY_SIZE(env));
	if (plan->home_at)
		env[plan->home_at] = home(home_text, sizeof(home_text));

	/* From here on the end of the socket tells that the runtime died; it may leave right after its word to go. */
	prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0);
	if (send_msg(FM_READY, 0, NULL, -1) < 0 || !wait_go())
		_exit(126);
	if (plan->listen_fd >= 0) {
		close(plan->sync_fd);
		do {
			plan->sync_fd = accept4(plan->listen_fd, NULL, NULL, SOCK_CLOEXEC);
			if (plan->sync_fd < 0 && errno != EINTR && errno != ECONNABORTED)
				_exit(126);
		} while (plan->sync_fd < 0 || !wait_go());
		close(plan->listen_fd);
	}
	/* Nothing of ours may stay open in the program, whoever forgot to mark it. */
	sys_cloexec_range(3 + plan->preserve, ~0U);
	labels();
	if (plan->seccomp.n && !plan->no_new_privs)
		seccomp(); /* needs CAP_SYS_ADMIN, which goes next */
	identity();
	if (plan->no_new_privs && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		die(errno, "set no_new_privs");
	umask(plan->has_umask ? plan->umask : 022);
	if (!in_cwd) {
		enter_cwd(&in_cwd);
		if (!in_cwd)
			die(errno, "working directory '%s'", str(plan->cwd));
	}
	table(&plan->argv, args, ARRAY_SIZE(args));
	if (plan->seccomp.n && plan->no_new_privs)
		seccomp();
	/* The programs of these hooks come from the image: they get no more rights than the user's own. */
	for (i = 0; i < plan->hooks.n; i++)
		run_hook(&((const struct final_hook *)(const void *)((const char *)plan +
								     plan->hooks.off))[i]);
	execve(exe, args, env);
	die(errno, "exec '%s'", exe);
}
