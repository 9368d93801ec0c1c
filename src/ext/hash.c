/* nettle behind ext/hash.h: nothing of it is visible to callers. */
#include "ext/hash.h"

#include <nettle/sha1.h>
#include <nettle/sha2.h>

_Static_assert(sizeof(struct sha512_ctx) <= sizeof(((struct hash *)0)->state),
	       "state is too small");
_Static_assert(sizeof(struct sha256_ctx) <= sizeof(((struct hash *)0)->state),
	       "state is too small");
_Static_assert(sizeof(struct sha1_ctx) <= sizeof(((struct hash *)0)->state), "state is too small");

void hash_init(struct hash *h, enum hash_alg alg)
{
	h->alg = alg;
	switch (alg) {
	case HASH_SHA256:
		sha256_init((struct sha256_ctx *)h->state);
		break;
	case HASH_SHA512:
		sha512_init((struct sha512_ctx *)h->state);
		break;
	case HASH_SHA1:
		sha1_init((struct sha1_ctx *)h->state);
		break;
	}
}

void hash_update(struct hash *h, const void *data, size_t len)
{
	switch (h->alg) {
	case HASH_SHA256:
		sha256_update((struct sha256_ctx *)h->state, len, data);
		break;
	case HASH_SHA512:
		sha512_update((struct sha512_ctx *)h->state, len, data);
		break;
	case HASH_SHA1:
		sha1_update((struct sha1_ctx *)h->state, len, data);
		break;
	}
}

void hash_final(struct hash *h, uint8_t *out)
{
	switch (h->alg) {
	case HASH_SHA256:
		sha256_digest((struct sha256_ctx *)h->state, SHA256_DIGEST_SIZE, out);
		break;
	case HASH_SHA512:
		sha512_digest((struct sha512_ctx *)h->state, SHA512_DIGEST_SIZE, out);
		break;
	case HASH_SHA1:
		sha1_digest((struct sha1_ctx *)h->state, SHA1_DIGEST_SIZE, out);
		break;
	}
}

size_t hash_size(enum hash_alg alg)
{
	switch (alg) {
	case HASH_SHA256:
		return SHA256_DIGEST_SIZE;
	case HASH_SHA512:
		return SHA512_DIGEST_SIZE;
	case HASH_SHA1:
		return SHA1_DIGEST_SIZE;
	}
	return 0;
}

void hash_data(enum hash_alg alg, const void *data, size_t len, uint8_t *out)
{
	struct hash h;

	hash_init(&h, alg);
	hash_update(&h, data, len);
	hash_final(&h, out);
}
