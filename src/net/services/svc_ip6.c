/* Router advertisements and the DHCPv6 server of a port group.  A NIC gets the addresses that the inventory gave
 * it; who asks is known by the MAC in its link-local address, which the guard keeps true. */
#define LOG_MODULE "net"
#include <errno.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include "base/log.h"
#include "net/services/dhcp6.h"
#include "net/services/svc_ops.h"

#define RA_PERIOD (200 * NSEC_PER_SEC)
#define RA_FIRST  (100 * NSEC_PER_MSEC)
#define LEASE	  86400

struct ip6 {
	struct svc *svc;
	struct watch ra_watch, dhcp_watch;
	struct timer period;
	int ra, dhcp;
	unsigned int index;
};

static const char *domain_of(const struct svc *s)
{
	return *s->pg->network->spec.domain ? s->pg->network->spec.domain : "internal";
}

static unsigned int dns_of(const struct svc *s, struct ipaddr dns[NET_DNS_MAX])
{
	const struct net_portgroup *pg = &s->pg->spec;
	unsigned int n = 0;

	for (unsigned int i = 0; i < pg->n_dns; i++)
		if (pg->dns[i].family == AF_INET6)
			dns[n++] = pg->dns[i];
	if (!n && svc_gateway(s, AF_INET6, &dns[0]))
		n = 1;
	return n;
}

static void send_ra(struct ip6 *x, const struct sockaddr_in6 *to)
{
	const struct portgroup *pg = x->svc->pg;
	struct sockaddr_in6 all = { .sin6_family = AF_INET6, .sin6_scope_id = x->index };
	struct ipaddr dns[NET_DNS_MAX];
	struct ra r = { .managed = true,
			.autonomous = pg->spec.slaac,
			.mtu = portgroup_mtu(pg),
			.router = pg->network->spec.mode != NET_ISOLATED ||
				  pg->network->spec.route_between,
			.prefix = pg->spec.subnet6,
			.dns = dns,
			.n_dns = dns_of(x->svc, dns),
			.domain = domain_of(x->svc) };
	uint8_t b[1024];

	memcpy(r.mac, pg->mac, 6);
	all.sin6_addr.s6_addr[0] = 0xff;
	all.sin6_addr.s6_addr[1] = 2;
	all.sin6_addr.s6_addr[15] = 1;
	if (sendto(x->ra, b, ra_write(b, sizeof(b), &r), MSG_DONTWAIT, to ? to : &all,
		   sizeof(all)) < 0)
		log_debug("ra: not sent", "errno", errno);
	else
		x->svc->stats.ra++;
}

static void on_period(struct timer *t)
{
	send_ra(t->data, NULL);
}

static void on_rs(struct watch *w, uint32_t events)
{
	struct ip6 *x = w->data;
	struct sockaddr_in6 from;
	socklen_t n = sizeof(from);
	uint8_t b[1500];
	ssize_t len;

	while ((len = recvfrom(x->ra, b, sizeof(b), MSG_DONTWAIT, (struct sockaddr *)&from, &n)) >=
	       0) {
		if (rs_parse(b, (size_t)len) ==
		    0) /* one who has no address yet gets it with all others */
			send_ra(x, IN6_IS_ADDR_UNSPECIFIED(&from.sin6_addr) ? NULL : &from);
		n = sizeof(from);
	}
}

static void handle(struct ip6 *x, const uint8_t *p, size_t len, const struct sockaddr_in6 *from)
{
	struct portgroup *pg = x->svc->pg;
	uint8_t duid[10] = { 0, 3, 0, 1 }, mac[6], out[1500]; /* DUID-LL over Ethernet */
	struct ipaddr src = ipaddr_of(AF_INET6, &from->sin6_addr), addrs[NET_ADDRS_MAX],
		      dns[NET_DNS_MAX];
	struct dhcp6_reply r = { .type = DHCP6_REPLY,
				 .server = duid,
				 .server_len = sizeof(duid),
				 .addrs = addrs,
				 .status = -1,
				 .lifetime = LEASE,
				 .dns = dns,
				 .domain = domain_of(x->svc) };
	struct dhcp6_msg q;
	struct nic *nic;

	memcpy(duid + 4, pg->mac, 6);
	if (dhcp6_parse(p, len, &q) < 0)
		return;
	if (q.server_len &&
	    (q.server_len != sizeof(duid) || memcmp(q.server, duid, sizeof(duid)) != 0))
		return; /* it has chosen another server */
	nic = ip6_mac(&src, mac) ? portgroup_nic_by_mac(pg, mac) : NULL;
	for (unsigned int i = 0; nic && i < nic->n_addrs; i++)
		if (nic->addrs[i].family == AF_INET6)
			addrs[r.n_addrs++] = nic->addrs[i];
	r.n_dns = dns_of(x->svc, dns);
	switch (q.type) {
	case DHCP6_SOLICIT:
		if (!q.client_len || q.server_len || !r.n_addrs)
			return; /* none to offer: silence lets another server answer */
		r.type = q.rapid_commit ? DHCP6_REPLY : DHCP6_ADVERTISE;
		break;
	case DHCP6_REQUEST:
	case DHCP6_RENEW:
		if (!q.client_len || !q.server_len)
			return;
		break;
	case DHCP6_REBIND:
		if (!q.client_len || q.server_len || !r.n_addrs)
			return;
		break;
	case DHCP6_CONFIRM:
		if (!q.client_len || q.server_len || !q.n_addrs)
			return;
		r.status = 0;
		for (unsigned int i = 0; i < q.n_addrs; i++)
			if (!ipprefix_contains(&pg->spec.subnet6, &q.addrs[i]))
				r.status = 4; /* NotOnLink */
		break;
	case DHCP6_RELEASE:
	case DHCP6_DECLINE:
		if (!q.client_len || !q.server_len)
			return;
		r.status = 0; /* the address stays the NIC's */
		break;
	case DHCP6_INFORMATION:
		break;
	default:
		return;
	}
	if (sendto(x->dhcp, out, dhcp6_write(out, sizeof(out), &q, &r), MSG_DONTWAIT,
		   (const struct sockaddr *)from, sizeof(*from)) < 0)
		log_debug("dhcp6: answer not sent", "errno", errno);
	else
		x->svc->stats.dhcp6++;
}

