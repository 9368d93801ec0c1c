/* Network objects and NICs; see network.h.  What the net room calls ids are our objects' ids; a NIC is "<instance>.<nic>", a
 * published port "<instance>.p<index>".
 *
 * Invariant: a network object whose status has a subnet keeps it for good: it is what leases and instances refer to. */
#define LOG_MODULE "network"
#include "node/service/network.h"

#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include "base/log.h"
#include "base/str.h"

#define PORT_FIRST 40000 /* host ports that are chosen when none was named */
#define PORT_LAST  48999

struct networks {
	struct node *node;
	struct net *net; /* NULL: not needed yet */
	char *state_dir;
	unsigned int next_port;
};

/* -- objects -------------------------------------------------------------------------------------- */

static struct json *status_new(const char *state)
{
	struct json *s = json_new_obj();

	json_set(s, "state", json_new_str(state));
	return s;
}

static const char *status_str(const struct object *o, const char *key)
{
	return json_str(json_get(o->status, key));
}

static struct object *find(struct networks *ns, const char *type, const char *project,
			   const char *ref, struct err **e)
{
	return inventory_find(ns->node->inventory, type, project, ref, e);
}

/* Every subnet that a port group has. */
static int taken_subnets(struct networks *ns, struct ipprefix **ret, size_t *n, struct err **e)
{
	struct inventory *inv = ns->node->inventory;

	*n = 0;
	*ret = calloc(inventory_count(inv, "portgroup") + 1, sizeof(**ret));
	if (!*ret)
		return err_sys(e, ENOMEM, "network");
	for (struct object *o = inventory_next(inv, "portgroup", NULL); o;
	     o = inventory_next(inv, "portgroup", o)) {
		const char *s = status_str(o, "ipv4");

		if (s && ipprefix_parse(s, &(*ret)[*n]) == 0)
			(*n)++;
	}
	return 0;
}

/* The subnet of a new port group: the network's own for the first, a free one for others. */
static int choose_subnet(struct networks *ns, const struct api_network_spec *net, bool first,
			 struct ipprefix *ret, struct err **e)
{
	_cleanup_(freep) struct ipprefix *taken = NULL;
	size_t n = 0;
	int r;

	if (first && net->ipv4.subnet) {
		r = ipprefix_parse(net->ipv4.subnet, ret);
		return r < 0 ? err_set(e, EINVAL, "network.subnet", "'%s' is no subnet",
				       net->ipv4.subnet)
			     : 0;
	}
	r = taken_subnets(ns, &taken, &n, e);
	return r < 0 ? r : net_free_subnet(taken, n, ret, e);
}

static void rate_of(const struct api_net_rate *r, struct net_rate *ret)
{
	*ret = (struct net_rate){ 0 };
	if (!r)
		return;
	ret->average = r->average;
	ret->peak = r->has_peak ? r->peak : 0;
	ret->burst = r->has_burst ? r->burst : 0;
}

static void network_fill(const struct object *o, const struct api_network_spec *s,
			 struct net_network *w)
{
	*w = (struct net_network){ .route_between = true };
	snprintf(w->id, sizeof(w->id), "%s", o->id);
	snprintf(w->name, sizeof(w->name), "%s", o->name);
	snprintf(w->project, sizeof(w->project), "%s", o->project);
	snprintf(w->domain, sizeof(w->domain), "%s", s->dns.domain ? s->dns.domain : "");
	w->mode = s->mode == API_NETWORK_MODE_ROUTED	 ? NET_ROUTED
		  : s->mode == API_NETWORK_MODE_ISOLATED ? NET_ISOLATED
							 : NET_NAT;
}

static void portgroup_fill(const struct object *o, const struct object *net,
			   const struct api_network_spec *ns, const struct api_portgroup_spec *s,
			   struct net_portgroup *w)
{
	const char *own = status_str(net, "ipv4"), *v4 = status_str(o, "ipv4");
	const char *v6 = status_str(o, "ipv6");

