/* virtio-blk against a file and a model of its contents. */
#include "unit.h"
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <sys/stat.h>
#include "base/loop.h"
#include "base/rand.h"
#include "guest.h"
#include "vmm/devices.h"
#include "vmm/iothread.h"
#include "vmm/virtio/virtio.h"

#define DISK (1 * MIB)
#define BASE                                                                 \
	(VIRTIO_BIT(VIRTIO_BLK_F_FLUSH) | VIRTIO_BIT(VIRTIO_BLK_F_DISCARD) | \
	 VIRTIO_BIT(VIRTIO_BLK_F_WRITE_ZEROES))

static char path[64];
static struct vm_device cfg = { .type = "virtio-blk",
				.id = "disk0",
				.disk = { .path = path, .format = "raw", .queues = 1 } };

static int set_up(void **state)
{
	int fd;

	strcpy(path, "/tmp/strata-unit-blk-XXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0 && ftruncate(fd, DISK) == 0);
	close(fd);
	return 0;
}

static int tear_down(void **state)
{
	unlink(path);
	return 0;
}

static struct drv_buf header(struct guest *g, uint32_t type, uint64_t sector)
{
	struct virtio_blk_outhdr h = { htole32(type), 0, htole64(sector) };

	return guest_buf(g, &h, sizeof(h));
}

/* One request with `len` bytes of data each way; returns the status, the used length is checked. */
static uint8_t request(struct guest *g, uint32_t type, uint64_t sector, const void *out,
		       uint32_t out_len, void *in, uint32_t in_len)
{
	struct drv_buf o[2] = { header(g, type, sector) }, i[2];
	unsigned int n_o = 1, n_i = 0;
	uint32_t used;
	uint8_t status;

	if (out_len)
		o[n_o++] = guest_buf(g, out, out_len);
	if (in_len)
		i[n_i++] = guest_buf(g, NULL, in_len);
	i[n_i] = guest_buf(g, NULL, 1);
	*(uint8_t *)drv_at(&g->mem, i[n_i].gpa, 1) = 0xee;
	used = guest_do(g, 0, o, n_o, i, n_i + 1);
	status = *(uint8_t *)drv_at(&g->mem, i[n_i].gpa, 1);
	assert_int_equal(used, status == VIRTIO_BLK_S_OK ? in_len + 1 : 1);
	if (in_len)
		memcpy(in, drv_at(&g->mem, i[0].gpa, in_len), in_len);
	g->mem.next = 0x100000; /* buffers are used up */
	return status;
}

static void random_against_model(void **state)
{
	static const uint64_t sets[] = { 0, VIRTIO_BIT(28), VIRTIO_BIT(29),
					 VIRTIO_BIT(VIRTIO_F_RING_PACKED),
					 VIRTIO_BIT(28) | VIRTIO_BIT(29) |
						 VIRTIO_BIT(VIRTIO_F_RING_PACKED) };
	uint8_t *model = calloc(1, DISK), *buf = malloc(65536);

	for (size_t s = 0; s < ARRAY_SIZE(sets); s++) {
		struct guest g;
		struct prng rnd;

		prng_seed(&rnd, s);
		guest_open(&g, &dev_virtio_blk, &cfg);
		assert_int_equal(guest_start(&g, BASE | sets[s], 16), 0xf);
		assert_int_equal(guest_read(&g, g.config, 8), DISK / 512);
		assert_int_equal(
			guest_read(&g, g.config + offsetof(struct virtio_blk_config, num_queues),
				   2),
			1);
		for (int k = 0; k < 300; k++) {
			uint32_t len = (uint32_t)(1 + prng_below(&rnd, 64)) * 512;
			uint64_t off = prng_below(&rnd, (DISK - len) / 512 + 1) * 512;
			struct virtio_blk_discard_write_zeroes z = { htole64(off / 512),
								     htole32(len / 512), 0 };

			switch (prng_below(&rnd, 5)) {
			case 0:
			case 1:
				memset(buf, (int)prng_below(&rnd, 256), len);
				assert_int_equal(request(&g, VIRTIO_BLK_T_OUT, off / 512, buf, len,
							 NULL, 0),
						 0);
				memcpy(model + off, buf, len);
				break;
			case 2:
				assert_int_equal(request(&g, VIRTIO_BLK_T_IN, off / 512, NULL, 0,
							 buf, len),
						 0);
				assert_memory_equal(buf, model + off, len);
				break;
			case 3:
				z.flags = htole32((uint32_t)prng_below(&rnd, 2));
				assert_int_equal(request(&g, VIRTIO_BLK_T_WRITE_ZEROES, 0, &z,
							 sizeof(z), NULL, 0),
						 0);
				memset(model + off, 0, len);
				break;
			case 4:
				assert_int_equal(
					request(&g, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, NULL, 0), 0);
				break;
			}
			if (k % 50 == 49)
				guest_move(&g, &cfg);
		}
		for (uint64_t off = 0; off < DISK; off += 65536) {
			assert_int_equal(
				request(&g, VIRTIO_BLK_T_IN, off / 512, NULL, 0, buf, 65536), 0);
			assert_memory_equal(buf, model + off, 65536);
		}
		assert_int_equal(guest_stat(&g, "errors"), 0);
		guest_close(&g);
	}
	free(model);
	free(buf);
}

static void several_ranges(void **state)
{
	struct virtio_blk_discard_write_zeroes z[17] = { 0 };
	uint8_t buf[2048];
	struct guest g;

	guest_open(&g, &dev_virtio_blk, &cfg);
	guest_start(&g, BASE, 16);
	memset(buf, 7, sizeof(buf));
	assert_int_equal(request(&g, VIRTIO_BLK_T_OUT, 0, buf, 2048, NULL, 0), 0);
	z[0] = (struct virtio_blk_discard_write_zeroes){ 0, 1, 0 };
	z[1] = (struct virtio_blk_discard_write_zeroes){ 3, 1, 1 };
	assert_int_equal(request(&g, VIRTIO_BLK_T_WRITE_ZEROES, 0, z, 32, NULL, 0), 0);
	assert_int_equal(request(&g, VIRTIO_BLK_T_IN, 0, NULL, 0, buf, 2048), 0);
	assert_true(buf[0] == 0 && buf[511] == 0 && buf[512] == 7 && buf[1535] == 7 &&
		    buf[1536] == 0);
	assert_int_equal(request(&g, VIRTIO_BLK_T_DISCARD, 0, z, 16, NULL, 0), 0);
	/* unknown flags, too many, a part of one, outside the disk: nothing is done */
	z[0].flags = 2;
	assert_int_equal(request(&g, VIRTIO_BLK_T_WRITE_ZEROES, 0, z, 16, NULL, 0),
			 VIRTIO_BLK_S_UNSUPP);
	z[0].flags = 1;
	assert_int_equal(request(&g, VIRTIO_BLK_T_DISCARD, 0, z, 16, NULL, 0), VIRTIO_BLK_S_UNSUPP);
	z[0].flags = 0;
	assert_int_equal(request(&g, VIRTIO_BLK_T_DISCARD, 0, z, sizeof(z), NULL, 0),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(&g, VIRTIO_BLK_T_DISCARD, 0, z, 15, NULL, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(&g, VIRTIO_BLK_T_DISCARD, 0, NULL, 0, NULL, 0),
			 VIRTIO_BLK_S_IOERR);
	z[1].flags = 0;
	z[1].sector = DISK / 512;
	assert_int_equal(request(&g, VIRTIO_BLK_T_DISCARD, 0, z, 32, NULL, 0), VIRTIO_BLK_S_IOERR);
	z[1].sector = UINT64_MAX;
	assert_int_equal(request(&g, VIRTIO_BLK_T_WRITE_ZEROES, 0, z, 32, NULL, 0),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(guest_status(&g), 0xf);
	guest_close(&g);
}

static void refusals(void **state)
{
	struct guest g;
	uint8_t buf[1024];
	char id[20];

	guest_open(&g, &dev_virtio_blk, &cfg);
	guest_start(&g, BASE, 16);
	assert_int_equal(request(&g, VIRTIO_BLK_T_IN, DISK / 512, NULL, 0, buf, 512),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(&g, VIRTIO_BLK_T_IN, DISK / 512 - 1, NULL, 0, buf, 1024),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(&g, VIRTIO_BLK_T_IN, UINT64_MAX / 512 + 1, NULL, 0, buf, 512),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(&g, VIRTIO_BLK_T_OUT, 0, buf, 513, NULL, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(&g, 77, 0, NULL, 0, NULL, 0), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(request(&g, VIRTIO_BLK_T_GET_ID, 0, NULL, 0, id, 20), VIRTIO_BLK_S_OK);
	assert_string_equal(id, "disk0");
	assert_int_equal(guest_stat(&g, "errors"), 5);
	guest_close(&g);
}

static void readonly(void **state)
{
	struct vm_device ro = cfg;
	struct guest g;
	uint8_t buf[512];

	ro.disk.readonly = true;
	guest_open(&g, &dev_virtio_blk, &ro);
	assert_int_equal(guest_start(&g, VIRTIO_BIT(VIRTIO_BLK_F_RO), 16), 0xf);
	assert_true(g.features & VIRTIO_BIT(VIRTIO_BLK_F_RO));
	assert_false(g.features & VIRTIO_BIT(VIRTIO_BLK_F_DISCARD));
	assert_int_equal(request(&g, VIRTIO_BLK_T_OUT, 0, buf, 512, NULL, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(&g, VIRTIO_BLK_T_IN, 0, NULL, 0, buf, 512), VIRTIO_BLK_S_OK);
	guest_close(&g);
}

/* Requests that are no requests. */
static void malformed(void **state)
{
	for (int fault = 0; fault < 2; fault++) {
		struct guest g;
		struct drv_buf o, i;

		guest_open(&g, &dev_virtio_blk, &cfg);
		guest_start(&g, BASE, 16);
		o = guest_buf(&g, NULL, fault ? 16 : 15);
		i = guest_buf(&g, NULL, 1);
		assert_true(drv_add(&g.q[0], &o, 1, &i, fault ? 0 : 1, false, &g));
		guest_kick(&g, 0);
		guest_run(&g, NSEC_PER_MSEC);
		assert_int_equal(guest_status(&g), 0x4f);
		assert_int_equal(guest_start(&g, BASE, 16), 0xf);
		guest_close(&g);
	}
}

/* Many at once, header and status in odd places; quiesce in the middle loses none, interrupts are few. */
static void dense(void **state)
{
	struct guest g;
	unsigned int n = 0, done = 0, interrupts = 0;
	uint32_t len;

	guest_open(&g, &dev_virtio_blk, &cfg);
	guest_start(&g, BASE | VIRTIO_BIT(28) | VIRTIO_BIT(29), 256);
	guest_interrupts(&g);
	for (int round = 0; round < 40; round++) {
		while (g.q[0].n_free > 200) {
			struct drv_buf o = header(&g, VIRTIO_BLK_T_IN, n % 1000), i[2];

			i[0] = guest_buf(&g, NULL, 500);
			i[1] = guest_buf(&g, NULL, 13); /* twelve of data, the status */
			assert_true(drv_add(&g.q[0], &o, 1, i, 2, true, &g));
			n++;
		}
		if (drv_wants_kick(&g.q[0]))
			guest_kick(&g, 0);
		if (round % 10 == 5)
			guest_move(&g, &cfg);
		for (int k = 0; k < 200 && done < n; k++) {
			loop_once(vm_main_loop(g.vm), 10 * NSEC_PER_MSEC);
			while (drv_used(&g.q[0], &len)) {
				assert_int_equal(len, 513);
				done++;
			}
			drv_interrupt(&g.q[0], true);
		}
		assert_int_equal(done, n);
		g.mem.next = 0x100000;
	}
	interrupts = guest_interrupts(&g);
	print_message("# %u requests, %u interrupts\n", n, interrupts);
	assert_true(n > 2000 && interrupts * 4 < n);
	guest_close(&g);
}

static void limits(void **state)
{
	struct vm_device slow = cfg;
	struct guest g;
	nsec_t t;

	slow.disk.iops = 100; /* a burst of 10 */
	guest_open(&g, &dev_virtio_blk, &slow);
	guest_start(&g, BASE, 16);
	t = now_mono();
	for (int i = 0; i < 40; i++)
		assert_int_equal(request(&g, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, NULL, 0), 0);
	t = now_mono() - t;
	assert_true(t > 250 * NSEC_PER_MSEC && t < 600 * NSEC_PER_MSEC);
	assert_int_equal(g.dev->ops->set(g.dev, "iops", 0, NULL), 0);
	assert_int_equal(g.dev->ops->set(g.dev, "nonsense", 0, NULL), -ENOENT);
	t = now_mono();
	for (int i = 0; i < 40; i++)
		assert_int_equal(request(&g, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, NULL, 0), 0);
	assert_true(now_mono() - t < 250 * NSEC_PER_MSEC);
	guest_close(&g);
}

static void bad_config(void **state)
{
	struct vm_device bad = cfg;
	struct vm *vm;
	struct dev *d;
	struct err *e = NULL;

	assert_int_equal(vm_new_test(GUEST_RAM, &vm, NULL), 0);
	bad.disk.path = "/nonexistent/disk";
	assert_int_equal(dev_create_ops(vm, &dev_virtio_blk, &bad, &d, &e), -ENOENT);
	assert_non_null(strstr(err_msg(e), "/nonexistent/disk"));
	err_clear(&e);
	bad = cfg;
	bad.disk.queues = 17;
	assert_int_equal(dev_create_ops(vm, &dev_virtio_blk, &bad, &d, NULL), -EINVAL);
	bad = cfg;
	bad.disk.queue_size = 100;
	assert_int_equal(dev_create_ops(vm, &dev_virtio_blk, &bad, &d, NULL), -EINVAL);
	vm_free(vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(random_against_model, set_up, tear_down),
		cmocka_unit_test_setup_teardown(several_ranges, set_up, tear_down),
		cmocka_unit_test_setup_teardown(refusals, set_up, tear_down),
		cmocka_unit_test_setup_teardown(readonly, set_up, tear_down),
		cmocka_unit_test_setup_teardown(malformed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(dense, set_up, tear_down),
		cmocka_unit_test_setup_teardown(limits, set_up, tear_down),
		cmocka_unit_test_setup_teardown(bad_config, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
