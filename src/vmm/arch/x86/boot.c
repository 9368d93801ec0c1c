/* See boot.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/checked.h"
#include "vmm/arch/x86/acpi/tables.h"
#include "vmm/arch/x86/boot.h"
#include "vmm/arch/x86/firmware.h"
#include "vmm/arch/x86/layout.h"
#include "vmm/device_ops.h"
#include "vmm/machine.h"
#include "vmm/pci/bus.h"

#define FLAT_LOAD 0x7c00U
#define FLAT_MAX  0x90000U
#define MAX_E820  16

enum kind { KIND_BZIMAGE, KIND_PVH, KIND_MULTIBOOT, KIND_ELF, KIND_FLAT, KIND_FIRMWARE };

struct boot_info {
	bool unopened; /* restored: images not looked at yet */
	enum kind kind;
	struct image kernel, initrd, firmware;
	bool has_initrd;
	const char *append;
	struct bzimage bz;
	struct elf_image elf;
	bool is_elf;
	struct multiboot mb;
	uint8_t *rom; /* firmware's view of the ROM region */
};

static int open_image(const char *path, const char *what, struct image *im, struct err **e)
{
	struct stat st;

	im->fd = open(path, O_RDONLY | O_CLOEXEC);
	if (im->fd < 0)
		return err_sys(e, errno, "open the %s '%s'", what, path);
	if (fstat(im->fd, &st) < 0)
		return err_sys(e, errno, "look at the %s '%s'", what, path);
	if (!S_ISREG(st.st_mode) || st.st_size == 0)
		return err_set(e, EINVAL, "boot.file", "the %s '%s' is %s", what, path,
			       S_ISREG(st.st_mode) ? "empty" : "not a file");
	im->size = (uint64_t)st.st_size;
	im->path = path;
	return 0;
}

static int classify(struct boot_info *b, struct err **e)
{
	int r = bzimage_parse(&b->kernel, &b->bz, e);

	if (r != 0) {
		b->kind = KIND_BZIMAGE;
		return r < 0 ? r : 0;
	}
	r = elf_parse(&b->kernel, &b->elf, e);
	if (r < 0)
		return r;
	b->is_elf = r == 1;
	if (b->is_elf && b->elf.has_pvh) {
		b->kind = KIND_PVH;
		return 0;
	}
	r = multiboot_parse(&b->kernel, &b->mb, e);
	if (r < 0)
		return r;
	if (r == 1 && (b->mb.has_address || b->is_elf)) {
		b->kind = KIND_MULTIBOOT;
		return 0;
	}
	b->kind = b->is_elf ? KIND_ELF : KIND_FLAT;
	if (b->kind == KIND_FLAT && b->kernel.size > FLAT_MAX)
		return err_set(
			e, EINVAL, "boot.unknown",
			"'%s' is neither a bzImage nor ELF nor multiboot, and too large for a flat payload (576 KiB)",
			b->kernel.path);
	return 0;
}

static int open_all(const struct vm_config *cfg, struct boot_info *b, struct err **e);

int boot_open(const struct vm_config *cfg, struct boot_info **ret, struct err **e)
{
	struct boot_info *b = calloc(1, sizeof(*b));
	int r;

	if (!b)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	b->kernel.fd = b->initrd.fd = b->firmware.fd = -1;
	b->append = cfg->append ? cfg->append : "";
	if (cfg->boot == VM_BOOT_RESTORE) {
		b->kind = (enum kind)cfg->restore_kind;
		b->unopened = true;
		r = cfg->restore_kind > KIND_FIRMWARE ||
				    (b->kind == KIND_FIRMWARE) != (cfg->restore_rom != 0)
			    ? err_set(e, EINVAL, "snapshot.machine", "an unknown kind of boot")
			    : 0;
	} else {
		r = open_all(cfg, b, e);
	}
	if (r < 0) {
		boot_close(b);
		return r;
	}
	*ret = b;
	return 0;
}

