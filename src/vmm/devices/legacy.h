/* Built-in devices that are not on PCI, and the few calls between them and the core. */
#ifndef VMM_DEVICES_LEGACY_H
#define VMM_DEVICES_LEGACY_H

#include "base/buf.h"
#include "base/err.h"
#include "base/types.h"

struct dev;
struct device_ops;

extern const struct device_ops dev_serial;  /* 16550A at 0x3f8, bytes to vm_console() */
extern const struct device_ops dev_rtc;	    /* MC146818 at 0x70 */
extern const struct device_ops dev_i8042;   /* 0x60, 0x64: reset, nothing attached */
extern const struct device_ops dev_acpi_pm; /* PM1, PM timer, GPE0 */
extern const struct device_ops dev_pvpanic; /* 0x505 */
extern const struct device_ops dev_vmgenid;
extern const struct device_ops dev_debug_exit; /* 0xf4, only with --test-devices */
extern const struct device_ops dev_fw_cfg;     /* 0x510 */

/* Main thread. */
void acpi_pm_power_button(struct dev *d);
void acpi_pm_gpe(struct dev *d, unsigned int bit); /* raise a general purpose event */
/* A new generation id; the guest is told by GPE 5. */
void vmgenid_change(struct dev *d);
/* CMOS bytes that firmware reads (memory size, CPUs). */
void rtc_set_cmos(struct dev *d, unsigned int index, uint8_t value);

/* Before the guest runs: items of fw_cfg.  data is taken over (the buf is empty after). */
int fw_cfg_add_file(struct dev *d, const char *name, struct buf *data, struct err **e);
int fw_cfg_add_key(struct dev *d, uint16_t key, const void *data, size_t len, struct err **e);

#endif
