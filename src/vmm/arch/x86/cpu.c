/* See cpu.h.  Spec: Intel SDM 3A (3.4, 4.5, 9.1), AMD APM 2; KVM's and VMware's CPUID leaves. */
#include <cpuid.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "vmm/arch/x86/cpu.h"
#include "vmm/arch/x86/layout.h"
#include "vmm/arch/x86/state.h"
#include "vmm/machine.h"
#include "vmm/vcpu.h"

#define MSR_TSC		0x10
#define MSR_MISC_ENABLE 0x1a0
#define MSR_MTRR_DEF	0x2ff

unsigned int x86_phys_bits(void)
{
	unsigned int a, b, c, d;

	return __get_cpuid(0x80000008, &a, &b, &c, &d) ? a & 0xff : 36;
}

void x86_cpuid_for(struct x86_cpuid *t, unsigned int id, unsigned int n, unsigned int tsc_khz)
{
	unsigned int shift = 0;
	bool timing = false;

	while (1U << shift < n)
		shift++;
	for (uint32_t i = 0; i < t->n; i++) {
		struct kvm_cpuid_entry2 *x = &t->e[i];

		switch (x->function) {
		case 0x1:
			x->ebx = (x->ebx & 0xff00ffff & 0x00ffffff) | id << 24 |
				 (n > 1 ? n << 16 : 1U << 16);
			x->ecx |= 1U << 31; /* a hypervisor is present */
			x->edx = n > 1 ? x->edx | 1U << 28 : x->edx & ~(1U << 28);
			break;
		case 0x4: /* caches: L1 and L2 a core, L3 shared by all */
			x->eax &= 0x3fff;
			if ((x->eax & 0x1f) && (x->eax >> 5 & 7) >= 3)
				x->eax |= (n - 1) << 14;
			x->eax |= ((1U << shift) - 1) << 26;
			break;
		case 0xb:
		case 0x1f: /* one thread a core, all cores in one package */
			x->edx = id;
			x->ecx = x->index & 0xff;
			if (x->index == 0) {
				x->eax = 0;
				x->ebx = 1;
				x->ecx |= 1 << 8;
			} else if (x->index == 1) {
				x->eax = shift;
				x->ebx = n;
				x->ecx |= 2 << 8;
			} else {
				x->eax = x->ebx = 0;
			}
			break;
		case 0x80000008:
			x->ecx = (x->ecx & ~0xf0ffU) | shift << 12 | (n - 1);
			break;
		case 0x8000001e:
			x->eax = id;
			x->ebx = id;
			x->ecx = 0;
			break;
		case 0x40000000: /* "KVMKVMKVM": room for the timing leaf */
			x->eax = MAX(x->eax, 0x40000010U);
			break;
		case 0x40000010:
			timing = true;
			break;
		}
	}
	/* Frequencies of the TSC and of the APIC timer, in kHz: the guest need not measure them. */
	if (tsc_khz && !timing && t->n < X86_MAX_CPUID)
		t->e[t->n++] = (struct kvm_cpuid_entry2){ .function = 0x40000010,
							  .eax = tsc_khz,
							  .ebx = 1000000 };
}

int x86_setup_vcpus(struct vm *vm, struct err **e)
{
	_cleanup_(freep) struct x86_cpuid *base = NULL;
	struct x86_cpuid *mine;
	int r;

	if (!vm->cpuid)
		vm->cpuid = calloc(vm->n_vcpus, sizeof(*vm->cpuid));
	mine = vm->cpuid;
	r = mine ? vm->hv->ops->cpuid_supported(vm->hv, &base, e)
		 : err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");

	for (unsigned int i = 0; r == 0 && i < vm->n_vcpus; i++, mine++) {
		struct hv_vcpu *c = vm->vcpus[i].hv;

		*mine = *base;
		x86_cpuid_for(mine, i, vm->n_vcpus, (unsigned int)c->ops->vcpu_tsc_khz(c));
		r = c->ops->vcpu_set_cpuid(c, mine, e);
	}
	return r;
}

static struct kvm_segment segment(uint64_t base, uint32_t limit, uint16_t selector, uint8_t type,
				  bool code64, bool big)
{
	return (struct kvm_segment){ .base = base,
				     .limit = limit,
				     .selector = selector,
				     .type = type,
				     .present = 1,
				     .s = 1,
				     .l = code64,
				     .db = big && !code64,
				     .g = limit > 0xfffff };
}

