/* Blocking REST client on libcurl; see rest_client.h. */
#include "ext/rest_client.h"

#include <curl/curl.h>
#include <string.h>
#include "base/str.h"

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
	curl_easy_setopt(c->h, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(c->h, CURLOPT_CUSTOMREQUEST, method);
	curl_easy_setopt(c->h, CURLOPT_HTTPHEADER, l);
	if (c->cfg.unix_socket)
		curl_easy_setopt(c->h, CURLOPT_UNIX_SOCKET_PATH, c->cfg.unix_socket);
	if (c->cfg.ca)
		curl_easy_setopt(c->h, CURLOPT_CAINFO, c->cfg.ca);
	if (c->cfg.cert)
		curl_easy_setopt(c->h, CURLOPT_SSLCERT, c->cfg.cert);
	if (c->cfg.key)
		curl_easy_setopt(c->h, CURLOPT_SSLKEY, c->cfg.key);
	if (body) {
		curl_easy_setopt(c->h, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(body));
		curl_easy_setopt(c->h, CURLOPT_COPYPOSTFIELDS, body);
	}
	return 0;
}

static int no_answer(struct rest_client *c, CURLcode rc, struct err **e)
{
	const char *where = c->cfg.unix_socket ? c->cfg.unix_socket : c->cfg.url;
	long os = 0;

	curl_easy_getinfo(c->h, CURLINFO_OS_ERRNO, &os);
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
			r = no_answer(c, rc, e);
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
			r = no_answer(c, rc, e);
		else if (status >= 400)
			r = refused(&s, status, e);
	}
	curl_slist_free_all(headers);
	buf_done(&s.pending);
	return r;
}
