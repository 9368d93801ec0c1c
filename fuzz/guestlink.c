/* Frames of a hostile guest, in two pieces, against the host's side of the guest protocol, with a program under way. */
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include "base/atomicfile.h"
#define LOG_MODULE "fuzz"
#include "base/log.h"
#include "node/engine/guestlink.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static bool closed;

static void word(void *arg, const char *state)
{
}
static void nothing(void *arg)
{
}
static void output(void *arg, int fd, const void *data, size_t n)
{
}
static void exited(void *arg, int code, const char *why)
{
	if (code < 0 || code > 255)
		abort();
}
static void gone(void *arg, int r)
{
	closed = true;
}

static void exec_done(struct engine_call *c, int r, struct err *e)
{
	*(int *)c->data = r < 0 ? r : 1;
	err_free(e);
}

static void exec_exit(struct engine_exec *x, int code, struct err *e)
{
	if (code < 0 || code > 255)
		abort();
	err_free(e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const struct guestlink_events events = {
		word, nothing, output, nothing, exited, gone
	};
	static const struct engine_ops ops = { .exec_free = guestlink_exec_free };
	struct engine_instance i = { .ops = &ops };
	const char *const args[] = { "true", NULL };
	struct engine_exec_spec s = { .args = (char *const *)(uintptr_t)args,
				      .stdin_open = len & 1,
				      .tty = len & 2 };
	struct engine_exec *x = NULL;
	int fd[2], state = 0;
	struct engine_call c = { .done = exec_done, .data = &state };
	struct guestlink *l;
	struct loop *loop;

	signal(SIGPIPE, SIG_IGN);
	log_set_level(NULL, LOG_ERR);
	closed = false;
	if (len > 60000 || loop_new(NULL, &loop) < 0)
		return 0;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) < 0 ||
	    guestlink_open(loop, fd[0], "{}", &events, NULL, &l, NULL) < 0)
		abort();
	guestlink_exec(l, &i, &s, &x, &c);
	for (int half = 0; half < 2 && !closed; half++) {
		size_t n = half ? len - len / 2 : len / 2;

		write_all(fd[1], data + (half ? len / 2 : 0), n);
		while (!closed && loop_once(loop, 0) > 0) {
			char drop[65536];

			if (recv(fd[1], drop, sizeof(drop), MSG_DONTWAIT) < 0)
				continue;
		}
		if (state == 1 && x && !x->on_exit)
			x->on_exit = exec_exit;
	}
	if (!closed)
		guestlink_close(l);
	if (state == 1)
		engine_exec_free(x);
	else if (state == 0)
		abort(); /* a call ends once */
	close(fd[1]);
	loop_free(loop);
	return 0;
}
