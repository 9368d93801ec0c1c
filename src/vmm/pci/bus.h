/* Bus 0: the functions on it and the address windows of their BARs.  Private to pci/ and the machine. */
#ifndef VMM_PCI_BUS_H
#define VMM_PCI_BUS_H

#include "vmm/alloc.h"
#include "vmm/pci/pci.h"

struct pci_bus {
	struct vm *vm;
	struct pci_dev *dev[256]; /* by devfn; changes on main with vCPUs parked */
	struct addr_alloc pio, mmio32, mmio64;
	struct bus_range cf8, ecam;
	_Atomic uint32_t latch; /* 0xcf8 */
};

int pci_bus_new(struct vm *vm, uint64_t mmio64_base, struct pci_bus **ret, struct err **e);
void pci_bus_free(struct pci_bus *b);
void pci_bus_reset(struct pci_bus *b);

/* Config accesses by (devfn, offset), with the device's lock taken here.  Absent functions read as ones. */
uint32_t pci_config_read(struct pci_bus *b, unsigned int devfn, unsigned int off,
			 unsigned int size);
void pci_config_write(struct pci_bus *b, unsigned int devfn, unsigned int off, unsigned int size,
		      uint32_t value);

/* msix.c, for pci.c: a config write touched [off, off+size); back to reset; free. */
void msix_cfg_written(struct pci_dev *pd);
void msix_reset(struct pci_dev *pd);
void msix_free(struct pci_dev *pd);
void msix_save(struct pci_dev *pd);
int msix_load(struct pci_dev *pd, struct err **e);

extern const struct device_ops dev_pci_host;	 /* 1b36:0008, for direct boot */
extern const struct device_ops dev_pci_host_q35; /* 8086:29c0, which firmware looks for */

#endif
