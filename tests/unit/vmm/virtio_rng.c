/* virtio-rng, and with it what all virtio-pci devices share: negotiation, status, resets, state, hostile registers. */
#include "unit.h"
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include "base/save.h"
#include "base/loop.h"
#include "base/rand.h"
#include "guest.h"
#include "vmm/devices.h"
#include "vmm/hv/fake.h"
#include "vmm/iothread.h"
#include "vmm/pci/bus.h"
#include "vmm/virtio/virtio.h"

#define EVENT_IDX VIRTIO_BIT(29)
#define INDIRECT  VIRTIO_BIT(28)

static const struct vm_device cfg = { .type = "virtio-rng", .id = "rng0" };

static bool all_zero(const uint8_t *p, size_t n)
{
	while (n--)
		if (*p++)
			return false;
	return true;
}

static void ask(struct guest *g, uint32_t n)
{
	struct drv_buf in = guest_buf(g, NULL, n);

	assert_int_equal(guest_do(g, 0, NULL, 0, &in, 1), MIN(n, 65536U));
	assert_false(all_zero(drv_at(&g->mem, in.gpa, n), n));
}

static void gives_bytes(void **state)
{
	static const uint64_t sets[] = { 0, EVENT_IDX, INDIRECT | EVENT_IDX };

	for (size_t i = 0; i < ARRAY_SIZE(sets); i++) {
		struct guest g;

		guest_open(&g, &dev_virtio_rng, &cfg);
		assert_int_equal(guest_start(&g, sets[i], 8) & 0x4f, 0xf);
		for (int k = 0; k < 100; k++)
			ask(&g, 64);
		ask(&g, 100000);
		assert_int_equal(guest_interrupts(&g), 101);
		assert_int_equal(guest_stat(&g, "requests"), 101);
		assert_int_equal(guest_stat(&g, "bytes"), 6400 + 65536);
		/* the first kick came by register, then the doorbell went to the hypervisor */
		assert_int_equal(fake_vm_of(vm_hv(g.vm))->doorbells.n, 1);
		guest_close(&g);
	}
}

static void features_are_a_question(void **state)
{
	struct guest g;

	guest_open(&g, &dev_virtio_rng, &cfg);
	/* what is not offered is refused; so is a driver without VERSION_1 */
	assert_int_equal(guest_start(&g, VIRTIO_BIT(5), 8), 3);
	guest_write(&g, g.common + VIRTIO_PCI_COMMON_STATUS, 1, 0);
	guest_write(&g, g.common + VIRTIO_PCI_COMMON_STATUS, 1, 0xf);
	assert_int_equal(guest_status(&g), 3);
	guest_close(&g);
}

static void resets_in_the_middle(void **state)
{
	struct guest g;

	guest_open(&g, &dev_virtio_rng, &cfg);
	for (int i = 0; i < 5; i++) {
		assert_int_equal(guest_start(&g, EVENT_IDX, 8) & 0x4f, 0xf);
		ask(&g, 16);
	}
	/* the machine's reset takes the slot's registers along */
	g.dev->ops->quiesce(g.dev);
	g.dev->ops->reset(g.dev);
	g.dev->ops->resume(g.dev);
	assert_int_equal(pci_config_read(vm_pci(g.vm), (unsigned int)pci_dev_of(g.dev)->devfn,
					 PCI_COMMAND, 2),
			 0);
	guest_close(&g);
}

