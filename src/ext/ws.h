/* WebSocket frames (RFC 6455) of either side, without I/O of their own: the one file that knows wslay is ws.c.
 *
 * The owner says how to read and write (they may return -EAGAIN), calls ws_read() when there is something to read and ws_write()
 * when ws_wants_write() and there is room, and gets whole messages.  Hostile peers: masks, lengths, UTF-8 of text, order of
 * fragments and control frames are checked; a message longer than WS_MESSAGE_MAX ends the connection.
 * Thread: one at a time. */
#ifndef EXT_WS_H
#define EXT_WS_H

#include <sys/types.h>
#include "base/buf.h"
#include "base/err.h"

#define WS_MESSAGE_MAX (256U << 10)

struct ws;

struct ws_cfg {
	bool client; /* masks what it sends */
	/* Bytes, 0 at the end, or -errno. */
	ssize_t (*read)(void *arg, void *data, size_t len);
	ssize_t (*write)(void *arg, const void *data, size_t len);
	/* A whole message; called inside ws_read(), may queue others, may not free. */
	void (*message)(void *arg, bool text, const void *data, size_t len);
	void *arg;
};

int ws_new(const struct ws_cfg *cfg, struct ws **ret);
void ws_free(struct ws *w); /* NULL: no effect */
DEFINE_CLEANUP(struct ws *, ws_free);

/* 0; -EPIPE: it is over (the peer closed, broke the rules or is gone). */
int ws_read(struct ws *w);
int ws_write(struct ws *w);
bool ws_wants_write(const struct ws *w);
bool ws_over(const struct ws *w);     /* both sides said goodbye, or one cannot go on */
size_t ws_queued(const struct ws *w); /* bytes of messages that wait */

/* Copied and sent by later ws_write() calls.  -EPIPE: closing already; -ENOMEM. */
int ws_send(struct ws *w, bool text, const void *data, size_t len);
/* Goodbye, after what waits.  code 1000: done; 1011: failed. -EPIPE: was said already. */
int ws_close(struct ws *w, unsigned int code);

/* Sec-WebSocket-Accept for a Sec-WebSocket-Key; out: 29 bytes.  -EINVAL: not the form of a key. */
int ws_accept_key(const char *key, char out[29]);
/* A fresh Sec-WebSocket-Key; out: 25 bytes. */
int ws_make_key(char out[25]);

#endif
