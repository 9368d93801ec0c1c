/* The DNS server of a port group: names of its network's instances, everything else asked of the host's servers.
 *
 * A question to an upstream server leaves from the host's namespace on a socket of its own, so that its source port
 * and id are fresh random values for each (RFC 5452). */
#define LOG_MODULE "net"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include "base/atomicfile.h"
#include "base/log.h"
#include "base/rand.h"
#include "base/str.h"
#include "net/services/dns.h"
#include "net/services/svc_ops.h"
#include "sys/netns.h"

#define TTL	    30
#define MAX_PENDING 512 /* questions under way */
#define MAX_TCP	    64
#define TIMEOUT	    (5 * NSEC_PER_SEC)
#define TCP_IDLE    (10 * NSEC_PER_SEC)

struct listener {
	struct dns *dns;
	struct watch watch;
	int fd;
	bool tcp;
};

struct dns {
	struct svc *svc;
	struct listener at[4];
	unsigned int n;
	struct list pending, conns;
	unsigned int n_pending, n_conns;
	struct ipaddr upstream[4];
	unsigned int n_upstream;
};

struct conn { /* a client over TCP */
	struct list node;
	struct dns *dns;
	struct watch watch;
	struct timer idle;
	struct buf in;
	int fd;
	unsigned int waiting; /* questions forwarded */
};

struct pending {
	struct list node;
	struct dns *dns;
	struct watch watch;
	struct timer timer;
	int fd, via;	   /* to upstream; the listener's, for UDP */
	struct conn *conn; /* TCP */
	uint16_t client_id, id;
	struct sockaddr_storage from;
	socklen_t from_len;
	unsigned int tries;
	uint8_t q[DNS_MAX];
	size_t q_len;
};

static void conn_free(struct conn *c);

static void pending_free(struct pending *p)
{
	watch_remove(&p->watch);
	timer_stop(&p->timer);
	safe_close(p->fd);
	list_del(&p->node);
	p->dns->n_pending--;
	if (p->conn)
		p->conn->waiting--;
	free(p);
}

static int conn_send(struct conn *c, const uint8_t *b, size_t len)
{
	uint8_t out[DNS_MAX + 2] = { (uint8_t)(len >> 8), (uint8_t)len };

	memcpy(out + 2, b, len);
	/* An answer fits the socket's buffer; a client that does not read its answers loses the connection. */
	return send(c->fd, out, len + 2, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)(len + 2)
		       ? 0
		       : -EPIPE;
}

static void answer(struct dns *d, int via, struct conn *c, const struct sockaddr_storage *to,
		   socklen_t to_len, const uint8_t *b, size_t len)
{
	if (c)
		conn_send(c, b, len);
	else if (sendto(via, b, len, MSG_DONTWAIT, (const struct sockaddr *)to, to_len) < 0)
		log_debug("dns: answer not sent", "errno", errno);
}

/* ---- upstream ---- */

static int ask(struct pending *p)
{
	struct dns *d = p->dns;
	const struct ipaddr *u = &d->upstream[p->tries++ % d->n_upstream];
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_port = htobe16(53) };
	struct sockaddr_in6 sin6 = { .sin6_family = AF_INET6, .sin6_port = htobe16(53) };
	struct netns_saved saved;

	watch_remove(&p->watch);
	p->fd = safe_close(p->fd);
	if (netns_enter(d->svc->pg->network->net->host_ns, &saved, NULL) < 0)
		return -EIO;
	p->fd = socket(u->family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	netns_leave(&saved);
	if (p->fd < 0)
		return -errno;
	memcpy(&sin.sin_addr, u->b, 4);
	memcpy(&sin6.sin6_addr, u->b, 16);
	/* Connected: the kernel takes answers from that server only. */
	if (connect(p->fd, u->family == AF_INET ? (void *)&sin : (void *)&sin6,
		    u->family == AF_INET ? sizeof(sin) : sizeof(sin6)) < 0)
		return -errno;
	p->id = (uint16_t)rand_u64();
	p->q[0] = (uint8_t)(p->id >> 8);
	p->q[1] = (uint8_t)p->id;
	return send(p->fd, p->q, p->q_len, 0) < 0 ? -errno : 0;
}

