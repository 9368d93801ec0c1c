/* A guest's virtio-pci driver for tests: finds the capabilities in config space, negotiates, sets queues up, kicks
 * doorbells and counts MSI-X messages, all through the same buses as a vCPU would, on the fake hypervisor. */
#ifndef TEST_VMM_GUEST_H
#define TEST_VMM_GUEST_H

#include "drv.h"
#include "vmm/device_ops.h"
#include "vmm/pci/pci.h"
#include "vmm/vm.h"

#define GUEST_RAM    (16 * MIB)
#define GUEST_QUEUES 40

struct guest {
	struct vm *vm;
	struct dev *dev;
	struct drv_mem mem;
	uint64_t common, notify, isr, config; /* addresses of the register structures */
	uint32_t notify_mult;
	unsigned int pci_cfg_cap;
	uint64_t features; /* offered */
	unsigned int n_queues;
	struct drv_queue q[GUEST_QUEUES];
	size_t msis_seen;
};

/* A machine with one device; plugged, resumed, bus mastering and MSI-X on. */
void guest_open(struct guest *g, const struct device_ops *ops, const struct vm_device *cfg);
void guest_close(struct guest *g);
/* The same machine with another device from the same config, loaded with the first one's saved state. */
void guest_move(struct guest *g, const struct vm_device *cfg);

uint64_t guest_read(struct guest *g, uint64_t addr, unsigned int size);
void guest_write(struct guest *g, uint64_t addr, unsigned int size, uint64_t v);
uint8_t guest_status(struct guest *g);
/* Reset, acknowledge, accept `features` of what is offered (VERSION_1 is added), set all queues up with at most
 * `size` entries, DRIVER_OK.  Returns the status read back. */
uint8_t guest_start(struct guest *g, uint64_t features, uint16_t size);
void guest_kick(struct guest *g, unsigned int q);
/* Let the I/O loop run until nothing happens for `idle`. */
void guest_run(struct guest *g, nsec_t idle);
/* Interrupts that came since the last call. */
unsigned int guest_interrupts(struct guest *g);
uint64_t guest_stat(struct guest *g, const char *name);
/* Make a chain available, kick if asked for, run, return the used length; fails the test when it does not come
 * back within a second. */
uint32_t guest_do(struct guest *g, unsigned int q, const struct drv_buf *out, unsigned int n_out,
		  const struct drv_buf *in, unsigned int n_in);
struct drv_buf guest_buf(struct guest *g, const void *data, uint32_t len); /* data NULL: zeroes */

#endif
