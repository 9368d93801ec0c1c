/* PCI Express functions on bus 0: config space, BARs, capabilities.   Spec: PCI 3.0, 6; PCIe 4.0, 7.
 *
 * A PCI device embeds struct pci_dev as its first member (which begins with struct dev), fills it by pci_dev_init()
 * and the pci_add_* calls in construct() or plug(), and gets its slot by pci_plug().
 *
 * Thread: config accesses come on vCPU threads with the device's lock held; pci_plug, pci_unplug on main.
 * Trust:  everything the guest writes goes through the write mask; BARs may be put anywhere, also on top of
 *         each other or of RAM: such a BAR is simply not decoded. */
#ifndef VMM_PCI_PCI_H
#define VMM_PCI_PCI_H

#include "base/err.h"
#include "base/save.h"
#include "vmm/bus.h"
#include "vmm/device_ops.h"
#include "vmm/doorbell.h"

#define PCI_CONFIG_SIZE 4096
#define PCI_N_BARS	6

/* Config space offsets and bits that devices need. */
#define PCI_VENDOR_ID	   0x00
#define PCI_DEVICE_ID	   0x02
#define PCI_COMMAND	   0x04
#define PCI_COMMAND_IO	   0x1
#define PCI_COMMAND_MEMORY 0x2
#define PCI_COMMAND_MASTER 0x4
#define PCI_STATUS	   0x06
#define PCI_STATUS_CAPS	   0x10
#define PCI_REVISION	   0x08
#define PCI_CLASS	   0x09
#define PCI_HEADER_TYPE	   0x0e
#define PCI_BAR0	   0x10
#define PCI_SUBVENDOR_ID   0x2c
#define PCI_SUBSYSTEM_ID   0x2e
#define PCI_CAP_PTR	   0x34
#define PCI_INT_LINE	   0x3c
#define PCI_INT_PIN	   0x3d
#define PCI_CAPS_START	   0x40

#define PCI_CAP_VENDOR 0x09
#define PCI_CAP_EXP    0x10
#define PCI_CAP_MSIX   0x11

struct pci_dev;
struct pci_bus;
struct msix;
struct vm;

enum pci_bar_kind { PCI_BAR_NONE, PCI_BAR_IO, PCI_BAR_MEM32, PCI_BAR_MEM64 };

struct pci_bar {
	struct bus_range range; /* base: where the guest put it; active while decoded */
	enum pci_bar_kind kind;
	uint64_t size;
	struct pci_dev *pd;
	unsigned int index;
	uint64_t initial; /* address given at plug, restored by reset; 0: none was free */
};

struct pci_ident {
	uint16_t vendor, device, subvendor, subsystem;
	uint32_t class_code; /* 24 bits: class, subclass, interface */
	uint8_t revision;
};

struct pci_dev {
	struct dev dev; /* first */
	struct pci_bus *bus;
	int devfn;			 /* slot << 3 | function; -1 before pci_plug() */
	uint8_t config[PCI_CONFIG_SIZE]; /* what the guest reads, little-endian */
	uint8_t wmask[PCI_CONFIG_SIZE];	 /* bits that the guest may change */
	uint8_t w1c[PCI_CONFIG_SIZE];	 /* bits that writing 1 clears */
	uint8_t initial[PCI_CONFIG_SIZE]; /* config at the end of pci_plug(), restored by pci_reset() */
	struct pci_bar bar[PCI_N_BARS];
	unsigned int next_cap, last_cap; /* private: where the next capability goes */
	struct msix *msix;		 /* NULL: none */
	struct save_blob msix_state;	 /* private: MSI-X as saved */

	/* Optional hooks of the driver.  cfg_read: before config[off..off+size) is read, to refresh it.
	 * cfg_write: after the masked write.  bar_moved: a BAR was mapped, moved or unmapped (doorbells: demote). */
	void (*cfg_read)(struct pci_dev *pd, unsigned int off, unsigned int size);
	void (*cfg_write)(struct pci_dev *pd, unsigned int off, unsigned int size);
	void (*bar_moved)(struct pci_dev *pd, unsigned int bar);
};

/* In construct(): sets ids, class, header; call it once before the pci_add_* calls. */
void pci_dev_init(struct pci_dev *pd, const struct pci_ident *id);
/* BAR n (a MEM64 one takes n and n+1) of `size` bytes, a power of two, at least 16 (IO: 4).  ops: its registers
 * (bar from container_of(r, struct pci_bar, range), device in bar->pd).  -EINVAL: taken or a bad size. */
int pci_add_bar(struct pci_dev *pd, unsigned int n, enum pci_bar_kind kind, uint64_t size,
		const struct bus_ops *ops, struct err **e);
/* Append a capability of `len` bytes (with the two header bytes, which are filled in here); returns its offset
 * in config space, or -ENOSPC.  The guest can write nothing of it unless wmask says so. */
int pci_add_cap(struct pci_dev *pd, uint8_t id, unsigned int len);

/* In the device's plug(): take a slot (devfn -1: the next free), give the BARs addresses and appear on the bus.
 * -ENOSPC: no slot (31) or no address space. */
int pci_plug(struct pci_dev *pd, struct pci_bus *bus, int devfn, struct err **e);
void pci_unplug(struct pci_dev *pd);
/* In the device's reset(): config space, BARs and MSI-X as after plug. */
void pci_reset(struct pci_dev *pd);
/* In destruct(): frees what pci_dev and msix hold. */
void pci_dev_done(struct pci_dev *pd);

/* True when the guest enabled bus mastering: without, a device does not touch guest memory. */
static inline bool pci_is_master(const struct pci_dev *pd)
{
	return pd->config[PCI_COMMAND] & PCI_COMMAND_MASTER;
}

static inline struct pci_dev *pci_dev_of(struct dev *d)
{
	return container_of(d, struct pci_dev, dev);
}
static inline struct pci_bar *pci_bar_of(struct bus_range *r)
{
	return container_of(r, struct pci_bar, range);
}

/* Saved with the device: put SAVE_STRUCT fields of this table into the device's own (config space, MSI-X).
 * pci_after_load(pd, e) re-validates: read-only bits must be those of this device, else -EINVAL; then maps BARs
 * and re-arms MSI-X.  Call it from the device's after_load. */
extern const struct save_desc pci_save;
int pci_after_load(struct pci_dev *pd, struct err **e);

static inline uint16_t pci_get16(const struct pci_dev *pd, unsigned int off)
{
	return (uint16_t)(pd->config[off] | pd->config[off + 1] << 8);
}
static inline uint32_t pci_get32(const struct pci_dev *pd, unsigned int off)
{
	return pci_get16(pd, off) | (uint32_t)pci_get16(pd, off + 2) << 16;
}
static inline void pci_set16(struct pci_dev *pd, unsigned int off, uint16_t v)
{
	pd->config[off] = (uint8_t)v;
	pd->config[off + 1] = (uint8_t)(v >> 8);
}
static inline void pci_set32(struct pci_dev *pd, unsigned int off, uint32_t v)
{
	pci_set16(pd, off, (uint16_t)v);
	pci_set16(pd, off + 2, (uint16_t)(v >> 16));
}

#endif
