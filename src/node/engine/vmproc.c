/* Monitors that outlive the daemon; see vmproc.h. */
#include "node/engine/vmproc.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include "base/atomicfile.h"
#include "base/rpc.h"
#include "base/str.h"
#include "ext/json.h"
#include "sys/proc.h"

#define LOG_NAME "monitor.log"

static char *file_in(const char *dir, const char *name)
{
	char *path;

	return asprintf(&path, "%s/%s", dir, name) < 0 ? NULL : path;
}

int vmproc_listen(const char *dir, const char *name, int *ret, struct err **e)
{
	_cleanup_(freep) char *path = file_in(dir, name);
	int fd = path ? rpc_listen(path, 0600, e) : err_sys(e, ENOMEM, "%s", name);

	if (fd < 0)
		return fd;
	*ret = fd;
	return 0;
}

int vmproc_connect(const char *dir, const char *name, int *ret, struct err **e)
{
	_cleanup_(freep) char *path = file_in(dir, name);
	int fd = path ? rpc_connect(path, e) : err_sys(e, ENOMEM, "%s", name);

	if (fd < 0)
		return fd;
	*ret = fd;
	return 0;
}

static void ended(struct watch *w, uint32_t events)
{
	struct vmproc *p = w->data;
	siginfo_t si = { 0 };
	int code = -1;

	if (p->child && waitid(P_PIDFD, (id_t)p->pidfd, &si, WEXITED | WNOHANG) == 0) {
		if (si.si_pid == 0)
			return; /* not yet */
		code = si.si_code == CLD_EXITED ? si.si_status : 128 + si.si_status;
	}
	vmproc_forget(p);
	p->on_end(p, code);
}

static int watch_end(struct loop *loop, struct vmproc *p, struct err **e)
{
	int r;

	p->watch = (struct watch){ .data = p };
	r = watch_fd(loop, &p->watch, "vm", p->pidfd, EPOLLIN, ended);
	return r < 0 ? err_sys(e, -r, "watch process %d", (int)p->pid) : 0;
}

/* In the child, before exec: only system calls. */
static void _noreturn_ become(char *const *argv, const int *keep, size_t n_keep,
			      char *const *cgroups, int log, int go)
{
	char byte;
	int null = open("/dev/null", O_RDONLY);

	setsid();
	sys_reset_signals();
	if (null < 0 || dup2(null, 0) < 0 || dup2(log, 1) < 0 || dup2(log, 2) < 0)
		_exit(126);
	sys_cloexec_range(3, ~0U);
	for (size_t i = 0; i < n_keep; i++)
		fcntl(keep[i], F_SETFD, 0);
	/* The file that names us is written while we wait; a daemon that dies now leaves nothing behind. */
	if (read(go, &byte, 1) != 1)
		_exit(126);
	for (char *const *g = cgroups; g && *g; g++) {
		int fd = open(*g, O_WRONLY | O_CLOEXEC);

		if (fd < 0 || write(fd, "0", 1) != 1) {
			dprintf(2, "cannot enter %s: %s\n", *g, strerror(errno));
			_exit(126);
		}
	}
	execvp(argv[0], argv);
	dprintf(2, "cannot run %s: %s\n", argv[0], strerror(errno));
	_exit(errno == ENOENT ? 127 : 126);
}

static int name_it(const char *dir, const char *file, const char *more, struct vmproc *p,
		   struct err **e)
{
	_cleanup_(freep) char *path = file_in(dir, file);
	_cleanup_(buf_done) struct buf b = { 0 };
	struct proc_stat st;
	int r = proc_stat_read(p->pid, &st);

	if (r < 0)
		return err_sys(e, -r, "read the state of process %d", (int)p->pid);
	p->start = st.start;
	buf_addf(&b, "{\"pid\": %d, \"start\": %llu%s}\n", (int)p->pid,
		 (unsigned long long)p->start, more ?: "");
	if (!path || buf_error(&b))
		return err_sys(e, ENOMEM, "%s", file);
	return file_write_atomic(AT_FDCWD, path, b.s, b.len, 0600, e);
}

int vmproc_spawn(struct loop *loop, const char *dir, const char *file, const char *more,
		 char *const *argv, const int *keep, size_t n_keep, char *const *cgroups,
		 void (*on_end)(struct vmproc *p, int code), struct vmproc *p, struct err **e)
{
	_cleanup_(freep) char *log_path = file_in(dir, LOG_NAME);
	_cleanup_(closep) int log = -1, wait_fd = -1, go_fd = -1;
	int go[2], r;

	if (!log_path)
		return err_sys(e, ENOMEM, "%s", argv[0]);
	log = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (log < 0)
		return err_sys(e, errno, "make '%s'", log_path);
	if (pipe2(go, O_CLOEXEC) < 0)
		return err_sys(e, errno, "make a pipe");
	wait_fd = go[0];
	go_fd = go[1];
	*p = (struct vmproc){ .pidfd = -1, .child = true, .on_end = on_end, .data = p->data };
	p->pid = sys_clone3(0, SIGCHLD, &p->pidfd, -1);
	if (p->pid < 0)
		return err_sys(e, (int)-p->pid, "start %s", argv[0]);
	if (p->pid == 0) {
		close(go_fd); /* else its own copy keeps the pipe open */
		become(argv, keep, n_keep, cgroups, log, wait_fd);
	}
	r = name_it(dir, file, more, p, e);
	if (r == 0)
		r = watch_end(loop, p, e);
	if (r == 0 && write(go_fd, "g", 1) != 1)
		r = err_sys(e, errno, "start %s", argv[0]);
	if (r < 0) {
		vmproc_forget(p);
		kill(p->pid, SIGKILL);
		waitpid(p->pid, NULL, 0);
	}
	return r;
}

