/* What the daemon listens on; see server.h. */
#define LOG_MODULE "server"
#include "node/http/server.h"

#include <fcntl.h>
#include <grp.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/atomicfile.h"
#include "base/log.h"
#include "base/rpc.h"
#include "base/str.h"
#include "ext/x509.h"
#include "node/node.h"

#define RESTART_DELAY (300 * NSEC_PER_MSEC) /* the answer that caused it goes out first */
#define PEM_MAX	      (256 * KIB)

struct servers {
	struct node *node;
	struct router *router;
	struct cfg_stratad cfg; /* a copy */
	struct httpd *local, *https, *metrics;
	struct timer restart;
};

static struct httpd_cfg base_cfg(struct servers *s)
{
	return (struct httpd_cfg){
		.loop = s->node->loop,
		.max_body = s->cfg.limits.body,
		.max_connections = (unsigned int)s->cfg.limits.connections,
		.idle_seconds = (unsigned int)(s->cfg.limits.idle / NSEC_PER_SEC),
		.handler = router_handle,
		.arg = s->router,
	};
}

/* ---- addresses ---- */

static int bind_one(const struct addrinfo *a)
{
	int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1,
	    off = 0;

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (a->ai_family == AF_INET6) /* all addresses of both kinds */
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	if (bind(fd, a->ai_addr, a->ai_addrlen) < 0 || listen(fd, 512) < 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	return fd;
}

/* "[::1]:8443", "127.0.0.1:8443", ":8443", "*:8443": a listening socket. */
static int listen_tcp(const char *address, struct err **e)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM,
					.ai_flags = AI_PASSIVE | AI_NUMERICSERV };
	const char *colon = strrchr(address, ':');
	_cleanup_(freep) char *host = strndup(address, (size_t)(colon - address));
	struct addrinfo *list = NULL;
	const char *name = host;
	int r, fd = -ENOENT;

	if (!host)
		return err_sys(e, ENOMEM, "listen");
	if (*host == '[') {
		host[strlen(host) - 1] = '\0';
		name = host + 1;
	}
	r = getaddrinfo(*name && !streq(name, "*") ? name : NULL, colon + 1, &hints, &list);
	if (r != 0)
		return err_set(e, EINVAL, "server.address", "listen on '%s': %s", address,
			       gai_strerror(r));
	/* IPv6 first: it serves IPv4 too, where the kernel has it */
	for (int pass = 0; pass < 2 && fd < 0; pass++) {
		for (const struct addrinfo *a = list; a && fd < 0; a = a->ai_next) {
			if ((a->ai_family == AF_INET6) == (pass == 0))
				fd = bind_one(a);
		}
	}
	freeaddrinfo(list);
	return fd < 0 ? err_sys(e, -fd, "listen on '%s'", address) : fd;
}

/* The socket belongs to the group that may use the daemon; without such a group to root alone. */
static void give_to_group(const char *path, const char *group)
{
	struct group *g = *group ? getgrnam(group) : NULL;

	if (g && (chown(path, 0, g->gr_gid) < 0 || chmod(path, 0660) < 0))
		log_warn("the group cannot use the socket", "group", group, "errno",
			 err_name(errno));
}

static int open_local(struct servers *s, const char *path, struct err **e)
{
	struct httpd_cfg cfg = base_cfg(s);

	cfg.listen_fd = rpc_listen(path, 0600, e);
	if (cfg.listen_fd < 0)
		return cfg.listen_fd;
	give_to_group(path, s->cfg.group);
	return httpd_start(&cfg, &s->local, e);
}

/* ---- HTTPS ---- */

static int make_certificate(struct servers *s, const char *cert, const char *key, struct err **e)
{
	_cleanup_(freep) char *cert_text = NULL, *key_text = NULL;
	int r = x509_self_signed(s->node->host->name, &cert_text, &key_text, e);

	if (r < 0)
		return r;
	log_info("a certificate for HTTPS is made", "file", cert);
	r = file_write_atomic(AT_FDCWD, key, key_text, strlen(key_text), 0600, e);
	mem_wipe(key_text, strlen(key_text));
	return r < 0 ? r : file_write_atomic(AT_FDCWD, cert, cert_text, strlen(cert_text), 0644, e);
}

/* The configured pair, or our own below the state folder. */
static int read_pair(struct servers *s, struct buf *cert, struct buf *key, struct err **e)
{
	const struct cfg_config_https *h = s->cfg.https;
	_cleanup_(freep) char *dir = NULL, *cert_path = NULL, *key_path = NULL;
	int r = 0;

	if ((h->certificate != NULL) != (h->key != NULL))
		return err_set(e, EINVAL, "server.certificate",
			       "https: certificate and key go together");
	if (h->certificate) {
		r = file_read(AT_FDCWD, h->certificate, PEM_MAX, cert, e);
		return r < 0 ? r : file_read(AT_FDCWD, h->key, PEM_MAX, key, e);
	}
	if (asprintf(&dir, "%s/https", s->node->paths.state) < 0 ||
	    asprintf(&cert_path, "%s/cert.pem", dir) < 0 ||
	    asprintf(&key_path, "%s/key.pem", dir) < 0)
		return err_sys(e, ENOMEM, "https");
	if (mkdir(dir, 0755) < 0 && errno != EEXIST)
		return err_sys(e, errno, "create '%s'", dir);
	if (access(cert_path, F_OK) < 0 || access(key_path, F_OK) < 0)
		r = make_certificate(s, cert_path, key_path, e);
	if (r == 0)
		r = file_read(AT_FDCWD, cert_path, PEM_MAX, cert, e);
	return r < 0 ? r : file_read(AT_FDCWD, key_path, PEM_MAX, key, e);
}

