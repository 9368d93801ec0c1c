/* The container's process from outside; see process.h. */
#include "container/process.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/str.h"
#include "container/warn.h"

unsigned int listen_fds(struct arena *a, const char **env)
{
	const char *n = getenv("LISTEN_FDS"), *names = getenv("LISTEN_FDNAMES"),
		   *pid = getenv("LISTEN_PID");
	uint64_t v;

	if (!n || parse_u64(n, 1000, &v) < 0 || v == 0)
		return 0;
	if (pid && (pid_t)strtol(pid, NULL, 10) != getpid())
		return 0;
	*env++ = arena_printf(a, "LISTEN_FDS=%u", (unsigned int)v);
	*env++ = "LISTEN_PID=1";
	if (names)
		*env++ = arena_printf(a, "LISTEN_FDNAMES=%s", names);
	*env = NULL;
	return (unsigned int)v;
}

int write_pid_file(const char *path, pid_t pid, struct err **e)
{
	char temp[PATH_MAX], text[16];
	const char *slash = strrchr(path, '/');
	int n = snprintf(text, sizeof(text), "%d", (int)pid), fd;

	/* Readers wait for the file to appear, so it appears with its contents. */
	snprintf(temp, sizeof(temp), "%.*s.%s.%d", slash ? (int)(slash - path + 1) : 0, path,
		 slash ? slash + 1 : path, (int)getpid());
	fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0)
		return err_sys(e, errno, "write the pid file '%s'", path);
	if (write(fd, text, (size_t)n) != n || rename(temp, path) < 0) {
		int r = err_sys(e, errno, "write the pid file '%s'", path);

		close(fd);
		unlink(temp);
		return r;
	}
	close(fd);
	return 0;
}

static int set_limit(pid_t pid, const struct spec_rlimit *l, struct err **e)
{
	struct rlimit want = { .rlim_cur = l->soft, .rlim_max = l->hard }, now;

	if (prlimit(pid, (__typeof__(RLIMIT_NOFILE))l->resource, &want, NULL) == 0)
		return 0;
	if (errno != EPERM || prlimit(pid, (__typeof__(RLIMIT_NOFILE))l->resource, NULL, &now) < 0)
		return err_sys(e, errno, "process.rlimits: %s", l->name);
	/* Without CAP_SYS_RESOURCE (or above fs.nr_open): as much as may be had. */
	want.rlim_max = MIN(want.rlim_max, now.rlim_max);
	want.rlim_cur = MIN(want.rlim_cur, want.rlim_max);
	if (prlimit(pid, (__typeof__(RLIMIT_NOFILE))l->resource, &want, NULL) < 0)
		return err_sys(e, errno, "process.rlimits: %s", l->name);
	ct_note("%s is limited to %llu:%llu, %llu:%llu needs CAP_SYS_RESOURCE", l->name,
		(unsigned long long)want.rlim_cur, (unsigned long long)want.rlim_max,
		(unsigned long long)l->soft, (unsigned long long)l->hard);
	return 0;
}

static int set_sched(pid_t pid, const struct spec_sched *s, struct err **e)
{
	struct {
		uint32_t size, policy;
		uint64_t flags;
		int32_t nice;
		uint32_t priority;
		uint64_t runtime, deadline, period;
		uint32_t util_min, util_max;
	} a = { .size = 56,
		.policy = s->policy,
		.flags = s->flags,
		.nice = s->nice,
		.priority = (uint32_t)s->priority,
		.runtime = s->runtime,
		.deadline = s->deadline,
		.period = s->period };

	return syscall(SYS_sched_setattr, pid, &a, 0) < 0 ? err_sys(e, errno, "process.scheduler")
							  : 0;
}

int process_apply(pid_t pid, const struct spec_process *p, struct err **e)
{
	size_t i;
	int r = 0;

	for (i = 0; i < p->n_rlimits && r == 0; i++)
		r = set_limit(pid, &p->rlimits[i], e);
	if (r == 0 && p->has_oom_score) {
		char path[64], text[16];
		_cleanup_(closep) int fd = -1;
		int n = snprintf(text, sizeof(text), "%d", p->oom_score);

		snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", (int)pid);
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd < 0)
			return err_sys(e, errno, "process.oomScoreAdj");
		if (write(fd, text, (size_t)n) < 0) {
			if (errno != EACCES)
				return err_sys(e, errno, "process.oomScoreAdj");
			ct_note("oomScoreAdj %d needs CAP_SYS_RESOURCE and is ignored",
				p->oom_score);
		}
	}
	if (r == 0 && p->sched.set)
		r = set_sched(pid, &p->sched, e);
	if (r == 0 && p->has_ioprio && syscall(SYS_ioprio_set, 1, pid, p->ioprio) < 0)
		r = err_sys(e, errno, "process.ioPriority");
	return r;
}
