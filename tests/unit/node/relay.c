/* A process on a WebSocket: a real server on a unix socket, a client of our own, pipes and a socket for the process. */
#include "unit.h"
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "base/rpc.h"
#include "base/str.h"
#include "ext/ws.h"
#include "node/console/relay.h"
#include "node/http/websocket.h"
#include "node/node.h"

static struct node node;
static struct httpd *http;
static char dir[] = "/tmp/unit-relay-XXXXXX", path[64];
static struct relay_cfg cfg; /* of the next request */
static struct relay *relay;
static int gone, rows;

static struct {
	int fd;
	struct ws *ws;
	struct buf out, err, text;
	bool over;
} client;

static void on_gone(struct relay *r, void *arg)
{
	gone++;
	relay = NULL;
}

static int on_resize(void *arg, unsigned int r, unsigned int columns)
{
	rows = (int)r;
	return 0;
}

static void handler(struct httpd_req *req, void *arg)
{
	static const struct gen_route route = { .path = "/test" };
	struct api_call *c = calloc(1, sizeof(*c));

	c->node = &node;
	c->req = req;
	c->route = &route;
	relay_start(c, &cfg, &relay);
}

static int setup(void **state)
{
	struct httpd_cfg h = {
		.max_body = 4096, .max_connections = 8, .idle_seconds = 60, .handler = handler
	};

	strcpy(dir + strlen(dir) - 6, "XXXXXX");
	if (!mkdtemp(dir) || loop_new(NULL, &node.loop) < 0)
		return -1;
	snprintf(path, sizeof(path), "%s/sock", dir);
	list_init(&node.websockets);
	h.loop = node.loop;
	h.listen_fd = rpc_listen(path, 0600, NULL);
	gone = rows = 0;
	memset(&client, 0, sizeof(client));
	return h.listen_fd < 0 ? -1 : httpd_start(&h, &http, NULL);
}

static int teardown(void **state)
{
	websocket_stop_all(&node);
	httpd_stop(http);
	loop_free(node.loop);
	ws_free(client.ws);
	close(client.fd);
	buf_done(&client.out);
	buf_done(&client.err);
	buf_done(&client.text);
	unlink(path);
	return rmdir(dir);
}

/* ---- the client ---- */

static ssize_t on_read(void *arg, void *data, size_t len)
{
	ssize_t n = recv(client.fd, data, len, MSG_DONTWAIT);

	return n < 0 ? -errno : n;
}

static ssize_t on_write(void *arg, const void *data, size_t len)
{
	ssize_t n = send(client.fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);

	return n < 0 ? -errno : n;
}

static void on_message(void *arg, bool text, const void *data, size_t len)
{
	const char *p = data;

	if (text)
		buf_add(&client.text, p, len);
	else if (p[0] == 1)
		buf_add(&client.out, p + 1, len - 1);
	else
		buf_add(&client.err, p + 1, len - 1);
}

static void pump(void)
{
	assert_true(loop_once(node.loop, 10 * NSEC_PER_MSEC) >= 0);
	if (!client.ws || client.over)
		return;
	ws_write(client.ws);
	if (ws_read(client.ws) < 0)
		client.over = true;
}

#define PUMP_UNTIL(condition)                                \
	do {                                                 \
		nsec_t end = now_mono() + 20 * NSEC_PER_SEC; \
		while (!(condition) && now_mono() < end)     \
			pump();                              \
		assert_true(condition);                      \
	} while (0)

