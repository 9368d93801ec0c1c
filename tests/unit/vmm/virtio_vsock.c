/* virtio-vsock in user space: connections both ways, credit both ways, refusals, ends, hostile packets. */
#include "unit.h"
#include <linux/virtio_vsock.h>
#include <sys/socket.h>
#include <sys/un.h>
#include "base/loop.h"
#include "base/rand.h"
#include "guest.h"
#include "vmm/devices.h"
#include "vmm/iothread.h"
#include "vmm/virtio/virtio.h"

#define CID   7
#define ALLOC 32768 /* our guest's credit for each connection */
#define HDR   sizeof(struct virtio_vsock_hdr)

static char dir[64], path[80];
static struct vm_device cfg = { .type = "virtio-vsock",
				.id = "vsock0",
				.vsock = { .cid = CID, .socket = path } };
static uint8_t data[70000];

static int set_up(void **state)
{
	strcpy(dir, "/tmp/strata-unit-vs-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/v", dir);
	return 0;
}

static int tear_down(void **state)
{
	char port[100];

	snprintf(port, sizeof(port), "%s_5000", path);
	unlink(port);
	assert_int_equal(rmdir(dir), 0);
	return 0;
}

static void give(struct guest *g, unsigned int n)
{
	while (n--) {
		struct drv_buf *b = malloc(sizeof(*b));

		*b = guest_buf(g, NULL, 4096);
		assert_true(drv_add(&g->q[0], NULL, 0, b, 1, false, b));
	}
	guest_kick(g, 0);
	guest_run(g, NSEC_PER_MSEC);
}

static void start(struct guest *g)
{
	guest_open(g, &dev_virtio_vsock, &cfg);
	assert_int_equal(guest_start(g, 0, 128), 0xf);
	assert_int_equal(guest_read(g, g->config, 8), CID);
	give(g, 64);
}

static void stop(struct guest *g)
{
	uint32_t len;
	void *c;

	while ((c = drv_used(&g->q[0], &len)))
		free(c);
	for (unsigned int i = 0; i < g->q[0].size; i++)
		if (g->q[0].chain_len[i])
			free(g->q[0].cookie[i]);
	guest_close(g);
}

/* The next packet for the guest; its buffer is given again. */
static bool next(struct guest *g, struct virtio_vsock_hdr *h)
{
	uint32_t len;
	struct drv_buf *b;

	guest_run(g, NSEC_PER_MSEC);
	b = drv_used(&g->q[0], &len);
	if (!b)
		return false;
	assert_true(len >= HDR);
	memcpy(h, drv_at(&g->mem, b->gpa, HDR), HDR);
	assert_int_equal(h->len, len - HDR);
	assert_int_equal(h->src_cid, 2);
	assert_int_equal(h->dst_cid, CID);
	memcpy(data, drv_at(&g->mem, b->gpa + HDR, 4096 - HDR), h->len);
	assert_true(drv_add(&g->q[0], NULL, 0, b, 1, false, b));
	guest_kick(g, 0);
	return true;
}

static void expect(struct guest *g, uint16_t op, struct virtio_vsock_hdr *h)
{
	assert_true(next(g, h));
	assert_int_equal(h->op, op);
}

static void tell(struct guest *g, uint16_t op, uint32_t guest_port, uint32_t host_port,
		 uint32_t flags, uint32_t fwd, const void *payload, uint32_t len)
{
	struct virtio_vsock_hdr h = { .src_cid = CID,
				      .dst_cid = 2,
				      .src_port = guest_port,
				      .dst_port = host_port,
				      .type = VIRTIO_VSOCK_TYPE_STREAM,
				      .op = op,
				      .flags = flags,
				      .buf_alloc = ALLOC,
				      .fwd_cnt = fwd,
				      .len = len };
	struct drv_buf b[2] = { guest_buf(g, &h, HDR) };

	if (len)
		b[1] = guest_buf(g, payload, len);
	guest_do(g, 1, b, len ? 2 : 1, NULL, 0);
	g->mem.next = MAX(g->mem.next > GUEST_RAM - 2 * MIB ? (gpa_t)8 * MIB : g->mem.next,
			  (gpa_t)8 * MIB);
}

