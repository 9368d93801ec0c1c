/* A guest's driver on the fake hypervisor over a vhost-user disk: vhost_user_guest SOCKET ROUNDS [restart], or as a load
 * for bench/disk-serve.py: vhost_user_guest SOCKET SECONDS randread|randwrite.
 * Random reads, writes, zeroes, discards and flushes on two queues against a model.  With `restart`, every 100 rounds it says
 * "restart", waits for a line on standard input, and goes on with what it had under way. */
#include "unit.h"
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include "base/clock.h"
#include "base/loop.h"
#include "base/rand.h"
#include "guest.h"
#include "vmm/devices.h"
#include "vmm/iothread.h"
#include "vmm/virtio/virtio.h"

#define DISK	 (4 * MIB)
#define PATIENCE (60 * NSEC_PER_SEC)
#define WANT                                                                                    \
	(VIRTIO_BIT(VIRTIO_BLK_F_FLUSH) | VIRTIO_BIT(VIRTIO_BLK_F_DISCARD) |                    \
	 VIRTIO_BIT(VIRTIO_BLK_F_WRITE_ZEROES) | VIRTIO_BIT(VIRTIO_BLK_F_MQ) | VIRTIO_BIT(28) | \
	 VIRTIO_BIT(29))

static const char *path, *how;
static int rounds;

struct pending {
	struct drv_buf o[2], i[2];
	unsigned int n_o, n_i, q;
};

static struct pending prepare(struct guest *g, uint32_t type, uint64_t sector, const void *out,
			      uint32_t out_len, uint32_t in_len)
{
	struct virtio_blk_outhdr h = { htole32(type), 0, htole64(sector) };
	struct pending p = { .n_o = 1, .q = (unsigned int)(sector / 8 % 2) };

	p.o[0] = guest_buf(g, &h, sizeof(h));
	if (out_len)
		p.o[p.n_o++] = guest_buf(g, out, out_len);
	if (in_len)
		p.i[p.n_i++] = guest_buf(g, NULL, in_len);
	p.i[p.n_i++] = guest_buf(g, NULL, 1);
	*(uint8_t *)drv_at(&g->mem, p.i[p.n_i - 1].gpa, 1) = 0xee;
	return p;
}

static void begin(struct guest *g, struct pending *p)
{
	assert_true(drv_add(&g->q[p->q], p->o, p->n_o, p->i, p->n_i, p->n_o > 1, g));
	if (drv_wants_kick(&g->q[p->q]))
		guest_kick(g, p->q);
}

static void finish(struct guest *g, struct pending *p)
{
	nsec_t until = now_mono() + PATIENCE;
	uint32_t len;

	while (!drv_used(&g->q[p->q], &len)) {
		if (now_mono() > until)
			fail_msg("a request does not come back");
		loop_once(vm_main_loop(g->vm), NSEC_PER_MSEC);
	}
	drv_interrupt(&g->q[p->q], true);
	assert_int_equal(*(uint8_t *)drv_at(&g->mem, p->i[p->n_i - 1].gpa, 1), VIRTIO_BLK_S_OK);
}

static void request(struct guest *g, uint32_t type, uint64_t sector, const void *out,
		    uint32_t out_len, void *in, uint32_t in_len)
{
	struct pending p = prepare(g, type, sector, out, out_len, in_len);

	begin(g, &p);
	finish(g, &p);
	if (in_len)
		memcpy(in, drv_at(&g->mem, p.i[0].gpa, in_len), in_len);
	g->mem.next = 0x100000;
}

/* A write and a flush are under way while the server is killed and another one started. */
static void restart(struct guest *g, uint8_t *model, uint8_t *buf, int k)
{
	struct pending a, b;
	char line[16];

	memset(buf, k, 4096);
	memcpy(model, buf, 4096);
	a = prepare(g, VIRTIO_BLK_T_OUT, 0, buf, 4096, 0);
	b = prepare(g, VIRTIO_BLK_T_OUT, 8, buf, 4096, 0);
	memcpy(model + 4096, buf, 4096);
	printf("restart\n");
	fflush(stdout);
	begin(g, &a);
	begin(g, &b);
	assert_non_null(fgets(line, sizeof(line), stdin));
	finish(g, &a);
	finish(g, &b);
	g->mem.next = 0x100000;
}

