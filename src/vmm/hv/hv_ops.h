/* The hypervisor under the machine: what KVM does for us, as one table, so that a fake can stand in.
 * Implementations: hv/kvm.c, hv/fake.c.  Callers: machine.c, vcpu.c, irq.c, doorbell.c, snapshot.c.
 *
 * Order that the machine keeps (PERFORMANCE.md 2.3): vm_new, every memslot, irqchip, vcpu_new, set-up of vCPUs,
 * routes, irqfd, and ioeventfd last.
 * Thread: vcpu_run and the vCPU's state calls on the vCPU's own thread, or on main while it is parked;
 *         vcpu_kick, msi, line any thread; the rest main, or register callbacks where said (routes, irqfd,
 *         ioeventfd).
 * Errors: 0 or -errno; with `e` a text too. */
#ifndef VMM_HV_OPS_H
#define VMM_HV_OPS_H

#include "base/err.h"
#include "base/types.h"

struct doorbell;
struct hv_ops;
struct x86_cpuid;
struct x86_vcpu_state;
struct x86_vm_state;

struct hv_vm {
	const struct hv_ops *ops;
};
struct hv_vcpu {
	const struct hv_ops *ops;
	struct hv_vm *vm;
	unsigned int id;
};

enum hv_irqchip {
	HV_IRQCHIP_SPLIT, /* local APICs in the hypervisor, IOAPIC here */
	HV_IRQCHIP_FULL,  /* PIC, PIT and IOAPIC in the hypervisor too: firmware needs them */
};

enum hv_exit_kind {
	HV_EXIT_PIO,
	HV_EXIT_MMIO,
	HV_EXIT_EOI,	  /* end of a level interrupt of the IOAPIC here */
	HV_EXIT_HLT,	  /* only without irqchip */
	HV_EXIT_SHUTDOWN, /* triple fault */
	HV_EXIT_KICKED,	  /* immediate_exit or a signal; pending I/O is complete */
	HV_EXIT_OTHER,	  /* nothing to do, run on */
	HV_EXIT_FAIL,	  /* cannot go on; why says why */
	HV_EXIT_KINDS,
};

struct hv_exit {
	enum hv_exit_kind kind;
	bool write;
	uint8_t size;	/* PIO, MMIO: bytes an access */
	uint32_t count; /* PIO: string accesses */
	uint64_t addr;	/* port, gpa; EOI: the vector */
	uint8_t *data;	/* size * count bytes; reads are filled in before the next run */
	char why[160];	/* HV_EXIT_FAIL */
};

enum hv_route_kind { HV_ROUTE_NONE, HV_ROUTE_MSI, HV_ROUTE_PIC, HV_ROUTE_IOAPIC };

struct hv_route {
	enum hv_route_kind kind;
	unsigned int pin; /* PIC 0..15, IOAPIC 0..23 */
	uint64_t addr;
	uint32_t data;
};

struct hv_ops {
	const char *name;
	/* fd: an open /dev/kvm that the parent handed in, or -1. */
	int (*vm_new)(int fd, struct hv_vm **ret, struct err **e);
	void (*vm_free)(struct hv_vm *h); /* after all vcpu_free; NULL ok */
	int (*memslot)(struct hv_vm *h, uint32_t slot, gpa_t gpa, uint64_t size, void *host,
		       bool readonly, bool log, struct err **e);
	int (*irqchip)(struct hv_vm *h, enum hv_irqchip kind, struct err **e);
	int (*msi)(struct hv_vm *h, uint64_t addr, uint32_t data);
	int (*line)(struct hv_vm *h, unsigned int gsi, bool level); /* HV_IRQCHIP_FULL only */
	/* The whole table; index is the GSI; HV_ROUTE_NONE entries are holes. */
	int (*routes)(struct hv_vm *h, const struct hv_route *r, unsigned int n);
	int (*irqfd)(struct hv_vm *h, unsigned int gsi, int fd, bool on);
	int (*ioeventfd)(struct hv_vm *h, const struct doorbell *d, bool on);
	/* Or the slot's dirty bits into bitmap and clear them; words: 64 pages each. */
	int (*dirty_log)(struct hv_vm *h, uint32_t slot, uint64_t *bitmap, size_t words);

	int (*vcpu_new)(struct hv_vm *h, unsigned int id, struct hv_vcpu **ret, struct err **e);
	void (*vcpu_free)(struct hv_vcpu *c);
	/* Fills x and returns; never fails by itself: a failure is HV_EXIT_FAIL. */
	void (*vcpu_run)(struct hv_vcpu *c, struct hv_exit *x);
	/* on: the next vcpu_run() completes pending I/O and comes back with HV_EXIT_KICKED.  A thread that is inside
	 * needs a signal besides. */
	void (*vcpu_kick)(struct hv_vcpu *c, bool on);
	/* What the hypervisor offers; *ret is the caller's, freed by free(). */
	int (*cpuid_supported)(struct hv_vm *h, struct x86_cpuid **ret, struct err **e);
	int (*vcpu_set_cpuid)(struct hv_vcpu *c, const struct x86_cpuid *id, struct err **e);
	/* s is zeroed by the caller; get reads all, set writes what s->valid names (X86_STATE_*). */
	int (*vcpu_get)(struct hv_vcpu *c, struct x86_vcpu_state *s, struct err **e);
	int (*vcpu_set)(struct hv_vcpu *c, const struct x86_vcpu_state *s, struct err **e);
	int (*vcpu_tsc_khz)(struct hv_vcpu *c); /* kHz, or 0 when unknown */
	int (*vm_get)(struct hv_vm *h, struct x86_vm_state *s, struct err **e);
	int (*vm_set)(struct hv_vm *h, const struct x86_vm_state *s, struct err **e);
	/* Tell the guest that it was stopped, so that its watchdogs do not fire.  Best effort. */
	void (*vcpu_paused)(struct hv_vcpu *c);
};

extern const struct hv_ops hv_kvm;
extern const struct hv_ops hv_fake; /* its controls: hv/fake.h */

#endif
