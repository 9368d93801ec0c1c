/* The hypervisor by KVM.  Spec: Linux Documentation/virt/kvm/api.rst.  See hv_ops.h for order and threads. */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include "vmm/arch/x86/layout.h"
#include "vmm/arch/x86/state.h"
#include "vmm/doorbell.h"
#include "vmm/hv/hv_ops.h"
#include "vmm/machine.h"

struct kvm_host {
	struct hv_vm hv; /* first */
	int kvm_fd, vm_fd;
	bool own_kvm_fd;
	size_t run_size, xsave_size;
	uint32_t n_msrs; /* indices worth saving; read at the first need */
	uint32_t *msrs;
	enum hv_irqchip irqchip;
	bool has_irqchip;
	struct kvm_irq_routing *routing; /* scratch */
};

struct kvm_cpu {
	struct hv_vcpu hv; /* first */
	int fd;
	struct kvm_run *run;
};

static struct kvm_host *host_of(struct hv_vm *h)
{
	return (struct kvm_host *)h;
}
static struct kvm_cpu *cpu_of(struct hv_vcpu *c)
{
	return (struct kvm_cpu *)c;
}

static int kioctl(int fd, unsigned long nr, const void *arg)
{
	int r;

	do
		r = ioctl(fd, nr, arg);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}
#define kioctl_n(fd, nr, n) kioctl(fd, nr, (void *)(unsigned long)(n))

static void host_free(struct hv_vm *h)
{
	struct kvm_host *k = host_of(h);

	if (!k)
		return;
	safe_close(k->vm_fd);
	if (k->own_kvm_fd)
		safe_close(k->kvm_fd);
	free(k->msrs);
	free(k->routing);
	free(k);
}

static bool is_intel(void)
{
	unsigned int a = 0, b, c = 0, d;

	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	return b == 0x756e6547; /* "Genu" */
}

static int host_new(int fd, struct hv_vm **ret, struct err **e)
{
	struct kvm_host *k = calloc(1, sizeof(*k));
	int r;

	if (!k)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	k->hv.ops = &hv_kvm;
	k->vm_fd = -1;
	k->own_kvm_fd = fd < 0;
	k->kvm_fd = fd >= 0 ? fd : open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (k->kvm_fd < 0) {
		r = -errno;
		host_free(&k->hv);
		return err_set(
			e, -r, "kvm.missing",
			"open /dev/kvm: %s; is the kvm module loaded, and may this user open it?",
			strerror(-r));
	}
	r = kioctl_n(k->kvm_fd, KVM_GET_API_VERSION, 0);
	if (r != KVM_API_VERSION) {
		host_free(&k->hv);
		return err_set(e, ENOTSUP, "kvm.version", "KVM speaks API version %d, not %d", r,
			       KVM_API_VERSION);
	}
	r = kioctl_n(k->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (r >= 0) {
		k->run_size = (size_t)r;
		r = kioctl_n(k->kvm_fd, KVM_CREATE_VM, 0);
	}
	if (r < 0) {
		host_free(&k->hv);
		return err_sys(e, -r, "make a KVM virtual machine");
	}
	k->vm_fd = r;
	fcntl(k->vm_fd, F_SETFD, FD_CLOEXEC);
	if (is_intel()) {
		uint64_t map = IDENTITY_MAP;

		/* Without unrestricted guest, real mode needs both; ignored elsewhere. */
		kioctl(k->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &map);
		kioctl_n(k->vm_fd, KVM_SET_TSS_ADDR, TSS_BASE);
	}
	*ret = &k->hv;
	return 0;
}

static int host_memslot(struct hv_vm *h, uint32_t slot, gpa_t gpa, uint64_t size, void *host,
			bool readonly, bool log, struct err **e)
{
	struct kvm_userspace_memory_region r = {
		.slot = slot,
		.flags = (readonly ? KVM_MEM_READONLY : 0) | (log ? KVM_MEM_LOG_DIRTY_PAGES : 0),
		.guest_phys_addr = gpa,
		.memory_size = size,
		.userspace_addr = (uint64_t)(uintptr_t)host,
	};
	int ret = kioctl(host_of(h)->vm_fd, KVM_SET_USER_MEMORY_REGION, &r);

	return ret < 0 ? err_sys(e, -ret, "give KVM %llu KiB of memory at 0x%llx",
				 (unsigned long long)size / 1024, (unsigned long long)gpa)
		       : 0;
}

static int host_irqchip(struct hv_vm *h, enum hv_irqchip kind, struct err **e)
{
	struct kvm_host *k = host_of(h);
	int r;

	k->irqchip = kind;
	k->has_irqchip = true;
	if (kind == HV_IRQCHIP_SPLIT) {
		struct kvm_enable_cap cap = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args = { IRQ_PINS } };

		r = kioctl(k->vm_fd, KVM_ENABLE_CAP, &cap);
		return r < 0 ? err_sys(e, -r, "make a split irqchip") : 0;
	}
	r = kioctl_n(k->vm_fd, KVM_CREATE_IRQCHIP, 0);
	if (r == 0) {
		/* The speaker port belongs to the PIT here: firmware measures time through port 0x61. */
		struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };

		r = kioctl(k->vm_fd, KVM_CREATE_PIT2, &pit);
	}
	return r < 0 ? err_sys(e, -r, "make the in-kernel interrupt chips") : 0;
}

