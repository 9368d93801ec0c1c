/* State machines as tables of allowed moves, with one mover.
 *
 *	static const uint32_t vm_moves[VM_STATE_MAX] = {
 *		[VM_CREATED] = TO(VM_RUNNING) | TO(VM_STOPPED), ...
 *	};
 *	static const struct sm vm_sm = SM("vm", vm_moves, vm_state_names);
 *	r = sm_move(&vm_sm, &vm->state, VM_RUNNING, e);        the only writer of vm->state */
#ifndef BASE_SM_H
#define BASE_SM_H

#include "base/err.h"

#define TO(state) (UINT32_C(1) << (state))

struct sm {
	const char *noun;
	const uint32_t *moves;	  /* bit s set in moves[t]: t may become s */
	const char *const *names; /* of the states, n_states of them */
	unsigned int n_states;	  /* at most 32 */
};

#define SM(noun_, moves_, names_)                                      \
	{                                                              \
		.noun = (noun_), .moves = (moves_), .names = (names_), \
		.n_states = ARRAY_SIZE(moves_)                         \
	}

/* 0: moved; -EBUSY with "vm: cannot go from paused to created": not allowed, state unchanged. */
int sm_move(const struct sm *sm, unsigned int *state, unsigned int to, struct err **e);
bool sm_may(const struct sm *sm, unsigned int from, unsigned int to);
const char *sm_name(const struct sm *sm, unsigned int state); /* "?" outside the table */
/* The state of that name, or -EINVAL. */
int sm_parse(const struct sm *sm, const char *name);

#endif
