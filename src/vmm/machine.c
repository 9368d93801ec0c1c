/* See machine.h.  Life cycle, events, and the order in which things are made. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#define LOG_MODULE "machine"
#include "base/log.h"
#include "vmm/arch/x86/boot.h"
#include "vmm/arch/x86/cpu.h"
#include "vmm/arch/x86/layout.h"
#include "vmm/arch/x86/state.h"
#include "vmm/device_ops.h"
#include "vmm/devices/ioapic.h"
#include "vmm/devices/legacy.h"
#include "vmm/iothread.h"
#include "vmm/irq_core.h"
#include "vmm/machine.h"
#include "vmm/pci/bus.h"
#include "vmm/vcpu.h"

static const uint32_t vm_moves[VM_STATES] = {
	[VM_CREATED] = TO(VM_RUNNING) | TO(VM_PAUSED) | TO(VM_STOPPED),
	[VM_RUNNING] = TO(VM_PAUSED) | TO(VM_STOPPED),
	[VM_PAUSED] = TO(VM_RUNNING) | TO(VM_STOPPED),
	[VM_STOPPED] = 0,
};
static const char *const vm_state_names[VM_STATES] = { "created", "running", "paused", "stopped" };
const struct sm vm_sm = SM("vm", vm_moves, vm_state_names);

struct guest_mem *vm_mem(struct vm *vm)
{
	return &vm->mem;
}
struct bus *vm_pio(struct vm *vm)
{
	return &vm->pio;
}
struct bus *vm_mmio(struct vm *vm)
{
	return &vm->mmio;
}
struct pci_bus *vm_pci(struct vm *vm)
{
	return vm->pci;
}
struct hv_vm *vm_hv(struct vm *vm)
{
	return vm->hv;
}
struct console *vm_console(struct vm *vm)
{
	return vm->console;
}
unsigned int vm_n_cpus(const struct vm *vm)
{
	return vm->cfg.n_cpus;
}
const char *vm_name(const struct vm *vm)
{
	return vm->cfg.name ? vm->cfg.name : "vm";
}
uint8_t *vm_genid_page(struct vm *vm)
{
	return vm->genid_page;
}

struct event {
	struct vm *vm;
	enum vm_event what;
	uint32_t value;
};

static void deliver(void *arg)
{
	struct event *ev = arg;
	struct vm *vm = ev->vm;

	if (vm->on_event && vm->state != VM_STOPPED)
		vm->on_event(vm, ev->what, ev->value);
	free(ev);
}

void vm_notify(struct vm *vm, enum vm_event what, uint32_t value)
{
	struct event *ev;

	/* A guest that writes its reset port in a loop sends one event, not a queue of them. */
	if (what != VM_EVENT_CRASHLOADED && atomic_exchange(&vm->ended, 1))
		return;
	ev = malloc(sizeof(*ev));
	if (!ev) {
		vm->ended = 0;
		return;
	}
	*ev = (struct event){ vm, what, value };
	if (loop_post(vm->loop, deliver, ev) < 0) {
		vm->ended = 0;
		free(ev);
	}
}

static int add_builtin(struct vm *vm, const struct device_ops *ops, struct dev **ret,
		       struct err **e)
{
	struct vm_device cfg = { .type = ops->type, .id = ops->type };

	return dev_create_ops(vm, ops, &cfg, ret, e);
}

static int add_builtins(struct vm *vm, struct err **e)
{
	bool firmware = boot_is_firmware(vm->boot);
	const struct device_ops *const all[] = {
		firmware ? &dev_pci_host_q35 : &dev_pci_host,
		vm->irq.kind == HV_IRQCHIP_SPLIT ? &dev_ioapic : NULL,
		&dev_serial,
		&dev_rtc,
		&dev_i8042,
		&dev_acpi_pm,
		&dev_pvpanic,
		vm->genid_page ? &dev_vmgenid : NULL,
		firmware || vm->cfg.test_devices ? &dev_fw_cfg : NULL,
		vm->cfg.test_devices ? &dev_debug_exit : NULL,
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(all); i++) {
		int r = all[i] ? add_builtin(vm, all[i], all[i] == &dev_ioapic ? &vm->ioapic : NULL,
					     e)
			       : 0;

		if (r < 0)
			return r;
	}
	return 0;
}