static int server(void)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s_5000", path);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(listen(fd, 8), 0);
	return fd;
}

static int dial(const char *hello)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	strcpy(sa.sun_path, path);
	assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(write(fd, hello, strlen(hello)), strlen(hello));
	return fd;
}

static void guest_to_host(void **state)
{
	struct virtio_vsock_hdr h;
	struct guest g;
	char buf[100];
	int s = server(), fd;

	start(&g);
	tell(&g, VIRTIO_VSOCK_OP_REQUEST, 1000, 5001, 0, 0, NULL, 0); /* nobody there */
	expect(&g, VIRTIO_VSOCK_OP_RST, &h);
	assert_int_equal(h.dst_port, 1000);
	assert_int_equal(h.src_port, 5001);
	tell(&g, VIRTIO_VSOCK_OP_REQUEST, 1000, 5000, 0, 0, NULL, 0);
	expect(&g, VIRTIO_VSOCK_OP_RESPONSE, &h);
	assert_true(h.buf_alloc > 0);
	fd = accept4(s, NULL, NULL, SOCK_NONBLOCK);
	assert_true(fd >= 0);
	tell(&g, VIRTIO_VSOCK_OP_RW, 1000, 5000, 0, 0, "hello", 5);
	assert_int_equal(recv(fd, buf, sizeof(buf), 0), 5);
	assert_int_equal(write(fd, "world", 5), 5);
	expect(&g, VIRTIO_VSOCK_OP_RW, &h);
	assert_int_equal(h.len, 5);
	assert_int_equal(h.fwd_cnt, 5);
	assert_memory_equal(data, "world", 5);
	tell(&g, VIRTIO_VSOCK_OP_CREDIT_REQUEST, 1000, 5000, 0, 0, NULL, 0);
	expect(&g, VIRTIO_VSOCK_OP_CREDIT_UPDATE, &h);
	/* half closed by the guest, then the rest by the host */
	tell(&g, VIRTIO_VSOCK_OP_SHUTDOWN, 1000, 5000, VIRTIO_VSOCK_SHUTDOWN_SEND, 0, NULL, 0);
	assert_int_equal(recv(fd, buf, sizeof(buf), 0), 0);
	assert_int_equal(write(fd, "late", 4), 4);
	expect(&g, VIRTIO_VSOCK_OP_RW, &h);
	close(fd);
	expect(&g, VIRTIO_VSOCK_OP_SHUTDOWN, &h);
	assert_int_equal(h.flags, 3);
	tell(&g, VIRTIO_VSOCK_OP_RST, 1000, 5000, 0, 0, NULL, 0);
	assert_int_equal(guest_stat(&g, "connections"), 0);
	close(s);
	stop(&g);
}

