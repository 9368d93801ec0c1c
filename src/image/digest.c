/* Digests as text; the hashing is ext/hash.h's. */
#include "image/digest.h"

int digest_parse(const char *s, struct digest *ret)
{
	size_t want, i;

	if (str_starts(s, "sha256:"))
		want = 64;
	else if (str_starts(s, "sha512:"))
		want = 128;
	else
		return -EINVAL;
	for (i = 7; s[i]; i++) {
		if (i >= 7 + want || !strchr("0123456789abcdef", s[i]))
			return -EINVAL;
	}
	if (i != 7 + want)
		return -EINVAL;
	memcpy(ret->s, s, i + 1);
	return 0;
}

enum hash_alg digest_alg(const struct digest *d)
{
	return str_starts(d->s, "sha512:") ? HASH_SHA512 : HASH_SHA256;
}

const char *digest_hex(const struct digest *d)
{
	return digest_empty(d) ? "" : d->s + 7;
}

char *digest_short(const struct digest *d, char *buf)
{
	snprintf(buf, 13, "%.12s", digest_hex(d));
	return buf;
}

void digest_from_hash(enum hash_alg alg, const uint8_t *raw, struct digest *ret)
{
	memcpy(ret->s, alg == HASH_SHA512 ? "sha512:" : "sha256:", 7);
	hex_encode(raw, hash_size(alg), ret->s + 7);
}

void digest_final(struct hash *h, struct digest *ret)
{
	uint8_t raw[HASH_MAX];

	hash_final(h, raw);
	digest_from_hash(h->alg, raw, ret);
}

void digest_of(const void *data, size_t len, struct digest *ret)
{
	uint8_t raw[HASH_MAX];

	hash_data(HASH_SHA256, data, len, raw);
	digest_from_hash(HASH_SHA256, raw, ret);
}
