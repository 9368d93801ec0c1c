/* The host's side of the guest protocol (guest/guest.h, docs/internals/guest.md): one link per running VM.
 *
 * It speaks to strata-init over a unix socket that leads to a virtio-console port (QEMU, strata-vmm) or to vsock.  Stream 0 is the
 * instance's main process: its output goes to a callback, its input comes from guestlink_input().  Further streams are
 * programs started by guestlink_exec(), whose bytes are pumped between the link and descriptors.
 *
 * Trust: the guest is hostile.  Frames are bounded by GUEST_FRAME_MAX, what is held for a slow reader by GUEST_WINDOW per
 * stream; a guest that breaks the framing or sends beyond its window loses the link (-EPROTO).
 * Thread: the loop's.  Callbacks may close the link. */
#ifndef NODE_ENGINE_GUESTLINK_H
#define NODE_ENGINE_GUESTLINK_H

#include "ext/json.h"
#include "node/engine.h"

struct guestlink;

struct guestlink_events {
	/* The guest (again) says who it is; state: "config", "running", "ended". */
	void (*on_hello)(void *arg, const char *state);
	void (*on_started)(void *arg);
	/* Output of the main process; fd 1 or 2.  All of n is taken. */
	void (*on_output)(void *arg, int fd, const void *data, size_t n);
	void (*on_input_room)(void *arg); /* guestlink_input() takes something again */
	/* The main process ended, code as a shell has it; or could not be started: why is not NULL. */
	void (*on_exited)(void *arg, int code, const char *why);
	/* The connection is gone: 0, or -errno.  Programs still under way have ended with -EPIPE before. */
	void (*on_closed)(void *arg, int r);
};

/* Takes fd, a connected stream socket, also when it fails.  config: sent when the guest asks for one; NULL: it has it already.
 * Copied. */
int guestlink_open(struct loop *loop, int fd, const char *config,
		   const struct guestlink_events *events, void *arg, struct guestlink **ret,
		   struct err **e);
/* Calls back for nothing but the ends of the programs that were under way (-EPIPE).  NULL: no effect. */
void guestlink_close(struct guestlink *l);

/* Bytes for the main process' input; returns how many were taken (0: no room, see on_input_room). */
size_t guestlink_input(struct guestlink *l, const void *data, size_t n);
void guestlink_input_end(struct guestlink *l);
int guestlink_resize(struct guestlink *l, unsigned int rows, unsigned int columns);
int guestlink_signal(struct guestlink *l, int signo); /* to the main process */

/* A program in the guest; see engine_ops.exec.  The engine's exec_resize, exec_kill and exec_free lead here. */
void guestlink_exec(struct guestlink *l, struct engine_instance *i,
		    const struct engine_exec_spec *s, struct engine_exec **ret,
		    struct engine_call *c);
int guestlink_exec_resize(struct engine_exec *x, unsigned int rows, unsigned int columns);
void guestlink_exec_free(struct engine_exec *x);

#endif
