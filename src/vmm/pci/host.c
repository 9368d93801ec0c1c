/* The host bridge: configuration by ports 0xcf8/0xcfc and by ECAM, the reset port 0xcf9, and function 0:0.0.
 * Spec: PCI 3.0, 3.2.2.3.2; PCIe 4.0, 7.2.2. */
#include <errno.h>
#include <stdlib.h>
#include "vmm/arch/x86/layout.h"
#include "vmm/pci/bus.h"
#include "vmm/vm.h"

static uint64_t cf8_read(struct bus_range *r, uint64_t off, unsigned int size)
{
	struct pci_bus *b = r->opaque;
	uint32_t latch = b->latch;

	if (off < 4)
		return off == 0 && size == 4 ? latch : UINT64_MAX;
	if (!(latch & 0x80000000) || latch >> 16 & 0xff || off + size > 8)
		return UINT64_MAX;
	return pci_config_read(b, latch >> 8 & 0xff, (latch & 0xfc) + (unsigned int)(off - 4),
			       size);
}

static void cf8_write(struct bus_range *r, uint64_t off, unsigned int size, uint64_t v)
{
	struct pci_bus *b = r->opaque;
	uint32_t latch = b->latch;

	if (off == 0 && size == 4) {
		b->latch = (uint32_t)v;
	} else if (off == 1 && size == 1) { /* 0xcf9: ICH9 13.7.5 */
		if (v & 4)
			vm_notify(b->vm, VM_EVENT_RESET, 0);
	} else if (off >= 4 && off + size <= 8 && latch & 0x80000000 && !(latch >> 16 & 0xff)) {
		pci_config_write(b, latch >> 8 & 0xff, (latch & 0xfc) + (unsigned int)(off - 4),
				 size, (uint32_t)v);
	}
}

static uint64_t ecam_read(struct bus_range *r, uint64_t off, unsigned int size)
{
	if (size > 4 || (off & 0xfff) + size > PCI_CONFIG_SIZE)
		return UINT64_MAX;
	return pci_config_read(r->opaque, (unsigned int)(off >> 12), off & 0xfff, size);
}

static void ecam_write(struct bus_range *r, uint64_t off, unsigned int size, uint64_t v)
{
	if (size <= 4 && (off & 0xfff) + size <= PCI_CONFIG_SIZE)
		pci_config_write(r->opaque, (unsigned int)(off >> 12), off & 0xfff, size,
				 (uint32_t)v);
}

static const struct bus_ops cf8_ops = { cf8_read, cf8_write };
static const struct bus_ops ecam_ops = { ecam_read, ecam_write };

int pci_bus_new(struct vm *vm, uint64_t mmio64_base, struct pci_bus **ret, struct err **e)
{
	struct pci_bus *b = calloc(1, sizeof(*b));
	int r;

	if (!b)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	b->vm = vm;
	alloc_init(&b->pio, "PCI ports", PIO_BAR_BASE, PIO_BAR_END - PIO_BAR_BASE);
	alloc_init(&b->mmio32, "PCI memory", MMIO32_BASE, MMIO32_END - MMIO32_BASE);
	alloc_init(&b->mmio64, "PCI memory above 4 GiB", mmio64_base, MMIO64_SIZE);
	b->cf8 = (struct bus_range){
		.base = PORT_PCI, .size = 8, .ops = &cf8_ops, .opaque = b, .name = "pci-config"
	};
	b->ecam = (struct bus_range){
		.base = ECAM_BASE, .size = ECAM_SIZE, .ops = &ecam_ops, .opaque = b, .name = "ecam"
	};
	r = bus_add(vm_pio(vm), &b->cf8, e);
	if (r == 0)
		r = bus_add(vm_mmio(vm), &b->ecam, e);
	if (r < 0) {
		bus_remove(vm_pio(vm), &b->cf8);
		free(b);
		return r;
	}
	*ret = b;
	return 0;
}

void pci_bus_free(struct pci_bus *b)
{
	if (!b)
		return;
	bus_remove(vm_pio(b->vm), &b->cf8);
	bus_remove(vm_mmio(b->vm), &b->ecam);
	alloc_done(&b->pio);
	alloc_done(&b->mmio32);
	alloc_done(&b->mmio64);
	free(b);
}

void pci_bus_reset(struct pci_bus *b)
{
	b->latch = 0;
}

/* Function 0:0.0 */

struct host {
	struct pci_dev pci;
	uint32_t latch; /* saved here for the bus */
};

static struct host *host_of(struct dev *d)
{
	return container_of(pci_dev_of(d), struct host, pci);
}

static int host_construct(struct dev *d, const struct vm_device *cfg, struct err **e)
{
	static const struct pci_ident generic = { .vendor = 0x1b36,
						  .device = 0x0008,
						  .subvendor = 0x1af4,
						  .subsystem = 0x1100,
						  .class_code = 0x060000 };
	static const struct pci_ident q35 = { .vendor = 0x8086,
					      .device = 0x29c0,
					      .subvendor = 0x1af4,
					      .subsystem = 0x1100,
					      .class_code = 0x060000 };
	struct host *h = host_of(d);
	bool firmware = d->ops == &dev_pci_host_q35;

	pci_dev_init(&h->pci, firmware ? &q35 : &generic);
	if (firmware) {
		/* Registers that firmware programs: PCIEXBAR (ECAM stays where it is) and PAM (the shadow is
		 * RAM here whatever it says). */
		for (unsigned int i = 0x60; i < 0x68; i++)
			h->pci.wmask[i] = 0xff;
		for (unsigned int i = 0x90; i < 0x9e; i++)
			h->pci.wmask[i] = 0xff;
	}
	return 0;
}

static void host_destruct(struct dev *d)
{
	pci_dev_done(pci_dev_of(d));
}

static int host_plug(struct dev *d, struct vm *vm, struct err **e)
{
	return pci_plug(pci_dev_of(d), vm_pci(vm), 0, e);
}

static void host_unplug(struct dev *d)
{
	pci_unplug(pci_dev_of(d));
}

static void host_reset(struct dev *d)
{
	pci_reset(pci_dev_of(d));
	pci_bus_reset(pci_dev_of(d)->bus);
}

static void host_before_save(void *obj)
{
	struct host *h = obj;

	h->latch = h->pci.bus->latch;
}

static int host_after_load(void *obj, uint32_t version, struct err **e)
{
	struct host *h = obj;

	h->pci.bus->latch = h->latch;
	return pci_after_load(&h->pci, e);
}

static const struct save_field host_fields[] = {
	SAVE_NESTED(struct host, pci, &pci_save, 1),
	SAVE(struct host, latch, U32, 1),
};
static const struct save_desc host_save = SAVE_DESC("pci-host", 1, 1, host_fields,
						    .before_save = host_before_save,
						    .after_load = host_after_load);

#define HOST_OPS(name)                                                                           \
	{                                                                                        \
		.type = name, .instance_size = sizeof(struct host), .construct = host_construct, \
		.destruct = host_destruct, .plug = host_plug, .unplug = host_unplug,             \
		.reset = host_reset, .state = &host_save                                         \
	}
const struct device_ops dev_pci_host = HOST_OPS("pci-host");
const struct device_ops dev_pci_host_q35 = HOST_OPS("pci-host-q35");
