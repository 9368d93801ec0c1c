/* What happens after an instance ended, by its policy: a pure state machine, time comes in as a parameter.
 *
 * The pause before a start doubles with every end in a row, up to RESTART_DELAY_MAX; a run of RESTART_GOOD counts as a good
 * one and begins the row anew. */
#ifndef NODE_INSTANCE_RESTART_H
#define NODE_INSTANCE_RESTART_H

#include "gen/instance.h"

#define RESTART_DELAY_MAX (300 * NSEC_PER_SEC)
#define RESTART_GOOD	  (10 * NSEC_PER_SEC)

struct restart {
	uint64_t in_row; /* starts by the policy since the last good run */
	uint64_t total;	 /* since it was last started on purpose */
};

enum restart_act { RESTART_NOT, RESTART_AFTER, RESTART_GIVE_UP };

/* code: exit status; on_purpose: somebody stopped it; ran: how long it ran.  RESTART_AFTER: *delay from now.
 * RESTART_GIVE_UP: max_retries are used up. */
enum restart_act restart_ended(struct restart *r, const struct api_restart_policy *p, int code,
			       bool on_purpose, nsec_t ran, nsec_t *delay);
/* It was started on purpose. */
void restart_reset(struct restart *r);
/* Shall it start with the daemon?  was_running: it ran when the host went down; stopped: it was stopped on purpose. */
bool restart_at_boot(const struct api_restart_policy *p, bool autostart, bool was_running,
		     bool stopped);

#endif
