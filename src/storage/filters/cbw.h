/* Filter "cbw", copy before write: the first write to a cluster of the disk saves what was there in another image, and
 * goes on when that is stable.  With it a cow snapshot stays what it was, whatever happens when.
 *
 * The save image is a qcow2 whose backing file is the guarded image; it is opened here without it.  A write whose old
 * contents cannot be saved fails. */
#ifndef STORAGE_CBW_H
#define STORAGE_CBW_H

#include "storage/storage.h"

struct disk_node;

/* From now on the first changes of d's active image go to the image at `save`, which has no other user.  What it
 * holds already counts as saved.  Replaces a cbw filter that is there (whose image is then closed). */
int cbw_start(struct disk *d, const char *save, struct err **e);
/* Ends it, if there is one; the error of writing back its image. */
int cbw_stop(struct disk *d, struct err **e);

#endif
