/* See firmware.h.  Spec: QEMU docs/specs/fw_cfg, include/hw/acpi/bios-linker-loader (facts of the script's layout);
 * SMBIOS 3.2 (DSP0134). */
#include <errno.h>
#include <string.h>
#include "vmm/arch/x86/firmware.h"
#include "vmm/device_ops.h"
#include "vmm/devices/legacy.h"
#include "vmm/machine.h"

#define FILE_TABLES "etc/acpi/tables"
#define FILE_RSDP   "etc/acpi/rsdp"
#define NAME_LEN    56

static void put(struct buf *b, uint64_t v, unsigned int size)
{
	v = htole64(v);
	buf_add(b, &v, size);
}

static void put_name(struct buf *b, const char *name)
{
	char field[NAME_LEN] = { 0 };

	memcpy(field, name, strlen(name));
	buf_add(b, field, sizeof(field));
}

/* Script entries have 128 bytes. */
static void pad_entry(struct buf *b, size_t start)
{
	while (b->len - start < 128 && buf_addc(b, 0) == 0)
		;
}

static void cmd_allocate(struct buf *b, const char *file, uint32_t align, uint8_t zone)
{
	size_t start = b->len;

	put(b, 1, 4);
	put_name(b, file);
	put(b, align, 4);
	put(b, zone, 1);
	pad_entry(b, start);
}

static void cmd_pointer(struct buf *b, const char *in, const char *to, uint32_t at, uint8_t size)
{
	size_t start = b->len;

	put(b, 2, 4);
	put_name(b, in);
	put_name(b, to);
	put(b, at, 4);
	put(b, size, 1);
	pad_entry(b, start);
}

static void cmd_checksum(struct buf *b, const char *file, uint32_t at, uint32_t from, uint32_t len)
{
	size_t start = b->len;

	put(b, 3, 4);
	put_name(b, file);
	put(b, at, 4);
	put(b, from, 4);
	put(b, len, 4);
	pad_entry(b, start);
}

static int acpi_files(struct dev *fw, struct acpi_block *a, struct err **e)
{
	_cleanup_(buf_done) struct buf script = { 0 };
	_cleanup_(buf_done) struct buf rsdp = { 0 };
	int r;

	buf_add(&rsdp, a->data.s + a->rsdp, a->rsdp_len);
	a->data.len = a->rsdp;
	cmd_allocate(&script, FILE_TABLES, 64, 1 /* high memory */);
	cmd_allocate(&script, FILE_RSDP, 16, 2 /* F segment */);
	for (size_t i = 0; i < a->pointers.n; i++) {
		const struct acpi_pointer *p = &a->pointers.v[i];

		if (p->at >= a->rsdp)
			cmd_pointer(&script, FILE_RSDP, FILE_TABLES, p->at - a->rsdp, p->size);
		else
			cmd_pointer(&script, FILE_TABLES, FILE_TABLES, p->at, p->size);
	}
	for (size_t i = 0; i < a->sums.n; i++) {
		const struct acpi_checksum *s = &a->sums.v[i];

		if (s->at >= a->rsdp)
			cmd_checksum(&script, FILE_RSDP, s->at - a->rsdp, s->start - a->rsdp,
				     s->len);
		else
			cmd_checksum(&script, FILE_TABLES, s->at, s->start, s->len);
	}
	if (buf_error(&script) || buf_error(&rsdp))
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	r = fw_cfg_add_file(fw, FILE_TABLES, &a->data, e);
	if (r == 0)
		r = fw_cfg_add_file(fw, FILE_RSDP, &rsdp, e);
	if (r == 0)
		r = fw_cfg_add_file(fw, "etc/table-loader", &script, e);
	return r;
}

