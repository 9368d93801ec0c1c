/* The container's file system tree: mounts, devices, masked and read-only paths, and the move into it.
 *
 * Everything runs in the container's first process, in its mount namespace.  A target is found by openat2() inside the root
 * descriptor and mounts are attached to descriptors, so nothing an image contains can lead outside.  Sources are the
 * host's paths.  Order: rootfs_enter(), rootfs_mounts(), rootfs_devices(), rootfs_console(), rootfs_protect(),
 * rootfs_pivot(). */
#ifndef CONTAINER_ROOTFS_H
#define CONTAINER_ROOTFS_H

#include "base/err.h"
#include "container/cgroup/cgroup.h"
#include "container/spec.h"

struct rootfs {
	const struct spec *s;
	const char *path; /* of the root on the host, absolute */
	const struct cgroups *cg;
	bool user_ns; /* we are root only in a user namespace */
	bool cgroup_ns, no_pivot;
	int *trees; /* one for each mount of s: a prepared bind, or -1 */
	int tree;   /* the root as a detached tree, prepared by the runtime; or -1 */
	int rootfd;
	int empty_dir;	    /* the read-only tmpfs for masked folders; -1: not made yet */
	bool at_path;	    /* attach the root at its path, where hooks look for it */
	bool dev_read_only; /* once everything in it is made */
	bool dev_is_bind;   /* the host's /dev: nothing is made in it */
};

/* The source of a bind mount as a detached tree with all its attributes.  Also used by the runtime itself for containers
 * with a user namespace, which may not reach the source and may not map ids. */
int bind_prepare(const struct spec *s, const struct spec_mount *m, bool from_host, struct err **e);

/* The root as a detached tree; from_host: nothing mounted in it may appear on the host. */
int rootfs_prepare(const char *path, bool from_host, struct err **e);
/* Without a mount namespace: a private mount of the root on itself, so that all that is mounted in it goes with it.  named() is
 * called with its mount id before it is attached. */
int rootfs_bind(const char *path, int (*named)(void *arg, int id, struct err **e), void *arg,
		struct err **e);
/* Detach what rootfs_bind() made, if it is still there. */
void rootfs_unbind(const char *path, int id);
int rootfs_enter(struct rootfs *r, struct err **e);
int rootfs_mounts(struct rootfs *r, struct err **e);
int rootfs_devices(struct rootfs *r, struct err **e);
int rootfs_console(struct rootfs *r, int slave, struct err **e);
int rootfs_protect(struct rootfs *r, struct err **e);
int rootfs_pivot(struct rootfs *r, struct err **e);
/* Copy what lies below from into to (folders, files, links, nodes, with owner and mode); tmpcopyup. */
int copy_tree(int from, int to, struct err **e);

#endif
