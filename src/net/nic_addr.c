/* Who a NIC is: its MAC, its addresses, and finding it by them.  See engine.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/str.h"
#include "net/engine.h"
#include "net/spec.h"

const struct ipaddr *nic_addr(const struct nic *x, int family)
{
	for (unsigned int i = 0; i < x->n_addrs; i++)
		if (x->addrs[i].family == family)
			return &x->addrs[i];
	return NULL;
}

uint64_t nic_mac_hash(const struct network *w, const uint8_t mac[6])
{
	return hash_bytes(mac, 6) ^ hash_u64((uint64_t)(uintptr_t)w);
}

uint64_t nic_name_hash(const struct network *w, const char *hostname)
{
	char low[64];
	size_t n = 0;

	for (; n < sizeof(low) && hostname[n]; n++)
		low[n] = hostname[n] >= 'A' && hostname[n] <= 'Z' ? (char)(hostname[n] | 0x20)
								  : hostname[n];
	return hash_bytes(low, n) ^ hash_u64((uint64_t)(uintptr_t)w);
}

static struct nic *find_mac(struct network *w, const uint8_t mac[6])
{
	hmap_for_each(n, &w->net->macs, nic_mac_hash(w, mac)) {
		struct nic *x = container_of(n, struct nic, by_mac);

		if (x->pg->network == w && memcmp(x->mac, mac, 6) == 0)
			return x;
	}
	return NULL;
}

struct nic *portgroup_nic_by_mac(struct portgroup *pg, const uint8_t mac[6])
{
	struct nic *x = find_mac(pg->network, mac);

	return x && x->pg == pg ? x : NULL;
}

struct nic *portgroup_nic_by_addr(struct portgroup *pg, const struct ipaddr *a)
{
	struct lease *l = lease_of_addr(&pg->leases, a);

	return l && *l->nic ? NET_FIND(struct nic, &pg->network->net->nics, l->nic) : NULL;
}

int nic_choose_mac(struct nic *x, const struct nic *old, struct err **e)
{
	struct network *w = x->pg->network;
	char a[MAC_TEXT];
	struct nic *o;

	if (!mac_is_zero(x->spec.mac)) {
		memcpy(x->mac, x->spec.mac, 6);
		o = find_mac(w, x->mac);
		if (o && o != old)
			return err_set(e, EEXIST, "net.mac",
				       "nic '%s': nic '%s' has the MAC %s already", x->spec.id,
				       o->spec.id, mac_format(x->mac, a));
		return 0;
	}
	for (unsigned int i = 0; i < 64; i++) {
		mac_of_id(x->spec.id, i, x->mac);
		o = find_mac(w, x->mac);
		if (!o || o == old)
			return 0;
	}
	return err_set(e, EEXIST, "net.mac", "nic '%s': no free MAC", x->spec.id);
}

static bool addr_free(struct portgroup *pg, const struct ipaddr *a, const char *nic)
{
	struct lease *l = lease_of_addr(&pg->leases, a);

	if (!l || streq(l->nic, nic))
		return true;
	if (*l->nic) /* kept for a NIC that is no more? */
		return !NET_FIND(struct nic, &pg->network->net->nics, l->nic);
	return l->until < now_real() / NSEC_PER_SEC;
}

static bool in_range(const struct net_portgroup *s, const struct ipaddr *a)
{
	return s->range_first.family && memcmp(a->b, s->range_first.b, 4) >= 0 &&
	       memcmp(a->b, s->range_last.b, 4) <= 0;
}

/* The address it had, or the first free one from where the id's hash points. */
static int choose_addr(struct nic *x, int family, struct ipaddr *ret, struct err **e)
{
	struct portgroup *pg = x->pg;
	const struct ipprefix *p = family == AF_INET ? &pg->spec.subnet4 : &pg->spec.subnet6;
	struct lease *had = lease_of(&pg->leases, x->spec.id, NULL, family);
	struct ipaddr gw = spec_gateway(&pg->spec, family);
	uint64_t n = ipprefix_hosts(p), at;

	if (had && ipprefix_contains(p, &had->addr) && !ipaddr_same(&had->addr, &gw)) {
		*ret = had->addr;
		return 0;
	}
	if (family == AF_INET6 && p->len <= 64) { /* the address that SLAAC forms as well */
		struct ipaddr net = ipprefix_net(p);

		*ret = ip6_eui64(&net, x->mac);
		if (addr_free(pg, ret, x->spec.id) && !ipaddr_same(ret, &gw))
			return 0;
	}
	at = stable_hash(x->spec.id, "address") % n;
	for (uint64_t i = 0; i < n && i < 1 << 20; i++, at = (at + 1) % n) {
		*ret = ipprefix_host(p, at);
		if (!ipaddr_same(ret, &gw) && !in_range(&pg->spec, ret) &&
		    addr_free(pg, ret, x->spec.id))
			return 0;
	}
	return err_set(e, ENOSPC, "net.address", "nic '%s': port group '%s' has no free address",
		       x->spec.id, pg->spec.id);
}

int nic_choose_addrs(struct nic *x, struct err **e)
{
	const struct ipprefix *p[] = { &x->pg->spec.subnet4, &x->pg->spec.subnet6 };
	char text[IPADDR_TEXT];
	int r;

	x->n_addrs = x->spec.n_addrs;
	memcpy(x->addrs, x->spec.addrs, sizeof(x->addrs));
	for (unsigned int i = 0; i < x->n_addrs; i++) {
		struct lease *l = lease_of_addr(&x->pg->leases, &x->addrs[i]);

		if (!addr_free(x->pg, &x->addrs[i], x->spec.id))
			return err_set(e, EEXIST, "net.address", "nic '%s': %s belongs to %s '%s'",
				       x->spec.id, ipaddr_format(&x->addrs[i], text),
				       *l->nic ? "nic" : "a lease", l->nic);
	}
	for (int i = 0; i < 2; i++) {
		if (!p[i]->a.family || nic_addr(x, p[i]->a.family) || x->n_addrs == NET_ADDRS_MAX)
			continue;
		r = choose_addr(x, p[i]->a.family, &x->addrs[x->n_addrs], e);
		if (r < 0)
			return r;
		x->n_addrs++;
	}
	return 0;
}
