/* virtio-balloon: pages really go, numbers from outside RAM do not, statistics are asked for and read in place. */
#include "unit.h"
#include <linux/virtio_balloon.h>
#include <sys/mman.h>
#include "base/loop.h"
#include "guest.h"
#include "vmm/devices.h"
#include "vmm/iothread.h"
#include "vmm/virtio/virtio.h"

#define ALL                                                                               \
	(VIRTIO_BIT(VIRTIO_BALLOON_F_STATS_VQ) | VIRTIO_BIT(VIRTIO_BALLOON_F_REPORTING) | \
	 VIRTIO_BIT(VIRTIO_BALLOON_F_DEFLATE_ON_OOM))

static const struct vm_device cfg = { .type = "virtio-balloon", .id = "balloon0" };

/* Pages of [gpa, gpa+n pages) that are in memory. */
static unsigned int resident(struct guest *g, gpa_t gpa, unsigned int n)
{
	unsigned char v[512];
	unsigned int in = 0;

	assert_int_equal(mincore(drv_at(&g->mem, gpa, n * 4096), n * 4096, v), 0);
	while (n--)
		in += v[n] & 1;
	return in;
}

static void touch(struct guest *g, gpa_t gpa, unsigned int n)
{
	memset(drv_at(&g->mem, gpa, n * 4096), 0x5a, n * 4096);
}

static void inflates(void **state)
{
	struct guest g;
	uint32_t pfn[300], n = 0;
	struct drv_buf b;

	guest_open(&g, &dev_virtio_balloon, &cfg);
	assert_int_equal(guest_start(&g, ALL, 64), 0xf);
	touch(&g, 8 * MIB, 512);
	assert_int_equal(resident(&g, 8 * MIB, 512), 512);
	/* backwards, with a gap, twice the same, outside RAM */
	for (uint32_t i = 0; i < 256; i++)
		if (i != 100)
			pfn[n++] = 2048 + 255 - i;
	pfn[n++] = 2048;
	pfn[n++] = GUEST_RAM / 4096;
	pfn[n++] = UINT32_MAX;
	b = guest_buf(&g, pfn, n * 4);
	guest_do(&g, 0, &b, 1, NULL, 0);
	assert_int_equal(resident(&g, 8 * MIB, 256), 1);
	assert_int_equal(resident(&g, 9 * MIB, 256), 256);
	assert_int_equal(guest_stat(&g, "freed_bytes"), 255 * 4096);
	assert_int_equal(guest_stat(&g, "refused_bytes"), 2 * 4096);
	assert_int_equal(*(uint8_t *)drv_at(&g.mem, 8 * MIB, 1), 0);
	guest_do(&g, 1, &b, 1, NULL, 0); /* deflate */
	assert_int_equal(guest_status(&g), 0xf);
	guest_close(&g);
}

static void reports(void **state)
{
	for (unsigned int with_stats = 0; with_stats < 2; with_stats++) {
		struct guest g;
		struct drv_buf in[2] = { { 8 * MIB, 1 * MIB }, { 10 * MIB + 100, 3 * 4096 } };

		guest_open(&g, &dev_virtio_balloon, &cfg);
		guest_start(&g, with_stats ? ALL : VIRTIO_BIT(VIRTIO_BALLOON_F_REPORTING), 64);
		touch(&g, 8 * MIB, 512);
		touch(&g, 10 * MIB, 8);
		guest_do(&g, with_stats ? 3 : 2, NULL, 0, in, 2);
		assert_int_equal(resident(&g, 8 * MIB, 256), 0);
		assert_int_equal(resident(&g, 9 * MIB, 256), 256);
		assert_int_equal(resident(&g, 10 * MIB, 8), 6); /* only whole pages */
		assert_int_equal(guest_stat(&g, "reported_bytes"), MIB + 2 * 4096);
		guest_close(&g);
	}
}

static void statistics(void **state)
{
	struct virtio_balloon_stat s[3] = { { VIRTIO_BALLOON_S_MEMFREE, 1000 },
					    { VIRTIO_BALLOON_S_AVAIL, 2000 },
					    { 77, 1 } };
	struct guest g;
	struct drv_buf b;
	uint32_t len;

	guest_open(&g, &dev_virtio_balloon, &cfg);
	guest_start(&g, ALL, 64);
	b = guest_buf(&g, s, sizeof(s));
	assert_true(drv_add(&g.q[2], &b, 1, NULL, 0, false, &g));
	guest_kick(&g, 2);
	guest_run(&g, NSEC_PER_MSEC);
	assert_null(drv_used(&g.q[2], &len)); /* kept */
	assert_int_equal(guest_stat(&g, "guest_free"), 1000);
	guest_run(&g, NSEC_PER_MSEC);
	assert_ptr_equal(drv_used(&g.q[2], &len), &g); /* asked for newer ones */
	s[0].val = 500;
	memcpy(drv_at(&g.mem, b.gpa, sizeof(s)), s, sizeof(s));
	assert_true(drv_add(&g.q[2], &b, 1, NULL, 0, false, &g));
	assert_true(drv_wants_kick(&g.q[2]));
	guest_kick(&g, 2);
	guest_run(&g, NSEC_PER_MSEC);
	assert_int_equal(guest_stat(&g, "guest_free"), 500);
	/* the buffer that waits moves along */
	guest_move(&g, &cfg);
	guest_run(&g, NSEC_PER_MSEC);
	assert_int_equal(guest_stat(&g, "guest_free"), 500);
	guest_close(&g);
}

static void target(void **state)
{
	struct guest g;

	guest_open(&g, &dev_virtio_balloon, &cfg);
	guest_start(&g, ALL, 64);
	guest_interrupts(&g);
	assert_int_equal(g.dev->ops->set(g.dev, "target", 4 * MIB, NULL), 0);
	assert_int_equal(guest_interrupts(&g), 1);
	assert_int_equal(guest_read(&g, g.config, 4), 1024);
	guest_write(&g, g.config + 4, 4, 1000);
	assert_int_equal(guest_stat(&g, "actual_bytes"), 1000 * 4096);
	guest_write(&g, g.config, 4, 7); /* not the driver's */
	assert_int_equal(guest_read(&g, g.config, 4), 1024);
	assert_int_equal(g.dev->ops->set(g.dev, "target", GUEST_RAM, NULL), -ERANGE);
	assert_int_equal(g.dev->ops->set(g.dev, "size", 1, NULL), -ENOENT);
	guest_move(&g, &cfg);
	assert_int_equal(guest_read(&g, g.config, 4), 1024);
	assert_int_equal(guest_stat(&g, "actual_bytes"), 1000 * 4096);
	guest_close(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(inflates),
		cmocka_unit_test(reports),
		cmocka_unit_test(statistics),
		cmocka_unit_test(target),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
