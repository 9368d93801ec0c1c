/* The IOAPIC of the split irqchip.                       Spec: 82093AA data sheet; ICH9, 13.5. */
#ifndef VMM_DEVICES_IOAPIC_H
#define VMM_DEVICES_IOAPIC_H

#include "base/types.h"

struct dev;
struct device_ops;

extern const struct device_ops dev_ioapic;

/* Any thread. */
void ioapic_set_pin(struct dev *d, unsigned int pin, bool level);
/* A vCPU ended the level interrupt `vector`; vCPU thread. */
void ioapic_eoi(struct dev *d, uint8_t vector);

#endif
