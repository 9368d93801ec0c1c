/* Devices of a register or two: i8042 (reset only), pvpanic, debug exit, VM generation id.
 * Spec: IBM PC/AT Technical Reference (8042); QEMU docs/specs/pvpanic; Microsoft "Virtual Machine Generation ID". */
#include <errno.h>
#include <string.h>
#include "base/save.h"
#include "vmm/arch/x86/layout.h"
#include "vmm/bus.h"
#include "vmm/device_ops.h"
#include "vmm/devices/legacy.h"
#include "vmm/machine.h"

struct small {
	struct dev dev;
	struct bus_range range, range2;
	uint8_t cmd, status;
};

static struct small *small_of(struct dev *d)
{
	return container_of(d, struct small, dev);
}

static int no_construct(struct dev *d, const struct vm_device *cfg, struct err **e)
{
	return 0;
}

static int add(struct dev *d, uint64_t port, uint64_t size, const struct bus_ops *ops,
	       struct err **e)
{
	struct small *s = small_of(d);

	s->range = (struct bus_range){
		.base = port, .size = size, .ops = ops, .owner = d, .name = d->id
	};
	return bus_add(vm_pio(d->vm), &s->range, e);
}

static void small_unplug(struct dev *d)
{
	bus_remove(vm_pio(d->vm), &small_of(d)->range);
	bus_remove(vm_pio(d->vm), &small_of(d)->range2);
}

/* i8042: status says "no data, ready"; command 0xfe pulses the reset line; the output port holds A20. */

#define I8042_SELF_TEST 0xaa
#define I8042_RESET	0xfe

static uint64_t i8042_data_read(struct bus_range *r, uint64_t off, unsigned int size)
{
	struct small *s = r->opaque;
	uint8_t v = s->cmd;

	s->status = 0;
	s->cmd = 0;
	return v;
}

static uint64_t i8042_status_read(struct bus_range *r, uint64_t off, unsigned int size)
{
	struct small *s = r->opaque;

	return 0x1c | s->status; /* keyboard not inhibited, last write was a command, system flag */
}

static void i8042_command(struct bus_range *r, uint64_t off, unsigned int size, uint64_t v)
{
	struct small *s = r->opaque;

	switch ((uint8_t)v) {
	case I8042_RESET:
		vm_notify(s->dev.vm, VM_EVENT_RESET, 0);
		break;
	case I8042_SELF_TEST:
		s->cmd = 0x55;
		s->status = 1;
		break;
	case 0x20: /* command byte: both ports disabled */
		s->cmd = 0x30;
		s->status = 1;
		break;
	case 0xd0: /* output port: A20 on, not in reset */
		s->cmd = 0x03;
		s->status = 1;
		break;
	}
}

static const struct bus_ops i8042_data = { i8042_data_read, NULL };
static const struct bus_ops i8042_ctl = { i8042_status_read, i8042_command };

static int i8042_plug(struct dev *d, struct vm *vm, struct err **e)
{
	struct small *s = small_of(d);
	int r = add(d, PORT_I8042, 1, &i8042_data, e);

	s->range.opaque = s;
	s->range2 = (struct bus_range){ .base = PORT_I8042 + 4,
					.size = 1,
					.ops = &i8042_ctl,
					.owner = d,
					.opaque = s,
					.name = "i8042" };
	return r < 0 ? r : bus_add(vm_pio(vm), &s->range2, e);
}

static void i8042_reset(struct dev *d)
{
	small_of(d)->cmd = small_of(d)->status = 0;
}

static const struct save_field i8042_fields[] = {
	SAVE(struct small, cmd, U8, 1),
	SAVE(struct small, status, U8, 1),
};
static const struct save_desc i8042_save = SAVE_DESC("i8042", 1, 1, i8042_fields);

const struct device_ops dev_i8042 = {
	.type = "i8042",
	.instance_size = sizeof(struct small),
	.construct = no_construct,
	.plug = i8042_plug,
	.unplug = small_unplug,
	.reset = i8042_reset,
	.state = &i8042_save,
};

/* pvpanic: the port reads as what it understands. */

#define PVPANIC_PANICKED    1
#define PVPANIC_CRASHLOADED 2

static uint64_t pvpanic_read(struct bus_range *r, uint64_t off, unsigned int size)
{
	return PVPANIC_PANICKED | PVPANIC_CRASHLOADED;
}

static void pvpanic_write(struct bus_range *r, uint64_t off, unsigned int size, uint64_t v)
{
	if (v & PVPANIC_PANICKED)
		vm_notify(r->owner->vm, VM_EVENT_PANIC, 0);
	else if (v & PVPANIC_CRASHLOADED)
		vm_notify(r->owner->vm, VM_EVENT_CRASHLOADED, 0);
}

static const struct bus_ops pvpanic_bus = { pvpanic_read, pvpanic_write };

static int pvpanic_plug(struct dev *d, struct vm *vm, struct err **e)
{
	return add(d, PORT_PVPANIC, 1, &pvpanic_bus, e);
}

const struct device_ops dev_pvpanic = {
	.type = "pvpanic",
	.instance_size = sizeof(struct small),
	.construct = no_construct,
	.plug = pvpanic_plug,
	.unplug = small_unplug,
};

/* Debug exit: the guest ends the VM with status (value << 1) | 1, as isa-debug-exit does. */

static void debug_exit_write(struct bus_range *r, uint64_t off, unsigned int size, uint64_t v)
{
	vm_notify(r->owner->vm, VM_EVENT_DEBUG_EXIT, (uint32_t)v);
}

static const struct bus_ops debug_exit_bus = { NULL, debug_exit_write };

static int debug_exit_plug(struct dev *d, struct vm *vm, struct err **e)
{
	return add(d, PORT_DEBUG_EXIT, 4, &debug_exit_bus, e);
}

const struct device_ops dev_debug_exit = {
	.type = "debug-exit",
	.instance_size = sizeof(struct small),
	.construct = no_construct,
	.plug = debug_exit_plug,
	.unplug = small_unplug,
};

/* VM generation id: 16 bytes at the start of a page that the guest knows by ACPI. */

#define GENID_GPE 5

static void genid_put(struct vm *vm)
{
	uint8_t *p = vm_genid_page(vm);

	if (p) {
		/* A GUID in memory has its first three fields little-endian. */
		const uint8_t *b = vm->genid.b;
		const uint8_t guid[16] = { b[3], b[2], b[1],  b[0],  b[5],  b[4],  b[7],  b[6],
					   b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15] };

		memcpy(p, guid, sizeof(guid));
	}
}

void vmgenid_change(struct dev *d)
{
	struct dev *pm = dev_find(d->vm, "acpi-pm");

	d->vm->genid = uuid_v4();
	genid_put(d->vm);
	if (pm)
		acpi_pm_gpe(pm, GENID_GPE);
}

static int genid_plug(struct dev *d, struct vm *vm, struct err **e)
{
	vm->genid = uuid_v4();
	genid_put(vm);
	return 0;
}

static void genid_reset(struct dev *d)
{
	genid_put(d->vm);
}

const struct device_ops dev_vmgenid = {
	.type = "vmgenid",
	.instance_size = sizeof(struct small),
	.construct = no_construct,
	.plug = genid_plug,
	.reset = genid_reset,
};