static void give_up(struct pending *p)
{
	struct dns_query q;
	struct dns_out o;

	p->q[0] = (uint8_t)(p->client_id >> 8);
	p->q[1] = (uint8_t)p->client_id;
	if (dns_parse(p->q, p->q_len, &q) == 0) {
		dns_start(&o, p->q, &q, DNS_SERVFAIL, false);
		answer(p->dns, p->via, p->conn, &p->from, p->from_len, o.b, o.len);
	}
	pending_free(p);
}

static void on_upstream(struct watch *w, uint32_t events);

static void on_timeout(struct timer *t)
{
	struct pending *p = t->data;

	if (p->tries >= 3 || ask(p) < 0 ||
	    watch_fd(p->dns->svc->loop, &p->watch, "dns upstream", p->fd, EPOLLIN, on_upstream) <
		    0 ||
	    timer_start(p->dns->svc->loop, &p->timer, "dns", TIMEOUT / 3, 0, on_timeout) < 0)
		give_up(p);
}

static void on_upstream(struct watch *w, uint32_t events)
{
	struct pending *p = w->data;
	uint8_t b[DNS_MAX];
	ssize_t len = recv(p->fd, b, sizeof(b), MSG_DONTWAIT);

	if (len < 0 && errno == ECONNREFUSED) {
		on_timeout(&p->timer);
		return;
	}
	if (len < 12 || b[0] != p->q[0] || b[1] != p->q[1] || !(b[2] & 0x80))
		return; /* not the answer to this: go on waiting */
	b[0] = (uint8_t)(p->client_id >> 8);
	b[1] = (uint8_t)p->client_id;
	answer(p->dns, p->via, p->conn, &p->from, p->from_len, b, (size_t)len);
	p->dns->svc->stats.dns_forwarded++;
	pending_free(p);
}

static int forward(struct dns *d, int via, struct conn *c, const struct sockaddr_storage *from,
		   socklen_t from_len, const uint8_t *q, size_t len, uint16_t id)
{
	struct pending *p;

	if (d->n_upstream == 0 || d->n_pending >= MAX_PENDING ||
	    d->svc->pg->network->spec.mode == NET_ISOLATED)
		return -EBUSY;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->dns = d;
	p->fd = -1;
	p->via = via;
	p->conn = c;
	p->client_id = id;
	if (from)
		p->from = *from;
	p->from_len = from_len;
	memcpy(p->q, q, len);
	p->q_len = len;
	p->watch.data = p->timer.data = p;
	list_add_tail(&d->pending, &p->node);
	d->n_pending++;
	if (c)
		c->waiting++;
	if (ask(p) < 0 ||
	    watch_fd(d->svc->loop, &p->watch, "dns upstream", p->fd, EPOLLIN, on_upstream) < 0 ||
	    timer_start(d->svc->loop, &p->timer, "dns", TIMEOUT / 3, 0, on_timeout) < 0) {
		pending_free(p);
		return -EIO;
	}
	return 0;
}

/* ---- our own names ---- */

static const char *domain_of(const struct dns *d)
{
	const char *s = d->svc->pg->network->spec.domain;

	return *s ? s : "internal";
}

/* The first label when name is one label, or one label under our domain. */
static bool own_name(const struct dns *d, const char *name, char label[64])
{
	size_t n = strcspn(name, ".");

	if (n == 0 || n > 63 || (name[n] && strcasecmp(name + n + 1, domain_of(d)) != 0))
		return false;
	memcpy(label, name, n);
	label[n] = '\0';
	return true;
}

static bool under_domain(const struct dns *d, const char *name)
{
	size_t n = strlen(name), m = strlen(domain_of(d));

	return n >= m && strcasecmp(name + n - m, domain_of(d)) == 0 &&
	       (n == m || name[n - m - 1] == '.');
}

static bool add_named(struct dns *d, struct dns_out *o, const struct dns_query *q,
		      const char *label)
{
	struct portgroup *pg;
	bool found = false;
	struct nic *x;

	list_for_each_entry(pg, &d->svc->pg->network->portgroups, in_network)
		list_for_each_entry(x, &pg->nics, in_portgroup) {
			if (strcasecmp(x->spec.hostname, label) != 0)
				continue;
			found = true;
			for (unsigned int i = 0; i < x->n_addrs; i++)
				if (q->type == DNS_ANY ||
				    q->type == (x->addrs[i].family == AF_INET ? DNS_A : DNS_AAAA))
					dns_add_addr(o, &x->addrs[i], TTL);
		}
	return found;
}

