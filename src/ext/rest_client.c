/* Blocking REST client on libcurl; see rest_client.h. */
#include "ext/rest_client.h"

#include <curl/curl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include "base/str.h"
#include "ext/ws.h"

#define REPLY_MAX (256 * MIB)

struct rest_client {
	CURL *h;
	struct rest_cfg cfg; /* texts owned */
	char *hint;
};

void rest_reply_done(struct rest_reply *r)
{
	if (r)
		buf_done(&r->body);
}

static char *copy(const char *s)
{
	return s ? strdup(s) : NULL;
}

int rest_client_new(const struct rest_cfg *cfg, struct rest_client **ret, struct err **e)
{
	_cleanup_(rest_client_freep) struct rest_client *c = calloc(1, sizeof(*c));

	if (!c)
		return err_sys(e, ENOMEM, "client");
	c->cfg = (struct rest_cfg){ copy(cfg->unix_socket), copy(cfg->url),  copy(cfg->token),
				    copy(cfg->ca),	    copy(cfg->cert), copy(cfg->key) };
	c->h = curl_easy_init();
	if (!c->h || !c->cfg.url)
		return err_sys(e, ENOMEM, "client");
	*ret = TAKE(c);
	return 0;
}

void rest_client_free(struct rest_client *c)
{
	if (!c)
		return;
	curl_easy_cleanup(c->h);
	free(c->hint);
	free((char *)c->cfg.unix_socket);
	free((char *)c->cfg.url);
	free((char *)c->cfg.token);
	free((char *)c->cfg.ca);
	free((char *)c->cfg.cert);
	free((char *)c->cfg.key);
	free(c);
}

