/* WebSocket frames: both sides against each other, and a hostile client. */
#include "unit.h"
#include <string.h>
#include "base/str.h"
#include "ext/ws.h"

/* One direction of a connection. */
struct pipe_ {
	struct buf b;
	bool closed;
};

struct end {
	struct ws *ws;
	struct pipe_ *in, *out;
	size_t step;	/* bytes that fit at a time */
	struct buf got; /* messages: t or b, text, newline */
};

static ssize_t on_read(void *arg, void *data, size_t len)
{
	struct end *e = arg;

	len = MIN(MIN(len, e->in->b.len), e->step);
	if (!len)
		return e->in->closed ? 0 : -EAGAIN;
	memcpy(data, e->in->b.s, len);
	buf_consume(&e->in->b, len);
	return (ssize_t)len;
}

static ssize_t on_write(void *arg, const void *data, size_t len)
{
	struct end *e = arg;

	if (e->out->b.len > 1000)
		return -EAGAIN;
	len = MIN(len, e->step);
	buf_add(&e->out->b, data, len);
	return (ssize_t)len;
}

static void on_message(void *arg, bool text, const void *data, size_t len)
{
	struct end *e = arg;

	buf_addf(&e->got, "%c%.*s\n", text ? 't' : 'b', (int)MIN(len, (size_t)40),
		 len ? (const char *)data : "");
}

struct pair {
	struct pipe_ up, down;
	struct end client, server;
};

static void pair_init(struct pair *p, size_t step)
{
	struct ws_cfg cfg = { .read = on_read, .write = on_write, .message = on_message };

	memset(p, 0, sizeof(*p));
	p->client = (struct end){ .in = &p->down, .out = &p->up, .step = step };
	p->server = (struct end){ .in = &p->up, .out = &p->down, .step = step };
	cfg.arg = &p->server;
	assert_int_equal(ws_new(&cfg, &p->server.ws), 0);
	cfg.client = true;
	cfg.arg = &p->client;
	assert_int_equal(ws_new(&cfg, &p->client.ws), 0);
}

static void pair_done(struct pair *p)
{
	ws_free(p->client.ws);
	ws_free(p->server.ws);
	buf_done(&p->up.b);
	buf_done(&p->down.b);
	buf_done(&p->client.got);
	buf_done(&p->server.got);
}

static void run(struct pair *p)
{
	for (int i = 0; i < 5000; i++) {
		ws_write(p->client.ws);
		ws_read(p->server.ws);
		ws_write(p->server.ws);
		ws_read(p->client.ws);
	}
}

static void there_and_back(void **state)
{
	char *big = calloc(1, WS_MESSAGE_MAX);

	memset(big, 'x', WS_MESSAGE_MAX);
	for (size_t step = 1; step < 20000; step = step * 7 + 1) {
		struct pair p;

		pair_init(&p, step);
		assert_int_equal(ws_send(p.client.ws, true, "{}", 2), 0);
		assert_int_equal(ws_send(p.client.ws, false, "", 0), 0);
		assert_int_equal(ws_send(p.server.ws, false, "out", 3), 0);
		if (step > 100)
			assert_int_equal(ws_send(p.server.ws, false, big, WS_MESSAGE_MAX), 0);
		run(&p);
		assert_string_equal(buf_str(&p.server.got), "t{}\nb\n");
		assert_true(str_starts(buf_str(&p.client.got), "bout\n"));
		assert_int_equal(ws_queued(p.server.ws), 0);
		assert_int_equal(ws_close(p.server.ws, 1000), 0);
		run(&p);
		assert_true(ws_over(p.server.ws));
		assert_true(ws_over(p.client.ws));
		assert_int_equal(ws_send(p.server.ws, true, "late", 4), -EPIPE);
		pair_done(&p);
	}
	free(big);
}

static void hostile(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
	} cases[] = {
		{ "\x82\x01x", 3 },					    /* not masked */
		{ "\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", 14 }, /* 2^64 bytes */
		{ "\x82\xff\0\0\0\0\0\x04\0\x01\0\0\0\0x", 15 },	    /* one too many */
		{ "\x81\x81\0\0\0\0\xff", 7 },				    /* no UTF-8 */
		{ "\x80\x81\0\0\0\0x", 7 },				    /* continues nothing */
		{ "\x89\xfe\x01\0\0\0\0\0", 8 },			    /* a long ping */
		{ "\xf2\x80\0\0\0\0", 6 },				    /* reserved bits */
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct pair p;

		pair_init(&p, 4096);
		buf_add(&p.up.b, cases[i].bytes, cases[i].len);
		ws_read(p.server.ws);
		ws_write(p.server.ws);
		ws_read(p.server.ws);
		assert_string_equal(buf_str(&p.server.got), "");
		/* it says goodbye and reads no more */
		if (ws_send(p.server.ws, true, "x", 1) != -EPIPE)
			fail_msg("case %zu is accepted", i);
		pair_done(&p);
	}
}

static void the_end_without_goodbye(void **state)
{
	struct pair p;

	pair_init(&p, 4096);
	p.up.closed = true;
	assert_int_equal(ws_read(p.server.ws), -EPIPE);
	assert_true(ws_over(p.server.ws));
	pair_done(&p);
}

static void keys(void **state)
{
	char out[29], key[25];

	/* RFC 6455, 1.3 */
	assert_int_equal(ws_accept_key("dGhlIHNhbXBsZSBub25jZQ==", out), 0);
	assert_string_equal(out, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
	assert_int_equal(ws_accept_key("short==", out), -EINVAL);
	assert_int_equal(ws_make_key(key), 0);
	assert_int_equal(ws_accept_key(key, out), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(there_and_back),
		cmocka_unit_test(hostile),
		cmocka_unit_test(the_end_without_goodbye),
		cmocka_unit_test(keys),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
