/* Content hashes (nettle): what digests of blobs and layers are made with.
 * Thread: one at a time per struct. */
#ifndef EXT_HASH_H
#define EXT_HASH_H

#include "base/types.h"

enum hash_alg { HASH_SHA256, HASH_SHA512, HASH_SHA1 };

#define HASH_MAX 64 /* bytes of the longest result */

struct hash { /* private */
	enum hash_alg alg;
	uint64_t state[32];
};

void hash_init(struct hash *h, enum hash_alg alg);
void hash_update(struct hash *h, const void *data, size_t len);
/* Writes hash_size() bytes; h is ready for new data of the same algorithm afterwards. */
void hash_final(struct hash *h, uint8_t *out);
size_t hash_size(enum hash_alg alg);

/* One piece of data at once. */
void hash_data(enum hash_alg alg, const void *data, size_t len, uint8_t *out);

#endif
