/* The last image before the user's program: its plan and its messages.
 *
 * A container's first process, and every process of `exec`, must not have the host's strata-oci as its executable while
 * other processes of the container can look at it: /proc/PID/exe could be opened there and the host's file overwritten
 * later (CVE-2019-5736).  So the last steps run in a small static program, strata-final, that is embedded in strata-oci,
 * copied to a sealed memory file and executed from there.  Whatever it is made to execute again (`#!/proc/self/exe`) is that
 * sealed copy.  It also is what waits for `start`: some 100 KiB instead of the runtime.
 *
 * The plan is one flat block in a memory file: fixed fields, then strings and tables that the fields point to by offset
 * from the block's start.  Nothing in it is hostile, it was made by create.c or exec.c from checked input.  */
#ifndef CONTAINER_FINAL_H
#define CONTAINER_FINAL_H

#include "base/types.h"
#include "sys/seccomp.h"

#define FINAL_MAGIC	  0x53464e31U
#define FINAL_ATTACH_MAX  20
#define FINAL_PLAN_FD_ENV "3" /* argv[1]: where the plan is */

struct final_tab { /* of u32 string offsets, or of structs */
	uint32_t off, n;
};

struct final_hook {
	uint32_t path;
	struct final_tab args, env;
	int32_t timeout;
};

struct final_plan {
	uint32_t magic, size;
	volatile uint32_t notify_taken; /* set by the runtime when it holds the seccomp listener */
	int32_t sync_fd;		/* SOCK_SEQPACKET to the runtime */
	int32_t listen_fd;		/* where `start` connects; -1: go on at once */
	int32_t proc_fd;		/* the host's /proc, O_PATH */

	/* exec only: where to go first */
	int32_t join_pidfd; /* -1: we are there already */
	int32_t join_flags; /* CLONE_NEW* */
	bool join_fork;	    /* a pid namespace is among them: go on in a child */
	int32_t attach_fds[FINAL_ATTACH_MAX];
	uint32_t n_attach;
	bool open_tty; /* make a terminal and send its master to console_fd */
	int32_t console_fd;
	uint32_t rows, cols;

	uint32_t uid, gid;
	struct final_tab groups; /* u32 */
	bool may_setgroups;
	bool has_umask, has_caps, no_new_privs, has_personality, need_exec_check;
	uint32_t umask;
	uint64_t bounding, effective, permitted, inheritable, ambient;
	uint64_t personality;
	uint32_t apparmor, selinux, keyring; /* strings; 0: none */
	struct final_tab seccomp;	     /* struct seccomp_insn */
	uint32_t seccomp_flags;
	uint32_t preserve; /* descriptors 3..3+preserve-1 stay open; 0 */
	uint32_t cwd;
	struct final_tab argv, envp;
	uint32_t home_at;	/* index in envp of an empty slot for HOME=; 0: not wanted */
	struct final_tab hooks; /* struct final_hook, kind startContainer */
	uint32_t state;		/* their standard input */
};

enum final_kind {
	FM_ERROR = 1, /* value: errno; text */
	FM_READY,     /* all is prepared */
	FM_PID,	      /* value: the pid of the process that goes on */
	FM_GO,	      /* from the runtime */
	FM_NOTIFY, /* value: the descriptor number the listener will have; carries the plan's fd */
	FM_STAGE,  /* create.c's child: value is an enum ct_stage, waits for FM_GO */
	FM_WARN,   /* text */
};

struct final_msg {
	uint32_t kind;
	int32_t value;
	char text[1016];
};

/* Bytes that a message with this text needs. */
#define FINAL_MSG_HEAD offsetof(struct final_msg, text)

#endif
