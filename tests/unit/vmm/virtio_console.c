/* virtio-console: the control dialogue, bytes both ways, slow and vanishing clients, history, hostile messages. */
#include "unit.h"
#include <fcntl.h>
#include <linux/virtio_console.h>
#include <sys/socket.h>
#include <sys/un.h>
#include "base/loop.h"
#include "guest.h"
#include "vmm/devices.h"
#include "vmm/iothread.h"
#include "vmm/virtio/virtio.h"

#define MULTIPORT VIRTIO_BIT(VIRTIO_CONSOLE_F_MULTIPORT)

static char dir[64], path0[80], path1[80];
static const struct vm_device cfg = {
	.type = "virtio-console",
	.id = "con0",
	.console = { .n_ports = 2, .port = { { NULL, path0 }, { "org.example.agent", path1 } } },
};

static int set_up(void **state)
{
	strcpy(dir, "/tmp/strata-unit-con-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path0, sizeof(path0), "%s/p0", dir);
	snprintf(path1, sizeof(path1), "%s/p1", dir);
	return 0;
}

static int tear_down(void **state)
{
	assert_int_equal(access(path0, F_OK), -1); /* the sockets are gone with the device */
	rmdir(dir);
	return 0;
}

static int dial(const char *path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	strcpy(sa.sun_path, path);
	assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	return fd;
}

/* Give the driver's receive buffers of a queue to the device. */
static void give(struct guest *g, unsigned int q, unsigned int n, uint32_t len)
{
	while (n--) {
		struct drv_buf *b = malloc(sizeof(*b));

		*b = guest_buf(g, NULL, len);
		assert_true(drv_add(&g->q[q], NULL, 0, b, 1, false, b));
	}
	guest_kick(g, q);
	guest_run(g, NSEC_PER_MSEC);
}

/* The next received buffer as text. */
static uint32_t got(struct guest *g, unsigned int q, void *ret, uint32_t max)
{
	uint32_t len = 0;
	struct drv_buf *b = drv_used(&g->q[q], &len);

	if (!b)
		return 0;
	assert_true(len <= max);
	memcpy(ret, drv_at(&g->mem, b->gpa, len), len);
	free(b);
	return len;
}

static void tell(struct guest *g, uint32_t id, uint16_t event, uint16_t value)
{
	struct virtio_console_control c = { htole32(id), htole16(event), htole16(value) };
	struct drv_buf b = guest_buf(g, &c, sizeof(c));

	guest_do(g, 3, &b, 1, NULL, 0);
	guest_run(g, NSEC_PER_MSEC);
}

static void expect(struct guest *g, uint32_t id, uint16_t event, uint16_t value, const char *text)
{
	uint8_t m[200] = { 0 };
	uint32_t len = got(g, 2, m, sizeof(m) - 1);
	struct virtio_console_control c;

	memcpy(&c, m, sizeof(c));
	assert_int_equal(len, sizeof(c) + strlen(text));
	assert_int_equal(c.id, id);
	assert_int_equal(c.event, event);
	assert_int_equal(c.value, value);
	assert_memory_equal(m + sizeof(c), text, strlen(text));
}

static void start(struct guest *g)
{
	uint8_t m[16];

	guest_open(g, &dev_virtio_console, &cfg);
	assert_int_equal(guest_start(g, MULTIPORT, 32), 0xf);
	assert_int_equal(g->n_queues, 6);
	give(g, 2, 16, 128);
	tell(g, 0, VIRTIO_CONSOLE_DEVICE_READY, 1);
	expect(g, 0, VIRTIO_CONSOLE_PORT_ADD, 0, "");
	expect(g, 1, VIRTIO_CONSOLE_PORT_ADD, 0, "");
	tell(g, 0, VIRTIO_CONSOLE_PORT_READY, 1);
	expect(g, 0, VIRTIO_CONSOLE_CONSOLE_PORT, 1, "");
	expect(g, 0, VIRTIO_CONSOLE_PORT_OPEN, 1, "");
	tell(g, 1, VIRTIO_CONSOLE_PORT_READY, 1);
	expect(g, 1, VIRTIO_CONSOLE_PORT_NAME, 1, "org.example.agent");
	expect(g, 1, VIRTIO_CONSOLE_PORT_OPEN, 0, "");
	assert_int_equal(got(g, 2, m, sizeof(m)), 0);
	tell(g, 0, VIRTIO_CONSOLE_PORT_OPEN, 1);
}

static void stop(struct guest *g)
{
	uint32_t len;

	for (unsigned int q = 0; q < g->n_queues; q++) {
		void *c;

		while ((c = drv_used(&g->q[q], &len)))
			if (c != g)
				free(c);
		/* buffers that the device never used */
		for (unsigned int i = 0; i < g->q[q].size; i++)
			if (g->q[q].chain_len[i] && g->q[q].cookie[i] != g)
				free(g->q[q].cookie[i]);
	}
	guest_close(g);
}

static void say(struct guest *g, unsigned int q, const char *s)
{
	struct drv_buf b = guest_buf(g, s, (uint32_t)strlen(s));

	guest_do(g, q, &b, 1, NULL, 0);
	guest_run(g, NSEC_PER_MSEC);
}

static void read_is(int fd, const char *want)
{
	char buf[256] = { 0 };
	ssize_t n = recv(fd, buf, sizeof(buf) - 1, MSG_DONTWAIT);

	assert_int_equal(n, want ? (ssize_t)strlen(want) : -1);
	if (want)
		assert_string_equal(buf, want);
}

static void bytes_both_ways(void **state)
{
	struct guest g;
	char buf[64] = { 0 };
	int fd, fd2;

	start(&g);
	say(&g, 1, "boot ");
	fd = dial(path0);
	guest_run(&g, NSEC_PER_MSEC);
	say(&g, 1, "more");
	read_is(fd, "boot more"); /* the late client has the history */
	assert_int_equal(write(fd, "typed", 5), 5);
	guest_run(&g, NSEC_PER_MSEC);
	give(&g, 0, 2, 3); /* input waited for buffers */
	assert_int_equal(got(&g, 0, buf, 64), 3);
	assert_memory_equal(buf, "typ", 3);
	assert_int_equal(got(&g, 0, buf, 64), 2);
	/* the client goes without being read out: its last words arrive */
	assert_int_equal(write(fd, "bye", 3), 3);
	close(fd);
	guest_run(&g, NSEC_PER_MSEC);
	give(&g, 0, 2, 8);
	assert_int_equal(got(&g, 0, buf, 64), 3);
	fd2 = dial(path0);
	guest_run(&g, NSEC_PER_MSEC);
	read_is(fd2, "boot more");
	close(fd2);
	guest_run(&g, NSEC_PER_MSEC);
	stop(&g);
}

static void channel_opens_and_closes(void **state)
{
	struct guest g;
	char buf[64];
	int fd;

	start(&g);
	say(&g, 5, "nobody listens");
	give(&g, 4, 2, 16);
	fd = dial(path1);
	guest_run(&g, NSEC_PER_MSEC);
	expect(&g, 1, VIRTIO_CONSOLE_PORT_OPEN, 1, "");
	assert_int_equal(write(fd, "early", 5), 5);
	guest_run(&g, NSEC_PER_MSEC);
	assert_int_equal(got(&g, 4, buf, 64), 0); /* not before the guest opens it */
	tell(&g, 1, VIRTIO_CONSOLE_PORT_OPEN, 1);
	assert_int_equal(got(&g, 4, buf, 64), 5);
	read_is(fd, NULL); /* nothing of before */
	say(&g, 5, "hello");
	read_is(fd, "hello");
	close(fd);
	guest_run(&g, NSEC_PER_MSEC);
	expect(&g, 1, VIRTIO_CONSOLE_PORT_OPEN, 0, "");
	stop(&g);
}

/* A channel's client that does not read holds the guest up and loses nothing; the state moves in the middle. */
static void slow_client(void **state)
{
	static char block[4096], buf[65536];
	struct guest g;
	unsigned int sent = 0, back = 0, answered = 0;
	size_t total = 0;
	uint32_t len;
	int fd;

	start(&g);
	fd = dial(path1);
	guest_run(&g, NSEC_PER_MSEC);
	while (sent < 500) {
		struct drv_buf b;

		memset(block, 'a' + (int)(sent % 26), sizeof(block));
		b = guest_buf(&g, block, sizeof(block));
		if (!drv_add(&g.q[5], &b, 1, NULL, 0, false, &g))
			break;
		sent++;
		guest_kick(&g, 5);
		guest_run(&g, 0);
		while (drv_used(&g.q[5], &len))
			answered++;
	}
	assert_true(sent < 500); /* it was held up */
	for (int i = 0; i < 10000 && total < (size_t)sent * sizeof(block); i++) {
		ssize_t n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);

		for (ssize_t k = 0; k < n; k++, total++)
			if (buf[k] != 'a' + (int)(total / sizeof(block) % 26))
				fail_msg("byte %zu", total);
		guest_run(&g, 0);
		while (drv_used(&g.q[5], &len))
			back++;
	}
	assert_int_equal(total, sent * sizeof(block));
	assert_int_equal(back + answered, sent);
	close(fd);
	stop(&g);
}