static int host_msi(struct hv_vm *h, uint64_t addr, uint32_t data)
{
	struct kvm_msi m = { .address_lo = (uint32_t)addr,
			     .address_hi = (uint32_t)(addr >> 32),
			     .data = data };
	int r = kioctl(host_of(h)->vm_fd, KVM_SIGNAL_MSI, &m);

	return r < 0 ? r : 0; /* 0: blocked by the guest, 1: delivered */
}

static int host_line(struct hv_vm *h, unsigned int gsi, bool level)
{
	struct kvm_irq_level l = { .irq = gsi, .level = level };

	return kioctl(host_of(h)->vm_fd, KVM_IRQ_LINE, &l);
}

static int host_routes(struct hv_vm *h, const struct hv_route *route, unsigned int n)
{
	struct kvm_host *k = host_of(h);
	struct kvm_irq_routing *t;

	/* A pin of the full chip below 16 reaches the PIC too: two entries for one GSI. */
	t = realloc(k->routing, sizeof(*t) + (n + 16) * sizeof(t->entries[0]));
	if (!t)
		return -ENOMEM;
	k->routing = t;
	memset(t, 0, sizeof(*t) + (n + 16) * sizeof(t->entries[0]));
	for (unsigned int i = 0; i < n; i++) {
		struct kvm_irq_routing_entry *x = &t->entries[t->nr];

		switch (route[i].kind) {
		case HV_ROUTE_NONE:
			continue;
		case HV_ROUTE_MSI:
			x->type = KVM_IRQ_ROUTING_MSI;
			x->u.msi.address_lo = (uint32_t)route[i].addr;
			x->u.msi.address_hi = (uint32_t)(route[i].addr >> 32);
			x->u.msi.data = route[i].data;
			break;
		case HV_ROUTE_PIC:
		case HV_ROUTE_IOAPIC:
			if (route[i].pin < 16) {
				x->gsi = i;
				x->type = KVM_IRQ_ROUTING_IRQCHIP;
				x->u.irqchip.irqchip = route[i].pin < 8 ? KVM_IRQCHIP_PIC_MASTER
									: KVM_IRQCHIP_PIC_SLAVE;
				x->u.irqchip.pin = route[i].pin % 8;
				x = &t->entries[++t->nr];
			}
			x->type = KVM_IRQ_ROUTING_IRQCHIP;
			x->u.irqchip.irqchip = KVM_IRQCHIP_IOAPIC;
			/* ISA IRQ 0, the PIT, is wired to pin 2 (the MADT says so). */
			x->u.irqchip.pin = route[i].pin == 0 ? 2 : route[i].pin;
			if (route[i].pin == 2) { /* the cascade: no pin of its own */
				t->nr--;
				memset(&t->entries[t->nr], 0, 2 * sizeof(*x));
				continue;
			}
			break;
		}
		x->gsi = i;
		t->nr++;
	}
	return kioctl(k->vm_fd, KVM_SET_GSI_ROUTING, t);
}

static int host_irqfd(struct hv_vm *h, unsigned int gsi, int fd, bool on)
{
	struct kvm_irqfd x = { .fd = (uint32_t)fd,
			       .gsi = gsi,
			       .flags = on ? 0 : KVM_IRQFD_FLAG_DEASSIGN };

	return kioctl(host_of(h)->vm_fd, KVM_IRQFD, &x);
}

