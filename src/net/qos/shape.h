/* From a rate as people give it to token buckets.  Pure. */
#ifndef NET_QOS_SHAPE_H
#define NET_QOS_SHAPE_H

#include "net/net.h"
#include "sys/rtnl.h"

/* The token bucket filter of a rate; it counts bytes of Ethernet frames. */
/* r->average is not 0. */
struct rtnl_tbf shape_of(const struct net_rate *r, uint32_t mtu);
/* Is what is there the same, but for rounding? */
bool shape_same(const struct rtnl_tbf *want, const struct rtnl_tbf *have);
/* Could packets that wait there be too large for the wanted buckets, and so wait for ever? */
bool shape_chokes(const struct rtnl_tbf *want, const struct rtnl_tbf *have);

#endif
