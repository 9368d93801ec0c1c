/* The desired state as JSON, see net.h and docs/internals/net.md.  Unknown members are refused. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/str.h"
#include "ext/json.h"
#include "net/net.h"

static int copy_str(const struct json_in *o, const char *key, char *to, size_t len, bool need,
		    struct err **e)
{
	const char *s = NULL;
	int r = need ? json_need_str(o, key, &s, e) : json_opt_str(o, key, &s, e);

	if (r < 0 || !s)
		return r < 0 ? r : 0;
	if (strlen(s) >= len) {
		struct json_in f = json_in_field(o, key);

		return json_bad(&f, e, "net.length", "at most %zu characters", len - 1);
	}
	strcpy(to, s);
	return 0;
}

static int take_str(const struct json_in *o, const char *key, char **to, struct err **e)
{
	const char *s = NULL;
	int r = json_opt_str(o, key, &s, e);

	if (r <= 0)
		return r;
	*to = strdup(s);
	return *to ? 0 : -ENOMEM;
}

static int get_addr(const struct json_in *o, const char *key, struct ipaddr *to, struct err **e)
{
	struct json_in f = json_in_field(o, key);
	const char *s = NULL;
	int r = json_opt_str(o, key, &s, e);

	if (r <= 0)
		return r;
	return ipaddr_parse(s, to) < 0 ? json_bad(&f, e, "net.address", "'%s' is not an address", s)
				       : 0;
}

static int get_prefix(const struct json_in *o, const char *key, struct ipprefix *to, struct err **e)
{
	struct json_in f = json_in_field(o, key);
	const char *s = NULL;
	int r = json_opt_str(o, key, &s, e);

	if (r <= 0)
		return r;
	return ipprefix_parse(s, to) < 0
		       ? json_bad(&f, e, "net.subnet", "'%s' is not a prefix like 10.0.0.0/24", s)
		       : 0;
}

/* choices: NULL-terminated; the index goes to *ret. */
static int get_choice(const struct json_in *o, const char *key, const char *const *choices,
		      int *ret, struct err **e)
{
	struct json_in f = json_in_field(o, key);
	_cleanup_(buf_done) struct buf b = { 0 };
	const char *s = NULL;
	int r = json_opt_str(o, key, &s, e);

	if (r <= 0)
		return r;
	for (int i = 0; choices[i]; i++) {
		if (streq(choices[i], s)) {
			*ret = i;
			return 0;
		}
		buf_addf(&b, "%s'%s'", i ? ", " : "", choices[i]);
	}
	return json_bad(&f, e, "net.choice", "'%s' is none of %s", s, buf_str(&b));
}

static int get_u64(const struct json_in *o, const char *key, uint64_t max, uint64_t *ret,
		   struct err **e)
{
	int64_t v = (int64_t)*ret;
	int r = json_opt_int(o, key, 0, (int64_t)max, &v, e);

	*ret = (uint64_t)v;
	return r < 0 ? r : 0;
}

/* For fields narrower than 64 bits. */
#define GET_INT(o, key, max, field)                    \
	({                                             \
		uint64_t _v = (field);                 \
		int _r = get_u64(o, key, max, &_v, e); \
		(field) = (__typeof__(field))_v;       \
		_r;                                    \
	})
#define GET_BOOL(o, key, field) (r = r < 0 ? r : json_opt_bool(o, key, &(field), e))
#define TRY(call)		(r = r < 0 ? r : (call))

static const char *const policies[] = { "auto", "accept", "drop", NULL };

static int get_policy(const struct json_in *o, const char *key, enum net_policy *to, struct err **e)
{
	int v = (int)*to, r = get_choice(o, key, policies, &v, e);

	*to = (enum net_policy)v;
	return r;
}

static int get_rate(const struct json_in *o, const char *key, struct net_rate *to, struct err **e)
{
	static const char *const known[] = { "average", "peak", "burst", NULL };
	struct json_in in;
	int r = json_opt_obj(o, key, &in, e);

	if (r <= 0)
		return r;
	r = json_only(&in, known, e);
	TRY(get_u64(&in, "average", INT64_MAX, &to->average, e));
	TRY(get_u64(&in, "peak", INT64_MAX, &to->peak, e));
	TRY(get_u64(&in, "burst", INT64_MAX, &to->burst, e));
	return r;
}

