/* What the guest starts with: images, the tables that describe the machine, the entry state.
 *
 * Kinds of image, found by looking: a bzImage (Linux 64-bit boot protocol), an ELF with a PVH note, an ELF or other file
 * with a multiboot header, another ELF64 (entered in long mode) or ELF32, anything else as a flat boot sector at
 * 0x7c00 in real mode; or firmware, entered at the reset vector.
 *
 * boot_open() opens and checks, before the jail; boot_load() writes guest memory, again at every guest reset.
 * Trust: images are hostile: every number is checked against the file and guest memory. */
#ifndef VMM_ARCH_X86_BOOT_H
#define VMM_ARCH_X86_BOOT_H

#include "vmm/arch/x86/cpu.h"
#include "vmm/hv/hv_ops.h"
#include "vmm/memory.h"

struct vm;
struct vm_config;
struct boot_info;

int boot_open(const struct vm_config *cfg, struct boot_info **ret, struct err **e);
/* For a snapshot: which kind of boot this was.  With cfg->boot VM_BOOT_RESTORE boot_open() opens no file; one that
 * boot_load() needs then (guest reset) it opens by the saved path. */
bool boot_is_firmware(const struct boot_info *b);
unsigned int boot_kind(const struct boot_info *b);
void boot_close(struct boot_info *b);
enum hv_irqchip boot_irqchip(const struct boot_info *b);
/* Memory besides RAM: firmware ROM, the generation id's page. */
int boot_regions(struct vm *vm, struct err **e);
int boot_load(struct vm *vm, struct err **e);

/* An image as bytes: of a file, or of memory (fuzzing). */
struct image {
	int fd; /* -1: mem */
	const uint8_t *mem;
	uint64_t size;
	const char *path; /* for messages */
};
/* -ENODATA when [off, off+len) is not all inside. */
int image_read(const struct image *im, uint64_t off, void *buf, size_t len);
/* Straight into guest RAM, with the check of the range there; the text says what. */
int image_load(const struct image *im, uint64_t off, struct guest_mem *m, gpa_t gpa, uint64_t len,
	       const char *what, struct err **e);

struct bzimage {
	uint64_t payload_off, payload_len; /* protected-mode kernel in the file */
	uint64_t load, init_size;	   /* where it goes, how much it needs from there */
	uint32_t initrd_max, cmdline_max;
	uint8_t header[0x90]; /* from 0x1f1 of the file */
	uint32_t header_len;
};
/* 1: it is one; 0: it is something else; -errno: it is one that cannot be booted. */
int bzimage_parse(const struct image *im, struct bzimage *ret, struct err **e);

#define ELF_MAX_SEGMENTS 64
struct elf_image {
	bool is64, has_pvh;
	uint64_t entry, pvh_entry;
	struct {
		uint64_t off, filesz, gpa, memsz;
	} seg[ELF_MAX_SEGMENTS];
	unsigned int n;
	uint64_t end; /* highest gpa used */
};
int elf_parse(const struct image *im, struct elf_image *ret, struct err **e);

struct multiboot {
	bool has_address; /* load by the header's addresses instead of ELF's */
	uint32_t header_off, header_addr, load_addr, load_end, bss_end, entry;
};
int multiboot_parse(const struct image *im, struct multiboot *ret, struct err **e);

#endif
