/* Guest kernels: the distribution's own package, its vmlinuz, and an initramfs of virtio modules and strata-init.
 * In the store: kernels/<version>/{vmlinuz, initrd, kernel.json}. */
#ifndef IMAGE_KERNEL_H
#define IMAGE_KERNEL_H

#include "image/store.h"

struct kernel_options {
	const char *package; /* "linux-image-cloud-amd64"; NULL: that */
	const char *deb;     /* a .deb file instead of asking apt */
	const char *init;    /* strata-init; NULL: where it is installed, or beside this program */
};
/* version: at least 128 bytes, gets the name of the kernel. */
int kernel_install(struct image_store *s, const struct kernel_options *o, char *version,
		   struct image_op *op, struct err **e);

struct kernel_info {
	char version[128];
	char vmlinuz[4096], initrd[4096]; /* absolute paths */
};
/* Newest first; the caller frees *ret. */
int kernel_list(struct image_store *s, struct kernel_info **ret, size_t *n, struct err **e);
/* NULL: the newest.  -ENOENT. */
int kernel_find(struct image_store *s, const char *version, struct kernel_info *ret,
		struct err **e);
int kernel_remove(struct image_store *s, const char *version, struct err **e);

#endif
