/* Parsers of boot images.  Spec: Linux Documentation/arch/x86/boot.rst; ELF-64; Xen's PVH entry (xen/include/public/
 * elfnote.h); Multiboot 0.6.96.  Pure functions of the bytes: fuzz/boot_image.c feeds them. */
#include <elf.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "base/checked.h"
#include "vmm/arch/x86/boot.h"

#define XEN_ELFNOTE_PHYS32_ENTRY 18
#define MB_MAGIC		 0x1badb002U
#define MB_SEARCH		 8192

int image_read(const struct image *im, uint64_t off, void *buf, size_t len)
{
	uint8_t *p = buf;

	if (!range_inside(off, len, im->size))
		return -ENODATA;
	if (im->fd < 0) {
		memcpy(buf, im->mem + off, len);
		return 0;
	}
	while (len) {
		ssize_t n = pread(im->fd, p, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ENODATA;
		p += n;
		off += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

int image_load(const struct image *im, uint64_t off, struct guest_mem *m, gpa_t gpa, uint64_t len,
	       const char *what, struct err **e)
{
	void *p = gmem_ptr(m, gpa, len);
	int r;

	if (!p)
		return err_set(
			e, ENOMEM, "boot.memory",
			"%s does not fit: it needs %llu KiB at 0x%llx; give the guest more memory",
			what, (unsigned long long)(len + 1023) / 1024, (unsigned long long)gpa);
	r = image_read(im, off, p, len);
	if (r < 0)
		return err_set(e, -r, "boot.read", "read %s from '%s': %s", what, im->path,
			       r == -ENODATA ? "the file is cut short" : strerror(-r));
	gmem_mark_dirty(m, gpa, len);
	return 0;
}

static uint16_t le16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}
static uint32_t le32(const uint8_t *p)
{
	return le16(p) | (uint32_t)le16(p + 2) << 16;
}
static uint64_t le64(const uint8_t *p)
{
	return le32(p) | (uint64_t)le32(p + 4) << 32;
}

int bzimage_parse(const struct image *im, struct bzimage *z, struct err **e)
{
	uint8_t h[0x290];
	unsigned int version, sects;

	memset(z, 0, sizeof(*z));
	if (image_read(im, 0, h, sizeof(h)) < 0 || le32(h + 0x202) != 0x53726448 /* "HdrS" */ ||
	    le16(h + 0x1fe) != 0xaa55)
		return 0;
	version = le16(h + 0x206);
	if (version < 0x20c || !(le16(h + 0x236) & 1))
		return err_set(e, ENOTSUP, "boot.bzimage",
			       "'%s': boot protocol %u.%02u without a 64-bit entry", im->path,
			       version >> 8, version & 0xff);
	sects = h[0x1f1] ? h[0x1f1] : 4;
	z->payload_off = (sects + 1) * 512ULL;
	if (z->payload_off >= im->size)
		return err_set(e, EINVAL, "boot.bzimage", "'%s' is cut short", im->path);
	z->payload_len = im->size - z->payload_off;
	z->load = le64(h + 0x258);
	z->init_size = le32(h + 0x260);
	z->initrd_max = le32(h + 0x22c);
	z->cmdline_max = le32(h + 0x238);
	if (z->load < 0x100000 || z->load > 0x40000000 || z->init_size == 0 ||
	    z->init_size > 0x40000000 || z->payload_len > z->init_size || z->payload_len < 0x400)
		return err_set(e, EINVAL, "boot.bzimage", "'%s': sizes in the header make no sense",
			       im->path);
	z->header_len = MIN(h[0x201] + 0x202U - 0x1f1U, (uint32_t)sizeof(z->header));
	memcpy(z->header, h + 0x1f1, z->header_len);
	return 1;
}

static void find_pvh(const struct image *im, uint64_t off, uint64_t size, struct elf_image *ret)
{
	uint64_t end = off + size;
	uint8_t h[12], desc[8] = { 0 };

	if (size > 65536 || !range_inside(off, size, im->size))
		return;
	while (off < end && end - off >= sizeof(h)) {
		uint64_t namesz, descsz, at;
		char name[4];

		if (image_read(im, off, h, sizeof(h)) < 0)
			return;
		namesz = le32(h);
		descsz = le32(h + 4);
		at = off + sizeof(h) + ALIGN_UP(namesz, 4);
		if (namesz == 4 && le32(h + 8) == XEN_ELFNOTE_PHYS32_ENTRY &&
		    image_read(im, off + sizeof(h), name, 4) == 0 && memcmp(name, "Xen", 4) == 0 &&
		    (descsz == 4 || descsz == 8) && image_read(im, at, desc, descsz) == 0) {
			ret->has_pvh = true;
			ret->pvh_entry = descsz == 4 ? le32(desc) : le64(desc);
			return;
		}
		off = at + ALIGN_UP(descsz, 4);
	}
}

int elf_parse(const struct image *im, struct elf_image *ret, struct err **e)
{
	uint8_t h[64];
	uint64_t phoff;
	unsigned int phnum, phentsize;

	memset(ret, 0, sizeof(*ret));
	if (image_read(im, 0, h, 52) < 0 || memcmp(h, ELFMAG, SELFMAG) != 0)
		return 0;
	ret->is64 = h[EI_CLASS] == ELFCLASS64;
	if (h[EI_DATA] != ELFDATA2LSB || (ret->is64 && image_read(im, 0, h, 64) < 0) ||
	    (le16(h + 18) != EM_X86_64 && le16(h + 18) != EM_386))
		return err_set(e, ENOTSUP, "boot.elf", "'%s' is not an x86 ELF file", im->path);
	ret->entry = ret->is64 ? le64(h + 24) : le32(h + 24);
	phoff = ret->is64 ? le64(h + 32) : le32(h + 28);
	phentsize = le16(h + (ret->is64 ? 54 : 42));
	phnum = le16(h + (ret->is64 ? 56 : 44));
	if (phentsize < (ret->is64 ? 56U : 32U))
		return err_set(e, EINVAL, "boot.elf", "'%s': bad program headers", im->path);
	for (unsigned int i = 0; i < phnum; i++) {
		uint8_t p[56];
		uint64_t off, filesz, memsz, gpa, end;
		uint32_t type;

		if (add_of(phoff, (uint64_t)i * phentsize, &off) ||
		    image_read(im, off, p, ret->is64 ? 56 : 32) < 0)
			return err_set(e, EINVAL, "boot.elf", "'%s' is cut short", im->path);
		type = le32(p);
		off = ret->is64 ? le64(p + 8) : le32(p + 4);
		gpa = ret->is64 ? le64(p + 24) : le32(p + 12);
		filesz = ret->is64 ? le64(p + 32) : le32(p + 16);
		memsz = ret->is64 ? le64(p + 40) : le32(p + 20);
		if (type == PT_NOTE)
			find_pvh(im, off, filesz, ret);
		if (type != PT_LOAD || memsz == 0)
			continue;
		if (filesz > memsz || !range_inside(off, filesz, im->size) ||
		    add_of(gpa, memsz, &end) || ret->n == ELF_MAX_SEGMENTS)
			return err_set(e, EINVAL, "boot.elf", "'%s': segment %u makes no sense",
				       im->path, i);
		ret->seg[ret->n].off = off;
		ret->seg[ret->n].filesz = filesz;
		ret->seg[ret->n].gpa = gpa;
		ret->seg[ret->n].memsz = memsz;
		ret->n++;
		ret->end = MAX(ret->end, end);
	}
	if (ret->n == 0)
		return err_set(e, EINVAL, "boot.elf", "'%s' has nothing to load", im->path);
	return 1;
}

int multiboot_parse(const struct image *im, struct multiboot *ret, struct err **e)
{
	static _Thread_local uint8_t head[MB_SEARCH];
	size_t n = (size_t)MIN(im->size, (uint64_t)sizeof(head));

	memset(ret, 0, sizeof(*ret));
	if (image_read(im, 0, head, n) < 0)
		return 0;
	for (size_t off = 0; off + 12 <= n; off += 4) {
		uint32_t flags = le32(head + off + 4);

		if (le32(head + off) != MB_MAGIC || MB_MAGIC + flags + le32(head + off + 8) != 0)
			continue;
		if (flags & 0xfff8 & ~0x10000U)
			return err_set(
				e, ENOTSUP, "boot.multiboot",
				"'%s' needs multiboot features that are not there (flags 0x%x)",
				im->path, flags);
		ret->header_off = (uint32_t)off;
		if (flags & 0x10000) {
			if (off + 32 > n)
				return 0;
			ret->has_address = true;
			ret->header_addr = le32(head + off + 12);
			ret->load_addr = le32(head + off + 16);
			ret->load_end = le32(head + off + 20);
			ret->bss_end = le32(head + off + 24);
			ret->entry = le32(head + off + 28);
			if (ret->load_addr > ret->header_addr ||
			    ret->header_addr - ret->load_addr > off ||
			    (ret->load_end && ret->load_end < ret->load_addr) ||
			    (ret->bss_end && ret->bss_end < ret->load_end))
				return err_set(e, EINVAL, "boot.multiboot",
					       "'%s': multiboot addresses make no sense", im->path);
		}
		return 1;
	}
	return 0;
}
