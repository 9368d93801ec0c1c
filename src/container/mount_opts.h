/* The option words of a mount in config.json, turned into what the mount API takes.
 *                                                    Spec: runtime-spec 1.1 config.md "Linux mount options" */
#ifndef CONTAINER_MOUNT_OPTS_H
#define CONTAINER_MOUNT_OPTS_H

#include "base/err.h"
#include "base/types.h"
#include "container/arena.h"

struct mount_opts {
	bool bind, rbind, remount, tmpcopyup;
	uint64_t attr_set, attr_clr;   /* MOUNT_ATTR_*; a later word wins over an earlier one */
	uint64_t rattr_set, rattr_clr; /* the recursive forms: rro, rnosuid, ... */
	unsigned long propagation;     /* MS_PRIVATE etc., with MS_REC for the r-forms; 0: leave */
	bool idmap, ridmap;
	char **sb; /* super block options, "ro" and "key=value"; NULL-terminated */
};

/* Unknown words are file system options. */
void mount_opts_parse(struct arena *a, char *const *words, struct mount_opts *ret);
/* "rprivate" -> MS_PRIVATE | MS_REC; 0: not a propagation word. */
unsigned long propagation_from_name(const char *name);
/* All words that are not left to the file system; for `features`. NULL-terminated. */
const char *const *mount_opt_names(void);

#endif
