/* What is: status and counters of NICs and networks, and everything as JSON.  See net.h. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include "base/str.h"
#include "ext/json.h"
#include "net/engine.h"

/* Calls fn with every element of a set that `list set` printed as JSON: name and packets. */
static int each_counted(const struct json *doc,
			int (*fn)(void *arg, const char *name, int64_t packets), void *arg)
{
	const struct json *list = json_get(doc, "nftables");

	for (size_t i = 0; i < json_len(list); i++) {
		const struct json *elems = json_walk(json_at(list, i), "set", "elem", (char *)NULL);
		const struct json *counter = json_walk(json_at(list, i), "counter", (char *)NULL);

		if (counter)
			fn(arg, json_str(json_get(counter, "name")),
			   json_int(json_get(counter, "packets"), 0));
		for (size_t k = 0; k < json_len(elems); k++) {
			const struct json *el = json_walk(json_at(elems, k), "elem", (char *)NULL);

			if (json_str(json_get(el, "val")))
				fn(arg, json_str(json_get(el, "val")),
				   json_int(json_walk(el, "counter", "packets", (char *)NULL), 0));
		}
	}
	return 0;
}

struct wanted_port {
	const char *port;
	uint64_t packets;
};

static int match_port(void *arg, const char *name, int64_t packets)
{
	struct wanted_port *p = arg;

	if (name && streq(name, p->port))
		p->packets = (uint64_t)packets;
	return 0;
}

static int read_json(struct network *w, const char *cmd, struct json **ret, struct err **e)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	int r = w->net->ops->rules_read(w->net->dp, w->dp, cmd, &b, e);

	return r < 0 ? r : json_parse(buf_str(&b), b.len, NULL, ret, e);
}

int net_nic_status(struct net *n, const char *id, struct net_nic_status *ret, struct err **e)
{
	_cleanup_(json_freep) struct json *doc = NULL;
	struct nic *x = NET_FIND(struct nic, &n->nics, id);
	struct net_nic_status s = { 0 };
	struct dp_port_stats st;
	struct wanted_port p = { 0 };
	int r;

	if (!x)
		return err_set(e, ENOENT, "net.reference", "no nic '%s'", id);
	r = n->ops->port_stats(x->pg->network->dp, x->port, &st, e);
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
	s.mtu = st.mtu;
	s.up = st.up;
	s.rx_packets = st.rx_packets;
	s.rx_bytes = st.rx_bytes;
	s.rx_dropped = st.rx_dropped;
	s.tx_packets = st.tx_packets;
	s.tx_bytes = st.tx_bytes;
	s.tx_dropped = st.tx_dropped;
	p.port = x->port;
	if (read_json(x->pg->network, "list set bridge strata spoofed", &doc, NULL) == 0)
		each_counted(doc, match_port, &p);
	s.spoofed = p.packets;
	*ret = s;
	return 0;
}

static int match_counter(void *arg, const char *name, int64_t packets)
{
	static const struct {
		const char *name;
		size_t offset;
	} fields[] = {
		{ "c_mac", offsetof(struct net_drops, mac) },
		{ "c_ip", offsetof(struct net_drops, ip) },
		{ "c_arp", offsetof(struct net_drops, arp) },
		{ "c_nd", offsetof(struct net_drops, nd) },
		{ "c_dhcp", offsetof(struct net_drops, dhcp) },
		{ "c_ra", offsetof(struct net_drops, ra) },
		{ "c_other", offsetof(struct net_drops, other) },
		{ "c_in", offsetof(struct net_drops, group_in) },
		{ "c_out", offsetof(struct net_drops, group_out) },
	};

	for (size_t i = 0; name && i < ARRAY_SIZE(fields); i++)
		if (streq(fields[i].name, name))
			*(uint64_t *)((char *)arg + fields[i].offset) = (uint64_t)packets;
	return 0;
}

int net_network_drops(struct net *n, const char *id, struct net_drops *ret, struct err **e)
{
	_cleanup_(json_freep) struct json *doc = NULL;
	struct network *w = NET_FIND(struct network, &n->networks, id);
	struct net_drops d = { 0 };
	int r;

	if (!w || !w->dp)
		return err_set(e, ENOENT, "net.reference", "no network '%s'", id);
	r = read_json(w, "list counters table bridge strata", &doc, e);
	if (r < 0)
		return err_wrap(e, r, "network '%s': counters", id);
	each_counted(doc, match_counter, &d);
	*ret = d;
	return 0;
}

/* ---- JSON ---- */

