/* Reading one HTTP request, see http.h. */
#include <errno.h>
#include <string.h>
#include <strings.h>
#include "net/services/http.h"

static int parse_line(const char *p, size_t len, struct http_request *q)
{
	const char *sp = memchr(p, ' ', len), *end = p + len, *sp2, *query;
	size_t n;

	if (!sp || (size_t)(sp - p) >= sizeof(q->method) || sp == p)
		return -EBADMSG;
	memcpy(q->method, p, (size_t)(sp - p));
	sp++;
	sp2 = memchr(sp, ' ', (size_t)(end - sp));
	if (!sp2 || sp2 == sp || *sp != '/' || end - sp2 != 9 || memcmp(sp2, " HTTP/1.", 8) != 0)
		return -EBADMSG;
	q->keep_alive = sp2[8] == '1';
	query = memchr(sp, '?', (size_t)(sp2 - sp));
	n = (size_t)((query ? query : sp2) - sp);
	if (n >= sizeof(q->path))
		return -E2BIG;
	for (size_t i = 0; i < n; i++)
		if (sp[i] <= ' ' || sp[i] > '~')
			return -EBADMSG;
	memcpy(q->path, sp, n);
	return 0;
}

static bool is(const char *p, size_t n, const char *name)
{
	return n == strlen(name) && strncasecmp(p, name, n) == 0;
}

static int parse_header(const char *p, size_t len, struct http_request *q)
{
	const char *colon = memchr(p, ':', len), *v;
	size_t n, vn;

	if (!colon || colon == p)
		return -EBADMSG;
	n = (size_t)(colon - p);
	v = colon + 1;
	vn = len - n - 1;
	while (vn && (*v == ' ' || *v == '\t')) {
		v++;
		vn--;
	}
	if (is(p, n, "x-forwarded-for") || is(p, n, "forwarded"))
		q->forwarded = true;
	if (is(p, n, "connection") && vn >= 5 && strncasecmp(v, "close", 5) == 0)
		q->keep_alive = false;
	if (is(p, n, "transfer-encoding"))
		return -EBADMSG;
	if (is(p, n, "content-length")) {
		uint64_t body = 0;

		if (vn == 0 || vn > 9)
			return -EBADMSG;
		for (size_t i = 0; i < vn; i++) {
			if (v[i] < '0' || v[i] > '9')
				return -EBADMSG;
			body = body * 10 + (uint64_t)(v[i] - '0');
		}
		q->body = body;
	}
	return 0;
}

int http_parse(const char *p, size_t len, struct http_request *ret)
{
	struct http_request q = { 0 };
	const char *end = memmem(p, len, "\r\n\r\n", 4), *at = p;
	bool first = true;

	if (!end)
		return len >= HTTP_REQUEST_MAX ? -E2BIG : 0;
	if (end - p >= HTTP_REQUEST_MAX)
		return -E2BIG;
	while (at < end + 2) {
		const char *nl = memmem(at, (size_t)(end + 2 - at), "\r\n", 2);
		int r = first ? parse_line(at, (size_t)(nl - at), &q)
			      : parse_header(at, (size_t)(nl - at), &q);

		if (r < 0)
			return r;
		first = false;
		at = nl + 2;
	}
	*ret = q;
	return (int)(end + 4 - p);
}
