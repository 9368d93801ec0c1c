/* Building the plan of strata-final and starting it; see final.h. */
#ifndef CONTAINER_FINAL_PLAN_H
#define CONTAINER_FINAL_PLAN_H

#include "base/buf.h"
#include "base/err.h"
#include "container/final.h"
#include "container/spec.h"

struct seccomp_prog;

struct final_args {
	const struct spec *spec;
	const struct spec_process *process; /* of spec, or another for exec */
	const struct seccomp_prog *seccomp; /* NULL: none */
	const struct spec_hook *hooks;	    /* startContainer */
	size_t n_hooks;
	const char *state;   /* their input; NULL without hooks */
	const char *keyring; /* session keyring to join; NULL: keep ours */
	unsigned int preserve;
	bool may_setgroups;
	const char *const *extra_env; /* NULL-terminated or NULL */
};

/* The caller fills in the descriptors and join fields of the plan in b->s afterwards. */
int final_plan_build(const struct final_args *a, struct buf *b, struct err **e);
/* A close-on-exec memory file with the plan. */
int final_plan_fd(const struct buf *b, struct err **e);
/* A sealed memory file with strata-final. */
int final_image_fd(struct err **e);
/* Become strata-final; only returns on failure. The plan's fd and all fds named in the plan must be inheritable: they
 * are made so here, all others are closed on exec by their own flag. */
int final_exec(int image_fd, int plan_fd, struct err **e);

#endif
