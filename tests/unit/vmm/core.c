/* Guest memory, buses, address allocation, PCI config space, MSI-X and the IOAPIC, on the fake hypervisor. */
#include <errno.h>
#include "unit.h"
#include "vmm/alloc.h"
#include "vmm/arch/x86/layout.h"
#include "vmm/device_ops.h"
#include "vmm/hv/fake.h"
#include "vmm/irq.h"
#include "vmm/machine.h"
#include "vmm/memory.h"
#include "vmm/pci/bus.h"
#include "vmm/pci/msix.h"

static void memory_regions(void **state)
{
	struct guest_mem m;
	uint8_t *rom, byte = 7;
	uint64_t bits[64] = { 0 };

	assert_int_equal(gmem_init(&m, 3 * MIB / 2, GMEM_ANON, NULL), -EINVAL);
	assert_int_equal(gmem_init(&m, 4 * GIB, GMEM_ANON, NULL), 0);
	assert_int_equal(gmem_ram_size(&m), 4 * GIB);
	assert_non_null(gmem_ptr(&m, GMEM_LOW_MAX - 1, 1));
	assert_null(gmem_ptr(&m, GMEM_LOW_MAX - 1, 2));
	assert_null(gmem_ptr(&m, GMEM_LOW_MAX, 1));
	assert_non_null(gmem_ptr(&m, GMEM_HIGH_BASE, 1));
	assert_null(gmem_ptr(&m, GMEM_HIGH_BASE, UINT64_MAX));
	assert_null(gmem_ptr(&m, UINT64_MAX, 1));
	assert_int_equal(gmem_add_rom(&m, FIRMWARE_END - 0x10000, 0x10000, &rom, NULL), 0);
	assert_null(gmem_ptr(&m, FIRMWARE_END - 0x10000, 1));
	assert_int_equal(gmem_add_rom(&m, 0, 0x1000, &rom, NULL), -EEXIST);
	assert_int_equal(gmem_write(&m, 0x2000, &byte, 1), 0);
	assert_int_equal(gmem_log_start(&m), 0);
	assert_int_equal(gmem_write(&m, 0x5fff, "ab", 2), 0);
	gmem_mark_dirty_host(&m, (uint8_t *)gmem_ptr(&m, 0x9000, 1), 1);
	gmem_log_take(&m, gmem_find(&m, 0), bits);
	assert_int_equal(bits[0], 1 << 5 | 1 << 6 | 1 << 9);
	gmem_done(&m);
	gmem_done(&m);
}

static uint64_t last_off, last_value;

static uint64_t reg_read(struct bus_range *r, uint64_t off, unsigned int size)
{
	last_off = off;
	return 0x1122334455667788;
}

static void reg_write(struct bus_range *r, uint64_t off, unsigned int size, uint64_t v)
{
	last_off = off;
	last_value = v;
}
static const struct bus_ops reg_ops = { reg_read, reg_write };

static void bus_ranges(void **state)
{
	struct bus b;
	struct bus_range r1 = { .base = 0x100, .size = 0x10, .ops = &reg_ops, .name = "a" };
	struct bus_range r2 = { .base = 0x10f, .size = 2, .ops = &reg_ops, .name = "b" };
	struct bus_range r3 = { .base = UINT64_MAX - 3, .size = 4, .ops = &reg_ops, .name = "c" };
	struct bus_range r4 = { .base = UINT64_MAX, .size = 2, .ops = &reg_ops, .name = "d" };
	uint64_t v;

	bus_init(&b, "test");
	assert_int_equal(bus_add(&b, &r1, NULL), 0);
	assert_int_equal(bus_add(&b, &r1, NULL), -EBUSY);
	assert_int_equal(bus_add(&b, &r2, NULL), -EEXIST);
	assert_int_equal(bus_add(&b, &r3, NULL), 0);
	assert_int_equal(bus_add(&b, &r4, NULL), -EINVAL);
	assert_true(bus_read(&b, 0x104, 2, &v));
	assert_int_equal(v, 0x7788);
	assert_int_equal(last_off, 4);
	assert_false(bus_read(&b, 0x10f, 2, &v)); /* straddles the end */
	assert_int_equal(v, 0xffff);
	assert_false(bus_write(&b, 0xff, 1, 1));
	assert_true(bus_write(&b, UINT64_MAX, 1, 0x1ff));
	assert_int_equal(last_value, 0xff);
	bus_remove(&b, &r1);
	bus_remove(&b, &r1);
	assert_int_equal(bus_add(&b, &r2, NULL), 0);
	bus_done(&b);
}

