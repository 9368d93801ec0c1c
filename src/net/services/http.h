/* Reading one HTTP/1.1 request of a metadata client: request line and the few headers that matter.  Pure. */
#ifndef NET_SERVICES_HTTP_H
#define NET_SERVICES_HTTP_H

#include "base/types.h"

#define HTTP_REQUEST_MAX 8192

struct http_request {
	char method[8], path[512]; /* path without query */
	bool forwarded; /* came through a proxy: the one who asks is not the one who reads */
	bool keep_alive;
	uint64_t body; /* bytes that follow */
};

/* Bytes of the request's head; 0: not complete yet; -EBADMSG; -E2BIG. */
int http_parse(const char *p, size_t len, struct http_request *ret);

#endif
