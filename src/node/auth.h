/* Who asks, and what they may.
 *
 * On the unix socket: whoever could open it (root, the group) is an administrator, named by uid.  Over HTTPS: a bearer token or a
 * client certificate that somebody made known (`strata token create`, `strata certificate add`), with its role and, perhaps,
 * projects.  Of a token only a SHA-256 is kept.  Thread: the main loop's. */
#ifndef NODE_AUTH_H
#define NODE_AUTH_H

#include "node/http/router.h"

#define AUTH_TOKEN_MAX 80

/* Fills role, actor and projects of c.  auth.required, auth.expired. */
int auth_identify(struct api_call *c, struct err **e);
/* May the caller do what it asks for in the project that it names?  auth.denied. */
int auth_check_projects(struct api_call *c, struct err **e);
/* Is an object of that project there for the caller?  "": of none. */
bool auth_may_see(const struct api_call *c, const char *project);

/* A new token's text, and what is kept of it (hex). */
void auth_make_token(char secret[AUTH_TOKEN_MAX], char hash[65]);

#endif
