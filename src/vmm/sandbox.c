/* See sandbox.h. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "sys/seccomp.h"
#include "vmm/sandbox.h"
#include "vmm/seccomp_filters.h" /* generated: filter_main, filter_vcpu, filter_io */

static enum sandbox_mode mode;

void sandbox_setup(enum sandbox_mode m)
{
	mode = m;
}

void sandbox_enter(enum sandbox_kind kind)
{
	static const struct {
		const struct seccomp_insn *insn;
		uint16_t n;
	} filter[SANDBOX_KINDS] = {
		[SANDBOX_MAIN] = { filter_main, ARRAY_SIZE(filter_main) },
		[SANDBOX_VCPU] = { filter_vcpu, ARRAY_SIZE(filter_vcpu) },
		[SANDBOX_IO] = { filter_io, ARRAY_SIZE(filter_io) },
	};
	struct seccomp_insn prog[300];
	uint16_t n = filter[kind].n;
	int r;

	if (mode == SANDBOX_OFF)
		return;
	memcpy(prog, filter[kind].insn, n * sizeof(prog[0]));
	if (mode == SANDBOX_ERRNO)
		prog[n - 2].k = SECCOMP_RET_ERRNO |
				EPERM; /* the last but one: all that is not listed */
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	r = sys_seccomp_load(prog, n, 0);
	if (r < 0) {
		fprintf(stderr, "strata-vmm: load the system call filter: %s\n", strerror(-r));
		_exit(1);
	}
}

/* An empty, read-only root: the old one is unmounted. */
static int empty_root(struct err **e)
{
	const char *dir = "/tmp";

	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return err_sys(e, errno, "make mounts private");
	if (mount("jail", dir, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC,
		  "size=4k,nr_inodes=4,mode=0555") < 0)
		return err_sys(e, errno, "mount the jail's root");
	if (chdir(dir) < 0 || syscall(SYS_pivot_root, ".", ".") < 0)
		return err_sys(e, errno, "enter the jail's root");
	if (umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return err_sys(e, errno, "leave the old root");
	if (mount(NULL, "/", NULL,
		  MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
		return err_sys(e, errno, "make the jail's root read-only");
	return 0;
}

int sandbox_jail(uid_t uid, gid_t gid, struct err **e)
{
	/* Files of its own: none to make beyond what a descriptor that is open allows; no core; no more than 1024 fds. */
	static const struct {
		int what;
		rlim_t value;
	} limits[] = { { RLIMIT_CORE, 0 }, { RLIMIT_NOFILE, 1024 }, { RLIMIT_MSGQUEUE, 0 } };
	int r;

	if (geteuid() != 0)
		return err_set(e, EPERM, "jail.root", "--jail must be started as root");
	if (unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP) < 0)
		return err_sys(e, errno, "make the jail's namespaces");
	r = empty_root(e);
	if (r < 0)
		return r;
	for (unsigned int i = 0; i < ARRAY_SIZE(limits); i++) {
		struct rlimit l = { limits[i].value, limits[i].value };

		if (setrlimit((__rlimit_resource_t)limits[i].what, &l) < 0)
			return err_sys(e, errno, "limit the jail's resources");
	}
	/* The keep-capabilities flag is off: leaving uid 0 in all three ids drops every capability. */
	if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
		return err_sys(e, errno, "become user %u", uid);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_sys(e, errno, "set no_new_privs");
	/* A dumpable process of a shared uid could be traced by its siblings. */
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	return 0;
}
