/* See pci.h. */
#include <errno.h>
#include <string.h>
#include "vmm/pci/bus.h"
#include "vmm/pci/msix.h"
#include "vmm/vm.h"

#define BAR_IO	  0x1U
#define BAR_MEM64 0x4U

void pci_dev_init(struct pci_dev *pd, const struct pci_ident *id)
{
	pd->devfn = -1;
	pci_set16(pd, PCI_VENDOR_ID, id->vendor);
	pci_set16(pd, PCI_DEVICE_ID, id->device);
	pci_set16(pd, PCI_SUBVENDOR_ID, id->subvendor);
	pci_set16(pd, PCI_SUBSYSTEM_ID, id->subsystem);
	pd->config[PCI_REVISION] = id->revision;
	pd->config[PCI_CLASS] = (uint8_t)id->class_code;
	pd->config[PCI_CLASS + 1] = (uint8_t)(id->class_code >> 8);
	pd->config[PCI_CLASS + 2] = (uint8_t)(id->class_code >> 16);
	/* I/O, memory, bus master, parity, SERR, INTx disable */
	pd->wmask[PCI_COMMAND] = 0x47;
	pd->wmask[PCI_COMMAND + 1] = 0x05;
	pd->wmask[PCI_INT_LINE] = 0xff;
	pd->wmask[0x0c] = 0xff; /* cache line size */
	pd->next_cap = PCI_CAPS_START;
}

int pci_add_bar(struct pci_dev *pd, unsigned int n, enum pci_bar_kind kind, uint64_t size,
		const struct bus_ops *ops, struct err **e)
{
	bool wide = kind == PCI_BAR_MEM64;
	struct pci_bar *b;
	unsigned int off = PCI_BAR0 + 4 * n;
	uint64_t mask = ~(size - 1);

	if (n + wide >= PCI_N_BARS || kind == PCI_BAR_NONE || pd->bar[n].kind ||
	    (n > 0 && pd->bar[n - 1].kind == PCI_BAR_MEM64) || (wide && pd->bar[n + 1].kind) ||
	    !is_pow2(size) || size < (kind == PCI_BAR_IO ? 4 : 16) ||
	    (kind == PCI_BAR_IO && size > 256) || (kind == PCI_BAR_MEM32 && size > GIB))
		return err_set(e, EINVAL, "pci.bar", "%s: BAR %u cannot be that", pd->dev.id, n);
	b = &pd->bar[n];
	*b = (struct pci_bar){
		.range = { .size = size, .ops = ops, .owner = &pd->dev, .name = pd->dev.id },
		.kind = kind,
		.size = size,
		.pd = pd,
		.index = n,
	};
	pci_set32(pd, off, kind == PCI_BAR_IO ? BAR_IO : wide ? BAR_MEM64 : 0);
	for (unsigned int i = 0; i < (wide ? 8U : 4U); i++)
		pd->wmask[off + i] = (uint8_t)(mask >> 8 * i);
	return 0;
}

int pci_add_cap(struct pci_dev *pd, uint8_t id, unsigned int len)
{
	unsigned int at = ALIGN_UP(pd->next_cap, 4U);

	if (len < 2 || at + len > 256)
		return -ENOSPC;
	pd->config[at] = id;
	pd->config[pd->last_cap ? pd->last_cap + 1 : PCI_CAP_PTR] = (uint8_t)at;
	pd->config[PCI_STATUS] |= PCI_STATUS_CAPS;
	pd->last_cap = at;
	pd->next_cap = at + len;
	return (int)at;
}

static uint64_t bar_address(const struct pci_dev *pd, unsigned int n)
{
	const struct pci_bar *b = &pd->bar[n];
	uint64_t a = pci_get32(pd, PCI_BAR0 + 4 * n);

	if (b->kind == PCI_BAR_IO)
		return a & 0xfffc;
	a &= ~0xfULL;
	if (b->kind == PCI_BAR_MEM64)
		a |= (uint64_t)pci_get32(pd, PCI_BAR0 + 4 * n + 4) << 32;
	return a;
}

static void set_bar_address(struct pci_dev *pd, unsigned int n, uint64_t a)
{
	unsigned int off = PCI_BAR0 + 4 * n;

	pci_set32(pd, off,
		  (uint32_t)a | (pci_get32(pd, off) & (pd->bar[n].kind == PCI_BAR_IO ? 3 : 0xf)));
	if (pd->bar[n].kind == PCI_BAR_MEM64)
		pci_set32(pd, off + 4, (uint32_t)(a >> 32));
}

/* Make the buses agree with the BAR registers and the command register. */
static void map_bars(struct pci_dev *pd, bool plugged)
{
	uint16_t cmd = pci_get16(pd, PCI_COMMAND);

	for (unsigned int n = 0; n < PCI_N_BARS; n++) {
		struct pci_bar *b = &pd->bar[n];
		bool io = b->kind == PCI_BAR_IO;
		struct bus *bus;
		uint64_t base;
		bool want;

		if (!b->kind)
			continue;
		bus = io ? vm_pio(pd->dev.vm) : vm_mmio(pd->dev.vm);
		base = bar_address(pd, n);
		want = plugged && base && cmd & (io ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY);
		if (b->range.active && (!want || b->range.base != base)) {
			bus_remove(bus, &b->range);
			if (pd->bar_moved)
				pd->bar_moved(pd, n);
		}
		if (want && !b->range.active) {
			b->range.base = base;
			/* A place that is taken: the guest's mistake or its sizing; not decoded. */
			if (bus_add(bus, &b->range, NULL) == 0 && pd->bar_moved)
				pd->bar_moved(pd, n);
		}
	}
}

