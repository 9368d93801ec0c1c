/* HTTP server on libmicrohttpd; see httpd.h.
 *
 * The library runs in external mode: its epoll fd is a watch of our loop.  A kept request is a suspended
 * connection; the answer resumes it, and the access handler queues it when it is called again.
 *
 * Life of a request: made in on_uri(), freed in on_completed() or, when it was upgraded or
 * streams, when that ends. */
#include "ext/httpd.h"

#include <arpa/inet.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <string.h>
#include "base/str.h"
#include "base/vec.h"

#define STREAM_MAX (4U << 20)

struct httpd {
	struct httpd_cfg cfg;
	struct MHD_Daemon *d;
	struct watch watch;
	struct timer timer;
	struct list reqs;
	bool stopping, kicked;
};

struct header {
	char *name, *value;
};

struct httpd_req {
	struct list node;
	struct httpd *h;
	struct MHD_Connection *c;
	char *method, *path;
	char *raw, *raw_query; /* one allocation */
	struct buf body;
	int (*sink)(struct httpd_req *r, const void *data, size_t len, void *arg);
	void *sink_arg;
	void *data;
	void (*gone)(struct httpd_req *r, void *data);
	VEC(struct header) headers;
	struct MHD_Response *answer; /* made, not queued yet */
	unsigned int status;
	bool head_done, handed, suspended, queued;
	char remote[INET6_ADDRSTRLEN];
	struct httpd_stream *stream;
	httpd_upgraded_fn *upgraded;
	void *upgraded_arg;
};

struct httpd_stream {
	struct httpd_req *r; /* NULL: the connection is gone */
	struct buf out;
	bool ended, waiting;
	void (*gone)(struct httpd_stream *s, void *arg);
	void *arg;
};

static void rearm(struct httpd *h);

static void run(struct httpd *h)
{
	h->kicked = false;
	MHD_run(h->d);
	rearm(h);
}

static void on_timer(struct timer *t)
{
	run(t->data);
}

static void rearm(struct httpd *h)
{
	MHD_UNSIGNED_LONG_LONG ms;

	if (h->kicked)
		timer_start(h->cfg.loop, &h->timer, "httpd", 0, 0, on_timer);
	else if (MHD_get_timeout(h->d, &ms) == MHD_YES)
		timer_start(h->cfg.loop, &h->timer, "httpd", (nsec_t)ms * NSEC_PER_MSEC, 0,
			    on_timer);
	else
		timer_stop(&h->timer);
}

/* Something changed outside the library's sight (a resumed or closed connection): let it run soon. */
static void kick(struct httpd *h)
{
	if (!h->stopping) {
		h->kicked = true;
		rearm(h);
	}
}

static void on_ready(struct watch *w, uint32_t events)
{
	run(w->data);
}

/* -- answers -------------------------------------------------------------------------------------- */

static enum MHD_Result queue_answer(struct httpd_req *r)
{
	struct MHD_Response *a = TAKE(r->answer);
	enum MHD_Result ok = MHD_queue_response(r->c, r->status, a);

	MHD_destroy_response(a);
	r->queued = true;
	return ok;
}

/* The answer is known: queue it from inside the access handler, or wake the connection so that it is. */
static void set_answer(struct httpd_req *r, unsigned int status, struct MHD_Response *a)
{
	struct header *hd;

	if (!a) { /* out of memory: the client sees the connection close */
		static const char text[] = "out of memory\n";

		a = MHD_create_response_from_buffer(sizeof(text) - 1, (void *)text,
						    MHD_RESPMEM_PERSISTENT);
		status = MHD_HTTP_SERVICE_UNAVAILABLE;
		if (!a)
			return;
	}
	vec_for_each(hd, &r->headers)
		MHD_add_response_header(a, hd->name, hd->value);
	r->answer = a;
	r->status = status;
	r->gone = NULL;
	if (r->suspended) {
		r->suspended = false;
		MHD_resume_connection(r->c);
		kick(r->h);
	}
}

int httpd_add_header(struct httpd_req *r, const char *name, const char *value)
{
	struct header hd = { strdup(name), strdup(value) };

	if (!hd.name || !hd.value || vec_push(&r->headers, hd) < 0) {
		free(hd.name);
		free(hd.value);
		return -ENOMEM;
	}
	return 0;
}

