/* The life of a machine on the fake hypervisor: order of set-up, parking, events, failures on the way; the IOAPIC; and
 * the ACPI tables written out for iasl (tests/vmm/acpi.sh) when a folder is given. */
#include <errno.h>
#include <fcntl.h>
#include "unit.h"
#include "base/atomicfile.h"
#include "vmm/arch/x86/acpi/tables.h"
#include "vmm/arch/x86/layout.h"
#include "vmm/arch/x86/state.h"
#include "vmm/device_ops.h"
#include "vmm/devices/ioapic.h"
#include "vmm/devices/legacy.h"
#include "vmm/hv/fake.h"
#include "vmm/irq.h"
#include "vmm/machine.h"
#include "vmm/pci/bus.h"
#include "vmm/request.h"
#include "vmm/snapshot.h"
#include "vmm/vcpu.h"

static struct vm *machine(const struct device_ops *ops, struct dev **d)
{
	struct vm_device cfg = { .type = ops->type, .id = ops->type };
	struct vm *vm;

	assert_int_equal(vm_new_test(2 * MIB, &vm, NULL), 0);
	assert_int_equal(dev_create_ops(vm, ops, &cfg, d, NULL), 0);
	return vm;
}

static enum vm_event last_event;
static unsigned int n_events;

static void on_event(struct vm *vm, enum vm_event what, uint32_t value)
{
	last_event = what;
	n_events++;
}

static void life(void **state)
{
	struct dev *d;
	struct vm *vm = machine(&dev_acpi_pm, &d);
	struct fake_vcpu *c;
	struct fake_exit s5 = {
		.kind = HV_EXIT_PIO, .write = true, .size = 2, .addr = 0x604, .data = 0x3400
	};
	struct fake_exit in = { .kind = HV_EXIT_PIO, .size = 2, .addr = 0x604 };

	assert_int_equal(vm_pause(vm, NULL), 0); /* created may be paused, as a restored one is */
	assert_int_equal(vm_build(vm, NULL), 0);
	assert_true(fake_vm_of(vm_hv(vm))->has_irqchip);
	assert_int_equal(fake_vm_of(vm_hv(vm))->slots.n, 1);
	c = fake_vcpu_of(vm->vcpus[0].hv);
	vm->on_event = on_event;
	n_events = 0;
	assert_int_equal(vec_push(&c->script, in), 0);
	assert_int_equal(vec_push(&c->script, s5), 0);
	assert_int_equal(vec_push(&c->script, s5), 0);
	assert_int_equal(vm_start(vm, NULL), 0);
	while (n_events == 0)
		assert_true(loop_once(vm->loop, NSEC_PER_SEC) >= 0);
	assert_int_equal(last_event, VM_EVENT_POWEROFF);
	for (int i = 0; i < 50; i++) { /* many cycles: no kick is lost */
		assert_int_equal(vm_pause(vm, NULL), 0);
		assert_int_equal(vm->n_parked, 1);
		assert_int_equal(vm_pause(vm, NULL), 0);
		assert_int_equal(vm_start(vm, NULL), 0);
	}
	assert_int_equal(c->script.v[0].data & 0xffff, 1); /* SCI_EN */
	while (loop_once(vm->loop, 0) > 0)
		;
	assert_int_equal(n_events, 1); /* the second S5 was not queued */
	vm_stop(vm);
	assert_int_equal(vm_start(vm, NULL), -EBUSY);
	vm_free(vm);
}