static void random_against_a_model(void **state)
{
	struct vm_device cfg = { .type = "vhost-user-blk",
				 .id = "disk0",
				 .disk = { .socket = path, .queues = 2 } };
	uint8_t *model = calloc(1, DISK), *buf = malloc(65536);
	struct guest g;
	struct prng rnd;

	prng_seed(&rnd, 3);
	guest_open(&g, &dev_vhost_user_blk, &cfg);
	assert_int_equal(guest_start(&g, WANT, 64), 0xf);
	assert_int_equal(guest_read(&g, g.config, 8), DISK / 512);
	for (int k = 0; k < rounds; k++) {
		uint32_t len = (uint32_t)(1 + prng_below(&rnd, 64)) * 512;
		uint64_t off = prng_below(&rnd, (DISK - len) / 512 + 1) * 512;
		struct virtio_blk_discard_write_zeroes z = { htole64(off / 512), htole32(len / 512),
							     0 };

		switch (prng_below(&rnd, 5)) {
		case 0:
		case 1:
			memset(buf, (int)prng_below(&rnd, 256), len);
			request(&g, VIRTIO_BLK_T_OUT, off / 512, buf, len, NULL, 0);
			memcpy(model + off, buf, len);
			break;
		case 2:
			request(&g, VIRTIO_BLK_T_IN, off / 512, NULL, 0, buf, len);
			assert_memory_equal(buf, model + off, len);
			break;
		case 3:
			z.flags = htole32((uint32_t)prng_below(&rnd, 2));
			request(&g, VIRTIO_BLK_T_WRITE_ZEROES, 0, &z, sizeof(z), NULL, 0);
			memset(model + off, 0, len);
			break;
		default:
			request(&g, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, NULL, 0);
		}
		if (k % 70 == 69) { /* pause and go on: the rings stop and start at the back end */
			g.dev->ops->quiesce(g.dev);
			g.dev->ops->resume(g.dev);
		}
		if (how && k % 100 == 99)
			restart(&g, model, buf, k);
	}
	for (uint64_t off = 0; off < DISK; off += 65536) {
		request(&g, VIRTIO_BLK_T_IN, off / 512, NULL, 0, buf, 65536);
		assert_memory_equal(buf, model + off, 65536);
	}
	/* the driver resets the device and begins anew */
	assert_int_equal(guest_start(&g, VIRTIO_BIT(VIRTIO_BLK_F_FLUSH), 16), 0xf);
	request(&g, VIRTIO_BLK_T_IN, 0, NULL, 0, buf, 4096);
	assert_memory_equal(buf, model, 4096);
	guest_close(&g);
	free(model);
	free(buf);
}

/* 4K requests at random offsets, 64 under way, for so many seconds. */
static void load(uint32_t type)
{
	struct vm_device cfg = { .type = "vhost-user-blk",
				 .id = "disk0",
				 .disk = { .socket = path, .queues = 1 } };
	nsec_t end = now_mono() + rounds * NSEC_PER_SEC;
	struct pending slot[64], *p;
	uint8_t page[4096];
	uint64_t pages, n = 0;
	struct guest g;
	struct prng rnd;
	uint32_t len;

	prng_seed(&rnd, 1);
	memset(page, 0x5a, sizeof(page));
	guest_open(&g, &dev_vhost_user_blk, &cfg);
	assert_int_equal(guest_start(&g, WANT & ~VIRTIO_BIT(VIRTIO_BLK_F_MQ), 256), 0xf);
	pages = guest_read(&g, g.config, 8) / 8;
	for (size_t i = 0; i < ARRAY_SIZE(slot); i++) {
		slot[i] = prepare(&g, type, 8 * prng_below(&rnd, pages), page,
				  type == VIRTIO_BLK_T_OUT ? 4096 : 0,
				  type == VIRTIO_BLK_T_IN ? 4096 : 0);
		assert_true(drv_add(&g.q[0], slot[i].o, slot[i].n_o, slot[i].i, slot[i].n_i, false,
				    &slot[i]));
	}
	drv_interrupt(&g.q[0], false);
	if (drv_wants_kick(&g.q[0]))
		guest_kick(&g, 0);
	while (now_mono() < end) {
		while ((p = drv_used(&g.q[0], &len))) {
			struct virtio_blk_outhdr h = { htole32(type), 0,
						       htole64(8 * prng_below(&rnd, pages)) };

			memcpy(drv_at(&g.mem, p->o[0].gpa, sizeof(h)), &h, sizeof(h));
			drv_add(&g.q[0], p->o, p->n_o, p->i, p->n_i, false, p);
			n++;
		}
		drv_interrupt(&g.q[0], false);
		if (drv_wants_kick(&g.q[0]))
			guest_kick(&g, 0);
	}
	printf("%llu requests\n", (unsigned long long)n);
	fflush(stdout);
	_exit(0); /* requests are under way: the back end sees a guest that died */
}

static void loads(void **state)
{
	load(strcmp(how, "randread") == 0 ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(random_against_a_model) };
	const struct CMUnitTest load_tests[] = { cmocka_unit_test(loads) };

	if (argc < 3)
		return 2;
	path = argv[1];
	rounds = atoi(argv[2]);
	how = argc > 3 ? argv[3] : NULL;
	if (how && strcmp(how, "restart") != 0)
		return cmocka_run_group_tests(load_tests, NULL, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
