/* A bootable disk from an image of the store: the same files, plus a kernel, an init and a boot loader.
 *
 *	GPT: 1 BIOS boot (GRUB's core), 2 EFI system partition, 3 root (ext4, to the end: it can grow)
 *
 * What the image lacks (kernel, systemd, cloud-init, an ssh server) its own apt-get installs, inside a container of
 * strata-oci that shares nothing with the host but the network; an image that holds a kernel is taken as it is.  No
 * loop device, no mount, and nothing of the image runs outside that container.
 * Thread: any; blocks for minutes (downloads). */
#ifndef IMAGE_BOOTDISK_H
#define IMAGE_BOOTDISK_H

#include "image/store.h"

struct bootdisk_options {
	uint64_t size;		     /* of the disk in bytes; 0: 4 GiB.  Whole MiB */
	const char *format;	     /* as foreign_convert(); NULL: qcow2 */
	const char *kernel;	     /* package; NULL: linux-image-cloud-amd64 */
	const char *cmdline;	     /* added to the kernel's; may be NULL */
	const char *const *packages; /* more of them; may be NULL */
};
/* name: an image of the store; path: made, must not exist.
 * -ENOTSUP "image.no_kernel": it has neither a kernel nor apt-get. */
int bootdisk_make(struct image_store *s, const char *name, const char *path,
		  const struct bootdisk_options *o, struct image_op *op, struct err **e);

#endif