int pci_plug(struct pci_dev *pd, struct pci_bus *bus, int devfn, struct err **e)
{
	int r;

	if (devfn < 0) {
		for (devfn = 1 << 3; devfn < 256 && bus->dev[devfn]; devfn += 8)
			;
		if (devfn >= 256)
			return err_set(e, ENOSPC, "pci.full",
				       "%s: no PCI slot is left (31 devices)", pd->dev.id);
	} else if (devfn >= 256 || bus->dev[devfn]) {
		return err_set(e, EEXIST, "pci.slot", "%s: PCI slot %d is taken", pd->dev.id,
			       devfn >> 3);
	}
	for (unsigned int n = 0; n < PCI_N_BARS; n++) {
		struct pci_bar *b = &pd->bar[n];
		struct addr_alloc *a = b->kind == PCI_BAR_IO	  ? &bus->pio
				       : b->kind == PCI_BAR_MEM64 ? &bus->mmio64
								  : &bus->mmio32;

		if (!b->kind)
			continue;
		r = alloc_get(a, b->size,
			      MAX(b->size, (uint64_t)(b->kind == PCI_BAR_IO ? 4 : 4096)),
			      &b->initial, e);
		if (r < 0) {
			while (n-- > 0) {
				alloc_put(&bus->pio, pd->bar[n].initial);
				alloc_put(&bus->mmio32, pd->bar[n].initial);
				alloc_put(&bus->mmio64, pd->bar[n].initial);
			}
			return r;
		}
		set_bar_address(pd, n, b->initial);
	}
	memcpy(pd->initial, pd->config, sizeof(pd->initial));
	pd->bus = bus;
	pd->devfn = devfn;
	bus->dev[devfn] = pd;
	return 0;
}

void pci_unplug(struct pci_dev *pd)
{
	if (!pd->bus)
		return;
	map_bars(pd, false);
	for (unsigned int n = 0; n < PCI_N_BARS; n++) {
		struct pci_bar *b = &pd->bar[n];

		if (b->kind)
			alloc_put(b->kind == PCI_BAR_IO	     ? &pd->bus->pio
				  : b->kind == PCI_BAR_MEM64 ? &pd->bus->mmio64
							     : &pd->bus->mmio32,
				  b->initial);
	}
	pd->bus->dev[pd->devfn] = NULL;
	pd->bus = NULL;
	pd->devfn = -1;
}

void pci_reset(struct pci_dev *pd)
{
	memcpy(pd->config, pd->initial, sizeof(pd->config));
	map_bars(pd, pd->bus != NULL);
	if (pd->msix)
		msix_reset(pd);
}

void pci_dev_done(struct pci_dev *pd)
{
	msix_free(pd);
	free(pd->msix_state.data);
	pd->msix_state = (struct save_blob){ 0 };
}

uint32_t pci_config_read(struct pci_bus *b, unsigned int devfn, unsigned int off, unsigned int size)
{
	struct pci_dev *pd = b->dev[devfn];
	uint32_t v = 0;

	if (!pd)
		return UINT32_MAX;
	pthread_mutex_lock(&pd->dev.lock);
	if (pd->cfg_read)
		pd->cfg_read(pd, off, size);
	for (unsigned int i = 0; i < size; i++)
		v |= (uint32_t)pd->config[off + i] << 8 * i;
	pthread_mutex_unlock(&pd->dev.lock);
	return v;
}

void pci_config_write(struct pci_bus *b, unsigned int devfn, unsigned int off, unsigned int size,
		      uint32_t value)
{
	struct pci_dev *pd = b->dev[devfn];

	if (!pd)
		return;
	pthread_mutex_lock(&pd->dev.lock);
	for (unsigned int i = 0; i < size; i++) {
		uint8_t v = (uint8_t)(value >> 8 * i), *c = &pd->config[off + i];

		*c = (uint8_t)((*c & ~pd->wmask[off + i]) | (v & pd->wmask[off + i]));
		*c &= (uint8_t) ~(v & pd->w1c[off + i]);
	}
	if (off < PCI_BAR0 + 4 * PCI_N_BARS && off + size > PCI_COMMAND)
		map_bars(pd, true);
	if (pd->msix)
		msix_cfg_written(pd);
	if (pd->cfg_write)
		pd->cfg_write(pd, off, size);
	pthread_mutex_unlock(&pd->dev.lock);
}

static void pci_before_save(void *obj)
{
	struct pci_dev *pd = obj;

	if (pd->msix)
		msix_save(pd);
}

static const struct save_field pci_fields[] = {
	SAVE(struct pci_dev, config, BYTES, 1),
	SAVE_VBYTES(struct pci_dev, msix_state, MSIX_MAX_VECTORS * 17, 1),
};
const struct save_desc pci_save =
	SAVE_DESC("pci", 1, 1, pci_fields, .before_save = pci_before_save);

int pci_after_load(struct pci_dev *pd, struct err **e)
{
	for (unsigned int i = 0; i < PCI_CONFIG_SIZE; i++) {
		uint8_t fixed = (uint8_t) ~(pd->wmask[i] | pd->w1c[i]);

		/* Beyond the header and the capability list a driver keeps registers of its own there. */
		if (i < PCI_CAPS_START && i != PCI_STATUS && i != PCI_STATUS + 1 &&
		    (pd->config[i] ^ pd->initial[i]) & fixed)
			return err_set(e, EINVAL, "snapshot.device",
				       "%s: saved for another device (config byte 0x%x)",
				       pd->dev.id, i);
	}
	map_bars(pd, pd->bus != NULL);
	return pd->msix ? msix_load(pd, e) : 0;
}
