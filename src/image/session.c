/* See session.h. */
#include "image/session.h"

#include <strings.h>
#include "base/rand.h"

#define BEAT (100 * NSEC_PER_MSEC) /* how often cancelling is looked at */

static int base_url(struct session *s, const char *host, struct err **e)
{
	bool plain = s->o && s->o->plain_http;

	if (plain && !ref_domain_is_loopback(host))
		return err_set(e, EPERM, "registry.plain_http",
			       "plain HTTP is only spoken with this host, not with '%s'", host);
	if (streq(host, "docker.io"))
		host = "registry-1.docker.io";
	snprintf(s->base, sizeof(s->base), "%s://%.255s", plain ? "http" : "https", host);
	return 0;
}

int session_open(struct session *s, const struct image_ref *ref, const char *host,
		 const struct registry_options *o, struct image_op *op, struct err **e)
{
	struct http_options ho = { .user_agent = "strata/" STRATA_VERSION,
				   .stall_seconds = o ? o->stall_seconds : 0 };
	char ca[512];
	int r;

	*s = (struct session){ .o = o, .op = op, .ref = *ref };
	r = base_url(s, host, e);
	if (r < 0)
		return r;
	snprintf(ca, sizeof(ca), "/etc/docker/certs.d/%s/ca.crt", host);
	ho.ca_file = o && o->ca_file ? o->ca_file : access(ca, R_OK) == 0 ? ca : NULL;
	r = loop_new(NULL, &s->loop);
	if (r < 0)
		return err_sys(e, -r, "registry");
	return http_client_new(s->loop, &ho, &s->client, e);
}

void session_close(struct session *s)
{
	http_client_free(s->client);
	loop_free(s->loop);
	credentials_done(&s->creds);
	mem_wipe(s->authorization, sizeof(s->authorization));
	s->client = NULL;
	s->loop = NULL;
}

int session_wait(struct session *s, const bool *done, nsec_t d, struct err **e)
{
	nsec_t end = d == NSEC_FOREVER ? NSEC_FOREVER : now_mono() + d;

	while (!(done && *done)) {
		nsec_t left = end == NSEC_FOREVER ? BEAT : end - now_mono();
		int r = image_op_check(s->op, e);

		if (r < 0)
			return r;
		if (left <= 0)
			return 0;
		r = loop_once(s->loop, MIN(left, BEAT));
		if (r < 0)
			return err_sys(e, -r, "registry");
	}
	return 0;
}

bool session_transient(int result, long status)
{
	switch (-result) {
	case 0:
		return status == 408 || status == 429 || status >= 500;
	case ECONNRESET:
	case ECONNREFUSED:
	case ETIMEDOUT:
	case EHOSTUNREACH:
		return true;
	default:
		return false;
	}
}

nsec_t session_pause(const struct http_request *r, unsigned int n)
{
	nsec_t d = (100 * NSEC_PER_MSEC) << MIN(n, 7u);
	char text[64];
	uint64_t asked;

	d += (nsec_t)(rand_u64() %
		      (uint64_t)(d /
				 2)); /* many hosts that were cut at once shall not return at once */
	if (r && http_header(r, "Retry-After", text, sizeof(text)) &&
	    parse_u64(text, 3600, &asked) == 0)
		d = MAX(d, (nsec_t)MIN(asked, (uint64_t)60) * NSEC_PER_SEC);
	return d;
}

int session_status_error(const struct session *s, const struct http_request *r, const char *what,
			 struct err **e)
{
	_cleanup_(json_freep) struct json *v = NULL;
	const char *said = NULL;
	int num = r->status == 404 ? ENOENT : r->status == 401 || r->status == 403 ? EACCES : EIO;

	if (r->text.len && json_parse(buf_str(&r->text), r->text.len, NULL, &v, NULL) == 0)
		said = json_str(json_get(json_at(json_get(v, "errors"), 0), "message"));
	if (r->status == 404)
		return err_set(e, ENOENT, "registry.not_found", "%s: '%s' has none (%s)", what,
			       s->ref.domain, said ? said : "404");
	if (num == EACCES)
		return err_set(e, EACCES, "registry.denied",
			       "%s: access denied (%s); 'docker login %s' stores credentials", what,
			       said ? said : "no reason given", s->ref.domain);
	return err_set(e, num, "registry.status", "%s: the registry answers %ld%s%s", what,
		       r->status, said ? ": " : "", said ? said : "");
}

