/* What the runtime remembers of a container between two commands: ROOT/<id>/ with
 *	status.json   pid, start time, bundle, cgroups, ... (below), replaced by rename
 *	config.json   the configuration as it was at `create`: later changes in the bundle must not matter
 *	start.sock    as long as the container waits for `start`
 *
 * Written before anything is made outside of ROOT, so that `delete --force` can clean up after a kill at any moment.
 * The folder is on tmpfs by default; nothing here has to survive a power loss, so nothing is synced. */
#ifndef CONTAINER_STATUS_H
#define CONTAINER_STATUS_H

#include <sys/types.h>
#include "base/err.h"
#include "container/arena.h"
#include "container/cgroup/cgroup.h"
#include "container/spec.h"

enum ct_status { CT_CREATING, CT_CREATED, CT_RUNNING, CT_PAUSED, CT_STOPPED };
extern const char *const ct_status_names[];

struct container {
	struct arena arena;
	const char *id, *root; /* root: the runtime's folder */
	int dir;	       /* ROOT/<id>, -1: not open */
	pid_t pid;	       /* 0: not yet */
	uint64_t start;	       /* of pid, see sys/proc.h */
	const char *bundle, *rootfs, *created, *owner, *oci_version;
	char **cgroup_paths;
	const char *scope, *slice; /* systemd's names; NULL: not by systemd */
	bool cgroup_disabled, cgroup_joined, rootless;
	unsigned int ns_flags; /* namespaces that `exec` joins */
	struct kvs annotations;
	const char *config_text; /* after container_config() */
	size_t config_len;
	const char *
		mounts_below; /* without a mount namespace: the root's path, where our mount of it lies; or NULL */
	int32_t mount_id; /* of that mount */
};

bool container_id_valid(const char *id);
/* Make ROOT/<id>; -EEXIST when the container exists. */
int container_create_dir(struct container *c, const char *root, const char *id, struct err **e);
int container_save(struct container *c, struct err **e);
int container_save_config(struct container *c, const char *text, size_t len, struct err **e);
/* -ENOENT: no such container. */
int container_load(struct container *c, const char *root, const char *id, struct err **e);
int container_load_config(struct container *c, struct spec *s, struct err **e);
int container_load_cgroups(struct container *c, struct cgroups *ret, struct err **e);
enum ct_status container_status(struct container *c);
/* A pidfd of the first process; -ESRCH when it is gone. */
int container_pidfd(struct container *c);
void container_remove_dir(struct container *c);
void container_done(struct container *c);
/* The state object of the specification (hooks, `state`). */
void container_state_json(struct container *c, const char *status, bool full, struct buf *out);
/* Names of the folders under root that look like containers; NULL-terminated, malloc'ed. */
char **container_list(const char *root, struct err **e);

#endif
