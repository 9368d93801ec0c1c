/* Who uses what in the store, and removing what nobody uses.
 * A blob counts one reference for each manifest (or index, or name, or hold) that lists it. */
#ifndef IMAGE_GC_H
#define IMAGE_GC_H

#include "base/hmap.h"
#include "image/store.h"

struct usage_entry { /* a blob */
	struct hnode node;
	struct digest digest;
	uint64_t size;
	unsigned int refs;
};
struct usage_layer { /* a name below layers/ or disks/ that may stay */
	struct hnode node;
	char name[160];
};
struct usage {
	struct hmap blobs, layers;
};
/* Names and holds followed to their blobs.  Take no lock; for exact figures hold `lock`. */
int usage_scan(struct image_store *s, struct usage *ret, struct err **e);
void usage_done(struct usage *u);
unsigned int usage_refs(const struct usage *u, const struct digest *d);

struct gc_options {
	bool dry_run;
	nsec_t keep_parts; /* cut downloads younger than this stay; 0: none stay */
};
struct gc_result {
	uint64_t blobs, layers, disks, parts, temps; /* removed */
	uint64_t bytes;				     /* of blobs, disks and parts */
};
/* Waits for those who add (store_lock EX).  -EBADMSG: a manifest that a name points to is damaged: nothing removed. */
int gc_run(struct image_store *s, const struct gc_options *o, struct image_op *op,
	   struct gc_result *ret, struct err **e);

#endif
