/* A VM of one page of code through /dev/kvm: counts down in 64-bit mode and prints what it did.
 *
 * Usage: kvm_loop ITERATIONS.  Output: "iterations N seconds S rate R" by this machine's clock; inside an
 * emulated host the caller must time it from outside as well.  Exit status 1: anything went wrong; the
 * text on stderr says what.  Spec: Documentation/virt/kvm/api.rst; AMD APM volume 2, 14.6 (long mode). */
#include <err.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

#define MEM_SIZE  (2u << 20)
#define PML4_ADDR 0x1000
#define PDPT_ADDR 0x2000
#define PD_ADDR	  0x3000
#define CODE_ADDR 0x4000

/* rax: iterations left, rbx: iterations made.  At the end rbx goes to rcx with its upper half
 * set from a 64-bit immediate, which nothing but 64-bit code can do. */
static const uint8_t code[] = {
	0x31, 0xdb,					   /* xor ebx, ebx */
	0x48, 0xff, 0xc3,				   /* 1: inc rbx */
	0x48, 0xff, 0xc8,				   /* dec rax */
	0x75, 0xf8,					   /* jnz 1b */
	0x48, 0xb9, 0,	  0, 0, 0, 0xef, 0xbe, 0xad, 0xde, /* mov rcx, 0xdeadbeef00000000 */
	0x48, 0x01, 0xd9,				   /* add rcx, rbx */
	0xf4,						   /* hlt */
};

static void put_entry(uint8_t *mem, uint32_t at, uint64_t entry)
{
	memcpy(mem + at, &entry, sizeof(entry));
}

int main(int argc, char **argv)
{
	uint64_t count = argc == 2 ? strtoull(argv[1], NULL, 0) : 0;
	struct kvm_segment seg = { .limit = 0xffffffff, .present = 1, .s = 1, .g = 1 };
	struct kvm_userspace_memory_region region = { .memory_size = MEM_SIZE };
	struct kvm_regs regs = { .rax = count, .rip = CODE_ADDR, .rflags = 2 };
	struct timespec t0, t1;
	struct kvm_sregs sregs;
	struct kvm_run *run;
	int kvm, vm, cpu, run_size;
	double seconds;
	uint8_t *mem;

	if (count == 0)
		errx(2, "usage: kvm_loop ITERATIONS");
	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0)
		err(1, "/dev/kvm");
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	if (vm < 0)
		err(1, "KVM_CREATE_VM");
	mem = mmap(NULL, MEM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (mem == MAP_FAILED)
		err(1, "mmap");
	put_entry(mem, PML4_ADDR, PDPT_ADDR | 3);
	put_entry(mem, PDPT_ADDR, PD_ADDR | 3);
	put_entry(mem, PD_ADDR, 0x83); /* one 2 MiB page */
	memcpy(mem + CODE_ADDR, code, sizeof(code));
	region.userspace_addr = (uintptr_t)mem;
	if (ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) < 0)
		err(1, "KVM_SET_USER_MEMORY_REGION");
	cpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	if (cpu < 0)
		err(1, "KVM_CREATE_VCPU");
	run_size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	run = mmap(NULL, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, cpu, 0);
	if (run == MAP_FAILED || ioctl(cpu, KVM_GET_SREGS, &sregs) < 0)
		err(1, "vCPU");
	seg.type = 3;
	seg.db = 1;
	seg.selector = 16;
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = seg;
	seg.type = 11;
	seg.db = 0;
	seg.l = 1;
	seg.selector = 8;
	sregs.cs = seg;
	sregs.cr0 = 0x80000031; /* PG NE ET PE */
	sregs.cr3 = PML4_ADDR;
	sregs.cr4 = 0x20;   /* PAE */
	sregs.efer = 0x500; /* LMA LME */
	if (ioctl(cpu, KVM_SET_SREGS, &sregs) < 0 || ioctl(cpu, KVM_SET_REGS, &regs) < 0)
		err(1, "vCPU registers");
	clock_gettime(CLOCK_MONOTONIC, &t0);
	do {
		if (ioctl(cpu, KVM_RUN, 0) < 0)
			err(1, "KVM_RUN");
	} while (run->exit_reason == KVM_EXIT_INTR);
	clock_gettime(CLOCK_MONOTONIC, &t1);
	if (run->exit_reason != KVM_EXIT_HLT)
		errx(1, "exit reason %u instead of HLT", run->exit_reason);
	if (ioctl(cpu, KVM_GET_REGS, &regs) < 0)
		err(1, "KVM_GET_REGS");
	if (regs.rbx != count || regs.rcx != 0xdeadbeef00000000 + count)
		errx(1, "the guest counted 0x%" PRIx64 " and 0x%" PRIx64, (uint64_t)regs.rbx,
		     (uint64_t)regs.rcx);
	seconds = (double)(t1.tv_sec - t0.tv_sec) + (double)(t1.tv_nsec - t0.tv_nsec) / 1e9;
	printf("iterations %" PRIu64 " seconds %.3f rate %.0f\n", count, seconds,
	       (double)count / seconds);
	return 0;
}
