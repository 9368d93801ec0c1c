/* A snapshot's state stream, loaded into a machine on the fake hypervisor with all legacy devices, then registers read. */
#include <stdlib.h>
#include <string.h>
#include "base/crc.h"
#include "vmm/device_ops.h"
#include "vmm/devices/ioapic.h"
#include "vmm/devices/legacy.h"
#include "vmm/machine.h"
#include "vmm/pci/bus.h"
#include "vmm/snapshot.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const struct device_ops *const ops[] = { &dev_pci_host, &dev_ioapic, &dev_serial,
							&dev_rtc,      &dev_i8042,  &dev_acpi_pm,
							&dev_fw_cfg,   &dev_vmgenid };
	struct buf state = { 0 };
	struct vm *vm;
	uint64_t v;

	if (len < 8 || vm_new_test(MIB, &vm, NULL) < 0)
		return 0;
	for (unsigned int i = 0; i < ARRAY_SIZE(ops); i++) {
		struct vm_device cfg = { .type = ops[i]->type, .id = ops[i]->type };

		if (dev_create_ops(vm, ops[i], &cfg, ops[i] == &dev_ioapic ? &vm->ioapic : NULL,
				   NULL) < 0)
			abort();
	}
	if (vm_build(vm, NULL) < 0)
		abort();
	vm->cpuid = calloc(1, 65536);
	buf_add(&state, data, len);
	/* The checksum is not what is tested here: make it right. */
	if (state.s) {
		uint32_t crc = htole32(crc32c(0, state.s, len - 4));

		memcpy(state.s + len - 4, &crc, 4);
		/* A machine whose state was refused can only be freed. */
		if (snapshot_load(vm, &state, NULL) == 0)
			for (unsigned int port = 0; port < 0x1000; port++)
				bus_read(vm_pio(vm), port, 1, &v);
	}
	buf_done(&state);
	vm_free(vm);
	return 0;
}
