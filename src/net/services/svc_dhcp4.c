/* The DHCPv4 server of a port group.  A NIC gets the address that the inventory gave it; a MAC that no NIC has
 * gets one from the range, where there is one.
 *
 * Frames are read and written whole, on the bridge: only the frame tells whether the one who asks has the MAC it
 * asks for, and an answer must reach a client that has no address yet without being flooded to everybody. */
#define LOG_MODULE "net"
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include "base/log.h"
#include "net/packet/udp4.h"
#include "net/services/dhcp4.h"
#include "net/services/svc_ops.h"

#define NIC_LEASE   86400
#define RANGE_LEASE 3600
#define OFFER_HOLD  60

struct dhcp4 {
	struct svc *svc;
	struct watch watch;
	uint8_t from[6]; /* source MAC of the frame in hand: a relay agent's, when giaddr is set */
	int fd, mute;	 /* packets; a bound port so that the kernel does not call it unreachable */
};

static int64_t now_sec(void)
{
	return now_real() / NSEC_PER_SEC;
}

static bool usable(struct portgroup *pg, const struct ipaddr *a, const uint8_t *mac,
		   const struct ipaddr *gw)
{
	const struct net_portgroup *s = &pg->spec;
	struct lease *l = lease_of_addr(&pg->leases, a);

	if (memcmp(a->b, s->range_first.b, 4) < 0 || memcmp(a->b, s->range_last.b, 4) > 0 ||
	    ipaddr_same(a, gw))
		return false;
	return !l || (!*l->nic && (memcmp(l->mac, mac, 6) == 0 || l->until < now_sec()));
}

static uint32_t num(const struct ipaddr *a)
{
	return (uint32_t)a->b[0] << 24 | (uint32_t)a->b[1] << 16 | (uint32_t)a->b[2] << 8 | a->b[3];
}

/* An address of the range for a MAC: the one it has, the one it wants, or one where its hash points. */
static bool from_range(struct portgroup *pg, const struct dhcp4_msg *q, const struct ipaddr *gw,
		       struct ipaddr *ret)
{
	const struct net_portgroup *s = &pg->spec;
	struct lease *l = lease_of(&pg->leases, NULL, q->chaddr, AF_INET);
	uint64_t n, at;

	if (!s->range_first.family)
		return false;
	if (l && usable(pg, &l->addr, q->chaddr, gw)) {
		*ret = l->addr;
		return true;
	}
	*ret = ipaddr_of(AF_INET, q->requested);
	if (q->has_requested && usable(pg, ret, q->chaddr, gw))
		return true;
	n = (uint64_t)num(&s->range_last) - num(&s->range_first) + 1;
	at = hash_bytes(q->chaddr, 6) % n;
	for (uint64_t i = 0; i < n; i++, at = (at + 1) % n) {
		*ret = ipaddr_add(&s->range_first, at);
		if (usable(pg, ret, q->chaddr, gw))
			return true;
	}
	return false;
}

static void add_routes(struct dhcp4_out *o, const struct portgroup *pg, const struct ipaddr *gw,
		       bool out)
{
	uint8_t routes[16] = { 32, 169, 254, 169, 254 };
	size_t n = 5;

	memcpy(routes + n, gw->b, 4);
	n += 4;
	if (out) { /* RFC 3442: who reads these ignores the router option, so the default is in here again */
		routes[n++] = 0;
		memcpy(routes + n, gw->b, 4);
		n += 4;
		dhcp4_option(o, 3, gw->b, 4);
	}
	dhcp4_option(o, 121, routes, n);
}

static void add_config(struct dhcp4_out *o, struct portgroup *pg, const struct nic *x,
		       const struct ipaddr *gw)
{
	const struct net_portgroup *s = &pg->spec;
	const struct net_network *w = &pg->network->spec;
	const char *domain = *w->domain ? w->domain : "internal";
	struct ipprefix all = { .a = { .family = AF_INET, .b = { 255, 255, 255, 255 } },
				.len = s->subnet4.len };
	struct ipaddr mask = ipprefix_net(&all), last = ipprefix_last(&s->subnet4);
	uint16_t mtu = htobe16((uint16_t)portgroup_mtu(pg));
	uint8_t dns[NET_DNS_MAX * 4];
	size_t n = 0;

	dhcp4_option(o, 1, mask.b, 4);
	dhcp4_option(o, 28, last.b, 4);
	add_routes(o, pg, gw,
		   (w->mode != NET_ISOLATED || w->route_between) &&
			   !(x && x->spec.no_default_route));
	for (unsigned int i = 0; i < s->n_dns; i++)
		if (s->dns[i].family == AF_INET) {
			memcpy(dns + n, s->dns[i].b, 4);
			n += 4;
		}
	dhcp4_option(o, 6, n ? dns : gw->b, n ? n : 4);
	dhcp4_option(o, 15, domain, strlen(domain));
	dhcp4_option(o, 26, &mtu, 2);
	if (x && *x->spec.hostname)
		dhcp4_option(o, 12, x->spec.hostname, strlen(x->spec.hostname));
}