/* Whom a client's certificate may come from: the authority, and each certificate that was accepted by itself. */
static int gather_trust(struct servers *s, struct buf *trust, struct err **e)
{
	struct inventory *inv = s->node->inventory;
	int r = 0;

	if (s->cfg.https->client_ca)
		r = file_read(AT_FDCWD, s->cfg.https->client_ca, PEM_MAX, trust, e);
	for (struct object *o = inventory_next(inv, "certificate", NULL); r == 0 && o;
	     o = inventory_next(inv, "certificate", o))
		r = buf_addf(trust, "\n%s\n", json_str(json_get(o->spec, "pem")) ?: "");
	return r;
}

static int open_https(struct servers *s, struct err **e)
{
	_cleanup_(buf_done) struct buf cert = { 0 }, key = { 0 }, trust = { 0 };
	struct httpd_cfg cfg = base_cfg(s);
	struct httpd_tls tls;
	int r;

	if (!s->cfg.https)
		return 0;
	r = read_pair(s, &cert, &key, e);
	if (r == 0)
		r = gather_trust(s, &trust, e);
	if (r < 0)
		return err_wrap(e, r, "https");
	tls = (struct httpd_tls){ .cert = buf_str(&cert),
				  .key = buf_str(&key),
				  .client_ca = trust.len ? buf_str(&trust) : NULL };
	cfg.tls = &tls;
	cfg.listen_fd = listen_tcp(s->cfg.https->listen, e);
	r = cfg.listen_fd < 0 ? cfg.listen_fd : httpd_start(&cfg, &s->https, e);
	mem_wipe(key.s, key.len);
	if (r < 0)
		return err_wrap(e, r, "https");
	log_info("https is open", "listen", s->cfg.https->listen);
	return 0;
}

static void on_restart(struct timer *t)
{
	_cleanup_(err_freep) struct err *e = NULL;
	struct servers *s = t->data;

	httpd_stop(TAKE(s->https));
	if (open_https(s, &e) < 0)
		log_err("https is closed", "error", e);
}

void servers_trust_changed(struct servers *s)
{
	if (s && s->cfg.https)
		timer_start(s->node->loop, &s->restart, "https restart", RESTART_DELAY, 0,
			    on_restart);
}

/* ---- metrics ---- */

static void on_metrics(struct httpd_req *r, void *arg)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	struct servers *s = arg;

	if (!streq(httpd_path(r), "/metrics") ||
	    !(streq(httpd_method(r), "GET") || streq(httpd_method(r), "HEAD"))) {
		httpd_reply(r, 404, "text/plain", "only GET /metrics is here\n", 26);
		return;
	}
	metrics_print(s->node->metrics, &b);
	httpd_reply(r, 200, "application/openmetrics-text; version=1.0.0; charset=utf-8",
		    buf_str(&b), b.len);
}

static int open_metrics(struct servers *s, struct err **e)
{
	struct httpd_cfg cfg = base_cfg(s);

	if (!s->cfg.metrics)
		return 0;
	cfg.handler = on_metrics;
	cfg.arg = s;
	cfg.listen_fd = listen_tcp(s->cfg.metrics->listen, e);
	if (cfg.listen_fd < 0)
		return err_wrap(e, cfg.listen_fd, "metrics");
	return httpd_start(&cfg, &s->metrics, e);
}

/* ---- all of them ---- */

int servers_open(struct node *n, struct router *router, const char *socket,
		 const struct cfg_stratad *cfg, struct servers **ret, struct err **e)
{
	struct servers *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return err_sys(e, ENOMEM, "servers");
	s->node = n;
	s->router = router;
	s->restart.data = s;
	r = cfg_stratad_copy(cfg, &s->cfg);
	if (r < 0)
		err_sys(e, ENOMEM, "servers");
	else
		r = open_local(s, socket, e);
	if (r == 0)
		r = open_https(s, e);
	if (r == 0)
		r = open_metrics(s, e);
	if (r < 0)
		servers_close(s);
	else
		*ret = s;
	return r;
}

void servers_close(struct servers *s)
{
	if (!s)
		return;
	timer_stop(&s->restart);
	httpd_stop(s->metrics);
	httpd_stop(s->https);
	httpd_stop(s->local);
	cfg_stratad_done(&s->cfg);
	free(s);
}

int servers_reload(struct servers *s, const struct cfg_stratad *cfg, struct err **e)
{
	struct cfg_stratad next = { 0 };
	int r = cfg_stratad_copy(cfg, &next), m;

	if (r < 0)
		return err_sys(e, ENOMEM, "servers");
	cfg_stratad_done(&s->cfg);
	s->cfg = next;
	timer_stop(&s->restart);
	httpd_stop(TAKE(s->https));
	httpd_stop(TAKE(s->metrics));
	r = open_https(s, e);
	m = open_metrics(s, r < 0 ? NULL : e);
	return r < 0 ? r : m;
}
