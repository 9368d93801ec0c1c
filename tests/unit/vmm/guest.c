/* A guest's virtio-pci driver for tests: see guest.h. */
#include "unit.h"
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include "base/loop.h"
#include "base/save.h"
#include "guest.h"
#include "vmm/hv/fake.h"
#include "vmm/iothread.h"
#include "vmm/pci/bus.h"
#include "vmm/virtio/virtio.h"

static struct pci_dev *pci(struct guest *g)
{
	return pci_dev_of(g->dev);
}

static uint32_t cfg_read(struct guest *g, unsigned int off, unsigned int size)
{
	return pci_config_read(vm_pci(g->vm), (unsigned int)pci(g)->devfn, off, size);
}

static void cfg_write(struct guest *g, unsigned int off, unsigned int size, uint32_t v)
{
	pci_config_write(vm_pci(g->vm), (unsigned int)pci(g)->devfn, off, size, v);
}

uint64_t guest_read(struct guest *g, uint64_t addr, unsigned int size)
{
	uint64_t v = 0;

	assert_true(bus_read(vm_mmio(g->vm), addr, size, &v));
	return v;
}

void guest_write(struct guest *g, uint64_t addr, unsigned int size, uint64_t v)
{
	assert_true(bus_write(vm_mmio(g->vm), addr, size, v));
}

static uint64_t bar(struct guest *g, unsigned int n)
{
	return cfg_read(g, PCI_BAR0 + 4 * n, 4) & ~0xfU;
}

static void find_caps(struct guest *g)
{
	unsigned int cap = cfg_read(g, PCI_CAP_PTR, 1), n = 0;

	while (cap) {
		uint64_t at = bar(g, cfg_read(g, cap + VIRTIO_PCI_CAP_BAR, 1) % 6) +
			      cfg_read(g, cap + VIRTIO_PCI_CAP_OFFSET, 4);

		assert_true(++n < 20);
		if (cfg_read(g, cap, 1) == PCI_CAP_VENDOR) {
			switch (cfg_read(g, cap + VIRTIO_PCI_CAP_CFG_TYPE, 1)) {
			case VIRTIO_PCI_CAP_COMMON_CFG:
				g->common = at;
				break;
			case VIRTIO_PCI_CAP_NOTIFY_CFG:
				g->notify = at;
				g->notify_mult = cfg_read(g, cap + VIRTIO_PCI_NOTIFY_CAP_MULT, 4);
				break;
			case VIRTIO_PCI_CAP_ISR_CFG:
				g->isr = at;
				break;
			case VIRTIO_PCI_CAP_DEVICE_CFG:
				g->config = at;
				break;
			case VIRTIO_PCI_CAP_PCI_CFG:
				g->pci_cfg_cap = cap;
				break;
			}
		} else if (cfg_read(g, cap, 1) == PCI_CAP_MSIX) {
			uint64_t table = bar(g, cfg_read(g, cap + 4, 4) & 7);
			unsigned int vectors = (cfg_read(g, cap + 2, 2) & 0x7ff) + 1;

			for (unsigned int i = 0; i < vectors; i++) {
				guest_write(g, table + 16 * i, 4, 0xfee00000);
				guest_write(g, table + 16 * i + 4, 4, 0);
				guest_write(g, table + 16 * i + 8, 4, 0x40 + i);
				guest_write(g, table + 16 * i + 12, 4, 0);
			}
			cfg_write(g, cap + 2, 2, 0x8000);
		}
		cap = cfg_read(g, cap + 1, 1);
	}
	assert_true(g->common && g->notify && g->isr && g->pci_cfg_cap);
}

static void plug(struct guest *g, const struct device_ops *ops, const struct vm_device *cfg)
{
	struct err *e = NULL;

	if (dev_create_ops(g->vm, ops, cfg, &g->dev, &e) < 0 || dev_plug(g->dev, &e) < 0)
		fail_msg("%s", err_msg(e));
}

