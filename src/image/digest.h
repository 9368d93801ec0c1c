/* Content digests, "sha256:<hex>" or "sha512:<hex>".      Spec: OCI image-spec 1.1, descriptor.md "Digests".
 * A struct digest is always valid or empty (s[0] == 0); its text is safe as a file name after the colon. */
#ifndef IMAGE_DIGEST_H
#define IMAGE_DIGEST_H

#include "base/str.h"
#include "ext/hash.h"

#define DIGEST_MAX (7 + 2 * HASH_MAX + 1)

struct digest {
	char s[DIGEST_MAX];
};

/* -EINVAL: not one of the two algorithms, wrong length, or upper-case digits (which the spec forbids). */
int digest_parse(const char *s, struct digest *ret);
enum hash_alg digest_alg(const struct digest *d);
const char *digest_hex(const struct digest *d); /* the part behind the colon */
/* The first 12 digits, what people see; buf gets at least 13 bytes; returns buf. */
char *digest_short(const struct digest *d, char *buf);
void digest_from_hash(enum hash_alg alg, const uint8_t *raw, struct digest *ret);
/* Finish h. */
void digest_final(struct hash *h, struct digest *ret);
void digest_of(const void *data, size_t len, struct digest *ret); /* sha256 */

static inline bool digest_eq(const struct digest *a, const struct digest *b)
{
	return streq(a->s, b->s);
}
static inline bool digest_empty(const struct digest *d)
{
	return d->s[0] == '\0';
}

#endif
