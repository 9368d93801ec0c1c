/* State machines; see sm.h. */
#include "base/sm.h"

#include "base/str.h"

bool sm_may(const struct sm *sm, unsigned int from, unsigned int to)
{
	return from < sm->n_states && to < sm->n_states && (sm->moves[from] & TO(to));
}

const char *sm_name(const struct sm *sm, unsigned int state)
{
	return state < sm->n_states ? sm->names[state] : "?";
}

int sm_move(const struct sm *sm, unsigned int *state, unsigned int to, struct err **e)
{
	if (!sm_may(sm, *state, to))
		return err_set(e, EBUSY, "state.move", "%s: cannot go from %s to %s", sm->noun,
			       sm_name(sm, *state), sm_name(sm, to));
	*state = to;
	return 0;
}

int sm_parse(const struct sm *sm, const char *name)
{
	for (unsigned int i = 0; i < sm->n_states; i++) {
		if (streq(sm->names[i], name))
			return (int)i;
	}
	return -EINVAL;
}