static void shutdown_stops_vcpu(void **state)
{
	struct dev *d;
	struct vm *vm = machine(&dev_acpi_pm, &d);
	struct fake_exit triple = { .kind = HV_EXIT_SHUTDOWN };

	assert_int_equal(vm_build(vm, NULL), 0);
	assert_int_equal(vec_push(&fake_vcpu_of(vm->vcpus[0].hv)->script, triple), 0);
	vm->on_event = on_event;
	n_events = 0;
	assert_int_equal(vm_start(vm, NULL), 0);
	while (n_events == 0)
		assert_true(loop_once(vm->loop, NSEC_PER_SEC) >= 0);
	assert_int_equal(last_event, VM_EVENT_RESET);
	/* A stopped vCPU still parks, and does not run when the machine goes on. */
	assert_int_equal(vm_pause(vm, NULL), 0);
	assert_true(vm->vcpus[0].stopped);
	assert_int_equal(vm_start(vm, NULL), 0);
	assert_int_equal(vm_pause(vm, NULL), 0);
	vm_free(vm);
}

static void failures(void **state)
{
	struct dev *d;

	for (unsigned int nth = 1; nth <= 3; nth++) {
		struct vm *vm = machine(&dev_acpi_pm, &d);

		fake_vm_of(vm_hv(vm))->fail_after = nth;
		assert_true(vm_build(vm, NULL) < 0);
		vm_free(vm);
	}
}

static void w(struct vm *vm, uint8_t reg, uint32_t v)
{
	bus_write(vm_mmio(vm), IOAPIC_BASE, 4, reg);
	bus_write(vm_mmio(vm), IOAPIC_BASE + 0x10, 4, v);
}

static void ioapic(void **state)
{
	struct dev *d;
	struct vm *vm = machine(&dev_ioapic, &d);
	struct fake_vm *f = fake_vm_of(vm_hv(vm));

	assert_int_equal(vm_build(vm, NULL), 0);
	vm->ioapic = d;
	irq_pulse(vm, 4); /* masked: remembered */
	assert_int_equal(f->msis.n, 0);
	w(vm, 0x10 + 9, 2 << 24); /* pin 4 to APIC 2 */
	w(vm, 0x10 + 8, 0x34);
	assert_int_equal(f->msis.n, 1);
	assert_int_equal(f->msis.v[0].addr, 0xfee02000);
	assert_int_equal(f->msis.v[0].data, 0x34);
	irq_pulse(vm, 4);
	assert_int_equal(f->msis.n, 2);
	/* level: once until its end is signalled, again while the line is up */
	w(vm, 0x10 + 18, 0x8000 | 0x39);
	assert_int_equal(f->routes[9].kind, HV_ROUTE_MSI);
	irq_set(vm, 9, true);
	irq_set(vm, 9, true);
	assert_int_equal(f->msis.n, 3);
	ioapic_eoi(d, 0x39);
	assert_int_equal(f->msis.n, 4);
	irq_set(vm, 9, false);
	ioapic_eoi(d, 0x39);
	assert_int_equal(f->msis.n, 4);
	irq_set(vm, 99, true);
	vm_free(vm);
}

static uint8_t cmos(struct vm *vm, uint8_t index)
{
	uint64_t v;

	bus_write(vm_pio(vm), 0x70, 1, index);
	bus_read(vm_pio(vm), 0x71, 1, &v);
	return (uint8_t)v;
}

static void set_cmos(struct vm *vm, uint8_t index, uint8_t v)
{
	bus_write(vm_pio(vm), 0x70, 1, index);
	bus_write(vm_pio(vm), 0x71, 1, v);
}

