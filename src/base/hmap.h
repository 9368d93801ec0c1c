/* Intrusive hash map: the node sits in your struct, the map owns only its bucket array.
 *
 *	struct port { struct hnode node; char *name; };
 *	hmap_add(&m, &p->node, hash_str(p->name));
 *	hmap_for_each (n, &m, hash_str(name)) { struct port *p = container_of(n, struct port, node); ... }
 *
 * Hashes are SipHash-1-3 under a key drawn once per process, so names chosen by a user cannot pile up in one
 * bucket.  Thread: one at a time.  Add never fails once hmap_init() worked: a bucket array that cannot grow
 * only makes the chains longer. */
#ifndef BASE_HMAP_H
#define BASE_HMAP_H

#include "base/types.h"

struct hnode {
	struct hnode *next;
	uint64_t hash;
};

struct hmap {
	struct hnode **buckets;
	size_t n, mask; /* entries; bucket count - 1 */
};

int hmap_init(struct hmap *m);	/* 0 or -ENOMEM */
void hmap_done(struct hmap *m); /* the nodes are the caller's; NULL or twice: no effect */
void hmap_add(struct hmap *m, struct hnode *n, uint64_t hash);
void hmap_remove(struct hmap *m, struct hnode *n); /* n must be in m */

uint64_t hash_bytes(const void *p, size_t len);
uint64_t hash_str(const char *s);
uint64_t hash_u64(uint64_t v);

/* Candidates with this hash; compare the key yourself.  Do not remove inside the loop and go on. */
static inline struct hnode *hmap_first_(const struct hmap *m, uint64_t hash)
{
	struct hnode *n = m->buckets ? m->buckets[hash & m->mask] : NULL;

	while (n && n->hash != hash)
		n = n->next;
	return n;
}
static inline struct hnode *hmap_next_(struct hnode *n)
{
	uint64_t hash = n->hash;

	do {
		n = n->next;
	} while (n && n->hash != hash);
	return n;
}
#define hmap_for_each(n, m, h) for (struct hnode *n = hmap_first_(m, h); n; n = hmap_next_(n))

/* Walk over all: start with NULL, ends with NULL.  The node returned may be removed before the next call
 * when the caller took its successor first. */
struct hnode *hmap_walk(const struct hmap *m, const struct hnode *n);

#endif
