/* What the runtime does to a container's process, or hands to it, from outside. */
#ifndef CONTAINER_PROCESS_H
#define CONTAINER_PROCESS_H

#include <sys/types.h>
#include "base/err.h"
#include "container/spec.h"

/* Limits and priorities that the runtime sets from outside, with its own rights; what it has no right to is clamped with
 * a warning. */
int process_apply(pid_t pid, const struct spec_process *p, struct err **e);
int write_pid_file(const char *path, pid_t pid, struct err **e);
/* LISTEN_FDS of our own environment that count for us; adds the variables for the program to env (room for 3). */
unsigned int listen_fds(struct arena *a, const char **env);

#endif
