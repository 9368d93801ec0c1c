/* What a VM that runs an OCI image needs: kernel, initramfs, disks, and the config for strata-init
 * (docs/internals/guest.md).  An engine starts it; this only prepares. */
#ifndef IMAGE_VMSPEC_H
#define IMAGE_VMSPEC_H

#include "image/disks.h"
#include "image/image.h"
#include "image/kernel.h"

struct vm_request {
	const char *dir;		   /* made; gets config.json, vm.json and upper.img */
	const char *kernel;		   /* version; NULL: the newest */
	const char *hostname, *user, *cwd; /* NULL: the image's */
	char *const *
		args; /* NULL: the image's entrypoint and command; else what follows the entrypoint */
	char *const *env;     /* added */
	char *const *network; /* "MAC,ADDRESS/LEN[,ADDRESS/LEN…][,GATEWAY…]" */
	uint64_t size;	      /* of the private disk; 0: memory */
	bool tty, attach, stay;
};
/* vm.json: {"kernel", "initrd", "append", "disks": [{"path", "serial", "readonly"}], "config": path}.
 * The image must be unpacked. */
int vm_prepare(struct image_store *s, const struct image_parts *p, const struct vm_request *q,
	       struct image_op *op, struct err **e);
/* The config alone, the caller's to free; disks: what disks_make() gave. */
int vm_config(const struct image_parts *p, const struct image_disk *disks, size_t n,
	      const struct vm_request *q, struct json **ret, struct err **e);

#endif
