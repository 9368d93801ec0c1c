/* A question on its way to the host's servers, see dns_ask.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include "base/rand.h"
#include "base/str.h"
#include "net/services/dns.h"
#include "net/services/dns_ask.h"
#include "sys/netns.h"

#define TIMEOUT (5 * NSEC_PER_SEC / 3)
#define TRIES	3

struct dns_ask {
	const struct dns_servers *servers;
	struct watch watch;
	struct timer timer;
	int fd;
	bool tcp;
	unsigned int tries;
	uint16_t client_id;
	dns_answer_fn *fn;
	void *arg;
	size_t question_end, len, sent;
	uint8_t q[2 + DNS_MAX]; /* behind its length, as TCP wants it */
	struct buf in;		/* TCP */
};

void dns_servers_parse(char *text, struct dns_servers *ret)
{
	char *save = NULL;

	for (char *line = strtok_r(text, "\n", &save); line && ret->n < ARRAY_SIZE(ret->at);
	     line = strtok_r(NULL, "\n", &save)) {
		_cleanup_(strv_freep) char **v = strv_split(line, " \t");

		if (v && strv_len(v) >= 2 && streq(v[0], "nameserver") &&
		    ipaddr_parse(v[1], &ret->at[ret->n]) == 0)
			ret->n++;
	}
}

void dns_ask_cancel(struct dns_ask *a)
{
	if (!a)
		return;
	watch_remove(&a->watch);
	timer_stop(&a->timer);
	safe_close(a->fd);
	buf_done(&a->in);
	free(a);
}

static void finish(struct dns_ask *a, uint8_t *b, size_t len)
{
	dns_answer_fn *fn = a->fn;
	void *arg = a->arg;
	struct buf in = a->in; /* b may be in it */

	if (b) {
		b[0] = (uint8_t)(a->client_id >> 8);
		b[1] = (uint8_t)a->client_id;
	}
	a->in = (struct buf){ 0 };
	dns_ask_cancel(a);
	fn(arg, b, len);
	buf_done(&in);
}

static void try_next(struct dns_ask *a);

/* Is it the answer to this question?  Anything else is somebody's guess. */
static bool answers(const struct dns_ask *a, const uint8_t *b, size_t len)
{
	return len >= a->question_end && b[0] == a->q[2] && b[1] == a->q[3] && (b[2] & 0x80) &&
	       memcmp(b + 4, a->q + 6, 2) == 0 &&
	       memcmp(b + 12, a->q + 14, a->question_end - 12) == 0;
}

static void on_udp(struct dns_ask *a)
{
	uint8_t b[DNS_MAX];
	ssize_t len = recv(a->fd, b, sizeof(b), MSG_DONTWAIT);

	if (len < 0 && errno == ECONNREFUSED)
		try_next(a);
	else if (len > 0 && answers(a, b, (size_t)len))
		finish(a, b, (size_t)len);
}

static int send_more(struct dns_ask *a)
{
	ssize_t n;

	if (a->sent == a->len + 2)
		return 0;
	n = send(a->fd, a->q + a->sent, a->len + 2 - a->sent, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0)
		return errno == EAGAIN ? 0 : -errno;
	a->sent += (size_t)n;
	return a->sent == a->len + 2 ? watch_modify(&a->watch, EPOLLIN) : 0;
}

static void on_tcp(struct dns_ask *a, uint32_t events)
{
	uint8_t b[8192];
	size_t want;
	ssize_t n;

	if ((events & EPOLLOUT) && send_more(a) < 0) {
		try_next(a);
		return;
	}
	if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		return;
	n = recv(a->fd, b, sizeof(b), MSG_DONTWAIT);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0 || a->in.len + (size_t)n > DNS_ANSWER_MAX + 2 ||
	    buf_add(&a->in, b, (size_t)n) < 0) {
		try_next(a);
		return;
	}
	if (a->in.len < 2)
		return;
	want = (size_t)(uint8_t)a->in.s[0] << 8 | (uint8_t)a->in.s[1];
	if (a->in.len < want + 2)
		return;
	if (answers(a, (uint8_t *)a->in.s + 2, want))
		finish(a, (uint8_t *)a->in.s + 2, want);
	else
		try_next(a);
}

static void on_event(struct watch *w, uint32_t events)
{
	struct dns_ask *a = w->data;

	if (a->tcp)
		on_tcp(a, events);
	else
		on_udp(a);
}

static int connect_to(struct dns_ask *a, const struct ipaddr *u)
{
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_port = htobe16(53) };
	struct sockaddr_in6 sin6 = { .sin6_family = AF_INET6, .sin6_port = htobe16(53) };
	struct netns_saved saved;

	if (netns_enter(a->servers->ns, &saved, NULL) < 0)
		return -EIO;
	a->fd = socket(u->family,
		       (a->tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	netns_leave(&saved);
	if (a->fd < 0)
		return -errno;
	memcpy(&sin.sin_addr, u->b, 4);
	memcpy(&sin6.sin6_addr, u->b, 16);
	/* Connected: the kernel takes answers from that server only. */
	if (connect(a->fd, u->family == AF_INET ? (void *)&sin : (void *)&sin6,
		    u->family == AF_INET ? sizeof(sin) : sizeof(sin6)) < 0 &&
	    errno != EINPROGRESS)
		return -errno;
	return 0;
}

static void on_timeout(struct timer *t)
{
	try_next(t->data);
}

static int ask_one(struct dns_ask *a)
{
	uint16_t id = (uint16_t)rand_u64();
	int r;

	watch_remove(&a->watch);
	a->fd = safe_close(a->fd);
	a->sent = 0;
	buf_clear(&a->in);
	a->q[2] = (uint8_t)(id >> 8);
	a->q[3] = (uint8_t)id;
	r = connect_to(a, &a->servers->at[a->tries++ % a->servers->n]);
	if (r == 0 && !a->tcp && send(a->fd, a->q + 2, a->len, 0) < 0)
		r = -errno;
	if (r == 0)
		r = watch_fd(a->servers->loop, &a->watch, "dns upstream", a->fd,
			     a->tcp ? EPOLLIN | EPOLLOUT : EPOLLIN, on_event);
	if (r == 0)
		r = timer_start(a->servers->loop, &a->timer, "dns upstream", TIMEOUT, 0,
				on_timeout);
	return r;
}

static int ask_some(struct dns_ask *a)
{
	while (a->tries < TRIES)
		if (ask_one(a) == 0)
			return 0;
	return -EIO;
}

static void try_next(struct dns_ask *a)
{
	if (ask_some(a) < 0)
		finish(a, NULL, 0);
}

int dns_ask(const struct dns_servers *s, const uint8_t *q, size_t len, size_t question_end,
	    bool tcp, dns_answer_fn *fn, void *arg, struct dns_ask **ret)
{
	struct dns_ask *a = s->n && len <= DNS_MAX ? calloc(1, sizeof(*a)) : NULL;

	if (!a)
		return -EIO;
	a->servers = s;
	a->fd = -1;
	a->tcp = tcp;
	a->fn = fn;
	a->arg = arg;
	a->client_id = (uint16_t)(q[0] << 8 | q[1]);
	a->question_end = question_end;
	a->len = len;
	a->q[0] = (uint8_t)(len >> 8);
	a->q[1] = (uint8_t)len;
	memcpy(a->q + 2, q, len);
	a->watch.data = a->timer.data = a;
	if (ask_some(a) < 0) {
		dns_ask_cancel(a);
		return -EIO;
	}
	*ret = a;
	return 0;
}