static int host_ioeventfd(struct hv_vm *h, const struct doorbell *d, bool on)
{
	struct kvm_ioeventfd x = {
		.datamatch = d->data,
		.addr = d->addr,
		.len = d->size,
		.fd = d->fd,
		.flags = (d->pio ? KVM_IOEVENTFD_FLAG_PIO : 0) |
			 (d->match ? KVM_IOEVENTFD_FLAG_DATAMATCH : 0) |
			 (on ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN),
	};

	return kioctl(host_of(h)->vm_fd, KVM_IOEVENTFD, &x);
}

static int host_dirty_log(struct hv_vm *h, uint32_t slot, uint64_t *bitmap, size_t words)
{
	uint64_t *mine = calloc(words, sizeof(*mine));
	struct kvm_dirty_log l = { .slot = slot, .dirty_bitmap = mine };
	int r;

	if (!mine)
		return -ENOMEM;
	r = kioctl(host_of(h)->vm_fd, KVM_GET_DIRTY_LOG, &l);
	for (size_t i = 0; r == 0 && i < words; i++)
		bitmap[i] |= mine[i];
	free(mine);
	return r;
}

static int cpu_new(struct hv_vm *h, unsigned int id, struct hv_vcpu **ret, struct err **e)
{
	struct kvm_host *k = host_of(h);
	struct kvm_cpu *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	c->hv = (struct hv_vcpu){ .ops = &hv_kvm, .vm = h, .id = id };
	c->fd = kioctl_n(k->vm_fd, KVM_CREATE_VCPU, id);
	if (c->fd < 0) {
		r = c->fd;
		free(c);
		return err_sys(e, -r, "make vCPU %u", id);
	}
	fcntl(c->fd, F_SETFD, FD_CLOEXEC);
	c->run = mmap(NULL, k->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, c->fd, 0);
	if (c->run == MAP_FAILED) {
		r = -errno;
		close(c->fd);
		free(c);
		return err_sys(e, -r, "map vCPU %u", id);
	}
	*ret = &c->hv;
	return 0;
}

static void cpu_free(struct hv_vcpu *v)
{
	struct kvm_cpu *c = cpu_of(v);

	if (!c)
		return;
	munmap(c->run, host_of(v->vm)->run_size);
	safe_close(c->fd);
	free(c);
}

static void fail(struct hv_exit *x, struct kvm_cpu *c, const char *what, unsigned long long a,
		 unsigned long long b)
{
	struct kvm_regs regs = { 0 };

	kioctl(c->fd, KVM_GET_REGS, &regs);
	x->kind = HV_EXIT_FAIL;
	snprintf(x->why, sizeof(x->why), "%s %llu (0x%llx) at rip 0x%llx", what, a, b,
		 (unsigned long long)regs.rip);
}

static void cpu_run(struct hv_vcpu *v, struct hv_exit *x)
{
	struct kvm_cpu *c = cpu_of(v);
	struct kvm_run *run = c->run;
	int r = ioctl(c->fd, KVM_RUN, 0);

	if (r < 0) {
		if (errno == EINTR || errno == EAGAIN) {
			x->kind = run->immediate_exit ? HV_EXIT_KICKED : HV_EXIT_OTHER;
			return;
		}
		fail(x, c, "KVM_RUN failed with error", (unsigned long long)errno, 0);
		return;
	}
	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		x->kind = HV_EXIT_PIO;
		x->write = run->io.direction == KVM_EXIT_IO_OUT;
		x->size = run->io.size;
		x->count = run->io.count;
		x->addr = run->io.port;
		x->data = (uint8_t *)run + run->io.data_offset;
		break;
	case KVM_EXIT_MMIO:
		x->kind = HV_EXIT_MMIO;
		x->write = run->mmio.is_write;
		x->size = (uint8_t)run->mmio.len;
		x->count = 1;
		x->addr = run->mmio.phys_addr;
		x->data = run->mmio.data;
		break;
	case KVM_EXIT_IOAPIC_EOI:
		x->kind = HV_EXIT_EOI;
		x->addr = run->eoi.vector;
		break;
	case KVM_EXIT_HLT:
		x->kind = HV_EXIT_HLT;
		break;
	case KVM_EXIT_SHUTDOWN:
		x->kind = HV_EXIT_SHUTDOWN;
		break;
	case KVM_EXIT_INTR:
		x->kind = run->immediate_exit ? HV_EXIT_KICKED : HV_EXIT_OTHER;
		break;
	case KVM_EXIT_IRQ_WINDOW_OPEN:
	case KVM_EXIT_SET_TPR:
		x->kind = HV_EXIT_OTHER;
		break;
	case KVM_EXIT_SYSTEM_EVENT:
		x->kind = HV_EXIT_SHUTDOWN;
		break;
	case KVM_EXIT_FAIL_ENTRY:
		fail(x, c, "entry to the guest failed with reason",
		     run->fail_entry.hardware_entry_failure_reason,
		     run->fail_entry.hardware_entry_failure_reason);
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		fail(x, c, "KVM internal error", run->internal.suberror,
		     run->internal.ndata > 1 ? run->internal.data[1] : 0);
		break;
	default:
		fail(x, c, "unknown exit", run->exit_reason, 0);
	}
}