static int write_tables(struct vm *vm, struct err **e)
{
	uint64_t *p = gmem_ptr(&vm->mem, BOOT_PAGETABLES, 6 * GMEM_PAGE);

	if (!p)
		return err_set(e, EINVAL, "boot.memory", "too little memory for page tables");
	memset(p, 0, 2 * GMEM_PAGE);
	p[0] = (BOOT_PAGETABLES + GMEM_PAGE) | 3;
	for (unsigned int i = 0; i < 4; i++)
		p[512 + i] = (BOOT_PAGETABLES + (2 + i) * GMEM_PAGE) | 3;
	for (unsigned int i = 0; i < 4 * 512; i++)
		p[1024 + i] = (uint64_t)i << 21 | 0x83; /* present, writable, 2 MiB */
	gmem_mark_dirty(&vm->mem, BOOT_PAGETABLES, 6 * GMEM_PAGE);
	return 0;
}

static int write_gdt(struct vm *vm, bool code64, struct err **e)
{
	/* Selectors as Linux's boot protocols want them: 0x10 code, 0x18 data, 0x20 TSS. */
	const uint64_t gdt[] = { 0,
				 0,
				 code64 ? 0x00af9b000000ffff : 0x00cf9b000000ffff,
				 0x00cf93000000ffff,
				 0x00008b0000000067,
				 0 };

	return gmem_write(&vm->mem, BOOT_GDT, gdt, sizeof(gdt)) < 0
		       ? err_set(e, EINVAL, "boot.memory", "too little memory for a GDT")
		       : 0;
}

int x86_set_entry(struct vm *vm, const struct x86_entry *entry, struct err **e)
{
	struct hv_vcpu *c = vm->vcpus[0].hv;
	_cleanup_(freep) struct x86_vcpu_state *s = calloc(1, sizeof(*s));
	bool wide = entry->mode == X86_LONG64;
	int r = 0;

	if (!s)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	if (entry->mode == X86_RESET)
		return 0;
	s->valid = X86_STATE_REGS | X86_STATE_SREGS;
	s->regs = (struct kvm_regs){ .rip = entry->rip,
				     .rflags = 2,
				     .rax = entry->rax,
				     .rbx = entry->rbx,
				     .rsi = entry->rsi,
				     .rdi = entry->rdi,
				     .rsp = entry->rsp };
	s->sregs.apic_base = LAPIC_BASE | 1 << 11 | 1 << 8; /* enabled, boot CPU */
	s->sregs.cr0 = 0x60000010;
	s->sregs.gdt.limit = s->sregs.idt.limit = 0xffff;
	s->sregs.tr = segment(0, 0x67, 0x20, 0xb, false, false);
	s->sregs.tr.s = 0;
	s->sregs.ldt = (struct kvm_segment){ .type = 2, .present = 1, .limit = 0xffff };
	if (entry->mode == X86_REAL) {
		s->sregs.cs = segment(0, 0xffff, 0, 0xb, false, false);
		s->sregs.ds = segment(0, 0xffff, 0, 3, false, false);
		s->sregs.tr.limit = 0xffff;
		s->sregs.tr.selector = 0;
	} else {
		s->sregs.cs = segment(0, 0xffffffff, 0x10, 0xb, wide, true);
		s->sregs.ds = segment(0, 0xffffffff, 0x18, 3, false, true);
		s->sregs.cr0 = 0x11; /* PE, ET */
		s->sregs.gdt = (struct kvm_dtable){ .base = BOOT_GDT, .limit = 6 * 8 - 1 };
		s->sregs.idt = (struct kvm_dtable){ .base = 0, .limit = 0 };
		r = write_gdt(vm, wide, e);
	}
	s->sregs.es = s->sregs.fs = s->sregs.gs = s->sregs.ss = s->sregs.ds;
	if (wide && r == 0) {
		s->sregs.cr3 = BOOT_PAGETABLES;
		s->sregs.cr4 = 0x20; /* PAE */
		s->sregs.cr0 = 0x80000011;
		s->sregs.efer = 0x500; /* LME, LMA */
		r = write_tables(vm, e);
	}
	/* What firmware would have left: fast strings, memory cacheable by default. */
	if (entry->mode != X86_REAL) {
		s->valid |= X86_STATE_MSRS;
		s->msrs[s->n_msrs++] =
			(struct kvm_msr_entry){ .index = MSR_MISC_ENABLE, .data = 1 };
		s->msrs[s->n_msrs++] =
			(struct kvm_msr_entry){ .index = MSR_MTRR_DEF, .data = 0x806 };
	}
	return r < 0 ? r : c->ops->vcpu_set(c, s, e);
}