static int parse_network(const struct json_in *o, struct net_spec *s, struct err **e)
{
	static const char *const known[] = { "id",     "name",		"project",     "mode",
					     "domain", "route_between", "host_access", NULL };
	static const char *const modes[] = { "nat", "routed", "isolated", NULL };
	struct net_network n = { 0 };
	int mode = NET_NAT, r = json_only(o, known, e);

	TRY(copy_str(o, "id", n.id, sizeof(n.id), true, e));
	strcpy(n.name, n.id);
	TRY(copy_str(o, "name", n.name, sizeof(n.name), false, e));
	TRY(copy_str(o, "project", n.project, sizeof(n.project), false, e));
	TRY(copy_str(o, "domain", n.domain, sizeof(n.domain), false, e));
	TRY(get_choice(o, "mode", modes, &mode, e));
	GET_BOOL(o, "route_between", n.route_between);
	GET_BOOL(o, "host_access", n.host_access);
	n.mode = (enum net_mode)mode;
	return r < 0 ? r : vec_push(&s->networks, n);
}

static int parse_portgroup(const struct json_in *o, struct net_spec *s, struct err **e)
{
	static const char *const known[] = {
		"id",	    "name",	"network",  "uplink", "vlan",	     "mtu",   "subnet4",
		"subnet6",  "gateway4", "gateway6", "range",  "no_services", "slaac", "isolate",
		"no_guard", "to_nic",	"from_nic", "in",     "out",	     "dns",   NULL
	};
	struct net_portgroup p = { 0 };
	struct json_in dns, range;
	int r = json_only(o, known, e);

	TRY(copy_str(o, "id", p.id, sizeof(p.id), true, e));
	strcpy(p.name, p.id);
	TRY(copy_str(o, "name", p.name, sizeof(p.name), false, e));
	TRY(copy_str(o, "network", p.network, sizeof(p.network), true, e));
	TRY(copy_str(o, "uplink", p.uplink, sizeof(p.uplink), false, e));
	TRY(GET_INT(o, "vlan", 65535, p.vlan)); /* the range is checked with the rest, in words */
	TRY(GET_INT(o, "mtu", UINT32_MAX, p.mtu));
	TRY(get_prefix(o, "subnet4", &p.subnet4, e));
	TRY(get_prefix(o, "subnet6", &p.subnet6, e));
	TRY(get_addr(o, "gateway4", &p.gateway4, e));
	TRY(get_addr(o, "gateway6", &p.gateway6, e));
	GET_BOOL(o, "no_services", p.no_services);
	GET_BOOL(o, "slaac", p.slaac);
	GET_BOOL(o, "isolate", p.isolate);
	GET_BOOL(o, "no_guard", p.no_guard);
	TRY(get_rate(o, "to_nic", &p.to_nic, e));
	TRY(get_rate(o, "from_nic", &p.from_nic, e));
	TRY(get_policy(o, "in", &p.in, e));
	TRY(get_policy(o, "out", &p.out, e));
	TRY(json_opt_obj(o, "range", &range, e));
	if (r > 0) {
		TRY(get_addr(&range, "first", &p.range_first, e));
		TRY(get_addr(&range, "last", &p.range_last, e));
	}
	TRY(json_opt_arr(o, "dns", &dns, e));
	if (r > 0) {
		if (json_in_len(&dns) > NET_DNS_MAX)
			return json_bad(&dns, e, "net.dns", "at most %d servers", NET_DNS_MAX);
		for (size_t i = 0; r >= 0 && i < json_in_len(&dns); i++) {
			struct json_in item = json_in_item(&dns, i);
			const char *t;

			TRY(json_in_str(&item, &t, e));
			if (r >= 0 && ipaddr_parse(t, &p.dns[p.n_dns++]) < 0)
				return json_bad(&item, e, "net.address", "'%s' is not an address",
						t);
		}
	}
	return r < 0 ? r : vec_push(&s->portgroups, p);
}

