/* Fault points: places where a test makes this process fail, wait or die.
 *
 *	if ((r = FAULT_POINT("snapshot.rename")) < 0) return err_sys(e, -r, "rename");
 *
 * $STRATA_FAULT = "name:nth:action[;...]": at the nth arrival (1 is the first, 0 every one) at that point do
 * `kill` (SIGKILL to ourselves), `delay=MS`, or return -errno for an errno name such as `EIO`.  "*" as name matches
 * every point, so a counting loop over nth kills a program at each step in turn.  Unset costs one load. */
#ifndef BASE_FAULT_H
#define BASE_FAULT_H

#include "base/types.h"

extern bool fault_armed; /* read by the macro */

/* Reads $STRATA_FAULT; a malformed one is reported on stderr and ends the process with status 2 (a test's typing
 * error must not pass for a test).  Call once, early in main(). */
void fault_init(void);
int fault_hit(const char *name); /* 0 or -errno */

#define FAULT_POINT(name) (unlikely(fault_armed) ? fault_hit(name) : 0)

#endif
