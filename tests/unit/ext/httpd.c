/* The HTTP server: immediate, delayed and streamed answers, uploads, upgrades, limits, clients that go away.
 * The client is a raw socket in a child process, so that both ends are seen as they are. */
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include "unit.h"
#include "base/atomicfile.h"
#include "base/rpc.h"
#include "base/str.h"
#include "ext/httpd.h"

static struct loop *loop;
static struct httpd *server;
static char dir[64], path[96];
static struct timer later;
static struct httpd_stream *stream;
static int gone_calls, ticks;
static size_t uploaded;

static void tick(struct timer *t)
{
	if (ticks++ < 3)
		httpd_stream_write(stream, "tick\n", 5);
	else {
		httpd_stream_end(stream);
		timer_stop(t);
	}
}

static void answer_late(struct timer *t)
{
	struct httpd_req *r = t->data;

	httpd_add_header(r, "X-Late", "yes");
	httpd_reply(r, 202, "text/plain", "late", 4);
}

static void count_gone(struct httpd_req *r, void *data)
{
	gone_calls++;
	timer_stop(&later);
}

static void stream_gone(struct httpd_stream *s, void *arg)
{
	gone_calls++;
	timer_stop(&later);
}

static void upgraded(void *arg, int fd, const void *early, size_t early_len, void *closer)
{
	char b[64];
	ssize_t n;

	memcpy(b, early, early_len);
	n = early_len ? (ssize_t)early_len : recv(fd, b, sizeof(b), 0);
	while (n < 0 && errno == EAGAIN)
		n = recv(fd, b, sizeof(b), 0);
	send(fd, b, (size_t)MAX(n, (ssize_t)0), MSG_NOSIGNAL);
	httpd_upgrade_done(closer);
}

static int take_piece(struct httpd_req *r, const void *data, size_t len, void *arg)
{
	uploaded += len;
	return uploaded > 3000000 ? -ENOSPC : 0;
}

static void head(struct httpd_req *r, void *arg)
{
	if (streq(httpd_path(r), "/upload"))
		httpd_sink(r, take_piece, NULL);
	else if (streq(httpd_path(r), "/forbidden"))
		httpd_reply(r, 403, "text/plain", "no", 2);
}

static void handler(struct httpd_req *r, void *arg)
{
	const char *p = httpd_path(r);
	struct ucred cred;
	char b[256];

	if (streq(p, "/echo")) {
		const char *q = httpd_query(r, "q"), *h = httpd_header(r, "x-test");

		assert_int_equal(httpd_peer(r, &cred), 0);
		snprintf(b, sizeof(b), "%s q=%s h=%s body=%s uid=%d", httpd_method(r), q ? q : "-",
			 h ? h : "-", buf_str(httpd_body(r)), (int)cred.uid);
		httpd_reply(r, 200, "text/plain", b, strlen(b));
	} else if (streq(p, "/late")) {
		later.data = r;
		httpd_set_data(r, NULL, count_gone);
		timer_start(loop, &later, "late", 20 * NSEC_PER_MSEC, 0, answer_late);
	} else if (streq(p, "/stream")) {
		ticks = 0;
		assert_int_equal(
			httpd_reply_stream(r, 200, "text/plain", stream_gone, NULL, &stream), 0);
		timer_start(loop, &later, "tick", NSEC_PER_MSEC, 5 * NSEC_PER_MSEC, tick);
	} else if (streq(p, "/upgrade")) {
		httpd_upgrade(r, "raw", upgraded, NULL);
	} else if (streq(p, "/upload")) {
		snprintf(b, sizeof(b), "%zu", uploaded);
		httpd_reply(r, 200, "text/plain", b, strlen(b));
	} else {
		httpd_reply(r, 404, "text/plain", "none", 4);
	}
}

static int setup(void **state)
{
	struct httpd_cfg cfg = { .max_body = 1000,
				 .max_connections = 8,
				 .idle_seconds = 5,
				 .head = head,
				 .handler = handler };

	gone_calls = 0;
	uploaded = 0;
	strcpy(dir, "/tmp/strata-unit.XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/s", dir);
	assert_int_equal(loop_new(NULL, &loop), 0);
	cfg.loop = loop;
	cfg.listen_fd = rpc_listen(path, 0600, NULL);
	return httpd_start(&cfg, &server, NULL);
}

static int teardown(void **state)
{
	httpd_stop(server);
	timer_stop(&later);
	loop_free(loop);
	unlink(path);
	return rmdir(dir);
}

static void child_done(struct watch *w, const siginfo_t *si)
{
	loop_stop(loop, si->si_code == CLD_EXITED ? si->si_status : 99);
}

