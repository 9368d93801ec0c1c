/* Interrupts into the guest: messages (MSI) and lines (IOAPIC pins, and PIC pins where there is one).
 *
 * Devices on PCI use pci/msix.h, which stands on this; ISA-style devices use irq_set().
 *
 * Two ways a message gets in:
 *	irq_msi()        one system call, no set-up: what devices in this process use
 *	irq_route_*      an eventfd that the hypervisor turns into the message (irqfd): for vhost and vhost-user,
 *	                 whose other end signals without us.  A route costs a routing-table update when it changes.
 * Thread: irq_msi, irq_set: any, also while vCPUs run; they never block on a device lock.
 *         irq_route_*: register callbacks or the main thread. */
#ifndef VMM_IRQ_H
#define VMM_IRQ_H

#include "base/err.h"
#include "base/types.h"

struct vm;

/* Deliver the message data to addr (0xfee.....).  0, or -errno (an address that is no message address: the
 * guest's mistake, nothing happens). */
int irq_msi(struct vm *vm, uint64_t addr, uint32_t data);

/* Set the level of a line, GSI 0..23.  Lines of level-triggered pins stay until set to false.  For an edge use
 * irq_pulse(). */
void irq_set(struct vm *vm, unsigned int gsi, bool level);
void irq_pulse(struct vm *vm, unsigned int gsi);

/* An eventfd bound to a message.  Zero it first. */
struct irq_route {
	struct vm *vm;
	int fd; /* the eventfd; owned by the route from irq_route_open() to irq_route_close() */
	unsigned int gsi; /* of the hypervisor's routing table */
	bool open, armed;
};

/* Make the eventfd (r->fd), not yet armed: signals stay in its counter.  -ENOSPC: no GSI left (4096). */
int irq_route_open(struct irq_route *r, struct vm *vm, struct err **e);
/* Deliver to this message from now on; signals that waited are delivered. */
int irq_route_arm(struct irq_route *r, uint64_t addr, uint32_t data, struct err **e);
/* Stop delivery; signals wait in the counter (irq_route_pending()). */
void irq_route_disarm(struct irq_route *r);
bool irq_route_pending(const struct irq_route *r); /* only meaningful while disarmed */
void irq_route_close(struct irq_route *r);	   /* not open: no effect */

#endif