int vmproc_adopt(struct loop *loop, const char *dir, const char *file, struct buf *text,
		 void (*on_end)(struct vmproc *p, int code), struct vmproc *p, struct err **e)
{
	_cleanup_(freep) char *path = file_in(dir, file);
	_cleanup_(json_freep) struct json *v = NULL;
	int r = path ? file_read(AT_FDCWD, path, 65536, text, NULL) : -ENOMEM;

	*p = (struct vmproc){ .pidfd = -1, .on_end = on_end, .data = p->data };
	if (r == 0)
		r = json_parse(text->s, text->len, NULL, &v, NULL);
	if (r < 0)
		return err_set(e, ESRCH, "engine.gone", "no monitor is on record");
	p->pid = (pid_t)json_int(json_get(v, "pid"), 0);
	p->start = (uint64_t)json_int(json_get(v, "start"), 0);
	p->pidfd = p->pid > 1 ? proc_open(p->pid, p->start) : -ESRCH;
	if (p->pidfd < 0) {
		p->pidfd = -1;
		return err_set(e, ESRCH, "engine.gone", "its monitor is gone");
	}
	r = watch_end(loop, p, e);
	if (r < 0)
		vmproc_forget(p);
	return r;
}

int vmproc_signal(struct vmproc *p, int signo)
{
	return p->pidfd < 0 ? -ESRCH : sys_pidfd_send_signal(p->pidfd, signo);
}

void vmproc_forget(struct vmproc *p)
{
	if (p->watch.loop)
		watch_remove(&p->watch);
	p->pidfd = safe_close(p->pidfd);
}

static int usage_add(pid_t pid, nsec_t *user, nsec_t *system, uint64_t *rss)
{
	char path[64];
	_cleanup_(buf_done) struct buf b = { 0 };
	unsigned long long u, s;
	long long pages;
	nsec_t tick = NSEC_PER_SEC / sysconf(_SC_CLK_TCK);
	const char *after;
	int r;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	r = file_read(AT_FDCWD, path, 4096, &b, NULL);
	after = r == 0 ? strrchr(b.s, ')') : NULL; /* the name may hold anything */
	if (!after)
		return -ESRCH;
	/* after the name: state ppid pgrp session tty tpgid flags minflt cminflt majflt cmajflt utime stime ... rss is the 22nd */
	if (sscanf(after + 1,
		   " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d %*d %*d %*u %*u %lld",
		   &u, &s, &pages) != 3)
		return -EPROTO;
	*user += (nsec_t)u * tick;
	*system += (nsec_t)s * tick;
	*rss += (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
	return 0;
}

int vmproc_usage(const struct vmproc *p, nsec_t *user, nsec_t *system, uint64_t *rss)
{
	char path[64];
	_cleanup_(buf_done) struct buf b = { 0 };
	_cleanup_(strv_freep) char **pids = NULL;
	int r;

	*user = *system = 0;
	*rss = 0;
	r = usage_add(p->pid, user, system, rss);
	/* A jailed monitor is a child in a pid namespace of its own. */
	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)p->pid, (int)p->pid);
	if (r == 0 && file_read(AT_FDCWD, path, 4096, &b, NULL) == 0)
		pids = strv_split(buf_str(&b), " \n");
	for (char **s = pids; s && *s; s++) {
		uint64_t pid;

		if (parse_u64(*s, INT32_MAX, &pid) == 0)
			usage_add((pid_t)pid, user, system, rss);
	}
	return r;
}

void vmproc_last_words(const char *dir, char *buf, size_t len)
{
	_cleanup_(freep) char *path = file_in(dir, LOG_NAME);
	_cleanup_(closep) int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	struct stat st;
	ssize_t n = 0;

	buf[0] = '\0';
	if (fd >= 0 && fstat(fd, &st) == 0)
		n = pread(fd, buf, len - 1, MAX(st.st_size - (off_t)len + 1, (off_t)0));
	if (n < 0)
		n = 0;
	while (n > 0 && (buf[n - 1] == '\n' || buf[n - 1] == ' '))
		n--;
	buf[n] = '\0';
	for (ssize_t i = 0; i < n; i++)
		if ((unsigned char)buf[i] < ' ')
			buf[i] = buf[i] == '\n' ? ';' : '?';
}