	*w = (struct net_portgroup){ .isolate = s->isolated, .no_guard = !s->antispoof };
	snprintf(w->id, sizeof(w->id), "%s", o->id);
	snprintf(w->name, sizeof(w->name), "%s", o->name);
	snprintf(w->network, sizeof(w->network), "%s", net->id);
	if (ns->uplink && ns->mode == API_NETWORK_MODE_UPLINK)
		snprintf(w->uplink, sizeof(w->uplink), "%s", ns->uplink);
	w->vlan = s->has_vlan ? (uint16_t)s->vlan : 0;
	w->mtu = (uint32_t)ns->mtu;
	if (v4)
		ipprefix_parse(v4, &w->subnet4);
	if (v6)
		ipprefix_parse(v6, &w->subnet6);
	w->slaac = v6 != NULL;
	if (own && v4 && streq(own, v4)) {
		if (ns->ipv4.gateway)
			ipaddr_parse(ns->ipv4.gateway, &w->gateway4);
		if (ns->ipv4.range) {
			ipaddr_parse(ns->ipv4.range->first, &w->range_first);
			ipaddr_parse(ns->ipv4.range->last, &w->range_last);
		}
	}
	for (size_t k = 0; k < ns->dns.servers.n && w->n_dns < NET_DNS_MAX; k++) {
		if (ipaddr_parse(ns->dns.servers.v[k], &w->dns[w->n_dns]) == 0)
			w->n_dns++;
	}
	rate_of(s->limits.ingress, &w->to_nic);
	rate_of(s->limits.egress, &w->from_nic);
}

static int network_spec_of(const struct object *o, struct api_network_spec *ret, struct err **e)
{
	return api_network_spec_parse(ret, o->spec, GEN_TRUSTED, e);
}

static struct object *network_of(struct networks *ns, const struct object *pg)
{
	const char *id = json_str(json_get(pg->spec, "network"));

	return id ? find(ns, "network", pg->project, id, NULL) : NULL;
}

static int fill_portgroup(struct networks *ns, const struct object *pg, struct net_portgroup *w,
			  struct err **e)
{
	_cleanup_(api_network_spec_done) struct api_network_spec n = { 0 };
	_cleanup_(api_portgroup_spec_done) struct api_portgroup_spec s = { 0 };
	struct object *net = network_of(ns, pg);
	int r;

	if (!net)
		return err_set(e, ENOENT, "network.missing", "port group '%s' has lost its network",
			       pg->name);
	r = network_spec_of(net, &n, e);
	if (r == 0)
		r = api_portgroup_spec_parse(&s, pg->spec, GEN_TRUSTED, e);
	if (r == 0)
		portgroup_fill(pg, net, &n, &s, w);
	return r;
}

/* -- the engine ----------------------------------------------------------------------------------- */

static int engine(struct networks *ns, struct err **e)
{
	struct net_cfg cfg = { .loop = ns->node->loop, .state_dir = ns->state_dir };
	int r = ns->net ? 0 : net_new(&cfg, &ns->net, e);

	return r < 0 ? err_wrap(e, r, "network") : 0;
}

static int spec_objects(struct networks *ns, struct net_spec *s, struct err **e)
{
	struct inventory *inv = ns->node->inventory;

	for (struct object *o = inventory_next(inv, "network", NULL); o;
	     o = inventory_next(inv, "network", o)) {
		_cleanup_(api_network_spec_done) struct api_network_spec n = { 0 };
		struct net_network w;
		int r = network_spec_of(o, &n, e);

		if (r < 0)
			return r;
		network_fill(o, &n, &w);
		if (vec_push(&s->networks, w) < 0)
			return err_sys(e, ENOMEM, "network");
	}
	for (struct object *o = inventory_next(inv, "portgroup", NULL); o;
	     o = inventory_next(inv, "portgroup", o)) {
		struct net_portgroup w;
		int r = fill_portgroup(ns, o, &w, e);

		if (r < 0)
			return r;
		if (vec_push(&s->portgroups, w) < 0)
			return err_sys(e, ENOMEM, "network");
	}
	return 0;
}