struct waiter {
	bool done;
	int result;
	struct err *e;
};

static void on_done(struct http_request *r, int result, struct err *e)
{
	struct waiter *w = r->arg;

	w->done = true;
	w->result = result;
	if (e && !w->e)
		err_set(&w->e, err_num(e), err_id(e), "%s", err_msg(e));
}

/* One request, no second try. */
static int call_once(struct session *s, struct http_request *r, struct err **e)
{
	struct waiter w = { 0 };
	int k;

	r->done = on_done;
	r->arg = &w;
	k = http_start(s->client, r, e);
	if (k == 0)
		k = session_wait(s, &w.done, NSEC_FOREVER, e);
	if (k < 0) {
		http_cancel(r);
		return k;
	}
	if (w.result < 0)
		err_move(e, &w.e);
	err_free(w.e);
	return w.result;
}

static void add_escaped(struct buf *b, const char *s)
{
	for (; *s; s++) {
		if (strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~",
			   *s))
			buf_addc(b, *s);
		else
			buf_addf(b, "%%%02X", (unsigned char)*s);
	}
}

static int read_credentials(struct session *s, struct err **e)
{
	if (s->creds_read)
		return 0;
	s->creds_read = true;
	return credentials_find(s->o ? s->o->auth_file : NULL, s->ref.domain, &s->creds, e);
}

static int take_token(struct session *s, const struct http_request *r, struct err **e)
{
	_cleanup_(json_freep) struct json *v = NULL;
	const char *token;
	int k = json_parse(buf_str(&r->text), r->text.len, NULL, &v, e);

	if (k < 0)
		return err_wrap(e, k, "token of '%s'", s->ref.domain);
	token = json_str(json_get(v, "token"));
	if (!token)
		token = json_str(json_get(v, "access_token"));
	if (!token || strpbrk(token, "\r\n") || strlen(token) > sizeof(s->authorization) - 32)
		return err_set(e, EBADMSG, "registry.token",
			       "the token server of '%s' gives no usable token", s->ref.domain);
	snprintf(s->authorization, sizeof(s->authorization), "Authorization: Bearer %s", token);
	return 0;
}

static int fetch_token(struct session *s, const struct challenge *c, struct err **e)
{
	_cleanup_(buf_done) struct buf url = { 0 }, form = { 0 };
	_cleanup_(http_request_done) struct http_request r = { .body_fd = -1, .collect = MIB };
	static const char *const form_type[] = { "Content-Type: application/x-www-form-urlencoded",
						 NULL };
	struct buf *q = &url;
	int k;

	/* The realm gets the password: it may not lead from TLS to plain text, nor to plain text elsewhere. */
	if (!str_starts(c->realm, "https://")) {
		const char *host = str_starts(c->realm, "http://") ? c->realm + 7 : "";
		char domain[256];

		snprintf(domain, sizeof(domain), "%.*s",
			 (int)MIN(strcspn(host, "/?"), sizeof(domain) - 1), host);
		if (!str_starts(s->base, "http://") || !ref_domain_is_loopback(domain))
			return err_set(e, EPERM, "registry.token",
				       "'%s' wants the password sent to '%s'", s->ref.domain,
				       c->realm);
	}
	buf_adds(&url, c->realm);
	if (s->creds.identity_token) {
		q = &form;
		buf_adds(q, "grant_type=refresh_token&client_id=strata&refresh_token=");
		add_escaped(q, s->creds.identity_token);
		buf_adds(q, "&service=");
	} else {
		buf_adds(q, strchr(c->realm, '?') ? "&service=" : "?service=");
		r.user = s->creds.user;
		r.password = s->creds.password;
	}
	add_escaped(q, c->service);
	/* several scopes come separated by blanks and go as several parameters */
	for (const char *p = c->scope; *p;) {
		char one[1024];
		size_t n = strcspn(p, " ");

		snprintf(one, sizeof(one), "%.*s", (int)n, p);
		buf_adds(q, "&scope=");
		add_escaped(q, one);
		p += n;
		p += strspn(p, " ");
	}
	if (buf_error(&url) || buf_error(&form))
		return err_sys(e, ENOMEM, "token");
	r.url = buf_str(&url);
	if (q == &form) {
		r.method = "POST";
		r.headers = (char *const *)(uintptr_t)form_type;
		r.has_body = true;
		r.body = form.s;
		r.body_len = form.len;
	}
	k = call_once(s, &r, e);
	if (k == 0 && r.status != 200)
		k = session_status_error(s, &r, "ask for a token", e);
	return k < 0 ? k : take_token(s, &r, e);
}