/* True: o is the answer. */
static bool answer_own(struct dns *d, const uint8_t *p, const struct dns_query *q,
		       struct dns_out *o)
{
	char label[64], name[DNS_NAME_MAX];
	struct portgroup *pg;
	struct ipaddr a;
	struct nic *x;

	if (q->flags & 0x7800) {
		dns_start(o, p, q, DNS_NOTIMP, false);
		return true;
	}
	dns_start(o, p, q, DNS_OK, true);
	if (q->class != 1)
		return false;
	if (dns_reverse(q->name, &a)) {
		bool inside = false;

		list_for_each_entry(pg, &d->svc->pg->network->portgroups, in_network) {
			inside |= ipprefix_contains(
				a.family == AF_INET ? &pg->spec.subnet4 : &pg->spec.subnet6, &a);
			x = portgroup_nic_by_addr(pg, &a);
			if (!x || !*x->spec.hostname)
				continue;
			snprintf(name, sizeof(name), "%s.%s", x->spec.hostname, domain_of(d));
			if (q->type == DNS_PTR || q->type == DNS_ANY)
				dns_add_ptr(o, name, TTL);
			return true;
		}
		if (inside)
			dns_start(o, p, q, DNS_NXDOMAIN, true);
		return inside;
	}
	if (own_name(d, q->name, label) && add_named(d, o, q, label))
		return true;
	/* What is ours and not there, or a bare name, is nobody else's business. */
	if (under_domain(d, q->name) || (*q->name && !strchr(q->name, '.'))) {
		dns_start(o, p, q, strcasecmp(q->name, domain_of(d)) == 0 ? DNS_OK : DNS_NXDOMAIN,
			  true);
		return true;
	}
	return false;
}

static void on_query(struct dns *d, int via, struct conn *c, const struct sockaddr_storage *from,
		     socklen_t from_len, const uint8_t *p, size_t len)
{
	struct dns_query q;
	struct dns_out o;
	int r;

	if (dns_parse(p, len, &q) < 0)
		return;
	d->svc->stats.dns++;
	if (!answer_own(d, p, &q, &o)) {
		r = forward(d, via, c, from, from_len, p, len, q.id);
		if (r == 0)
			return;
		dns_start(&o, p, &q, r == -EBUSY ? DNS_REFUSED : DNS_SERVFAIL, false);
	}
	if (!c && o.len > 512) { /* let it come again over TCP */
		dns_start(&o, p, &q, DNS_OK, true);
		o.b[2] |= 0x02;
	}
	answer(d, via, c, from, from_len, o.b, o.len);
}

/* ---- sockets ---- */

static void on_udp(struct watch *w, uint32_t events)
{
	struct listener *l = w->data;
	uint8_t b[DNS_MAX];

	for (int i = 0; i < 64; i++) {
		struct sockaddr_storage from;
		socklen_t n = sizeof(from);
		ssize_t len =
			recvfrom(l->fd, b, sizeof(b), MSG_DONTWAIT, (struct sockaddr *)&from, &n);

		if (len < 0)
			return;
		on_query(l->dns, l->fd, NULL, &from, n, b, (size_t)len);
	}
}

static void conn_free(struct conn *c)
{
	struct pending *p, *tmp;

	list_for_each_entry_safe(p, tmp, &c->dns->pending, node)
		if (p->conn == c)
			pending_free(p);
	watch_remove(&c->watch);
	timer_stop(&c->idle);
	safe_close(c->fd);
	list_del(&c->node);
	c->dns->n_conns--;
	buf_done(&c->in);
	free(c);
}

static void on_idle(struct timer *t)
{
	conn_free(t->data);
}