static void show_states(struct networks *ns, const char *type, const char *state)
{
	struct inventory *inv = ns->node->inventory;

	for (struct object *o = inventory_next(inv, type, NULL); o;
	     o = inventory_next(inv, type, o)) {
		const char *is = status_str(o, "state");

		if (!is || !streq(is, state))
			inventory_patch_status(inv, o, status_new(state), NULL);
	}
}

static int nic_fill(struct networks *ns, const struct nic_want *w, struct net_nic *x,
		    struct object **pg, struct err **e);
static void forward_fill(const char *instance, const char *nic, unsigned int index,
			 const struct api_instance_port *p, struct net_forward *f);

int networks_apply(struct networks *ns, const struct nic_want *want, size_t n, struct err **e)
{
	_cleanup_(net_spec_done) struct net_spec s = { 0 };
	unsigned int failed = 0;
	int r = engine(ns, e);

	if (r == 0)
		r = spec_objects(ns, &s, e);
	for (size_t k = 0; k < n && r == 0; k++) {
		struct object *pg;
		struct net_nic x;
		struct net_forward f;

		if (nic_fill(ns, &want[k], &x, &pg, NULL) < 0)
			continue;
		r = vec_push(&s.nics, x);
		for (size_t p = 0; r == 0 && want[k].index == 0 && p < want[k].n_ports; p++) {
			forward_fill(want[k].instance, want[k].spec->id, (unsigned int)p,
				     &want[k].ports[p], &f);
			r = vec_push(&s.forwards, f);
		}
		if (r < 0)
			return err_sys(e, ENOMEM, "network");
	}
	if (r == 0) {
		_cleanup_(err_freep) struct err *first = NULL;

		r = net_apply(ns->net, &s, &failed, &first);
		if (r < 0 && failed == 0) { /* refused as a whole */
			err_move(e, &first);
			return r;
		}
		if (r < 0)
			log_err("network is not whole", "failed", failed, "first", first);
	}
	if (r < 0 && failed == 0)
		return r;
	show_states(ns, "network", "ready");
	show_states(ns, "portgroup", "ready");
	return 0;
}

/* The first use since the start. */
static int ready(struct networks *ns, struct err **e)
{
	return ns->net ? 0 : networks_apply(ns, NULL, 0, e);
}

/* -- making and removing objects ------------------------------------------------------------------ */

static struct json *spec_json(const struct gen_type *t, const void *spec)
{
	return gen_to_json(t, spec, GEN_SECRETS);
}

static int make(struct networks *ns, const char *type, const char *project, const char *name,
		const char *description, const struct gen_map *labels, struct json *spec,
		struct object **ret, struct err **e)
{
	_cleanup_(json_freep) struct json *status = status_new("pending"), *l = NULL;
	struct object_init init = { .type = type,
				    .project = project,
				    .name = name,
				    .description = description,
				    .spec = spec,
				    .status = status };
	int r;

	if (labels && labels->n) {
		l = json_new_obj();
		for (size_t k = 0; k < labels->n; k++)
			json_set(l, labels->v[k].key, json_new_str(labels->v[k].value));
		init.labels = l;
	}
	if (!spec || !status)
		return err_sys(e, ENOMEM, "%s '%s'", type, name);
	r = inventory_create(ns->node->inventory, &init, ret, e);
	return r == -EEXIST && e && !*e ? err_set(e, EEXIST, "object.exists",
						  "there is a %s '%s' already", type, name)
					: r;
}

static int portgroup_make(struct networks *ns, const struct api_portgroup *body, struct object *net,
			  bool first, struct object **ret, struct err **e)
{
	_cleanup_(api_network_spec_done) struct api_network_spec n = { 0 };
	_cleanup_(json_freep) struct json *spec = NULL;
	char text[IPADDR_TEXT + 4];
	struct ipprefix subnet;
	struct json *st;
	int r = network_spec_of(net, &n, e);

	if (r == 0)
		r = choose_subnet(ns, &n, first, &subnet, e);
	if (r < 0)
		return r;
	spec = spec_json(&api_portgroup_spec_type, &body->spec);
	json_set(spec, "network", json_new_str(net->id));
	r = make(ns, "portgroup", net->project, body->name, body->description, &body->labels, spec,
		 ret, e);
	if (r < 0)
		return r;
	st = status_new("pending");
	json_set(st, "ipv4", json_new_str(ipprefix_format(&subnet, text)));
	if (n.ipv6.enabled) {
		struct ipprefix six = { .a = { .family = AF_INET6, .b = { 0xfd, 0x83 } },
					.len = 64 };

		memcpy(&six.a.b[4], subnet.a.b, 3);
		if (first && n.ipv6.subnet)
			ipprefix_parse(n.ipv6.subnet, &six);
		json_set(st, "ipv6", json_new_str(ipprefix_format(&six, text)));
	}
	inventory_patch_status(ns->node->inventory, *ret, st, NULL);
	return inventory_flush(ns->node->inventory, e);
}