static int get_proto(const struct json_in *o, int16_t *to, struct err **e)
{
	static const struct {
		const char *name;
		int16_t num;
	} protos[] = { { "any", -1 },
		       { "tcp", IPPROTO_TCP },
		       { "udp", IPPROTO_UDP },
		       { "icmp", IPPROTO_ICMP },
		       { "icmpv6", IPPROTO_ICMPV6 },
		       { "sctp", IPPROTO_SCTP } };
	struct json_in f = json_in_field(o, "proto");
	const char *s;
	uint64_t v;

	if (!f.v)
		return 0;
	if (json_kind(f.v) == JSON_K_INT) {
		int64_t i;
		int r = json_in_int(&f, 0, 255, &i, e);

		if (r == 0)
			*to = (int16_t)i;
		return r;
	}
	if (json_in_str(&f, &s, e) < 0)
		return -EINVAL;
	for (size_t i = 0; i < ARRAY_SIZE(protos); i++)
		if (streq(protos[i].name, s)) {
			*to = protos[i].num;
			return 0;
		}
	if (parse_u64(s, 255, &v) < 0)
		return json_bad(
			&f, e, "net.proto",
			"'%s' is no protocol: tcp, udp, icmp, icmpv6, sctp, any or a number", s);
	*to = (int16_t)v;
	return 0;
}

/* "80", "8000-8080", or a number. */
static int get_ports(const struct json_in *o, struct net_rule *q, struct err **e)
{
	struct json_in f = json_in_field(o, "ports");
	const char *s, *dash;
	uint64_t a, b;
	char first[8];

	if (!f.v)
		return 0;
	if (json_kind(f.v) == JSON_K_INT) {
		int64_t i;

		if (json_in_int(&f, 1, 65535, &i, e) < 0)
			return -EINVAL;
		q->port_min = q->port_max = (uint16_t)i;
		return 0;
	}
	if (json_in_str(&f, &s, e) < 0)
		return -EINVAL;
	dash = strchr(s, '-');
	if (dash && (size_t)(dash - s) < sizeof(first)) {
		memcpy(first, s, (size_t)(dash - s));
		first[dash - s] = '\0';
		if (parse_u64(first, 65535, &a) == 0 && parse_u64(dash + 1, 65535, &b) == 0 && a &&
		    b) {
			q->port_min = (uint16_t)a;
			q->port_max = (uint16_t)b;
			return 0;
		}
	} else if (!dash && parse_u64(s, 65535, &a) == 0 && a) {
		q->port_min = q->port_max = (uint16_t)a;
		return 0;
	}
	return json_bad(&f, e, "net.ports", "'%s' is neither a port nor a range like 8000-8080", s);
}

static int parse_rule(const struct json_in *o, struct net_rule *q, struct err **e)
{
	static const char *const known[] = { "dir",	  "action", "family", "proto", "ports",
					     "icmp_type", "cidr",   "group",  NULL };
	static const char *const dirs[] = { "in", "out", NULL },
				 *const actions[] = { "accept", "drop", NULL },
				 *const families[] = { "any", "ipv4", "ipv6", NULL };
	int dir = NET_IN, action = 0, family = 0, r = json_only(o, known, e);
	int64_t type = -1;

	*q = (struct net_rule){ .proto = -1 };
	TRY(get_choice(o, "dir", dirs, &dir, e));
	TRY(get_choice(o, "action", actions, &action, e));
	TRY(get_choice(o, "family", families, &family, e));
	TRY(get_proto(o, &q->proto, e));
	TRY(get_ports(o, q, e));
	TRY(json_opt_int(o, "icmp_type", 0, 255, &type, e));
	TRY(get_prefix(o, "cidr", &q->peer, e));
	TRY(copy_str(o, "group", q->peer_group, sizeof(q->peer_group), false, e));
	q->dir = (enum net_dir)dir;
	q->drop = action == 1;
	q->family = family == 1 ? AF_INET : family == 2 ? AF_INET6 : 0;
	q->icmp_type = (int16_t)type;
	return r;
}