static void reply(struct dhcp4 *d, const struct dhcp4_msg *q, enum dhcp4_type type,
		  const struct ipaddr *addr, const struct nic *x, const struct ipaddr *gw,
		  uint32_t lease)
{
	static const uint8_t bcast_mac[6] = { 255, 255, 255, 255, 255, 255 },
			     bcast[4] = { 255, 255, 255, 255 }, none[4];
	uint8_t frame[UDP4_HEADERS + DHCP4_MAX];
	bool known = memcmp(q->ciaddr, none, 4) != 0 && type == DHCP4_ACK;
	bool broadcast = type == DHCP4_NAK || (!known && (q->flags & 0x8000));
	bool relayed = memcmp(q->giaddr, none, 4) != 0;
	struct udp4 u = { .sport = 67, .dport = relayed ? 67 : 68 };
	struct dhcp4_out o;

	dhcp4_start(&o, q, type, addr ? addr->b : NULL, gw->b);
	if (type != DHCP4_NAK) {
		if (lease) {
			dhcp4_option32(&o, 51, lease);
			dhcp4_option32(&o, 58, lease / 2);
			dhcp4_option32(&o, 59, lease / 8 * 7);
		}
		add_config(&o, d->svc->pg, x, gw);
	}
	dhcp4_end(&o);
	memcpy(u.src_mac, d->svc->pg->mac, 6);
	memcpy(u.dst_mac, broadcast ? bcast_mac : q->chaddr, 6);
	memcpy(u.src, gw->b, 4);
	if (relayed) {
		memcpy(u.dst_mac, d->from, 6);
		memcpy(u.dst, q->giaddr, 4);
	} else {
		memcpy(u.dst, broadcast ? bcast : known ? q->ciaddr : addr ? addr->b : bcast, 4);
	}
	u.len = o.len;
	memcpy(frame + UDP4_HEADERS, o.b, o.len);
	if (send(d->fd, frame, udp4_write(frame, &u), MSG_DONTWAIT) < 0)
		log_debug("dhcp4: answer not sent", "errno", errno);
	else
		d->svc->stats.dhcp4++;
}

static void on_request(struct dhcp4 *d, const struct dhcp4_msg *q, const struct nic *x,
		       const struct ipaddr *mine, const struct ipaddr *gw)
{
	static const uint8_t none[4];
	struct ipaddr want = ipaddr_of(AF_INET, q->has_requested ? q->requested : q->ciaddr);
	uint32_t lease = x ? NIC_LEASE : RANGE_LEASE;

	if (q->has_server && memcmp(q->server, gw->b, 4) != 0)
		return; /* it has chosen another server */
	if (!q->has_requested && memcmp(q->ciaddr, none, 4) == 0)
		return;
	if (!mine || !ipaddr_same(&want, mine)) {
		reply(d, q, DHCP4_NAK, NULL, NULL, gw, 0);
		return;
	}
	if (!x && lease_set(&d->svc->pg->leases, mine, NULL, q->chaddr, now_sec() + lease) < 0)
		return;
	reply(d, q, DHCP4_ACK, mine, x, gw, lease);
}