static int open_all(const struct vm_config *cfg, struct boot_info *b, struct err **e)
{
	int r;

	if (cfg->firmware) {
		b->kind = KIND_FIRMWARE;
		r = open_image(cfg->firmware, "firmware", &b->firmware, e);
		if (r == 0 && (b->firmware.size % 0x10000 || b->firmware.size > 16 * MIB))
			r = err_set(e, EINVAL, "boot.firmware",
				    "firmware '%s' is not a multiple of 64 KiB up to 16 MiB",
				    cfg->firmware);
	} else {
		r = open_image(cfg->kernel, "kernel", &b->kernel, e);
		if (r == 0)
			r = classify(b, e);
		if (r == 0 && cfg->initrd) {
			r = open_image(cfg->initrd, "initrd", &b->initrd, e);
			b->has_initrd = true;
			if (r == 0 && (b->kind == KIND_FLAT || b->kind == KIND_ELF))
				r = err_set(e, EINVAL, "boot.initrd",
					    "a flat payload takes no initrd");
		}
		if (r == 0 && strlen(b->append) >= BOOT_CMDLINE_MAX)
			r = err_set(e, EINVAL, "boot.cmdline", "the command line is too long");
		if (r == 0 && b->kind == KIND_BZIMAGE && strlen(b->append) > b->bz.cmdline_max)
			r = err_set(e, EINVAL, "boot.cmdline",
				    "the command line has %zu bytes, this kernel takes %u",
				    strlen(b->append), b->bz.cmdline_max);
	}
	return r;
}

unsigned int boot_kind(const struct boot_info *b)
{
	return b->kind;
}

void boot_close(struct boot_info *b)
{
	if (!b)
		return;
	safe_close(b->kernel.fd);
	safe_close(b->initrd.fd);
	safe_close(b->firmware.fd);
	free(b);
}

enum hv_irqchip boot_irqchip(const struct boot_info *b)
{
	/* Multiboot payloads are test kernels and unikernels that may count on PIC and PIT. */
	return b->kind == KIND_FIRMWARE || b->kind == KIND_MULTIBOOT ? HV_IRQCHIP_FULL
								     : HV_IRQCHIP_SPLIT;
}

bool boot_is_firmware(const struct boot_info *b)
{
	return b->kind == KIND_FIRMWARE;
}

static bool has_tables(const struct boot_info *b)
{
	return b->kind == KIND_BZIMAGE || b->kind == KIND_PVH || b->kind == KIND_MULTIBOOT;
}

int boot_regions(struct vm *vm, struct err **e)
{
	struct boot_info *b = vm->boot;
	int r;

	if (b->kind == KIND_FIRMWARE) {
		/* The generation id's page lies right below the ROM, in the same region. */
		uint64_t size = b->unopened ? vm->cfg.restore_rom : b->firmware.size + GMEM_PAGE;

		vm->genid_gpa = FIRMWARE_END - size;
		r = gmem_add_rom(&vm->mem, vm->genid_gpa, size, &vm->genid_page, e);
		if (r < 0)
			return r;
		b->rom = vm->genid_page + GMEM_PAGE;
		if (b->unopened) {
			struct image saved = { .fd = vm->cfg.memory_fd, .size = UINT64_MAX };

			r = image_read(&saved, vm->cfg.memory, vm->genid_page, size);
		} else {
			r = image_read(&b->firmware, 0, b->rom, b->firmware.size);
		}
		return r < 0 ? err_sys(e, -r, "read the firmware") : 0;
	}
	if (has_tables(b)) {
		vm->genid_gpa = GENID_PAGE;
		vm->genid_page = gmem_ptr(&vm->mem, GENID_PAGE, GMEM_PAGE);
	}
	return 0;
}

/* Memory as the guest is told of it. */

struct e820 {
	struct {
		uint64_t base, size;
		uint32_t type;
	} e[MAX_E820];
	unsigned int n;
};
#define E820_RAM      1
#define E820_RESERVED 2

static void e820_add(struct e820 *t, uint64_t base, uint64_t end, uint32_t type)
{
	if (base < end && t->n < MAX_E820) {
		t->e[t->n].base = base;
		t->e[t->n].size = end - base;
		t->e[t->n++].type = type;
	}
}

