/* Token bucket: `rate` tokens per second flow into a bucket that holds `burst`.
 *
 * The state is one time stamp (the generic cell rate algorithm), exact to the nanosecond: no refill timer, no
 * rounding that starves slow rates or small refill times.  Units (I/O operations, bytes, log lines) are the
 * caller's.  Thread: one at a time. */
#ifndef BASE_RATELIMIT_H
#define BASE_RATELIMIT_H

#include "base/types.h"

struct ratelimit {
	uint64_t rate;	/* tokens per second; 0: unlimited */
	uint64_t burst; /* tokens that may pass at once after idling; at least 1 is used */
	nsec_t free_at; /* the time at which the bucket is full again */
	uint64_t rest;	/* part of free_at below a nanosecond, in units of 1/rate ns */
	uint64_t suppressed;
};

void ratelimit_init(struct ratelimit *r, uint64_t rate, uint64_t burst);
/* New limits from `now` on; what was borrowed stays borrowed. */
void ratelimit_set(struct ratelimit *r, uint64_t rate, uint64_t burst, nsec_t now);
/* 0: n tokens may pass now and are taken.  Else: nanoseconds to wait, nothing taken.  A request larger than the
 * burst passes when the bucket is full and is paid off afterwards, so it is never stuck. */
nsec_t ratelimit_take(struct ratelimit *r, uint64_t n, nsec_t now);
/* What ratelimit_take() would return; nothing is taken. */
nsec_t ratelimit_wait(const struct ratelimit *r, uint64_t n, nsec_t now);
/* Take without asking (work that was done already); the debt delays what follows. */
void ratelimit_force(struct ratelimit *r, uint64_t n, nsec_t now);

#endif