static void cpu_kick(struct hv_vcpu *v, bool on)
{
	__atomic_store_n(&cpu_of(v)->run->immediate_exit, on, __ATOMIC_SEQ_CST);
}

static int host_cpuid_supported(struct hv_vm *h, struct x86_cpuid **ret, struct err **e)
{
	struct kvm_cpuid2 *k = calloc(1, sizeof(*k) + X86_MAX_CPUID * sizeof(k->entries[0]));
	struct x86_cpuid *id = calloc(1, sizeof(*id));
	int r = -ENOMEM;

	if (k && id) {
		k->nent = X86_MAX_CPUID;
		r = kioctl(host_of(h)->kvm_fd, KVM_GET_SUPPORTED_CPUID, k);
	}
	if (r >= 0) {
		id->n = k->nent;
		memcpy(id->e, k->entries, k->nent * sizeof(id->e[0]));
		*ret = TAKE(id);
	}
	free(k);
	free(id);
	return r < 0 ? err_sys(e, -r, "ask KVM for its CPU features") : 0;
}

static int cpu_set_cpuid(struct hv_vcpu *v, const struct x86_cpuid *id, struct err **e)
{
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 e[X86_MAX_CPUID];
	} k = { .head.nent = id->n };
	int r;

	memcpy(k.e, id->e, id->n * sizeof(id->e[0]));
	r = kioctl(cpu_of(v)->fd, KVM_SET_CPUID2, &k);
	return r < 0 ? err_sys(e, -r, "set the CPU features of vCPU %u", v->id) : 0;
}

/* Which MSRs make up a vCPU's state: what KVM lists, less what it then refuses to read. */
static int learn_msrs(struct kvm_host *k, int vcpu_fd)
{
	struct kvm_msr_list probe = { 0 }, *l;

	if (k->msrs)
		return 0;
	kioctl(k->kvm_fd, KVM_GET_MSR_INDEX_LIST, &probe); /* E2BIG, and tells the number */
	l = calloc(1, sizeof(*l) + probe.nmsrs * sizeof(l->indices[0]));
	k->msrs = calloc(probe.nmsrs + 1, sizeof(*k->msrs));
	if (!l || !k->msrs) {
		free(l);
		return -ENOMEM;
	}
	l->nmsrs = probe.nmsrs;
	if (kioctl(k->kvm_fd, KVM_GET_MSR_INDEX_LIST, l) < 0)
		l->nmsrs = 0;
	for (uint32_t i = 0; i < l->nmsrs && k->n_msrs < X86_MAX_MSRS; i++) {
		struct {
			struct kvm_msrs head;
			struct kvm_msr_entry e;
		} m = { .head.nmsrs = 1, .e.index = l->indices[i] };

		/* One that reads but cannot be written back is no state. */
		if (kioctl(vcpu_fd, KVM_GET_MSRS, &m) == 1 &&
		    kioctl(vcpu_fd, KVM_SET_MSRS, &m) == 1)
			k->msrs[k->n_msrs++] = l->indices[i];
	}
	free(l);
	return 0;
}

struct msr_block {
	struct kvm_msrs head;
	struct kvm_msr_entry e[X86_MAX_MSRS];
};

static int get_msrs(struct kvm_cpu *c, struct x86_vcpu_state *s)
{
	struct kvm_host *k = host_of(c->hv.vm);
	struct msr_block *m;
	int r = learn_msrs(k, c->fd);

	if (r < 0)
		return r;
	m = calloc(1, sizeof(*m));
	if (!m)
		return -ENOMEM;
	m->head.nmsrs = k->n_msrs;
	for (uint32_t i = 0; i < k->n_msrs; i++)
		m->e[i].index = k->msrs[i];
	r = kioctl(c->fd, KVM_GET_MSRS, m);
	if (r >= 0 && (uint32_t)r < k->n_msrs)
		r = -EIO;
	if (r >= 0) {
		s->n_msrs = k->n_msrs;
		memcpy(s->msrs, m->e, k->n_msrs * sizeof(m->e[0]));
		r = 0;
	}
	free(m);
	return r;
}