static void count_portgroups(struct networks *ns, struct object *net)
{
	struct json *st = json_new_obj();
	int64_t n = 0;

	for (struct object *o = inventory_next(ns->node->inventory, "portgroup", NULL); o;
	     o = inventory_next(ns->node->inventory, "portgroup", o))
		n += network_of(ns, o) == net;
	json_set(st, "portgroups", json_new_int(n));
	inventory_patch_status(ns->node->inventory, net, st, NULL);
}

static int put_network(struct networks *ns, struct object *o, struct err **e)
{
	_cleanup_(api_network_spec_done) struct api_network_spec s = { 0 };
	struct net_network w;
	int r = network_spec_of(o, &s, e);

	if (r < 0)
		return r;
	network_fill(o, &s, &w);
	return net_network_put(ns->net, &w, e);
}

static int put_portgroup(struct networks *ns, struct object *o, struct err **e)
{
	struct net_portgroup w;
	int r = fill_portgroup(ns, o, &w, e);

	return r < 0 ? r : net_portgroup_put(ns->net, &w, e);
}

static void show_ready(struct networks *ns, struct object *o)
{
	inventory_patch_status(ns->node->inventory, o, status_new("ready"), NULL);
}

int networks_create(struct networks *ns, const struct api_network *body, struct object **ret,
		    struct err **e)
{
	_cleanup_(api_portgroup_done) struct api_portgroup pg = { 0 };
	_cleanup_(json_freep) struct json *spec = spec_json(&api_network_spec_type, &body->spec);
	struct inventory *inv = ns->node->inventory;
	struct object *net, *port = NULL;
	struct json *st;
	int r;

	if (body->spec.mode == API_NETWORK_MODE_UPLINK && !body->spec.uplink)
		return err_set(e, EINVAL, "network.uplink",
			       "an uplink network needs the name of a host interface");
	r = make(ns, "network", body->project, body->name, body->description, &body->labels, spec,
		 &net, e);
	if (r < 0)
		return r;
	r = api_portgroup_init(&pg);
	pg.name = r == 0 ? strdup(body->name) : NULL;
	if (!pg.name)
		r = err_sys(e, ENOMEM, "network '%s'", body->name);
	if (r == 0)
		r = portgroup_make(ns, &pg, net, true, &port, e);
	if (r == 0) {
		st = json_new_obj();
		json_set(st, "ipv4", json_new_str(status_str(port, "ipv4")));
		if (status_str(port, "ipv6"))
			json_set(st, "ipv6", json_new_str(status_str(port, "ipv6")));
		json_set(st, "portgroups", json_new_int(1));
		inventory_patch_status(inv, net, st, NULL);
		r = inventory_flush(inv, e);
	}
	if (r == 0 && ns->net) {
		r = put_network(ns, net, e);
		if (r == 0)
			r = put_portgroup(ns, port, e);
		if (r == 0) {
			show_ready(ns, net);
			show_ready(ns, port);
		} else {
			net_portgroup_remove(ns->net, port->id, NULL);
			net_network_remove(ns->net, net->id, NULL);
		}
	}
	if (r < 0) {
		if (port)
			inventory_delete(inv, port, NULL);
		inventory_delete(inv, net, NULL);
		return r;
	}
	if (ret)
		*ret = net;
	return 0;
}

int portgroups_create(struct networks *ns, const struct api_portgroup *body, struct object **ret,
		      struct err **e)
{
	struct object *net = find(ns, "network", body->project, body->spec.network, e);
	struct object *pg;
	int r;

