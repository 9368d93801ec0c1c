/* WebSockets of the API: a call becomes a connection of messages on our loop.
 *
 * Thread: the main loop's. */
#ifndef NODE_WEBSOCKET_H
#define NODE_WEBSOCKET_H

#include "node/http/router.h"

struct websocket;

struct websocket_ops {
	/* The connection speaks WebSocket from now on; *w is the owner's until `gone`. */
	void (*open)(struct websocket *w, void *arg);
	/* It never came to be (the client left before), or it is over: w is freed when this returns (NULL in the first case). */
	void (*gone)(struct websocket *w, void *arg);
	void (*message)(struct websocket *w, bool text, const void *data, size_t len, void *arg);
	/* All that waited was sent. May be NULL. */
	void (*drained)(struct websocket *w, void *arg);
};

/* Ends the call: with 101, or refuses it (request.upgrade) and calls nothing: -errno then.  ops: static; arg: the owner's. */
int websocket_accept(struct api_call *c, const struct websocket_ops *ops, void *arg);

/* -EPIPE: it is closing; -ENOMEM. */
int websocket_send(struct websocket *w, bool text, const void *data, size_t len);
size_t websocket_queued(const struct websocket *w);
/* While paused nothing is read: what the client sends waits in the kernel. */
void websocket_pause(struct websocket *w, bool paused);
/* Sends what waits and a close frame, then it is over (`gone`). */
void websocket_close(struct websocket *w, unsigned int code);
/* The daemon stops: every one is over (`gone`), before its server stops. */
void websocket_stop_all(struct node *n);

#endif
