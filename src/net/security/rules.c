/* From NICs, groups and modes to nftables, see rules.h. */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include "net/security/rules.h"
#include <linux/netfilter.h>

#define TABLE "strata"

/* ---- elements ---- */

enum field {
	F_IFNAME,
	F_MAC,
	F_IP,
	F_PROTO,
	F_PORT,
	F_RAW
}; /* F_RAW: a payload slice, an integer to nft */

struct elem {
	struct sec_out *o;
	struct nft_elem el;
	char text[256];
	size_t len;
};

static void elem_text(struct elem *x, const char *s)
{
	size_t n = strlen(s);

	if (x->len + n < sizeof(x->text)) {
		memcpy(x->text + x->len, s, n + 1);
		x->len += n;
	}
}

static void elem_start(struct elem *x, struct sec_out *o, uint8_t family, const char *set)
{
	*x = (struct elem){ .o = o, .el = { .family = family, .table = TABLE, .set = set } };
}

static void field_text(enum field kind, const void *v, size_t len, char *t, size_t size)
{
	struct ipaddr a;
	int n = 0;

	switch (kind) {
	case F_IFNAME:
		snprintf(t, size, "\"%s\"", (const char *)v);
		break;
	case F_MAC:
		mac_format(v, t);
		break;
	case F_IP:
		a = ipaddr_of(len == 4 ? AF_INET : AF_INET6, v);
		ipaddr_format(&a, t);
		break;
	case F_PROTO:
		snprintf(t, size, "%u", *(const uint8_t *)v);
		break;
	case F_PORT:
		snprintf(t, size, "%u", ntohs(*(const uint16_t *)v));
		break;
	case F_RAW:
		n = snprintf(t, size, "0x");
		for (size_t i = 0; i < len; i++)
			n += snprintf(t + n, size - (size_t)n, "%02x", ((const uint8_t *)v)[i]);
		break;
	}
}

static void elem_field(struct elem *x, enum field kind, const void *v, size_t len)
{
	char t[64];

	if (x->o->text) {
		field_text(kind, v, len, t, sizeof(t));
		if (x->len)
			elem_text(x, " . ");
		elem_text(x, t);
	} else if (kind == F_IFNAME) {
		nft_key_ifname(&x->el, v);
	} else {
		nft_key(&x->el, v, len);
	}
}

static void elem_ifname(struct elem *x, const char *name)
{
	elem_field(x, F_IFNAME, name, 0);
}

/* value: what a map maps to, as text; the same is in el.data.  Empty: a set. */
static void elem_end(struct elem *x, const char *value)
{
	struct sec_out *o = x->o;
	const char *family = x->el.family == NFPROTO_BRIDGE ? "bridge" : "inet";
	int r;

	if (!o->text)
		r = nft_put_elem(o->batch, &x->el, !o->remove);
	else if (o->remove)
		r = buf_addf(o->text, "delete element %s " TABLE " %s { %s }\n", family, x->el.set,
			     x->text);
	else
		r = buf_addf(o->text, "add element %s " TABLE " %s { %s%s%s }\n", family, x->el.set,
			     x->text, *value ? " : " : "", value);
	if (r < 0)
		o->error = r;
}

/* Ends an element of a map from ... to addr . port. */
static void elem_end_target(struct elem *x, const struct ipaddr *to, uint16_t port)
{
	uint16_t be = htons(port);
	char t[IPADDR_TEXT], value[IPADDR_TEXT + 16];

	snprintf(value, sizeof(value), "%s . %u", ipaddr_format(to, t), port);
	nft_data(&x->el, to->b, ipaddr_len(to));
	nft_data(&x->el, &be, 2);
	elem_end(x, value);
}

static void put_port_field(struct sec_out *o, const char *set, const char *port, enum field kind,
			   const void *v, size_t len)
{
	struct elem x;

	elem_start(&x, o, NFPROTO_BRIDGE, set);
	if (port)
		elem_ifname(&x, port);
	elem_field(&x, kind, v, len);
	if (!port)
		x.el.key_len = (uint8_t)len; /* alone, a field is not padded */
	elem_end(&x, "");
}

static void put_name(struct sec_out *o, const char *set, const char *port)
{
	struct elem x;

	elem_start(&x, o, NFPROTO_BRIDGE, set);
	elem_ifname(&x, port);
	elem_end(&x, "");
}

