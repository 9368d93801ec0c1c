/* Traffic control through rtnetlink, see rtnl.h. */
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/tc_act/tc_mirred.h>
#include <string.h>
#include <sys/socket.h>
#include "sys/rtnl.h"

/* The kernel keeps bucket depths as time in ticks of 64 ns (PSCHED_SHIFT 6). */
#define TICK_NS 64

static struct nlmsghdr *tc_msg(struct nl_batch *b, uint16_t type, unsigned int flags, int index,
			       uint32_t parent, uint32_t handle, struct tcmsg **ret)
{
	struct nlmsghdr *h = nl_msg(b, type, flags);
	struct tcmsg *m;

	if (!h)
		return NULL;
	m = mnl_nlmsg_put_extra_header(h, sizeof(*m));
	m->tcm_family = AF_UNSPEC;
	m->tcm_ifindex = index;
	m->tcm_parent = parent;
	m->tcm_handle = handle;
	if (ret)
		*ret = m;
	return h;
}

/* Rate tables are a relic that user space must still send, 256 times: time for packets of size i << log. */
static void put_rate(struct nlmsghdr *h, uint16_t type, struct tc_ratespec *spec, uint64_t rate)
{
	uint32_t table[256];

	spec->linklayer = TC_LINKLAYER_ETHERNET;
	spec->cell_align = -1;
	spec->cell_log = 3;
	spec->rate = rate > UINT32_MAX ? UINT32_MAX : (uint32_t)rate;
	for (uint32_t i = 0; i < 256; i++)
		table[i] = (uint32_t)(((uint64_t)(i + 1) << 3) * NSEC_PER_SEC / rate / TICK_NS);
	mnl_attr_put(h, type, sizeof(table), table);
}

static uint32_t ticks(uint64_t bytes, uint64_t rate)
{
	uint64_t t = bytes * (uint64_t)NSEC_PER_SEC / rate / TICK_NS;

	return t > UINT32_MAX ? UINT32_MAX : (uint32_t)t;
}

int rtnl_put_tbf(struct nl_batch *b, int index, uint64_t rate, uint32_t burst, uint64_t peak,
		 uint32_t peak_burst, uint32_t limit)
{
	struct nlmsghdr *h =
		tc_msg(b, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, index, TC_H_ROOT, 0, NULL);
	struct tc_tbf_qopt q = { .limit = limit };
	struct nlattr *opt;

	if (!h)
		return -ENOMEM;
	rate = MAX(rate, (uint64_t)1);
	mnl_attr_put_strz(h, TCA_KIND, "tbf");
	opt = mnl_attr_nest_start(h, TCA_OPTIONS);
	put_rate(h, TCA_TBF_RTAB, &q.rate, rate);
	q.buffer = ticks(burst, rate);
	if (peak) {
		put_rate(h, TCA_TBF_PTAB, &q.peakrate, peak);
		q.mtu = ticks(peak_burst, peak);
	}
	mnl_attr_put(h, TCA_TBF_PARMS, sizeof(q), &q);
	mnl_attr_put_u32(h, TCA_TBF_BURST,
			 burst); /* exact sizes win over ticks where the kernel knows them */
	if (rate > UINT32_MAX)
		mnl_attr_put_u64(h, TCA_TBF_RATE64, rate);
	if (peak) {
		mnl_attr_put_u32(h, TCA_TBF_PBURST, peak_burst);
		if (peak > UINT32_MAX)
			mnl_attr_put_u64(h, TCA_TBF_PRATE64, peak);
	}
	mnl_attr_nest_end(h, opt);
	return 0;
}

int rtnl_put_qdisc_root_del(struct nl_batch *b, int index)
{
	return tc_msg(b, RTM_DELQDISC, 0, index, TC_H_ROOT, 0, NULL) ? 0 : -ENOMEM;
}

#define CLSACT_HANDLE TC_H_MAKE(TC_H_CLSACT, 0)

int rtnl_put_clsact(struct nl_batch *b, int index)
{
	struct nlmsghdr *h = tc_msg(b, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, index, TC_H_CLSACT,
				    CLSACT_HANDLE, NULL);

	if (!h)
		return -ENOMEM;
	mnl_attr_put_strz(h, TCA_KIND, "clsact");
	return 0;
}

int rtnl_put_clsact_del(struct nl_batch *b, int index)
{
	return tc_msg(b, RTM_DELQDISC, 0, index, TC_H_CLSACT, CLSACT_HANDLE, NULL) ? 0 : -ENOMEM;
}

int rtnl_put_redirect(struct nl_batch *b, int index, int to_index)
{
	struct tcmsg *m;
	struct nlmsghdr *h = tc_msg(b, RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, index,
				    TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS), 0, &m);
	struct {
		struct tc_u32_sel sel;
		struct tc_u32_key key; /* all zero: matches anything */
	} sel = { .sel = { .nkeys = 1, .flags = TC_U32_TERMINAL } };
	struct tc_mirred mirred = { .action = TC_ACT_STOLEN,
				    .eaction = TCA_EGRESS_REDIR,
				    .ifindex = (uint32_t)to_index };
	struct nlattr *opt, *acts, *act, *aopt;

	if (!h)
		return -ENOMEM;
	m->tcm_info = TC_H_MAKE(1U << 16, htobe16(ETH_P_ALL)); /* priority 1, every protocol */
	mnl_attr_put_strz(h, TCA_KIND, "u32");
	opt = mnl_attr_nest_start(h, TCA_OPTIONS);
	mnl_attr_put(h, TCA_U32_SEL, sizeof(sel), &sel);
	acts = mnl_attr_nest_start(h, TCA_U32_ACT);
	act = mnl_attr_nest_start(h, 1);
	mnl_attr_put_strz(h, TCA_ACT_KIND, "mirred");
	aopt = mnl_attr_nest_start(h, TCA_ACT_OPTIONS);
	mnl_attr_put(h, TCA_MIRRED_PARMS, sizeof(mirred), &mirred);
	mnl_attr_nest_end(h, aopt);
	mnl_attr_nest_end(h, act);
	mnl_attr_nest_end(h, acts);
	mnl_attr_nest_end(h, opt);
	return 0;
}