static int smbios_files(struct dev *fw, struct err **e)
{
	_cleanup_(buf_done) struct buf t = { 0 };
	_cleanup_(buf_done) struct buf anchor = { 0 };
	uint8_t sum = 0;
	int r;

	/* Type 1, system: maker, product, version. */
	put(&t, 1, 1);
	put(&t, 27, 1);
	put(&t, 0x100, 2);
	put(&t, 1, 1);
	put(&t, 2, 1);
	put(&t, 3, 1);
	put(&t, 0, 1);
	for (unsigned int i = 0; i < 16; i++)
		put(&t, 0, 1); /* UUID: not present */
	put(&t, 6, 1);	       /* woken by the power switch */
	put(&t, 0, 2);
	buf_add(&t, "Strata\0Strata VM\0" STRATA_VERSION "\0",
		sizeof("Strata\0Strata VM\0" STRATA_VERSION "\0"));
	/* Type 127, end. */
	put(&t, 127, 1);
	put(&t, 4, 1);
	put(&t, 0x7f00, 2);
	put(&t, 0, 2);
	buf_add(&anchor, "_SM3_", 5);
	put(&anchor, 0, 1);
	put(&anchor, 24, 1);
	put(&anchor, 3, 1);
	put(&anchor, 2, 1);
	put(&anchor, 0, 1);
	put(&anchor, 1, 1);
	put(&anchor, 0, 1);
	put(&anchor, t.len, 4);
	put(&anchor, 0, 8); /* address: firmware's */
	if (buf_error(&t) || buf_error(&anchor))
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	for (size_t i = 0; i < anchor.len; i++)
		sum = (uint8_t)(sum + (uint8_t)anchor.s[i]);
	anchor.s[5] = (char)-sum;
	r = fw_cfg_add_file(fw, "etc/smbios/smbios-tables", &t, e);
	return r < 0 ? r : fw_cfg_add_file(fw, "etc/smbios/smbios-anchor", &anchor, e);
}

int firmware_setup(struct vm *vm, struct acpi_block *a, const struct firmware_range *ram,
		   unsigned int n, struct err **e)
{
	struct dev *fw = dev_find(vm, "fw-cfg"), *rtc = dev_find(vm, "rtc");
	_cleanup_(buf_done) struct buf e820 = { 0 };
	uint64_t low = ram[0].end, high = n > 1 ? ram[1].end - ram[1].base : 0, total = low + high;
	uint16_t cpus = htole16((uint16_t)vm->cfg.n_cpus);
	uint32_t kib = (uint32_t)MIN(low / 1024 - 1024, (uint64_t)0xffff), chunks = 0;
	int r;

	for (unsigned int i = 0; i < n; i++) {
		put(&e820, ram[i].base, 8);
		put(&e820, ram[i].end - ram[i].base, 8);
		put(&e820, 1, 4);
	}
	total = htole64(total);
	r = fw_cfg_add_key(fw, 0x03, &total, 8, e); /* memory */
	if (r == 0)
		r = fw_cfg_add_key(fw, 0x05, &cpus, 2, e);
	if (r == 0)
		r = fw_cfg_add_key(fw, 0x0f, &cpus, 2, e);
	if (r == 0)
		r = fw_cfg_add_file(fw, "etc/e820", &e820, e);
	if (r == 0)
		r = acpi_files(fw, a, e);
	if (r == 0)
		r = smbios_files(fw, e);
	/* CMOS as PC firmware knows it: KiB above 1 MiB, 64 KiB units above 16 MiB and above 4 GiB, other CPUs. */
	if (low > 16 * MIB)
		chunks = (uint32_t)MIN((low - 16 * MIB) / 65536, (uint64_t)0xffff);
	rtc_set_cmos(rtc, 0x15, 0x80);
	rtc_set_cmos(rtc, 0x16, 0x02);
	rtc_set_cmos(rtc, 0x17, (uint8_t)kib);
	rtc_set_cmos(rtc, 0x18, (uint8_t)(kib >> 8));
	rtc_set_cmos(rtc, 0x30, (uint8_t)kib);
	rtc_set_cmos(rtc, 0x31, (uint8_t)(kib >> 8));
	rtc_set_cmos(rtc, 0x34, (uint8_t)chunks);
	rtc_set_cmos(rtc, 0x35, (uint8_t)(chunks >> 8));
	rtc_set_cmos(rtc, 0x5b, (uint8_t)(high >> 16));
	rtc_set_cmos(rtc, 0x5c, (uint8_t)(high >> 24));
	rtc_set_cmos(rtc, 0x5d, (uint8_t)(high >> 32));
	rtc_set_cmos(rtc, 0x5f, (uint8_t)(vm->cfg.n_cpus - 1));
	rtc_set_cmos(rtc, 0x3d, 0x20); /* boot: hard disk */
	return r;
}
