/* Hooks of config.json: programs with the container's state on their standard input.  Spec: runtime-spec 1.1 "POSIX-platform Hooks" */
#ifndef CONTAINER_HOOKS_H
#define CONTAINER_HOOKS_H

#include "base/err.h"
#include "container/spec.h"

/* Run the hooks of a kind in order; the first that fails, or takes longer than its timeout (then it is killed), ends it. */
int hooks_run(const struct spec *s, enum hook_kind kind, const char *state_json, struct err **e);
/* The same, but a failure is only a warning on stderr and the next one runs (poststart, poststop). */
void hooks_run_all(const struct spec *s, enum hook_kind kind, const char *state_json);

#endif