void guest_open(struct guest *g, const struct device_ops *ops, const struct vm_device *cfg)
{
	struct err *e = NULL;

	*g = (struct guest){ 0 };
	if (vm_new_test(GUEST_RAM, &g->vm, &e) < 0)
		fail_msg("%s", err_msg(e));
	g->mem.mem = vm_mem(g->vm);
	g->mem.next = 0x10000;
	g->mem.end = GUEST_RAM;
	plug(g, ops, cfg);
	g->dev->ops->resume(g->dev);
	cfg_write(g, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	assert_int_equal(cfg_read(g, PCI_VENDOR_ID, 2), 0x1af4);
	find_caps(g);
}

void guest_move(struct guest *g, const struct vm_device *cfg)
{
	const struct device_ops *ops = g->dev->ops;
	_cleanup_(buf_done) struct buf b = { 0 };
	struct err *e = NULL;

	ops->quiesce(g->dev);
	assert_int_equal(save_fields(ops->state, g->dev, &b, NULL), 0);
	dev_destroy(g->dev);
	plug(g, ops, cfg);
	if (load_fields(ops->state, g->dev, ops->state->version, b.s, b.len, &e) < 0)
		fail_msg("%s", err_msg(e));
	ops->resume(g->dev);
}

void guest_close(struct guest *g)
{
	g->dev->ops->quiesce(g->dev);
	dev_destroy(g->dev);
	vm_free(g->vm);
}

uint8_t guest_status(struct guest *g)
{
	return (uint8_t)guest_read(g, g->common + VIRTIO_PCI_COMMON_STATUS, 1);
}

static void set_status(struct guest *g, uint8_t s)
{
	guest_write(g, g->common + VIRTIO_PCI_COMMON_STATUS, 1, s);
}

static void set64(struct guest *g, unsigned int reg, uint64_t v)
{
	guest_write(g, g->common + reg, 4, (uint32_t)v);
	guest_write(g, g->common + reg + 4, 4, v >> 32);
}

uint8_t guest_start(struct guest *g, uint64_t features, uint16_t size)
{
	uint8_t s = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;
	unsigned int flags = 0;

	set_status(g, 0);
	while (guest_status(g) != 0)
		guest_run(g, NSEC_PER_MSEC);
	set_status(g, s);
	g->features = 0;
	for (unsigned int i = 0; i < 2; i++) {
		guest_write(g, g->common + VIRTIO_PCI_COMMON_DFSELECT, 4, i);
		g->features |= guest_read(g, g->common + VIRTIO_PCI_COMMON_DF, 4) << (32 * i);
	}
	features |= VIRTIO_BIT(VIRTIO_F_VERSION_1);
	for (unsigned int i = 0; i < 2; i++) {
		guest_write(g, g->common + VIRTIO_PCI_COMMON_GFSELECT, 4, i);
		guest_write(g, g->common + VIRTIO_PCI_COMMON_GF, 4,
			    (uint32_t)(features >> (32 * i)));
	}
	s |= VIRTIO_CONFIG_S_FEATURES_OK;
	set_status(g, s);
	if (!(guest_status(g) & VIRTIO_CONFIG_S_FEATURES_OK))
		return guest_status(g);
	flags = (features & VIRTIO_BIT(VIRTIO_F_RING_PACKED) ? VQ_PACKED : 0) |
		(features & VIRTIO_BIT(29) ? VQ_EVENT_IDX : 0) |
		(features & VIRTIO_BIT(28) ? VQ_INDIRECT : 0);
	g->n_queues = (unsigned int)guest_read(g, g->common + VIRTIO_PCI_COMMON_NUMQ, 2);
	guest_write(g, g->common + VIRTIO_PCI_COMMON_MSIX, 2, 0);
	for (unsigned int i = 0; i < g->n_queues; i++) {
		uint16_t max;

		guest_write(g, g->common + VIRTIO_PCI_COMMON_Q_SELECT, 2, i);
		max = (uint16_t)guest_read(g, g->common + VIRTIO_PCI_COMMON_Q_SIZE, 2);
		assert_true(max > 0);
		drv_queue_init(&g->q[i], &g->mem, MIN(max, size), flags);
		drv_interrupt(&g->q[i], true);
		guest_write(g, g->common + VIRTIO_PCI_COMMON_Q_SIZE, 2, MIN(max, size));
		set64(g, VIRTIO_PCI_COMMON_Q_DESCLO, g->q[i].addr.desc);
		set64(g, VIRTIO_PCI_COMMON_Q_AVAILLO, g->q[i].addr.driver);
		set64(g, VIRTIO_PCI_COMMON_Q_USEDLO, g->q[i].addr.device);
		guest_write(g, g->common + VIRTIO_PCI_COMMON_Q_MSIX, 2, i + 1);
		assert_int_equal(guest_read(g, g->common + VIRTIO_PCI_COMMON_Q_MSIX, 2), i + 1);
		guest_write(g, g->common + VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
	}
	set_status(g, s | VIRTIO_CONFIG_S_DRIVER_OK);
	return guest_status(g);
}

void guest_kick(struct guest *g, unsigned int q)
{
	guest_write(g, g->common + VIRTIO_PCI_COMMON_Q_SELECT, 2, q);
	guest_write(g,
		    g->notify +
			    guest_read(g, g->common + VIRTIO_PCI_COMMON_Q_NOFF, 2) * g->notify_mult,
		    2, q);
}

void guest_run(struct guest *g, nsec_t idle)
{
	while (loop_once(vm_main_loop(g->vm), idle) > 0)
		continue;
}

unsigned int guest_interrupts(struct guest *g)
{
	size_t n = fake_vm_of(vm_hv(g->vm))->msis.n, seen = g->msis_seen;

	g->msis_seen = n;
	return (unsigned int)(n - seen);
}

struct stat_arg {
	const char *name;
	uint64_t value;
	bool found;
};

static void take_stat(void *arg, const char *name, uint64_t value)
{
	struct stat_arg *a = arg;

	if (strcmp(a->name, name) == 0) {
		a->value = value;
		a->found = true;
	}
}

uint64_t guest_stat(struct guest *g, const char *name)
{
	struct stat_arg a = { name, 0, false };

	g->dev->ops->stats(g->dev, take_stat, &a);
	assert_true(a.found);
	return a.value;
}

uint32_t guest_do(struct guest *g, unsigned int q, const struct drv_buf *out, unsigned int n_out,
		  const struct drv_buf *in, unsigned int n_in)
{
	nsec_t until = now_mono() + NSEC_PER_SEC;
	uint32_t len;
	void *c;

	assert_true(drv_add(&g->q[q], out, n_out, in, n_in, false, g));
	if (drv_wants_kick(&g->q[q]))
		guest_kick(g, q);
	while (!(c = drv_used(&g->q[q], &len))) {
		assert_true(now_mono() < until);
		loop_once(vm_main_loop(g->vm), 10 * NSEC_PER_MSEC);
	}
	assert_ptr_equal(c, g);
	drv_interrupt(&g->q[q], true);
	return len;
}

struct drv_buf guest_buf(struct guest *g, const void *data, uint32_t len)
{
	struct drv_buf b = { drv_alloc(&g->mem, len, 16), len };

	assert_true(b.gpa != 0);
	if (data)
		memcpy(drv_at(&g->mem, b.gpa, len), data, len);
	else
		memset(drv_at(&g->mem, b.gpa, len), 0, len);
	return b;
}
