/* Disk images of other products: qcow2, raw, vmdk, vpc (VHD), vhdx, vdi, and OVA, through qemu-img.
 *
 * Trust: an image from outside may name other files (backing file, data file, extents, parent) and so read the
 * host.  Such images are refused by our own look at the header, before qemu-img sees them, and qemu-img is always
 * told the format, so that it never guesses. */
#ifndef IMAGE_FOREIGN_H
#define IMAGE_FOREIGN_H

#include "image/op.h"
#include "image/ovf.h"

/* "qcow2", "vmdk", "vpc", "vhdx", "vdi" or "raw", as the content says.  -EPERM "image.refers_out": it wants other
 * files; -ENOTSUP; -errno. */
int foreign_probe(int fd, const char **format, struct err **e);
/* from -> to (made, must not exist).  from_format NULL: as probed; said: must agree, but "raw" is always believed
 * and never looked at.  to_format: one of the above; NULL: qcow2. */
int foreign_convert(const char *from, const char *from_format, const char *to,
		    const char *to_format, struct image_op *op, struct err **e);
/* The same with options of qemu-img's for the target ("subformat=streamOptimized"); to_format is not NULL. */
int foreign_convert_as(const char *from, const char *from_format, const char *to,
		       const char *to_format, const char *options, struct image_op *op,
		       struct err **e);
/* Disks of an OVA (or of the folder of an .ovf) become <dir>/disk<n>.qcow2; *ret says what the machine was. */
int foreign_import_ova(const char *path, const char *dir, struct ovf *ret, struct image_op *op,
		       struct err **e);
/* The way back: a machine as an OVA (OVF 1.1 descriptor, SHA-256 manifest, stream-optimised vmdk), which VirtualBox,
 * VMware and the importer above read.  path: made, must not exist. */
struct ova_machine {
	const char *name;
	uint64_t cpus, memory; /* 0: 1, 1 GiB; memory in bytes */
	unsigned int nics;
	const char *const *disks; /* paths, in any known format; at most OVF_DISKS_MAX */
};
int foreign_export_ova(const struct ova_machine *m, const char *path, struct image_op *op,
		       struct err **e);

#endif
