/* Writing tar archives: POSIX pax (IEEE 1003.1-2001), only what exports need.  Everything is owned by root, times
 * are given, so that equal content gives an equal archive.  Thread: one at a time. */
#ifndef IMAGE_TARW_H
#define IMAGE_TARW_H

#include "ext/compress.h"

struct tarw { /* private*/
	stream_write_fn *write;
	void *arg;
	uint64_t left; /* of the present file */
	unsigned int pad;
};

void tarw_init(struct tarw *t, stream_write_fn *write, void *arg);
/* Then exactly size bytes of tarw_data(). */
int tarw_file(struct tarw *t, const char *path, uint32_t mode, uint64_t size, int64_t mtime,
	      struct err **e);
int tarw_data(struct tarw *t, const void *data, size_t len, struct err **e);
int tarw_dir(struct tarw *t, const char *path, uint32_t mode, int64_t mtime, struct err **e);
int tarw_finish(struct tarw *t, struct err **e);

#endif
