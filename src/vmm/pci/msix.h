/* MSI-X: table, pending bits, masks.                             Spec: PCI 3.0, 6.8.2.
 *
 * Thread: msix_notify() any thread; the rest where said.  A notification while a vector is masked (or MSI-X is
 *         off) sets its pending bit and is delivered when the guest unmasks. */
#ifndef VMM_PCI_MSIX_H
#define VMM_PCI_MSIX_H

#include "vmm/pci/pci.h"

#define MSIX_MAX_VECTORS 128
#define MSIX_NO_VECTOR	 0xffff /* VIRTIO_MSI_NO_VECTOR: msix_notify() drops it */

/* n vectors (1..MSIX_MAX_VECTORS) in BAR `bar`, which is added here (MEM32, table at 0, pending bits at half);
 * the capability too.  construct() or plug(), before pci_plug(). */
int msix_init(struct pci_dev *pd, unsigned int n, unsigned int bar, struct err **e);
/* The guest turned MSI-X on. */
bool msix_enabled(const struct pci_dev *pd);
unsigned int msix_n_vectors(const struct pci_dev *pd);
/* Any thread.  A vector past the end is dropped. */
void msix_notify(struct pci_dev *pd, unsigned int vector);

/* An eventfd whose signal is msix_notify(vector) without us: for vhost (irqfd).  The same fd for the same vector;
 * borrowed.  Masks are honoured: while masked a signal becomes a pending bit.  -errno on failure.
 * Register callbacks or main thread. */
int msix_irqfd(struct pci_dev *pd, unsigned int vector, struct err **e);
/* No longer used for this vector; not in use: no effect. */
void msix_irqfd_put(struct pci_dev *pd, unsigned int vector);

#endif