int rest_escape(struct buf *b, const char *s)
{
	static const char plain[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~";

	for (; *s; s++) {
		if (strchr(plain, *s))
			buf_addc(b, *s);
		else
			buf_addf(b, "%%%02X", (unsigned char)*s);
	}
	return buf_error(b);
}

static size_t take_body(char *data, size_t size, size_t n, void *arg)
{
	struct rest_reply *r = arg;

	if (r->body.len + size * n > REPLY_MAX || buf_add(&r->body, data, size * n) < 0)
		return 0;
	return size * n;
}

/* "Name: value\r\n" -> value into out when the name is this one. */
static void header_value(const char *line, size_t len, const char *name, char *out, size_t room)
{
	size_t n = strlen(name);

	if (len <= n || strncasecmp(line, name, n) != 0 || line[n] != ':')
		return;
	line += n + 1;
	len -= n + 1;
	while (len && (*line == ' ' || *line == '\t'))
		line++, len--;
	while (len && (line[len - 1] == '\r' || line[len - 1] == '\n'))
		len--;
	len = MIN(len, room - 1);
	memcpy(out, line, len);
	out[len] = '\0';
}

static size_t take_header(char *data, size_t size, size_t n, void *arg)
{
	struct rest_reply *r = arg;

	header_value(data, size * n, "ETag", r->etag, sizeof(r->etag));
	header_value(data, size * n, "Location", r->location, sizeof(r->location));
	return size * n;
}

static void set_connection(struct rest_client *c, CURL *h)
{
	curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
	if (c->cfg.unix_socket)
		curl_easy_setopt(h, CURLOPT_UNIX_SOCKET_PATH, c->cfg.unix_socket);
	if (c->cfg.ca)
		curl_easy_setopt(h, CURLOPT_CAINFO, c->cfg.ca);
	if (c->cfg.cert)
		curl_easy_setopt(h, CURLOPT_SSLCERT, c->cfg.cert);
	if (c->cfg.key)
		curl_easy_setopt(h, CURLOPT_SSLKEY, c->cfg.key);
}

/* Options that every request shares; *headers is the caller's to free. */
static int prepare(struct rest_client *c, const char *method, const char *path, const char *body,
		   int64_t if_match, struct curl_slist **headers, struct err **e)
{
	_cleanup_(buf_done) struct buf url = { 0 }, h = { 0 };
	struct curl_slist *l = NULL;

	curl_easy_reset(c->h);
	free(TAKE(c->hint));
	buf_addf(&url, "%s%s", c->cfg.url, path);
	if (body)
		l = curl_slist_append(l, "Content-Type: application/json");
	if (if_match) {
		buf_addf(&h, "If-Match: \"%lld\"", (long long)if_match);
		l = curl_slist_append(l, buf_str(&h));
	}
	if (c->cfg.token) {
		buf_clear(&h);
		buf_addf(&h, "Authorization: Bearer %s", c->cfg.token);
		l = curl_slist_append(l, buf_str(&h));
		mem_wipe(h.s, h.len);
	}
	*headers = l;
	if (buf_error(&url) || buf_error(&h))
		return err_sys(e, ENOMEM, "request");
	curl_easy_setopt(c->h, CURLOPT_URL, url.s);
	curl_easy_setopt(c->h, CURLOPT_CUSTOMREQUEST, method);
	curl_easy_setopt(c->h, CURLOPT_HTTPHEADER, l);
	set_connection(c, c->h);
	if (body) {
		curl_easy_setopt(c->h, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(body));
		curl_easy_setopt(c->h, CURLOPT_COPYPOSTFIELDS, body);
	}
	return 0;
}

static int no_answer(struct rest_client *c, CURL *h, CURLcode rc, struct err **e)
{
	const char *where = c->cfg.unix_socket ? c->cfg.unix_socket : c->cfg.url;
	long os = 0;

	curl_easy_getinfo(h, CURLINFO_OS_ERRNO, &os);
	if (rc == CURLE_OUT_OF_MEMORY)
		return err_sys(e, ENOMEM, "request");
	if (rc == CURLE_COULDNT_CONNECT && (os == ENOENT || os == ECONNREFUSED))
		return err_set(
			e, ECONNREFUSED, "daemon.down",
			"no daemon answers on '%s': is stratad running? ('systemctl start stratad', or 'make up')",
			where);
	if (rc == CURLE_COULDNT_CONNECT && os == EACCES)
		return err_set(e, EACCES, "daemon.denied",
			       "'%s' is not yours to use: run as root, or join the group 'strata'",
			       where);
	return err_set(e, EIO, "daemon.lost", "the daemon on '%s': %s", where,
		       curl_easy_strerror(rc));
}

int rest_request(struct rest_client *c, const char *method, const char *path, const char *body,
		 int64_t if_match, struct rest_reply *ret, struct err **e)
{
	struct curl_slist *headers = NULL;
	CURLcode rc;
	int r;

	*ret = (struct rest_reply){ 0 };
	r = prepare(c, method, path, body, if_match, &headers, e);
	if (r == 0) {
		curl_easy_setopt(c->h, CURLOPT_WRITEFUNCTION, take_body);
		curl_easy_setopt(c->h, CURLOPT_WRITEDATA, ret);
		curl_easy_setopt(c->h, CURLOPT_HEADERFUNCTION, take_header);
		curl_easy_setopt(c->h, CURLOPT_HEADERDATA, ret);
		rc = curl_easy_perform(c->h);
		if (rc == CURLE_OK)
			curl_easy_getinfo(c->h, CURLINFO_RESPONSE_CODE, &ret->status);
		else
			r = no_answer(c, c->h, rc, e);
	}
	curl_slist_free_all(headers);
	if (r < 0)
		rest_reply_done(ret);
	return r;
}

static int errno_of(long status)
{
	switch (status) {
	case 400:
		return EINVAL;
	case 401:
	case 403:
		return EACCES;
	case 404:
		return ENOENT;
	case 409:
		return EBUSY;
	case 412:
		return ESTALE;
	case 422:
		return ENOTSUP;
	case 507:
		return ENOSPC;
	default:
		return EIO;
	}
}

const char *rest_client_hint(const struct rest_client *c)
{
	return c->hint;
}

/* {"error":{"id":...,"message":...,"hint":...}} as our error. */
static int api_error(struct rest_client *c, long status, const struct json *body, struct err **e)
{
	const char *hint = json_str(json_walk(body, "error", "hint", NULL));
	const char *id = json_str(json_walk(body, "error", "id", NULL));
	const char *message = json_str(json_walk(body, "error", "message", NULL));

	c->hint = hint ? strdup(hint) : NULL;
	if (id && message)
		return err_set(e, errno_of(status), id, "%s", message);
	return err_set(e, errno_of(status), "http.status",
		       "the daemon answered with HTTP status %ld", status);
}

int rest_call(struct rest_client *c, const char *method, const char *path, const char *body,
	      struct json **ret, struct err **e)
{
	_cleanup_(rest_reply_done) struct rest_reply reply = { 0 };
	_cleanup_(json_freep) struct json *j = NULL;
	const struct json_limits limits = { .size = REPLY_MAX, .depth = 64, .values = SIZE_MAX };
	int r = rest_request(c, method, path, body, 0, &reply, e);

	if (r < 0)
		return r;
	if (reply.body.len) {
		r = json_parse(reply.body.s, reply.body.len, &limits, &j,
			       reply.status < 400 ? e : NULL);
		if (r < 0 && reply.status < 400)
			return err_wrap(e, r, "answer of the daemon");
	}
	if (reply.status >= 400)
		return api_error(c, reply.status, j, e);
	if (ret)
		*ret = TAKE(j);
	return 0;
}

/* -- streams -------------------------------------------------------------------------------------- */

struct stream {
	struct rest_client *c;
	struct buf pending;
	rest_line_fn *fn;
	void *arg;
	int result; /* of fn */
};

static size_t take_lines(char *data, size_t size, size_t n, void *arg)
{
	struct stream *s = arg;
	char *nl;

	if (buf_add(&s->pending, data, size * n) < 0)
		return 0;
	while (s->pending.len && (nl = memchr(s->pending.s, '\n', s->pending.len))) {
		*nl = '\0';
		s->result = s->fn(s->arg, s->pending.s);
		buf_consume(&s->pending, (size_t)(nl - s->pending.s) + 1);
		if (s->result)
			return 0;
	}
	return size * n;
}

/* A refusal's body is one JSON document, which ends in no newline: it is what is pending at the end. */
static int refused(struct stream *s, long status, struct err **e)
{
	_cleanup_(json_freep) struct json *j = NULL;

	if (s->pending.len)
		json_parse(s->pending.s, s->pending.len, NULL, &j, NULL);
	return api_error(s->c, status, j, e);
}

int rest_stream(struct rest_client *c, const char *path, rest_line_fn *fn, void *arg,
		struct err **e)
{
	struct stream s = { .c = c, .fn = fn, .arg = arg };
	struct curl_slist *headers = NULL;
	long status = 0;
	CURLcode rc;
	int r = prepare(c, "GET", path, NULL, 0, &headers, e);

	if (r == 0) {
		curl_easy_setopt(c->h, CURLOPT_WRITEFUNCTION, take_lines);
		curl_easy_setopt(c->h, CURLOPT_WRITEDATA, &s);
		rc = curl_easy_perform(c->h);
		curl_easy_getinfo(c->h, CURLINFO_RESPONSE_CODE, &status);
		if (s.result)
			r = MIN(s.result, 0);
		else if (rc != CURLE_OK)
			r = no_answer(c, c->h, rc, e);
		else if (status >= 400)
			r = refused(&s, status, e);
	}
	curl_slist_free_all(headers);
	buf_done(&s.pending);
	return r;
}

/* -- bytes ---------------------------------------------------------------------------------------- */

struct download {
	struct rest_client *c;
	rest_bytes_fn *fn;
	void *arg;
	struct buf refusal;
	int result; /* of fn */
};

static size_t take_bytes(char *data, size_t size, size_t n, void *arg)
{
	struct download *d = arg;
	long status = 0;

	curl_easy_getinfo(d->c->h, CURLINFO_RESPONSE_CODE, &status);
	if (status >= 400)
		return d->refusal.len > MIB || buf_add(&d->refusal, data, size * n) < 0 ? 0
											: size * n;
	d->result = d->fn(d->arg, data, size * n);
	return d->result < 0 ? 0 : size * n;
}

int rest_download(struct rest_client *c, const char *path, rest_bytes_fn *fn, void *arg,
		  struct err **e)
{
	struct download d = { .c = c, .fn = fn, .arg = arg };
	_cleanup_(json_freep) struct json *j = NULL;
	struct curl_slist *headers = NULL;
	long status = 0;
	CURLcode rc;
	int r = prepare(c, "GET", path, NULL, 0, &headers, e);

	if (r == 0) {
		curl_easy_setopt(c->h, CURLOPT_WRITEFUNCTION, take_bytes);
		curl_easy_setopt(c->h, CURLOPT_WRITEDATA, &d);
		rc = curl_easy_perform(c->h);
		curl_easy_getinfo(c->h, CURLINFO_RESPONSE_CODE, &status);
		if (d.refusal.len)
			json_parse(d.refusal.s, d.refusal.len, NULL, &j, NULL);
		if (d.result < 0)
			r = d.result == -EPIPE ? -EPIPE : err_sys(e, -d.result, "write");
		else if (rc != CURLE_OK)
			r = no_answer(c, c->h, rc, e);
		else if (status >= 400)
			r = api_error(c, status, j, e);
	}
	curl_slist_free_all(headers);
	buf_done(&d.refusal);
	return r;
}

/* -- WebSockets ----------------------------------------------------------------------------------- */

struct rest_socket {
	CURL *h;
	struct ws *ws;
	struct buf early; /* came with the answer's head */
	rest_message_fn *fn;
	void *arg;
};

void rest_socket_free(struct rest_socket *s)
{
	if (!s)
		return;
	ws_free(s->ws);
	curl_easy_cleanup(s->h);
	buf_done(&s->early);
	free(s);
}

int rest_socket_fd(const struct rest_socket *s)
{
	curl_socket_t fd = -1;

	curl_easy_getinfo(s->h, CURLINFO_ACTIVESOCKET, &fd);
	return fd;
}

static ssize_t socket_read(void *arg, void *data, size_t len)
{
	struct rest_socket *s = arg;
	size_t n = 0;
	CURLcode rc;

	if (s->early.len) {
		n = MIN(len, s->early.len);
		memcpy(data, s->early.s, n);
		buf_consume(&s->early, n);
		return (ssize_t)n;
	}
	rc = curl_easy_recv(s->h, data, len, &n);
	return rc == CURLE_OK ? (ssize_t)n : rc == CURLE_AGAIN ? -EAGAIN : -EPIPE;
}

static ssize_t socket_write(void *arg, const void *data, size_t len)
{
	struct rest_socket *s = arg;
	size_t n = 0;
	CURLcode rc = curl_easy_send(s->h, data, len, &n);

	return rc == CURLE_OK ? (ssize_t)n : rc == CURLE_AGAIN ? -EAGAIN : -EPIPE;
}

static void socket_message(void *arg, bool text, const void *data, size_t len)
{
	struct rest_socket *s = arg;

	s->fn(s->arg, text, data, len);
}

static int wait_fd(int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };

	return poll(&p, 1, 30000) > 0 ? 0 : -ETIMEDOUT;
}

