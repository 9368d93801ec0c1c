/* Virtual CPUs: a thread each, which runs the guest and answers its exits.
 *
 * Parking: vcpus_park() sets the flag, kicks every thread (immediate_exit and a signal), then waits until all have
 * arrived; a parked vCPU has no I/O half done, so its state can be read and written from the main thread. */
#ifndef VMM_VCPU_H
#define VMM_VCPU_H

#include <pthread.h>
#include <stdatomic.h>
#include "vmm/hv/hv_ops.h"

struct vm;

#define VCPU_SIGNAL SIGUSR1

struct vcpu {
	struct vm *vm;
	struct hv_vcpu *hv;
	unsigned int id;
	pthread_t thread;
	bool started;
	bool stopped; /* by a fault of the guest; a reset clears it (parked) */
	_Atomic uint64_t exits[HV_EXIT_KINDS]; /* by reason; written by the thread alone */
};

/* Make n vCPUs in the hypervisor; no threads yet. */
int vcpus_new(struct vm *vm, unsigned int n, struct err **e);
/* Start the threads; they park at once when vm->park is set. */
int vcpus_start(struct vm *vm, struct err **e);
void vcpus_park(struct vm *vm); /* all parked when it returns; not started or parked: no effect */
void vcpus_go(struct vm *vm);
void vcpus_free(struct vm *vm); /* ends and joins the threads */

#endif
