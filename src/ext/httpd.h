/* HTTP/1.1 server on our loop: the one file that knows libmicrohttpd is httpd.c.
 *
 * A request reaches the handler when its body is complete (or, when `head` asked for it, piece by piece).  The
 * handler answers at once or keeps the request and answers later; every request must be answered exactly once.
 *
 * Limits: header and body sizes, connections, idle time; a client that breaks them gets an answer or is dropped,
 * and never holds up another.  Thread: the loop's. */
#ifndef EXT_HTTPD_H
#define EXT_HTTPD_H

#include <sys/socket.h>
#include "base/buf.h"
#include "base/err.h"
#include "base/loop.h"

struct httpd;
struct httpd_req;

struct httpd_tls {
	const char *cert, *key; /* PEM texts */
	const char *client_ca;	/* PEM; NULL: clients need no certificate */
};

struct httpd_cfg {
	struct loop *loop;
	int listen_fd;		     /* taken */
	const struct httpd_tls *tls; /* NULL: plain */
	size_t max_body;	     /* bytes kept for the handler; more is answered 413 */
	unsigned int max_connections;
	unsigned int idle_seconds;
	/* All headers are there.  May answer (to refuse early), or call httpd_sink().  May be NULL. */
	void (*head)(struct httpd_req *r, void *arg);
	void (*handler)(struct httpd_req *r, void *arg);
	void *arg;
};

/* On error the fd is closed all the same. */
int httpd_start(const struct httpd_cfg *cfg, struct httpd **ret, struct err **e);
/* Drops every connection; requests that were kept are freed (their `gone` is called).  NULL: no effect. */
void httpd_stop(struct httpd *h);
DEFINE_CLEANUP(struct httpd *, httpd_stop);

/* -- reading; borrowed, valid until the answer -- */
const char *httpd_method(const struct httpd_req *r);
const char *httpd_path(const struct httpd_req *r); /* percent-decoded, without the query */
/* As they came, percent-encoded; the query without its "?", "" when there is none. */
const char *httpd_raw_path(const struct httpd_req *r);
const char *httpd_raw_query(const struct httpd_req *r);
const char *httpd_query(struct httpd_req *r,
			const char *name); /* decoded; NULL: not given; "" : no value */
const char *httpd_header(struct httpd_req *r, const char *name); /* NULL: not given */
/* Calls fn for each query parameter. */
void httpd_each_query(struct httpd_req *r,
		      void (*fn)(void *arg, const char *name, const char *value), void *arg);
const struct buf *httpd_body(const struct httpd_req *r);
/* Unix sockets: who is at the other end.  -ENOTSOCK over TCP. */
int httpd_peer(struct httpd_req *r, struct ucred *ret);
/* TLS with client certificates: hex SHA-256 of the certificate (64 characters and NUL), 0; -ENOENT: none. */
int httpd_client_cert(struct httpd_req *r, char fingerprint[65]);
/* The address of a TCP peer as text, "" for unix sockets. */
const char *httpd_remote(struct httpd_req *r);

/* Only from `head`: give body pieces to fn instead of keeping them.  A negative return ends the request with 507;
 * the handler is not called then.  With len 0 the body is complete (the handler follows). */
void httpd_sink(struct httpd_req *r,
		int (*fn)(struct httpd_req *r, const void *data, size_t len, void *arg), void *arg);

/* Data of the handler that must be freed when the client goes away before the answer: gone(r, data) is called
 * then, the request is dead, and no answer is due. */
void httpd_set_data(struct httpd_req *r, void *data, void (*gone)(struct httpd_req *r, void *data));
void *httpd_data(const struct httpd_req *r);

/* -- answering -- */
/* Before the answer; -ENOMEM. */
int httpd_add_header(struct httpd_req *r, const char *name, const char *value);
/* body is copied. */
void httpd_reply(struct httpd_req *r, unsigned int status, const char *type, const void *body,
		 size_t len);
/* body: from malloc(), taken. */
void httpd_reply_taken(struct httpd_req *r, unsigned int status, const char *type, char *body,
		       size_t len);
/* An open file (taken), from its start to `size`. */
void httpd_reply_fd(struct httpd_req *r, unsigned int status, const char *type, int fd,
		    uint64_t size);

/* A body without end: write pieces until the client goes (gone is called) or httpd_stream_end(). */
struct httpd_stream;
int httpd_reply_stream(struct httpd_req *r, unsigned int status, const char *type,
		       void (*gone)(struct httpd_stream *s, void *arg), void *arg,
		       struct httpd_stream **ret);
/* -ENOBUFS: the client does not read, 4 MiB are waiting; nothing of this piece was taken. */
int httpd_stream_write(struct httpd_stream *s, const void *data, size_t len);
void httpd_stream_end(struct httpd_stream *s); /* s is gone for the caller; `gone` is not called */

/* 101 Switching Protocols, then the connection is fn's: it gets the socket (blocking or not as it was) and what the
 * client sent early.  Call done(closer) when finished with fd; do not close fd.  Not over TLS unless tls_ok: then
 * fd is one end of a pair that the library encrypts.  A server may stop only after every upgrade is done.
 * httpd_set_data() after this call: `gone` is called when the connection ends before fn. */
typedef void httpd_upgraded_fn(void *arg, int fd, const void *early, size_t early_len,
			       void *closer);
void httpd_upgrade(struct httpd_req *r, const char *protocol, httpd_upgraded_fn *fn, void *arg);
void httpd_upgrade_done(void *closer);

#endif