void httpd_reply(struct httpd_req *r, unsigned int status, const char *type, const void *body,
		 size_t len)
{
	struct MHD_Response *a = MHD_create_response_from_buffer(len, (void *)(body ? body : ""),
								 MHD_RESPMEM_MUST_COPY);

	if (a && type)
		MHD_add_response_header(a, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	set_answer(r, status, a);
}

void httpd_reply_taken(struct httpd_req *r, unsigned int status, const char *type, char *body,
		       size_t len)
{
	struct MHD_Response *a = MHD_create_response_from_buffer(len, body, MHD_RESPMEM_MUST_FREE);

	if (!a)
		free(body);
	else if (type)
		MHD_add_response_header(a, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	set_answer(r, status, a);
}

void httpd_reply_fd(struct httpd_req *r, unsigned int status, const char *type, int fd,
		    uint64_t size)
{
	struct MHD_Response *a = MHD_create_response_from_fd64(size, fd);

	if (!a)
		safe_close(fd);
	else if (type)
		MHD_add_response_header(a, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	set_answer(r, status, a);
}

static ssize_t stream_read(void *cls, uint64_t pos, char *buf, size_t max)
{
	struct httpd_stream *s = cls;
	size_t n = MIN(max, s->out.len);

	if (n) {
		memcpy(buf, s->out.s, n);
		buf_consume(&s->out, n);
		return (ssize_t)n;
	}
	if (s->ended)
		return MHD_CONTENT_READER_END_OF_STREAM;
	s->waiting = true;
	MHD_suspend_connection(s->r->c);
	return 0;
}

/* The library lets go of the response: the connection ended. */
static void stream_free(void *cls)
{
	struct httpd_stream *s = cls;

	if (!s->ended && s->gone)
		s->gone(s, s->arg);
	if (s->r)
		s->r->stream = NULL;
	buf_done(&s->out);
	free(s);
}

int httpd_reply_stream(struct httpd_req *r, unsigned int status, const char *type,
		       void (*gone)(struct httpd_stream *s, void *arg), void *arg,
		       struct httpd_stream **ret)
{
	struct httpd_stream *s = calloc(1, sizeof(*s));
	struct MHD_Response *a;

	if (!s)
		return -ENOMEM;
	a = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 64 * 1024, stream_read, s,
					      stream_free);
	if (!a) {
		free(s);
		return -ENOMEM;
	}
	s->r = r;
	s->gone = gone;
	s->arg = arg;
	r->stream = s;
	MHD_add_response_header(a, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	MHD_add_response_header(a, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
	*ret = s;
	set_answer(r, status, a);
	return 0;
}

static void stream_wake(struct httpd_stream *s)
{
	if (s->waiting && s->r) {
		s->waiting = false;
		MHD_resume_connection(s->r->c);
		kick(s->r->h);
	}
}

int httpd_stream_write(struct httpd_stream *s, const void *data, size_t len)
{
	int r;

	if (s->out.len + len > STREAM_MAX)
		return -ENOBUFS;
	r = buf_add(&s->out, data, len);
	if (r == 0)
		stream_wake(s);
	return r;
}

void httpd_stream_end(struct httpd_stream *s)
{
	s->ended = true;
	stream_wake(s);
}

struct closer {
	struct httpd *h;
	struct MHD_UpgradeResponseHandle *urh;
};

static void on_upgraded(void *cls, struct MHD_Connection *c, void *req_cls, const char *extra,
			size_t extra_len, MHD_socket fd, struct MHD_UpgradeResponseHandle *urh)
{
	struct httpd_req *r = cls;
	struct closer *closer = malloc(sizeof(*closer));

	if (!closer) {
		MHD_upgrade_action(urh, MHD_UPGRADE_ACTION_CLOSE);
		return;
	}
	*closer = (struct closer){ r->h, urh };
	r->gone = NULL; /* from here on it is the new owner's to end */
	r->upgraded(r->upgraded_arg, fd, extra, extra_len, closer);
}

void httpd_upgrade(struct httpd_req *r, const char *protocol, httpd_upgraded_fn *fn, void *arg)
{
	struct MHD_Response *a;

	r->upgraded = fn;
	r->upgraded_arg = arg;
	a = MHD_create_response_for_upgrade(on_upgraded, r);
	if (a)
		MHD_add_response_header(a, MHD_HTTP_HEADER_UPGRADE, protocol);
	set_answer(r, MHD_HTTP_SWITCHING_PROTOCOLS, a);
}

void httpd_upgrade_done(void *closer)
{
	struct closer *c = closer;

	MHD_upgrade_action(c->urh, MHD_UPGRADE_ACTION_CLOSE);
	kick(c->h);
	free(c);
}

/* -- requests ------------------------------------------------------------------------------------- */

static void req_free(struct httpd_req *r)
{
	struct header *hd;

	list_del(&r->node);
	if (r->gone)
		r->gone(r, r->data);
	if (r->answer)
		MHD_destroy_response(r->answer);
	if (r->stream)
		r->stream->r = NULL;
	vec_for_each(hd, &r->headers) {
		free(hd->name);
		free(hd->value);
	}
	vec_done(&r->headers);
	buf_done(&r->body);
	free(r->method);
	free(r->path);
	free(r->raw);
	free(r);
}

static void on_completed(void *cls, struct MHD_Connection *c, void **req_cls,
			 enum MHD_RequestTerminationCode toe)
{
	if (*req_cls)
		req_free(*req_cls);
	*req_cls = NULL;
}

/* A request's first line is there: the request begins.  NULL: out of memory, on_access() drops it. */
static void *on_uri(void *cls, const char *uri, struct MHD_Connection *c)
{
	struct httpd_req *r = calloc(1, sizeof(*r));
	struct httpd *h = cls;

	if (!r)
		return NULL;
	r->h = h;
	r->c = c;
	list_add_tail(&h->reqs, &r->node);
	r->raw = strdup(uri);
	if (!r->raw) {
		req_free(r);
		return NULL;
	}
	r->raw_query = strchrnul(r->raw, '?');
	if (*r->raw_query)
		*r->raw_query++ = '\0';
	return r;
}

static void take_body(struct httpd_req *r, const char *data, size_t len)
{
	static const char too_large[] =
		"{\"error\":{\"id\":\"request.too_large\",\"message\":\"the body is larger than the daemon accepts\"}}\n";

	if (r->answer)
		return; /* refused already; the rest is read and dropped */
	if (r->sink) {
		if (r->sink(r, data, len, r->sink_arg) < 0 && !r->answer)
			httpd_reply(r, MHD_HTTP_INSUFFICIENT_STORAGE, "text/plain",
				    "upload failed\n", 14);
	} else if (r->body.len + len > r->h->cfg.max_body || buf_add(&r->body, data, len) < 0) {
		httpd_reply(r, MHD_HTTP_CONTENT_TOO_LARGE, "application/json", too_large,
			    sizeof(too_large) - 1);
	}
}

static enum MHD_Result on_access(void *cls, struct MHD_Connection *c, const char *url,
				 const char *method, const char *version, const char *upload,
				 size_t *upload_len, void **req_cls)
{
	struct httpd *h = cls;
	struct httpd_req *r = *req_cls;

	if (h->stopping || !r)
		return MHD_NO;
	if (!r->head_done) {
		r->head_done = true;
		r->method = strdup(method);
		r->path = strdup(url);
		if (!r->method || !r->path)
			return MHD_NO;
		if (h->cfg.head)
			h->cfg.head(r, h->cfg.arg);
		/* an answer now, before the body is read, makes the library close the connection afterwards */
		return r->answer ? queue_answer(r) : MHD_YES;
	}
	if (*upload_len) {
		take_body(r, upload, *upload_len);
		*upload_len = 0;
		return MHD_YES;
	}
	if (!r->handed && !r->answer) {
		r->handed = true;
		if (r->sink && r->sink(r, NULL, 0, r->sink_arg) < 0 && !r->answer)
			httpd_reply(r, MHD_HTTP_INSUFFICIENT_STORAGE, "text/plain",
				    "upload failed\n", 14);
		if (!r->answer)
			h->cfg.handler(r, h->cfg.arg);
	}
	if (r->answer)
		return queue_answer(r);
	if (r->queued)
		return MHD_YES;
	r->suspended = true;
	MHD_suspend_connection(c);
	return MHD_YES;
}

const char *httpd_method(const struct httpd_req *r)
{
	return r->method;
}

const char *httpd_path(const struct httpd_req *r)
{
	return r->path;
}

const char *httpd_raw_path(const struct httpd_req *r)
{
	return r->raw;
}

const char *httpd_raw_query(const struct httpd_req *r)
{
	return r->raw_query;
}

static enum MHD_Result find_query(void *cls, enum MHD_ValueKind kind, const char *key,
				  const char *value)
{
	const char **want = cls;

	if (!streq(key, want[0]))
		return MHD_YES;
	want[1] = value ? value : "";
	return MHD_NO;
}

const char *httpd_query(struct httpd_req *r, const char *name)
{
	const char *want[2] = { name, NULL };

	MHD_get_connection_values(r->c, MHD_GET_ARGUMENT_KIND, find_query, want);
	return want[1];
}

struct each {
	void (*fn)(void *arg, const char *name, const char *value);
	void *arg;
};

static enum MHD_Result each_query(void *cls, enum MHD_ValueKind kind, const char *key,
				  const char *value)
{
	struct each *each = cls;

	each->fn(each->arg, key, value ? value : "");
	return MHD_YES;
}

void httpd_each_query(struct httpd_req *r,
		      void (*fn)(void *arg, const char *name, const char *value), void *arg)
{
	struct each each = { fn, arg };

	MHD_get_connection_values(r->c, MHD_GET_ARGUMENT_KIND, each_query, &each);
}

const char *httpd_header(struct httpd_req *r, const char *name)
{
	return MHD_lookup_connection_value(r->c, MHD_HEADER_KIND, name);
}

const struct buf *httpd_body(const struct httpd_req *r)
{
	return &r->body;
}

static int connection_fd(struct httpd_req *r)
{
	const union MHD_ConnectionInfo *ci =
		MHD_get_connection_info(r->c, MHD_CONNECTION_INFO_CONNECTION_FD);

	return ci ? ci->connect_fd : -1;
}

int httpd_peer(struct httpd_req *r, struct ucred *ret)
{
	socklen_t len = sizeof(*ret), dlen = sizeof(int);
	int fd = connection_fd(r), domain = 0;

	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &dlen) < 0 || domain != AF_UNIX)
		return -ENOTSOCK;
	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, ret, &len) < 0 ? -errno : 0;
}

int httpd_client_cert(struct httpd_req *r, char fingerprint[65])
{
	const union MHD_ConnectionInfo *ci =
		MHD_get_connection_info(r->c, MHD_CONNECTION_INFO_GNUTLS_SESSION);
	const gnutls_datum_t *certs;
	unsigned int n = 0, status = 0;
	unsigned char digest[32];

	if (!ci || !ci->tls_session)
		return -ENOENT;
	certs = gnutls_certificate_get_peers(ci->tls_session, &n);
	if (!certs || n == 0)
		return -ENOENT;
	if (gnutls_certificate_verify_peers2(ci->tls_session, &status) < 0 || status != 0)
		return -EACCES;
	if (gnutls_hash_fast(GNUTLS_DIG_SHA256, certs[0].data, certs[0].size, digest) < 0)
		return -EIO;
	hex_encode(digest, sizeof(digest), fingerprint);
	return 0;
}

const char *httpd_remote(struct httpd_req *r)
{
	struct sockaddr_storage ss = { 0 };
	socklen_t len = sizeof(ss);

	if (r->remote[0] || getpeername(connection_fd(r), (struct sockaddr *)&ss, &len) < 0)
		return r->remote;
	if (ss.ss_family == AF_INET)
		inet_ntop(AF_INET, &((struct sockaddr_in *)&ss)->sin_addr, r->remote,
			  sizeof(r->remote));
	else if (ss.ss_family == AF_INET6)
		inet_ntop(AF_INET6, &((struct sockaddr_in6 *)&ss)->sin6_addr, r->remote,
			  sizeof(r->remote));
	return r->remote;
}

void httpd_sink(struct httpd_req *r,
		int (*fn)(struct httpd_req *r, const void *data, size_t len, void *arg), void *arg)
{
	r->sink = fn;
	r->sink_arg = arg;
}

void httpd_set_data(struct httpd_req *r, void *data, void (*gone)(struct httpd_req *r, void *data))
{
	r->data = data;
	r->gone = gone;
}

void *httpd_data(const struct httpd_req *r)
{
	return r->data;
}

/* -- the server ----------------------------------------------------------------------------------- */

static void ignore_log(void *arg, const char *fmt, va_list ap)
{
}

int httpd_start(const struct httpd_cfg *cfg, struct httpd **ret, struct err **e)
{
	_cleanup_(freep) struct httpd *h = calloc(1, sizeof(*h));
	unsigned int flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_ALLOW_UPGRADE |
			     MHD_USE_ERROR_LOG;
	struct MHD_OptionItem tls[4] = { { MHD_OPTION_END, 0, NULL } };
	const union MHD_DaemonInfo *info;
	size_t n = 0;
	int r;

	if (!h) {
		safe_close(cfg->listen_fd);
		return err_sys(e, ENOMEM, "http server");
	}
	h->cfg = *cfg;
	list_init(&h->reqs);
	if (cfg->tls) {
		flags |= MHD_USE_TLS;
		tls[n++] = (struct MHD_OptionItem){ MHD_OPTION_HTTPS_MEM_CERT, 0,
						    (void *)cfg->tls->cert };
		tls[n++] = (struct MHD_OptionItem){ MHD_OPTION_HTTPS_MEM_KEY, 0,
						    (void *)cfg->tls->key };
		if (cfg->tls->client_ca)
			tls[n++] = (struct MHD_OptionItem){ MHD_OPTION_HTTPS_MEM_TRUST, 0,
							    (void *)cfg->tls->client_ca };
		if (n < ARRAY_SIZE(tls))
			tls[n] = (struct MHD_OptionItem){ MHD_OPTION_END, 0, NULL };
	}
	h->d = MHD_start_daemon(flags, 0, NULL, NULL, on_access, h, MHD_OPTION_EXTERNAL_LOGGER,
				ignore_log, NULL, MHD_OPTION_LISTEN_SOCKET, cfg->listen_fd,
				MHD_OPTION_URI_LOG_CALLBACK, on_uri, h, MHD_OPTION_NOTIFY_COMPLETED,
				on_completed, h, MHD_OPTION_CONNECTION_LIMIT, cfg->max_connections,
				MHD_OPTION_CONNECTION_TIMEOUT, cfg->idle_seconds,
				MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
				(size_t)32 * 1024, MHD_OPTION_ARRAY, tls, MHD_OPTION_END);
	if (!h->d) {
		safe_close(cfg->listen_fd);
		return err_set(e, EINVAL, "http.start", "http server does not start%s",
			       cfg->tls ? ": certificate or key is not usable" : "");
	}
	info = MHD_get_daemon_info(h->d, MHD_DAEMON_INFO_EPOLL_FD);
	h->watch.data = h->timer.data = h;
	r = info ? watch_fd(cfg->loop, &h->watch, "httpd", info->epoll_fd, EPOLLIN, on_ready)
		 : -EIO;
	if (r < 0) {
		MHD_stop_daemon(h->d);
		return err_sys(e, -r, "http server");
	}
	rearm(h);
	*ret = TAKE(h);
	return 0;
}

void httpd_stop(struct httpd *h)
{
	struct httpd_req *r;

	if (!h)
		return;
	/* the library wants no suspended connection when it stops */
	h->stopping = true;
	list_for_each_entry(r, &h->reqs, node) {
		if (r->suspended || (r->stream && r->stream->waiting))
			MHD_resume_connection(r->c);
		r->suspended = false;
		if (r->stream)
			r->stream->waiting = false;
	}
	watch_remove(&h->watch);
	timer_stop(&h->timer);
	MHD_run(h->d); /* lets go of connections whose upgrade is done */
	MHD_stop_daemon(h->d);
	free(h);
}