static uint64_t mmio64_base(const struct vm *vm)
{
	uint64_t ram = gmem_ram_size(&vm->mem);
	uint64_t end = GMEM_HIGH_BASE + (ram > GMEM_LOW_MAX ? ram - GMEM_LOW_MAX : 0);

	/* Not beyond what the CPU can address; 64 GiB serves up to 60 GiB of RAM on any CPU. */
	return ALIGN_UP(MAX(end, x86_phys_bits() >= 38 ? MMIO64_MIN : end), GIB);
}

int vm_new(const struct vm_config *cfg, struct loop *loop, struct vm **ret, struct err **e)
{
	_cleanup_(vm_freep) struct vm *vm = calloc(1, sizeof(*vm));
	enum hv_irqchip chip;
	int r;

	if (!vm)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	vm->cfg = *cfg;
	vm->loop = loop;
	vm->park = true;
	vm->created_at = now_mono();
	list_init(&vm->devices);
	pthread_mutex_init(&vm->park_lock, NULL);
	pthread_cond_init(&vm->parked_cond, NULL);
	pthread_cond_init(&vm->go_cond, NULL);
	iothread_adopt(loop);
	if ((r = bus_init(&vm->pio, "ports")) < 0 || (r = bus_init(&vm->mmio, "mmio")) < 0)
		return err_sys(e, -r, "make the buses");
	r = cfg->hv->vm_new(cfg->kvm_fd, &vm->hv, e);
	if (r < 0)
		return r;
	if (!cfg->bare) {
		r = boot_open(&vm->cfg, &vm->boot, e);
		if (r < 0)
			return r;
	}
	if (cfg->memory_fd >= 0)
		r = gmem_init_private_file(&vm->mem, cfg->memory, cfg->memory_fd, 0, e);
	else
		r = gmem_init(&vm->mem, cfg->memory, cfg->backing, e);
	if (r < 0)
		return r;
	if (vm->boot && (r = boot_regions(vm, e)) < 0)
		return r;
	chip = vm->boot ? boot_irqchip(vm->boot) : HV_IRQCHIP_SPLIT;
	r = irq_core_init(vm, chip, e);
	if (r == 0)
		r = pci_bus_new(vm, mmio64_base(vm), &vm->pci, e);
	if (r == 0 && !cfg->bare)
		r = add_builtins(vm, e);
	if (r < 0)
		return r;
	*ret = TAKE(vm);
	return 0;
}

static int add_memslots(struct vm *vm, struct err **e)
{
	for (unsigned int i = 0; i < vm->mem.n; i++) {
		const struct gmem_region *m = &vm->mem.region[i];
		int r = vm->hv->ops->memslot(vm->hv, m->slot, m->gpa, m->size, m->host, m->readonly,
					     false, e);

		if (r < 0)
			return r;
	}
	return 0;
}

int vm_build(struct vm *vm, struct err **e)
{
	struct dev *d;
	int r = add_memslots(vm, e);

	if (r == 0)
		r = vm->hv->ops->irqchip(vm->hv, vm->irq.kind, e);
	if (r == 0)
		r = vcpus_new(vm, vm->cfg.n_cpus, e);
	if (r == 0 && vm->irq.kind == HV_IRQCHIP_FULL)
		r = vm->hv->ops->routes(vm->hv, vm->irq.route, vm->irq.n);
	if (r < 0)
		return r;
	list_for_each_entry(d, &vm->devices, node) {
		if (!d->plugged && (r = dev_plug(d, e)) < 0)
			return r;
	}
	if (vm->boot) {
		r = x86_setup_vcpus(vm, e);
		if (r == 0 && vm->cfg.boot != VM_BOOT_RESTORE)
			r = boot_load(vm, e);
	}
	return r;
}

static void devices_resume(struct vm *vm)
{
	struct dev *d;

	list_for_each_entry(d, &vm->devices, node)
		if (d->plugged && d->ops->resume)
			d->ops->resume(d);
}

static void devices_quiesce(struct vm *vm)
{
	for (struct list *n = vm->devices.prev; n != &vm->devices; n = n->prev) {
		struct dev *d = list_entry(n, struct dev, node);

		if (d->plugged && d->ops->quiesce)
			d->ops->quiesce(d);
	}
}