static void put_number(struct sec_out *o, const char *map, const char *port, uint32_t number)
{
	struct elem x;
	char t[16];

	elem_start(&x, o, NFPROTO_BRIDGE, map);
	elem_ifname(&x, port);
	snprintf(t, sizeof(t), "%u", number);
	nft_value(&x.el, &number, sizeof(number));
	elem_end(&x, t);
}

static void put_router(struct sec_out *o, const struct sec_port *p)
{
	struct elem x;
	char t[MAC_TEXT];

	elem_start(&x, o, NFPROTO_BRIDGE, "router");
	elem_ifname(&x, p->name);
	nft_value(&x.el, p->router, 6);
	elem_end(&x, mac_format(p->router, t));
}

static void put_addr(struct sec_out *o, const struct sec_port *p, const struct ipaddr *a)
{
	size_t len = ipaddr_len(a);
	char set[32];

	if (p->guarded) {
		put_port_field(o, a->family == AF_INET ? "addr4" : "addr6", p->name, F_IP, a->b,
			       len);
		if (a->family == AF_INET6)
			put_port_field(o, "nd", p->name, F_RAW, a->b, len);
	}
	for (unsigned int i = 0; i < p->n_members; i++) {
		snprintf(set, sizeof(set), "%s_%s", a->family == AF_INET ? "m4" : "m6",
			 p->members[i]);
		put_port_field(o, set, NULL, F_IP, a->b, len);
	}
}

void sec_port(struct sec_out *o, const struct sec_port *p)
{
	struct ipaddr ll = ip6_link_local(p->mac);
	struct sec_port own = *p;

	own.n_members = 0; /* link-local addresses are nobody's in a rule */
	put_name(o, p->guarded ? "guarded" : "open", p->name);
	if (p->guarded) {
		if (p->router)
			put_router(o, p);
		put_port_field(o, "mac", p->name, F_MAC, p->mac, 6);
		put_port_field(o, "chaddr", p->name, F_RAW, p->mac, 6);
		put_port_field(o, "owned", NULL, F_MAC, p->mac, 6);
		put_addr(o, &own, &ll);
	}
	for (unsigned int i = 0; i < p->n_addrs; i++)
		put_addr(o, p, &p->addrs[i]);
	if (p->policy) {
		put_number(o, "sg_in", p->name, p->policy);
		put_number(o, "sg_out", p->name, p->policy);
	}
}

void sec_counter(struct buf *b, const char *name, uint64_t packets, uint64_t bytes)
{
	buf_addf(b, "counter %s { packets %" PRIu64 " bytes %" PRIu64 " }\n", name, packets, bytes);
}

void sec_spoofed(struct buf *b, const char *port, uint64_t packets, uint64_t bytes)
{
	buf_addf(b,
		 "add element bridge " TABLE " spoofed { \"%s\" counter packets %" PRIu64
		 " bytes %" PRIu64 " }\n",
		 port, packets, bytes);
}

void sec_spoofed_gone(struct sec_out *o, const char *port)
{
	put_name(o, "spoofed", port);
}

/* ---- a network's tables ---- */

static const char no_counts[] =
	"counter c_mac { }\ncounter c_ip { }\ncounter c_arp { }\ncounter c_nd { }\ncounter c_dhcp { }\n"
	"counter c_ra { }\ncounter c_other { }\ncounter c_in { }\ncounter c_out { }\n";