static int parse_group(const struct json_in *o, struct net_spec *s, struct err **e)
{
	static const char *const known[] = { "id", "name", "project", "rules", NULL };
	struct net_group g = { 0 };
	struct json_in rules;
	int r = json_only(o, known, e);

	TRY(copy_str(o, "id", g.id, sizeof(g.id), true, e));
	strcpy(g.name, g.id);
	TRY(copy_str(o, "name", g.name, sizeof(g.name), false, e));
	TRY(copy_str(o, "project", g.project, sizeof(g.project), false, e));
	TRY(json_opt_arr(o, "rules", &rules, e));
	if (r > 0) {
		size_t n = json_in_len(&rules);

		if (n > NET_RULES_MAX)
			return json_bad(&rules, e, "net.rules", "at most %d rules", NET_RULES_MAX);
		g.rules = calloc(n ? n : 1, sizeof(*g.rules));
		if (!g.rules)
			return -ENOMEM;
		for (g.n_rules = 0; r >= 0 && g.n_rules < n; g.n_rules++) {
			struct json_in item = json_in_item(&rules, g.n_rules);

			r = parse_rule(&item, &g.rules[g.n_rules], e);
		}
	}
	TRY(vec_push(&s->groups, g));
	if (r < 0)
		free(g.rules);
	return r;
}

static int get_addrs(const struct json_in *o, struct net_nic *n, struct err **e)
{
	struct json_in arr;
	int r = json_opt_arr(o, "addresses", &arr, e);

	if (r <= 0)
		return r;
	if (json_in_len(&arr) > NET_ADDRS_MAX)
		return json_bad(&arr, e, "net.address", "at most %d addresses", NET_ADDRS_MAX);
	for (size_t i = 0; i < json_in_len(&arr); i++) {
		struct json_in item = json_in_item(&arr, i);
		const char *t;

		if (json_in_str(&item, &t, e) < 0)
			return -EINVAL;
		if (ipaddr_parse(t, &n->addrs[n->n_addrs]) < 0)
			return json_bad(&item, e, "net.address", "'%s' is not an address", t);
		n->n_addrs++;
	}
	return 0;
}

static int get_groups(const struct json_in *o, struct net_nic *n, struct err **e)
{
	struct json_in arr;
	int r = json_opt_arr(o, "groups", &arr, e);

	if (r <= 0)
		return r;
	if (json_in_len(&arr) > NET_GROUPS_MAX)
		return json_bad(&arr, e, "net.groups", "at most %d security groups",
				NET_GROUPS_MAX);
	for (size_t i = 0; i < json_in_len(&arr); i++) {
		struct json_in item = json_in_item(&arr, i);
		const char *t;

		if (json_in_str(&item, &t, e) < 0)
			return -EINVAL;
		if (strlen(t) >= NET_ID_MAX)
			return json_bad(&item, e, "net.length", "at most %d characters",
					NET_ID_MAX - 1);
		strcpy(n->groups[n->n_groups++], t);
	}
	return 0;
}

static int parse_nic(const struct json_in *o, struct net_spec *s, struct err **e)
{
	static const char *const known[] = { "id",
					     "owner",
					     "portgroup",
					     "hostname",
					     "kind",
					     "mac",
					     "addresses",
					     "netns",
					     "ifname",
					     "dhcp",
					     "no_default_route",
					     "queues",
					     "tap_uid",
					     "to_nic",
					     "from_nic",
					     "groups",
					     "in",
					     "out",
					     "down",
					     "no_guard",
					     "user_data",
					     "ssh_keys",
					     "instance_id",
					     NULL };
	static const char *const kinds[] = { "veth", "tap", NULL };
	struct json_in macf = json_in_field(o, "mac");
	const char *mac = NULL;
	int kind = NET_VETH, r = json_only(o, known, e);
	int64_t uid = -1;
	struct net_nic n;

	net_nic_init(&n);
	TRY(copy_str(o, "id", n.id, sizeof(n.id), true, e));
	TRY(copy_str(o, "owner", n.owner, sizeof(n.owner), false, e));
	TRY(copy_str(o, "portgroup", n.portgroup, sizeof(n.portgroup), true, e));
	TRY(copy_str(o, "hostname", n.hostname, sizeof(n.hostname), false, e));
	TRY(get_choice(o, "kind", kinds, &kind, e));
	TRY(json_opt_str(o, "mac", &mac, e));
	if (r >= 0 && mac && mac_parse(mac, n.mac) < 0)
		return json_bad(&macf, e, "net.mac", "'%s' is not a MAC address", mac);
	TRY(get_addrs(o, &n, e));
	TRY(copy_str(o, "netns", n.netns, sizeof(n.netns), false, e));
	TRY(copy_str(o, "ifname", n.ifname, sizeof(n.ifname), false, e));
	GET_BOOL(o, "dhcp", n.dhcp);
	GET_BOOL(o, "no_default_route", n.no_default_route);
	TRY(GET_INT(o, "queues", UINT32_MAX, n.queues));
	TRY(json_opt_int(o, "tap_uid", -1, INT32_MAX, &uid, e));
	TRY(get_rate(o, "to_nic", &n.to_nic, e));
	TRY(get_rate(o, "from_nic", &n.from_nic, e));
	TRY(get_groups(o, &n, e));
	TRY(get_policy(o, "in", &n.in, e));
	TRY(get_policy(o, "out", &n.out, e));
	GET_BOOL(o, "down", n.down);
	GET_BOOL(o, "no_guard", n.no_guard);
	n.kind = (enum net_nic_kind)kind;
	n.tap_uid = (int)uid;
	TRY(take_str(o, "user_data", &n.user_data, e));
	TRY(take_str(o, "ssh_keys", &n.ssh_keys, e));
	TRY(take_str(o, "instance_id", &n.instance_id, e));
	TRY(vec_push(&s->nics, n));
	if (r < 0) {
		free(n.user_data);
		free(n.ssh_keys);
		free(n.instance_id);
	}
	return r;
}

