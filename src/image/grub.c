/* See grub.h.  The three numbers that tie boot sector and core together are what grub-bios-setup would write
 * (GRUB: include/grub/i386/pc/boot.h): the boot sector names the first sector of the core, whose first sector
 * (diskboot) names where the rest begins. */
#include "image/grub.h"

#include <endian.h>
#include <fcntl.h>
#include <string.h>
#include "base/atomicfile.h"
#include "image/fsutil.h"

#define PC_DIR	"/usr/lib/grub/i386-pc"
#define EFI_DIR "/usr/lib/grub/x86_64-efi"

#define SECTOR		   512
#define BOOT_KERNEL_SECTOR 0x5c /* le64, in boot.img */
#define BOOT_DRIVE_CHECK   0x66 /* a jump there; two nops make it believe the BIOS about hard disks */
#define BOOT_CODE_SIZE	   440
#define BLOCKLIST_START	   (SECTOR - 12) /* le64, in the core's first sector */

/* What reads GPT and ext4, shows a menu on screen and serial line, and starts Linux. */
#define MODULES                                                                                    \
	"part_gpt", "ext2", "normal", "configfile", "linux", "search", "search_fs_uuid", "serial", \
		"terminal", "echo", "ls", "cat", "reboot", "halt", "minicmd"

static int write_early(const char *work, const char *fs_uuid, char *path, size_t len,
		       struct err **e)
{
	_cleanup_(buf_done) struct buf b = { 0 };

	snprintf(path, len, "%s/early.cfg", work);
	buf_addf(&b, "search.fs_uuid %s root\nset prefix=($root)/boot/grub\n", fs_uuid);
	if (buf_error(&b))
		return err_sys(e, ENOMEM, "grub");
	return file_write_atomic(AT_FDCWD, path, b.s, b.len, 0600, e);
}

int grub_install_bios(int fd, uint64_t start, uint64_t size, const char *fs_uuid, const char *work,
		      struct image_op *op, struct err **e)
{
	_cleanup_(buf_done) struct buf boot = { 0 }, core = { 0 };
	char early[4096], out[4096];
	const char *const argv[] = { "grub-mkimage", "-O", "i386-pc", "-d", PC_DIR, "-p",
				     "/boot/grub",   "-c", early,     "-o", out,    MODULES,
				     "biosdisk",     NULL };
	uint64_t lba = start / SECTOR;
	int r = write_early(work, fs_uuid, early, sizeof(early), e);

	if (r < 0)
		return r;
	if (access(PC_DIR "/boot.img", R_OK) < 0)
		return err_set(e, ENOENT, "image.program_missing",
			       "GRUB's modules (" PC_DIR
			       ", package grub-pc-bin) are not installed");
	snprintf(out, sizeof(out), "%s/core.img", work);
	r = run_program(argv, NULL, -1, op ? &op->cancelled : NULL, e);
	if (r == 0)
		r = file_read(AT_FDCWD, PC_DIR "/boot.img", SECTOR, &boot, e);
	if (r == 0)
		r = file_read(AT_FDCWD, out, size, &core, e);
	if (r < 0)
		return err_wrap(e, r, "make GRUB's core");
	if (boot.len != SECTOR || core.len < 2 * SECTOR)
		return err_set(e, EBADMSG, "image.grub", "GRUB's boot sector or core is damaged");
	lba = htole64(lba);
	memcpy(boot.s + BOOT_KERNEL_SECTOR, &lba, 8);
	memset(boot.s + BOOT_DRIVE_CHECK, 0x90, 2);
	lba = htole64(start / SECTOR + 1);
	memcpy(core.s + BLOCKLIST_START, &lba, 8);
	r = pwrite_all(fd, boot.s, BOOT_CODE_SIZE, 0);
	if (r == 0)
		r = pwrite_all(fd, core.s, core.len, (off_t)start);
	return r < 0 ? err_sys(e, -r, "write GRUB") : 0;
}

bool grub_have_efi(void)
{
	return access(EFI_DIR "/normal.mod", R_OK) == 0 && program_exists("mkfs.vfat") &&
	       program_exists("mmd") && program_exists("mcopy");
}

int grub_make_esp(const char *path, uint64_t size, const char *fs_uuid, const char *work,
		  struct image_op *op, struct err **e)
{
	char early[4096], out[4096];
	const char *const image[] = { "grub-mkimage", "-O", "x86_64-efi", "-d", EFI_DIR, "-p",
				      "/boot/grub",   "-c", early,	  "-o", out,	 MODULES,
				      "fat",	      NULL };
	const char *const fs[] = { "mkfs.vfat", "-F", "32", "-n", "EFI", path, NULL };
	const char *const dirs[] = { "mmd", "-i", path, "::/EFI", "::/EFI/BOOT", NULL };
	const char *const copy[] = { "mcopy", "-i", path, out, "::/EFI/BOOT/BOOTX64.EFI", NULL };
	const char *const *const all[] = { image, fs, dirs, copy };
	_cleanup_(closep) int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	int r = write_early(work, fs_uuid, early, sizeof(early), e);

	if (r < 0)
		return r;
	if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
		return err_sys(e, errno, "create '%s'", path);
	snprintf(out, sizeof(out), "%s/bootx64.efi", work);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(all); i++)
		r = run_program(all[i], NULL, -1, op ? &op->cancelled : NULL, e);
	return r < 0 ? err_wrap(e, r, "make the EFI system partition") : 0;
}

char *grub_config(const char *title, const char *fs_uuid, const char *kernel, const char *initrd,
		  const char *cmdline)
{
	_cleanup_(buf_done) struct buf b = { 0 };

	buf_adds(&b, "set timeout=1\n"
		     "if serial --unit=0 --speed=115200; then\n"
		     "\tterminal_input console serial\n"
		     "\tterminal_output console serial\n"
		     "fi\n");
	buf_addf(&b,
		 "menuentry '%s' {\n\tlinux %s root=UUID=%s ro console=tty0 console=ttyS0,115200",
		 title, kernel, fs_uuid);
	if (cmdline && *cmdline)
		buf_addf(&b, " %s", cmdline);
	if (initrd)
		buf_addf(&b, "\n\tinitrd %s", initrd);
	buf_adds(&b, "\n}\n");
	return buf_error(&b) ? NULL : TAKE(b.s);
}
