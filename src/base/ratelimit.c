/* Token bucket; see ratelimit.h.  Invariant: rest < rate (or 0 while unlimited). */
#include "base/ratelimit.h"

#include "base/checked.h"

void ratelimit_init(struct ratelimit *r, uint64_t rate, uint64_t burst)
{
	*r = (struct ratelimit){ .rate = rate, .burst = burst };
}

/* n / rate seconds in nanoseconds, at most a few hundred years */
static nsec_t cost_of(uint64_t n, uint64_t rate)
{
	unsigned __int128 ns = (unsigned __int128)n * NSEC_PER_SEC / rate;

	return ns > (unsigned __int128)(NSEC_FOREVER / 4) ? NSEC_FOREVER / 4 : (nsec_t)ns;
}

void ratelimit_set(struct ratelimit *r, uint64_t rate, uint64_t burst, nsec_t now)
{
	/* scale the debt: tokens owed stay the same number, their price in time changes */
	if (r->rate && rate && r->free_at > now) {
		unsigned __int128 debt = (unsigned __int128)(r->free_at - now) * r->rate / rate;

		r->free_at = now + (nsec_t)MIN(debt, (unsigned __int128)(NSEC_FOREVER / 4));
	} else {
		r->free_at = now;
	}
	r->rest = 0;
	r->rate = rate;
	r->burst = burst;
}

void ratelimit_force(struct ratelimit *r, uint64_t n, nsec_t now)
{
	unsigned __int128 t;

	if (r->rate == 0)
		return;
	if (r->free_at < now) {
		r->free_at = now;
		r->rest = 0;
	}
	t = (unsigned __int128)n * NSEC_PER_SEC + r->rest;
	r->rest = (uint64_t)(t % r->rate);
	t /= r->rate;
	if (t > (unsigned __int128)(NSEC_FOREVER / 2 - r->free_at))
		r->free_at = NSEC_FOREVER / 2;
	else
		r->free_at += (nsec_t)t;
}

nsec_t ratelimit_wait(const struct ratelimit *r, uint64_t n, nsec_t now)
{
	nsec_t depth, full, debt;

	if (r->rate == 0 || n == 0)
		return 0;
	depth = cost_of(MAX(r->burst, (uint64_t)1), r->rate);
	debt = MAX(r->free_at - now, (nsec_t)0);
	/* the bucket holds `depth`; n must fit beside the debt, or the debt must be gone */
	full = MIN(cost_of(n, r->rate), depth);
	return MAX(debt + full - depth, (nsec_t)0);
}

nsec_t ratelimit_take(struct ratelimit *r, uint64_t n, nsec_t now)
{
	nsec_t wait = ratelimit_wait(r, n, now);

	if (wait == 0)
		ratelimit_force(r, n, now);
	return wait;
}
