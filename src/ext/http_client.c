/* libcurl behind ext/http_client.h: its sockets are our watches, its timer is ours. */
#include "ext/http_client.h"

#include <curl/curl.h>
#include <pthread.h>
#include <string.h>
#include <strings.h>

#define CONNECT_SECONDS 15L
#define STALL_SECONDS	20L

struct http_client {
	struct loop *loop;
	CURLM *multi;
	struct timer timer;
	struct list running;
	char *ca_file, *cert_file, *key_file, *user_agent;
	long stall;
};

struct sock { /* one per socket of curl's */
	struct watch w;
	struct http_client *c;
};

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void global_init(void)
{
	curl_global_init(CURL_GLOBAL_DEFAULT);
}

static int errno_of(CURLcode code)
{
	switch (code) {
	case CURLE_OUT_OF_MEMORY:
		return ENOMEM;
	case CURLE_OPERATION_TIMEDOUT:
		return ETIMEDOUT;
	case CURLE_COULDNT_RESOLVE_HOST:
		return EHOSTUNREACH;
	case CURLE_COULDNT_CONNECT:
		return ECONNREFUSED;
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_CERTPROBLEM:
		return EACCES;
	case CURLE_URL_MALFORMAT:
	case CURLE_UNSUPPORTED_PROTOCOL:
		return EINVAL;
	default:
		return ECONNRESET; /* cut, short, nonsense: worth another try */
	}
}

static void request_end(struct http_request *r)
{
	curl_multi_remove_handle(r->client->multi, r->easy);
	curl_easy_cleanup(r->easy);
	curl_slist_free_all(r->list);
	r->easy = r->list = NULL;
	list_del(&r->node);
	r->client = NULL;
}

static void finish(struct http_request *r, CURLcode code)
{
	_cleanup_(err_freep) struct err *e = TAKE(r->err);
	int res = r->r;

	if (res == 0 && code != CURLE_OK)
		res = err_set(&e, errno_of(code), "http.failed", "%s: %s", r->url,
			      r->error_text[0] ? r->error_text : curl_easy_strerror(code));
	if (res == 0 && r->response && !r->told) /* an answer without a body */
		res = r->response(r, &e);
	request_end(r);
	r->done(r, res, e);
}

static void reap(struct http_client *c)
{
	CURLMsg *m;
	int left;

	while ((m = curl_multi_info_read(c->multi, &left))) {
		struct http_request *r = NULL;
		CURLcode code = m->data.result;

		if (m->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&r);
		finish(r, code);
	}
}

static void on_socket(struct watch *w, uint32_t events)
{
	struct sock *s = w->data;
	struct http_client *c = s->c;
	int bits = 0, running;

	if (events & (EPOLLIN | EPOLLHUP))
		bits |= CURL_CSELECT_IN;
	if (events & EPOLLOUT)
		bits |= CURL_CSELECT_OUT;
	if (events & EPOLLERR)
		bits |= CURL_CSELECT_ERR;
	curl_multi_socket_action(c->multi, w->fd, bits, &running); /* may free s */
	reap(c);
}

static int socket_cb(CURL *easy, curl_socket_t fd, int what, void *arg, void *per_socket)
{
	struct http_client *c = arg;
	struct sock *s = per_socket;
	uint32_t events = (what & CURL_POLL_IN ? EPOLLIN : 0u) |
			  (what & CURL_POLL_OUT ? EPOLLOUT : 0u);

	if (what == CURL_POLL_REMOVE) {
		if (s) {
			watch_remove(&s->w);
			curl_multi_assign(c->multi, fd, NULL);
			free(s);
		}
		return 0;
	}
	if (s)
		return watch_modify(&s->w, events);
	s = calloc(1, sizeof(*s));
	if (!s)
		return -1;
	s->c = c;
	s->w.data = s;
	curl_multi_assign(c->multi, fd, s);
	return watch_fd(c->loop, &s->w, "http", fd, events, on_socket);
}