static void hostile_control(void **state)
{
	struct guest g;
	struct drv_buf tiny;

	start(&g);
	tell(&g, 2, VIRTIO_CONSOLE_PORT_READY, 1);
	tell(&g, UINT32_MAX, VIRTIO_CONSOLE_PORT_OPEN, 1);
	tell(&g, 0, 999, 1);
	tiny = guest_buf(&g, "abc", 3);
	guest_do(&g, 3, &tiny, 1, NULL, 0);
	assert_int_equal(guest_status(&g), 0xf);
	stop(&g);
}

static void without_multiport(void **state)
{
	struct guest g;
	char buf[16];
	int fd;

	guest_open(&g, &dev_virtio_console, &cfg);
	assert_int_equal(guest_start(&g, VIRTIO_BIT(VIRTIO_CONSOLE_F_EMERG_WRITE), 32), 0xf);
	fd = dial(path0);
	guest_run(&g, NSEC_PER_MSEC);
	say(&g, 1, "plain");
	guest_write(&g, g.config + offsetof(struct virtio_console_config, emerg_wr), 4, '!');
	guest_run(&g, NSEC_PER_MSEC);
	read_is(fd, "plain!");
	assert_int_equal(write(fd, "x", 1), 1);
	give(&g, 0, 1, 8);
	assert_int_equal(got(&g, 0, buf, 16), 1);
	close(fd);
	stop(&g);
}

