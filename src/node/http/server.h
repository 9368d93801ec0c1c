/* The addresses the daemon listens on: the unix socket, HTTPS and an address for metrics when the configuration names them.
 *
 * HTTPS without a certificate of its own makes one, below STATE-DIR/https.  Client certificates are asked for and accepted when an
 * administrator made them known (node/auth.h), or when client_ca signed them and they are known.
 * Thread: the main loop's. */
#ifndef NODE_SERVER_H
#define NODE_SERVER_H

#include "gen/config.h"
#include "node/http/router.h"

struct servers;

/* socket: path; group: who may use it besides root, "" for nobody. */
int servers_open(struct node *n, struct router *router, const char *socket,
		 const struct cfg_stratad *cfg, struct servers **ret, struct err **e);
void servers_close(struct servers *s); /* NULL: no effect; websockets are closed before */
/* HTTPS and metrics as cfg says now, certificates read anew.  What cannot be opened is not there afterwards. */
int servers_reload(struct servers *s, const struct cfg_stratad *cfg, struct err **e);
/* Certificates were added or removed: HTTPS starts anew in a moment.  NULL: no effect. */
void servers_trust_changed(struct servers *s);

#endif