	if (!net)
		return -ENOENT;
	r = portgroup_make(ns, body, net, false, &pg, e);
	if (r == 0 && ns->net) {
		r = put_portgroup(ns, pg, e);
		if (r < 0)
			inventory_delete(ns->node->inventory, pg, NULL);
		else
			show_ready(ns, pg);
	}
	if (r < 0)
		return r;
	count_portgroups(ns, net);
	if (ret)
		*ret = pg;
	return 0;
}

/* Instances that name the port group, running or not. */
static struct object *user_of(struct networks *ns, const struct object *pg)
{
	struct inventory *inv = ns->node->inventory;

	for (struct object *o = inventory_next(inv, "instance", NULL); o;
	     o = inventory_next(inv, "instance", o)) {
		const struct json *nics = json_get(o->spec, "nics");

		for (size_t k = 0; k < json_len(nics); k++) {
			const char *ref = json_str(json_get(json_at(nics, k), "portgroup"));

			if (ref && find(ns, "portgroup", o->project, ref, NULL) == pg)
				return o;
		}
	}
	return NULL;
}

static int refuse_used(struct networks *ns, const struct object *pg, struct err **e)
{
	struct object *o = user_of(ns, pg);

	return o ? err_set(e, EBUSY, "portgroup.used", "port group '%s' is used by instance '%s'",
			   pg->name, o->name)
		 : 0;
}

static int drop_portgroup(struct networks *ns, struct object *pg, struct err **e)
{
	int r = ns->net ? net_portgroup_remove(ns->net, pg->id, e) : 0;

	if (r == -ENOENT) {
		err_clear(e);
		r = 0;
	}
	return r < 0 ? r : inventory_delete(ns->node->inventory, pg, e);
}

int portgroups_remove(struct networks *ns, struct object *pg, struct err **e)
{
	struct object *net = network_of(ns, pg);
	int r = refuse_used(ns, pg, e);

	if (r == 0)
		r = drop_portgroup(ns, pg, e);
	if (r == 0 && net)
		count_portgroups(ns, net);
	return r;
}

int networks_remove(struct networks *ns, struct object *net, struct err **e)
{
	struct inventory *inv = ns->node->inventory;
	struct object *o, *next;
	int r = 0;

	for (o = inventory_next(inv, "portgroup", NULL); o && r == 0;
	     o = inventory_next(inv, "portgroup", o)) {
		if (network_of(ns, o) == net)
			r = refuse_used(ns, o, e);
	}
	for (o = inventory_next(inv, "portgroup", NULL); o && r == 0; o = next) {
		next = inventory_next(inv, "portgroup", o);
		if (network_of(ns, o) == net)
			r = drop_portgroup(ns, o, e);
	}
	if (r == 0 && ns->net) {
		r = net_network_remove(ns->net, net->id, e);
		if (r == -ENOENT) {
			err_clear(e);
			r = 0;
		}
	}
	return r < 0 ? r : inventory_delete(inv, net, e);
}

int networks_changed(struct networks *ns, struct object *o, struct err **e)
{
	if (!ns->net)
		return 0;
	return streq(o->type, "network") ? put_network(ns, o, e) : put_portgroup(ns, o, e);
}

/* -- opening -------------------------------------------------------------------------------------- */

static int make_default(struct networks *ns, struct err **e)
{
	_cleanup_(api_network_done) struct api_network n = { 0 };
	int r = api_network_init(&n);

	n.name = strdup("default");
	if (r < 0 || !n.name)
		return err_sys(e, ENOMEM, "default network");
	return networks_create(ns, &n, NULL, e);
}

int networks_open(struct node *n, struct networks **ret, struct err **e)
{
	struct networks *ns = calloc(1, sizeof(*ns));
	int r = 0;

	if (!ns || asprintf(&ns->state_dir, "%s/net", n->paths.state) < 0) {
		free(ns);
		return err_sys(e, ENOMEM, "network");
	}
	ns->node = n;
	ns->next_port = PORT_FIRST;
	if (!find(ns, "network", "default", "default", NULL))
		r = make_default(ns, e);
	if (r < 0) {
		networks_close(ns);
		return err_wrap(e, r, "make the default network");
	}
	*ret = ns;
	return 0;
}

