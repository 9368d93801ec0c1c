/* Frames with fds over a unix socket: blocking, on a loop, and broken ones. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include "unit.h"
#include "base/rpc.h"

static int sv[2];

static int setup(void **state)
{
	return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv);
}

static int teardown(void **state)
{
	safe_close(sv[0]);
	safe_close(sv[1]);
	return 0;
}

static void text_and_fds_cross(void **state)
{
	struct rpc_frame f;
	struct stat a, b;
	int fds[2] = { open("/dev/null", O_RDONLY), open("/dev/zero", O_RDONLY) };

	assert_int_equal(rpc_send(sv[0], "{}", 2, fds, 2), 0);
	assert_int_equal(rpc_send(sv[0], "[1]", 3, NULL, 0), 0);
	assert_int_equal(rpc_recv(sv[1], NSEC_PER_SEC, &f), 0);
	assert_string_equal(f.text.s, "{}");
	assert_int_equal(f.n_fds, 2);
	fstat(fds[1], &a);
	fstat(f.fds[1], &b);
	assert_true(a.st_rdev == b.st_rdev);
	assert_true(fcntl(f.fds[0], F_GETFD) & FD_CLOEXEC);
	rpc_frame_done(&f);
	rpc_frame_done(&f);
	assert_int_equal(rpc_recv(sv[1], NSEC_PER_SEC, &f), 0);
	assert_string_equal(f.text.s, "[1]");
	assert_int_equal(f.n_fds, 0);
	rpc_frame_done(&f);
	close(fds[0]);
	close(fds[1]);
}

static void ends_and_limits(void **state)
{
	struct rpc_frame f;
	uint32_t head[2] = { htole32(RPC_TEXT_MAX + 1), 0 };

	assert_int_equal(rpc_recv(sv[1], NSEC_PER_MSEC, &f), -ETIMEDOUT);
	assert_int_equal(write(sv[0], head, 8), 8);
	assert_int_equal(rpc_recv(sv[1], NSEC_PER_SEC, &f), -EPROTO);
	head[0] = htole32(10);
	assert_int_equal(write(sv[0], head, 8), 8);
	sv[0] = safe_close(sv[0]);
	assert_int_equal(rpc_recv(sv[1], NSEC_PER_SEC, &f), -EPROTO);  /* inside a frame */
	assert_int_equal(rpc_recv(sv[1], NSEC_PER_SEC, &f), -ENODATA); /* between frames */
	assert_int_equal(rpc_send(sv[1], "x", 1, NULL, 0), -EPIPE);
}

static void announced_fds_must_come(void **state)
{
	uint32_t head[2] = { 0, htole32(1) };
	struct rpc_frame f;

	assert_int_equal(write(sv[0], head, 8), 8);
	assert_int_equal(rpc_recv(sv[1], NSEC_PER_SEC, &f), -EPROTO);
}

static int closed_with = 1;

static void echo(struct rpc_conn *c, struct rpc_frame *f)
{
	if (f->text.len == 4 && memcmp(f->text.s, "quit", 4) == 0) {
		rpc_conn_close(c);
		loop_stop(c->data, 5);
		return;
	}
	assert_int_equal(rpc_conn_send(c, f->text.s, f->text.len, f->fds, f->n_fds), 0);
}

static void closed(struct rpc_conn *c, int r)
{
	closed_with = r;
	loop_stop(c->data, 6);
}

static void a_loop_serves(void **state)
{
	enum { BIG = 1 << 20 };
	_cleanup_(loop_freep) struct loop *l = NULL;
	struct rpc_conn c = { 0 };
	struct rpc_frame f;
	char *big = calloc(1, BIG);
	pid_t pid;

	memset(big, 'x', BIG);
	assert_int_equal(loop_new(NULL, &l), 0);
	c.data = l;
	pid = fork();
	if (pid == 0) {
		int null = open("/dev/null", O_RDONLY);
		/* far more than a socket buffer, so that both queues fill */
		for (int i = 0; i < 3; i++)
			if (rpc_send(sv[0], big, BIG, &null, 1) < 0)
				_exit(1);
		for (int i = 0; i < 3; i++) {
			if (rpc_recv(sv[0], 5 * NSEC_PER_SEC, &f) < 0 || f.text.len != BIG ||
			    f.n_fds != 1)
				_exit(2);
			rpc_frame_done(&f);
		}
		_exit(rpc_send(sv[0], "quit", 4, NULL, 0) == 0 ? 0 : 3);
	}
	assert_int_equal(rpc_conn_open(&c, l, TAKE_FD(sv[1]), echo, closed), 0);
	assert_int_equal(loop_run(l), 5);
	rpc_conn_close(&c);
	free(big);
}

static void a_peer_that_goes_is_reported(void **state)
{
	_cleanup_(loop_freep) struct loop *l = NULL;
	struct rpc_conn c = { 0 };

	loop_new(NULL, &l);
	c.data = l;
	assert_int_equal(rpc_conn_open(&c, l, TAKE_FD(sv[1]), echo, closed), 0);
	sv[0] = safe_close(sv[0]);
	assert_int_equal(loop_run(l), 6);
	assert_int_equal(closed_with, 0);
	assert_int_equal(rpc_conn_send(&c, "x", 1, NULL, 0), -EPIPE);
}

static void listening(void **state)
{
	char dir[] = "/tmp/strata-unit.XXXXXX", path[256];
	struct err *e = NULL;
	struct ucred cred;
	int l, c;

	assert_non_null(mkdtemp(dir));
	/* a name that does not fit sockaddr_un */
	snprintf(path, sizeof(path), "%s/%0100d", dir, 1);
	assert_int_equal(mkdir(path, 0700), 0);
	snprintf(path, sizeof(path), "%s/%0100d/s", dir, 1);
	l = rpc_listen(path, 0600, NULL);
	assert_true(l >= 0);
	assert_int_equal(rpc_listen(path, 0600, &e), -EADDRINUSE);
	err_clear(&e);
	c = rpc_connect(path, NULL);
	assert_true(c >= 0);
	assert_int_equal(rpc_peer(c, &cred), 0);
	assert_int_equal(cred.pid, getpid());
	close(c);
	close(l);
	assert_int_equal(rpc_connect(path, &e), -ECONNREFUSED);
	err_clear(&e);
	l = rpc_listen(path, 0600, NULL); /* the stale one is replaced */
	assert_true(l >= 0);
	close(l);
	unlink(path);
	*strrchr(path, '/') = '\0';
	rmdir(path);
	assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(text_and_fds_cross, setup, teardown),
		cmocka_unit_test_setup_teardown(ends_and_limits, setup, teardown),
		cmocka_unit_test_setup_teardown(announced_fds_must_come, setup, teardown),
		cmocka_unit_test_setup_teardown(a_loop_serves, setup, teardown),
		cmocka_unit_test_setup_teardown(a_peer_that_goes_is_reported, setup, teardown),
		cmocka_unit_test_setup_teardown(listening, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
