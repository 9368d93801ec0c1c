/* A counting loop in a throw-away VM; see kvm_probe.h.
 *
 * A watchdog thread sets immediate_exit and signals the vCPU thread when the time is over, so nothing can hang: KVM_RUN returns
 * EINTR, and the loop's counter is read from RBX. */
#include "sys/kvm_probe.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include "base/clock.h"

#define MEM_SIZE  0x10000U
#define PML4	  0x1000U
#define PDPT	  0x2000U
#define PD	  0x3000U
#define CODE	  0x4000U
#define KICK	  (SIGRTMIN + 5)
#define CR0_PE	  1ULL
#define CR0_PG	  (1ULL << 31)
#define CR4_PAE	  (1ULL << 5)
#define EFER_LME  (1ULL << 8)
#define EFER_LMA  (1ULL << 10)
#define PTE_P_RW  3ULL
#define PDE_LARGE (1ULL << 7)

struct probe {
	int kvm, vm, vcpu;
	uint8_t *mem;
	struct kvm_run *run;
	size_t run_size;
	nsec_t span;
	pthread_t runner;
	bool over; /* atomic */
};

static void ignore(int signo)
{
}

static void *watchdog(void *arg)
{
	struct probe *p = arg;
	struct timespec span = { p->span / NSEC_PER_SEC, p->span % NSEC_PER_SEC };

	nanosleep(&span, NULL);
	p->run->immediate_exit = 1;
	/* a signal can fall between the test and KVM_RUN: repeat until it was seen */
	while (!__atomic_load_n(&p->over, __ATOMIC_ACQUIRE)) {
		pthread_kill(p->runner, KICK);
		usleep(1000);
	}
	return NULL;
}

static void put64(uint8_t *p, uint64_t v)
{
	v = htole64(v);
	memcpy(p, &v, sizeof(v));
}

/* Identity map of the first 2 MiB by one large page, and the loop: inc %rbx; jmp -5. */
static void fill(struct probe *p)
{
	static const uint8_t loop[] = { 0x48, 0xff, 0xc3, 0xeb, 0xfb };

	put64(p->mem + PML4, PDPT | PTE_P_RW);
	put64(p->mem + PDPT, PD | PTE_P_RW);
	put64(p->mem + PD, PTE_P_RW | PDE_LARGE);
	memcpy(p->mem + CODE, loop, sizeof(loop));
}

static int set_registers(struct probe *p)
{
	struct kvm_regs regs = { .rip = CODE, .rflags = 2, .rsp = MEM_SIZE };
	struct kvm_segment data = {
		.limit = 0xffffffff, .selector = 16, .type = 3, .present = 1, .s = 1, .db = 1, .g = 1
	};
	struct kvm_segment code = {
		.limit = 0xffffffff, .selector = 8, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1
	};
	struct kvm_sregs s;

	if (ioctl(p->vcpu, KVM_GET_SREGS, &s) < 0)
		return -errno;
	s.cr0 |= CR0_PE | CR0_PG;
	s.cr3 = PML4;
	s.cr4 |= CR4_PAE;
	s.efer |= EFER_LME | EFER_LMA;
	s.cs = code;
	s.ds = s.es = s.fs = s.gs = s.ss = data;
	if (ioctl(p->vcpu, KVM_SET_SREGS, &s) < 0 || ioctl(p->vcpu, KVM_SET_REGS, &regs) < 0)
		return -errno;
	return 0;
}

static int make_vm(struct probe *p, struct err **e)
{
	struct kvm_userspace_memory_region slot = { .memory_size = MEM_SIZE };
	int r;

	p->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (p->kvm < 0)
		return err_sys(e, errno, "open '/dev/kvm'");
	p->vm = ioctl(p->kvm, KVM_CREATE_VM, 0);
	if (p->vm < 0)
		return err_sys(e, errno, "create a VM");
	p->mem = mmap(NULL, MEM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p->mem == MAP_FAILED)
		return err_sys(e, errno, "guest memory");
	fill(p);
	slot.userspace_addr = (uintptr_t)p->mem;
	if (ioctl(p->vm, KVM_SET_USER_MEMORY_REGION, &slot) < 0)
		return err_sys(e, errno, "guest memory");
	p->vcpu = ioctl(p->vm, KVM_CREATE_VCPU, 0);
	if (p->vcpu < 0)
		return err_sys(e, errno, "create a vCPU");
	r = ioctl(p->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	p->run_size = r > 0 ? (size_t)r : sizeof(struct kvm_run);
	p->run = mmap(NULL, p->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, p->vcpu, 0);
	if (p->run == MAP_FAILED)
		return err_sys(e, errno, "vCPU state");
	r = set_registers(p);
	return r < 0 ? err_sys(e, -r, "vCPU registers") : 0;
}

/* Until the watchdog's signal; *ns: how long it was. */
static int run_loop(struct probe *p, nsec_t *ns, struct err **e)
{
	nsec_t began = now_mono();
	int r;

	do {
		r = ioctl(p->vcpu, KVM_RUN, 0);
	} while (r == 0 && p->run->exit_reason == KVM_EXIT_INTR);
	*ns = now_mono() - began;
	if (r < 0 && (errno == EINTR || errno == EAGAIN))
		return 0;
	if (r < 0)
		return err_sys(e, errno, "run a vCPU");
	return err_set(e, EIO, "kvm.exit", "a simple loop ends with exit reason %u",
		       p->run->exit_reason);
}

static int measure(struct probe *p, uint64_t *ret, struct err **e)
{
	struct sigaction sa = { .sa_handler = ignore }, old;
	struct kvm_regs regs = { 0 };
	sigset_t kick, mask;
	pthread_t dog;
	nsec_t ns = 1;
	int r;

	/* workers block every signal */
	sigemptyset(&kick);
	sigaddset(&kick, KICK);
	pthread_sigmask(SIG_UNBLOCK, &kick, &mask);
	sigaction(KICK, &sa, &old); /* without SA_RESTART: KVM_RUN is to return */
	p->runner = pthread_self();
	r = pthread_create(&dog, NULL, watchdog, p);
	if (r == 0) {
		r = run_loop(p, &ns, e);
		__atomic_store_n(&p->over, true, __ATOMIC_RELEASE);
		pthread_join(dog, NULL);
	} else {
		r = err_sys(e, r, "start a thread");
	}
	sigaction(KICK, &old, NULL);
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
	if (r < 0)
		return r;
	if (ioctl(p->vcpu, KVM_GET_REGS, &regs) < 0)
		return err_sys(e, errno, "vCPU registers");
	*ret = (uint64_t)((unsigned __int128)regs.rbx * NSEC_PER_SEC /
			  (uint64_t)MAX(ns, (nsec_t)1));
	return 0;
}

int kvm_probe(nsec_t span, uint64_t *ret, struct err **e)
{
	struct probe p = {
		.kvm = -1, .vm = -1, .vcpu = -1, .mem = MAP_FAILED, .run = MAP_FAILED, .span = span
	};
	int r = make_vm(&p, e);

	if (r == 0)
		r = measure(&p, ret, e);
	if (p.run != MAP_FAILED)
		munmap(p.run, p.run_size);
	safe_close(p.vcpu);
	safe_close(p.vm);
	safe_close(p.kvm);
	if (p.mem != MAP_FAILED)
		munmap(p.mem, MEM_SIZE);
	return r < 0 ? err_wrap(e, r, "measure KVM") : 0;
}
