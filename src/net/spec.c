/* What is wanted: checks, the default network, release.  See net.h and spec.h; reading JSON is in spec_json.c. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/hmap.h"
#include "base/str.h"
#include "net/datapath_ops.h"
#include "net/spec.h"

void net_spec_done(struct net_spec *s)
{
	for (size_t i = 0; i < s->groups.n; i++)
		free(s->groups.v[i].rules);
	for (size_t i = 0; i < s->nics.n; i++) {
		free(s->nics.v[i].user_data);
		free(s->nics.v[i].ssh_keys);
		free(s->nics.v[i].instance_id);
	}
	vec_done(&s->networks);
	vec_done(&s->portgroups);
	vec_done(&s->groups);
	vec_done(&s->nics);
	vec_done(&s->forwards);
}

void net_nic_init(struct net_nic *n)
{
	*n = (struct net_nic){ .netns_fd = -1, .tap_uid = -1, .queues = 1 };
	strcpy(n->ifname, "eth0");
}

static int check_id(const char *kind, const char *id, struct err **e)
{
	if (!*id)
		return err_set(e, EINVAL, "net.id", "%s without an id", kind);
	for (const char *p = id; *p; p++)
		if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:/",
			    *p))
			return err_set(e, EINVAL, "net.id",
				       "%s '%s': an id has letters, digits and -_.:/ only", kind,
				       id);
	return 0;
}

/* RFC 1123 labels, with dots between them. */
static bool is_dns_name(const char *s)
{
	size_t label = 0;
	char prev = '.';

	for (; *s; prev = *s++) {
		if (*s == '.') {
			if (prev == '.' || prev == '-')
				return false;
			label = 0;
			continue;
		}
		if (!((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') ||
		      (*s >= '0' && *s <= '9') || (*s == '-' && prev != '.')) ||
		    ++label > 63)
			return false;
	}
	return prev != '-' && prev != '.';
}

static bool is_ifname(const char *s)
{
	if (!*s || strlen(s) > 15 || streq(s, ".") || streq(s, ".."))
		return false;
	for (; *s; s++)
		if (*s == '/' || *s == ':' || *s <= ' ' || *s > '~' || *s == '"' || *s == '%')
			return false;
	return true;
}

int spec_check_network(const struct net_network *s, struct err **e)
{
	int r = check_id("network", s->id, e);

	if (r < 0)
		return r;
	if (*s->domain && !is_dns_name(s->domain))
		return err_set(e, EINVAL, "net.domain", "network '%s': '%s' is not a domain name",
			       s->id, s->domain);
	return 0;
}

struct ipaddr spec_gateway(const struct net_portgroup *s, int family)
{
	const struct ipprefix *p = family == AF_INET ? &s->subnet4 : &s->subnet6;
	const struct ipaddr *g = family == AF_INET ? &s->gateway4 : &s->gateway6;

	if (!p->a.family)
		return (struct ipaddr){ 0 };
	return g->family ? *g : ipprefix_host(p, 0);
}

static int check_subnet(const struct net_portgroup *s, int family, struct err **e)
{
	const struct ipprefix *p = family == AF_INET ? &s->subnet4 : &s->subnet6;
	const struct ipaddr *g = family == AF_INET ? &s->gateway4 : &s->gateway6;
	char text[IPADDR_TEXT + 4], gtext[IPADDR_TEXT];
	struct ipaddr net, last;
	unsigned int bits;

	if (!p->a.family) {
		if (g->family)
			return err_set(e, EINVAL, "net.gateway",
				       "port group '%s': a gateway without a subnet", s->id);
		return 0;
	}
	ipprefix_format(p, text);
	if (p->a.family != family || (g->family && g->family != family))
		return err_set(e, EINVAL, "net.subnet",
			       "port group '%s': %s is of the other address family", s->id, text);
	bits = (unsigned int)ipaddr_len(&p->a) * 8;
	net = ipprefix_net(p);
	last = ipprefix_last(p);
	if (!ipaddr_same(&net, &p->a))
		return err_set(e, EINVAL, "net.subnet",
			       "port group '%s': subnet %s has host bits set", s->id, text);
	if (p->len < 8 || p->len > bits - 2 || (family == AF_INET6 && p->len > 120))
		return err_set(e, EINVAL, "net.subnet",
			       "port group '%s': subnet %s: a length from 8 to %u is possible",
			       s->id, text, family == AF_INET ? 30 : 120);
	if (!ipaddr_is_unicast(&net) || !ipaddr_is_unicast(&last) ||
	    (family == AF_INET && net.b[0] == 169 && net.b[1] == 254) ||
	    (family == AF_INET6 && net.b[0] == 0xfe && (net.b[1] & 0xc0) == 0x80))
		return err_set(e, EINVAL, "net.subnet",
			       "port group '%s': subnet %s is not for hosts", s->id, text);
	if (g->family && (!ipprefix_contains(p, g) || ipaddr_same(g, &net) ||
			  (family == AF_INET && ipaddr_same(g, &last))))
		return err_set(e, EINVAL, "net.gateway",
			       "port group '%s': gateway %s is not a host of %s", s->id,
			       ipaddr_format(g, gtext), text);
	return 0;
}

static int check_rate(const char *what, const char *id, const struct net_rate *r, struct err **e)
{
	if (r->average && (r->average < 8000 || r->average > 400000000000))
		return err_set(e, EINVAL, "net.rate",
			       "%s '%s': average %llu bit/s: from 8000 to 400000000000", what, id,
			       (unsigned long long)r->average);
	if (!r->average && (r->peak || r->burst))
		return err_set(e, EINVAL, "net.rate", "%s '%s': peak and burst need an average",
			       what, id);
	if (r->peak && (r->peak < r->average || r->peak > 400000000000))
		return err_set(e, EINVAL, "net.rate",
			       "%s '%s': peak %llu bit/s is below the average", what, id,
			       (unsigned long long)r->peak);
	if (r->burst > 1 << 30)
		return err_set(e, EINVAL, "net.rate", "%s '%s': burst of %llu bytes: at most 1 GiB",
			       what, id, (unsigned long long)r->burst);
	return 0;
}

int spec_check_portgroup(const struct net_portgroup *s, struct err **e)
{
	int r = check_id("port group", s->id, e);

	if (r == 0)
		r = check_subnet(s, AF_INET, e);
	if (r == 0)
		r = check_subnet(s, AF_INET6, e);
	if (r == 0)
		r = check_rate("port group", s->id, &s->to_nic, e);
	if (r == 0)
		r = check_rate("port group", s->id, &s->from_nic, e);
	if (r < 0)
		return r;
	if (s->vlan > 4094)
		return err_set(e, EINVAL, "net.vlan", "port group '%s': VLAN %u: from 1 to 4094",
			       s->id, s->vlan);
	if (s->vlan && !*s->uplink)
		return err_set(e, EINVAL, "net.vlan", "port group '%s': VLAN %u without an uplink",
			       s->id, s->vlan);
	if (*s->uplink && !is_ifname(s->uplink))
		return err_set(e, EINVAL, "net.uplink", "port group '%s': '%s' cannot be a link",
			       s->id, s->uplink);
	if (s->mtu && (s->mtu < (s->subnet6.a.family ? 1280 : 576) || s->mtu > 65521))
		return err_set(e, EINVAL, "net.mtu", "port group '%s': MTU %u: from %d to 65521",
			       s->id, s->mtu, s->subnet6.a.family ? 1280 : 576);
	if (s->range_first.family || s->range_last.family) {
		if (s->range_first.family != AF_INET || s->range_last.family != AF_INET ||
		    !ipprefix_contains(&s->subnet4, &s->range_first) ||
		    !ipprefix_contains(&s->subnet4, &s->range_last) ||
		    memcmp(s->range_first.b, s->range_last.b, 4) > 0)
			return err_set(
				e, EINVAL, "net.range",
				"port group '%s': the lease range is not inside its IPv4 subnet",
				s->id);
	}
	return 0;
}

int spec_check_group(const struct net_group *s, struct err **e)
{
	int r = check_id("security group", s->id, e);

	if (r < 0)
		return r;
	if (s->n_rules > NET_RULES_MAX)
		return err_set(e, E2BIG, "net.rules", "security group '%s': %zu rules, at most %d",
			       s->id, s->n_rules, NET_RULES_MAX);
	for (size_t i = 0; i < s->n_rules; i++) {
		const struct net_rule *q = &s->rules[i];
		bool ports = q->proto == IPPROTO_TCP || q->proto == IPPROTO_UDP ||
			     q->proto == IPPROTO_SCTP;
		bool icmp = q->proto == IPPROTO_ICMP || q->proto == IPPROTO_ICMPV6;

		if ((q->port_min || q->port_max) && !ports)
			return err_set(e, EINVAL, "net.rule",
				       "security group '%s', rule %zu: ports need tcp, udp or sctp",
				       s->id, i);
		if (q->port_min > q->port_max)
			return err_set(e, EINVAL, "net.rule",
				       "security group '%s', rule %zu: ports %u-%u are backwards",
				       s->id, i, q->port_min, q->port_max);
		if (q->icmp_type >= 0 && !icmp)
			return err_set(e, EINVAL, "net.rule",
				       "security group '%s', rule %zu: an ICMP type needs icmp",
				       s->id, i);
		if (q->peer.a.family && *q->peer_group)
			return err_set(e, EINVAL, "net.rule",
				       "security group '%s', rule %zu: cidr or group, not both",
				       s->id, i);
		if (q->peer.a.family && q->family && q->peer.a.family != q->family)
			return err_set(e, EINVAL, "net.rule",
				       "security group '%s', rule %zu: family and cidr differ",
				       s->id, i);
	}
	return 0;
}

int spec_check_nic(const struct net_nic *s, struct err **e)
{
	int r = check_id("nic", s->id, e);

	if (r == 0)
		r = check_rate("nic", s->id, &s->to_nic, e);
	if (r == 0)
		r = check_rate("nic", s->id, &s->from_nic, e);
	if (r < 0)
		return r;
	if (!mac_is_zero(s->mac) && !mac_is_unicast(s->mac))
		return err_set(e, EINVAL, "net.mac", "nic '%s': a group address cannot be its MAC",
			       s->id);
	if (*s->hostname && (!is_dns_name(s->hostname) || strchr(s->hostname, '.')))
		return err_set(e, EINVAL, "net.hostname", "nic '%s': '%s' is not a host name",
			       s->id, s->hostname);
	if (s->kind == NET_VETH && !is_ifname(s->ifname))
		return err_set(e, EINVAL, "net.ifname", "nic '%s': '%s' cannot name a link", s->id,
			       s->ifname);
	if (s->queues > 64)
		return err_set(e, EINVAL, "net.queues", "nic '%s': %u queues: from 1 to 64", s->id,
			       s->queues);
	for (unsigned int i = 0; i < s->n_addrs; i++)
		for (unsigned int k = 0; k < i; k++)
			if (ipaddr_same(&s->addrs[i], &s->addrs[k]))
				return err_set(e, EINVAL, "net.address",
					       "nic '%s': the same address twice", s->id);
	return 0;
}

int spec_check_nic_in(const struct net_nic *s, const struct net_portgroup *pg, struct err **e)
{
	char text[IPADDR_TEXT], sub[IPADDR_TEXT + 4];

	for (unsigned int i = 0; i < s->n_addrs; i++) {
		const struct ipaddr *a = &s->addrs[i];
		const struct ipprefix *p = a->family == AF_INET ? &pg->subnet4 : &pg->subnet6;
		struct ipaddr gw = spec_gateway(pg, a->family), net = ipprefix_net(p),
			      last = ipprefix_last(p);

		ipaddr_format(a, text);
		if (!ipaddr_is_unicast(a))
			return err_set(e, EINVAL, "net.address",
				       "nic '%s': %s cannot be a host's address", s->id, text);
		if (!p->a.family)
			continue; /* a segment whose addresses we do not know */
		if (!ipprefix_contains(p, a) || ipaddr_same(a, &net) ||
		    (a->family == AF_INET && ipaddr_same(a, &last)))
			return err_set(
				e, EINVAL, "net.address",
				"nic '%s': %s is not a host of %s, the subnet of port group '%s'",
				s->id, text, ipprefix_format(p, sub), pg->id);
		if (ipaddr_same(a, &gw) && !pg->no_services)
			return err_set(e, EINVAL, "net.address",
				       "nic '%s': %s is the gateway of port group '%s'", s->id,
				       text, pg->id);
	}
	return 0;
}

int spec_check_forward(const struct net_forward *s, struct err **e)
{
	int r = check_id("forward", s->id, e);

	if (r < 0)
		return r;
	if (s->proto != IPPROTO_TCP && s->proto != IPPROTO_UDP)
		return err_set(e, EINVAL, "net.forward",
			       "forward '%s': only tcp and udp have ports", s->id);
	if (!s->host_port || !s->port)
		return err_set(e, EINVAL, "net.forward", "forward '%s': ports from 1 to 65535",
			       s->id);
	return 0;
}

int spec_check_pair(const struct net_portgroup *a, const struct net_portgroup *b, struct err **e)
{
	char x[IPADDR_TEXT + 4], y[IPADDR_TEXT + 4];
	const struct ipprefix *p = &a->subnet4, *q = &b->subnet4;

	if (!ipprefix_overlap(p, q)) {
		p = &a->subnet6;
		q = &b->subnet6;
		if (!ipprefix_overlap(p, q))
			return 0;
	}
	return err_set(e, EEXIST, "net.overlap",
		       "port group '%s': subnet %s overlaps %s of port group '%s'", b->id,
		       ipprefix_format(q, y), ipprefix_format(p, x), a->id);
}

/* ---- the whole ---- */

struct seen {
	struct hnode node;
	const void *obj;
};

struct seen_set {
	struct hmap map;
	struct seen *v;
	size_t n;
};

static int seen_init(struct seen_set *s, size_t max)
{
	s->n = 0;
	s->v = calloc(max ? max : 1, sizeof(*s->v));
	return s->v ? hmap_init(&s->map) : -ENOMEM;
}

static void seen_done(struct seen_set *s)
{
	hmap_done(&s->map);
	free(s->v);
	s->v = NULL;
}

static void seen_add(struct seen_set *s, const void *obj, uint64_t hash)
{
	s->v[s->n].obj = obj;
	hmap_add(&s->map, &s->v[s->n++].node, hash);
}

#define FIND_ID(type, set, idstr)                                                  \
	({                                                                         \
		const type *_found = NULL;                                         \
		hmap_for_each(_n, &(set)->map, hash_str(idstr)) {                  \
			const type *_o = container_of(_n, struct seen, node)->obj; \
			if (streq(_o->id, idstr))                                  \
				_found = _o;                                       \
		}                                                                  \
		_found;                                                            \
	})

#define ADD_ALL(type, spec_vec, set, check, kind)                                 \
	do {                                                                      \
		r = seen_init(set, (spec_vec)->n);                                \
		for (size_t _i = 0; r == 0 && _i < (spec_vec)->n; _i++) {         \
			const type *_o = &(spec_vec)->v[_i];                      \
			r = check(_o, e);                                         \
			if (r == 0 && FIND_ID(type, set, _o->id))                 \
				r = err_set(e, EEXIST, "net.duplicate",           \
					    kind " '%s' is there twice", _o->id); \
			if (r == 0)                                               \
				seen_add(set, _o, hash_str(_o->id));              \
		}                                                                 \
	} while (0)

struct check {
	struct seen_set networks, portgroups, groups, nics, forwards, names, macs, addrs, ports;
};

static bool routed(const struct check *c, const struct net_portgroup *pg)
{
	const struct net_network *n = FIND_ID(struct net_network, &c->networks, pg->network);

	return n && n->mode == NET_ROUTED;
}

static int check_portgroups(const struct net_spec *s, struct check *c, struct err **e)
{
	for (size_t i = 0; i < s->portgroups.n; i++) {
		const struct net_portgroup *a = &s->portgroups.v[i];

		if (!FIND_ID(struct net_network, &c->networks, a->network))
			return err_set(e, ENOENT, "net.reference",
				       "port group '%s': no network '%s'", a->id, a->network);
		for (size_t k = 0; k < i; k++) {
			const struct net_portgroup *b = &s->portgroups.v[k];
			int r;

			if (streq(a->network, b->network) || (routed(c, a) && routed(c, b))) {
				r = spec_check_pair(b, a, e);
				if (r < 0)
					return r;
			}
			if (*a->uplink && streq(a->uplink, b->uplink) && a->vlan == b->vlan)
				return err_set(
					e, EEXIST, "net.vlan",
					"port group '%s': uplink '%s' with VLAN %u belongs to port group '%s'",
					a->id, a->uplink, a->vlan, b->id);
		}
	}
	return 0;
}

static int check_nic_refs(const struct net_nic *n, struct check *c, struct err **e)
{
	const struct net_portgroup *pg =
		FIND_ID(struct net_portgroup, &c->portgroups, n->portgroup);
	char text[IPADDR_TEXT];
	int r;

	if (!pg)
		return err_set(e, ENOENT, "net.reference", "nic '%s': no port group '%s'", n->id,
			       n->portgroup);
	r = spec_check_nic_in(n, pg, e);
	if (r < 0)
		return r;
	for (unsigned int i = 0; i < n->n_groups; i++)
		if (!FIND_ID(struct net_group, &c->groups, n->groups[i]))
			return err_set(e, ENOENT, "net.reference",
				       "nic '%s': no security group '%s'", n->id, n->groups[i]);
	if (!mac_is_zero(n->mac)) {
		uint64_t h = hash_bytes(n->mac, 6) ^ hash_str(pg->network);

		hmap_for_each(x, &c->macs.map, h) {
			const struct net_nic *o = container_of(x, struct seen, node)->obj;
			const struct net_portgroup *opg =
				FIND_ID(struct net_portgroup, &c->portgroups, o->portgroup);

			if (memcmp(o->mac, n->mac, 6) == 0 && opg &&
			    streq(opg->network, pg->network))
				return err_set(e, EEXIST, "net.mac",
					       "nic '%s': nic '%s' has the same MAC", n->id, o->id);
		}
		seen_add(&c->macs, n, h);
	}
	for (unsigned int i = 0; i < n->n_addrs; i++) {
		uint64_t h = hash_bytes(&n->addrs[i], sizeof(n->addrs[i])) ^ hash_str(pg->id);

		hmap_for_each(x, &c->addrs.map, h) {
			const struct net_nic *o = container_of(x, struct seen, node)->obj;

			for (unsigned int k = 0;
			     k < o->n_addrs && streq(o->portgroup, n->portgroup); k++)
				if (ipaddr_same(&o->addrs[k], &n->addrs[i]))
					return err_set(e, EEXIST, "net.address",
						       "nic '%s': nic '%s' has %s already", n->id,
						       o->id, ipaddr_format(&n->addrs[i], text));
		}
		seen_add(&c->addrs, n, h);
	}
	return 0;
}

static int check_rest(const struct net_spec *s, struct check *c, struct err **e)
{
	int r = check_portgroups(s, c, e);

	for (size_t i = 0; r == 0 && i < s->nics.n; i++)
		r = check_nic_refs(&s->nics.v[i], c, e);
	for (size_t i = 0; r == 0 && i < s->groups.n; i++)
		for (size_t k = 0; r == 0 && k < s->groups.v[i].n_rules; k++) {
			const char *peer = s->groups.v[i].rules[k].peer_group;

			if (*peer && !FIND_ID(struct net_group, &c->groups, peer))
				r = err_set(e, ENOENT, "net.reference",
					    "security group '%s', rule %zu: no group '%s'",
					    s->groups.v[i].id, k, peer);
		}
	for (size_t i = 0; r == 0 && i < s->forwards.n; i++) {
		const struct net_forward *f = &s->forwards.v[i];
		uint64_t h = hash_u64((uint64_t)f->host_port << 8 | f->proto);

		if (!FIND_ID(struct net_nic, &c->nics, f->nic))
			r = err_set(e, ENOENT, "net.reference", "forward '%s': no nic '%s'", f->id,
				    f->nic);
		hmap_for_each(x, &c->ports.map, h) {
			const struct net_forward *o = container_of(x, struct seen, node)->obj;

			if (r == 0 && o->proto == f->proto && o->host_port == f->host_port &&
			    ipaddr_same(&o->host_addr, &f->host_addr))
				r = err_set(e, EEXIST, "net.forward",
					    "forward '%s': port %u belongs to forward '%s'", f->id,
					    f->host_port, o->id);
		}
		seen_add(&c->ports, f, h);
	}
	return r;
}

int net_spec_check(const struct net_spec *s, struct err **e)
{
	struct check c = { 0 };
	size_t n_addrs = 0;
	int r;

	for (size_t i = 0; i < s->nics.n; i++)
		n_addrs += s->nics.v[i].n_addrs;
	ADD_ALL(struct net_network, &s->networks, &c.networks, spec_check_network, "network");
	if (r == 0)
		ADD_ALL(struct net_portgroup, &s->portgroups, &c.portgroups, spec_check_portgroup,
			"port group");
	if (r == 0)
		ADD_ALL(struct net_group, &s->groups, &c.groups, spec_check_group,
			"security group");
	if (r == 0)
		ADD_ALL(struct net_nic, &s->nics, &c.nics, spec_check_nic, "nic");
	if (r == 0)
		ADD_ALL(struct net_forward, &s->forwards, &c.forwards, spec_check_forward,
			"forward");
	if (r == 0)
		r = seen_init(&c.macs, s->nics.n);
	if (r == 0)
		r = seen_init(&c.addrs, n_addrs);
	if (r == 0)
		r = seen_init(&c.ports, s->forwards.n);
	if (r == 0)
		r = check_rest(s, &c, e);
	seen_done(&c.networks);
	seen_done(&c.portgroups);
	seen_done(&c.groups);
	seen_done(&c.nics);
	seen_done(&c.forwards);
	seen_done(&c.macs);
	seen_done(&c.addrs);
	seen_done(&c.ports);
	return r;
}

/* ---- the default network ---- */

struct taken {
	const struct ipprefix *candidate;
	bool hit;
};

static int note_overlap(void *arg, const struct ipprefix *p)
{
	struct taken *t = arg;

	if (p->len > 0 && ipprefix_overlap(t->candidate, p))
		t->hit = true;
	return 0;
}

static int pick_subnet(struct dp *d, const struct datapath_ops *ops, const struct ipprefix *taken,
		       size_t n, struct ipprefix *ret, struct err **e)
{
	for (int i = 0; i < 256; i++) {
		struct ipprefix p = { .a = { .family = AF_INET, .b = { 10, 83, (uint8_t)i, 0 } },
				      .len = 24 };
		struct taken t = { .candidate = &p };
		int r = ops->host_routes(d, note_overlap, &t, e);

		if (r < 0)
			return r;
		for (size_t k = 0; k < n; k++)
			t.hit |= ipprefix_overlap(&p, &taken[k]);
		if (!t.hit) {
			*ret = p;
			return 0;
		}
	}
	return err_set(
		e, EADDRINUSE, "net.subnet",
		"the host has routes to all of 10.83.0.0/16: create a network with a subnet of your own");
}

int net_free_subnet(const struct ipprefix *taken, size_t n, struct ipprefix *ret, struct err **e)
{
	struct dp *d = NULL;
	int r = datapath_bridge.open(&d, e);

	if (r < 0)
		return r;
	r = pick_subnet(d, &datapath_bridge, taken, n, ret, e);
	datapath_bridge.close(d);
	return r;
}

int net_spec_default(struct net_spec *ret, struct err **e)
{
	struct net_network n = { .id = "default", .name = "default", .mode = NET_NAT };
	struct net_portgroup pg = { .id = "default", .name = "default", .network = "default" };
	struct dp *d = NULL;
	int r = datapath_bridge.open(&d, e);

	if (r < 0)
		return r;
	r = pick_subnet(d, &datapath_bridge, NULL, 0, &pg.subnet4, e);
	datapath_bridge.close(d);
	if (r < 0)
		return r;
	pg.subnet6 = (struct ipprefix){
		.a = { .family = AF_INET6, .b = { 0xfd, 0x83, 0, pg.subnet4.a.b[2] } }, .len = 64
	};
	*ret = (struct net_spec){ 0 };
	if (vec_push(&ret->networks, n) < 0 || vec_push(&ret->portgroups, pg) < 0) {
		net_spec_done(ret);
		return err_sys(e, ENOMEM, "default network");
	}
	return 0;
}
