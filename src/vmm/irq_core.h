/* What the machine and the IOAPIC need of irq.c besides irq.h. */
#ifndef VMM_IRQ_CORE_H
#define VMM_IRQ_CORE_H

#include "vmm/hv/hv_ops.h"
#include "vmm/irq.h"

int irq_core_init(struct vm *vm, enum hv_irqchip kind, struct err **e);
void irq_core_done(struct vm *vm);
/* Tell the hypervisor which vectors are level interrupts of the IOAPIC here, so that it reports their end
 * (HV_EXIT_EOI).  Edge pins need no route: they are sent with irq_msi(). */
void irq_set_pin_route(struct vm *vm, unsigned int pin, bool level_triggered, uint64_t addr,
		       uint32_t data);

#endif
