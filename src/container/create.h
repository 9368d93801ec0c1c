/* Making a container: the runtime's side of create and run; and what exec shares with it. */
#ifndef CONTAINER_CREATE_H
#define CONTAINER_CREATE_H

#include "container/cgroup/cgroup.h"
#include "container/status.h"

struct create_opts {
	const char *root, *id, *bundle, *config; /* config NULL: BUNDLE/config.json */
	const char *console_socket, *pid_file;	 /* NULL: none */
	unsigned int preserve_fds;
	bool no_pivot, no_new_keyring;
	enum cg_manager manager;
	bool run, detach, keep;
};

/* create: returns 0 when the container waits for start.  run: starts it; without detach waits for its end and returns its
 * exit status.  On failure nothing is left. */
int container_create(const struct create_opts *o, struct err **e);
/* Let a created container go; returns when its program runs, or with the reason why it does not. */
int container_start(const char *root, const char *id, struct err **e);
/* Kill (force), remove cgroups and files, run poststop hooks.  Works on whatever a killed runtime left. */
int container_delete(const char *root, const char *id, bool force, struct err **e);

/* Limits and priorities that the runtime sets from outside, with its own rights; what it has no right to is clamped with
 * a warning. */
int process_apply(pid_t pid, const struct spec_process *p, struct err **e);
int write_pid_file(const char *path, pid_t pid, struct err **e);
/* Talk to strata-final until the program runs (the socket closes).  want_ready: only until it is ready, or,
 * with pidfd -1, until it says its pid. */
int follow(int sock, int pidfd, struct container *c, const struct spec *s, bool want_ready,
	   pid_t *pid, struct err **e);
/* LISTEN_FDS of our own environment that count for us; adds the variables for the program to env (room for 3). */
unsigned int listen_fds(struct arena *a, const char **env);
/* $XDG_RUNTIME_DIR/... or /run/...; where compiled filters are kept. */
const char *seccomp_cache_dir(struct arena *a, const char *root);
extern int start_timeout_ms; /* for a stage */

#endif
