/* The QEMU engine's inside, shared by qemu.c (how it is started and spoken to) and qemu_ops.c (what is done while it runs). */
#ifndef NODE_ENGINE_QEMU_H
#define NODE_ENGINE_QEMU_H

#include "node/engine/qmp.h"
#include "node/engine/vm.h"

struct qemu {
	struct vm vm; /* first */
	struct qmp *qmp;
	struct engine_call *saving;
};

static inline struct qemu *qemu_of(struct engine_instance *i)
{
	return container_of(vm_of(i), struct qemu, vm);
}

/* On a VM that has no monitor: ends c with -ESRCH. */
bool qemu_gone(struct qemu *q, struct engine_call *c);
/* Ends the call with what QEMU answered; a qmp_reply_fn. */
void qemu_answer(void *call, const struct json *ret, struct err *e);
/* A MIGRATION event of QEMU: "completed", "failed", ... */
void qemu_migration(struct qemu *q, const char *status);
void qemu_restore(struct vm *vm);

void qemu_stats(struct engine_instance *i, struct api_instance_stats *ret, struct engine_call *c);
void qemu_update(struct engine_instance *i, const struct engine_plan *p, struct engine_call *c);
void qemu_switch_disk(struct engine_instance *i, const char *id, const char *path,
		      struct engine_call *c);
void qemu_save(struct engine_instance *i, const char *dir, struct engine_call *c);
void qemu_screen(struct engine_instance *i, struct engine_stream *ret, struct engine_call *c);

#endif