static int say_hello(struct rest_socket *s, struct rest_client *c, const char *path,
		     const char *key)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	const char *host = strstr(c->cfg.url, "//");
	size_t at = 0;
	int r = 0;

	buf_addf(&b,
		 "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
		 "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n",
		 path, host ? host + 2 : "localhost", key);
	if (c->cfg.token)
		buf_addf(&b, "Authorization: Bearer %s\r\n", c->cfg.token);
	if (buf_adds(&b, "\r\n") < 0)
		return -ENOMEM;
	while (r == 0 && at < b.len) {
		ssize_t n = socket_write(s, b.s + at, b.len - at);

		if (n > 0)
			at += (size_t)n;
		else
			r = n == -EAGAIN ? wait_fd(rest_socket_fd(s), POLLOUT) : -EPIPE;
	}
	mem_wipe(b.s, b.len);
	return r;
}

/* More of the answer at the end of b.  -EPIPE: there is no more. */
static int read_more(struct rest_socket *s, struct buf *b)
{
	char data[4096];
	size_t n = 0;
	CURLcode rc;

	do
		rc = curl_easy_recv(s->h, data, sizeof(data), &n);
	while (rc == CURLE_AGAIN && wait_fd(rest_socket_fd(s), POLLIN) == 0);
	if (rc != CURLE_OK || n == 0 || b->len > MIB)
		return -EPIPE;
	return buf_add(b, data, n);
}