/* Sets a date and reads it back; the day of the week is the clock's own finding. */
static void rtc(void **state)
{
	static const struct {
		uint8_t century, year, month, day, weekday;
	} dates[] = { { 0x20, 0x26, 0x11, 0x21, 7 }, { 0x20, 0x00, 0x02, 0x29, 3 },
		      { 0x19, 0x70, 0x01, 0x01, 5 }, { 0x19, 0x69, 0x12, 0x31, 4 },
		      { 0x21, 0x00, 0x03, 0x01, 2 }, { 0x20, 0x24, 0x12, 0x31, 3 } };
	struct dev *d;
	struct vm *vm = machine(&dev_rtc, &d);

	assert_int_equal(vm_build(vm, NULL), 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(dates); i++) {
		set_cmos(vm, 0xb, 0x82); /* hold, 24 hours, BCD */
		set_cmos(vm, 0, 0x30);
		set_cmos(vm, 2, 0x59);
		set_cmos(vm, 4, 0x12);
		set_cmos(vm, 7, dates[i].day);
		set_cmos(vm, 8, dates[i].month);
		set_cmos(vm, 9, dates[i].year);
		set_cmos(vm, 0x32, dates[i].century);
		set_cmos(vm, 0xb, 0x02);
		assert_int_equal(cmos(vm, 7), dates[i].day);
		assert_int_equal(cmos(vm, 8), dates[i].month);
		assert_int_equal(cmos(vm, 9), dates[i].year);
		assert_int_equal(cmos(vm, 0x32), dates[i].century);
		assert_int_equal(cmos(vm, 6), dates[i].weekday);
		assert_int_equal(cmos(vm, 4), 0x12);
		assert_int_equal(cmos(vm, 2), 0x59);
	}
	vm_free(vm);
}

static void requests(void **state)
{
	static const char *const bad[] = { "",
					   "{",
					   "[]",
					   "{}x",
					   "{\"a\" 1}",
					   "{\"a\": }",
					   "{\"a\": -1}",
					   "{\"a\": 18446744073709551616}",
					   "{\"a\": \"\\q\"}",
					   "{\"a\": \"\\ud800\"}",
					   "{\"a\": 1,}",
					   "{\"a\": 1, \"a\": 2}",
					   "{\"a\": \"x}",
					   "{\"a\": null}",
					   "{\"a\": \"\\u0000\"}" };
	static const char good[] = " { \"a\" : \"\\u00e9\\n\" , \"b\":7,\"c\":true } ";
	struct request q;
	uint64_t v;

	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(request_parse(bad[i], strlen(bad[i]), &q, NULL), -EINVAL);
	assert_int_equal(request_parse(good, strlen(good), &q, NULL), 0);
	assert_string_equal(request_string(&q, "a"), "\xc3\xa9\n");
	assert_int_equal(request_number(&q, "b", &v), 0);
	assert_int_equal(v, 7);
	assert_int_equal(request_number(&q, "a", &v), -EINVAL);
	assert_int_equal(request_number(&q, "z", &v), -ENOENT);
	assert_null(request_string(&q, "b"));
	request_done(&q);
}

/* State files of every release, by name of its format: what was saved then must load now.  The file of this release is
 * made by `unit-vmm-machine --golden FILE`. */
static struct vm *golden_machine(void)
{
	static const struct device_ops *const ops[] = { &dev_pci_host, &dev_ioapic, &dev_serial,
							&dev_rtc,      &dev_i8042,  &dev_acpi_pm,
							&dev_fw_cfg,   &dev_vmgenid };
	struct vm *vm;

	if (vm_new_test(MIB, &vm, NULL) < 0)
		return NULL;
	for (unsigned int i = 0; i < ARRAY_SIZE(ops); i++) {
		struct vm_device cfg = { .type = ops[i]->type, .id = ops[i]->type };

		if (dev_create_ops(vm, ops[i], &cfg, ops[i] == &dev_ioapic ? &vm->ioapic : NULL,
				   NULL) < 0)
			return NULL;
	}
	if (vm_build(vm, NULL) < 0)
		return NULL;
	vm->cpuid = calloc(1, sizeof(*vm->cpuid));
	return vm_pause(vm, NULL) < 0 ? NULL : vm;
}

static int make_golden(const char *path)
{
	struct buf b = { 0 };
	struct vm *vm = golden_machine();
	int r;

	if (!vm)
		return 1;
	set_cmos(vm, 0x5a, 0xa5);
	bus_write(vm_pio(vm), PORT_COM1 + 7, 1, 0x77);
	bus_write(vm_pio(vm), PORT_COM1 + 3, 1, 0x13);
	w(vm, 0x10 + 9, 3 << 24);
	w(vm, 0x10 + 8, 0x1a5);
	bus_write(vm_pio(vm), PORT_ACPI_PM + 2, 2, 0x100);
	bus_write(vm_pio(vm), 0xcf8, 4, 0x80000010);
	r = snapshot_save(vm, &b, NULL);
	if (r == 0)
		r = file_write_atomic(AT_FDCWD, path, b.s, b.len, 0644, NULL);
	buf_done(&b);
	vm_free(vm);
	return r < 0;
}

