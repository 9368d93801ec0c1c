/* The machine: everything that belongs to one VM.  Private to the core (machine.c, vcpu.c, irq.c, snapshot.c, ctl.c,
 * boot); devices see vm.h. */
#ifndef VMM_MACHINE_H
#define VMM_MACHINE_H

#include <pthread.h>
#include <stdatomic.h>
#include "base/list.h"
#include "base/loop.h"
#include "base/sm.h"
#include "base/uuid.h"
#include "vmm/bus.h"
#include "vmm/hv/hv_ops.h"
#include "vmm/memory.h"
#include "vmm/vm.h"

struct boot_info;
struct dev;
struct ioapic;
struct pci_bus;
struct vcpu;
struct x86_cpuid;

enum vm_state {
	VM_CREATED, /* devices may be added; no vCPU has run */
	VM_RUNNING,
	VM_PAUSED,  /* vCPUs parked, devices quiesced */
	VM_STOPPED, /* ended; only vm_free() is left */
	VM_STATES,
};
extern const struct sm vm_sm;

enum vm_boot_kind { VM_BOOT_IMAGE, VM_BOOT_RESTORE };

struct vm_config {
	const char *name; /* NULL: "vm" */
	const struct hv_ops *hv;
	int kvm_fd; /* handed in, or -1 */
	unsigned int n_cpus;
	uint64_t memory;
	enum gmem_backing backing;
	unsigned int io_threads; /* 0: the main loop serves queues (tests) */
	enum vm_boot_kind boot;
	const char *kernel, *initrd, *append, *firmware; /* firmware or kernel; restore: as saved */
	bool no_reboot, test_devices;
	bool bare;	       /* no built-in devices at all (unit tests) */
	int memory_fd;	       /* restore: RAM is mapped from it, copy-on-write; -1: fresh memory */
	uint32_t restore_kind; /* VM_BOOT_RESTORE: snapshot_machine.boot_kind */
	uint64_t restore_rom;  /* bytes of ROM after RAM in memory_fd */
};

#define VM_IO_THREADS_MAX 8
#define IRQ_GSI_MAX	  4096
#define IRQ_PINS	  24

struct iothread {
	struct loop *loop;
	pthread_t thread;
	bool started;
};

struct irq_core {
	pthread_mutex_t lock; /* the routing table */
	enum hv_irqchip kind;
	struct hv_route *route;
	unsigned int n; /* entries given to the hypervisor */
	bool *used;	/* GSI taken by an irq_route */
};

struct vm {
	struct vm_config cfg;
	unsigned int state; /* enum vm_state; sm_move() only, main thread */
	struct hv_vm *hv;
	struct guest_mem mem;
	struct bus pio, mmio;
	struct pci_bus *pci;
	struct irq_core irq;
	struct dev *ioapic; /* NULL with HV_IRQCHIP_FULL */
	struct loop *loop;
	bool own_loop; /* vm_free() frees it */
	struct iothread io[VM_IO_THREADS_MAX];
	struct list devices; /* struct dev.node, in plug order */
	struct vcpu *vcpus;
	unsigned int n_vcpus;

	/* parking (vcpu.c) */
	pthread_mutex_t park_lock;
	pthread_cond_t parked_cond, go_cond;
	_Atomic bool park;
	bool quit; /* parked vCPUs leave their threads */
	unsigned int n_parked;

	struct console *console; /* borrowed; NULL in tests */
	struct uuid genid;	 /* VM generation id */
	uint8_t *genid_page;	 /* host address; NULL: no generation id */
	gpa_t genid_gpa;
	struct boot_info *boot;
	struct x86_cpuid *cpuid; /* n_vcpus of them, as set */
	bool firmware_ready;	 /* its fw_cfg files are there */
	void (*on_event)(struct vm *vm, enum vm_event what, uint32_t value); /* main thread */
	void *event_data;
	_Atomic int ended; /* an ending event was sent */

	/* statistics */
	_Atomic uint64_t n_msi, unclaimed;
	nsec_t created_at, started_at, pause_began;
	uint64_t last_pause_ns;
};

uint8_t *vm_genid_page(struct vm *vm);

/* Build all but the guest's contents: hypervisor VM, memory, buses, built-in devices. */
int vm_new(const struct vm_config *cfg, struct loop *loop, struct vm **ret, struct err **e);
/* Plug what dev_create() hooked up, memslots and irqchip and vCPUs in the order of hv_ops.h. */
int vm_build(struct vm *vm, struct err **e);
int vm_start(struct vm *vm, struct err **e); /* CREATED or PAUSED -> RUNNING */
int vm_pause(struct vm *vm, struct err **e); /* RUNNING -> PAUSED */
void vm_stop(struct vm *vm);		     /* any -> STOPPED; vCPU threads are gone after it */
/* Guest reset: devices, memory of the boot image, vCPUs; from RUNNING (runs on) or PAUSED (stays). */
int vm_reset(struct vm *vm, struct err **e);
int vm_power_button(struct vm *vm, struct err **e);

#endif