static void basic_header(struct session *s)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	_cleanup_(buf_done) struct buf in = { 0 };
	size_t n = (size_t)snprintf(s->authorization, sizeof(s->authorization),
				    "Authorization: Basic ");

	buf_addf(&in, "%s:%s", s->creds.user, s->creds.password);
	for (size_t i = 0; i < in.len && n + 8 < sizeof(s->authorization); i += 3) {
		uint32_t v = (uint32_t)(unsigned char)in.s[i] << 16;

		if (i + 1 < in.len)
			v |= (uint32_t)(unsigned char)in.s[i + 1] << 8;
		if (i + 2 < in.len)
			v |= (unsigned char)in.s[i + 2];
		s->authorization[n++] = digits[v >> 18];
		s->authorization[n++] = digits[v >> 12 & 63];
		s->authorization[n++] = i + 1 < in.len ? digits[v >> 6 & 63] : '=';
		s->authorization[n++] = i + 2 < in.len ? digits[v & 63] : '=';
	}
	s->authorization[n] = '\0';
	if (in.s)
		mem_wipe(in.s, in.len);
}

int session_authorize(struct session *s, const char *header, struct err **e)
{
	struct challenge c;
	int r = read_credentials(s, e);

	if (r < 0)
		return r;
	challenge_parse(header, &c);
	if (c.kind == CHALLENGE_BEARER)
		return fetch_token(s, &c, e);
	if (c.kind == CHALLENGE_BASIC && s->creds.user) {
		basic_header(s);
		return 0;
	}
	return -EACCES; /* nothing to show: the 401 speaks for itself */
}

int session_call(struct session *s, struct http_request *r, const char *const *headers,
		 struct err **e)
{
	unsigned int tries = s->o && s->o->tries ? s->o->tries : 6, n = 0;
	const char *path = r->url;
	uint64_t body_off = r->body_off, body_len = r->body_len;
	bool authorized = false;
	char url[2048];

	snprintf(url, sizeof(url), "%s%s", *path == '/' ? s->base : "", path);
	r->url = url;
	for (;;) {
		_cleanup_(err_freep) struct err *why = NULL;
		const char *list[9];
		char challenge[2048];
		size_t k = 0;
		int res;

		for (const char *const *h = headers; h && *h && k < 6; h++)
			list[k++] = *h;
		/* what redirects an upload elsewhere does not get to see our token */
		if (s->authorization[0] && strncmp(url, s->base, strlen(s->base)) == 0)
			list[k++] = s->authorization;
		list[k] = NULL;
		r->headers = (char *const *)list;
		r->body_off = body_off;
		r->body_len = body_len;
		res = call_once(s, r, &why);
		r->headers = NULL;
		if (res == 0 && r->status == 401 && !authorized &&
		    http_header(r, "WWW-Authenticate", challenge, sizeof(challenge))) {
			authorized = true;
			res = session_authorize(s, challenge, e);
			if (res == 0)
				continue;
			r->url = path;
			return res == -EACCES && !(e && *e) ? session_status_error(s, r, path, e)
							    : res;
		}
		if (session_transient(res, r->status) && ++n < tries) {
			res = session_wait(s, NULL, session_pause(r, n), e);
			if (res == 0)
				continue;
			r->url = path;
			return res;
		}
		r->url = path;
		if (res < 0)
			err_move(e, &why);
		else if (r->status == 401 || r->status == 403)
			return session_status_error(s, r, path, e);
		return res;
	}
}
