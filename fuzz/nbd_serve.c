/* An NBD client that sends anything: negotiation, requests, replies that nobody asked for.
 * Input: a byte of choices (1: skip to the transmission phase; 2: structured replies and contexts there; the rest: how
 * the bytes are cut), then what the client sends.  The connection runs on this thread's loop over a socket pair. */
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include "base/log.h"
#include "storage/export/nbd_conn.h"

static const uint8_t plain_start[] = "\0\0\0\3IHAVEOPT\0\0\0\1\0\0\0\0";
static const uint8_t structured_start[] =
	"\0\0\0\3IHAVEOPT\0\0\0\10\0\0\0\0"
	"IHAVEOPT\0\0\0\12\0\0\0\x31\0\0\0\1m\0\0\0\2\0\0\0\17base:allocation\0\0\0\25qemu:allocation-depth"
	"IHAVEOPT\0\0\0\7\0\0\0\6\0\0\0\0\0\0";

static struct loop *loop;
static struct export_threads threads;
static struct disk_export *x;
static struct nbd_server *server;

static void setup(void)
{
	struct disk_cfg cfg = { .driver = "mem", .format = "raw", .mem_size = MIB };
	struct nbd_server_cfg c = NBD_SERVER_DEFAULTS;
	static struct export_thread thread;
	struct disk *d;

	log_set_levels("error", NULL);
	if (loop_new(NULL, &loop) < 0 || loop_new(NULL, &thread.loop) < 0 ||
	    work_pool_new(thread.loop, 1, &thread.workers) < 0 || disk_open(&cfg, &d, NULL) < 0 ||
	    export_new("m", "memory", d, &x, NULL) < 0)
		abort();
	threads = (struct export_threads){ .n = 1, .t = &thread };
	c.max_requests = 16;
	if (nbd_server_new(loop, &threads, &x, 1, &c, &server, NULL) < 0)
		abort();
}

static size_t send_some(int fd, const uint8_t *p, size_t len, size_t piece)
{
	ssize_t n = send(fd, p, MIN(len, piece), MSG_DONTWAIT | MSG_NOSIGNAL);

	return n > 0 ? (size_t)n : 0;
}

static void drain(int fd)
{
	static uint8_t sink[256 * KIB];

	while (recv(fd, sink, sizeof(sink), MSG_DONTWAIT) > 0)
		;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct loop *l;
	uint8_t how;
	int sv[2];

	if (!server)
		setup();
	if (size == 0 || size > 64 * KIB)
		return 0;
	how = *data++;
	size--;
	l = threads.t[0].loop;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sv) < 0)
		abort();
	atomic_fetch_add(&server->clients, 1);
	export_thread_acquire(&threads);
	if (nbd_conn_new(&server->t[0], sv[0], false) < 0)
		abort();
	if (how & 1) {
		if (how & 2)
			send(sv[1], structured_start, sizeof(structured_start) - 1, MSG_NOSIGNAL);
		else
			send(sv[1], plain_start, sizeof(plain_start) - 1, MSG_NOSIGNAL);
	}
	while (size > 0 && nbd_server_clients(server) > 0) {
		size_t n = send_some(sv[1], data, size, how & 0xfc ? 1U + (how >> 2) * 8U : size);

		data += n;
		size -= n;
		while (loop_once(l, 0) > 0)
			drain(sv[1]);
		drain(sv[1]);
	}
	shutdown(sv[1], SHUT_WR);
	while (nbd_server_clients(server) > 0) {
		loop_once(l, NSEC_PER_MSEC);
		drain(sv[1]);
	}
	close(sv[1]);
	if (server->t[0].memory != 0 || !list_empty(&server->t[0].conns))
		abort(); /* invariant (2) */
	return 0;
}