static void e820_build(struct vm *vm, struct e820 *t)
{
	uint64_t ram = gmem_ram_size(&vm->mem), low = MIN(ram, (uint64_t)GMEM_LOW_MAX);

	t->n = 0;
	e820_add(t, 0, EBDA_START, E820_RAM);
	e820_add(t, EBDA_START, ISA_START, E820_RESERVED);
	e820_add(t, ACPI_START, ACPI_END, E820_RESERVED);
	e820_add(t, KERNEL_START, low, E820_RAM);
	e820_add(t, ECAM_BASE, ECAM_BASE + ECAM_SIZE, E820_RESERVED);
	if (ram > low)
		e820_add(t, GMEM_HIGH_BASE, GMEM_HIGH_BASE + ram - low, E820_RAM);
}

static int build_acpi(struct vm *vm, struct acpi_block *a, struct err **e)
{
	struct acpi_config cfg = {
		.n_cpus = vm->cfg.n_cpus,
		.pic = vm->irq.kind == HV_IRQCHIP_FULL,
		.mmio64_base = vm->pci->mmio64.base,
		.mmio64_size = vm->pci->mmio64.size,
		.genid = vm->genid_gpa,
		.serial = true,
		.rtc = true,
		.pvpanic = true,
	};

	return acpi_build(&cfg, a, e);
}

static int place_acpi(struct vm *vm, uint64_t *rsdp, struct err **e)
{
	struct acpi_block a;
	int r = build_acpi(vm, &a, e);

	if (r < 0)
		return r;
	acpi_place(&a, ACPI_START);
	*rsdp = ACPI_START + a.rsdp;
	if (a.data.len > ACPI_END - ACPI_START ||
	    gmem_write(&vm->mem, ACPI_START, a.data.s, a.data.len) < 0)
		r = err_set(e, ENOSPC, "boot.acpi", "the ACPI tables do not fit");
	acpi_block_done(&a);
	return r;
}

/* The initrd at the top of low RAM, below `max`, above `floor`. */
static int load_initrd(struct vm *vm, uint64_t max, uint64_t floor, uint64_t *at, struct err **e)
{
	struct boot_info *b = vm->boot;
	uint64_t top = MIN(vm->mem.region[0].size, max);

	if (b->initrd.size > top || ALIGN_DOWN(top - b->initrd.size, GMEM_PAGE) < floor)
		return err_set(
			e, ENOMEM, "boot.memory",
			"the initrd (%llu KiB) does not fit into guest memory beside the kernel; give the guest more memory",
			(unsigned long long)b->initrd.size / 1024);
	*at = ALIGN_DOWN(top - b->initrd.size, GMEM_PAGE);
	return image_load(&b->initrd, 0, &vm->mem, *at, b->initrd.size, "the initrd", e);
}

static int put_cmdline(struct vm *vm, struct err **e)
{
	return gmem_write(&vm->mem, BOOT_CMDLINE, vm->boot->append, strlen(vm->boot->append) + 1) <
			       0
		       ? err_set(e, ENOMEM, "boot.memory", "too little memory for the command line")
		       : 0;
}

static void put32(uint8_t *p, uint32_t v)
{
	v = htole32(v);
	memcpy(p, &v, 4);
}

static void put64(uint8_t *p, uint64_t v)
{
	v = htole64(v);
	memcpy(p, &v, 8);
}