static void on_dhcp6(struct watch *w, uint32_t events)
{
	struct ip6 *x = w->data;
	struct sockaddr_in6 from;
	socklen_t n = sizeof(from);
	uint8_t b[1500];
	ssize_t len;

	while ((len = recvfrom(x->dhcp, b, sizeof(b), MSG_DONTWAIT, (struct sockaddr *)&from,
			       &n)) >= 0) {
		handle(x, b, (size_t)len, &from);
		n = sizeof(from);
	}
}

static void ip6_stop(void *state)
{
	struct ip6 *x = state;

	timer_stop(&x->period);
	watch_remove(&x->ra_watch);
	watch_remove(&x->dhcp_watch);
	safe_close(x->ra);
	safe_close(x->dhcp);
	free(x);
}

static int join(int fd, unsigned int index, uint8_t group_hi, uint8_t group_lo)
{
	struct ipv6_mreq m = { .ipv6mr_interface = index };

	m.ipv6mr_multiaddr.s6_addr[0] = 0xff;
	m.ipv6mr_multiaddr.s6_addr[1] = 2;
	m.ipv6mr_multiaddr.s6_addr[13] = group_hi;
	m.ipv6mr_multiaddr.s6_addr[15] = group_lo;
	return setsockopt(fd, IPPROTO_IPV6, IPV6_ADD_MEMBERSHIP, &m, sizeof(m)) < 0 &&
			       errno != EADDRINUSE
		       ? -errno
		       : 0;
}

static int open_ra(struct ip6 *x, struct err **e)
{
	const char *bridge = x->svc->pg->bridge;
	struct icmp6_filter f;
	int hops = 255, off = 0;

	x->ra = socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_ICMPV6);
	if (x->ra < 0)
		return err_sys(e, errno, "open ICMPv6 socket");
	ICMP6_FILTER_SETBLOCKALL(&f);
	ICMP6_FILTER_SETPASS(ND_ROUTER_SOLICIT, &f);
	if (setsockopt(x->ra, SOL_SOCKET, SO_BINDTODEVICE, bridge, (socklen_t)strlen(bridge) + 1) <
		    0 ||
	    setsockopt(x->ra, IPPROTO_ICMPV6, ICMP6_FILTER, &f, sizeof(f)) < 0 ||
	    setsockopt(x->ra, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, &hops, sizeof(hops)) < 0 ||
	    setsockopt(x->ra, IPPROTO_IPV6, IPV6_UNICAST_HOPS, &hops, sizeof(hops)) < 0 ||
	    setsockopt(x->ra, IPPROTO_IPV6, IPV6_MULTICAST_LOOP, &off, sizeof(off)) < 0 ||
	    join(x->ra, x->index, 0, 2) < 0)
		return err_sys(e, errno, "prepare ICMPv6 socket");
	return 0;
}

static int ip6_start(struct svc *s, void **ret, struct err **e)
{
	struct ip6 *x = calloc(1, sizeof(*x));
	int r;

	if (!x)
		return err_sys(e, ENOMEM, "ip6");
	x->svc = s;
	x->ra = x->dhcp = -1;
	x->index = if_nametoindex(s->pg->bridge);
	x->ra_watch.data = x->dhcp_watch.data = x->period.data = x;
	r = open_ra(x, e);
	if (r == 0)
		r = x->dhcp = svc_udp(s, AF_INET6, NULL, 547, e);
	if (r >= 0 && join(x->dhcp, x->index, 1, 2) < 0)
		r = err_sys(e, errno, "join ff02::1:2");
	if (r >= 0)
		r = watch_fd(s->loop, &x->ra_watch, "ra", x->ra, EPOLLIN, on_rs);
	if (r >= 0)
		r = watch_fd(s->loop, &x->dhcp_watch, "dhcp6", x->dhcp, EPOLLIN, on_dhcp6);
	if (r >= 0)
		r = timer_start(s->loop, &x->period, "ra", RA_FIRST, RA_PERIOD, on_period);
	if (r < 0) {
		ip6_stop(x);
		return r;
	}
	*ret = x;
	return 0;
}

static bool ip6_wanted(const struct portgroup *pg)
{
	return pg->spec.subnet6.a.family != 0;
}

const struct svc_ops svc_ip6 = { "ra and dhcp6", ip6_wanted, ip6_start, ip6_stop };