static void state_moves(void **state)
{
	struct guest g;
	struct vm_device silent = cfg;
	char buf[64];
	int fd;

	silent.console.port[0].socket = NULL;
	start(&g);
	fd = dial(path1);
	guest_run(&g, NSEC_PER_MSEC);
	expect(&g, 1, VIRTIO_CONSOLE_PORT_OPEN, 1, "");
	tell(&g, 1, VIRTIO_CONSOLE_PORT_OPEN, 1);
	guest_move(&g, &cfg); /* the client is cut off, the guest is told */
	guest_run(&g, NSEC_PER_MSEC);
	expect(&g, 1, VIRTIO_CONSOLE_PORT_OPEN, 0, "");
	close(fd);
	fd = dial(path1);
	guest_run(&g, NSEC_PER_MSEC);
	expect(&g, 1, VIRTIO_CONSOLE_PORT_OPEN, 1, "");
	give(&g, 4, 1, 16);
	assert_int_equal(write(fd, "again", 5), 5);
	guest_run(&g, NSEC_PER_MSEC);
	assert_int_equal(got(&g, 4, buf, 64), 5);
	close(fd);
	stop(&g);
	guest_open(&g, &dev_virtio_console, &silent);
	guest_start(&g, MULTIPORT, 32);
	give(&g, 2, 8, 128);
	tell(&g, 0, VIRTIO_CONSOLE_DEVICE_READY, 1);
	expect(&g, 1, VIRTIO_CONSOLE_PORT_ADD, 0,
	       ""); /* port 0 has no host end and is not announced */
	stop(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(bytes_both_ways, set_up, tear_down),
		cmocka_unit_test_setup_teardown(channel_opens_and_closes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(slow_client, set_up, tear_down),
		cmocka_unit_test_setup_teardown(hostile_control, set_up, tear_down),
		cmocka_unit_test_setup_teardown(without_multiport, set_up, tear_down),
		cmocka_unit_test_setup_teardown(state_moves, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
