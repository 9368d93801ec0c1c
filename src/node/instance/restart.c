/* See restart.h. */
#include "node/instance/restart.h"

enum restart_act restart_ended(struct restart *r, const struct api_restart_policy *p, int code,
			       bool on_purpose, nsec_t ran, nsec_t *delay)
{
	nsec_t d = MAX(p->delay, (nsec_t)0);

	if (on_purpose || p->mode == API_RESTART_MODE_NO ||
	    (p->mode == API_RESTART_MODE_ON_FAILURE && code == 0))
		return RESTART_NOT;
	if (ran >= RESTART_GOOD)
		r->in_row = 0;
	if (p->max_retries && r->in_row >= p->max_retries)
		return RESTART_GIVE_UP;
	for (uint64_t k = 0; k < r->in_row && d < RESTART_DELAY_MAX; k++)
		d *= 2;
	*delay = MIN(d, RESTART_DELAY_MAX);
	r->in_row++;
	r->total++;
	return RESTART_AFTER;
}

void restart_reset(struct restart *r)
{
	*r = (struct restart){ 0 };
}

bool restart_at_boot(const struct api_restart_policy *p, bool autostart, bool was_running,
		     bool stopped)
{
	switch (p->mode) {
	case API_RESTART_MODE_ALWAYS:
		return true;
	case API_RESTART_MODE_UNLESS_STOPPED:
		return autostart || (was_running && !stopped);
	default:
		return autostart;
	}
}