static const char bridge_table[] =
	"set spoofed { type ifname; size 65535; flags dynamic; counter; }\n"
	"set guarded { type ifname; }\n"
	"set open { type ifname; }\n"
	"map router { type ifname : ether_addr; }\n"
	"set mac { type ifname . ether_addr; }\n"
	"set owned { type ether_addr; }\n" /* by guarded ports: nobody else may have the bridge learn them */
	"set chaddr { typeof iifname . @th,288,48; }\n" /* of BOOTP, 28 bytes behind the UDP header */
	"set addr4 { type ifname . ipv4_addr; }\n"
	"set addr6 { type ifname . ipv6_addr; }\n"
	"set nd { typeof iifname . @th,64,128; }\n" /* the target of a solicitation or advertisement */
	/* By way of a number: an element with a verdict makes the kernel look through all of them, a number not. */
	"map sg_in { type ifname : mark; }\n"
	"map sg_out { type ifname : mark; }\n"
	"map pol_in { type mark : verdict; }\n"
	"map pol_out { type mark : verdict; }\n"
	"chain bad_mac { update @spoofed { iifname } counter name c_mac drop\n}\n"
	"chain bad_ip { update @spoofed { iifname } counter name c_ip drop\n}\n"
	"chain bad_arp { update @spoofed { iifname } counter name c_arp drop\n}\n"
	"chain bad_nd { update @spoofed { iifname } counter name c_nd drop\n}\n"
	"chain bad_dhcp { update @spoofed { iifname } counter name c_dhcp drop\n}\n"
	"chain bad_ra { update @spoofed { iifname } counter name c_ra drop\n}\n"
	"chain bad_other { update @spoofed { iifname } counter name c_other drop\n}\n"
	"chain g_arp {\n"
	"iifname . arp saddr ether != @mac goto bad_arp\n"
	"arp saddr ip 0.0.0.0 accept\n"
	"iifname . arp saddr ip != @addr4 goto bad_arp\n"
	"accept\n}\n"
	/* What only the router answers goes to it alone, however many ports the bridge has. */
	"chain to_router {\n"
	"ether daddr set iifname map @router\n"
	"accept\n}\n"
	"chain g_udp4 {\n"
	"udp sport 67 goto bad_dhcp\n"
	"udp dport 67 iifname . @th,288,48 != @chaddr goto bad_dhcp\n"
	"ip saddr 0.0.0.0 udp sport 68 udp dport 67 goto to_router\n"
	"iifname . ip saddr != @addr4 goto bad_ip\n"
	"ip daddr 255.255.255.255 udp dport 67 goto to_router\n"
	"accept\n}\n"
	"chain g_ip4 {\n"
	"meta l4proto udp goto g_udp4\n"
	"iifname . ip saddr != @addr4 goto bad_ip\n"
	"accept\n}\n"
	"chain g_icmp6 {\n"
	/* RFC 6980: neighbour discovery is never fragmented, and always has a hop limit of 255. */
	"ip6 hoplimit 255 exthdr frag exists goto bad_nd\n"
	"icmpv6 type { nd-router-advert, nd-redirect } goto bad_ra\n"
	"ip6 saddr :: icmpv6 type nd-neighbor-solicit iifname . @th,64,128 != @nd goto bad_nd\n"
	/* Asking who else has an address that the inventory gave to this port: nobody. */
	"ip6 saddr :: icmpv6 type { nd-neighbor-solicit, nd-router-solicit, 131, 132, 143 } goto to_router\n"
	"iifname . ip6 saddr != @addr6 goto bad_ip\n"
	"icmpv6 type nd-neighbor-advert iifname . @th,64,128 != @nd goto bad_nd\n"
	/* Bridges without multicast snooping have no use for reports. */
	"icmpv6 type { nd-router-solicit, 131, 132, 143 } goto to_router\n"
	"accept\n}\n"
	"chain g_ip6 {\n"
	"meta l4proto ipv6-icmp goto g_icmp6\n"
	"udp sport 547 goto bad_dhcp\n"
	"iifname . ip6 saddr != @addr6 goto bad_ip\n"
	"udp dport 547 ip6 daddr ff02::1:2 goto to_router\n"
	"accept\n}\n"
	"chain guarded {\n"
	"iifname . ether saddr != @mac goto bad_mac\n"
	"ether type vmap { arp : goto g_arp, ip : goto g_ip4, ip6 : goto g_ip6 }\n"
	"goto bad_other\n}\n"
	/* A port of ours is in the map before it is up; one that is not is a mistake, and stays out. */
	"chain guard_hook { type filter hook prerouting priority -300; policy accept;\n"
	"iifname @guarded goto guarded\n"
	"ether saddr @owned goto bad_mac\n"
	"iifname @open accept\n"
	"iifname \"sn*\" goto bad_other\n}\n"
	"chain always {\n"
	"ether type arp accept\n"
	"icmpv6 type { 130, 131, 132, 133, 134, 135, 136, 143 } accept\n"
	"udp sport 68 udp dport 67 accept\n"
	"udp sport 67 udp dport 68 accept\n"
	"udp sport 546 udp dport 547 accept\n"
	"udp sport 547 udp dport 546 accept\n"
	"ip daddr 169.254.169.254 tcp dport 80 accept\n}\n";