void networks_close(struct networks *ns)
{
	if (!ns)
		return;
	net_free(ns->net);
	free(ns->state_dir);
	free(ns);
}

/* -- NICs ----------------------------------------------------------------------------------------- */

static void nic_id(char id[NET_ID_MAX], const char *instance, const char *nic)
{
	snprintf(id, NET_ID_MAX, "%.36s.%.24s", instance, nic);
}

static char *join_keys(const struct api_cloud_init *ci)
{
	struct buf b = { 0 };

	for (size_t k = 0; k < ci->ssh_keys.n; k++)
		buf_addf(&b, "%s\n", ci->ssh_keys.v[k]);
	return buf_take(&b);
}

/* x->user_data and ssh_keys are the caller's to free. */
static int nic_fill(struct networks *ns, const struct nic_want *w, struct net_nic *x,
		    struct object **pg, struct err **e)
{
	const struct api_instance_nic *s = w->spec;

	*pg = find(ns, "portgroup", w->project, s->portgroup, e);
	if (!*pg)
		return -ENOENT;
	net_nic_init(x);
	nic_id(x->id, w->instance, s->id);
	snprintf(x->owner, sizeof(x->owner), "%s", w->instance);
	snprintf(x->portgroup, sizeof(x->portgroup), "%s", (*pg)->id);
	snprintf(x->hostname, sizeof(x->hostname), "%s", w->hostname);
	x->kind = w->vm ? NET_TAP : NET_VETH;
	if (s->mac && sscanf(s->mac, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx", &x->mac[0], &x->mac[1],
			     &x->mac[2], &x->mac[3], &x->mac[4], &x->mac[5]) != 6)
		return err_set(e, EINVAL, "nic.mac", "'%s' is no MAC address", s->mac);
	if (s->firewall.n)
		return err_set(e, ENOTSUP, "nic.firewall",
			       "interface '%s': firewall groups are not part of this release",
			       s->id);
	for (size_t k = 0; k < s->addresses.n; k++) {
		if (x->n_addrs == NET_ADDRS_MAX ||
		    ipaddr_parse(s->addresses.v[k], &x->addrs[x->n_addrs]) < 0)
			return err_set(e, EINVAL, "nic.address",
				       "interface '%s': '%s' is no address, or one too many", s->id,
				       s->addresses.v[k]);
		x->n_addrs++;
	}
	x->netns_fd = w->vm ? -1 : w->netns_fd;
	if (w->netns)
		snprintf(x->netns, sizeof(x->netns), "%s", w->netns);
	snprintf(x->ifname, sizeof(x->ifname), "eth%u", w->index % 100);
	x->no_default_route = w->index > 0;
	x->queues = w->vm ? (unsigned int)s->queues : 0;
	rate_of(s->limits.ingress, &x->to_nic);
	rate_of(s->limits.egress, &x->from_nic);
	x->down = !s->connected;
	if (w->cloud_init) {
		x->user_data = w->cloud_init->user_data ? strdup(w->cloud_init->user_data) : NULL;
		x->ssh_keys = join_keys(w->cloud_init);
		x->instance_id = strdup(w->instance);
	}
	return 0;
}

