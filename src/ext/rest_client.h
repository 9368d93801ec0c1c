/* Blocking REST client for command lines, over a unix socket or HTTPS: the caller waits, Ctrl-C ends the program.
 * (The daemons' client that shares our loop is ext/http_client.h.)  On libcurl.  Thread: one at a time. */
#ifndef EXT_REST_CLIENT_H
#define EXT_REST_CLIENT_H

#include "base/buf.h"
#include "base/err.h"
#include "ext/json.h"

struct rest_client;

struct rest_reply {
	long status;
	struct buf body;
	char etag[64], location[256];
};
void rest_reply_done(struct rest_reply *r);

struct rest_cfg {
	const char *unix_socket; /* NULL: TCP */
	const char *url;   /* "http://localhost" with a unix socket, else "https://host:8443" */
	const char *token; /* NULL: none; sent as a bearer token */
	const char *ca, *cert, *key; /* PEM files; NULL: the system's, none */
};
int rest_client_new(const struct rest_cfg *cfg, struct rest_client **ret, struct err **e);
void rest_client_free(struct rest_client *c);
DEFINE_CLEANUP(struct rest_client *, rest_client_free);

/* body: JSON text or NULL.  if_match: a revision, 0: none.  Any HTTP status is success here; -errno: no answer. */
int rest_request(struct rest_client *c, const char *method, const char *path, const char *body,
		 int64_t if_match, struct rest_reply *ret, struct err **e);
/* The same, and errors of the API become errors of ours (id and message); *ret (may be NULL): the parsed body. */
int rest_call(struct rest_client *c, const char *method, const char *path, const char *body,
	      struct json **ret, struct err **e);
/* What the daemon said to do about the error of the last rest_call() or rest_stream(); NULL: nothing.  Borrowed until the next. */
const char *rest_client_hint(const struct rest_client *c);
/* GET whose body comes line by line for as long as it lasts; fn returns non-zero to end it (returned, if negative). */
typedef int rest_line_fn(void *arg, const char *line);
int rest_stream(struct rest_client *c, const char *path, rest_line_fn *fn, void *arg,
		struct err **e);
/* GET whose body is bytes; fn returns -errno to end it. */
typedef int rest_bytes_fn(void *arg, const void *data, size_t len);
int rest_download(struct rest_client *c, const char *path, rest_bytes_fn *fn, void *arg,
		  struct err **e);

/* ---- WebSockets (docs/internals/schema.md, "Streams") ----
 * The owner polls rest_socket_fd() for POLLIN, and POLLOUT when rest_socket_wants_write(), and calls rest_socket_work(). */
struct rest_socket;
typedef void rest_message_fn(void *arg, bool text, const void *data, size_t len);
/* A refusal becomes an error of ours as for rest_call(). */
int rest_socket_open(struct rest_client *c, const char *path, rest_message_fn *fn, void *arg,
		     struct rest_socket **ret, struct err **e);
void rest_socket_free(struct rest_socket *s); /* NULL: no effect */
DEFINE_CLEANUP(struct rest_socket *, rest_socket_free);
int rest_socket_fd(const struct rest_socket *s);
bool rest_socket_wants_write(const struct rest_socket *s);
/* Sends and receives what is there; calls fn.  -EPIPE: it is over. */
int rest_socket_work(struct rest_socket *s);
int rest_socket_send(struct rest_socket *s, bool text, const void *data, size_t len);
size_t rest_socket_queued(const struct rest_socket *s);
void rest_socket_close(struct rest_socket *s); /* says goodbye; work on until -EPIPE */

/* s percent-encoded as one path segment or query value, appended to b. */
int rest_escape(struct buf *b, const char *s);

#endif
