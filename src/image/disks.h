/* Layers as read-only block images, for VMs: disks/<layer name>.erofs, made once per layer by mkfs.erofs and shared,
 * like the layers' directories, by all images and instances (one copy on disk and in the host's page cache).
 * EROFS because the cloud kernels have it, it needs no journal, and it is made without compressing. */
#ifndef IMAGE_DISKS_H
#define IMAGE_DISKS_H

#include "image/store.h"

struct image_disk {
	char path[4096]; /* absolute */
	char serial[24]; /* for virtio-blk: "layer0" is the lowest */
};
/* Virtio-blk devices are few: an image with more layers than this becomes one disk as a whole. */
#define IMAGE_DISKS_MAX 12

/* The disks of an unpacked image, lowest first; *n of at most IMAGE_DISKS_MAX.  Missing ones are made. */
int disks_make(struct image_store *s, const struct image_parts *p,
	       struct image_disk ret[IMAGE_DISKS_MAX], size_t *n, struct image_op *op,
	       struct err **e);
/* The private writable disk of an instance: a sparse file with an empty ext4. */
int disks_make_upper(const char *path, uint64_t size, struct image_op *op, struct err **e);

#endif
