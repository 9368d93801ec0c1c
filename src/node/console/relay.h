/* A process's terminal, sockets or pipes on a WebSocket: exec, attach, consoles.
 *
 * What the client and we say (docs/internals/schema.md, "Streams"):
 *	client: binary: input.  Text {"eof":true}: the input ends.  Text {"rows":R,"columns":C}: the terminal's size.
 *	we:	binary: a byte 1 (output) or 2 (error output), then what was written.  Text {"exit_code":N,"message":...}: it ended,
 *		the last but the close frame.
 * A slow client slows the process down, as a pipe does; a slow process slows the client down.  Thread: the main loop's. */
#ifndef NODE_RELAY_H
#define NODE_RELAY_H

#include "node/engine.h"
#include "node/http/router.h"

struct relay;

struct relay_cfg {
	struct engine_stream stream; /* taken, also on failure */
	bool raw;		     /* a screen: bytes as they are, both ways, no text */
	bool readonly;		     /* what the client types is dropped */
	bool end_at_eof;	     /* nobody will call relay_exit() */
	bool later;		     /* there is no stream yet: it comes by relay_connect() */
	/* NULL: there is nothing to resize. */
	int (*resize)(void *arg, unsigned int rows, unsigned int columns);
	/* The relay is over; freed when this returns.  Also when the client left before it began.  NULL: nobody cares. */
	void (*gone)(struct relay *r, void *arg);
	void *arg;
};

/* Ends the call.  *ret (may be NULL) lives until gone.  -errno: the call was refused, gone is not called. */
int relay_start(struct api_call *c, const struct relay_cfg *cfg, struct relay **ret);
/* What `later` announced; s: taken, also on failure.  What the client typed meanwhile goes there first. */
int relay_connect(struct relay *r, struct engine_stream *s);
/* Before what the process says: output from a log, say.  which: 1 or 2.  -EPIPE, -ENOMEM. */
int relay_say(struct relay *r, unsigned int which, const void *data, size_t len);
/* The process ended: the rest of its output is sent, then how it ended.  message: NULL or why. */
void relay_exit(struct relay *r, int code, const char *message);
/* Somebody else takes over (console --force), or it is not to go on: close now. */
void relay_stop(struct relay *r);

#endif
