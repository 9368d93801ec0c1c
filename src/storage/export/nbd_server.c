/* See nbd_server.h: listening, the table of exports, start and end. */
#define LOG_MODULE "nbd"
#include <arpa/inet.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>
#include "base/log.h"
#include "base/rpc.h"
#include "base/str.h"
#include "storage/export/nbd_conn.h"

struct listener {
	struct list in_server;
	struct nbd_server *s;
	struct watch watch;
	struct timer again;
	int fd;
	bool tcp;
	char *path; /* unix: unlinked at the end */
};

#define THREAD_MEMORY_MIN (64 * MIB) /* twice the largest request */

bool nbd_server_nth(void *arg, size_t i, struct nbd_export_info *ret)
{
	struct nbd_server *s = arg;
	struct disk_limits l;
	struct disk *d;

	if (i >= s->n_x)
		return false;
	d = s->x[i]->disk;
	l = disk_limits(d);
	*ret = (struct nbd_export_info){
		.name = s->x[i]->name,
		.description = s->x[i]->description,
		.size = disk_size(d),
		.pref_block = CLAMP(l.opt_io, 4096U, (uint32_t)NBD_PAYLOAD_MAX),
		.is_default = i == 0,
		/* All queues of a disk see each other's completed writes, and a flush is for all of them. */
		.flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA |
			 NBD_FLAG_SEND_DF | NBD_FLAG_CAN_MULTI_CONN | NBD_FLAG_SEND_CACHE,
	};
	if (disk_readonly(d))
		ret->flags |= NBD_FLAG_READ_ONLY;
	else
		ret->flags |= NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES |
			      NBD_FLAG_SEND_FAST_ZERO;
	return true;
}

int nbd_server_new(struct loop *loop, struct export_threads *ts, struct disk_export *const *x,
		   size_t n, const struct nbd_server_cfg *cfg, struct nbd_server **ret,
		   struct err **e)
{
	struct nbd_server *s = calloc(1, sizeof(*s));

	if (s)
		s->t = calloc(ts->n, sizeof(*s->t));
	if (!s || !s->t) {
		free(s);
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	}
	s->loop = loop;
	s->ts = ts;
	s->x = x;
	s->n_x = n;
	s->cfg = *cfg;
	list_init(&s->listeners);
	ratelimit_init(&s->log_rl, 1, 10);
	for (unsigned int i = 0; i < ts->n; i++) {
		struct nbd_thread *t = &s->t[i];

		t->s = s;
		t->t = &ts->t[i];
		t->memory_max = MAX(cfg->memory / ts->n, THREAD_MEMORY_MIN);
		ratelimit_init(&t->log_rl, 1, 10);
		nbd_thread_init(t);
		ts->t[i].nbd = t;
	}
	*ret = s;
	return 0;
}

/* ---- listening ---- */

static void on_again(struct timer *t)
{
	struct listener *l = t->data;

	watch_modify(&l->watch, EPOLLIN);
}

static void on_accept(struct watch *w, uint32_t events)
{
	struct listener *l = w->data;
	struct nbd_server *s = l->s;
	struct export_thread *t;
	int fd;

	fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			/* the client stays in the queue; the event would come back at once */
			log_warn("cannot accept a client", "error", err_name(errno));
			watch_modify(w, 0);
			l->again.data = l;
			timer_start(s->loop, &l->again, "nbd-again", NSEC_PER_SEC, 0, on_again);
		}
		return;
	}
	if (atomic_load(&s->clients) >= s->cfg.max_clients) {
		log_warn_rl(&s->log_rl, "too many clients", "limit", s->cfg.max_clients);
		close(fd);
		return;
	}
	t = export_thread_acquire(s->ts);
	atomic_fetch_add(&s->clients, 1);
	if (nbd_conn_new(t->nbd, fd, l->tcp) < 0) {
		atomic_fetch_sub(&s->clients, 1);
		export_thread_release(t);
		close(fd);
	}
}

static int add_listener(struct nbd_server *s, int fd, const char *path, struct err **e)
{
	struct listener *l = calloc(1, sizeof(*l));
	int r = -ENOMEM;

	if (l && (!path || (l->path = strdup(path))))
		r = watch_fd(s->loop, &l->watch, "nbd-listen", fd, EPOLLIN, on_accept);
	if (r < 0) {
		if (l)
			free(l->path);
		free(l);
		close(fd);
		return err_sys(e, -r, "listen");
	}
	l->s = s;
	l->fd = fd;
	l->tcp = path == NULL;
	l->watch.data = l;
	list_add_tail(&s->listeners, &l->in_server);
	return 0;
}

int nbd_server_listen_unix(struct nbd_server *s, const char *path, struct err **e)
{
	int fd = rpc_listen(path, 0600, e);

	return fd < 0 ? fd : add_listener(s, fd, path, e);
}

static bool is_loopback(const struct sockaddr *a)
{
	if (a->sa_family == AF_INET)
		return ntohl(((const struct sockaddr_in *)(const void *)a)->sin_addr.s_addr) >>
			       24 ==
		       127;
	return a->sa_family == AF_INET6 &&
	       IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr);
}