static void golden(void **state)
{
	struct buf b = { 0 };
	struct vm *vm = golden_machine();
	uint64_t v;

	assert_non_null(vm);
	assert_int_equal(file_read(AT_FDCWD, GOLDEN_DIR "/vmm-1.state", 1 << 20, &b, NULL), 0);
	assert_int_equal(snapshot_load(vm, &b, NULL), 0);
	assert_int_equal(cmos(vm, 0x5a), 0xa5);
	bus_read(vm_pio(vm), PORT_COM1 + 7, 1, &v);
	assert_int_equal(v, 0x77);
	bus_read(vm_pio(vm), PORT_COM1 + 3, 1, &v);
	assert_int_equal(v, 0x13);
	bus_write(vm_mmio(vm), IOAPIC_BASE, 4, 0x18);
	bus_read(vm_mmio(vm), IOAPIC_BASE + 0x10, 4, &v);
	assert_int_equal(v, 0x1a5);
	bus_read(vm_pio(vm), PORT_ACPI_PM + 2, 2, &v);
	assert_int_equal(v, 0x100);
	bus_read(vm_pio(vm), 0xcf8, 4, &v);
	assert_int_equal(v, 0x80000010);
	/* every cut and a flipped bit anywhere is refused */
	for (size_t len = 0; len < b.len; len += 97) {
		struct buf cut = { .s = b.s, .len = len };

		assert_true(snapshot_load(vm, &cut, NULL) < 0);
	}
	for (size_t at = 0; at < b.len; at += 61) {
		b.s[at] ^= 4;
		assert_true(snapshot_load(vm, &b, NULL) < 0);
		b.s[at] ^= 4;
	}
	assert_int_equal(snapshot_load(vm, &b, NULL), 0);
	buf_done(&b);
	vm_free(vm);
}

/* Each table of the block as NAME.dat, for iasl. */
static int dump_acpi(const char *dir)
{
	for (unsigned int full = 0; full < 2; full++) {
		struct acpi_config cfg = { .n_cpus = full ? 255 : 1,
					   .pic = full,
					   .mmio64_base = 64 * GIB,
					   .mmio64_size = 64 * GIB,
					   .genid = full ? 0xfffbf000 : GENID_PAGE,
					   .serial = true,
					   .rtc = true,
					   .pvpanic = true };
		struct acpi_block a;
		char path[4096];

		if (acpi_build(&cfg, &a, NULL) < 0)
			return 1;
		acpi_place(&a, ACPI_START);
		for (size_t at = 64; at + 36 <= a.rsdp;) {
			uint32_t len;

			memcpy(&len, a.data.s + at + 4, 4);
			if (len < 36 || at + len > a.data.len)
				return 1;
			snprintf(path, sizeof(path), "%s/%.4s%u.dat", dir, a.data.s + at, full);
			if (file_write_atomic(AT_FDCWD, path, a.data.s + at, len, 0600, NULL) < 0)
				return 1;
			at = ALIGN_UP(at + len, 16U);
		}
		acpi_block_done(&a);
	}
	return 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(life),	    cmocka_unit_test(shutdown_stops_vcpu),
		cmocka_unit_test(failures), cmocka_unit_test(ioapic),
		cmocka_unit_test(requests), cmocka_unit_test(rtc),
		cmocka_unit_test(golden),
	};

	if (argc == 3 && strcmp(argv[1], "--golden") == 0)
		return make_golden(argv[2]);
	if (argc == 2)
		return dump_acpi(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
