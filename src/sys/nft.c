/* nftables, see nft.h. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <net/if.h>
#include <nftables/libnftables.h>
#include <stdlib.h>
#include <string.h>
#include "base/str.h"
#include "sys/netns.h"
#include "sys/nft.h"

struct nft {
	struct nft_ctx *ctx;
	struct nl nl;
};

int nft_open(int netns_fd, struct nft **ret, struct err **e)
{
	_cleanup_(nft_closep) struct nft *n = calloc(1, sizeof(*n));
	struct netns_saved saved = { .fd = -1 };
	int r = 0;

	if (!n)
		return err_sys(e, ENOMEM, "open nftables");
	if (netns_fd >= 0)
		r = netns_enter(netns_fd, &saved, e);
	if (r < 0)
		return r;
	n->ctx = nft_ctx_new(NFT_CTX_DEFAULT); /* opens its socket here and now */
	if (n->ctx)
		r = nl_open(&n->nl, NETLINK_NETFILTER, e);
	if (saved.fd >= 0)
		netns_leave(&saved);
	if (!n->ctx)
		return err_sys(e, ENOMEM, "open nftables");
	if (r < 0)
		return r;
	nft_ctx_buffer_output(n->ctx);
	nft_ctx_buffer_error(n->ctx);
	*ret = TAKE(n);
	return 0;
}

void nft_close(struct nft *n)
{
	if (!n)
		return;
	if (n->ctx)
		nft_ctx_free(n->ctx);
	nl_close(&n->nl);
	free(n);
}

/* nft's complaint without its drawing of the place: the first line. */
static int complain(struct nft *n, struct err **e)
{
	const char *s = nft_ctx_get_error_buffer(n->ctx), *end = strchr(s, '\n');
	int len = end ? (int)(end - s) : (int)strlen(s);
	int num = errno > 0 ? errno : EINVAL;

	return err_set(e, num, "net.nft", "nftables: %.*s", len, len ? s : strerror(num));
}

int nft_run(struct nft *n, const char *commands, struct err **e)
{
	errno = 0;
	nft_ctx_output_set_flags(n->ctx, 0);
	return nft_run_cmd_from_buffer(n->ctx, commands) == 0 ? 0 : complain(n, e);
}

static struct nlmsghdr *put(struct nl_batch *b, uint16_t type, unsigned int flags, uint8_t family,
			    uint16_t res_id)
{
	struct nlmsghdr *h = nl_msg(b, type, flags);
	struct nfgenmsg *g;

	if (!h)
		return NULL;
	g = mnl_nlmsg_put_extra_header(h, sizeof(*g));
	g->nfgen_family = family;
	g->version = NFNETLINK_V0;
	g->res_id = htons(res_id);
	return h;
}

static int got_gen(const struct nlmsghdr *h, void *arg)
{
	const struct nlattr *a;

	mnl_attr_for_each(a, h, sizeof(struct nfgenmsg)) if (mnl_attr_get_type(a) == NFTA_GEN_ID) *
		(uint32_t *)arg = ntohl(mnl_attr_get_u32(a));
	return 0;
}

