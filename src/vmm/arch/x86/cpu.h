/* Set-up of virtual CPUs: features, entry state, reset. */
#ifndef VMM_ARCH_X86_CPU_H
#define VMM_ARCH_X86_CPU_H

#include "base/err.h"
#include "base/types.h"

struct vm;
struct x86_cpuid;
struct x86_vcpu_state;

enum x86_mode {
	X86_RESET,  /* the reset vector: firmware */
	X86_REAL,   /* real mode at rip (segment 0) */
	X86_PROT32, /* flat 32-bit protected mode, paging off */
	X86_LONG64, /* 64-bit, identity-mapped by the tables at BOOT_PAGETABLES */
};

struct x86_entry {
	enum x86_mode mode;
	uint64_t rip, rax, rbx, rsi, rdi, rsp;
};

/* Physical address bits of the host CPU. */
unsigned int x86_phys_bits(void);
/* Features and topology of every vCPU. */
int x86_setup_vcpus(struct vm *vm, struct err **e);
/* The boot CPU starts here; the mode's tables in guest memory are written too. */
int x86_set_entry(struct vm *vm, const struct x86_entry *entry, struct err **e);
/* Every vCPU, and the in-kernel chips, as right after they were made. */
int x86_reset_vcpus(struct vm *vm, struct err **e);
/* CPUID of vCPU `id` among n, made from what the hypervisor offers; *t is changed in place. */
void x86_cpuid_for(struct x86_cpuid *t, unsigned int id, unsigned int n, unsigned int tsc_khz);

/* May a guest that was told `saved` go on on a host that offers `here`?  -ENOTSUP with the first feature missing. */
int x86_cpuid_compatible(const struct x86_cpuid *saved, const struct x86_cpuid *here,
			 struct err **e);

#endif
