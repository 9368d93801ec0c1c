/* Randomness: the kernel's for keys and ids, a seeded generator for tests and simulations. */
#ifndef BASE_RAND_H
#define BASE_RAND_H

#include "base/types.h"

/* Fill from getrandom(2).  Cannot fail on the kernels that we run on (aborts if it does: there is no safe
 * way to go on without randomness). */
void rand_bytes(void *p, size_t len);
uint64_t rand_u64(void);

/* xoshiro256** (Blackman, Vigna 2018), seeded by splitmix64: same seed, same numbers, everywhere. */
struct prng {
	uint64_t s[4];
};
void prng_seed(struct prng *r, uint64_t seed);
uint64_t prng_next(struct prng *r);
uint64_t prng_below(struct prng *r, uint64_t n); /* uniform in [0, n); n > 0 */

#endif
