/* From a rate as people give it to token buckets.  Pure. */
#ifndef NET_QOS_SHAPE_H
#define NET_QOS_SHAPE_H

#include "net/net.h"

struct shape { /* what a token bucket filter takes: bytes and bytes per second of Ethernet frames */
	uint64_t rate, peak; /* peak 0: none */
	uint32_t burst, peak_burst, limit;
};
/* r->average is not 0. */
struct shape shape_of(const struct net_rate *r, uint32_t mtu);

#endif
