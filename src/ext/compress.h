/* Compressed streams: gzip (zlib) and Zstandard, both directions, any size, constant memory.
 *
 * Reading pulls: the caller gives a function that delivers compressed bytes.  Writing pushes.  Concatenated
 * members and frames are one stream, as RFC 1952 2.2 and RFC 8878 3.1 want; garbage after the last one is
 * -EBADMSG, as is a stream that ends early.  Thread: one at a time per stream; different streams are independent. */
#ifndef EXT_COMPRESS_H
#define EXT_COMPRESS_H

#include <sys/types.h>
#include "base/err.h"

enum compression { COMP_NONE, COMP_GZIP, COMP_ZSTD };

/* What the first bytes of a file say; COMP_NONE for anything unknown. */
enum compression compression_detect(const void *head, size_t len);

/* Up to len bytes, 0 at the end, -errno with *e set. */
typedef ssize_t stream_read_fn(void *arg, void *data, size_t len, struct err **e);
/* All of len, or -errno. */
typedef int stream_write_fn(void *arg, const void *data, size_t len, struct err **e);

struct decomp;
int decomp_new(enum compression c, stream_read_fn *read, void *arg, struct decomp **ret,
	       struct err **e);
/* Fills as much of len as there is: short only at the end, 0 when there is nothing more. */
ssize_t decomp_read(struct decomp *d, void *data, size_t len, struct err **e);
uint64_t decomp_in(const struct decomp *d); /* compressed bytes taken so far */
void decomp_free(struct decomp *d);
DEFINE_CLEANUP(struct decomp *, decomp_free);

struct comp;
/* level: 0 means the usual one of the algorithm.  gzip streams carry no name and no time, so equal input gives
 * equal output. */
int comp_new(enum compression c, int level, stream_write_fn *write, void *arg, struct comp **ret,
	     struct err **e);
int comp_write(struct comp *c, const void *data, size_t len, struct err **e);
int comp_finish(struct comp *c, struct err **e); /* once; the rest of the output is written */
void comp_free(struct comp *c);
DEFINE_CLEANUP(struct comp *, comp_free);

#endif