int vm_start(struct vm *vm, struct err **e)
{
	int r;

	if (vm->state == VM_RUNNING)
		return 0;
	r = sm_move(&vm_sm, &vm->state, VM_RUNNING, e);
	if (r < 0)
		return r;
	devices_resume(vm);
	if (!vm->started_at)
		vm->started_at = now_mono();
	if (vm->pause_began) {
		vm->last_pause_ns = (uint64_t)(now_mono() - vm->pause_began);
		vm->pause_began = 0;
	}
	r = vcpus_start(vm, e);
	if (r < 0)
		return r;
	vcpus_go(vm);
	return 0;
}

int vm_pause(struct vm *vm, struct err **e)
{
	int r;

	if (vm->state == VM_PAUSED)
		return 0;
	r = sm_move(&vm_sm, &vm->state, VM_PAUSED, e);
	if (r < 0)
		return r;
	vm->pause_began = now_mono();
	vcpus_park(vm);
	devices_quiesce(vm);
	for (unsigned int i = 0; i < vm->n_vcpus; i++)
		vm->hv->ops->vcpu_paused(vm->vcpus[i].hv);
	return 0;
}

void vm_stop(struct vm *vm)
{
	bool running = vm->state == VM_RUNNING;

	if (vm->state == VM_STOPPED)
		return;
	sm_move(&vm_sm, &vm->state, VM_STOPPED, NULL);
	vcpus_park(vm);
	if (running)
		devices_quiesce(vm);
}

int vm_reset(struct vm *vm, struct err **e)
{
	bool running = vm->state == VM_RUNNING;
	struct dev *d;
	int r = running ? vm_pause(vm, e) : 0;

	if (r < 0)
		return r;
	if (vm->state != VM_PAUSED)
		return err_set(e, EBUSY, "vm.state", "a %s vm cannot be reset",
			       sm_name(&vm_sm, vm->state));
	list_for_each_entry(d, &vm->devices, node) {
		pthread_mutex_t *lock = &d->lock;

		if (d->plugged && d->ops->reset && d != vm->ioapic) {
			/* A driver's reset may drive its line, which is the IOAPIC's lock, never its own twice. */
			pthread_mutex_lock(lock);
			d->ops->reset(d);
			pthread_mutex_unlock(lock);
		}
	}
	if (vm->ioapic)
		vm->ioapic->ops->reset(vm->ioapic);
	r = x86_reset_vcpus(vm, e);
	if (r == 0)
		r = boot_load(vm, e);
	if (r < 0)
		return r;
	for (unsigned int i = 0; i < vm->n_vcpus; i++)
		vm->vcpus[i].stopped = false;
	vm->ended = 0;
	return running ? vm_start(vm, e) : 0;
}

int vm_power_button(struct vm *vm, struct err **e)
{
	struct dev *pm = dev_find(vm, "acpi-pm");

	if (vm->state != VM_RUNNING)
		return err_set(e, EBUSY, "vm.state", "a %s vm cannot be shut down",
			       sm_name(&vm_sm, vm->state));
	acpi_pm_power_button(pm);
	return 0;
}

void vm_free(struct vm *vm)
{
	if (!vm)
		return;
	if (vm->state != VM_CREATED)
		vm_stop(vm);
	vcpus_free(vm);
	while (!list_empty(&vm->devices))
		dev_destroy(list_entry(vm->devices.prev, struct dev, node));
	iothread_stop_all(vm);
	pci_bus_free(vm->pci);
	bus_done(&vm->pio);
	bus_done(&vm->mmio);
	irq_core_done(vm);
	if (vm->hv)
		vm->hv->ops->vm_free(vm->hv);
	boot_close(vm->boot);
	free(vm->cpuid);
	gmem_done(&vm->mem);
	pthread_mutex_destroy(&vm->park_lock);
	pthread_cond_destroy(&vm->parked_cond);
	pthread_cond_destroy(&vm->go_cond);
	if (vm->own_loop)
		loop_free(vm->loop);
	free(vm);
}

int vm_new_test(uint64_t memory, struct vm **ret, struct err **e)
{
	struct vm_config cfg = { .hv = &hv_fake,
				 .kvm_fd = -1,
				 .memory_fd = -1,
				 .n_cpus = 1,
				 .memory = memory,
				 .backing = GMEM_SHARED, /* vhost-user can be tested */
				 .bare = true };
	struct loop *loop;
	int r = loop_new(NULL, &loop);

	if (r < 0)
		return err_set(e, -r, "vm.loop", "make a loop");
	r = vm_new(&cfg, loop, ret, e);
	if (r < 0) {
		loop_free(loop);
		return r;
	}
	(*ret)->own_loop = true;
	return 0;
}