/* The answer's head, and in s->early what came after it: of a refusal its whole body. */
static int read_answer(struct rest_socket *s, struct buf *head)
{
	const char *end = NULL, *length;
	size_t keep, want;
	int r = 0;

	while (!end) {
		r = read_more(s, head);
		if (r < 0)
			return r;
		end = head->s ? strstr(buf_str(head), "\r\n\r\n") : NULL;
	}
	keep = (size_t)(end + 4 - head->s);
	r = buf_add(&s->early, head->s + keep, head->len - keep);
	head->s[head->len = keep] = '\0';
	if (str_starts(head->s, "HTTP/1.1 101 "))
		return r;
	length = strcasestr(head->s, "\r\nContent-Length:");
	want = length ? strtoul(length + 17, NULL, 10) : 0;
	while (r == 0 && s->early.len < want)
		r = read_more(s, &s->early);
	return r;
}

static int check_answer(struct rest_client *c, struct rest_socket *s, const struct buf *head,
			const char *key, struct err **e)
{
	_cleanup_(json_freep) struct json *j = NULL;
	char accept[29];
	long status;

	if (str_starts(buf_str(head), "HTTP/1.1 101 ")) {
		if (ws_accept_key(key, accept) == 0 && strstr(buf_str(head), accept))
			return 0;
		return err_set(e, EPROTO, "http.status", "the daemon does not speak WebSocket");
	}
	status = head->len > 9 ? strtol(buf_str(head) + 9, NULL, 10) : 0;
	if (s->early.len)
		json_parse(s->early.s, s->early.len, NULL, &j, NULL);
	return api_error(c, status, j, e);
}

