/* A virtual machine as its devices see it.  The struct is machine.h's; there may be many in a process (tests). */
#ifndef VMM_VM_H
#define VMM_VM_H

#include "base/err.h"
#include "base/types.h"
#include "vmm/config.h"

struct addr_alloc;
struct bus;
struct console;
struct guest_mem;
struct hv_vm;
struct pci_bus;
struct vm;

struct guest_mem *vm_mem(struct vm *vm);
struct bus *vm_pio(struct vm *vm);
struct bus *vm_mmio(struct vm *vm);
struct pci_bus *vm_pci(struct vm *vm);
struct hv_vm *vm_hv(struct vm *vm);
struct console *vm_console(struct vm *vm); /* NULL: none (tests) */
unsigned int vm_n_cpus(const struct vm *vm);
const char *vm_name(const struct vm *vm); /* for messages and derived MACs: the --name, or "vm" */

/* Tell the VMM what the guest or a device wants; any thread, returns at once, the main thread acts. */
enum vm_event {
	VM_EVENT_POWEROFF,    /* ACPI S5: exit status 0 */
	VM_EVENT_RESET,	      /* reset in place, or exit status 3 with --no-reboot */
	VM_EVENT_PANIC,	      /* pvpanic: exit status 4 */
	VM_EVENT_CRASHLOADED, /* pvpanic: the guest panicked and dumps itself; logged */
	VM_EVENT_DEBUG_EXIT,  /* --test-devices: exit with (value << 1) | 1 */
	VM_EVENT_ERROR,	      /* the VM cannot go on: exit status 1; the reason was logged */
};
void vm_notify(struct vm *vm, enum vm_event what, uint32_t value);

/* For unit tests: a machine on hv/fake.c with `memory` bytes of RAM, PCI bus, main loop, no vCPU threads, no
 * built-in devices; state CREATED.  vm_io_loop() gives the main loop (vm_main_loop()), which the test runs itself
 * by loop_once().  hv/fake.h shows what reached the hypervisor. */
int vm_new_test(uint64_t memory, struct vm **ret, struct err **e);
void vm_free(struct vm *vm);
DEFINE_CLEANUP(struct vm *, vm_free);

#endif
