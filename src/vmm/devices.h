/* The ops tables of all devices, for devtab.c and machine.c only. */
#ifndef VMM_DEVICES_H
#define VMM_DEVICES_H

struct device_ops;

#endif
