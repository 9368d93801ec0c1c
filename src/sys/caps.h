/* Capability sets as 64-bit masks, by the raw system calls: libcap would add a library to programs that count their
 * start in microseconds.  Spec: capabilities(7).  -errno on failure. */
#ifndef SYS_CAPS_H
#define SYS_CAPS_H

#include "base/types.h"

struct caps {
	uint64_t bounding, effective, permitted, inheritable, ambient;
};

/* "CAP_CHOWN", in either case, with or without the prefix: the number, or -1. */
int cap_from_name(const char *name);
/* "CAP_CHOWN" for 0; NULL when this source does not know the number. */
const char *cap_to_name(int cap);
/* The highest capability this kernel knows; found once. */
int cap_last(void);
int caps_get(struct caps *ret); /* of the calling thread */
/* Drop from the bounding set what is not in keep; needs CAP_SETPCAP. */
int caps_bound(uint64_t keep);
/* Effective, permitted and inheritable at once. */
int caps_set(uint64_t effective, uint64_t permitted, uint64_t inheritable);
/* Clear the ambient set, then raise what is asked.  -EPERM and *bad (may be NULL): that one cannot be raised. */
int caps_ambient(uint64_t want, int *bad);

#endif