/* Sends `request` (and `filler` bytes of x), wants `want` somewhere in what comes until the end. */
static int client(const char *request, size_t filler, const char *want)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	char block[4096];
	int fd = rpc_connect(path, NULL);

	if (fd < 0 || write_all(fd, request, strlen(request)) < 0)
		return 1;
	memset(block, 'x', sizeof(block));
	for (; filler; filler -= MIN(filler, sizeof(block))) {
		if (write_all(fd, block, MIN(filler, sizeof(block))) < 0)
			break; /* refused early */
	}
	for (;;) {
		ssize_t n = read(fd, block, sizeof(block));

		if (n <= 0)
			break;
		buf_add(&b, block, (size_t)n);
	}
	if (strstr(buf_str(&b), want))
		return 0;
	fprintf(stderr, "wanted '%s', got '%s'\n", want, buf_str(&b));
	return 2;
}

static void check(const char *request, size_t filler, const char *want)
{
	struct watch w = { 0 };
	pid_t pid = fork();

	if (pid == 0) {
		signal(SIGPIPE, SIG_IGN);
		alarm(10);
		_exit(client(request, filler, want));
	}
	assert_int_equal(watch_child(loop, &w, "client", pid, child_done), 0);
	assert_int_equal(loop_run(loop), 0);
}

#define CLOSE "Host: x\r\nConnection: close\r\n"

static void answers_at_once(void **state)
{
	char want[128];

	snprintf(want, sizeof(want), "POST q=a b h=1 body=hello uid=%d", (int)getuid());
	check("POST /echo?q=a%20b HTTP/1.1\r\n" CLOSE "X-Test: 1\r\nContent-Length: 5\r\n\r\nhello",
	      0, want);
	check("GET /nowhere HTTP/1.1\r\n" CLOSE "\r\n", 0, "404 Not Found");
	/* two on one connection */
	check("GET /echo HTTP/1.1\r\nHost: x\r\n\r\nGET /echo?q=2 HTTP/1.1\r\n" CLOSE "\r\n", 0,
	      "GET q=2 h=- body= ");
}

static void answers_later(void **state)
{
	check("GET /late HTTP/1.1\r\n" CLOSE "\r\n", 0, "202 Accepted");
	check("GET /late HTTP/1.1\r\n" CLOSE "\r\n", 0, "X-Late: yes");
	assert_int_equal(gone_calls, 0);
}

static void streams(void **state)
{
	check("GET /stream HTTP/1.0\r\n\r\n", 0, "tick\ntick\ntick\n");
	assert_int_equal(gone_calls, 0);
}

static void bodies_have_limits(void **state)
{
	check("POST /echo HTTP/1.1\r\n" CLOSE "Content-Length: 100000\r\n\r\n", 100000, "413 ");
	check("POST /forbidden HTTP/1.1\r\n" CLOSE "Content-Length: 100000\r\n\r\n", 100000,
	      "403 Forbidden");
	check("POST /upload HTTP/1.1\r\n" CLOSE "Content-Length: 2000000\r\n\r\n", 2000000,
	      "\r\n\r\n2000000");
	check("POST /upload HTTP/1.1\r\n" CLOSE "Content-Length: 2000000\r\n\r\n", 2000000, "507 ");
}

static void nonsense_is_answered(void **state)
{
	check("NONSENSE\r\n\r\n", 0, "");
	check("GET / HTTP/1.1\r\n\r\n", 0, "400 "); /* no Host */
	check("GET /echo HTTP/1.1\r\n" CLOSE "\r\n", 0, "200 OK");
}

static void connections_can_be_taken_over(void **state)
{
	check("GET /upgrade HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\nping",
	      0, "\r\n\r\nping");
}

static void stop_soon(struct timer *t)
{
	loop_stop(loop, 0);
}

static void clients_that_go_are_noticed(void **state)
{
	static const char *const requests[] = { "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n" };
	struct timer t = { 0 };
	int fd = rpc_connect(path, NULL);

	assert_int_equal(write_all(fd, requests[0], strlen(requests[0])), 0);
	loop_once(loop, NSEC_PER_SEC);
	loop_once(loop, NSEC_PER_SEC);
	close(fd);
	timer_start(loop, &t, "stop", 100 * NSEC_PER_MSEC, 0, stop_soon);
	loop_run(loop);
	assert_int_equal(gone_calls, 1);
}

static void stopping_frees_what_waits(void **state)
{
	static const char request[] = "GET /late HTTP/1.1\r\nHost: x\r\n\r\n";
	int fd = rpc_connect(path, NULL);

	assert_int_equal(write_all(fd, request, strlen(request)), 0);
	while (!timer_active(&later))
		loop_once(loop, NSEC_PER_SEC);
	httpd_stop(TAKE(server));
	assert_int_equal(gone_calls, 1);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(answers_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(answers_later, setup, teardown),
		cmocka_unit_test_setup_teardown(streams, setup, teardown),
		cmocka_unit_test_setup_teardown(bodies_have_limits, setup, teardown),
		cmocka_unit_test_setup_teardown(nonsense_is_answered, setup, teardown),
		cmocka_unit_test_setup_teardown(connections_can_be_taken_over, setup, teardown),
		cmocka_unit_test_setup_teardown(clients_that_go_are_noticed, setup, teardown),
		cmocka_unit_test_setup_teardown(stopping_frees_what_waits, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