static int load_bzimage(struct vm *vm, struct err **e)
{
	struct boot_info *b = vm->boot;
	uint64_t rsdp, initrd = 0, end = b->bz.load + b->bz.init_size;
	struct e820 map;
	uint8_t zp[GMEM_PAGE] = { 0 };
	int r = place_acpi(vm, &rsdp, e);

	if (r == 0 && !gmem_ptr(&vm->mem, b->bz.load, b->bz.init_size))
		r = err_set(
			e, ENOMEM, "boot.memory",
			"the kernel needs %llu MiB of memory at 0x%llx; give the guest more memory",
			(unsigned long long)(b->bz.init_size >> 20) + 1,
			(unsigned long long)b->bz.load);
	if (r == 0)
		r = image_load(&b->kernel, b->bz.payload_off, &vm->mem, b->bz.load,
			       b->bz.payload_len, "the kernel", e);
	if (r == 0 && b->has_initrd)
		r = load_initrd(vm, (uint64_t)b->bz.initrd_max + 1, end, &initrd, e);
	if (r == 0)
		r = put_cmdline(vm, e);
	if (r < 0)
		return r;
	memcpy(zp + 0x1f1, b->bz.header, b->bz.header_len);
	put64(zp + 0x70, rsdp);
	zp[0x210] = 0xff; /* loader: unregistered */
	put32(zp + 0x218, (uint32_t)initrd);
	put32(zp + 0x21c, (uint32_t)(initrd ? b->initrd.size : 0));
	put32(zp + 0x228, BOOT_CMDLINE);
	zp[0x1fa] = zp[0x1fb] = 0xff; /* vid_mode: normal */
	put32(zp + 0x214, (uint32_t)b->bz.load);
	e820_build(vm, &map);
	zp[0x1e8] = (uint8_t)map.n;
	for (unsigned int i = 0; i < map.n; i++) {
		put64(zp + 0x2d0 + 20 * i, map.e[i].base);
		put64(zp + 0x2d8 + 20 * i, map.e[i].size);
		put32(zp + 0x2e0 + 20 * i, map.e[i].type);
	}
	if (gmem_write(&vm->mem, BOOT_ZERO_PAGE, zp, sizeof(zp)) < 0)
		return err_set(e, ENOMEM, "boot.memory", "too little memory");
	return x86_set_entry(vm,
			     &(struct x86_entry){ .mode = X86_LONG64,
						  .rip = b->bz.load + 0x200,
						  .rsi = BOOT_ZERO_PAGE,
						  .rsp = BOOT_STACK },
			     e);
}

static int load_elf_segments(struct vm *vm, struct err **e)
{
	struct boot_info *b = vm->boot;

	for (unsigned int i = 0; i < b->elf.n; i++) {
		uint8_t *p = gmem_ptr(&vm->mem, b->elf.seg[i].gpa, b->elf.seg[i].memsz);
		int r;

		if (!p)
			return err_set(
				e, ENOMEM, "boot.memory",
				"segment %u of the image needs %llu KiB at 0x%llx; give the guest more memory",
				i, (unsigned long long)b->elf.seg[i].memsz / 1024,
				(unsigned long long)b->elf.seg[i].gpa);
		r = image_load(&b->kernel, b->elf.seg[i].off, &vm->mem, b->elf.seg[i].gpa,
			       b->elf.seg[i].filesz, "the image", e);
		if (r < 0)
			return r;
		memset(p + b->elf.seg[i].filesz, 0, b->elf.seg[i].memsz - b->elf.seg[i].filesz);
		gmem_mark_dirty(&vm->mem, b->elf.seg[i].gpa, b->elf.seg[i].memsz);
	}
	return 0;
}

