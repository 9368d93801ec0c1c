/* What a disk may take: operations and bytes a second, of reads, of writes and of both, each with bursts.  Pure
 * arithmetic on a given time.
 *
 * A limit lets `rate` pass on average.  With `max` set, up to `max` a second pass for at most `length` once the limit
 * has been idle for long enough; without, what was not used in the last 100 ms may be caught up on.
 * Thread: one at a time. */
#ifndef STORAGE_LIMITS_H
#define STORAGE_LIMITS_H

#include "base/err.h"
#include "base/ratelimit.h"

enum limit_kind { /* total, read, write of operations, then of bytes */
		  LIMIT_IOPS_TOTAL,
		  LIMIT_IOPS_READ,
		  LIMIT_IOPS_WRITE,
		  LIMIT_BPS_TOTAL,
		  LIMIT_BPS_READ,
		  LIMIT_BPS_WRITE,
		  LIMIT_KINDS
};

struct limit {
	uint64_t rate, max; /* a second; 0: none */
	nsec_t length;	    /* of a burst; 0: 1 s */
	struct ratelimit mean, peak;
};

struct limits {
	struct limit v[LIMIT_KINDS];
	bool any; /* one of them is set */
};

/* "iops-total", "bps-read-max", "iops-write-length" and so on; sizes and durations as people type them.  -ENOENT: no
 * such name, -EINVAL "disk.limit-value".  Takes effect at once; what was borrowed stays borrowed. */
int limits_set(struct limits *l, const char *name, const char *value, nsec_t now, struct err **e);
/* A maximum below its rate and a length without a maximum make no sense; after the last of several limits_set(). */
int limits_check(const struct limits *l, struct err **e);
/* 0: a request may pass now (take it); else how long it has to wait, nothing else coming in between. */
nsec_t limits_wait(const struct limits *l, bool write, uint64_t bytes, nsec_t now);
void limits_take(struct limits *l, bool write, uint64_t bytes, nsec_t now);

/* For option tables: the names, NULL at the end. */
extern const char *const limit_names[];

#endif
