/* seccomp(2); see seccomp.h. */
#include "sys/seccomp.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SET_MODE_FILTER 1

int sys_seccomp_load(const struct seccomp_insn *prog, uint16_t n, unsigned int flags)
{
	struct {
		unsigned short len;
		const struct seccomp_insn *filter;
	} fprog = { n, prog };
	long r = syscall(SYS_seccomp, SET_MODE_FILTER, flags, &fprog);

	return r < 0 ? -errno : (int)r;
}

bool sys_seccomp_has_flags(unsigned int flags)
{
	/* Without a program, a kernel that knows the flags gets as far as reading it. */
	return syscall(SYS_seccomp, SET_MODE_FILTER, flags, NULL) < 0 && errno == EFAULT;
}