/* hvm_start_info: Xen's docs/misc/pvh and xen/include/public/arch-x86/hvm/start_info.h */
static int load_pvh(struct vm *vm, struct err **e)
{
	struct boot_info *b = vm->boot;
	uint8_t info[56] = { 0 }, mod[32] = { 0 }, map_bytes[24 * MAX_E820] = { 0 };
	uint64_t rsdp, initrd = 0;
	struct e820 map;
	int r = place_acpi(vm, &rsdp, e);

	if (r == 0)
		r = load_elf_segments(vm, e);
	if (r == 0 && b->has_initrd)
		r = load_initrd(vm, UINT32_MAX, b->elf.end, &initrd, e);
	if (r == 0)
		r = put_cmdline(vm, e);
	if (r < 0)
		return r;
	e820_build(vm, &map);
	for (unsigned int i = 0; i < map.n; i++) {
		put64(map_bytes + 24 * i, map.e[i].base);
		put64(map_bytes + 24 * i + 8, map.e[i].size);
		put32(map_bytes + 24 * i + 16, map.e[i].type);
	}
	put64(mod, initrd);
	put64(mod + 8, b->initrd.size);
	put32(info, 0x336ec578);
	put32(info + 4, 1);
	put32(info + 12, initrd ? 1 : 0);
	put64(info + 16, initrd ? BOOT_MODLIST : 0);
	put64(info + 24, BOOT_CMDLINE);
	put64(info + 32, rsdp);
	put64(info + 40, BOOT_MEMMAP);
	put32(info + 48, map.n);
	if (gmem_write(&vm->mem, BOOT_ZERO_PAGE, info, sizeof(info)) < 0 ||
	    gmem_write(&vm->mem, BOOT_MODLIST, mod, sizeof(mod)) < 0 ||
	    gmem_write(&vm->mem, BOOT_MEMMAP, map_bytes, 24 * map.n) < 0)
		return err_set(e, ENOMEM, "boot.memory", "too little memory");
	return x86_set_entry(vm,
			     &(struct x86_entry){ .mode = X86_PROT32,
						  .rip = b->elf.pvh_entry,
						  .rbx = BOOT_ZERO_PAGE },
			     e);
}

static int load_multiboot_image(struct vm *vm, struct err **e)
{
	struct boot_info *b = vm->boot;
	uint64_t off, len, bss;
	uint8_t *p;
	int r;

	if (!b->mb.has_address)
		return load_elf_segments(vm, e);
	off = b->mb.header_off - (b->mb.header_addr - b->mb.load_addr);
	len = b->mb.load_end ? b->mb.load_end - b->mb.load_addr : b->kernel.size - off;
	r = image_load(&b->kernel, off, &vm->mem, b->mb.load_addr, len, "the image", e);
	if (r < 0 || b->mb.bss_end <= b->mb.load_addr + len)
		return r;
	bss = b->mb.bss_end - (b->mb.load_addr + len);
	p = gmem_ptr(&vm->mem, b->mb.load_addr + len, bss);
	if (!p)
		return err_set(e, ENOMEM, "boot.memory",
			       "the image does not fit; give the guest more memory");
	memset(p, 0, bss);
	gmem_mark_dirty(&vm->mem, b->mb.load_addr + len, bss);
	return 0;
}

static int load_multiboot(struct vm *vm, struct err **e)
{
	struct boot_info *b = vm->boot;
	uint8_t info[88] = { 0 }, mod[16] = { 0 }, map_bytes[24 * MAX_E820] = { 0 };
	uint64_t rsdp, initrd = 0, low = vm->mem.region[0].size;
	struct e820 map;
	int r = place_acpi(vm, &rsdp, e);

	if (r == 0)
		r = load_multiboot_image(vm, e);
	if (r == 0 && b->has_initrd)
		r = load_initrd(vm, UINT32_MAX, MAX(b->elf.end, (uint64_t)b->mb.bss_end), &initrd,
				e);
	if (r == 0)
		r = put_cmdline(vm, e);
	if (r < 0)
		return r;
	e820_build(vm, &map);
	for (unsigned int i = 0; i < map.n; i++) {
		put32(map_bytes + 24 * i, 20);
		put64(map_bytes + 24 * i + 4, map.e[i].base);
		put64(map_bytes + 24 * i + 12, map.e[i].size);
		put32(map_bytes + 24 * i + 20, map.e[i].type);
	}
	put32(mod, (uint32_t)initrd);
	put32(mod + 4, (uint32_t)(initrd + b->initrd.size));
	put32(info,
	      1 | 1 << 2 | 1 << 6 | (initrd ? 1 << 3 : 0)); /* memory, command line, map, modules */
	put32(info + 4, EBDA_START / 1024);
	put32(info + 8, (uint32_t)((low - KERNEL_START) / 1024));
	put32(info + 16, BOOT_CMDLINE);
	put32(info + 20, initrd ? 1 : 0);
	put32(info + 24, BOOT_MODLIST);
	put32(info + 44, 24 * map.n);
	put32(info + 48, BOOT_MEMMAP);
	if (gmem_write(&vm->mem, BOOT_ZERO_PAGE, info, sizeof(info)) < 0 ||
	    gmem_write(&vm->mem, BOOT_MODLIST, mod, sizeof(mod)) < 0 ||
	    gmem_write(&vm->mem, BOOT_MEMMAP, map_bytes, 24 * map.n) < 0)
		return err_set(e, ENOMEM, "boot.memory", "too little memory");
	return x86_set_entry(vm,
			     &(struct x86_entry){ .mode = X86_PROT32,
						  .rip = b->mb.has_address ? b->mb.entry
									   : b->elf.entry,
						  .rax = 0x2badb002,
						  .rbx = BOOT_ZERO_PAGE },
			     e);
}

