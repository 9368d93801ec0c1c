/* What is: status of NICs, and everything as JSON.  See net.h; drops.c counts what was dropped. */
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include "base/str.h"
#include "ext/json.h"
#include "net/engine.h"

int net_nic_status(struct net *n, const char *id, struct net_nic_status *ret, struct err **e)
{
	struct nic *x = NET_FIND(struct nic, &n->nics, id);
	struct net_nic_status s = { 0 };
	int r;

	if (!x)
		return err_set(e, ENOENT, "net.reference", "no nic '%s'", id);
	if (!x->pg->network->dp)
		return err_set(e, ENODEV, "net.state", "nic '%s': its network is not there", id);
	r = n->ops->port_stats(x->pg->network->dp, x->port, &s, e);
	if (r < 0)
		return err_wrap(e, r, "nic '%s'", id);
	strcpy(s.portgroup, x->pg->spec.id);
	strcpy(s.network, x->pg->network->spec.id);
	strcpy(s.owner, x->spec.owner);
	strcpy(s.port, x->port);
	strcpy(s.netns, x->pg->network->ns);
	memcpy(s.mac, x->mac, 6);
	memcpy(s.addrs, x->addrs, sizeof(s.addrs));
	s.n_addrs = x->n_addrs;
	s.spoofed = nic_spoofed(x);
	*ret = s;
	return 0;
}

/* ---- JSON ---- */

/* An object that is being filled; what went wrong is kept. */
struct filling {
	struct json *o;
	int r;
};

static void put(struct filling *f, const char *name, struct json *v)
{
	f->r = json_set(f->o, name, v) ?: f->r;
}

static void put_text(struct filling *f, const char *name, const char *text)
{
	put(f, name, json_new_str(text));
}

static void put_num(struct filling *f, const char *name, uint64_t v)
{
	put(f, name, json_new_int((int64_t)v));
}

/* Counters of a struct by name and place. */
struct count {
	const char *name;
	size_t offset;
};

static const struct count nic_counts[] = {
	{ "rx_packets", offsetof(struct net_nic_status, rx_packets) },
	{ "rx_bytes", offsetof(struct net_nic_status, rx_bytes) },
	{ "tx_packets", offsetof(struct net_nic_status, tx_packets) },
	{ "tx_bytes", offsetof(struct net_nic_status, tx_bytes) },
	{ "rx_dropped", offsetof(struct net_nic_status, rx_dropped) },
	{ "tx_dropped", offsetof(struct net_nic_status, tx_dropped) },
	{ "spoofed", offsetof(struct net_nic_status, spoofed) },
};

static int show_nic(struct net *n, struct nic *x, struct json *arr)
{
	struct filling o = { .o = json_new_obj() }, *f = &o;
	struct json *addrs = json_new_arr();
	struct net_nic_status s = { 0 };
	char t[IPADDR_TEXT], m[MAC_TEXT];
	bool ok = net_nic_status(n, x->spec.id, &s, NULL) == 0;

	put_text(f, "id", x->spec.id);
	put_text(f, "owner", x->spec.owner);
	put_text(f, "portgroup", x->pg->spec.id);
	put_text(f, "network", x->pg->network->spec.id);
	put_text(f, "port", x->port);
	put_text(f, "netns", x->pg->network->ns);
	put_text(f, "mac", mac_format(x->mac, m));
	for (unsigned int i = 0; i < x->n_addrs; i++)
		o.r = json_push(addrs, json_new_str(ipaddr_format(&x->addrs[i], t))) ?: o.r;
	put(f, "addresses", addrs);
	put(f, "present", json_new_bool(ok));
	put(f, "up", json_new_bool(s.up));
	put_num(f, "mtu", s.mtu);
	for (size_t i = 0; i < ARRAY_SIZE(nic_counts); i++)
		put_num(f, nic_counts[i].name,
			*(const uint64_t *)((const char *)&s + nic_counts[i].offset));
	return json_push(arr, o.o) ?: o.r;
}

static int show_network(struct net *n, struct network *w, struct json *arr)
{
	struct filling o = { .o = json_new_obj() }, *f = &o, drops = { .o = json_new_obj() };
	struct json *pgs = json_new_arr();
	struct net_drops d = { 0 };
	struct portgroup *pg;
	char t[IPADDR_TEXT];

	net_network_drops(n, w->spec.id, &d, NULL);
	put_text(f, "id", w->spec.id);
	put_text(f, "netns", w->ns);
	if (w->spec.mode != NET_ISOLATED) {
		put_text(f, "link", w->transit);
		put_text(f, "router", ipaddr_format(&w->router4, t));
	}
	for (const struct drop_field *q = drop_fields; q->counter; q++)
		put_num(&drops, q->name, *(const uint64_t *)((const char *)&d + q->offset));
	put(f, "drops", drops.o);
	list_for_each_entry(pg, &w->portgroups, in_network) {
		struct filling g = { .o = json_new_obj() };

		put_text(&g, "id", pg->spec.id);
		put_text(&g, "bridge", pg->bridge);
		put_num(&g, "mtu", portgroup_mtu(pg));
		put_num(&g, "leases", leases_count(&pg->leases));
		o.r = json_push(pgs, g.o) ?: g.r ?: o.r;
	}
	put(f, "portgroups", pgs);
	return json_push(arr, o.o) ?: drops.r ?: o.r;
}

int net_show(struct net *n, struct buf *out, struct err **e)
{
	_cleanup_(json_freep) struct json *o = json_new_obj();
	struct json *networks = json_new_arr(), *nics = json_new_arr();
	int r = 0;

	NET_EACH(struct network, w, &n->networks)
		r = show_network(n, w, networks) ?: r;
	NET_EACH(struct nic, x, &n->nics)
		r = show_nic(n, x, nics) ?: r;
	r = json_set(o, "networks", networks) ?: r;
	r = json_set(o, "nics", nics) ?: r;
	r = json_print(o, JSON_PRETTY, out) ?: r;
	return r < 0 ? err_sys(e, -r, "show") : 0;
}
