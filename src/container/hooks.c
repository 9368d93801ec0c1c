/* Running hooks; see hooks.h. */
#include "container/hooks.h"
#include "container/warn.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/atomicfile.h"
#include "sys/proc.h"

#define STDERR_MAX 2048

static void child(const struct spec_hook *h, int in, int err)
{
	sys_reset_signals();
	dup2(in, 0);
	if (err >= 0)
		dup2(err, 2);
	sys_close_range(3, ~0U);
	execve(h->path, h->args, h->env);
	dprintf(2, "execute '%s': %s\n", h->path, strerror(errno));
	_exit(127);
}

static int run_one(const struct spec_hook *h, const char *name, const char *state, struct err **e)
{
	_cleanup_(closep) int in = sys_sealed_memfd("state", state, strlen(state)), pidfd = -1,
			      err = -1;
	struct pollfd p;
	char text[STDERR_MAX + 1] = "";
	int status = 0, r;
	pid_t pid;
	ssize_t n;

	if (in < 0)
		return err_sys(e, -in, "memory file");
	lseek(in, 0, SEEK_SET);
	err = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	pid = sys_clone3(0, SIGCHLD, &pidfd, -1);
	if (pid < 0)
		return err_sys(e, -pid, "%s hook '%s'", name, h->path);
	if (pid == 0)
		child(h, in, err);
	p = (struct pollfd){ .fd = pidfd, .events = POLLIN };
	do {
		r = poll(&p, 1, h->timeout > 0 ? h->timeout * 1000 : -1);
	} while (r < 0 && errno == EINTR);
	if (r == 0)
		kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (err >= 0 && (n = pread(err, text, STDERR_MAX, 0)) > 0) {
		text[n] = '\0';
		if (r > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0)
			write_all(2, text, (size_t)n);
		while (n > 0 && text[n - 1] == '\n')
			text[--n] = '\0';
	}
	if (r == 0)
		return err_set(e, ETIMEDOUT, "hook.timeout", "%s hook '%s' took more than %d s",
			       name, h->path, h->timeout);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return err_set(e, EIO, "hook.failed", "%s hook '%s' failed with %s %d%s%s", name,
			       h->path, WIFEXITED(status) ? "exit status" : "signal",
			       WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status),
			       *text ? ": " : "", text);
	return 0;
}

int hooks_run(const struct spec *s, enum hook_kind kind, const char *state, struct err **e)
{
	size_t i;
	int r = 0;

	for (i = 0; i < s->n_hooks[kind] && r == 0; i++)
		r = run_one(&s->hooks[kind][i], hook_names[kind], state, e);
	return r;
}

void hooks_run_all(const struct spec *s, enum hook_kind kind, const char *state)
{
	size_t i;

	for (i = 0; i < s->n_hooks[kind]; i++) {
		_cleanup_(err_freep) struct err *e = NULL;

		if (run_one(&s->hooks[kind][i], hook_names[kind], state, &e) < 0)
			ct_warn("%s", err_msg(e));
	}
}
