/* Boot images: bzImage, ELF with notes, multiboot. */
#include "vmm/arch/x86/boot.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct image im = { .fd = -1, .mem = data, .size = len, .path = "fuzz" };
	struct bzimage bz;
	struct elf_image elf;
	struct multiboot mb;
	struct guest_mem m;

	if (gmem_init(&m, MIB, GMEM_ANON, NULL) < 0)
		return 0;
	if (bzimage_parse(&im, &bz, NULL) == 1)
		image_load(&im, bz.payload_off, &m, 0x1000, bz.payload_len, "kernel", NULL);
	if (elf_parse(&im, &elf, NULL) == 1)
		for (unsigned int i = 0; i < elf.n; i++)
			if (gmem_ptr(&m, elf.seg[i].gpa, elf.seg[i].memsz))
				image_load(&im, elf.seg[i].off, &m, elf.seg[i].gpa,
					   elf.seg[i].filesz, "segment", NULL);
	multiboot_parse(&im, &mb, NULL);
	gmem_done(&m);
	return 0;
}
