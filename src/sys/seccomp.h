/* Installing a ready seccomp program.  Compiling profiles is another room's work.  Spec: seccomp(2). */
#ifndef SYS_SECCOMP_H
#define SYS_SECCOMP_H

#include "base/types.h"

struct seccomp_insn { /* struct sock_filter */
	uint16_t code;
	uint8_t jt, jf;
	uint32_t k;
};

#define SYS_SECCOMP_TSYNC	       (1U << 0)
#define SYS_SECCOMP_LOG		       (1U << 1)
#define SYS_SECCOMP_SPEC_ALLOW	       (1U << 2)
#define SYS_SECCOMP_NEW_LISTENER       (1U << 3)
#define SYS_SECCOMP_WAIT_KILLABLE_RECV (1U << 5)

/* 0, the listener's descriptor with NEW_LISTENER, or -errno.  Needs no_new_privs or CAP_SYS_ADMIN. */
int sys_seccomp_load(const struct seccomp_insn *prog, uint16_t n, unsigned int flags);
/* Does this kernel know these flags?  Nothing is installed. */
bool sys_seccomp_has_flags(unsigned int flags);

#endif
