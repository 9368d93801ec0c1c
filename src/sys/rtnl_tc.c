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

int rtnl_put_tbf(struct nl_batch *b, int index, const struct rtnl_tbf *t)
{
	struct nlmsghdr *h =
		tc_msg(b, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, index, TC_H_ROOT, 0, NULL);
	uint64_t rate = MAX(t->rate, (uint64_t)1);
	struct tc_tbf_qopt q = { .limit = t->limit };
	struct nlattr *opt;

	if (!h)
		return -ENOMEM;
	mnl_attr_put_strz(h, TCA_KIND, "tbf");
	opt = mnl_attr_nest_start(h, TCA_OPTIONS);
	put_rate(h, TCA_TBF_RTAB, &q.rate, rate);
	q.buffer = ticks(t->burst, rate);
	if (t->peak) {
		put_rate(h, TCA_TBF_PTAB, &q.peakrate, t->peak);
		q.mtu = ticks(t->peak_burst, t->peak);
	}
	mnl_attr_put(h, TCA_TBF_PARMS, sizeof(q), &q);
	/* exact sizes win over ticks where the kernel knows them */
	mnl_attr_put_u32(h, TCA_TBF_BURST, t->burst);
	if (rate > UINT32_MAX)
		mnl_attr_put_u64(h, TCA_TBF_RATE64, rate);
	if (t->peak) {
		mnl_attr_put_u32(h, TCA_TBF_PBURST, t->peak_burst);
		if (t->peak > UINT32_MAX)
			mnl_attr_put_u64(h, TCA_TBF_PRATE64, t->peak);
	}
	mnl_attr_nest_end(h, opt);
	return 0;
}

static uint32_t bytes(uint32_t t, uint64_t rate)
{
	return (uint32_t)MIN((uint64_t)t * TICK_NS * rate / (uint64_t)NSEC_PER_SEC,
			     (uint64_t)UINT32_MAX);
}

static void parse_tbf(const struct nlattr *options, struct rtnl_tbf *t)
{
	struct tc_tbf_qopt q = { 0 };
	const struct nlattr *a;
	uint64_t rate = 0, peak = 0;

	mnl_attr_for_each_nested(a, options)
	{
		uint16_t type = mnl_attr_get_type(a), len = mnl_attr_get_payload_len(a);

		if (type == TCA_TBF_PARMS && len >= sizeof(q))
			memcpy(&q, mnl_attr_get_payload(a), sizeof(q));
		else if (type == TCA_TBF_RATE64 && len == 8)
			rate = mnl_attr_get_u64(a);
		else if (type == TCA_TBF_PRATE64 && len == 8)
			peak = mnl_attr_get_u64(a);
	}
	t->rate = rate ? rate : q.rate.rate;
	t->peak = peak ? peak : q.peakrate.rate;
	t->limit = q.limit;
	t->burst = bytes(q.buffer, t->rate);
	t->peak_burst = t->peak ? bytes(q.mtu, t->peak) : 0;
}

static int got_qdisc(const struct nlmsghdr *h, void *arg)
{
	const struct nlattr *a, *options = NULL;
	bool tbf = false;

	mnl_attr_for_each(a, h, sizeof(struct tcmsg))
	{
		if (mnl_attr_get_type(a) == TCA_KIND)
			tbf = strcmp(mnl_attr_get_str(a), "tbf") == 0;
		else if (mnl_attr_get_type(a) == TCA_OPTIONS)
			options = a;
	}
	if (tbf && options)
		parse_tbf(options, arg);
	return 0;
}

int rtnl_tbf_get(struct nl *n, int index, struct rtnl_tbf *ret, struct err **e)
{
	_cleanup_(nl_batch_done) struct nl_batch b = { 0 };
	struct rtnl_tbf t = { 0 };
	int r;

	/* Some kernels answer only those who ask for the echo of what they tell everybody. */
	if (!tc_msg(&b, RTM_GETQDISC, NLM_F_ECHO, index, TC_H_ROOT, 0, NULL))
		return err_sys(e, ENOMEM, "look up token bucket");
	r = nl_query(n, &b, got_qdisc, &t, e);
	if (r == 0 && !t.rate)
		r = err_set(e, ENOENT, "net.tc", "no token bucket");
	if (r == 0)
		*ret = t;
	return r;
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
