/* HTTP/1.1 and HTTPS requests on our loop (libcurl, multi-socket).
 *
 * A request lives in the caller's memory from http_start() until its done() was called or http_cancel().  Data comes
 * as it arrives; nothing is collected unless asked for.  Redirects are followed (at most 10; from https never to
 * http), and credentials do not follow them to another host.  Proxies of the environment are not used.
 * Thread: the loop's own.  Timeouts: 15 s to connect, then 20 s without a byte; both end with -ETIMEDOUT. */
#ifndef EXT_HTTP_CLIENT_H
#define EXT_HTTP_CLIENT_H

#include "base/loop.h"

struct http_client;
struct http_options {
	const char *ca_file;		  /* instead of the system's authorities; NULL: those */
	const char *cert_file, *key_file; /* of the client; NULL: none */
	const char *user_agent;
	unsigned int stall_seconds; /* 0: 20 */
};
int http_client_new(struct loop *loop, const struct http_options *o, struct http_client **ret,
		    struct err **e);
void http_client_free(struct http_client *c); /* cancels what runs; NULL: no effect */
DEFINE_CLEANUP(struct http_client *, http_client_free);

struct http_request {	    /* zero it first */
	const char *method; /* NULL: GET */
	const char *url;
	char *const *headers;	     /* "Name: value", NULL-terminated; may be NULL */
	const char *user, *password; /* basic authentication; NULL: none */
	const void *body;	     /* or body_fd, read from body_off on */
	int body_fd;		     /* -1 unless used; borrowed */
	uint64_t body_off, body_len;
	bool has_body;
	size_t collect; /* keep up to so many bytes in `text` instead of calling data(); more is -EFBIG */
	/* All headers are there: status and http_header() may be looked at.  < 0 ends the request with it.
	 * Not called for redirects and 1xx. */
	int (*response)(struct http_request *r, struct err **e);
	int (*data)(struct http_request *r, const void *data, size_t len, struct err **e);
	void (*sent)(struct http_request *r,
		     uint64_t bytes); /* progress of the body; may be NULL */
	/* result: 0 (whatever the status) or -errno with e (borrowed).  The request may be freed or started again. */
	void (*done)(struct http_request *r, int result, struct err *e);
	void *arg; /* the caller's */

	long status; /* of the response */
	struct buf text, response_headers;
	/* private */
	struct http_client *client;
	void *easy, *list;
	struct err *err;
	int r;
	bool told;
	struct list node;
	char error_text[256];
};
int http_start(struct http_client *c, struct http_request *r, struct err **e);
void http_cancel(struct http_request *r); /* done() is not called; not running: no effect */
/* Value of a response header into buf; false: not there.  The last of several. */
bool http_header(const struct http_request *r, const char *name, char *buf, size_t len);
void http_request_done(struct http_request *r); /* frees text and headers */

#endif
