/* The QEMU engine's inside, shared by qemu.c (life) and qemu_ops.c (what is done to a running VM). */
#ifndef NODE_ENGINE_QEMU_H
#define NODE_ENGINE_QEMU_H

#include "node/engine.h"
#include "node/engine/guestlink.h"
#include "node/engine/qmp.h"
#include "node/engine/vmio.h"
#include "node/engine/vmproc.h"

struct qemu {
	struct engine_instance i; /* first */
	struct vmproc proc;
	struct qmp *qmp;
	struct guestlink *link; /* VM from an OCI image */
	struct vmio io;
	/* The serial line: console of a VM that boots a disk; else what the guest's kernel says, kept for messages. */
	int serial;
	struct watch serial_watch;
	struct buf serial_wait; /* input for it */
	char tail[512];		/* end of what it said */
	size_t tail_len;

	bool agent, alive, adopted, killed, panicked;
	bool command_ended; /* code: of the command in the guest */
	int code;
	char why[600]; /* last message of engine_exit */
	uint64_t cpus, memory;

	struct engine_call *starting, *cleaning;
	char *restore; /* while starting from a saved state */
	struct engine_call *saving;
	struct timer start_timer;
};

static inline struct qemu *qemu_of(struct engine_instance *i)
{
	return container_of(i, struct qemu, i);
}

/* On a VM that has no monitor: ends c with -ESRCH. */
bool qemu_gone(struct qemu *q, struct engine_call *c);
/* Ends the call with what QEMU answered; a qmp_reply_fn. */
void qemu_answer(void *call, const struct json *ret, struct err *e);
/* A MIGRATION event of QEMU: "completed", "failed", ... */
void qemu_migration(struct qemu *q, const char *status);
/* Begin to take the state in from q->restore. */
void qemu_restore(struct qemu *q);
void qemu_start_done(struct qemu *q, int r, struct err *e);

void qemu_stats(struct engine_instance *i, struct api_instance_stats *ret, struct engine_call *c);
void qemu_update(struct engine_instance *i, const struct engine_plan *p, struct engine_call *c);
void qemu_switch_disk(struct engine_instance *i, const char *id, const char *path,
		      struct engine_call *c);
void qemu_save(struct engine_instance *i, const char *dir, struct engine_call *c);
void qemu_screen(struct engine_instance *i, struct engine_stream *ret, struct engine_call *c);

#endif
