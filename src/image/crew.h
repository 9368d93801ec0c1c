/* Threads that unpack the layers of one image while these still download: each layer's tar is read from its part file
 * as far as that has come.
 *
 * What is unpacked early is not believed early: the end of a stream is only delivered once its blob was verified, so
 * no layer is published before; and an error met on the way counts only if the verified blob gives it again.
 * Thread: crew_* by the thread that downloads. */
#ifndef IMAGE_CREW_H
#define IMAGE_CREW_H

#include "image/store.h"

struct crew;
/* All arguments are borrowed until crew_join(). */
int crew_new(struct image_store *s, const struct image_parts *p, struct image_op *op,
	     struct crew **ret, struct err **e);
/* A download of layer i begins (again): fd is its part file, of which `size` bytes are good. */
void crew_arrives(struct crew *c, size_t i, int fd, uint64_t size);
void crew_advance(struct crew *c, size_t i, uint64_t size);
/* What came so far is not good; crew_advance() or crew_arrives() follows.  Call it before the file is cut. */
void crew_restart(struct crew *c, size_t i);
/* Layer i's blob is in the store, verified. */
void crew_ready(struct crew *c, size_t i);
/* An error made the rest pointless; crew_join() tells which. */
bool crew_failed(struct crew *c);
/* Wait until all is unpacked and free c.  drop: stop instead; 0 then. */
int crew_join(struct crew *c, bool drop, struct err **e);

#endif
