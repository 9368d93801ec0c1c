/* Intrusive hash map with chaining; doubles at load factor 1. */
#include "base/hmap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <pthread.h>
#include "base/rand.h"

int hmap_init(struct hmap *m)
{
	m->buckets = calloc(16, sizeof(*m->buckets));
	m->n = 0;
	m->mask = 15;
	return m->buckets ? 0 : -ENOMEM;
}

void hmap_done(struct hmap *m)
{
	if (!m)
		return;
	free(m->buckets);
	*m = (struct hmap){ 0 };
}

static void grow(struct hmap *m)
{
	size_t mask = m->mask * 2 + 1;
	struct hnode **b = calloc(mask + 1, sizeof(*b));

	if (!b)
		return;
	for (size_t i = 0; i <= m->mask; i++) {
		struct hnode *next;

		for (struct hnode *n = m->buckets[i]; n; n = next) {
			next = n->next;
			n->next = b[n->hash & mask];
			b[n->hash & mask] = n;
		}
	}
	free(m->buckets);
	m->buckets = b;
	m->mask = mask;
}

void hmap_add(struct hmap *m, struct hnode *n, uint64_t hash)
{
	struct hnode **b;

	if (m->n > m->mask)
		grow(m);
	b = &m->buckets[hash & m->mask];
	n->hash = hash;
	n->next = *b;
	*b = n;
	m->n++;
}

void hmap_remove(struct hmap *m, struct hnode *n)
{
	struct hnode **p = &m->buckets[n->hash & m->mask];

	while (*p != n)
		p = &(*p)->next;
	*p = n->next;
	n->next = NULL;
	m->n--;
}

struct hnode *hmap_walk(const struct hmap *m, const struct hnode *n)
{
	size_t i = 0;

	if (!m->buckets)
		return NULL;
	if (n) {
		if (n->next)
			return n->next;
		i = (n->hash & m->mask) + 1;
	}
	for (; i <= m->mask; i++) {
		if (m->buckets[i])
			return m->buckets[i];
	}
	return NULL;
}

/* SipHash-1-3 (Aumasson, Bernstein 2012). */
static uint64_t sip_key[2];
static pthread_once_t sip_once = PTHREAD_ONCE_INIT;

static void sip_init(void)
{
	rand_bytes(sip_key, sizeof(sip_key));
}

#define ROTL(x, b) (((x) << (b)) | ((x) >> (64 - (b))))
#define SIPROUND                        \
	do {                            \
		v0 += v1;               \
		v1 = ROTL(v1, 13) ^ v0; \
		v0 = ROTL(v0, 32);      \
		v2 += v3;               \
		v3 = ROTL(v3, 16) ^ v2; \
		v0 += v3;               \
		v3 = ROTL(v3, 21) ^ v0; \
		v2 += v1;               \
		v1 = ROTL(v1, 17) ^ v2; \
		v2 = ROTL(v2, 32);      \
	} while (0)

uint64_t hash_bytes(const void *p, size_t len)
{
	const unsigned char *in = p;
	uint64_t v0, v1, v2, v3, m, last = (uint64_t)len << 56;
	size_t i;

	pthread_once(&sip_once, sip_init);
	v0 = sip_key[0] ^ 0x736f6d6570736575ULL;
	v1 = sip_key[1] ^ 0x646f72616e646f6dULL;
	v2 = sip_key[0] ^ 0x6c7967656e657261ULL;
	v3 = sip_key[1] ^ 0x7465646279746573ULL;
	for (i = 0; i + 8 <= len; i += 8) {
		memcpy(&m, in + i, 8);
		v3 ^= m;
		SIPROUND;
		v0 ^= m;
	}
	m = 0;
	if (len > i)
		memcpy(&m, in + i, len - i);
	m |= last;
	v3 ^= m;
	SIPROUND;
	v0 ^= m;
	v2 ^= 0xff;
	SIPROUND;
	SIPROUND;
	SIPROUND;
	return v0 ^ v1 ^ v2 ^ v3;
}

uint64_t hash_str(const char *s)
{
	return hash_bytes(s, strlen(s));
}

uint64_t hash_u64(uint64_t v)
{
	return hash_bytes(&v, sizeof(v));
}