static int load_elf(struct vm *vm, struct err **e)
{
	struct boot_info *b = vm->boot;
	int r = load_elf_segments(vm, e);

	return r < 0 ? r
		     : x86_set_entry(vm,
				     &(struct x86_entry){ .mode = b->elf.is64 ? X86_LONG64
									      : X86_PROT32,
							  .rip = b->elf.entry,
							  .rsp = BOOT_STACK },
				     e);
}

static int load_flat(struct vm *vm, struct err **e)
{
	struct boot_info *b = vm->boot;
	int r = image_load(&b->kernel, 0, &vm->mem, FLAT_LOAD, b->kernel.size, "the payload", e);

	return r < 0 ? r
		     : x86_set_entry(vm,
				     &(struct x86_entry){
					     .mode = X86_REAL, .rip = FLAT_LOAD, .rsp = FLAT_LOAD },
				     e);
}

static int load_firmware(struct vm *vm, struct err **e)
{
	struct boot_info *b = vm->boot;
	uint64_t shadow = MIN(b->firmware.size, 128 * KIB);
	struct acpi_block a;
	struct e820 map;
	struct firmware_range range[2];
	unsigned int n = 0;
	int r;

	/* The end of the ROM also shows below 1 MiB, in RAM: firmware finds its shadow unlocked already. */
	r = gmem_write(&vm->mem, ACPI_END - shadow, b->rom + b->firmware.size - shadow, shadow);
	if (r < 0)
		return err_set(e, ENOMEM, "boot.memory", "too little memory for firmware");
	if (dev_find(vm, "fw-cfg") && !vm->firmware_ready) {
		e820_build(vm, &map);
		for (unsigned int i = 0; i < map.n; i++)
			if (map.e[i].type == E820_RAM && map.e[i].base >= KERNEL_START)
				range[n++] = (struct firmware_range){
					map.e[i].base == KERNEL_START ? 0 : map.e[i].base,
					map.e[i].base + map.e[i].size
				};
		r = build_acpi(vm, &a, e);
		if (r < 0)
			return r;
		r = firmware_setup(vm, &a, range, n, e);
		acpi_block_done(&a);
		vm->firmware_ready = r == 0;
	}
	return r;
}

int boot_load(struct vm *vm, struct err **e)
{
	if (vm->boot->unopened) {
		enum kind was = vm->boot->kind;
		int r = open_all(&vm->cfg, vm->boot, e);

		if (r == 0 && vm->boot->kind != was)
			r = err_set(e, EINVAL, "boot.changed",
				    "the boot image is of another kind now");
		if (r < 0)
			return err_wrap(e, r, "reset a restored vm");
		vm->boot->unopened = false;
	}
	switch (vm->boot->kind) {
	case KIND_BZIMAGE:
		return load_bzimage(vm, e);
	case KIND_PVH:
		return load_pvh(vm, e);
	case KIND_MULTIBOOT:
		return load_multiboot(vm, e);
	case KIND_ELF:
		return load_elf(vm, e);
	case KIND_FLAT:
		return load_flat(vm, e);
	case KIND_FIRMWARE:
		return load_firmware(vm, e);
	}
	return -EINVAL;
}