int nft_generation(struct nft *n, uint32_t *ret, struct err **e)
{
	_cleanup_(nl_batch_done) struct nl_batch b = { 0 };

	if (!put(&b, (NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_GETGEN, 0, AF_UNSPEC, 0))
		return err_sys(e, ENOMEM, "nftables generation");
	return nl_query(&n->nl, &b, got_gen, ret, e);
}

static uint8_t add_field(uint8_t *to, uint8_t at, const void *field, size_t len)
{
	size_t padded = ALIGN_UP(len, (size_t)4);

	if (at + padded > NFT_KEY_MAX)
		abort(); /* our own sets are narrower */
	memset(to + at, 0, padded);
	memcpy(to + at, field, len);
	return (uint8_t)(at + padded);
}

void nft_key(struct nft_elem *el, const void *field, size_t len)
{
	el->key_len = add_field(el->key, el->key_len, field, len);
}

void nft_key_ifname(struct nft_elem *el, const char *name)
{
	char field[IFNAMSIZ] = { 0 };

	memcpy(field, name, MIN(strlen(name), sizeof(field) - 1));
	nft_key(el, field, sizeof(field));
}

void nft_data(struct nft_elem *el, const void *field, size_t len)
{
	el->data_len = add_field(el->data, el->data_len, field, len);
}

void nft_value(struct nft_elem *el, const void *field, size_t len)
{
	memcpy(el->data, field, len);
	el->data_len = (uint8_t)len;
}

static void put_keys(struct nlmsghdr *h, const struct nft_elem *el, bool with_value)
{
	struct nlattr *list = mnl_attr_nest_start(h, NFTA_SET_ELEM_LIST_ELEMENTS);
	struct nlattr *item = mnl_attr_nest_start(h, NFTA_LIST_ELEM);
	struct nlattr *key = mnl_attr_nest_start(h, NFTA_SET_ELEM_KEY), *data;

	mnl_attr_put(h, NFTA_DATA_VALUE, el->key_len, el->key);
	mnl_attr_nest_end(h, key);
	if (with_value && el->data_len) {
		data = mnl_attr_nest_start(h, NFTA_SET_ELEM_DATA);
		mnl_attr_put(h, NFTA_DATA_VALUE, el->data_len, el->data);
		mnl_attr_nest_end(h, data);
	}
	mnl_attr_nest_end(h, item);
	mnl_attr_nest_end(h, list);
}

int nft_put_elem(struct nft_batch *b, const struct nft_elem *el, bool add)
{
	struct nlmsghdr *h;
	uint16_t msg = add ? NFT_MSG_NEWSETELEM : NFT_MSG_DELSETELEM;

	if (b->n == 0 &&
	    !put(&b->nl, NFNL_MSG_BATCH_BEGIN, NL_NOACK, AF_UNSPEC, NFNL_SUBSYS_NFTABLES))
		return -ENOMEM;
	h = put(&b->nl, (uint16_t)((NFNL_SUBSYS_NFTABLES << 8) | msg), add ? NLM_F_CREATE : 0,
		el->family, 0);
	if (!h)
		return -ENOMEM;
	mnl_attr_put_strz(h, NFTA_SET_ELEM_LIST_TABLE, el->table);
	mnl_attr_put_strz(h, NFTA_SET_ELEM_LIST_SET, el->set);
	put_keys(h, el, add);
	b->n++;
	return 0;
}

int nft_commit(struct nft *n, struct nft_batch *b, struct err **e)
{
	int r;

	if (b->n == 0)
		return 0;
	if (!put(&b->nl, NFNL_MSG_BATCH_END, NL_NOACK, AF_UNSPEC, NFNL_SUBSYS_NFTABLES))
		r = err_sys(e, ENOMEM, "nftables");
	else
		r = nl_send(&n->nl, &b->nl, NULL, e);
	nl_batch_clear(&b->nl);
	b->n = 0;
	return r < 0 ? err_wrap(e, r, "nftables elements") : 0;
}

void nft_batch_done(struct nft_batch *b)
{
	nl_batch_done(&b->nl);
	b->n = 0;
}

/* ---- counters ---- */

struct walk {
	nft_count_fn *fn;
	void *arg;
};

static void parse_counter(const struct nlattr *data, struct nft_count *c)
{
	const struct nlattr *a;

	mnl_attr_for_each_nested(a, data)
	{
		if (mnl_attr_get_payload_len(a) < 8)
			continue;
		if (mnl_attr_get_type(a) == NFTA_COUNTER_PACKETS)
			c->packets = be64toh(mnl_attr_get_u64(a));
		else if (mnl_attr_get_type(a) == NFTA_COUNTER_BYTES)
			c->bytes = be64toh(mnl_attr_get_u64(a));
	}
}

static int got_object(const struct nlmsghdr *h, void *arg)
{
	struct walk *w = arg;
	struct nft_count c = { 0 };
	const struct nlattr *a;

	mnl_attr_for_each(a, h, sizeof(struct nfgenmsg))
	{
		if (mnl_attr_get_type(a) == NFTA_OBJ_NAME)
			c.name = mnl_attr_get_str(a);
		else if (mnl_attr_get_type(a) == NFTA_OBJ_DATA)
			parse_counter(a, &c);
	}
	return c.name ? w->fn(w->arg, &c) : 0;
}

int nft_counters(struct nft *n, uint8_t family, const char *table, nft_count_fn *fn, void *arg,
		 struct err **e)
{
	_cleanup_(nl_batch_done) struct nl_batch b = { 0 };
	struct walk w = { fn, arg };
	struct nlmsghdr *h =
		put(&b, (NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_GETOBJ, NLM_F_DUMP, family, 0);

	if (!h)
		return err_sys(e, ENOMEM, "read nftables counters");
	mnl_attr_put_strz(h, NFTA_OBJ_TABLE, table);
	mnl_attr_put_u32(h, NFTA_OBJ_TYPE, htonl(NFT_OBJECT_COUNTER));
	return nl_query(&n->nl, &b, got_object, &w, e);
}

static void parse_expr(const struct nlattr *expr, struct nft_count *c)
{
	const struct nlattr *a, *data = NULL;
	bool counter = false;

	mnl_attr_for_each_nested(a, expr)
	{
		if (mnl_attr_get_type(a) == NFTA_EXPR_NAME)
			counter = strcmp(mnl_attr_get_str(a), "counter") == 0;
		else if (mnl_attr_get_type(a) == NFTA_EXPR_DATA)
			data = a;
	}
	if (counter && data)
		parse_counter(data, c);
}

static int parse_elem(const struct nlattr *elem, struct walk *w)
{
	char name[IFNAMSIZ + 1] = { 0 };
	struct nft_count c = { .name = name };
	const struct nlattr *a, *v;

	mnl_attr_for_each_nested(a, elem)
	{
		switch (mnl_attr_get_type(a)) {
		case NFTA_SET_ELEM_KEY:
			mnl_attr_for_each_nested(v, a) if (mnl_attr_get_type(v) == NFTA_DATA_VALUE)
				memcpy(name, mnl_attr_get_payload(v),
				       MIN((size_t)mnl_attr_get_payload_len(v), (size_t)IFNAMSIZ));
			break;
		case NFTA_SET_ELEM_EXPR:
			parse_expr(a, &c);
			break;
		case NFTA_SET_ELEM_EXPRESSIONS:
			mnl_attr_for_each_nested(v, a) parse_expr(v, &c);
			break;
		}
	}
	return w->fn(w->arg, &c);
}

static int got_elems(const struct nlmsghdr *h, void *arg)
{
	const struct nlattr *a, *v;
	int r = 0;

	mnl_attr_for_each(a, h, sizeof(struct nfgenmsg))
	{
		if (mnl_attr_get_type(a) != NFTA_SET_ELEM_LIST_ELEMENTS)
			continue;
		mnl_attr_for_each_nested(v, a) if (r == 0) r = parse_elem(v, arg);
	}
	return r;
}

int nft_set_counts(struct nft *n, uint8_t family, const char *table, const char *set,
		   const char *name, nft_count_fn *fn, void *arg, struct err **e)
{
	_cleanup_(nl_batch_done) struct nl_batch b = { 0 };
	struct walk w = { fn, arg };
	struct nlmsghdr *h = put(&b, (NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_GETSETELEM,
				 name ? 0 : NLM_F_DUMP, family, 0);
	struct nft_elem el = { 0 };

	if (!h)
		return err_sys(e, ENOMEM, "read nftables set");
	mnl_attr_put_strz(h, NFTA_SET_ELEM_LIST_TABLE, table);
	mnl_attr_put_strz(h, NFTA_SET_ELEM_LIST_SET, set);
	if (name) {
		nft_key_ifname(&el, name);
		put_keys(h, &el, false);
	}
	return nl_query(&n->nl, &b, got_elems, &w, e);
}
