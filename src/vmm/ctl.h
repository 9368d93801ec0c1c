/* The control socket: verbs on a running VM.  Frames of base/rpc.h; a request is request.h's object, an answer is
 *	{"ok": true, ...}   or   {"ok": false, "id": "vm.state", "error": "text"}
 * Verbs: status, pause, resume, shutdown, reset, kill, snapshot {dir}, set {device, key, value}, stats.
 * Thread: main. */
#ifndef VMM_CTL_H
#define VMM_CTL_H

#include "base/buf.h"
#include "base/err.h"

struct ctl;
struct vm;

/* fd: a listening socket (taken), or -1 with path.  saved: the state that a restored VM came from, for `reset`
 * {"to": "snapshot"}; NULL otherwise; borrowed. */
int ctl_new(struct vm *vm, const char *path, const struct buf *saved, struct ctl **ret,
	    struct err **e);
void ctl_free(struct ctl *c); /* removes the socket file; NULL ok */

/* The client: `strata-vmm ctl SOCKET VERB [JSON]`; prints the answer; returns the exit status. */
int ctl_client(const char *path, const char *verb, const char *json);

#endif
