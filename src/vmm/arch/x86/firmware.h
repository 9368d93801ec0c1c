/* What firmware is told over fw_cfg and CMOS: memory, CPUs, ACPI tables with their loader script, SMBIOS, boot order. */
#ifndef VMM_ARCH_X86_FIRMWARE_H
#define VMM_ARCH_X86_FIRMWARE_H

#include "base/err.h"
#include "vmm/arch/x86/acpi/tables.h"

struct vm;
struct firmware_range {
	uint64_t base, end; /* RAM */
};

/* a is not placed yet: firmware patches it by the script. */
int firmware_setup(struct vm *vm, struct acpi_block *a, const struct firmware_range *ram,
		   unsigned int n, struct err **e);

#endif
