/* What all VM engines share: a monitor process, the guest's agent link, the serial line, logs and consoles, and the order in which
 * a VM begins, is found again and ends.  An engine of its own (qemu.c, native.c) adds how its monitor is started and spoken to.
 *
 * The VM's process is found again by DIR/vm.json; its monitor, serial line and guest agent are unix sockets in DIR, of which the
 * daemon is the only client.  What the guest says while no daemon is connected is lost, the guest goes on.
 * Thread: the loop's. */
#ifndef NODE_ENGINE_VM_H
#define NODE_ENGINE_VM_H

#include "node/engine.h"
#include "node/engine/guestlink.h"
#include "node/engine/vmio.h"
#include "node/engine/vmproc.h"

struct vm;

struct vm_sockets { /* listening, inherited by the monitor; -1: none */
	int monitor, serial, agent;
};

struct vm_command {    /* what is to be run */
	char **argv;   /* NULL-terminated; owned */
	VEC(int) keep; /* descriptors that it inherits; borrowed */
};
void vm_command_done(struct vm_command *c);

struct vm_monitor {
	bool fw_cfg; /* the guest reads its config there; else over the link */
	int (*command)(struct vm *vm, const struct engine_plan *p, const struct vm_sockets *s,
		       struct vm_command *ret, struct err **e);
	/* Takes fd, connected to the monitor; calls vm_ready() once the machine is made. */
	int (*connect)(struct vm *vm, int fd, struct err **e);
	void (*close)(struct vm *vm); /* twice: no effect */
	void (*power_button)(struct vm *vm, struct engine_call *c);
	/* Begin to take in the state in vm->restore; ends in vm_start_done(). */
	void (*restore)(struct vm *vm);
	/* What an exit status of the monitor means; false: nothing special. */
	bool (*explain)(int status, int *code, const char **why);
};

struct vm {
	struct engine_instance i; /* first */
	const struct vm_monitor *mon;
	struct vmproc proc;
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
	int code, status;   /* status: the monitor's own; -1: unknown */
	char why[600];	    /* last message of engine_exit */
	uint64_t cpus, memory;

	struct engine_call *starting, *cleaning;
	char *restore; /* while starting from a saved state */
	struct timer start_timer;
};

static inline struct vm *vm_of(struct engine_instance *i)
{
	return container_of(i, struct vm, i);
}

/* On a VM that does not run: ends c with -ESRCH. */
bool vm_gone(struct vm *vm, struct engine_call *c);
void vm_ready(struct vm *vm, int r,
	      struct err *e); /* the monitor made the machine, or says why not */
void vm_start_done(struct vm *vm, int r, struct err *e);

/* Operations of engine_ops. */
int vm_attach(struct engine_instance *i, const struct vm_monitor *m);
void vm_detach(struct engine_instance *i);
/* Log and consoles: a stream that is attached from here on misses nothing. */
void vm_prepare(struct engine_instance *i, const struct engine_plan *p, struct engine_call *c);
void vm_start(struct engine_instance *i, const struct engine_plan *p, const char *accelerator,
	      struct engine_call *c);
void vm_adopt(struct engine_instance *i, struct engine_exit *x, struct engine_call *c);
void vm_cleanup(struct engine_instance *i, struct engine_call *c);
void vm_stop(struct engine_instance *i, int signo, struct engine_call *c);
void vm_kill(struct engine_instance *i, int signo, struct engine_call *c);
void vm_exec(struct engine_instance *i, const struct engine_exec_spec *s, struct engine_exec **ret,
	     struct engine_call *c);
void vm_console(struct engine_instance *i, struct engine_stream *ret, struct engine_call *c);
int vm_console_resize(struct engine_instance *i, unsigned int rows, unsigned int columns);
/* Everything but disks: the process' time and memory. */
void vm_stats(struct vm *vm, struct api_instance_stats *ret);
/* -ENOTSUP: p wants other processors or memory than it was started with. */
int vm_update_check(struct vm *vm, const struct engine_plan *p, struct err **e);
/* Its limit and weight, as p says. */
int vm_set_cpu(struct vm *vm, const struct engine_plan *p, struct err **e);

#endif