static void queue_reset(void **state)
{
	struct guest g;
	struct drv_queue *q = &g.q[0];

	guest_open(&g, &dev_virtio_rng, &cfg);
	assert_int_equal(guest_start(&g, VIRTIO_BIT(VIRTIO_F_RING_RESET), 8) & 0x4f, 0xf);
	ask(&g, 16);
	guest_write(&g, g.common + VIRTIO_PCI_COMMON_Q_SELECT, 2, 0);
	guest_write(&g, g.common + VIRTIO_PCI_COMMON_Q_RESET, 2, 1);
	assert_int_equal(guest_read(&g, g.common + VIRTIO_PCI_COMMON_Q_RESET, 2), 0);
	assert_int_equal(guest_read(&g, g.common + VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
	drv_queue_init(q, &g.mem, 16, 0);
	guest_write(&g, g.common + VIRTIO_PCI_COMMON_Q_SIZE, 2, 16);
	guest_write(&g, g.common + VIRTIO_PCI_COMMON_Q_DESCLO, 4, q->addr.desc);
	guest_write(&g, g.common + VIRTIO_PCI_COMMON_Q_AVAILLO, 4, q->addr.driver);
	guest_write(&g, g.common + VIRTIO_PCI_COMMON_Q_USEDLO, 4, q->addr.device);
	guest_write(&g, g.common + VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
	ask(&g, 16);
	assert_int_equal(guest_status(&g), 0xf);
	guest_close(&g);
}

/* A broken ring: "needs reset" and a configuration interrupt; quiet until the reset, whole after it. */
static void needs_reset(void **state)
{
	struct guest g;
	struct drv_buf bad = { GUEST_RAM, 16 };

	guest_open(&g, &dev_virtio_rng, &cfg);
	guest_start(&g, 0, 8);
	guest_interrupts(&g);
	assert_true(drv_add(&g.q[0], NULL, 0, &bad, 1, false, &g));
	guest_kick(&g, 0);
	guest_run(&g, NSEC_PER_MSEC);
	assert_int_equal(guest_status(&g), 0xf | VIRTIO_CONFIG_S_NEEDS_RESET);
	assert_int_equal(guest_interrupts(&g), 1);
	guest_kick(&g, 0);
	guest_run(&g, NSEC_PER_MSEC);
	assert_int_equal(guest_interrupts(&g), 0);
	assert_int_equal(guest_start(&g, 0, 8), 0xf);
	ask(&g, 16);
	guest_close(&g);
}

static void no_dma_without_bus_mastering(void **state)
{
	struct guest g;
	unsigned int devfn;
	struct drv_buf in;
	uint32_t len;

	guest_open(&g, &dev_virtio_rng, &cfg);
	guest_start(&g, 0, 8);
	devfn = (unsigned int)pci_dev_of(g.dev)->devfn;
	pci_config_write(vm_pci(g.vm), devfn, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	in = guest_buf(&g, NULL, 16);
	assert_true(drv_add(&g.q[0], NULL, 0, &in, 1, false, &g));
	guest_kick(&g, 0);
	guest_run(&g, NSEC_PER_MSEC);
	assert_null(drv_used(&g.q[0], &len));
	pci_config_write(vm_pci(g.vm), devfn, PCI_COMMAND, 2,
			 PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	guest_run(&g, NSEC_PER_MSEC);
	assert_ptr_equal(drv_used(&g.q[0], &len), &g);
	guest_close(&g);
}

static void moves_with_its_state(void **state)
{
	struct guest g;

	guest_open(&g, &dev_virtio_rng, &cfg);
	guest_start(&g, EVENT_IDX | INDIRECT, 8);
	for (int i = 0; i < 20; i++) {
		ask(&g, 32);
		guest_move(&g, &cfg);
		assert_int_equal(guest_status(&g), 0xf);
	}
	/* an unanswered request is answered by the one who comes after */
	guest_interrupts(&g);
	g.dev->ops->quiesce(g.dev);
	{
		struct drv_buf in = guest_buf(&g, NULL, 8);
		uint32_t len;

		assert_true(drv_add(&g.q[0], NULL, 0, &in, 1, false, &g));
		guest_kick(&g, 0);
		guest_run(&g, NSEC_PER_MSEC);
		assert_null(drv_used(&g.q[0], &len));
		guest_move(&g, &cfg);
		assert_ptr_equal(drv_used(&g.q[0], &len), &g);
		assert_int_equal(guest_interrupts(&g), 1);
	}
	guest_close(&g);
}

/* Any cut or changed byte of the state is refused or loaded, never more. */
static void hostile_state(void **state)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	struct guest g;

	guest_open(&g, &dev_virtio_rng, &cfg);
	guest_start(&g, EVENT_IDX, 8);
	ask(&g, 32);
	g.dev->ops->quiesce(g.dev);
	assert_int_equal(save_fields(&virtio_save, g.dev, &b, NULL), 0);
	for (size_t i = 0; i < b.len; i++) {
		char was = b.s[i];

		b.s[i] = (char)~was;
		load_fields(&virtio_save, g.dev, 1, b.s, b.len, NULL);
		b.s[i] = was;
		assert_true(load_fields(&virtio_save, g.dev, 1, b.s, i, NULL) < 0);
	}
	assert_int_equal(load_fields(&virtio_save, g.dev, 1, b.s, b.len, NULL), 0);
	g.dev->ops->resume(g.dev);
	ask(&g, 32);
	guest_close(&g);
}

/* The window in config space reaches the same registers. */
static void config_window(void **state)
{
	struct guest g;
	unsigned int devfn, cap;

	guest_open(&g, &dev_virtio_rng, &cfg);
	devfn = (unsigned int)pci_dev_of(g.dev)->devfn;
	cap = g.pci_cfg_cap;
	pci_config_write(vm_pci(g.vm), devfn, cap + VIRTIO_PCI_CAP_BAR, 1, 0);
	pci_config_write(vm_pci(g.vm), devfn, cap + VIRTIO_PCI_CAP_OFFSET, 4,
			 VIRTIO_PCI_COMMON_STATUS);
	pci_config_write(vm_pci(g.vm), devfn, cap + VIRTIO_PCI_CAP_LENGTH, 4, 1);
	pci_config_write(vm_pci(g.vm), devfn, cap + 16, 4, 3);
	assert_int_equal(guest_status(&g), 3);
	pci_config_write(vm_pci(g.vm), devfn, cap + VIRTIO_PCI_CAP_OFFSET, 4,
			 VIRTIO_PCI_COMMON_NUMQ);
	pci_config_write(vm_pci(g.vm), devfn, cap + VIRTIO_PCI_CAP_LENGTH, 4, 2);
	assert_int_equal(pci_config_read(vm_pci(g.vm), devfn, cap + 16, 2), 1);
	/* nonsense is ignored */
	pci_config_write(vm_pci(g.vm), devfn, cap + VIRTIO_PCI_CAP_LENGTH, 4, 3);
	pci_config_read(vm_pci(g.vm), devfn, cap + 16, 4);
	pci_config_write(vm_pci(g.vm), devfn, cap + VIRTIO_PCI_CAP_LENGTH, 4, 4);
	pci_config_write(vm_pci(g.vm), devfn, cap + VIRTIO_PCI_CAP_OFFSET, 4, 0xfffffffc);
	pci_config_read(vm_pci(g.vm), devfn, cap + 16, 4);
	pci_config_write(vm_pci(g.vm), devfn, cap + 16, 4, 0);
	guest_close(&g);
}

/* Random writes over all registers, of all sizes: nothing but the device's own state may suffer. */
static void random_registers(void **state)
{
	struct prng rnd;
	struct guest g;

	prng_seed(&rnd, 42);
	guest_open(&g, &dev_virtio_rng, &cfg);
	for (int i = 0; i < 200000; i++) {
		unsigned int size = 1U << prng_below(&rnd, 4);
		/* mostly the common structure, where things happen */
		uint64_t off = prng_below(&rnd, 4) ? prng_below(&rnd, 64)
						   : prng_below(&rnd, 0x4000);
		uint64_t v = prng_below(&rnd, 2) ? prng_below(&rnd, 256) : prng_next(&rnd);

		off &= ~(uint64_t)(size - 1);
		if (prng_below(&rnd, 4) == 0)
			guest_read(&g, g.common + off, size);
		else
			guest_write(&g, g.common + off, size, v);
		if (i % 64 == 0)
			loop_once(vm_main_loop(g.vm), 0);
	}
	assert_int_equal(guest_start(&g, 0, 8), 0xf);
	ask(&g, 16);
	guest_close(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gives_bytes),
		cmocka_unit_test(features_are_a_question),
		cmocka_unit_test(resets_in_the_middle),
		cmocka_unit_test(queue_reset),
		cmocka_unit_test(needs_reset),
		cmocka_unit_test(no_dma_without_bus_mastering),
		cmocka_unit_test(moves_with_its_state),
		cmocka_unit_test(hostile_state),
		cmocka_unit_test(config_window),
		cmocka_unit_test(random_registers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
