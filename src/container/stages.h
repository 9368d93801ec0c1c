/* The stages of a start, in order.  The first process writes where it is into memory it shares with the runtime, so an
 * error or a timeout names the stage; at some it stops until the runtime has done its part. */
#ifndef CONTAINER_STAGES_H
#define CONTAINER_STAGES_H

enum ct_stage {
	CT_NONE,
	CT_CLONED,   /* the process exists */
	CT_IDMAPPED, /* waits: the runtime writes the id maps */
	CT_NETWORK,  /* its namespaces exist, loopback is up */
	CT_CGROUP, /* waits: the runtime sends the cgroup descriptors; then the process moved itself there */
	CT_MOUNTS,  /* the file system tree is being built */
	CT_HOOKS,   /* waits: the runtime runs prestart and createRuntime hooks */
	CT_PIVOTED, /* inside the new root */
	CT_READY,   /* strata-final is about to wait for the word to go */
	CT_STAGES
};
extern const char *const ct_stage_names[CT_STAGES];

#endif
