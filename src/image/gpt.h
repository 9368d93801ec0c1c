/* GUID partition tables on a fresh disk image, with the protective MBR.      Spec: UEFI 2.10, chapter 5.3
 * 512-byte sectors, 128 entries, one copy at each end.  Thread: any. */
#ifndef IMAGE_GPT_H
#define IMAGE_GPT_H

#include "base/err.h"
#include "base/uuid.h"

#define GPT_SECTOR 512u
#define GPT_ALIGN \
	(1024 * 1024u) /* where partitions begin; also what the table itself takes at each end */
#define GPT_TYPE_BIOS_BOOT "21686148-6449-6e6f-744e-656564454649"
#define GPT_TYPE_ESP	   "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
#define GPT_TYPE_ROOT_X86 \
	"4f68bce3-e8cd-4db1-96e7-fbcaf984b709" /* Discoverable Partitions Specification */

struct gpt_part {
	const char *type; /* one of the above */
	const char *name; /* ASCII, at most 35 */
	struct uuid id;
	uint64_t start, size; /* bytes, whole sectors */
};
/* Writes sector 0 (its boot code stays what it is), both headers and both tables of a disk of `size` bytes.
 * Parts in the order of their numbers.  -EINVAL: they do not fit, or overlap. */
int gpt_write(int fd, uint64_t size, const struct gpt_part *parts, size_t n, struct err **e);

#endif
