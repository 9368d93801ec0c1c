/* The parts of an OVF descriptor that matter to an import.     Spec: DMTF DSP0243 1.1 and 2.1
 * Trust: hostile.  The XML reader knows no entities but the five of XML, no DTD, no external anything; sizes and
 * counts are bounded; file names that are more than a name are refused. */
#ifndef IMAGE_OVF_H
#define IMAGE_OVF_H

#include "base/err.h"
#include "base/types.h"

#define OVF_DISKS_MAX 64

struct ovf_disk {
	char file[256];	   /* beside the descriptor; never with a '/' */
	uint64_t capacity; /* bytes */
};
struct ovf {
	char name[256];
	uint64_t cpus, memory, nics; /* 0: not said; memory in bytes */
	struct ovf_disk disks[OVF_DISKS_MAX];
	size_t n_disks;
};
int ovf_parse(const char *text, size_t len, struct ovf *ret, struct err **e);

#endif