/* KVM has no reset of a vCPU, and knows best how a fresh one looks: make one, and copy it. */
int x86_reset_vcpus(struct vm *vm, struct err **e)
{
	const struct hv_ops *hv = vm->hv->ops;
	_cleanup_(freep) struct x86_vcpu_state *s = calloc(1, sizeof(*s));
	_cleanup_(freep) struct x86_vm_state *chips = calloc(1, sizeof(*chips));
	struct hv_vm *fresh = NULL;
	struct hv_vcpu *cpu = NULL;
	struct vm scratch = { .hv = NULL };
	struct vcpu one = { 0 };
	int r;

	if (!s || !chips)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	r = hv->vm_new(vm->cfg.kvm_fd, &fresh, e);
	if (r == 0)
		r = hv->irqchip(fresh, vm->irq.kind, e);
	if (r == 0)
		r = hv->vcpu_new(fresh, 0, &cpu, e);
	if (r == 0) {
		one.hv = cpu;
		scratch.hv = fresh;
		scratch.vcpus = &one;
		scratch.n_vcpus = 1;
		r = x86_setup_vcpus(&scratch, e);
	}
	if (r == 0)
		r = hv->vcpu_get(cpu, s, e);
	if (r == 0)
		r = hv->vm_get(fresh, chips, e);
	free(scratch.cpuid);
	hv->vcpu_free(cpu);
	hv->vm_free(fresh);
	if (r < 0)
		return err_wrap(e, r, "learn the reset state");
	chips->has_clock = false; /* goes on */
	for (uint32_t i = 0; i < s->n_msrs; i++)
		if (s->msrs[i].index == MSR_TSC)
			s->msrs[i--] = s->msrs[--s->n_msrs]; /* runs on, in step on all vCPUs */
	for (unsigned int i = 0; i < vm->n_vcpus && r == 0; i++) {
		struct hv_vcpu *c = vm->vcpus[i].hv;
		uint32_t id = i << 24;

		s->sregs.apic_base = LAPIC_BASE | 1 << 11 | (i == 0 ? 1 << 8 : 0);
		memcpy(s->lapic.regs + 0x20, &id, sizeof(id));
		s->mp.mp_state = i == 0 ? KVM_MP_STATE_RUNNABLE : KVM_MP_STATE_UNINITIALIZED;
		for (uint32_t k = 0; k < s->n_msrs; k++)
			if (s->msrs[k].index == 0x1b)
				s->msrs[k].data = s->sregs.apic_base;
		r = c->ops->vcpu_set(c, s, e);
	}
	return r < 0 ? r : hv->vm_set(vm->hv, chips, e);
}

static const struct kvm_cpuid_entry2 *leaf(const struct x86_cpuid *t, uint32_t function)
{
	static const struct kvm_cpuid_entry2 none;

	for (uint32_t i = 0; i < t->n; i++)
		if (t->e[i].function == function && t->e[i].index == 0)
			return &t->e[i];
	return &none;
}

int x86_cpuid_compatible(const struct x86_cpuid *saved, const struct x86_cpuid *here,
			 struct err **e)
{
	/* Leaves of feature bits, and which of their registers hold them. */
	static const struct {
		uint32_t function;
		bool eax, ebx, ecx, edx;
	} features[] = {
		{ 0x1, .ecx = true, .edx = true },
		{ 0x7, .ebx = true, .ecx = true, .edx = true },
		{ 0xd, .eax = true },
		{ 0x80000001, .ecx = true, .edx = true },
		{ 0x80000008, .ebx = true },
	};
	const struct kvm_cpuid_entry2 *a = leaf(saved, 0), *b = leaf(here, 0);

	if (a->ebx != b->ebx || a->ecx != b->ecx || a->edx != b->edx)
		return err_set(e, ENOTSUP, "snapshot.cpu", "saved on a CPU of another maker");
	for (unsigned int i = 0; i < ARRAY_SIZE(features); i++) {
		uint32_t gone;

		a = leaf(saved, features[i].function);
		b = leaf(here, features[i].function);
		gone = (features[i].eax ? a->eax & ~b->eax : 0) |
		       (features[i].ebx ? a->ebx & ~b->ebx : 0) |
		       (features[i].ecx ? a->ecx & ~b->ecx : 0) |
		       (features[i].edx ? a->edx & ~b->edx : 0);
		/* OSXSAVE and OSPKE mirror the guest's CR4 */
		if (features[i].function == 1)
			gone &= ~(1U << 27);
		if (gone)
			return err_set(
				e, ENOTSUP, "snapshot.cpu",
				"saved on another CPU: this one lacks features 0x%x of CPUID leaf 0x%x",
				gone, features[i].function);
	}
	return 0;
}
