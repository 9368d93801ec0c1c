/* Controls of the fake hypervisor: tests read what the machine asked for and script what vCPUs do. */
#ifndef VMM_HV_FAKE_H
#define VMM_HV_FAKE_H

#include <pthread.h>
#include "base/vec.h"
#include "vmm/doorbell.h"
#include "vmm/hv/hv_ops.h"

struct fake_msi {
	uint64_t addr;
	uint32_t data;
};
struct fake_slot {
	uint32_t slot;
	gpa_t gpa;
	uint64_t size;
	bool readonly, log;
};
struct fake_fd {
	unsigned int gsi;
	int fd;
};

struct fake_vm {
	struct hv_vm hv;      /* first */
	pthread_mutex_t lock; /* msis: devices signal from any thread */
	VEC(struct fake_msi) msis;
	VEC(struct fake_slot) slots;
	VEC(struct fake_fd) irqfds;
	VEC(struct doorbell) doorbells;
	struct hv_route routes[64];
	unsigned int n_routes, n_route_updates;
	bool has_irqchip;
	enum hv_irqchip irqchip;
	bool lines[24];
	unsigned int fail_after; /* n > 0: the n-th call from now that can fail fails with -EIO */
};

/* A scripted exit: what vcpu_run() gives next.  data: for writes, what the guest writes; after a read, what we
 * answered. */
struct fake_exit {
	enum hv_exit_kind kind;
	bool write;
	uint8_t size;
	uint64_t addr, data;
};

struct fake_vcpu {
	struct hv_vcpu hv;
	VEC(struct fake_exit) script;
	size_t next;
	uint8_t buf[8];
	bool reading;
	_Atomic bool kicked;
	struct x86_vcpu_state *state;
};

static inline struct fake_vm *fake_vm_of(struct hv_vm *h)
{
	return (struct fake_vm *)h;
}
static inline struct fake_vcpu *fake_vcpu_of(struct hv_vcpu *c)
{
	return (struct fake_vcpu *)c;
}

#endif