static void allocator(void **state)
{
	struct addr_alloc a;
	uint64_t x, y;

	alloc_init(&a, "test", 0x1000, 0x4000);
	assert_int_equal(alloc_get(&a, 0x1000, 0x2000, &x, NULL), 0);
	assert_int_equal(x, 0x2000);
	assert_int_equal(alloc_get(&a, 0x1000, 0x1000, &y, NULL), 0);
	assert_int_equal(y, 0x1000);
	assert_int_equal(alloc_take(&a, 0x2800, 0x10, NULL), -EEXIST);
	assert_int_equal(alloc_take(&a, 0x5000, 1, NULL), -ERANGE);
	assert_int_equal(alloc_get(&a, 0x2001, 1, &y, NULL), -ENOSPC);
	alloc_put(&a, x);
	assert_int_equal(alloc_get(&a, 0x3000, 0x1000, &x, NULL), 0);
	alloc_done(&a);
}

/* A PCI function with one register BAR and MSI-X. */
struct toy {
	struct pci_dev pci;
	unsigned int moves;
};

static void toy_moved(struct pci_dev *pd, unsigned int bar)
{
	container_of(pd, struct toy, pci)->moves++;
}

static int toy_construct(struct dev *d, const struct vm_device *cfg, struct err **e)
{
	struct pci_dev *pd = pci_dev_of(d);

	pci_dev_init(pd, &(struct pci_ident){
				 .vendor = 0x1af4, .device = 0x1044, .class_code = 0xff0000 });
	pd->bar_moved = toy_moved;
	assert_int_equal(pci_add_bar(pd, 0, PCI_BAR_MEM64, 0x1000, &reg_ops, e), 0);
	assert_int_equal(pci_add_bar(pd, 1, PCI_BAR_MEM32, 0x1000, &reg_ops, NULL), -EINVAL);
	return msix_init(pd, 4, 2, e);
}

static void toy_destruct(struct dev *d)
{
	pci_dev_done(pci_dev_of(d));
}
static int toy_plug(struct dev *d, struct vm *vm, struct err **e)
{
	return pci_plug(pci_dev_of(d), vm_pci(vm), -1, e);
}
static void toy_unplug(struct dev *d)
{
	pci_unplug(pci_dev_of(d));
}
static void toy_reset(struct dev *d)
{
	pci_reset(pci_dev_of(d));
}
static const struct device_ops toy_ops = { .type = "toy",
					   .instance_size = sizeof(struct toy),
					   .construct = toy_construct,
					   .destruct = toy_destruct,
					   .plug = toy_plug,
					   .unplug = toy_unplug,
					   .reset = toy_reset };

static struct dev *make_toy(struct vm *vm)
{
	struct vm_device cfg = { .type = "toy", .id = "toy0" };
	struct dev *d;

	assert_int_equal(dev_create_ops(vm, &toy_ops, &cfg, &d, NULL), 0);
	assert_int_equal(dev_plug(d, NULL), 0);
	return d;
}

static void ecam_write32(struct vm *vm, unsigned int devfn, unsigned int off, uint32_t v)
{
	assert_true(bus_write(vm_mmio(vm), ECAM_BASE + (devfn << 12) + off, 4, v));
}

static uint32_t ecam_read32(struct vm *vm, unsigned int devfn, unsigned int off)
{
	uint64_t v;

	assert_true(bus_read(vm_mmio(vm), ECAM_BASE + (devfn << 12) + off, 4, &v));
	return (uint32_t)v;
}

