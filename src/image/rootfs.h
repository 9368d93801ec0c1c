/* Root file systems from images: what a snapshotter does elsewhere.
 *
 * overlay: the unpacked layers as lower directories, shared by all (one copy on disk and in the page cache); a
 * private upper directory.  dir: a private full copy, for file systems and kernels without overlayfs, and for
 * making disks.  VMs get block devices instead: disks.h. */
#ifndef IMAGE_ROOTFS_H
#define IMAGE_ROOTFS_H

#include "image/store.h"

struct rootfs_spec {
	const char *dir; /* private to this instance, made when missing: holds upper/ and work/ */
	const char *target; /* existing directory to mount on */
	int userns_fd;	/* -1: none; else lower layers are seen through its id map (Linux 5.19) */
	bool readonly;	/* no upper directory at all */
	bool temporary; /* "volatile": no sync, lost at a crash */
};
/* Mounts in the calling thread's mount namespace; the image must be unpacked and held (hold_set).
 * -ENOTSUP: overlayfs refuses this file system or map, with its reason; use rootfs_copy(). */
int rootfs_mount(struct image_store *s, const struct image_parts *p, const struct rootfs_spec *spec,
		 struct err **e);
int rootfs_umount(const char *target, struct err **e);
/* All layers applied onto dirfd, which should be empty.  Needs the blobs only. */
int rootfs_copy(struct image_store *s, const struct image_parts *p, int dirfd, struct image_op *op,
		struct err **e);

#endif