static void on_timer(struct timer *t)
{
	struct http_client *c = t->data;
	int running;

	curl_multi_socket_action(c->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	reap(c);
}

static int timer_cb(CURLM *multi, long ms, void *arg)
{
	struct http_client *c = arg;

	c->timer.data = c;
	if (ms < 0)
		timer_stop(&c->timer);
	else
		timer_start(c->loop, &c->timer, "http", ms * NSEC_PER_MSEC, 0, on_timer);
	return 0;
}

static int copy(char **to, const char *from)
{
	*to = from ? strdup(from) : NULL;
	return from && !*to ? -ENOMEM : 0;
}

int http_client_new(struct loop *loop, const struct http_options *o, struct http_client **ret,
		    struct err **e)
{
	_cleanup_(http_client_freep) struct http_client *c = calloc(1, sizeof(*c));

	pthread_once(&once, global_init);
	if (!c)
		return err_sys(e, ENOMEM, "http");
	list_init(&c->running);
	c->loop = loop;
	c->stall = o && o->stall_seconds ? (long)o->stall_seconds : STALL_SECONDS;
	c->multi = curl_multi_init();
	if (!c->multi ||
	    (o && (copy(&c->ca_file, o->ca_file) < 0 || copy(&c->cert_file, o->cert_file) < 0 ||
		   copy(&c->key_file, o->key_file) < 0 || copy(&c->user_agent, o->user_agent) < 0)))
		return err_sys(e, ENOMEM, "http");
	curl_multi_setopt(c->multi, CURLMOPT_SOCKETFUNCTION, socket_cb);
	curl_multi_setopt(c->multi, CURLMOPT_SOCKETDATA, c);
	curl_multi_setopt(c->multi, CURLMOPT_TIMERFUNCTION, timer_cb);
	curl_multi_setopt(c->multi, CURLMOPT_TIMERDATA, c);
	*ret = TAKE(c);
	return 0;
}

void http_client_free(struct http_client *c)
{
	struct http_request *r, *tmp;

	if (!c)
		return;
	list_for_each_entry_safe(r, tmp, &c->running, node)
		http_cancel(r);
	if (c->multi)
		curl_multi_cleanup(c->multi);
	timer_stop(&c->timer);
	free(c->ca_file);
	free(c->cert_file);
	free(c->key_file);
	free(c->user_agent);
	free(c);
}

/* Tell the caller once, with the first byte of the body of the final answer. */
static int tell(struct http_request *r)
{
	if (r->told || r->r < 0)
		return r->r;
	curl_easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &r->status);
	r->told = true;
	if (r->response)
		r->r = r->response(r, &r->err);
	return r->r;
}

static size_t on_data(char *data, size_t size, size_t n, void *arg)
{
	struct http_request *r = arg;

	if (tell(r) < 0)
		return 0;
	if (r->collect) {
		if (r->text.len + n > r->collect)
			r->r = err_set(&r->err, EFBIG, "http.too_large", "%s: more than %zu bytes",
				       r->url, r->collect);
		else
			r->r = buf_add(&r->text, data, n);
	} else if (r->data) {
		r->r = r->data(r, data, n, &r->err);
	}
	return r->r < 0 ? 0 : n;
}

static size_t on_header(char *data, size_t size, size_t n, void *arg)
{
	struct http_request *r = arg;

	if (n > 5 && strncasecmp(data, "HTTP/", 5) == 0)
		buf_clear(&r->response_headers); /* of a redirect or 100 Continue before */
	if (r->response_headers.len + n > 256 * KIB || buf_add(&r->response_headers, data, n) < 0)
		return 0;
	curl_easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &r->status);
	return n;
}

static size_t on_read(char *data, size_t size, size_t n, void *arg)
{
	struct http_request *r = arg;
	size_t len = (size_t)MIN((uint64_t)n, r->body_len);

	if (r->body_fd >= 0) {
		ssize_t got = pread(r->body_fd, data, len, (off_t)r->body_off);

		if (got < 0 || (got == 0 && len)) {
			r->r = err_sys(&r->err, got < 0 ? errno : EIO, "read what is to be sent");
			return CURL_READFUNC_ABORT;
		}
		len = (size_t)got;
	} else if (len) {
		memcpy(data, (const char *)r->body + r->body_off, len);
	}
	r->body_off += len;
	r->body_len -= len;
	if (r->sent)
		r->sent(r, len);
	return len;
}

static int set_headers(struct http_request *r)
{
	struct curl_slist *list = NULL, *more;

	for (char *const *h = r->headers; h && *h; h++) {
		more = curl_slist_append(list, *h);
		if (!more) {
			curl_slist_free_all(list);
			return -ENOMEM;
		}
		list = more;
	}
	more = curl_slist_append(list, "Expect:"); /* no round trip before a body */
	if (more)
		list = more;
	r->list = list;
	curl_easy_setopt(r->easy, CURLOPT_HTTPHEADER, list);
	return 0;
}

