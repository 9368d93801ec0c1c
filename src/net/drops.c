/* What a network's rules have dropped: read, and carried over when its tables are written anew.  See engine.h. */
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include "base/str.h"
#include "net/engine.h"

const struct drop_field drop_fields[] = {
	{ "c_mac", "mac", offsetof(struct net_drops, mac) },
	{ "c_ip", "ip", offsetof(struct net_drops, ip) },
	{ "c_arp", "arp", offsetof(struct net_drops, arp) },
	{ "c_nd", "nd", offsetof(struct net_drops, nd) },
	{ "c_dhcp", "dhcp", offsetof(struct net_drops, dhcp) },
	{ "c_ra", "ra", offsetof(struct net_drops, ra) },
	{ "c_other", "other", offsetof(struct net_drops, other) },
	{ "c_in", "group_in", offsetof(struct net_drops, group_in) },
	{ "c_out", "group_out", offsetof(struct net_drops, group_out) },
	{ NULL },
};

static int note_drop(void *arg, const struct nft_count *c)
{
	for (const struct drop_field *f = drop_fields; f->counter; f++)
		if (streq(f->counter, c->name))
			*(uint64_t *)((char *)arg + f->offset) = c->packets;
	return 0;
}

int net_network_drops(struct net *n, const char *id, struct net_drops *ret, struct err **e)
{
	struct network *w = NET_FIND(struct network, &n->networks, id);
	struct net_drops d = { 0 };
	int r;

	if (!w || !w->dp)
		return err_set(e, ENOENT, "net.reference", "no network '%s'", id);
	r = n->ops->rules_counters(n->dp, w->dp, note_drop, &d, e);
	if (r < 0)
		return err_wrap(e, r, "network '%s': counters", id);
	*ret = d;
	return 0;
}

static int note_port(void *arg, const struct nft_count *c)
{
	*(uint64_t *)arg = c->packets;
	return 0;
}

uint64_t nic_spoofed(const struct nic *x)
{
	struct network *w = x->pg->network;
	uint64_t n = 0;

	/* A port that has never spoofed is not in the set. */
	w->net->ops->rules_counts(w->net->dp, w->dp, "spoofed", x->port, note_port, &n, NULL);
	return n;
}

/* ---- kept over rewriting ---- */

static int add_counter(void *arg, const struct nft_count *c)
{
	sec_counter(arg, c->name, c->packets, c->bytes);
	return 0;
}

static int add_spoofed(void *arg, const struct nft_count *c)
{
	sec_spoofed(arg, c->name, c->packets, c->bytes);
	return 0;
}

void drops_keep(struct network *w, struct buf *counters, struct buf *spoofed)
{
	struct net *n = w->net;

	/* A table that is not there, or somebody else's, has nothing to keep. */
	if (n->ops->rules_counters(n->dp, w->dp, add_counter, counters, NULL) < 0)
		buf_clear(counters);
	if (n->ops->rules_counts(n->dp, w->dp, "spoofed", NULL, add_spoofed, spoofed, NULL) < 0)
		buf_clear(spoofed);
}

/* ---- of ports that are gone ---- */

struct stale {
	struct sec_out out;
	bool (*known)(void *arg, const char *kind, const char *name);
	void *arg;
};

static int drop_stale(void *arg, const struct nft_count *c)
{
	struct stale *s = arg;

	if (!s->known(s->arg, "port", c->name))
		sec_spoofed_gone(&s->out, c->name);
	return 0;
}

void drops_gc(struct network *w, bool (*known)(void *arg, const char *kind, const char *name),
	      void *arg)
{
	struct nft_batch batch = { 0 };
	struct stale s = { .out = { .batch = &batch, .remove = true }, .known = known, .arg = arg };
	struct net *n = w->net;

	if (!w->dp || w->dirty)
		return;
	n->ops->rules_counts(n->dp, w->dp, "spoofed", NULL, drop_stale, &s, NULL);
	if (batch.n && n->ops->rules_elems(n->dp, w->dp, &batch, NULL) == 0)
		n->ops->rules_gen(n->dp, w->dp, &w->gen, NULL);
	nft_batch_done(&batch);
}
