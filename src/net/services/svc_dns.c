/* The DNS server of a port group: names of its network's instances, everything else asked of the host's servers
 * (dns_ask.h). */
#define LOG_MODULE "net"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include "base/atomicfile.h"
#include "base/log.h"
#include "base/str.h"
#include "net/services/dns.h"
#include "net/services/dns_ask.h"
#include "net/services/svc_ops.h"

#define TTL	    30
#define MAX_PENDING 512 /* questions under way */
#define MAX_TCP	    64
#define OUT_MAX	    (4 * DNS_ANSWER_MAX) /* answers that a client over TCP has not read */
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
	struct dns_servers upstream;
};

struct conn { /* a client over TCP */
	struct list node;
	struct dns *dns;
	struct watch watch;
	struct timer idle;
	struct buf in, out;
	int fd;
	unsigned int waiting; /* questions forwarded */
};

struct pending { /* a question forwarded */
	struct list node;
	struct dns *dns;
	struct dns_ask *ask;
	int via;	   /* the listener's, for UDP */
	struct conn *conn; /* TCP */
	struct sockaddr_storage from;
	socklen_t from_len;
	size_t q_len;
	uint8_t q[]; /* to say that nobody answers */
};

static void conn_free(struct conn *c);

static void pending_free(struct pending *p)
{
	dns_ask_cancel(p->ask);
	list_del(&p->node);
	p->dns->n_pending--;
	if (p->conn)
		p->conn->waiting--;
	free(p);
}

static void conn_flush(struct conn *c)
{
	ssize_t n = c->out.len ? send(c->fd, c->out.s, c->out.len, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;

	if (n > 0)
		buf_consume(&c->out, (size_t)n);
	watch_modify(&c->watch, c->out.len ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

/* A client that does not read its answers gets no more of them. */
static void conn_send(struct conn *c, const uint8_t *b, size_t len)
{
	const uint8_t head[2] = { (uint8_t)(len >> 8), (uint8_t)len };

	if (c->out.len > OUT_MAX || buf_add(&c->out, head, 2) < 0 || buf_add(&c->out, b, len) < 0)
		return;
	conn_flush(c);
}

static void answer(int via, struct conn *c, const struct sockaddr_storage *to, socklen_t to_len,
		   const uint8_t *b, size_t len)
{
	if (c)
		conn_send(c, b, len);
	else if (sendto(via, b, len, MSG_DONTWAIT, (const struct sockaddr *)to, to_len) < 0)
		log_debug("dns: answer not sent", "errno", errno);
}

/* ---- upstream ---- */

static void on_answer(void *arg, const uint8_t *b, size_t len)
{
	struct pending *p = arg;
	struct dns_query q;
	struct dns_out o;

	p->ask = NULL;
	if (b) {
		answer(p->via, p->conn, &p->from, p->from_len, b, len);
		p->dns->svc->stats.dns_forwarded++;
	} else if (dns_parse(p->q, p->q_len, &q) == 0) {
		dns_start(&o, p->q, &q, DNS_SERVFAIL, false);
		answer(p->via, p->conn, &p->from, p->from_len, o.b, o.len);
	}
	pending_free(p);
}

static int forward(struct dns *d, int via, struct conn *c, const struct sockaddr_storage *from,
		   socklen_t from_len, const uint8_t *q, size_t len, size_t question_end)
{
	struct pending *p;

	if (d->upstream.n == 0 || d->n_pending >= MAX_PENDING ||
	    d->svc->pg->network->spec.mode == NET_ISOLATED)
		return -EBUSY;
	p = calloc(1, sizeof(*p) + len);
	if (!p)
		return -ENOMEM;
	p->dns = d;
	p->via = via;
	p->conn = c;
	if (from)
		p->from = *from;
	p->from_len = from_len;
	memcpy(p->q, q, len);
	p->q_len = len;
	list_add_tail(&d->pending, &p->node);
	d->n_pending++;
	if (c)
		c->waiting++;
	if (dns_ask(&d->upstream, q, len, question_end, c != NULL, on_answer, p, &p->ask) < 0) {
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
	struct network *w = d->svc->pg->network;
	bool found = false;

	hmap_for_each(n, &w->net->names, nic_name_hash(w, label)) {
		struct nic *x = container_of(n, struct nic, by_name);

		if (x->pg->network != w || strcasecmp(x->spec.hostname, label) != 0)
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
		r = forward(d, via, c, from, from_len, p, len, q.question_end);
		if (r == 0)
			return;
		dns_start(&o, p, &q, r == -EBUSY ? DNS_REFUSED : DNS_SERVFAIL, false);
	}
	if (!c && o.len > 512) { /* let it come again over TCP */
		dns_start(&o, p, &q, DNS_OK, true);
		o.b[2] |= 0x02;
	}
	answer(via, c, from, from_len, o.b, o.len);
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
	buf_done(&c->out);
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
	ssize_t len;

	if (events & EPOLLOUT)
		conn_flush(c);
	if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		return;
	len = recv(c->fd, b, sizeof(b), MSG_DONTWAIT);
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

static void read_upstream(struct dns *d)
{
	const struct net *n = d->svc->pg->network->net;
	_cleanup_(buf_done) struct buf b = { 0 };

	d->upstream = (struct dns_servers){ .ns = n->host_ns, .loop = d->svc->loop };
	if (file_read(AT_FDCWD, n->cfg.resolv_conf ? n->cfg.resolv_conf : "/etc/resolv.conf", 65536,
		      &b, NULL) == 0 &&
	    b.s)
		dns_servers_parse(b.s, &d->upstream);
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
	read_upstream(d);
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