static int show_nic(struct net *n, struct nic *x, struct json *arr)
{
	struct json *o = json_new_obj(), *addrs = json_new_arr();
	struct net_nic_status s = { 0 };
	char t[IPADDR_TEXT], m[MAC_TEXT];
	bool ok = net_nic_status(n, x->spec.id, &s, NULL) == 0;
	int r = json_set(o, "id", json_new_str(x->spec.id));

	r = json_set(o, "owner", json_new_str(x->spec.owner)) ?: r;
	r = json_set(o, "portgroup", json_new_str(x->pg->spec.id)) ?: r;
	r = json_set(o, "network", json_new_str(x->pg->network->spec.id)) ?: r;
	r = json_set(o, "port", json_new_str(x->port)) ?: r;
	r = json_set(o, "netns", json_new_str(x->pg->network->ns)) ?: r;
	r = json_set(o, "mac", json_new_str(mac_format(x->mac, m))) ?: r;
	for (unsigned int i = 0; i < x->n_addrs; i++)
		r = json_push(addrs, json_new_str(ipaddr_format(&x->addrs[i], t))) ?: r;
	r = json_set(o, "addresses", addrs) ?: r;
	r = json_set(o, "present", json_new_bool(ok)) ?: r;
	r = json_set(o, "up", json_new_bool(s.up)) ?: r;
	r = json_set(o, "mtu", json_new_int(s.mtu)) ?: r;
	r = json_set(o, "rx_packets", json_new_int((int64_t)s.rx_packets)) ?: r;
	r = json_set(o, "rx_bytes", json_new_int((int64_t)s.rx_bytes)) ?: r;
	r = json_set(o, "tx_packets", json_new_int((int64_t)s.tx_packets)) ?: r;
	r = json_set(o, "tx_bytes", json_new_int((int64_t)s.tx_bytes)) ?: r;
	r = json_set(o, "rx_dropped", json_new_int((int64_t)s.rx_dropped)) ?: r;
	r = json_set(o, "tx_dropped", json_new_int((int64_t)s.tx_dropped)) ?: r;
	r = json_set(o, "spoofed", json_new_int((int64_t)s.spoofed)) ?: r;
	return json_push(arr, o) ?: r;
}

static int show_network(struct net *n, struct network *w, struct json *arr)
{
	struct json *o = json_new_obj(), *drops = json_new_obj(), *pgs = json_new_arr();
	struct net_drops d = { 0 };
	struct portgroup *pg;
	char t[IPADDR_TEXT];
	int r = json_set(o, "id", json_new_str(w->spec.id));

	net_network_drops(n, w->spec.id, &d, NULL);
	r = json_set(o, "netns", json_new_str(w->ns)) ?: r;
	if (w->spec.mode != NET_ISOLATED) {
		r = json_set(o, "link", json_new_str(w->transit)) ?: r;
		r = json_set(o, "router", json_new_str(ipaddr_format(&w->router4, t))) ?: r;
	}
	r = json_set(drops, "mac", json_new_int((int64_t)d.mac)) ?: r;
	r = json_set(drops, "ip", json_new_int((int64_t)d.ip)) ?: r;
	r = json_set(drops, "arp", json_new_int((int64_t)d.arp)) ?: r;
	r = json_set(drops, "nd", json_new_int((int64_t)d.nd)) ?: r;
	r = json_set(drops, "dhcp", json_new_int((int64_t)d.dhcp)) ?: r;
	r = json_set(drops, "ra", json_new_int((int64_t)d.ra)) ?: r;
	r = json_set(drops, "other", json_new_int((int64_t)d.other)) ?: r;
	r = json_set(drops, "group_in", json_new_int((int64_t)d.group_in)) ?: r;
	r = json_set(drops, "group_out", json_new_int((int64_t)d.group_out)) ?: r;
	r = json_set(o, "drops", drops) ?: r;
	list_for_each_entry(pg, &w->portgroups, in_network) {
		struct json *g = json_new_obj();

		r = json_set(g, "id", json_new_str(pg->spec.id)) ?: r;
		r = json_set(g, "bridge", json_new_str(pg->bridge)) ?: r;
		r = json_set(g, "mtu", json_new_int(portgroup_mtu(pg))) ?: r;
		r = json_set(g, "leases", json_new_int((int64_t)leases_count(&pg->leases))) ?: r;
		r = json_push(pgs, g) ?: r;
	}
	r = json_set(o, "portgroups", pgs) ?: r;
	return json_push(arr, o) ?: r;
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
