/* The container's first process, from clone3() to the execution of strata-final; and the little protocol it speaks with the
 * runtime (struct final_msg over a SOCK_SEQPACKET pair). */
#ifndef CONTAINER_INIT_H
#define CONTAINER_INIT_H

#include "container/rootfs.h"
#include "container/stages.h"
#include "container/status.h"

struct init {
	const struct spec *s;
	struct rootfs root;
	const char *state_json; /* for createContainer hooks; NULL: none */
	int sync;		/* our end */
	int console;		/* socket that gets the terminal's master; -1 */
	int image_fd, plan_fd;
	pid_t parent;
	bool need_maps, need_cgroup_fds, need_hooks, map_root;
	unsigned int unshare_flags; /* namespaces to make after the clone */
	bool join_done;		    /* paths were joined before the clone */
	volatile int *stage;	    /* shared */
};

/* Never returns. */
_noreturn_ void init_main(struct init *in);
/* Enter the namespaces that have a path (kinds in mask), those of other user namespaces after their user namespace. */
int ns_join_paths(const struct spec *s, unsigned int mask, struct err **e);

/* Messages; -errno. text may be NULL; fds are duplicated by the kernel. */
int msg_send(int sock, int kind, int value, const char *text, const int *fds, size_t n_fds);
/* One message, within timeout_ms (-1: none); fds must have room for *n_fds, which is set to how many came.
 * -EPIPE: the other end is closed; -ETIMEDOUT. */
struct final_msg;
int msg_recv(int sock, int timeout_ms, struct final_msg *m, int *fds, size_t *n_fds);

#endif