static void dial(const char *headers)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	struct buf b = { 0 };

	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", path);
	client.fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(connect(client.fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	buf_addf(&b, "GET /test HTTP/1.1\r\nHost: x\r\n%s\r\n", headers);
	assert_int_equal(send(client.fd, b.s, b.len, 0), b.len);
	buf_done(&b);
}

/* Up to the empty line. */
static void read_head(struct buf *head)
{
	char c;

	while (!str_ends(buf_str(head), "\r\n\r\n")) {
		pump();
		while (!str_ends(buf_str(head), "\r\n\r\n") &&
		       recv(client.fd, &c, 1, MSG_DONTWAIT) == 1)
			buf_addc(head, c);
	}
}

static void join(void)
{
	struct ws_cfg w = {
		.client = true, .read = on_read, .write = on_write, .message = on_message
	};
	_cleanup_(buf_done) struct buf head = { 0 };

	cfg.gone = on_gone;
	cfg.resize = on_resize;
	dial("Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
	     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n");
	read_head(&head);
	assert_true(str_starts(buf_str(&head), "HTTP/1.1 101 "));
	assert_non_null(
		strcasestr(buf_str(&head), "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
	assert_int_equal(ws_new(&w, &client.ws), 0);
}

/* ---- tests ---- */

static void pipes(void **state)
{
	int in[2], out[2], err[2];
	char got[16] = "";

	assert_true(pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0 &&
		    pipe2(err, O_CLOEXEC) == 0);
	cfg = (struct relay_cfg){ .stream = { in[1], out[0], err[0], false } };
	join();
	ws_send(client.ws, false, "hello\n", 6);
	assert_int_equal(write(out[1], "to you", 6), 6);
	assert_int_equal(write(err[1], "oh", 2), 2);
	PUMP_UNTIL(client.out.len == 6 && client.err.len == 2);
	ws_send(client.ws, true, "{\"eof\":true}", 12);
	ws_send(client.ws, true, "{\"rows\":7,\"columns\":9}", 22);
	PUMP_UNTIL(rows == 7);
	assert_int_equal(read(in[0], got, sizeof(got)), 6);
	assert_string_equal(got, "hello\n");
	assert_int_equal(read(in[0], got, sizeof(got)), 0); /* its input ended */
	close(out[1]);
	relay_exit(relay, 3, "because");
	pump();
	assert_int_equal(client.text.len, 0); /* the other pipe is open */
	close(err[1]);
	PUMP_UNTIL(gone && client.over);
	assert_string_equal(buf_str(&client.text), "{\"exit_code\":3,\"message\":\"because\"}");
	close(in[0]);
}

/* A background process holds the pipe: the end is told all the same. */
static void held_open(void **state)
{
	int out[2];

	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	cfg = (struct relay_cfg){ .stream = { -1, out[0], -1, false } };
	join();
	relay_exit(relay, 0, NULL);
	PUMP_UNTIL(gone);
	PUMP_UNTIL(client.over);
	assert_string_equal(buf_str(&client.text), "{\"exit_code\":0}");
	close(out[1]);
}

/* 40 MiB through a socket, while the client does not read at first: the process waits, nothing is lost. */
static void slow_client(void **state)
{
	static char block[65536];
	size_t sent = 0, total = 40 << 20;
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair),
			 0);
	cfg = (struct relay_cfg){ .stream = { pair[0], -1, -1, false }, .end_at_eof = true };
	join();
	for (int i = 0; i < 200; i++) { /* only the server runs */
		ssize_t n = write(pair[1], block, sizeof(block));

		sent += n > 0 ? (size_t)n : 0;
		loop_once(node.loop, 0);
	}
	assert_true(sent < 4 << 20);
	while (client.out.len < total) {
		ssize_t n = sent < total ? write(pair[1], block, MIN(sizeof(block), total - sent))
					 : 0;

		sent += n > 0 ? (size_t)n : 0;
		pump();
	}
	close(pair[1]);
	PUMP_UNTIL(gone && client.over);
	assert_int_equal(client.out.len, total);
	assert_int_equal(client.text.len, 0);
}

/* The client goes away in the middle. */
static void client_leaves(void **state)
{
	int pair[2];
	char c;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	cfg = (struct relay_cfg){ .stream = { pair[0], -1, -1, true } };
	join();
	shutdown(client.fd, SHUT_RDWR);
	PUMP_UNTIL(gone);
	assert_int_equal(read(pair[1], &c, 1), 0); /* hung up */
	close(pair[1]);
}

static void not_a_websocket(void **state)
{
	_cleanup_(buf_done) struct buf head = { 0 };
	int out[2];

	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	cfg = (struct relay_cfg){ .stream = { -1, out[0], -1, false }, .gone = on_gone };
	dial("");
	read_head(&head);
	assert_true(str_starts(buf_str(&head), "HTTP/1.1 426 "));
	assert_int_equal(gone, 0);
	close(out[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(pipes, setup, teardown),
		cmocka_unit_test_setup_teardown(held_open, setup, teardown),
		cmocka_unit_test_setup_teardown(slow_client, setup, teardown),
		cmocka_unit_test_setup_teardown(client_leaves, setup, teardown),
		cmocka_unit_test_setup_teardown(not_a_websocket, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