static void add_hooks(struct buf *b, const struct sec_network *n)
{
	static const char *const hooks[][3] = {
		{ "sg_out_hook", "prerouting", "iifname map @sg_out meta mark vmap @pol_out" },
		{ "sg_in_forward", "forward", "oifname map @sg_in meta mark vmap @pol_in" },
		{ "sg_in_output", "output", "oifname map @sg_in meta mark vmap @pol_in" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(hooks); i++)
		buf_addf(
			b,
			"chain %s { type filter hook %s priority 20; policy accept;\n%smeta mark set %s\n}\n",
			hooks[i][0], hooks[i][1],
			n->bridge_ct ? "ct state established,related accept\n"
				     : "meta mark 1 accept\n",
			hooks[i][2]);
}

void sec_network(struct buf *b, const struct sec_network *n)
{
	buf_adds(b, "add table bridge " TABLE "\ndelete table bridge " TABLE "\n");
	buf_adds(b, "add table inet " TABLE "\ndelete table inet " TABLE "\n");
	buf_adds(b, "table bridge " TABLE " {\n");
	buf_adds(b, *n->counters ? n->counters : no_counts);
	buf_adds(b, bridge_table);
	if (n->track)
		add_hooks(b, n);
	buf_adds(b, "}\ntable inet " TABLE " {\n"
		    "map pf4 { type inet_proto . inet_service : ipv4_addr . inet_service; }\n"
		    "map pf6 { type inet_proto . inet_service : ipv6_addr . inet_service; }\n"
		    "map pair { type ifname . ifname : verdict; }\n");
	/* Where the bridge family cannot ask for the state, bridged packets pass these hooks first (br_netfilter)
	 * and carry the answer on as a mark.  A mark never comes in from outside: it is cleared between
	 * namespaces, and a tap sets none. */
	if (n->track && !n->bridge_ct)
		buf_adds(b, "chain mark_in { type filter hook prerouting priority -150;\n"
			    "ct state established,related meta mark set 1\n}\n"
			    "chain mark_out { type filter hook output priority -150;\n"
			    "ct state established,related meta mark set 1\n}\n");
	buf_adds(
		b,
		"chain forward { type filter hook forward priority 0; policy accept;\niifname . oifname vmap @pair\n");
	if (!n->route_between)
		buf_adds(b, "iifname \"sb*\" oifname \"sb*\" drop\n");
	if (n->mode == NET_NAT)
		buf_adds(b, "iifname \"up0\" ct state established,related accept\n"
			    "iifname \"up0\" ct status dnat accept\niifname \"up0\" drop\n");
	buf_adds(b, "}\n");
	if (n->mode != NET_ISOLATED)
		buf_adds(b, "chain nat_in { type nat hook prerouting priority -100;\n"
			    "iifname \"up0\" dnat ip to meta l4proto . th dport map @pf4\n"
			    "iifname \"up0\" dnat ip6 to meta l4proto . th dport map @pf6\n}\n");
	if (n->mode == NET_NAT)
		buf_adds(
			b,
			"chain nat_out { type nat hook postrouting priority 100;\noifname \"up0\" masquerade\n}\n");
	buf_adds(b, "}\n");
	for (size_t i = 0; i < n->n_bridges; i++)
		buf_addf(b, "add element inet " TABLE " pair { \"%s\" . \"%s\" : accept }\n",
			 n->bridges[i], n->bridges[i]);
}

/* ---- groups ---- */

bool sec_group_has(const struct net_group *g, enum net_dir dir, bool drop)
{
	for (size_t i = 0; i < g->n_rules; i++)
		if (g->rules[i].dir == dir && g->rules[i].drop == drop)
			return true;
	return false;
}

/* One rule for one family; family 0: either. */
static void add_rule(struct buf *b, const char *chain, const struct net_rule *q, int family,
		     const char *peer)
{
	const char *ip = family == AF_INET ? "ip" : "ip6",
		   *side = q->dir == NET_IN ? "saddr" : "daddr";
	char text[IPADDR_TEXT + 4];
	int proto = q->proto;

	buf_addf(b, "add rule bridge " TABLE " %s ", chain);
	if (peer)
		buf_addf(b, "%s %s @%s_%s ", ip, side, family == AF_INET ? "m4" : "m6", peer);
	else if (q->peer.a.family)
		buf_addf(b, "%s %s %s ", ip, side, ipprefix_format(&q->peer, text));
	else if (family)
		buf_addf(b, "ether type %s ", ip);
	if (proto == IPPROTO_ICMP && family == AF_INET6)
		proto = IPPROTO_ICMPV6;
	if (proto >= 0)
		buf_addf(b, "meta l4proto %d ", proto);
	if (q->port_min)
		buf_addf(b, "th dport %u-%u ", q->port_min, q->port_max);
	if (q->icmp_type >= 0)
		buf_addf(b, "%s type %d ", proto == IPPROTO_ICMP ? "icmp" : "icmpv6", q->icmp_type);
	buf_addf(b, "%s\n", q->drop ? "drop" : "accept");
}

void sec_group(struct buf *b, const char *name, const struct net_group *g,
	       const char *(*peer_name)(void *arg, const char *id), void *arg)
{
	static const char *const chains[] = { "ai", "ao", "di", "do" };

	for (size_t i = 0; i < ARRAY_SIZE(chains); i++)
		buf_addf(b,
			 "add chain bridge " TABLE " %s_%s\nflush chain bridge " TABLE " %s_%s\n",
			 chains[i], name, chains[i], name);
	buf_addf(b, "add set bridge " TABLE " m4_%s { type ipv4_addr; }\n", name);
	buf_addf(b, "add set bridge " TABLE " m6_%s { type ipv6_addr; }\n", name);
	for (size_t i = 0; i < g->n_rules; i++) {
		const struct net_rule *q = &g->rules[i];
		const char *peer = *q->peer_group ? peer_name(arg, q->peer_group) : NULL;
		bool split = peer || q->proto == IPPROTO_ICMP;
		char chain[32];

		if (*q->peer_group && !peer)
			continue; /* a group without members on this network admits nobody */
		snprintf(chain, sizeof(chain), "%c%c_%s", q->drop ? 'd' : 'a',
			 q->dir == NET_IN ? 'i' : 'o', name);
		if (q->peer.a.family || q->family || !split) {
			add_rule(b, chain, q, q->peer.a.family ? q->peer.a.family : q->family,
				 peer);
		} else {
			add_rule(b, chain, q, AF_INET, peer);
			add_rule(b, chain, q, AF_INET6, peer);
		}
	}
}

static void add_policy(struct buf *b, const struct sec_policy *p, enum net_dir dir)
{
	char d = dir == NET_IN ? 'i' : 'o';
	enum net_policy end = dir == NET_IN ? p->in : p->out;
	bool any_out = false;

	buf_addf(b, "add chain bridge " TABLE " p%c_%s\nflush chain bridge " TABLE " p%c_%s\n", d,
		 p->name, d, p->name);
	buf_addf(b, "add rule bridge " TABLE " p%c_%s jump always\n", d, p->name);
	for (unsigned int i = 0; i < p->n; i++)
		buf_addf(b, "add rule bridge " TABLE " p%c_%s jump d%c_%s\n", d, p->name, d,
			 p->groups[i]);
	for (unsigned int i = 0; i < p->n; i++) {
		buf_addf(b, "add rule bridge " TABLE " p%c_%s jump a%c_%s\n", d, p->name, d,
			 p->groups[i]);
		any_out |= sec_group_has(p->specs[i], NET_OUT, false);
	}
	if (end == NET_AUTO)
		end = dir == NET_IN ? (p->n ? NET_DROP : NET_ACCEPT)
		      : any_out	    ? NET_DROP
				    : NET_ACCEPT;
	if (end == NET_DROP)
		buf_addf(b, "add rule bridge " TABLE " p%c_%s counter name c_%s drop\n", d, p->name,
			 dir == NET_IN ? "in" : "out");
}

void sec_policy(struct buf *b, const struct sec_policy *p)
{
	add_policy(b, p, NET_IN);
	add_policy(b, p, NET_OUT);
	buf_addf(b, "add element bridge " TABLE " pol_in { %u : jump pi_%s }\n", p->number,
		 p->name);
	buf_addf(b, "add element bridge " TABLE " pol_out { %u : jump po_%s }\n", p->number,
		 p->name);
}

/* ---- forwards ---- */

static void put_service(struct elem *x, uint8_t proto, uint16_t port)
{
	uint16_t be = htons(port);

	elem_field(x, F_PROTO, &proto, 1);
	elem_field(x, F_PORT, &be, 2);
}

void sec_forward(struct sec_out *o, uint8_t proto, uint16_t at, const struct ipaddr *to,
		 uint16_t port)
{
	struct elem x;

	elem_start(&x, o, NFPROTO_INET, to->family == AF_INET ? "pf4" : "pf6");
	put_service(&x, proto, at);
	elem_end_target(&x, to, port);
}

void sec_host_forward(struct sec_out *o, const struct ipaddr *host, uint8_t proto,
		      uint16_t host_port, const struct ipaddr *router, uint16_t at)
{
	bool v4 = router->family == AF_INET;
	struct elem x;

	elem_start(&x, o, NFPROTO_INET,
		   host->family ? (v4 ? "on4" : "on6") : (v4 ? "any4" : "any6"));
	if (host->family)
		elem_field(&x, F_IP, host->b, ipaddr_len(host));
	put_service(&x, proto, host_port);
	elem_end_target(&x, router, at);
}

void sec_host_network(struct sec_out *o, const char *transit, bool routed, bool host_access)
{
	struct elem x;

	if (routed) {
		elem_start(&x, o, NFPROTO_INET, "routed");
		elem_ifname(&x, transit);
		elem_end(&x, "");
	}
	if (host_access) {
		elem_start(&x, o, NFPROTO_INET, "host_access");
		elem_ifname(&x, transit);
		elem_end(&x, "");
	}
}

void sec_host(struct buf *b, const struct ipprefix *transit4, const struct ipprefix *transit6)
{
	static const char dnat[] =
		"fib daddr type local dnat ip to ip daddr . meta l4proto . th dport map @on4\n"
		"fib daddr type local dnat ip to meta l4proto . th dport map @any4\n"
		"fib daddr type local dnat ip6 to ip6 daddr . meta l4proto . th dport map @on6\n"
		"fib daddr type local dnat ip6 to meta l4proto . th dport map @any6\n";
	char t4[IPADDR_TEXT + 4], t6[IPADDR_TEXT + 4];

	ipprefix_format(transit4, t4);
	ipprefix_format(transit6, t6);
	buf_adds(
		b,
		"add table inet " TABLE "\ndelete table inet " TABLE "\ntable inet " TABLE " {\n"
		"map on4 { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }\n"
		"map on6 { type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }\n"
		"map any4 { type inet_proto . inet_service : ipv4_addr . inet_service; }\n"
		"map any6 { type inet_proto . inet_service : ipv6_addr . inet_service; }\n"
		"set routed { type ifname; }\nset host_access { type ifname; }\n"
		"chain raw { type filter hook prerouting priority -300; policy accept;\n"
		"iifname \"sv*\" ip daddr 127.0.0.0/8 drop\n}\n");
	buf_addf(b, "chain nat_in { type nat hook prerouting priority -100;\n%s}\n", dnat);
	buf_addf(b, "chain nat_local { type nat hook output priority -100;\n%s}\n", dnat);
	buf_addf(b,
		 "chain nat_out { type nat hook postrouting priority 100;\n"
		 "oifname \"sv*\" ip saddr { 127.0.0.0/8, %s } masquerade\n"
		 "oifname \"sv*\" ip6 saddr { ::1, %s } masquerade\n"
		 "oifname != \"sv*\" ip saddr %s masquerade\n"
		 "oifname != \"sv*\" ip6 saddr %s masquerade\n}\n",
		 t4, t6, t4, t6);
	buf_adds(b, "chain forward { type filter hook forward priority 0; policy accept;\n"
		    "ct state established,related accept\n"
		    "ct status dnat accept\n"
		    "iifname @routed oifname @routed accept\n"
		    "iifname \"sv*\" oifname \"sv*\" drop\n}\n"
		    "chain input { type filter hook input priority 0; policy accept;\n"
		    "iifname \"sv*\" ct state established,related accept\n"
		    "iifname \"sv*\" meta l4proto { icmp, ipv6-icmp } accept\n"
		    "iifname \"sv*\" iifname != @host_access drop\n}\n}\n");
}