/* The deadline timer last: it is armed against the TSC and the APIC mode, which must be there. */
static int set_msrs(struct kvm_cpu *c, const struct x86_vcpu_state *s, uint32_t *bad)
{
	struct msr_block *m = calloc(1, sizeof(*m));
	uint32_t n = 0;
	int r;

	if (!m)
		return -ENOMEM;
	for (int pass = 0; pass < 2; pass++)
		for (uint32_t i = 0; i < s->n_msrs; i++)
			if ((s->msrs[i].index == 0x6e0) == (pass == 1))
				m->e[n++] = s->msrs[i];
	m->head.nmsrs = n;
	r = kioctl(c->fd, KVM_SET_MSRS, m);
	if (r >= 0 && (uint32_t)r < n) {
		*bad = m->e[r].index;
		r = -EINVAL;
	}
	free(m);
	return r < 0 ? r : 0;
}

static size_t xsave_size(struct kvm_host *k)
{
	if (!k->xsave_size) {
		int r = kioctl_n(k->vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2);

		k->xsave_size = r > (int)sizeof(struct kvm_xsave) ? (size_t)r
								  : sizeof(struct kvm_xsave);
	}
	return k->xsave_size;
}

static int cpu_get(struct hv_vcpu *v, struct x86_vcpu_state *s, struct err **e)
{
	struct kvm_cpu *c = cpu_of(v);
	struct kvm_host *k = host_of(v->vm);
	const char *what = "state of the floating point unit";
	int r;

	if (xsave_size(k) > sizeof(s->xsave))
		return err_set(e, ENOTSUP, "kvm.xsave",
			       "the host's extended CPU state is too large (%zu)", k->xsave_size);
	s->xsave_len = (uint32_t)k->xsave_size;
	r = kioctl(c->fd, k->xsave_size > sizeof(struct kvm_xsave) ? KVM_GET_XSAVE2 : KVM_GET_XSAVE,
		   s->xsave);
#define GET(nr, field)                            \
	if (r >= 0) {                             \
		what = #nr;                       \
		r = kioctl(c->fd, nr, &s->field); \
	}
	/* MP state first: reading it makes KVM settle pending INIT and SIPI. */
	GET(KVM_GET_MP_STATE, mp);
	GET(KVM_GET_XCRS, xcrs);
	GET(KVM_GET_SREGS, sregs);
	GET(KVM_GET_REGS, regs);
	GET(KVM_GET_DEBUGREGS, debug);
	if (k->has_irqchip)
		GET(KVM_GET_LAPIC, lapic);
	GET(KVM_GET_VCPU_EVENTS, events);
#undef GET
	if (r >= 0) {
		what = "model-specific registers";
		r = get_msrs(c, s);
	}
	if (r < 0)
		return err_sys(e, -r, "read vCPU %u: %s", v->id, what);
	r = kioctl_n(c->fd, KVM_GET_TSC_KHZ, 0);
	s->tsc_khz = r > 0 ? (uint32_t)r : 0;
	s->valid = X86_STATE_REGS | X86_STATE_SREGS | X86_STATE_XCRS | X86_STATE_XSAVE |
		   X86_STATE_MSRS | X86_STATE_EVENTS | X86_STATE_DEBUG | X86_STATE_MP |
		   (k->has_irqchip ? X86_STATE_LAPIC : 0);
	return 0;
}

