/* From linux.seccomp to a BPF program.  Compiling is libseccomp's work in a helper process (strata-seccomp), done once for
 * each profile: the program is kept under the runtime's folder, found by a hash of the profile's text and compared with the
 * whole text, so that the start of a container neither compiles nor even parses it. */
#ifndef CONTAINER_SECCOMP_PROFILE_H
#define CONTAINER_SECCOMP_PROFILE_H

#include "container/spec.h"
#include "sys/seccomp.h"

struct seccomp_prog {
	struct seccomp_insn *insns;
	size_t n;
	unsigned int flags;	       /* of seccomp(2); NEW_LISTENER when a rule notifies */
	const char *listener_path;     /* NULL: none */
	const char *listener_metadata; /* "" when not given */
};

/* NULL profile: *ret is NULL.  text: the document that s->seccomp came from.  cache_dir: made when missing. */
int seccomp_profile_get(struct arena *a, const struct jval *profile, const char *text,
			const char *cache_dir, struct seccomp_prog **ret, struct err **e);

#endif
