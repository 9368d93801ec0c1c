/* From a rate to token buckets, see shape.h. */
#include "net/qos/shape.h"

#define ETH_HDR 14

/* Bits of IP traffic per second to bytes of frames per second: the kernel's buckets count Ethernet headers, people
 * count what their packets carry.  Exact for packets of the full size, which is what a limit is felt with. */
static uint64_t frame_rate(uint64_t bits, uint32_t mtu)
{
	return bits / 8 * (mtu + ETH_HDR) / mtu;
}

struct rtnl_tbf shape_of(const struct net_rate *r, uint32_t mtu)
{
	uint32_t packet = mtu + ETH_HDR + 4; /* with room for a VLAN tag */
	struct rtnl_tbf s = { .rate = frame_rate(r->average, mtu) };
	uint64_t burst = r->burst, limit;

	/* Without a burst of its own: 10 ms, so that a timer tick never starves the link, and so little at
	 * low rates that a test of some seconds does not see it. */
	if (!burst)
		burst = MAX(s.rate / 100, (uint64_t)8192);
	burst = MAX(burst, (uint64_t)packet);
	if (r->peak && r->peak > r->average) {
		s.peak = frame_rate(r->peak, mtu);
		s.peak_burst =
			(uint32_t)MIN(MAX(s.peak / 500, (uint64_t)packet * 2), (uint64_t)1 << 30);
	}
	s.burst = (uint32_t)MIN(burst, (uint64_t)1 << 30);
	/* What may wait: 100 ms, but enough for a few full windows' worth of segments at any rate. */
	limit = MAX(s.rate / 10, (uint64_t)packet * 128);
	s.limit = (uint32_t)MIN(limit + MIN(burst, (uint64_t)256 << 10), (uint64_t)1 << 30);
	return s;
}

static bool near(uint64_t a, uint64_t b)
{
	uint64_t d = a > b ? a - b : b - a;

	return d <= 64 + MAX(a, b) / 256; /* the kernel keeps sizes as times */
}

bool shape_same(const struct rtnl_tbf *want, const struct rtnl_tbf *have)
{
	return want->rate == have->rate && want->peak == have->peak && want->limit == have->limit &&
	       near(want->burst, have->burst) &&
	       (!want->peak || near(want->peak_burst, have->peak_burst));
}

bool shape_chokes(const struct rtnl_tbf *want, const struct rtnl_tbf *have)
{
	uint32_t fits = want->peak ? MIN(want->burst, want->peak_burst) : want->burst;
	uint32_t fitted = have->peak ? MIN(have->burst, have->peak_burst) : have->burst;

	return fits < fitted;
}