static int plan_fill(struct networks *ns, const struct nic_want *w, const struct object *pg,
		     const struct net_nic *x, struct plan_nic *p, struct err **e)
{
	const char *v4 = status_str(pg, "ipv4"), *v6 = status_str(pg, "ipv6");
	struct ipprefix s4 = { 0 }, s6 = { 0 };
	struct net_nic_status st;
	int r = net_nic_status(ns->net, x->id, &st, e);

	if (r < 0)
		return r;
	*p = (struct plan_nic){ .mtu = st.mtu,
				.model = w->spec->model,
				.connected = w->spec->connected };
	p->id = strdup(w->spec->id);
	p->net_id = strdup(x->id);
	if (!p->id || !p->net_id) {
		free(p->id);
		free(p->net_id);
		return err_sys(e, ENOMEM, "interface '%s'", w->spec->id);
	}
	snprintf(p->ifname, sizeof(p->ifname), "%s", x->ifname);
	memcpy(p->mac, st.mac, 6);
	if (v4)
		ipprefix_parse(v4, &s4);
	if (v6)
		ipprefix_parse(v6, &s6);
	for (unsigned int k = 0; k < st.n_addrs && p->n_addrs < PLAN_ADDRS_MAX; k++)
		p->addrs[p->n_addrs++] =
			(struct plan_addr){ st.addrs[k],
					    st.addrs[k].family == AF_INET ? s4.len : s6.len };
	if (w->index == 0 && v4)
		p->gateways[0] = ipprefix_host(&s4, 0);
	if (w->index == 0 && v6)
		p->gateways[1] = ipprefix_host(&s6, 0);
	if (!w->vm)
		return 0;
	p->n_queues = PLAN_QUEUES_MAX;
	r = net_nic_tap_fds(ns->net, x->id, p->tap, &p->n_queues, e);
	if (r < 0) {
		p->n_queues = 0;
		free(p->id);
		free(p->net_id);
	}
	return r;
}

int networks_nic_put(struct networks *ns, const struct nic_want *w, struct plan_nic *ret,
		     struct err **e)
{
	struct object *pg = NULL;
	struct net_nic x;
	int r = ready(ns, e);

	if (r < 0)
		return r;
	net_nic_init(&x);
	r = nic_fill(ns, w, &x, &pg, e);
	if (r == 0)
		r = net_nic_put(ns->net, &x, e);
	if (r == 0 && ret)
		r = plan_fill(ns, w, pg, &x, ret, e);
	free(x.user_data);
	free(x.ssh_keys);
	free(x.instance_id);
	return r < 0 ? err_wrap(e, r, "interface '%s'", w->spec->id) : 0;
}

int networks_nic_remove(struct networks *ns, const char *instance, const char *nic, struct err **e)
{
	char id[NET_ID_MAX];
	int r;

	if (!ns->net) /* what an earlier process left goes with the first use */
		return 0;
	nic_id(id, instance, nic);
	r = net_nic_remove(ns->net, id, e);
	if (r == -ENOENT) {
		err_clear(e);
		r = 0;
	}
	return r;
}

int networks_dns(struct networks *ns, const struct nic_want *w, struct ipaddr servers[NET_DNS_MAX],
		 unsigned int *n_servers, char domain[128])
{
	_cleanup_(api_network_spec_done) struct api_network_spec s = { 0 };
	struct object *pg = find(ns, "portgroup", w->project, w->spec->portgroup, NULL), *net;
	struct ipprefix p;

	*n_servers = 0;
	domain[0] = '\0';
	net = pg ? network_of(ns, pg) : NULL;
	if (!net || network_spec_of(net, &s, NULL) < 0)
		return -ENOENT;
	snprintf(domain, 128, "%s", s.dns.domain ? s.dns.domain : "");
	if (s.dns.enabled && status_str(pg, "ipv4") &&
	    ipprefix_parse(status_str(pg, "ipv4"), &p) == 0)
		servers[(*n_servers)++] = ipprefix_host(&p, 0);
	return 0;
}

/* -- published ports ------------------------------------------------------------------------------ */

static void forward_fill(const char *instance, const char *nic, unsigned int index,
			 const struct api_instance_port *p, struct net_forward *f)
{
	*f = (struct net_forward){ .proto = p->protocol == API_PORT_PROTOCOL_UDP ? IPPROTO_UDP
										 : IPPROTO_TCP,
				   .host_port = (uint16_t)p->host,
				   .port = (uint16_t)p->guest };
	snprintf(f->id, sizeof(f->id), "%.36s.p%u", instance, index);
	nic_id(f->nic, instance, nic);
	if (p->host_ip)
		ipaddr_parse(p->host_ip, &f->host_addr);
}