static int cpu_set(struct hv_vcpu *v, const struct x86_vcpu_state *s, struct err **e)
{
	struct kvm_cpu *c = cpu_of(v);
	const char *what = "";
	uint32_t bad_msr = 0;
	int r = 0;

#define SET(bit, nr, arg)                   \
	if (r >= 0 && s->valid & (bit)) {   \
		what = #nr;                 \
		r = kioctl(c->fd, nr, arg); \
	}
	SET(X86_STATE_SREGS, KVM_SET_SREGS, &s->sregs);
	SET(X86_STATE_XCRS, KVM_SET_XCRS, &s->xcrs);
	SET(X86_STATE_XSAVE, KVM_SET_XSAVE, s->xsave);
	SET(X86_STATE_FPU, KVM_SET_FPU, &s->fpu);
	SET(X86_STATE_REGS, KVM_SET_REGS, &s->regs);
	SET(X86_STATE_LAPIC, KVM_SET_LAPIC, &s->lapic);
	if (r >= 0 && s->valid & X86_STATE_MSRS) {
		what = "model-specific registers";
		r = set_msrs(c, s, &bad_msr);
	}
	SET(X86_STATE_EVENTS, KVM_SET_VCPU_EVENTS, &s->events);
	SET(X86_STATE_DEBUG, KVM_SET_DEBUGREGS, &s->debug);
	SET(X86_STATE_MP, KVM_SET_MP_STATE, &s->mp);
#undef SET
	if (r == -EINVAL && bad_msr)
		return err_set(e, EINVAL, "kvm.msr", "set vCPU %u: this host refuses MSR 0x%x",
			       v->id, bad_msr);
	return r < 0 ? err_sys(e, -r, "set vCPU %u: %s", v->id, what) : 0;
}

static int cpu_tsc_khz(struct hv_vcpu *v)
{
	int r = kioctl_n(cpu_of(v)->fd, KVM_GET_TSC_KHZ, 0);

	return r > 0 ? r : 0;
}

static int host_get(struct hv_vm *h, struct x86_vm_state *s, struct err **e)
{
	struct kvm_host *k = host_of(h);
	int r = kioctl(k->vm_fd, KVM_GET_CLOCK, &s->clock);

	s->has_clock = r >= 0;
	if (r >= 0 && k->has_irqchip && k->irqchip == HV_IRQCHIP_FULL) {
		for (uint32_t i = 0; i < 3 && r >= 0; i++) {
			s->chip[i].chip_id = i;
			r = kioctl(k->vm_fd, KVM_GET_IRQCHIP, &s->chip[i]);
		}
		if (r >= 0)
			r = kioctl(k->vm_fd, KVM_GET_PIT2, &s->pit);
		s->has_irqchip = true;
	}
	return r < 0 ? err_sys(e, -r, "read the state of the interrupt chips and the clock") : 0;
}

static int host_set(struct hv_vm *h, const struct x86_vm_state *s, struct err **e)
{
	struct kvm_host *k = host_of(h);
	int r = 0;

	if (s->has_irqchip != (k->has_irqchip && k->irqchip == HV_IRQCHIP_FULL))
		return err_set(e, EINVAL, "snapshot.irqchip", "saved with another kind of irqchip");
	for (uint32_t i = 0; s->has_irqchip && i < 3 && r >= 0; i++)
		r = kioctl(k->vm_fd, KVM_SET_IRQCHIP, &s->chip[i]);
	if (r >= 0 && s->has_irqchip)
		r = kioctl(k->vm_fd, KVM_SET_PIT2, &s->pit);
	if (r >= 0 && s->has_clock) {
		struct kvm_clock_data c = { .clock = s->clock.clock };

		/* The guest's clock goes on where it stood. */
		r = kioctl(k->vm_fd, KVM_SET_CLOCK, &c);
	}
	return r < 0 ? err_sys(e, -r, "set the state of the interrupt chips and the clock") : 0;
}

static void cpu_paused(struct hv_vcpu *v)
{
	kioctl_n(cpu_of(v)->fd, KVM_KVMCLOCK_CTRL, 0); /* EINVAL: the guest does not use kvmclock */
}

const struct hv_ops hv_kvm = {
	.name = "kvm",
	.vm_new = host_new,
	.vm_free = host_free,
	.memslot = host_memslot,
	.irqchip = host_irqchip,
	.msi = host_msi,
	.line = host_line,
	.routes = host_routes,
	.irqfd = host_irqfd,
	.ioeventfd = host_ioeventfd,
	.dirty_log = host_dirty_log,
	.vcpu_new = cpu_new,
	.vcpu_free = cpu_free,
	.vcpu_run = cpu_run,
	.vcpu_kick = cpu_kick,
	.cpuid_supported = host_cpuid_supported,
	.vcpu_set_cpuid = cpu_set_cpuid,
	.vcpu_get = cpu_get,
	.vcpu_set = cpu_set,
	.vcpu_tsc_khz = cpu_tsc_khz,
	.vm_get = host_get,
	.vm_set = host_set,
	.vcpu_paused = cpu_paused,
};
