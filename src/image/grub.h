/* GRUB on a disk image, without mounting or running anything of the image: the host's grub-mkimage puts all modules
 * that are needed into the core, which then reads /boot/grub/grub.cfg of the file system with the given UUID.
 * Needs grub-common and grub-pc-bin; for UEFI grub-efi-amd64-bin, dosfstools and mtools. */
#ifndef IMAGE_GRUB_H
#define IMAGE_GRUB_H

#include "base/err.h"
#include "base/types.h"
#include "image/op.h"

/* BIOS: boot code into sector 0 and the core into [start, start + size), a "BIOS boot" partition (bytes).
 * work: a directory for files on the way. */
int grub_install_bios(int fd, uint64_t start, uint64_t size, const char *fs_uuid, const char *work,
		      struct image_op *op, struct err **e);
/* True when this host has what grub_make_esp() needs. */
bool grub_have_efi(void);
/* An EFI system partition of `size` bytes as the file path: FAT with EFI/BOOT/BOOTX64.EFI (unsigned). */
int grub_make_esp(const char *path, uint64_t size, const char *fs_uuid, const char *work,
		  struct image_op *op, struct err **e);
/* grub.cfg: kernel and initrd are paths in the file system (initrd NULL: none). */
char *grub_config(const char *title, const char *fs_uuid, const char *kernel, const char *initrd,
		  const char *cmdline);

#endif
