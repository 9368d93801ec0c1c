/* Doorbells: guest writes to a fixed address that only have to wake an I/O loop.
 *
 * A doorbell starts as an ordinary register: the first write exits to us, the bus callback signals the eventfd
 * itself and then calls doorbell_promote(), which registers the ioeventfd with the hypervisor; from then on
 * the vCPU does not leave the kernel.  So a VM that never notifies pays nothing, and no ioeventfd is put on
 * KVM's bus while memslots are being made (PERFORMANCE.md 2.3).
 *
 * Thread: register callbacks (device lock held) or the main thread with vCPUs parked. */
#ifndef VMM_DOORBELL_H
#define VMM_DOORBELL_H

#include "base/err.h"
#include "base/types.h"

struct vm;

struct doorbell {
	struct vm *vm; /* set by doorbell_init() */
	uint64_t addr;
	uint32_t size; /* access size in bytes that rings it, 0: any */
	bool pio;
	bool match; /* only writes of `data` ring it */
	uint64_t data;
	int fd; /* eventfd, borrowed: the device's kick */
	bool in_kernel;
};

void doorbell_init(struct doorbell *d, struct vm *vm, int fd);
/* Hand it to the hypervisor at addr (which a moved BAR may have changed: call doorbell_demote() first then).
 * A failure is not an error for the guest: the write goes on exiting.  Returns 0 or -errno for the log. */
int doorbell_promote(struct doorbell *d, uint64_t addr);
/* Take it back; not promoted: no effect. */
void doorbell_demote(struct doorbell *d);

#endif