/* Does a process of the host listen there? */
static bool port_busy(const struct net_forward *f)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(f->host_port) };
	int fd = socket(AF_INET,
			(f->proto == IPPROTO_UDP ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
	bool busy;

	if (f->host_addr.family == AF_INET)
		memcpy(&a.sin_addr, f->host_addr.b, 4);
	busy = fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 && errno == EADDRINUSE;
	safe_close(fd);
	return busy;
}

int networks_port_put(struct networks *ns, const char *instance, const char *nic,
		      unsigned int index, struct api_instance_port *p, struct err **e)
{
	struct net_forward f;
	int r;

	if (!ns->net)
		return err_set(e, EINVAL, "port.network", "a published port needs an interface");
	forward_fill(instance, nic, index, p, &f);
	if (p->has_host && p->host) {
		if (port_busy(&f))
			return err_set(e, EADDRINUSE, "port.busy",
				       "port %u of the host is in use by one of its processes",
				       f.host_port);
		return net_forward_put(ns->net, &f, e);
	}
	for (unsigned int tries = 0; tries <= PORT_LAST - PORT_FIRST; tries++) {
		f.host_port = (uint16_t)ns->next_port;
		ns->next_port = ns->next_port == PORT_LAST ? PORT_FIRST : ns->next_port + 1;
		if (port_busy(&f))
			continue;
		err_clear(e);
		r = net_forward_put(ns->net, &f, e);
		if (r == -EEXIST)
			continue;
		if (r == 0) {
			p->host = f.host_port;
			p->has_host = true;
		}
		return r;
	}
	err_clear(e);
	return err_set(e, EADDRINUSE, "port.none", "no port from %d to %d is free", PORT_FIRST,
		       PORT_LAST);
}

int networks_port_remove(struct networks *ns, const char *instance, unsigned int index,
			 struct err **e)
{
	char id[NET_ID_MAX];
	int r;

	if (!ns->net)
		return 0;
	snprintf(id, sizeof(id), "%.36s.p%u", instance, index);
	r = net_forward_remove(ns->net, id, e);
	if (r == -ENOENT) {
		err_clear(e);
		r = 0;
	}
	return r;
}

/* -- what is -------------------------------------------------------------------------------------- */

struct json *networks_nic_show(struct networks *ns, const char *instance, const char *nic)
{
	struct net_nic_status st;
	struct json *o, *addrs;
	struct object *pg, *net;
	char id[NET_ID_MAX], text[IPADDR_TEXT];

	nic_id(id, instance, nic);
	if (!ns->net || net_nic_status(ns->net, id, &st, NULL) < 0)
		return NULL;
	o = json_new_obj();
	addrs = json_new_arr();
	pg = inventory_get(ns->node->inventory, st.portgroup);
	net = pg ? network_of(ns, pg) : NULL;
	json_set(o, "id", json_new_str(nic));
	if (pg)
		json_set(o, "portgroup", json_new_str(pg->name));
	if (net)
		json_set(o, "network", json_new_str(net->name));
	json_set(o, "mac",
		 json_new_fmt("%02x:%02x:%02x:%02x:%02x:%02x", st.mac[0], st.mac[1], st.mac[2],
			      st.mac[3], st.mac[4], st.mac[5]));
	for (unsigned int k = 0; k < st.n_addrs; k++)
		json_push(addrs, json_new_str(ipaddr_format(&st.addrs[k], text)));
	json_set(o, "addresses", addrs);
	json_set(o, "device", json_new_str(st.port));
	return o;
}

int networks_nic_stats(struct networks *ns, const char *instance, const char *nic,
		       struct api_nic_stats *ret)
{
	struct net_nic_status st;
	char id[NET_ID_MAX];

	nic_id(id, instance, nic);
	if (!ns->net || net_nic_status(ns->net, id, &st, NULL) < 0)
		return -ENOENT;
	ret->id = strdup(nic);
	ret->rx_bytes = st.rx_bytes;
	ret->rx_packets = st.rx_packets;
	ret->rx_dropped = st.rx_dropped;
	ret->tx_bytes = st.tx_bytes;
	ret->tx_packets = st.tx_packets;
	ret->tx_dropped = st.tx_dropped;
	return ret->id ? 0 : -ENOMEM;
}
