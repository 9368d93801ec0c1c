/* Credentials as `docker login` (podman, skopeo login) keeps them, and the two ways to show them to a registry. */
#ifndef IMAGE_AUTH_H
#define IMAGE_AUTH_H

#include "base/buf.h"
#include "base/err.h"

struct credentials {	       /* wiped by credentials_done() */
	char *user, *password; /* NULL: none */
	char *identity_token;  /* an OAuth2 refresh token instead */
};
/* file NULL: the usual places.  A credential helper that the file names is asked (blocking).  No entry: 0 and empty
 * credentials.  -EINVAL: the file is damaged; -ENOENT: the helper is not installed; -EACCES: it refuses. */
int credentials_find(const char *file, const char *domain, struct credentials *ret, struct err **e);
void credentials_done(struct credentials *c);

struct challenge { /* WWW-Authenticate */
	enum { CHALLENGE_NONE, CHALLENGE_BASIC, CHALLENGE_BEARER } kind;
	char realm[512], service[256], scope[1024];
};
void challenge_parse(const char *header, struct challenge *ret);

#endif
