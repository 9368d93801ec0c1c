/* Writing initramfs archives: the "newc" cpio of the kernel.   Spec: Documentation/driver-api/early-userspace/
 * buffer-format.rst.  Root owns everything, times are 0, inode numbers count up: equal input, equal bytes. */
#ifndef IMAGE_CPIO_H
#define IMAGE_CPIO_H

#include <sys/types.h>
#include "base/buf.h"

struct cpio {
	struct buf out; /* the archive so far */
	uint32_t ino;
};
/* Errors are sticky in out (buf_error). */
void cpio_dir(struct cpio *c, const char *path, mode_t mode);
void cpio_file(struct cpio *c, const char *path, mode_t mode, const void *data, size_t len);
void cpio_node(struct cpio *c, const char *path, mode_t mode, unsigned int major,
	       unsigned int minor);
void cpio_finish(struct cpio *c);

#endif
