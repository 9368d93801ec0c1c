/* What a QEMU says that its guest has taken over, to a client with commands under way. */
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include "base/atomicfile.h"
#include "node/engine/qmp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static bool closed;
static int answers;

static void event(void *arg, const char *name, const struct json *data)
{
}
static void gone(void *arg, int r)
{
	closed = true;
}
static void answer(void *arg, const struct json *ret, struct err *e)
{
	answers++;
	err_free(e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const struct qmp_events events = { event, gone };
	struct loop *loop;
	struct qmp *q;
	int fd[2];

	signal(SIGPIPE, SIG_IGN);
	closed = false;
	answers = 0;
	if (len > 60000 || loop_new(NULL, &loop) < 0)
		return 0;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) < 0 ||
	    qmp_open(loop, fd[0], &events, NULL, &q, NULL) < 0)
		abort();
	for (int k = 0; k < 3; k++)
		qmp_send(q, "query-status", NULL, -1, answer, NULL);
	write_all(fd[1], data, len);
	while (!closed && loop_once(loop, 0) > 0)
		;
	if (!closed)
		qmp_close(q);
	if (answers != 3)
		abort(); /* each command is answered once */
	close(fd[1]);
	loop_free(loop);
	return 0;
}