static void on_conn(struct watch *w, uint32_t events)
{
	struct conn *c = w->data;
	uint8_t b[DNS_MAX];
	ssize_t len = recv(c->fd, b, sizeof(b), MSG_DONTWAIT);

	if (len < 0 && errno == EAGAIN)
		return;
	if (len <= 0 || buf_add(&c->in, b, (size_t)len) < 0) {
		conn_free(c);
		return;
	}
	while (c->in.len >= 2) {
		size_t n = (size_t)(uint8_t)c->in.s[0] << 8 | (uint8_t)c->in.s[1];

		if (n > DNS_MAX || c->waiting > 16) {
			conn_free(c);
			return;
		}
		if (c->in.len < n + 2)
			break;
		on_query(c->dns, -1, c, NULL, 0, (uint8_t *)c->in.s + 2, n);
		buf_consume(&c->in, n + 2);
	}
}

static void on_accept(struct watch *w, uint32_t events)
{
	struct listener *l = w->data;
	int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct conn *c;

	if (fd < 0)
		return;
	c = l->dns->n_conns < MAX_TCP ? calloc(1, sizeof(*c)) : NULL;
	if (!c) {
		safe_close(fd);
		return;
	}
	c->dns = l->dns;
	c->fd = fd;
	c->watch.data = c->idle.data = c;
	list_add_tail(&l->dns->conns, &c->node);
	l->dns->n_conns++;
	if (watch_fd(l->dns->svc->loop, &c->watch, "dns tcp", fd, EPOLLIN, on_conn) < 0 ||
	    timer_start(l->dns->svc->loop, &c->idle, "dns tcp", TCP_IDLE, 0, on_idle) < 0)
		conn_free(c);
}

static void dns_stop(void *state)
{
	struct dns *d = state;

	while (!list_empty(&d->conns))
		conn_free(list_first_entry(&d->conns, struct conn, node));
	while (!list_empty(&d->pending))
		pending_free(list_first_entry(&d->pending, struct pending, node));
	for (unsigned int i = 0; i < d->n; i++) {
		watch_remove(&d->at[i].watch);
		safe_close(d->at[i].fd);
	}
	free(d);
}

static void read_upstream(struct dns *d, const char *path)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	char *save = NULL;

	if (file_read(AT_FDCWD, path ? path : "/etc/resolv.conf", 65536, &b, NULL) < 0 || !b.s)
		return;
	for (char *line = strtok_r(b.s, "\n", &save);
	     line && d->n_upstream < ARRAY_SIZE(d->upstream); line = strtok_r(NULL, "\n", &save)) {
		_cleanup_(strv_freep) char **v = strv_split(line, " \t");

		if (v && strv_len(v) >= 2 && streq(v[0], "nameserver") &&
		    ipaddr_parse(v[1], &d->upstream[d->n_upstream]) == 0)
			d->n_upstream++;
	}
}

static int listen_at(struct dns *d, const struct ipaddr *a, bool tcp, struct err **e)
{
	struct listener *l = &d->at[d->n];
	int r;

	l->dns = d;
	l->tcp = tcp;
	l->watch.data = l;
	l->fd = tcp ? svc_tcp(d->svc, a, 53, e) : svc_udp(d->svc, a->family, a, 53, e);
	if (l->fd < 0)
		return l->fd;
	d->n++;
	r = watch_fd(d->svc->loop, &l->watch, "dns", l->fd, EPOLLIN, tcp ? on_accept : on_udp);
	return r < 0 ? err_sys(e, -r, "watch socket") : 0;
}

static int dns_start_svc(struct svc *s, void **ret, struct err **e)
{
	const int families[] = { AF_INET, AF_INET6 };
	struct dns *d = calloc(1, sizeof(*d));
	struct ipaddr buf;
	int r = 0;

	if (!d)
		return err_sys(e, ENOMEM, "dns");
	d->svc = s;
	list_init(&d->pending);
	list_init(&d->conns);
	read_upstream(d, s->pg->network->net->cfg.resolv_conf);
	for (int i = 0; i < 4 && r == 0; i++) {
		const struct ipaddr *a = svc_gateway(s, families[i / 2], &buf);

		if (a)
			r = listen_at(d, a, i & 1, e);
	}
	if (r < 0) {
		dns_stop(d);
		return r;
	}
	*ret = d;
	return 0;
}

static bool dns_wanted(const struct portgroup *pg)
{
	return true;
}

const struct svc_ops svc_dns = { "dns", dns_wanted, dns_start_svc, dns_stop };
