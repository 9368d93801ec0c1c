/* Every fixed address of the machine.
 *
 *	0x00000500  GDT and other boot structures       0x00007000  zero page (Linux), start info (PVH)
 *	0x00009000  page tables for 64-bit entries      0x00020000  kernel command line
 *	0x0009f000  VMGenID page (direct boot)          0x000e0000  ACPI tables (direct boot), firmware's shadow
 *	0x00100000  kernel                              below 2.75 GiB: low RAM, initrd at its top
 *	0xb0000000  ECAM of bus 0 (1 MiB; 256 MiB are kept free, as firmware expects of q35)
 *	0xc0000000  32-bit BARs                         0xfec00000  IOAPIC
 *	0xfee00000  local APICs                         0xfffc0000  firmware ROM (its size, up to 4 GiB)
 *	4 GiB       high RAM; 64-bit BARs follow at the next GiB, at least at 64 GiB */
#ifndef VMM_ARCH_X86_LAYOUT_H
#define VMM_ARCH_X86_LAYOUT_H

#include "base/types.h"

#define BOOT_GDT	 0x500ULL
#define BOOT_ZERO_PAGE	 0x7000ULL
#define BOOT_MODLIST	 0x6000ULL
#define BOOT_MEMMAP	 0x6800ULL
#define BOOT_PAGETABLES	 0x9000ULL /* PML4, PDPT, 4 PDs: 6 pages */
#define BOOT_STACK	 0x8ff0ULL
#define BOOT_CMDLINE	 0x20000ULL
#define BOOT_CMDLINE_MAX 0x10000U
#define EBDA_START	 0x9f000ULL
#define GENID_PAGE	 0x9f000ULL
#define ISA_START	 0xa0000ULL
#define ACPI_START	 0xe0000ULL
#define ACPI_END	 0x100000ULL
#define KERNEL_START	 0x100000ULL

#define ECAM_BASE    0xb0000000ULL
#define ECAM_SIZE    0x00100000ULL /* one bus */
#define ECAM_KEPT    0x10000000ULL
#define MMIO32_BASE  0xc0000000ULL
#define MMIO32_END   0xfe000000ULL
#define IOAPIC_BASE  0xfec00000ULL
#define LAPIC_BASE   0xfee00000ULL
#define FIRMWARE_END (1ULL << 32)
#define TSS_BASE \
	0xfeffd000ULL /* 3 pages and the identity map: Intel hosts without unrestricted guest */
#define IDENTITY_MAP 0xfeffc000ULL
#define MMIO64_MIN   (64 * GIB)
#define MMIO64_SIZE  (64 * GIB)

#define PIO_BAR_BASE 0xc000U
#define PIO_BAR_END  0xf000U

/* Ports. */
#define PORT_I8042	0x60U
#define PORT_RTC	0x70U
#define PORT_DEBUG_EXIT 0xf4U
#define PORT_COM1	0x3f8U
#define PORT_PVPANIC	0x505U
#define PORT_FW_CFG	0x510U
#define PORT_ACPI_PM	0x600U /* PM1 event 4, PM1 control 2, then PM timer at +8, GPE0 at +0x20 */
#define PORT_PCI	0xcf8U

/* IRQs (GSI). */
#define IRQ_COM1 4U
#define IRQ_RTC	 8U
#define IRQ_SCI	 9U

#endif
