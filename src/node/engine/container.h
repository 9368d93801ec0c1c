/* The container engine's parts: the OCI configuration of a plan, users by name, the bundle's files.  Private to engine/. */
#ifndef NODE_ENGINE_CONTAINER_H
#define NODE_ENGINE_CONTAINER_H

#include "node/engine.h"

extern const struct engine_ops engine_container;

struct ct_user {
	uint32_t uid, gid;
	uint32_t groups[64];
	unsigned int n_groups;
	char home[256];
};
/* "name", "name:group", "uid", "uid:gid" as /etc/passwd and /etc/group below rootfs say; NULL: 0:0.  The files are the image's:
 * hostile.  -ENOENT engine.user. */
int ct_user_find(const char *rootfs, const char *user, struct ct_user *ret, struct err **e);

/* config.json; files: the folder that has resolv.conf, hosts and hostname for bind mounts. */
int ct_config(const struct engine_plan *p, const char *files, struct buf *out, struct err **e);
/* linux.resources alone, for update. */
int ct_resources(const struct engine_plan *p, struct buf *out, struct err **e);

#endif
