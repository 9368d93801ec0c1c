/* The ACPI tables of the machine, as one block of bytes plus what must be patched when its address is known.
 * Direct boot puts the block at ACPI_START itself; firmware gets it with a loader script over fw_cfg. */
#ifndef VMM_ACPI_TABLES_H
#define VMM_ACPI_TABLES_H

#include "base/buf.h"
#include "base/err.h"
#include "base/vec.h"

struct acpi_config {
	unsigned int n_cpus;
	bool pic; /* 8259s and PIT are there */
	uint64_t mmio64_base, mmio64_size;
	gpa_t genid; /* address of the generation id; 0: no device */
	bool serial, rtc, pvpanic;
};

struct acpi_pointer { /* the field at `at` (4 or 8 bytes) holds an offset into the block, to be made an address */
	uint32_t at;
	uint8_t size;
};
struct acpi_checksum { /* byte `at` makes [start, start+len) sum to 0 */
	uint32_t at, start, len;
};

struct acpi_block {
	struct buf data; /* the tables; the RSDP is at the end, 16-aligned */
	uint32_t rsdp, rsdp_len;
	VEC(struct acpi_pointer) pointers;
	VEC(struct acpi_checksum) sums;
};

int acpi_build(const struct acpi_config *cfg, struct acpi_block *ret, struct err **e);
/* Patch pointers for the block lying at `base`, and all checksums. */
void acpi_place(struct acpi_block *a, uint64_t base);
void acpi_block_done(struct acpi_block *a);

#endif
