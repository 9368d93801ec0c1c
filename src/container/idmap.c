/* Id maps; see idmap.h. */
#include "container/idmap.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/buf.h"
#include "base/xalloc.h"
#include "sys/proc.h"

static int write_file(pid_t pid, const char *name, const char *text)
{
	char path[64];
	int fd, r = 0;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		r = -errno;
	close(fd);
	return r;
}

static void text_of(const struct idmaps *m, struct buf *b)
{
	size_t i;

	for (i = 0; i < m->n; i++)
		buf_addf(b, "%u %u %u\n", m->v[i].inside, m->v[i].outside, m->v[i].size);
}

static bool only_self(const struct idmaps *m, uint32_t id)
{
	return m->n == 1 && m->v[0].size == 1 && m->v[0].outside == id;
}

bool idmap_setgroups_allowed(const struct idmaps *gids)
{
	return geteuid() == 0 || !only_self(gids, getegid());
}

static int by_helper(const char *program, pid_t pid, const struct idmaps *m, struct err **e)
{
	char **argv = xcalloc(m->n * 3 + 3, sizeof(char *));
	size_t i, n = 0;
	int status;
	pid_t child;

	argv[n++] = xstrdup(program);
	argv[n++] = xasprintf("%d", (int)pid);
	for (i = 0; i < m->n; i++) {
		argv[n++] = xasprintf("%u", m->v[i].inside);
		argv[n++] = xasprintf("%u", m->v[i].outside);
		argv[n++] = xasprintf("%u", m->v[i].size);
	}
	child = fork();
	if (child == 0) {
		execvp(program, argv);
		dprintf(2, "strata-oci: execute %s: %s\n", program, strerror(errno));
		_exit(127);
	}
	for (i = 0; i < n; i++)
		free(argv[i]);
	free(argv);
	if (child < 0)
		return err_sys(e, errno, "new process");
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return err_set(e, EPERM, "idmap.refused",
			       "%s refused the id map (see /etc/subuid, /etc/subgid)", program);
	return 0;
}

static int write_one(pid_t pid, const char *file, const char *program, const struct idmaps *m,
		     struct err **e)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	int r;

	text_of(m, &b);
	r = write_file(pid, file, buf_str(&b));
	if (r == -EPERM && geteuid() != 0)
		return by_helper(program, pid, m, e);
	return r < 0 ? err_sys(e, -r, "write %s", file) : 0;
}

int idmap_write(pid_t pid, const struct idmaps *uids, const struct idmaps *gids,
		bool *may_setgroups, struct err **e)
{
	int r;

	*may_setgroups = idmap_setgroups_allowed(gids);
	if (!*may_setgroups) {
		r = write_file(pid, "setgroups", "deny");
		if (r < 0)
			return err_sys(e, -r, "write setgroups");
	}
	r = write_one(pid, "uid_map", "newuidmap", uids, e);
	return r < 0 ? r : write_one(pid, "gid_map", "newgidmap", gids, e);
}

int idmap_userns(const struct idmaps *uids, const struct idmaps *gids, struct err **e)
{
	_cleanup_(closep) int pidfd = -1;
	char path[64];
	bool may;
	int r, fd = -1;
	pid_t pid = sys_clone3(CLONE_NEWUSER, SIGCHLD, &pidfd, -1);

	if (pid < 0)
		return err_sys(e, -pid, "new user namespace for an id map");
	if (pid == 0) {
		for (;;)
			pause();
	}
	r = idmap_write(pid, uids, gids, &may, e);
	if (r == 0) {
		snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)pid);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			r = err_sys(e, errno, "open '%s'", path);
	}
	kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return r < 0 ? r : fd;
}
