/* What a thread gives up before it touches anything of the guest's: system calls by seccomp filter, one filter per
 * kind of thread (seccomp/<kind>.json, compiled at build time). */
#ifndef VMM_SANDBOX_H
#define VMM_SANDBOX_H

#include "base/err.h"
#include <sys/types.h>
#include "base/types.h"

enum sandbox_kind { SANDBOX_MAIN, SANDBOX_VCPU, SANDBOX_IO, SANDBOX_KINDS };

enum sandbox_mode {
	SANDBOX_OFF,   /* the default without --jail */
	SANDBOX_ERRNO, /* a call that is not listed fails with EPERM, and the kernel logs it */
	SANDBOX_KILL,  /* a call that is not listed ends the process */
};

/* Main thread, before any other thread exists. */
void sandbox_setup(enum sandbox_mode mode);
/* The calling thread's filter from here on.  A filter that cannot be loaded ends the process: going on without it
 * would be worse. */
void sandbox_enter(enum sandbox_kind kind);

/* Main thread, the only one yet, everything that the VM needs open: new mount, network, IPC, UTS and cgroup namespaces, an
 * empty read-only root, resource limits, this uid and gid, no capabilities, no new privileges.  (The pid namespace is
 * made by a fork at the start, main.c.)  -EPERM when not root. */
int sandbox_jail(uid_t uid, gid_t gid, struct err **e);

#endif
