/* What can be done to a container that exists, by its id: start, signal, freeze, adjust, look, remove.  Making one: create.h;
 * another program in it: exec.h.  root: the runtime's folder.  Errors: -ENOENT with id "container.none"; -EINVAL with id
 * "container.state" where its state does not allow it. */
#ifndef CONTAINER_LIFECYCLE_H
#define CONTAINER_LIFECYCLE_H

#include "base/buf.h"
#include "container/status.h"

/* Let a created container go; returns when its program runs, or with the reason why it does not. */
int container_start(const char *root, const char *id, struct err **e);
/* all: every process of the container, else the first; SIGKILL thaws a frozen one. */
int container_kill(const char *root, const char *id, int sig, bool all, struct err **e);
/* "9", "KILL", "SIGKILL", "RTMIN+3", "RTMAX-1"; -1: no such signal. */
int signal_number(const char *s);
/* Freeze or thaw, and wait until it is so. */
int container_freeze(const char *root, const char *id, bool on, struct err **e);
/* Set what is given in res, leave the rest.  json: linux.resources of the specification. */
int container_update(const char *root, const char *id, struct spec_resources *res, struct err **e);
int container_update_json(const char *root, const char *id, const char *json, size_t len,
			  struct err **e);
/* malloc'ed. */
int container_pids(const char *root, const char *id, pid_t **pids, size_t *n, struct err **e);
/* runc's object of statistics, appended. */
int container_stats_json(const char *root, const char *id, struct buf *out, struct err **e);
/* CPU time in microseconds and the highest memory use in bytes, so far; 0 where the host does not count it. */
void container_usage(const char *root, const char *id, uint64_t *cpu_usec, uint64_t *memory_peak);
/* Kill (force), remove cgroups and files, run poststop hooks.  Works on whatever a killed runtime left. */
int container_delete(const char *root, const char *id, bool force, struct err **e);

#endif
