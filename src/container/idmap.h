/* User and group id maps: of a process's user namespace, and of mounts.                    Spec: user_namespaces(7) */
#ifndef CONTAINER_IDMAP_H
#define CONTAINER_IDMAP_H

#include <sys/types.h>
#include "base/err.h"
#include "container/spec.h"

/* Write both maps of pid.  Without privilege by newuidmap(1) and newgidmap(1), or, where those are missing and one's own
 * id alone is mapped, directly; *may_setgroups is false then. */
int idmap_write(pid_t pid, const struct idmaps *uids, const struct idmaps *gids,
		bool *may_setgroups, struct err **e);
/* A user namespace that only carries these maps, for MOUNT_ATTR_IDMAP. */
int idmap_userns(const struct idmaps *uids, const struct idmaps *gids, struct err **e);
/* Will setgroups() be allowed in the namespace that idmap_write() makes? */
bool idmap_setgroups_allowed(const struct idmaps *gids);

#endif