static void handle(struct dhcp4 *d, const uint8_t *frame, size_t len)
{
	static const uint8_t declined[6] = { 2 };
	struct portgroup *pg = d->svc->pg;
	struct ipaddr buf, found;
	const struct ipaddr *gw = svc_gateway(d->svc, AF_INET, &buf), *mine;
	struct dhcp4_msg q;
	struct lease *l;
	struct udp4 u;
	struct nic *x;

	if (udp4_read(frame, len, &u) < 0 || u.dport != 67 || dhcp4_parse(u.data, u.len, &q) < 0)
		return;
	memcpy(d->from, u.src_mac, 6);
	found = ipaddr_of(AF_INET, q.giaddr);
	/* A relay agent asks for others.  From a guarded port such a frame does not come this far. */
	if (ipaddr_is_unicast(&found)
		    ? !ipprefix_contains(&pg->spec.subnet4, &found) || !pg->spec.range_first.family
		    : memcmp(u.src_mac, q.chaddr, 6) != 0 || !mac_is_unicast(q.chaddr)) {
		d->svc->stats.refused++; /* in somebody else's name */
		return;
	}
	x = portgroup_nic_by_mac(pg, q.chaddr);
	mine = x ? nic_addr(x, AF_INET) : from_range(pg, &q, gw, &found) ? &found : NULL;
	switch (q.type) {
	case DHCP4_DISCOVER:
		if (!mine)
			return;
		l = x ? NULL : lease_of(&pg->leases, NULL, q.chaddr, AF_INET);
		if (!x && (!l || l->until < now_sec() + OFFER_HOLD) &&
		    lease_set(&pg->leases, mine, NULL, q.chaddr, now_sec() + OFFER_HOLD) < 0)
			return;
		reply(d, &q, DHCP4_OFFER, mine, x, gw, x ? NIC_LEASE : RANGE_LEASE);
		break;
	case DHCP4_REQUEST:
		if (x || pg->spec.range_first.family)
			on_request(d, &q, x, mine, gw);
		break;
	case DHCP4_INFORM:
		reply(d, &q, DHCP4_ACK, NULL, x, gw, 0);
		break;
	case DHCP4_RELEASE:
	case DHCP4_DECLINE:
		l = x ? NULL : lease_of(&pg->leases, NULL, q.chaddr, AF_INET);
		if (!l)
			break;
		found = l->addr;
		lease_drop(&pg->leases, l);
		if (q.type ==
		    DHCP4_DECLINE) /* somebody has it without asking us: not to be given out for a while */
			lease_set(&pg->leases, &found, NULL, declined, now_sec() + 600);
		break;
	}
}

static void on_frame(struct watch *w, uint32_t events)
{
	struct dhcp4 *d = w->data;
	uint8_t frame[2048];

	for (int i = 0; i < 64; i++) {
		struct sockaddr_ll from;
		socklen_t n = sizeof(from);
		ssize_t len = recvfrom(d->fd, frame, sizeof(frame), MSG_DONTWAIT,
				       (struct sockaddr *)&from, &n);

		if (len < 0)
			return;
		if (from.sll_pkttype != PACKET_OUTGOING)
			handle(d, frame, (size_t)len);
	}
}

static void dhcp4_stop(void *state)
{
	struct dhcp4 *d = state;

	watch_remove(&d->watch);
	safe_close(d->fd);
	safe_close(d->mute);
	free(d);
}

static int open_packets(struct svc *s, struct err **e)
{
	/* UDP over IPv4, no fragment, to port 67. */
	static const struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 12),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x0800, 0, 8),
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 23),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 17, 0, 6),
		BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 20),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x1fff, 4, 0),
		BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 14),
		BPF_STMT(BPF_LD | BPF_H | BPF_IND, 16),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 67, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 65535),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	struct sock_fprog prog = { .len = ARRAY_SIZE(code), .filter = (struct sock_filter *)code };
	_cleanup_(closep) int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_ll ll = { .sll_family = AF_PACKET,
				  .sll_protocol = htobe16(0x0800),
				  .sll_ifindex = (int)if_nametoindex(s->pg->bridge) };

	if (fd < 0)
		return err_sys(e, errno, "open packet socket");
	/* Bound last: before that it receives nothing, so no frame slips past the filter. */
	if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)) < 0 ||
	    bind(fd, (struct sockaddr *)&ll, sizeof(ll)) < 0)
		return err_sys(e, errno, "bind packet socket to '%s'", s->pg->bridge);
	return TAKE_FD(fd);
}

static int dhcp4_start_svc(struct svc *s, void **ret, struct err **e)
{
	static const struct sock_filter drop = BPF_STMT(BPF_RET | BPF_K, 0);
	struct sock_fprog prog = { .len = 1, .filter = (struct sock_filter *)&drop };
	struct dhcp4 *d = calloc(1, sizeof(*d));
	int r;

	if (!d)
		return err_sys(e, ENOMEM, "dhcp4");
	d->svc = s;
	d->fd = d->mute = -1;
	d->watch.data = d;
	r = d->mute = svc_udp(s, AF_INET, NULL, 67, e);
	if (r >= 0 && setsockopt(d->mute, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)) < 0)
		r = err_sys(e, errno, "filter socket");
	if (r >= 0)
		r = d->fd = open_packets(s, e);
	if (r >= 0)
		r = watch_fd(s->loop, &d->watch, "dhcp4", d->fd, EPOLLIN, on_frame);
	if (r < 0) {
		dhcp4_stop(d);
		return r;
	}
	*ret = d;
	return 0;
}

static bool dhcp4_wanted(const struct portgroup *pg)
{
	return pg->spec.subnet4.a.family != 0;
}

const struct svc_ops svc_dhcp4 = { "dhcp4", dhcp4_wanted, dhcp4_start_svc, dhcp4_stop };
