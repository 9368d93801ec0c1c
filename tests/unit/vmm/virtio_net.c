/* virtio-net over a packet socket in place of the tap: frames both ways, merging, control queue, bad buffers. */
#include "unit.h"
#include <linux/virtio_net.h>
#include <sys/socket.h>
#include "base/loop.h"
#include "base/rand.h"
#include "guest.h"
#include "vmm/devices.h"
#include "vmm/iothread.h"
#include "vmm/virtio/virtio.h"

#define MRG VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF)
#define CTL VIRTIO_BIT(VIRTIO_NET_F_CTRL_VQ)
#define HDR sizeof(struct virtio_net_hdr_v1)

struct card {
	struct guest g;
	int wire[4]; /* our ends */
	unsigned int pairs;
	struct vm_device cfg;
};

static void open_card(struct card *c, unsigned int pairs, uint64_t features)
{
	*c = (struct card){
		.pairs = pairs,
		.cfg = { .type = "virtio-net",
			 .id = "net0",
			 .net = { .queues = pairs, .n_fd = pairs, .vhost = VM_NET_VHOST_AUTO } }
	};
	for (unsigned int i = 0; i < pairs; i++) {
		int s[2], size = 1 << 20;

		assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK,
					    0, s),
				 0);
		setsockopt(s[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
		setsockopt(s[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
		c->wire[i] = s[0];
		c->cfg.net.fd[i] = s[1];
	}
	guest_open(&c->g, &dev_virtio_net, &c->cfg);
	assert_int_equal(guest_start(&c->g, features, 64), 0xf);
}

static void close_card(struct card *c)
{
	guest_close(&c->g);
	for (unsigned int i = 0; i < c->pairs; i++)
		close(c->wire[i]);
}

static void give(struct card *c, unsigned int q, unsigned int n, uint32_t len)
{
	while (n--) {
		struct drv_buf *b = malloc(sizeof(*b));

		*b = guest_buf(&c->g, NULL, len);
		if (!drv_add(&c->g.q[q], NULL, 0, b, 1, false, b)) {
			free(b);
			break;
		}
	}
	if (drv_wants_kick(&c->g.q[q]))
		guest_kick(&c->g, q);
	guest_run(&c->g, NSEC_PER_MSEC);
}

/* The next received frame, merged; its length, or 0. */
static size_t take(struct card *c, unsigned int q, uint8_t *frame)
{
	size_t total = 0;
	unsigned int left = 1;

	for (bool first = true; left > 0; left--, first = false) {
		struct virtio_net_hdr_v1 h;
		uint32_t len;
		struct drv_buf *b = drv_used(&c->g.q[q], &len);

		if (!b) {
			assert_true(first);
			return 0;
		}
		memcpy(frame + total, drv_at(&c->g.mem, b->gpa, MAX(len, 1U)), len);
		total += len;
		free(b);
		if (first) {
			memcpy(&h, frame, sizeof(h));
			left = le16toh(h.num_buffers);
			assert_true(left >= 1);
		}
	}
	return total;
}

static void drop_buffers(struct card *c)
{
	for (unsigned int q = 0; q < 2 * c->pairs; q += 2)
		for (unsigned int i = 0; i < c->g.q[q].size; i++)
			if (c->g.q[q].chain_len[i])
				free(c->g.q[q].cookie[i]);
}

static void fill(uint8_t *f, size_t len, unsigned int seed)
{
	memset(f, 0, HDR);
	for (size_t i = HDR; i < len; i++)
		f[i] = (uint8_t)(seed * 31 + i * 7);
}

static void wire_in(struct card *c, unsigned int i, const uint8_t *f, size_t len)
{
	assert_int_equal(send(c->wire[i], f, len, 0), len);
}

/* Frames of all sizes, ring kinds and buffer sizes arrive whole and in order. */
static void receive_all_sizes(void **state)
{
	static const uint64_t sets[] = { MRG, MRG | VIRTIO_BIT(29),
					 MRG | VIRTIO_BIT(VIRTIO_F_RING_PACKED) };
	static const uint32_t bufs[] = { 1526, 4096 };
	uint8_t *f = malloc(70000), *back = malloc(140000);
	struct prng rnd;

	prng_seed(&rnd, 1);
	for (size_t s = 0; s < ARRAY_SIZE(sets) * 2; s++) {
		struct card c;

		open_card(&c, 1, sets[s / 2] | CTL);
		for (unsigned int k = 0; k < 200; k++) {
			size_t len = HDR + 14 + prng_below(&rnd, k % 4 ? 1500 : 65000), n;

			give(&c, 0, c.g.q[0].n_free, bufs[s % 2]);
			fill(f, len, k);
			wire_in(&c, 0, f, len);
			guest_run(&c.g, 0);
			while ((n = take(&c, 0, back)) == 0) {
				give(&c, 0, c.g.q[0].n_free, bufs[s % 2]);
				guest_run(&c.g, NSEC_PER_MSEC);
			}
			assert_int_equal(n, len);
			assert_memory_equal(back + HDR, f + HDR, len - HDR);
			if (k % 40 == 39) /* a stop in between takes popped buffers back */
				c.g.dev->ops->quiesce(c.g.dev), c.g.dev->ops->resume(c.g.dev);
			if (c.g.mem.next > GUEST_RAM / 2) /* buffers in use stay below */
				c.g.mem.next = c.g.mem.next > GUEST_RAM - 600000 ? 0x400000
										 : c.g.mem.next;
		}
		assert_int_equal(guest_stat(&c.g, "rx_frames"), 200);
		drop_buffers(&c);
		close_card(&c);
	}
	free(f);
	free(back);
}

static void receive_without_merging(void **state)
{
	uint8_t f[4000], back[4000];
	struct card c;

	open_card(&c, 1, 0);
	fill(f, 1000, 3);
	wire_in(&c, 0, f, 1000); /* waits for a buffer */
	guest_run(&c.g, NSEC_PER_MSEC);
	give(&c, 0, 2, 1526);
	assert_int_equal(take(&c, 0, back), 1000);
	assert_memory_equal(back + HDR, f + HDR, 1000 - HDR);
	drop_buffers(&c);
	close_card(&c);
}

static void send_frame(struct card *c, unsigned int q, const uint8_t *f, uint32_t len)
{
	struct drv_buf b[3];

	b[0] = guest_buf(&c->g, f, HDR);
	b[1] = guest_buf(&c->g, f + HDR, 10);
	b[2] = guest_buf(&c->g, f + HDR + 10, len - (uint32_t)HDR - 10);
	guest_do(&c->g, q, b, 3, NULL, 0);
}

static void transmit(void **state)
{
	static const uint64_t sets[] = { 0, VIRTIO_BIT(29), VIRTIO_BIT(VIRTIO_F_RING_PACKED) };
	uint8_t f[2000], back[70000];

	for (size_t s = 0; s < ARRAY_SIZE(sets); s++) {
		struct card c;

		open_card(&c, 1, sets[s]);
		for (unsigned int k = 0; k < 300; k++) {
			uint32_t len = 100 + k;

			fill(f, len, k);
			send_frame(&c, 1, f, len);
			assert_int_equal(recv(c.wire[0], back, sizeof(back), MSG_DONTWAIT), len);
			assert_memory_equal(back, f, len);
			c.g.mem.next = 0x100000;
		}
		/* too short to be a frame */
		send_frame(&c, 1, f, HDR + 11);
		assert_int_equal(recv(c.wire[0], back, sizeof(back), MSG_DONTWAIT), -1);
		assert_int_equal(guest_stat(&c.g, "tx_frames"), 300);
		assert_int_equal(guest_stat(&c.g, "tx_dropped"), 1);
		close_card(&c);
	}
}

/* The wire is full: frames wait, none is lost. */
static void transmit_blocks(void **state)
{
	uint8_t f[1500], back[2000];
	unsigned int sent = 0, seen = 0;
	struct card c;
	uint32_t len;

	open_card(&c, 1, VIRTIO_BIT(28));
	for (int i = 0; i < 20000; i++) {
		struct drv_buf b;

		c.g.mem.next = 0x100000 + (sent % 128) * 4096;
		fill(f, 1400, sent);
		b = guest_buf(&c.g, f, 1400);
		if (!drv_add(&c.g.q[1], &b, 1, NULL, 0, false, &c))
			break;
		sent++;
		guest_kick(&c.g, 1);
		guest_run(&c.g, 0);
		while (drv_used(&c.g.q[1], &len))
			continue;
	}
	assert_true(sent < 20000);
	while (seen < sent) {
		ssize_t n = recv(c.wire[0], back, sizeof(back), MSG_DONTWAIT);

		if (n < 0) {
			assert_true(loop_once(vm_main_loop(c.g.vm), NSEC_PER_SEC) > 0);
			continue;
		}
		assert_int_equal(n, 1400);
		fill(f, 1400, seen++);
		assert_memory_equal(back, f, 1400);
		guest_run(&c.g, 0);
	}
	close_card(&c);
}

static uint8_t command(struct card *c, uint8_t class, uint8_t cmd, const void *data, uint32_t len)
{
	uint8_t m[300] = { class, cmd };
	struct drv_buf out, in = guest_buf(&c->g, "\xee", 1);

	memcpy(m + 2, data, len);
	out = guest_buf(&c->g, m, len + 2);
	assert_int_equal(guest_do(&c->g, 2 * c->pairs, &out, 1, &in, 1), 1);
	return *(uint8_t *)drv_at(&c->g.mem, in.gpa, 1);
}

static void control(void **state)
{
	static const uint8_t mac[6] = { 2, 3, 4, 5, 6, 7 }, multicast[6] = { 1 };
	uint8_t tables[8 + 12] = { 1 };
	uint16_t n = 2;
	uint64_t offloads = VIRTIO_BIT(VIRTIO_NET_F_GUEST_CSUM);
	struct card c;
	uint8_t f[100], back[2000];

	open_card(&c, 3,
		  CTL | MRG | VIRTIO_BIT(VIRTIO_NET_F_MQ) | VIRTIO_BIT(VIRTIO_NET_F_CTRL_MAC_ADDR) |
			  VIRTIO_BIT(VIRTIO_NET_F_GUEST_CSUM));
	assert_int_equal(c.g.n_queues, 7);
	assert_int_equal(command(&c, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, mac, 6), 0);
	for (unsigned int i = 0; i < 6; i++)
		assert_int_equal(guest_read(&c.g, c.g.config + i, 1), mac[i]);
	assert_int_equal(
		command(&c, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, multicast, 6), 1);
	assert_int_equal(command(&c, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, mac, 5), 1);
	/* one unicast address, one multicast address */
	tables[4 + 6] = 1;
	assert_int_equal(
		command(&c, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, tables, 20), 0);
	assert_int_equal(
		command(&c, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, tables, 19), 1);
	memset(tables, 0xff, 4);
	assert_int_equal(
		command(&c, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, tables, 20), 1);
	assert_int_equal(command(&c, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, "\1", 1), 0);
	assert_int_equal(command(&c, VIRTIO_NET_CTRL_RX, 200, "\1", 1), 1);
	assert_int_equal(command(&c, VIRTIO_NET_CTRL_GUEST_OFFLOADS, 0, &offloads, 8), 0);
	offloads = ~0ULL;
	assert_int_equal(command(&c, VIRTIO_NET_CTRL_GUEST_OFFLOADS, 0, &offloads, 8), 1);
	assert_int_equal(command(&c, 99, 0, "", 0), 1);
	/* the second pair works once it is switched on */
	give(&c, 2, 32, 4096);
	fill(f, 100, 9);
	wire_in(&c, 1, f, 100);
	guest_run(&c.g, NSEC_PER_MSEC);
	assert_int_equal(take(&c, 2, back), 0);
	assert_int_equal(command(&c, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, &n, 2),
			 0);
	guest_run(&c.g, NSEC_PER_MSEC);
	assert_int_equal(take(&c, 2, back), 100);
	n = 4;
	assert_int_equal(command(&c, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, &n, 2),
			 1);
	n = 0;
	assert_int_equal(command(&c, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, &n, 2),
			 1);
	assert_int_equal(guest_status(&c.g), 0xf);
	drop_buffers(&c);
	close_card(&c);
}

static void link_goes_down(void **state)
{
	uint8_t f[100], back[2000];
	struct card c;

	open_card(&c, 1, MRG | VIRTIO_BIT(VIRTIO_NET_F_STATUS));
	give(&c, 0, 32, 4096);
	guest_interrupts(&c.g);
	assert_int_equal(guest_read(&c.g, c.g.config + 6, 2), VIRTIO_NET_S_LINK_UP);
	assert_int_equal(c.g.dev->ops->set(c.g.dev, "link", 0, NULL), 0);
	assert_int_equal(guest_interrupts(&c.g), 1);
	assert_int_equal(guest_read(&c.g, c.g.config + 6, 2), 0);
	fill(f, 100, 9);
	wire_in(&c, 0, f, 100);
	guest_run(&c.g, NSEC_PER_MSEC);
	assert_int_equal(take(&c, 0, back), 0);
	send_frame(&c, 1, f, 100);
	assert_int_equal(recv(c.wire[0], back, sizeof(back), MSG_DONTWAIT), -1);
	assert_int_equal(c.g.dev->ops->set(c.g.dev, "link", 1, NULL), 0);
	guest_run(&c.g, NSEC_PER_MSEC);
	assert_int_equal(take(&c, 0, back), 100);
	drop_buffers(&c);
	close_card(&c);
}

static void feature_rules(void **state)
{
	struct card c;

	open_card(&c, 1, CTL);
	/* segmentation without checksums makes no sense */
	assert_false(guest_start(&c.g, VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO4), 64) & 8);
	assert_false(guest_start(&c.g, VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO4), 64) & 8);
	assert_true(guest_start(&c.g,
				VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO4) | VIRTIO_BIT(VIRTIO_NET_F_CSUM),
				64) &
		    8);
	close_card(&c);
}

static void tiny_buffers(void **state)
{
	uint8_t f[200];
	struct card c;

	open_card(&c, 1, 0);
	give(&c, 0, 4, 11);
	fill(f, 200, 1);
	wire_in(&c, 0, f, 200);
	guest_run(&c.g, NSEC_PER_MSEC);
	assert_int_equal(guest_status(&c.g), 0x4f);
	drop_buffers(&c);
	assert_int_equal(guest_start(&c.g, 0, 64), 0xf);
	close_card(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(receive_all_sizes), cmocka_unit_test(receive_without_merging),
		cmocka_unit_test(transmit),	     cmocka_unit_test(transmit_blocks),
		cmocka_unit_test(control),	     cmocka_unit_test(link_goes_down),
		cmocka_unit_test(feature_rules),     cmocka_unit_test(tiny_buffers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