static void pci_config(void **state)
{
	struct vm *vm;
	struct dev *d;
	uint64_t v, at;

	assert_int_equal(vm_new_test(MIB, &vm, NULL), 0);
	d = make_toy(vm);
	assert_int_equal(ecam_read32(vm, 8, 0), 0x10441af4);
	assert_int_equal(ecam_read32(vm, 16, 0), 0xffffffff);
	/* the old way round: 0xcf8 and 0xcfc */
	assert_true(bus_write(vm_pio(vm), 0xcf8, 4, 0x80000000 | 8 << 8));
	assert_true(bus_read(vm_pio(vm), 0xcfe, 2, &v));
	assert_int_equal(v, 0x1044);
	/* read-only fields stay */
	ecam_write32(vm, 8, 0, 0);
	assert_int_equal(ecam_read32(vm, 8, 0), 0x10441af4);
	/* sizing, then mapping */
	at = (uint64_t)ecam_read32(vm, 8, 0x14) << 32 | (ecam_read32(vm, 8, 0x10) & ~0xfU);
	ecam_write32(vm, 8, 0x10, 0xffffffff);
	assert_int_equal(ecam_read32(vm, 8, 0x10), 0xfffff004);
	ecam_write32(vm, 8, 0x10, (uint32_t)at);
	assert_false(bus_read(vm_mmio(vm), at, 4, &v));
	ecam_write32(vm, 8, PCI_COMMAND, PCI_COMMAND_MEMORY);
	assert_true(bus_read(vm_mmio(vm), at + 8, 4, &v));
	assert_int_equal(v, 0x55667788);
	/* a BAR on top of the ECAM window is not decoded, and does not hide it */
	ecam_write32(vm, 8, 0x14, 0);
	ecam_write32(vm, 8, 0x10, (uint32_t)ECAM_BASE);
	assert_int_equal(ecam_read32(vm, 8, 0), 0x10441af4);
	assert_true(container_of(pci_dev_of(d), struct toy, pci)->moves >= 2);
	/* reset brings back address and command */
	d->ops->reset(d);
	assert_int_equal(ecam_read32(vm, 8, 0x14), at >> 32);
	assert_int_equal(ecam_read32(vm, 8, PCI_COMMAND) & 0xffff, 0);
	vm_free(vm);
}

static void msix_delivery(void **state)
{
	struct vm *vm;
	struct dev *d;
	struct pci_dev *pd;
	struct fake_vm *f;
	uint64_t table, pba, v, one = 1;
	unsigned int cap;
	int fd;

	assert_int_equal(vm_new_test(MIB, &vm, NULL), 0);
	f = fake_vm_of(vm_hv(vm));
	d = make_toy(vm);
	pd = pci_dev_of(d);
	cap = ecam_read32(vm, 8, PCI_CAP_PTR) & 0xff;
	assert_int_equal(ecam_read32(vm, 8, cap) & 0xff, PCI_CAP_MSIX);
	ecam_write32(vm, 8, PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	table = ecam_read32(vm, 8, 0x18);
	pba = table + (ecam_read32(vm, 8, cap + 8) & ~7U);
	bus_write(vm_mmio(vm), table + 16, 4, 0xfee01000);
	bus_write(vm_mmio(vm), table + 24, 4, 0x41);
	msix_notify(pd, 1); /* MSI-X is off: pending */
	msix_notify(pd, 99);
	msix_notify(pd, MSIX_NO_VECTOR);
	assert_int_equal(f->msis.n, 0);
	assert_true(bus_read(vm_mmio(vm), pba, 8, &v));
	assert_int_equal(v, 2);
	ecam_write32(vm, 8, cap, 0x80000000 | (ecam_read32(vm, 8, cap) & 0xffff));
	assert_int_equal(f->msis.n, 0); /* the vector is masked still */
	bus_write(vm_mmio(vm), table + 28, 4, 0);
	assert_int_equal(f->msis.n, 1);
	assert_int_equal(f->msis.v[0].addr, 0xfee01000);
	assert_int_equal(f->msis.v[0].data, 0x41);
	msix_notify(pd, 1);
	assert_int_equal(f->msis.n, 2);
	/* by irqfd: routed and armed; masked signals become pending, and are delivered at unmask */
	fd = msix_irqfd(pd, 1, NULL);
	assert_true(fd >= 0);
	assert_int_equal(msix_irqfd(pd, 1, NULL), fd);
	assert_int_equal(f->irqfds.n, 1);
	bus_write(vm_mmio(vm), table + 28, 4, 1);
	assert_int_equal(f->irqfds.n, 0);
	assert_int_equal(write(fd, &one, 8), 8);
	assert_true(bus_read(vm_mmio(vm), pba, 8, &v));
	assert_int_equal(v, 2);
	bus_write(vm_mmio(vm), table + 28, 4, 0);
	assert_int_equal(f->irqfds.n, 1);
	assert_int_equal(f->msis.n, 3);
	msix_irqfd_put(pd, 1);
	assert_int_equal(f->irqfds.n, 0);
	assert_int_equal(irq_msi(vm, 0x1000, 1),
			 -EINVAL); /* not an interrupt message: plain memory write */
	vm_free(vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_regions), cmocka_unit_test(bus_ranges),
		cmocka_unit_test(allocator),	  cmocka_unit_test(pci_config),
		cmocka_unit_test(msix_delivery),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