static void host_to_guest(void **state)
{
	struct virtio_vsock_hdr h;
	struct guest g;
	char buf[100] = { 0 }, want[100];
	int fd, fd2;

	start(&g);
	fd = dial("CONNECT 22\nalready here");
	expect(&g, VIRTIO_VSOCK_OP_REQUEST, &h);
	assert_int_equal(h.dst_port, 22);
	tell(&g, VIRTIO_VSOCK_OP_RESPONSE, 22, h.src_port, 0, 0, NULL, 0);
	snprintf(want, sizeof(want), "OK %u\n", h.src_port);
	assert_int_equal(recv(fd, buf, sizeof(buf), 0), strlen(want));
	assert_string_equal(buf, want);
	expect(&g, VIRTIO_VSOCK_OP_RW, &h);
	assert_int_equal(h.len, 12);
	/* refused by the guest */
	fd2 = dial("CONNECT 23\n");
	expect(&g, VIRTIO_VSOCK_OP_REQUEST, &h);
	tell(&g, VIRTIO_VSOCK_OP_RST, 23, h.src_port, 0, 0, NULL, 0);
	assert_int_equal(recv(fd2, buf, sizeof(buf), 0), 0);
	close(fd2);
	/* what is no hello */
	fd2 = dial("GET / HTTP/1.0\n");
	guest_run(&g, NSEC_PER_MSEC);
	assert_int_equal(recv(fd2, buf, sizeof(buf), 0) <= 0, 1);
	close(fd2);
	fd2 = dial("CONNECT 99999999999999999999999999999999");
	guest_run(&g, NSEC_PER_MSEC);
	assert_int_equal(recv(fd2, buf, sizeof(buf), 0) <= 0, 1);
	close(fd2);
	assert_int_equal(guest_stat(&g, "connections"), 1);
	close(fd);
	stop(&g);
}

/* Megabytes each way; neither side ever exceeds the other's credit, every byte arrives. */
static void credit_both_ways(void **state)
{
	const uint32_t total = 3 * MIB;
	uint32_t in = 0, fwd = 0, out = 0, got = 0, host_fwd = 0, host_alloc = 0, written = 0;
	struct virtio_vsock_hdr h;
	static uint8_t block[8192];
	struct guest g;
	int s = server(), fd;

	start(&g);
	tell(&g, VIRTIO_VSOCK_OP_REQUEST, 1000, 5000, 0, 0, NULL, 0);
	expect(&g, VIRTIO_VSOCK_OP_RESPONSE, &h);
	host_alloc = h.buf_alloc;
	fd = accept4(s, NULL, NULL, SOCK_NONBLOCK);
	for (int i = 0; i < 20000 && (in < total || got < total); i++) {
		ssize_t n;

		if (written < total) {
			for (size_t k = 0; k < sizeof(block); k++)
				block[k] = (uint8_t)((written + k) * 13 >> 3);
			n = write(fd, block, MIN(sizeof(block), (size_t)(total - written)));
			written += n > 0 ? (uint32_t)n : 0;
		}
		while (next(&g, &h)) {
			host_fwd = h.fwd_cnt;
			if (h.op != VIRTIO_VSOCK_OP_RW)
				continue;
			for (uint32_t k = 0; k < h.len; k++)
				if (data[k] != (uint8_t)((in + k) * 13 >> 3))
					fail_msg("byte %u", in + k);
			in += h.len;
			assert_true(in - fwd <= ALLOC);
			if (in - fwd > ALLOC / 2) {
				fwd = in;
				tell(&g, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 1000, 5000, 0, fwd, NULL,
				     0);
			}
		}
		if (out < total && host_alloc - (out - host_fwd) >= sizeof(block)) {
			for (size_t k = 0; k < sizeof(block); k++)
				block[k] = (uint8_t)((out + k) * 7 >> 3);
			tell(&g, VIRTIO_VSOCK_OP_RW, 1000, 5000, 0, fwd, block, sizeof(block));
			out += sizeof(block);
		}
		if (i % 8 == 0) { /* a slow reader */
			n = recv(fd, block, sizeof(block), 0);
			for (ssize_t k = 0; k < n; k++)
				if (block[k] != (uint8_t)((got + k) * 7 >> 3))
					fail_msg("byte %zu back", got + k);
			got += n > 0 ? (uint32_t)n : 0;
		} else if (out == total || host_alloc - (out - host_fwd) < sizeof(block)) {
			n = recv(fd, block, sizeof(block), 0);
			for (ssize_t k = 0; k < n; k++)
				if (block[k] != (uint8_t)((got + k) * 7 >> 3))
					fail_msg("byte %zu back", got + k);
			got += n > 0 ? (uint32_t)n : 0;
		}
	}
	assert_int_equal(in, total);
	assert_int_equal(got, total);
	close(fd);
	close(s);
	stop(&g);
}