static void set_body(struct http_request *r)
{
	CURL *h = r->easy;

	if (!r->has_body) {
		if (r->method && strcmp(r->method, "HEAD") == 0)
			curl_easy_setopt(h, CURLOPT_NOBODY, 1L);
		else if (r->method)
			curl_easy_setopt(h, CURLOPT_CUSTOMREQUEST, r->method);
		return;
	}
	if (r->method && strcmp(r->method, "POST") == 0) {
		curl_easy_setopt(h, CURLOPT_POST, 1L);
		curl_easy_setopt(h, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body_len);
	} else {
		curl_easy_setopt(h, CURLOPT_UPLOAD, 1L);
		curl_easy_setopt(h, CURLOPT_INFILESIZE_LARGE, (curl_off_t)r->body_len);
		curl_easy_setopt(h, CURLOPT_CUSTOMREQUEST, r->method);
	}
	curl_easy_setopt(h, CURLOPT_READFUNCTION, on_read);
	curl_easy_setopt(h, CURLOPT_READDATA, r);
}

int http_start(struct http_client *c, struct http_request *r, struct err **e)
{
	bool tls = strncasecmp(r->url, "https:", 6) == 0;
	CURL *h = curl_easy_init();

	r->easy = h;
	r->client = c;
	r->r = 0;
	r->told = false;
	r->status = 0;
	r->error_text[0] = '\0';
	buf_clear(&r->text);
	buf_clear(&r->response_headers);
	if (!h || set_headers(r) < 0) {
		curl_easy_cleanup(h);
		r->easy = NULL;
		return err_sys(e, ENOMEM, "http");
	}
	curl_easy_setopt(h, CURLOPT_URL, r->url);
	curl_easy_setopt(h, CURLOPT_PRIVATE, r);
	curl_easy_setopt(h, CURLOPT_ERRORBUFFER, r->error_text);
	curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(h, CURLOPT_PROXY, "");
	curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, tls ? "https" : "http,https");
	curl_easy_setopt(h, CURLOPT_REDIR_PROTOCOLS_STR, tls ? "https" : "http,https");
	curl_easy_setopt(h, CURLOPT_FOLLOWLOCATION, r->has_body ? 0L : 1L);
	curl_easy_setopt(h, CURLOPT_MAXREDIRS, 10L);
	curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT, CONNECT_SECONDS);
	curl_easy_setopt(h, CURLOPT_LOW_SPEED_LIMIT, 1L);
	curl_easy_setopt(h, CURLOPT_LOW_SPEED_TIME, c->stall);
	curl_easy_setopt(h, CURLOPT_BUFFERSIZE, 512L * 1024);
	curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_data);
	curl_easy_setopt(h, CURLOPT_WRITEDATA, r);
	curl_easy_setopt(h, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(h, CURLOPT_HEADERDATA, r);
	if (c->user_agent)
		curl_easy_setopt(h, CURLOPT_USERAGENT, c->user_agent);
	if (c->ca_file)
		curl_easy_setopt(h, CURLOPT_CAINFO, c->ca_file);
	if (c->cert_file)
		curl_easy_setopt(h, CURLOPT_SSLCERT, c->cert_file);
	if (c->key_file)
		curl_easy_setopt(h, CURLOPT_SSLKEY, c->key_file);
	if (r->user) {
		curl_easy_setopt(h, CURLOPT_HTTPAUTH, CURLAUTH_BASIC);
		curl_easy_setopt(h, CURLOPT_USERNAME, r->user);
		curl_easy_setopt(h, CURLOPT_PASSWORD, r->password ? r->password : "");
	}
	set_body(r);
	list_add_tail(&c->running, &r->node);
	if (curl_multi_add_handle(c->multi, h) != CURLM_OK) {
		request_end(r);
		return err_sys(e, ENOMEM, "http");
	}
	return 0;
}

void http_cancel(struct http_request *r)
{
	if (!r->client)
		return;
	err_clear(&r->err);
	request_end(r);
}

bool http_header(const struct http_request *r, const char *name, char *buf, size_t len)
{
	const char *p = buf_str(&r->response_headers);
	size_t n = strlen(name);
	bool found = false;

	while (*p) {
		size_t line = strcspn(p, "\r\n");

		if (line > n && p[n] == ':' && strncasecmp(p, name, n) == 0) {
			const char *v = p + n + 1;

			v += strspn(v, " \t");
			snprintf(buf, len, "%.*s", (int)(p + line - v > 0 ? p + line - v : 0), v);
			found = true;
		}
		p += line;
		p += strspn(p, "\r\n");
	}
	return found;
}

void http_request_done(struct http_request *r)
{
	http_cancel(r);
	buf_done(&r->text);
	buf_done(&r->response_headers);
}
