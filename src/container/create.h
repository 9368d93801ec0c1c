/* Making a container: the runtime's side of create and run. */
#ifndef CONTAINER_CREATE_H
#define CONTAINER_CREATE_H

#include "container/cgroup/cgroup.h"
#include "container/status.h"

struct create_result {
	pid_t pid;
	uint64_t start; /* of pid, see sys/proc.h */
	int master;	/* of its terminal; -1: it has none, or a console socket got it */
	int oom_fd;	/* cgroups_oom_fd(), cgroups_oom_count_fd(): both or none (-1) */
	int oom_count_fd;
};

struct create_opts {
	const char *root, *id, *bundle, *config; /* config NULL: BUNDLE/config.json */
	const char *console_socket, *pid_file;	 /* NULL: none */
	unsigned int preserve_fds;
	bool no_pivot, no_new_keyring;
	enum cg_manager manager;
	bool run, detach, keep;
	struct create_result *
		ret; /* filled in on success, its fds are the caller's; NULL: not wanted (then a terminal needs a
				    * console socket or somebody who stays) */
};

/* create: returns 0 when the container waits for start.  run: starts it; without detach waits for its end and returns its
 * exit status.  On failure nothing is left. */
int container_create(const struct create_opts *o, struct err **e);
/* $XDG_RUNTIME_DIR/... or /run/...; where compiled filters are kept. */
const char *seccomp_cache_dir(struct arena *a, const char *root);

#endif