static int parse_forward(const struct json_in *o, struct net_spec *s, struct err **e)
{
	static const char *const known[] = { "id",	  "nic",  "proto", "host_addr",
					     "host_port", "port", NULL };
	static const char *const protos[] = { "tcp", "udp", NULL };
	struct net_forward f = { 0 };
	int proto = 0, r = json_only(o, known, e);

	TRY(copy_str(o, "id", f.id, sizeof(f.id), true, e));
	TRY(copy_str(o, "nic", f.nic, sizeof(f.nic), true, e));
	TRY(get_choice(o, "proto", protos, &proto, e));
	TRY(get_addr(o, "host_addr", &f.host_addr, e));
	TRY(GET_INT(o, "host_port", 65535, f.host_port));
	TRY(GET_INT(o, "port", 65535, f.port));
	f.proto = proto ? IPPROTO_UDP : IPPROTO_TCP;
	return r < 0 ? r : vec_push(&s->forwards, f);
}

static int parse_list(const struct json_in *root, const char *key,
		      int (*fn)(const struct json_in *, struct net_spec *, struct err **),
		      struct net_spec *s, struct err **e)
{
	struct json_in arr;
	int r = json_opt_arr(root, key, &arr, e);

	for (size_t i = 0; r > 0 && i < json_in_len(&arr); i++) {
		struct json_in item = json_in_item(&arr, i);

		r = json_in_is(&item, JSON_K_OBJECT, e);
		if (r == 0)
			r = fn(&item, s, e);
		if (r < 0)
			return r;
		r = 1;
	}
	return r < 0 ? r : 0;
}

int net_spec_parse(const char *text, size_t len, struct net_spec *ret, struct err **e)
{
	static const char *const known[] = { "networks", "portgroups", "groups",
					     "nics",	 "forwards",   NULL };
	_cleanup_(json_freep) struct json *v = NULL;
	struct net_spec s = { 0 };
	struct json_in root;
	int r = json_parse(text, len, NULL, &v, e);

	if (r < 0)
		return r;
	root = json_in(v, "state");
	r = json_in_is(&root, JSON_K_OBJECT, e);
	TRY(json_only(&root, known, e));
	TRY(parse_list(&root, "networks", parse_network, &s, e));
	TRY(parse_list(&root, "portgroups", parse_portgroup, &s, e));
	TRY(parse_list(&root, "groups", parse_group, &s, e));
	TRY(parse_list(&root, "nics", parse_nic, &s, e));
	TRY(parse_list(&root, "forwards", parse_forward, &s, e));
	if (r < 0) {
		net_spec_done(&s);
		if (e && !*e)
			return err_sys(e, -r, "read desired state");
		return r;
	}
	*ret = s;
	return 0;
}
