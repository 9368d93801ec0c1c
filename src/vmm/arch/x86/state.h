/* Architectural state of vCPUs and of the in-kernel chips, in the kernel's UAPI layouts, which are stable ABI and
 * serve as our saved form too (snapshot.c lists them field by field). */
#ifndef VMM_ARCH_X86_STATE_H
#define VMM_ARCH_X86_STATE_H

#include <linux/kvm.h>
#include "base/save.h"
#include "base/types.h"

#define X86_MAX_CPUID 256
#define X86_MAX_MSRS  512
#define X86_XSAVE_MAX 16384 /* AMX needs 11 KiB */

struct x86_cpuid {
	uint32_t n;
	struct kvm_cpuid_entry2 e[X86_MAX_CPUID];
};

enum {
	X86_STATE_REGS = 1 << 0,
	X86_STATE_SREGS = 1 << 1,
	X86_STATE_FPU = 1 << 2, /* struct kvm_fpu: set-up only; xsave carries it in snapshots */
	X86_STATE_XCRS = 1 << 3,
	X86_STATE_XSAVE = 1 << 4,
	X86_STATE_LAPIC = 1 << 5,
	X86_STATE_MSRS = 1 << 6,
	X86_STATE_EVENTS = 1 << 7,
	X86_STATE_DEBUG = 1 << 8,
	X86_STATE_MP = 1 << 9,
};

struct x86_vcpu_state {
	uint32_t valid;
	uint32_t tsc_khz;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_fpu fpu;
	struct kvm_xcrs xcrs;
	struct kvm_lapic_state lapic;
	struct kvm_vcpu_events events;
	struct kvm_debugregs debug;
	struct kvm_mp_state mp;
	uint32_t n_msrs;
	struct kvm_msr_entry msrs[X86_MAX_MSRS];
	uint32_t xsave_len;
	uint8_t xsave[X86_XSAVE_MAX] __attribute__((aligned(64)));
};

struct x86_vm_state {
	bool has_clock, has_irqchip;
	struct kvm_clock_data clock;
	struct kvm_irqchip chip[3]; /* PIC master, PIC slave, IOAPIC */
	struct kvm_pit_state2 pit;
};

#endif