static void restore_resets_the_transport(void **state)
{
	struct virtio_vsock_hdr h;
	struct guest g;
	struct drv_buf ev;
	uint32_t len;
	int s = server(), fd;

	start(&g);
	tell(&g, VIRTIO_VSOCK_OP_REQUEST, 1000, 5000, 0, 0, NULL, 0);
	expect(&g, VIRTIO_VSOCK_OP_RESPONSE, &h);
	fd = accept4(s, NULL, NULL, SOCK_NONBLOCK);
	/* a pause keeps connections */
	g.dev->ops->quiesce(g.dev);
	assert_int_equal(write(fd, "meanwhile", 9), 9);
	g.dev->ops->resume(g.dev);
	expect(&g, VIRTIO_VSOCK_OP_RW, &h);
	ev = guest_buf(&g, NULL, 8);
	assert_true(drv_add(&g.q[2], NULL, 0, &ev, 1, false, &g));
	guest_kick(&g, 2);
	guest_move(&g, &cfg);
	guest_run(&g, NSEC_PER_MSEC);
	assert_ptr_equal(drv_used(&g.q[2], &len), &g);
	assert_int_equal(len, 4);
	tell(&g, VIRTIO_VSOCK_OP_RW, 1000, 5000, 0, 0, "x", 1);
	expect(&g, VIRTIO_VSOCK_OP_RST, &h);
	close(fd);
	close(s);
	stop(&g);
}

/* Random packets to real and made-up connections. */
static void hostile_packets(void **state)
{
	struct guest g;
	struct prng rnd;
	struct virtio_vsock_hdr h;
	int s = server(), fd;

	prng_seed(&rnd, 3);
	start(&g);
	for (int i = 0; i < 1500; i++) { /* each look at the queue waits a millisecond */
		uint32_t len = prng_below(&rnd, 3) ? 0 : (uint32_t)prng_below(&rnd, 3000);

		tell(&g, (uint16_t)prng_below(&rnd, 9), 1000 + (uint32_t)prng_below(&rnd, 3),
		     4999 + (uint32_t)prng_below(&rnd, 2), (uint32_t)prng_below(&rnd, 4),
		     (uint32_t)prng_next(&rnd), data, len);
		if (prng_below(&rnd, 4) == 0)
			while (next(&g, &h))
				continue;
		fd = accept4(s, NULL, NULL, SOCK_NONBLOCK);
		if (fd >= 0)
			close(fd);
		/* with the receive queue unread, refusals fill up and transmit waits */
		if (i % 100 == 0)
			while (next(&g, &h))
				continue;
	}
	while (next(&g, &h))
		continue;
	{
		/* shorter than a header; a length beyond the packet */
		struct virtio_vsock_hdr bad = {
			.src_cid = CID, .dst_cid = 2, .type = 1, .op = 5, .len = 1000
		};
		struct drv_buf b = guest_buf(&g, &bad, 20);

		guest_do(&g, 1, &b, 1, NULL, 0);
		b = guest_buf(&g, &bad, HDR);
		guest_do(&g, 1, &b, 1, NULL, 0);
		assert_false(next(&g, &h));
		/* another's address is not answered */
		bad.src_cid = CID + 1;
		bad.len = 0;
		b = guest_buf(&g, &bad, HDR);
		guest_do(&g, 1, &b, 1, NULL, 0);
		assert_false(next(&g, &h));
	}
	assert_int_equal(guest_status(&g), 0xf);
	close(s);
	stop(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(guest_to_host, set_up, tear_down),
		cmocka_unit_test_setup_teardown(host_to_guest, set_up, tear_down),
		cmocka_unit_test_setup_teardown(credit_both_ways, set_up, tear_down),
		cmocka_unit_test_setup_teardown(restore_resets_the_transport, set_up, tear_down),
		cmocka_unit_test_setup_teardown(hostile_packets, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
