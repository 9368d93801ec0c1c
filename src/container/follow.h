/* The runtime's ear while strata-final is on its way to the program: errors, warnings, the seccomp listener. */
#ifndef CONTAINER_FOLLOW_H
#define CONTAINER_FOLLOW_H

#include "base/err.h"
#include "container/status.h"

/* Talk to strata-final until the program runs (the socket closes).  want_ready: only until it is ready, or,
 * with pidfd -1, until it says its pid. */
int follow(int sock, int pidfd, struct container *c, const struct spec *s, bool want_ready,
	   pid_t *pid, struct err **e);
extern int start_timeout_ms; /* for a stage */

#endif