int rest_socket_open(struct rest_client *c, const char *path, rest_message_fn *fn, void *arg,
		     struct rest_socket **ret, struct err **e)
{
	_cleanup_(rest_socket_freep) struct rest_socket *s = calloc(1, sizeof(*s));
	_cleanup_(buf_done) struct buf head = { 0 };
	struct ws_cfg cfg = { .client = true,
			      .read = socket_read,
			      .write = socket_write,
			      .message = socket_message,
			      .arg = s };
	char key[25];
	CURLcode rc;
	int r;

	free(TAKE(c->hint));
	if (!s)
		return err_sys(e, ENOMEM, "websocket");
	s->fn = fn;
	s->arg = arg;
	s->h = curl_easy_init();
	if (!s->h || ws_make_key(key) < 0)
		return err_sys(e, ENOMEM, "websocket");
	set_connection(c, s->h);
	curl_easy_setopt(s->h, CURLOPT_URL, c->cfg.url);
	curl_easy_setopt(s->h, CURLOPT_CONNECT_ONLY, 1L);
	rc = curl_easy_perform(s->h);
	if (rc != CURLE_OK)
		return no_answer(c, s->h, rc, e);
	r = say_hello(s, c, path, key);
	if (r == 0)
		r = read_answer(s, &head);
	if (r < 0)
		return err_sys(e, -r, "websocket");
	r = check_answer(c, s, &head, key, e);
	if (r < 0)
		return r;
	if (ws_new(&cfg, &s->ws) < 0)
		return err_sys(e, ENOMEM, "websocket");
	*ret = TAKE(s);
	return 0;
}

bool rest_socket_wants_write(const struct rest_socket *s)
{
	return ws_wants_write(s->ws);
}

int rest_socket_work(struct rest_socket *s)
{
	int r = ws_wants_write(s->ws) ? ws_write(s->ws) : 0;

	return r < 0 ? r : ws_read(s->ws);
}

int rest_socket_send(struct rest_socket *s, bool text, const void *data, size_t len)
{
	return ws_send(s->ws, text, data, len);
}

size_t rest_socket_queued(const struct rest_socket *s)
{
	return ws_queued(s->ws);
}

void rest_socket_close(struct rest_socket *s)
{
	ws_close(s->ws, 1000);
}
