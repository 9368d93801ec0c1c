/* A client of the QEMU Machine Protocol.  Spec: QEMU docs/interop/qmp-spec.rst.
 *
 * Commands may be sent at once: they wait until QEMU has greeted.  Replies come in the order of the commands.
 * Trust: QEMU is ours, but its guest may have broken out: a line is at most QMP_LINE_MAX, what does not parse ends the
 * connection (-EPROTO).  Thread: the loop's; callbacks may close the connection. */
#ifndef NODE_ENGINE_QMP_H
#define NODE_ENGINE_QMP_H

#include "base/loop.h"
#include "ext/json.h"

#define QMP_LINE_MAX (8U << 20)

struct qmp;

struct qmp_events {
	void (*on_event)(void *arg, const char *name, const struct json *data);
	void (*on_closed)(void *arg, int r); /* QEMU hung up, or -errno; the connection is freed */
};
/* ret: borrowed, NULL on failure.  e: taken, NULL when all is well: "QEMU: text of it", -EIO; -EPIPE: hung up before. */
typedef void qmp_reply_fn(void *arg, const struct json *ret, struct err *e);

/* Takes fd, a connected stream socket, also on failure. */
int qmp_open(struct loop *loop, int fd, const struct qmp_events *events, void *arg,
	     struct qmp **ret, struct err **e);
/* Outstanding replies get -EPIPE; on_closed is not called.  NULL: no effect. */
void qmp_close(struct qmp *q);

/* args: taken, may be NULL (no arguments).  fd: passed along with it (borrowed), or -1.  reply may be NULL.  When it cannot even
 * be sent, reply is called from the loop, not from here. */
void qmp_send(struct qmp *q, const char *command, struct json *args, int fd, qmp_reply_fn *reply,
	      void *arg);

#endif
