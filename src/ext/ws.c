/* WebSocket on wslay; see ws.h. */
#include "ext/ws.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <stdlib.h>
#include <string.h>
#include <wslay/wslay.h>
#include "base/rand.h"

#define KEY_GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" /* RFC 6455, 1.3 */

struct ws {
	struct ws_cfg cfg;
	wslay_event_context_ptr ctx;
	bool ended, closing;
	unsigned int close_code; /* 0: not closing */
};

static ssize_t on_recv(wslay_event_context_ptr ctx, uint8_t *buf, size_t len, int flags, void *arg)
{
	struct ws *w = arg;
	ssize_t n = w->cfg.read(w->cfg.arg, buf, len);

	if (n > 0)
		return n;
	/* the end of the connection without a close frame counts as an error of the other side */
	wslay_event_set_error(ctx,
			      n == -EAGAIN ? WSLAY_ERR_WOULDBLOCK : WSLAY_ERR_CALLBACK_FAILURE);
	return -1;
}

static ssize_t on_send(wslay_event_context_ptr ctx, const uint8_t *data, size_t len, int flags,
		       void *arg)
{
	struct ws *w = arg;
	ssize_t n = w->cfg.write(w->cfg.arg, data, len);

	if (n >= 0)
		return n;
	wslay_event_set_error(ctx,
			      n == -EAGAIN ? WSLAY_ERR_WOULDBLOCK : WSLAY_ERR_CALLBACK_FAILURE);
	return -1;
}

static int on_mask(wslay_event_context_ptr ctx, uint8_t *buf, size_t len, void *arg)
{
	rand_bytes(buf, len);
	return 0;
}

static void on_message(wslay_event_context_ptr ctx, const struct wslay_event_on_msg_recv_arg *m,
		       void *arg)
{
	struct ws *w = arg;

	if (m->opcode == WSLAY_TEXT_FRAME || m->opcode == WSLAY_BINARY_FRAME)
		w->cfg.message(w->cfg.arg, m->opcode == WSLAY_TEXT_FRAME, m->msg, m->msg_length);
}

int ws_new(const struct ws_cfg *cfg, struct ws **ret)
{
	static const struct wslay_event_callbacks callbacks = {
		.recv_callback = on_recv,
		.send_callback = on_send,
		.genmask_callback = on_mask,
		.on_msg_recv_callback = on_message,
	};
	struct ws *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return -ENOMEM;
	w->cfg = *cfg;
	r = cfg->client ? wslay_event_context_client_init(&w->ctx, &callbacks, w)
			: wslay_event_context_server_init(&w->ctx, &callbacks, w);
	if (r != 0) {
		free(w);
		return -ENOMEM;
	}
	wslay_event_config_set_max_recv_msg_length(w->ctx, WS_MESSAGE_MAX);
	*ret = w;
	return 0;
}

void ws_free(struct ws *w)
{
	if (!w)
		return;
	wslay_event_context_free(w->ctx);
	free(w);
}

bool ws_over(const struct ws *w)
{
	return w->ended || (!wslay_event_want_read(w->ctx) && !wslay_event_want_write(w->ctx));
}

int ws_read(struct ws *w)
{
	if (wslay_event_recv(w->ctx) != 0)
		w->ended = true;
	return ws_over(w) ? -EPIPE : 0;
}

/* The library sends a close frame before the messages that wait: ours is handed over when all are gone. */
static void close_if_drained(struct ws *w)
{
	if (!w->close_code || wslay_event_get_queued_msg_count(w->ctx))
		return;
	if (wslay_event_queue_close(w->ctx, (uint16_t)w->close_code, NULL, 0) != 0)
		w->ended = true;
	w->close_code = 0;
}

int ws_write(struct ws *w)
{
	if (wslay_event_send(w->ctx) != 0)
		w->ended = true;
	close_if_drained(w);
	if (!w->ended && wslay_event_want_write(w->ctx) && wslay_event_send(w->ctx) != 0)
		w->ended = true;
	return ws_over(w) ? -EPIPE : 0;
}

bool ws_wants_write(const struct ws *w)
{
	return !w->ended && (w->close_code || wslay_event_want_write(w->ctx));
}

size_t ws_queued(const struct ws *w)
{
	return wslay_event_get_queued_msg_length(w->ctx);
}

static int queue(struct ws *w, const struct wslay_event_msg *m)
{
	int r = w->closing ? WSLAY_ERR_NO_MORE_MSG : wslay_event_queue_msg(w->ctx, m);

	return r == 0 ? 0 : r == WSLAY_ERR_NOMEM ? -ENOMEM : -EPIPE;
}

int ws_send(struct ws *w, bool text, const void *data, size_t len)
{
	return queue(w, &(struct wslay_event_msg){
				.opcode = text ? WSLAY_TEXT_FRAME : WSLAY_BINARY_FRAME,
				.msg = data,
				.msg_length = len,
			});
}

int ws_close(struct ws *w, unsigned int code)
{
	if (w->closing)
		return -EPIPE;
	w->closing = true;
	w->close_code = code;
	return 0;
}

/* Base 64 of bytes; room: with the NUL. */
static int base64(const void *data, size_t len, char *out, size_t room)
{
	const gnutls_datum_t in = { (unsigned char *)data, (unsigned int)len };
	gnutls_datum_t text;

	if (gnutls_base64_encode2(&in, &text) < 0)
		return -ENOMEM;
	if (text.size < room) {
		memcpy(out, text.data, text.size);
		out[text.size] = '\0';
	}
	gnutls_free(text.data);
	return text.size < room ? 0 : -EINVAL;
}

int ws_accept_key(const char *key, char out[29])
{
	unsigned char digest[20];
	char both[24 + sizeof(KEY_GUID)];

	if (strlen(key) != 24 || key[22] != '=' || key[23] != '=')
		return -EINVAL;
	snprintf(both, sizeof(both), "%s" KEY_GUID, key);
	if (gnutls_hash_fast(GNUTLS_DIG_SHA1, both, strlen(both), digest) < 0)
		return -EIO;
	return base64(digest, sizeof(digest), out, 29);
}

int ws_make_key(char out[25])
{
	unsigned char random[16];

	rand_bytes(random, sizeof(random));
	return base64(random, sizeof(random), out, 25);
}
