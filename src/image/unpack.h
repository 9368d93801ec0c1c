/* Unpacked layers in the store: layers/<hex of the DiffID>/{fs/, layer.json}, each made once, whatever images
 * share it, because its directory depends on its own tar alone and overlayfs puts them together.
 *
 * One exception: a layer whose tar lacks entries for some of its directories.  Theirs must look as in the layers
 * below, so on top of others it is kept a second time as layers/chain-<hex of the ChainID>.
 * Thread: any; the same layer asked for twice at once is made twice and kept once. */
#ifndef IMAGE_UNPACK_H
#define IMAGE_UNPACK_H

#include "image/layer.h"
#include "image/store.h"

#define LAYER_NAME_MAX (6 + 2 * HASH_MAX + 1)

/* Layer i alone, its blob being in the store.  Called for every layer in any order, also in parallel … */
int unpack_layer(struct image_store *s, const struct image_parts *p, size_t i, struct image_op *op,
		 struct err **e);
/* The same from bytes that are not in the store yet.  read gives 0 (the end) only once they are verified: the layer
 * appears right after it. */
int unpack_layer_from(struct image_store *s, const struct image_parts *p, size_t i,
		      stream_read_fn *read, void *arg, struct image_op *op, struct err **e);
/* … then this once: what depends on the layers below. */
int unpack_finish(struct image_store *s, const struct image_parts *p, struct image_op *op,
		  struct err **e);
/* Both for all layers, on up to `threads` threads (0: as many as CPUs). */
int unpack_image(struct image_store *s, const struct image_parts *p, unsigned int threads,
		 struct image_op *op, struct err **e);
bool unpack_done(struct image_store *s, const struct image_parts *p);
/* The name below layers/ that holds layer i for this image; only after the above. */
int unpack_name(struct image_store *s, const struct image_parts *p, size_t i,
		char name[LAYER_NAME_MAX], struct err **e);
/* Take over a directory below tmp/ that layer_unpack() filled as `fs` (import of a tarball). */
int unpack_adopt(struct image_store *s, const char *tmp, const struct layer_result *res,
		 struct err **e);
/* Size of the uncompressed tar of a layer that is unpacked; -ENOENT. */
int unpack_tar_size(struct image_store *s, const struct digest *diff_id, uint64_t *ret);

#endif
