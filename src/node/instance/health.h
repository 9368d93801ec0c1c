/* Health checks: a command inside, run again and again; so many failures in a row make the instance unhealthy.
 *
 * health_result() is pure; health.c runs the command through the engine.  Thread: the main loop's. */
#ifndef NODE_INSTANCE_HEALTH_H
#define NODE_INSTANCE_HEALTH_H

#include "base/buf.h"
#include "base/loop.h"
#include "gen/instance.h"

struct instance;
struct health_run;

struct health {
	struct api_health_check *check; /* owned; NULL: none */
	enum api_health_state state;
	unsigned int failures; /* in a row */
	nsec_t began;	       /* loop time */
	struct timer next;
	struct health_run *run; /* a check under way */
};

/* What a check that ended means.  ok: status 0 in time; now, began: loop time. */
enum api_health_state health_result(struct health *h, const struct api_health_check *c, bool ok,
				    nsec_t now);

void health_start(struct instance *i); /* it runs: begin, when its spec or image has a check */
void health_stop(struct instance *i);  /* not running: no effect */

#endif
