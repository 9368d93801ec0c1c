/* One conversation with one registry host: base URL, credentials, token, retries.  Used by registry.c and push.c.
 * Blocking on a private loop; requests started beside (downloads) go on meanwhile. */
#ifndef IMAGE_SESSION_H
#define IMAGE_SESSION_H

#include "ext/http_client.h"
#include "image/auth.h"
#include "image/registry.h"

struct session {
	struct loop *loop;
	struct http_client *client;
	const struct registry_options *o;
	struct image_op *op;
	struct image_ref ref;
	char base[320];		  /* "https://host" */
	char authorization[8192]; /* the header, or "" */
	struct credentials creds;
	bool creds_read;
};
/* host: ref's, or a mirror's. */
int session_open(struct session *s, const struct image_ref *ref, const char *host,
		 const struct registry_options *o, struct image_op *op, struct err **e);
void session_close(struct session *s);

/* Start r, wait for its end, authorise and try again as needed.  r->url may be relative ("/v2/…").  headers: beside
 * Authorization, at most 6.  0: there is an answer, see r->status; 401 and 403 become errors. */
int session_call(struct session *s, struct http_request *r, const char *const *headers,
		 struct err **e);
/* After a 401: get a token or prepare basic authentication; header is WWW-Authenticate. */
int session_authorize(struct session *s, const char *header, struct err **e);
/* Let the loop run until *done, cancelled, or d has passed. */
int session_wait(struct session *s, const bool *done, nsec_t d, struct err **e);
/* True for what may get better by itself. */
bool session_transient(int result, long status);
/* The pause before try n (from 1), longer when the server asks for it. */
nsec_t session_pause(const struct http_request *r, unsigned int n);
/* An error from an unwanted status, with the registry's own words. */
int session_status_error(const struct session *s, const struct http_request *r, const char *what,
			 struct err **e);

#endif