/* host and port of "ADDR", "ADDR:PORT", "[ADDR]:PORT", "ADDR6". */
static int split_address(const char *where, char *host, size_t len, uint64_t *port, struct err **e)
{
	const char *end, *colon;

	*port = NBD_PORT;
	if (where[0] == '[') {
		where++;
		end = strchr(where, ']');
		colon = end && end[1] ? end + 1 : NULL;
		if (!end || (colon && *colon != ':'))
			return err_set(e, EINVAL, "usage", "'[%s' is not [ADDRESS]:PORT", where);
	} else {
		colon = strchr(where, ':');
		if (colon && strchr(colon + 1, ':'))
			colon = NULL; /* a bare IPv6 address */
		end = colon ?: where + strlen(where);
	}
	if ((size_t)(end - where) >= len)
		return err_set(e, EINVAL, "usage", "'%s' is no address", where);
	memcpy(host, where, (size_t)(end - where));
	host[end - where] = '\0';
	if (colon && parse_u64(colon + 1, 65535, port) < 0)
		return err_set(e, EINVAL, "usage", "'%s' is no port", colon + 1);
	return 0;
}

int nbd_server_listen_tcp(struct nbd_server *s, const char *where, bool plain, uint16_t *port,
			  struct err **e)
{
	struct addrinfo hints = { .ai_flags = AI_NUMERICHOST | AI_PASSIVE,
				  .ai_socktype = SOCK_STREAM },
			*ai = NULL;
	struct sockaddr_storage got;
	socklen_t len = sizeof(got);
	char host[INET6_ADDRSTRLEN + 16];
	uint64_t want;
	int r = split_address(where, host, sizeof(host), &want, e), fd, one = 1;

	if (r < 0)
		return r;
	if (streq(host, "localhost"))
		strcpy(host, "127.0.0.1");
	if (host[0] == '\0' || getaddrinfo(host, NULL, &hints, &ai) != 0)
		return err_set(e, EINVAL, "usage", "'%s' is no numeric address", host);
	if (!is_loopback(ai->ai_addr) && s->cfg.tls_mode != NBD_TLS_REQUIRE && !plain) {
		freeaddrinfo(ai);
		return err_set(
			e, EACCES, "nbd.plain",
			"anybody who reaches %s could read and write the disk: require TLS, or say --plain",
			host);
	}
	if (ai->ai_family == AF_INET)
		((struct sockaddr_in *)(void *)ai->ai_addr)->sin_port = htons((uint16_t)want);
	else
		((struct sockaddr_in6 *)(void *)ai->ai_addr)->sin6_port = htons((uint16_t)want);
	fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
	    bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 || listen(fd, 128) < 0 ||
	    getsockname(fd, (struct sockaddr *)&got, &len) < 0) {
		r = err_sys(e, errno, "listen on %s port %u", host, (unsigned int)want);
		safe_close(fd);
		freeaddrinfo(ai);
		return r;
	}
	freeaddrinfo(ai);
	*port = ntohs(got.ss_family == AF_INET ? ((struct sockaddr_in *)(void *)&got)->sin_port
					       : ((struct sockaddr_in6 *)(void *)&got)->sin6_port);
	return add_listener(s, fd, NULL, e);
}

unsigned int nbd_server_clients(const struct nbd_server *s)
{
	return atomic_load(&s->clients);
}

/* ---- the end ---- */

static void tell_drained(void *arg)
{
	struct nbd_server *s = arg;

	timer_stop(&s->hard);
	s->drained(s->drained_arg);
}

void nbd_server_drained(struct nbd_server *s)
{
	if (!atomic_exchange(&s->told, true))
		while (loop_post(s->loop, tell_drained, s) < 0)
			;
}

static void stop_soft(void *arg)
{
	nbd_conns_stop(arg, false);
}

static void stop_hard(void *arg)
{
	nbd_conns_stop(arg, true);
}

static void on_hard(struct timer *t)
{
	struct nbd_server *s = t->data;

	for (unsigned int i = 0; i < s->ts->n; i++)
		loop_post(s->ts->t[i].loop, stop_hard, &s->t[i]);
}

static void close_listeners(struct nbd_server *s)
{
	struct list *n;

	while ((n = list_pop(&s->listeners))) {
		struct listener *l = list_entry(n, struct listener, in_server);

		watch_remove(&l->watch);
		timer_stop(&l->again);
		close(l->fd);
		if (l->path)
			unlink(l->path);
		free(l->path);
		free(l);
	}
}

void nbd_server_stop(struct nbd_server *s, void (*drained)(void *arg), void *arg)
{
	s->drained = drained;
	s->drained_arg = arg;
	close_listeners(s);
	s->hard.data = s;
	timer_start(s->loop, &s->hard, "nbd-hard", s->cfg.timeout, NSEC_PER_SEC, on_hard);
	atomic_store(&s->stopping, true);
	for (unsigned int i = 0; i < s->ts->n; i++)
		loop_post(s->ts->t[i].loop, stop_soft, &s->t[i]);
	if (atomic_load(&s->clients) == 0)
		nbd_server_drained(s);
}

static void thread_done(void *arg)
{
	nbd_thread_done(arg);
}

void nbd_server_free(struct nbd_server *s)
{
	if (!s)
		return;
	close_listeners(s);
	timer_stop(&s->hard);
	for (unsigned int i = 0; i < s->ts->n; i++)
		export_thread_call(&s->ts->t[i], thread_done, &s->t[i]);
	free(s->t);
	free(s);
}
