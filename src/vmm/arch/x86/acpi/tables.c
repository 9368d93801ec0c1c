/* ACPI tables.  Spec: ACPI 6.4, 5.2; PCI Firmware 3.2, 4.1.2 (MCFG); VMGENID paper by Microsoft. */
#include <errno.h>
#include <string.h>
#include "vmm/arch/x86/acpi/aml.h"
#include "vmm/arch/x86/acpi/tables.h"
#include "vmm/arch/x86/layout.h"

static void put(struct buf *b, uint64_t v, unsigned int size)
{
	v = htole64(v);
	buf_add(b, &v, size);
}

static void zeros(struct buf *b, size_t n)
{
	while (n--)
		put(b, 0, 1);
}

static void set(struct buf *b, size_t at, uint64_t v, unsigned int size)
{
	v = htole64(v);
	if (!buf_error(b))
		memcpy(b->s + at, &v, size);
}

static size_t table_begin(struct acpi_block *a, const char *signature, uint8_t revision)
{
	struct buf *b = &a->data;
	size_t at;

	zeros(b, (16 - b->len % 16) % 16);
	at = b->len;
	buf_add(b, signature, 4);
	put(b, 0, 4); /* length: table_end() */
	put(b, revision, 1);
	put(b, 0, 1); /* checksum */
	buf_add(b, "STRATA", 6);
	buf_add(b, "STRATAVM", 8);
	put(b, 1, 4);
	buf_add(b, "STRA", 4);
	put(b, 1, 4);
	return at;
}

static int table_end(struct acpi_block *a, size_t at)
{
	struct acpi_checksum s = { (uint32_t)at + 9, (uint32_t)at, (uint32_t)(a->data.len - at) };

	set(&a->data, at + 4, a->data.len - at, 4);
	return vec_push(&a->sums, s);
}

static int pointer(struct acpi_block *a, size_t at, uint8_t size, size_t to)
{
	struct acpi_pointer p = { (uint32_t)at, size };

	set(&a->data, at, to, size);
	return vec_push(&a->pointers, p);
}

static void dsdt_pci(struct buf *b, const struct acpi_config *cfg)
{
	size_t dev = aml_device_begin(b, "PCI0");
	struct aml_crs crs;

	aml_name_eisaid(b, "_HID", "PNP0A08");
	aml_name_eisaid(b, "_CID", "PNP0A03");
	aml_name_int(b, "_UID", 0);
	aml_name_int(b, "_SEG", 0);
	aml_name_int(b, "_BBN", 0);
	crs = aml_crs_begin(b);
	aml_crs_bus(b, 0, 0);
	aml_crs_io(b, PORT_PCI, 8);
	aml_crs_io_window(b, 0, PORT_PCI - 1);
	aml_crs_io_window(b, PORT_PCI + 8, 0xffff);
	aml_crs_mem32_window(b, MMIO32_BASE, MMIO32_END - 1);
	if (cfg->mmio64_base)
		aml_crs_mem64_window(b, cfg->mmio64_base, cfg->mmio64_base + cfg->mmio64_size - 1);
	aml_crs_end(b, crs);
	/* No function here has an INTx pin: the routing table is there and empty. */
	aml_name(b, "_PRT");
	aml_end(b, aml_package_begin(b, 0));
	aml_end(b, dev);
	/* ECAM, as firmware must claim it (PCI Firmware 3.2, 4.1.2). */
	dev = aml_device_begin(b, "MBRD");
	aml_name_eisaid(b, "_HID", "PNP0C02");
	aml_name_int(b, "_UID", 0);
	crs = aml_crs_begin(b);
	aml_crs_memory32(b, ECAM_BASE, ECAM_SIZE);
	aml_crs_io(b, PORT_ACPI_PM, 0x40);
	aml_crs_end(b, crs);
	aml_end(b, dev);
}

static void dsdt_legacy(struct buf *b, const struct acpi_config *cfg)
{
	struct aml_crs crs;
	size_t dev;

	if (cfg->serial) {
		dev = aml_device_begin(b, "COM1");
		aml_name_eisaid(b, "_HID", "PNP0501");
		aml_name_int(b, "_UID", 1);
		crs = aml_crs_begin(b);
		aml_crs_io(b, PORT_COM1, 8);
		aml_crs_irq(b, IRQ_COM1);
		aml_crs_end(b, crs);
		aml_end(b, dev);
	}
	if (cfg->rtc) {
		dev = aml_device_begin(b, "RTC_");
		aml_name_eisaid(b, "_HID", "PNP0B00");
		crs = aml_crs_begin(b);
		aml_crs_io(b, PORT_RTC, 2);
		aml_crs_irq(b, IRQ_RTC);
		aml_crs_end(b, crs);
		aml_end(b, dev);
	}
	if (cfg->pvpanic) {
		dev = aml_device_begin(b, "PVPN");
		aml_name_string(b, "_HID", "QEMU0001");
		aml_name_int(b, "_STA", 0xf);
		crs = aml_crs_begin(b);
		aml_crs_io(b, PORT_PVPANIC, 1);
		aml_crs_end(b, crs);
		aml_end(b, dev);
	}
	if (cfg->genid) {
		size_t pkg;

		dev = aml_device_begin(b, "VGEN");
		aml_name_string(b, "_HID", "STRA0001");
		aml_name_string(b, "_CID", "VM_Gen_Counter");
		aml_name_string(b, "_DDN", "VM_Gen_Counter");
		aml_name(b, "ADDR");
		pkg = aml_package_begin(b, 2);
		aml_int(b, (uint32_t)cfg->genid);
		aml_int(b, cfg->genid >> 32);
		aml_end(b, pkg);
		aml_end(b, dev);
	}
}

static int dsdt(struct acpi_block *a, const struct acpi_config *cfg, size_t *at)
{
	struct buf *b = &a->data;
	size_t scope, pkg;

	*at = table_begin(a, "DSDT", 2);
	scope = aml_scope_begin(b, "\\_SB");
	dsdt_pci(b, cfg);
	dsdt_legacy(b, cfg);
	aml_end(b, scope);
	aml_name(b, "\\_S5");
	pkg = aml_package_begin(b, 4);
	aml_int(b, 5);
	aml_int(b, 5);
	aml_int(b, 0);
	aml_int(b, 0);
	aml_end(b, pkg);
	if (cfg->genid) {
		size_t method;

		scope = aml_scope_begin(b, "\\_GPE");
		method = aml_method_begin(b, "_E05", 0);
		aml_notify(b, "\\_SB.VGEN", 0x80);
		aml_end(b, method);
		aml_end(b, scope);
	}
	return table_end(a, *at);
}

/* Generic address structure of an I/O port, 5.2.3.2. */
static void gas(struct buf *b, uint16_t port, uint8_t bits, uint8_t access)
{
	put(b, 1, 1);
	put(b, bits, 1);
	put(b, 0, 1);
	put(b, access, 1);
	put(b, port, 8);
}

static int fadt(struct acpi_block *a, size_t facs, size_t dsdt_at, bool rtc, size_t *at)
{
	struct buf *b = &a->data;
	size_t no_gas = 12;
	int r;

	*at = table_begin(a, "FACP", 6);
	put(b, 0, 4); /* FIRMWARE_CTRL */
	put(b, 0, 4); /* DSDT */
	put(b, 0, 1);
	put(b, 0, 1); /* preferred profile: unspecified */
	put(b, IRQ_SCI, 2);
	put(b, 0, 4);		 /* SMI_CMD: ACPI mode is always on */
	put(b, 0, 4);		 /* enable, disable, S4BIOS, P-state */
	put(b, PORT_ACPI_PM, 4); /* PM1a event */
	put(b, 0, 4);
	put(b, PORT_ACPI_PM + 4, 4); /* PM1a control */
	put(b, 0, 4);
	put(b, 0, 4);			/* PM2 */
	put(b, PORT_ACPI_PM + 8, 4);	/* PM timer */
	put(b, PORT_ACPI_PM + 0x20, 4); /* GPE0 */
	put(b, 0, 4);
	put(b, 4, 1); /* lengths: PM1 event */
	put(b, 2, 1); /* PM1 control */
	put(b, 0, 1);
	put(b, 4, 1); /* timer */
	put(b, 4, 1); /* GPE0: 16 events */
	put(b, 0, 1);
	put(b, 0, 1);
	put(b, 0, 1);
	put(b, 0xfff, 2); /* C2, C3 latency: not there */
	put(b, 0xfff, 2);
	zeros(b, 4);		   /* flush size, stride */
	zeros(b, 2);		   /* duty */
	zeros(b, 2);		   /* day and month alarm */
	put(b, rtc ? 0x32 : 0, 1); /* century in CMOS */
	put(b, 1U << 2 | (rtc ? 0 : 1U << 5),
	    2); /* no VGA; no RTC where none is; no 8042 (bit 1 clear) */
	put(b, 0, 1);
	/* WBINVD, C1, no fixed sleep button, RTC wake not fixed, 32-bit timer, reset register */
	put(b, 1U << 0 | 1U << 2 | 1U << 5 | 1U << 6 | 1U << 8 | 1U << 10, 4);
	gas(b, PORT_PCI + 1, 8, 1); /* reset register 0xcf9 */
	put(b, 6, 1);
	zeros(b, 2);  /* ARM */
	put(b, 4, 1); /* minor version */
	put(b, 0, 8); /* X_FIRMWARE_CTRL: the 32-bit field is used */
	put(b, 0, 8); /* X_DSDT */
	gas(b, PORT_ACPI_PM, 32, 2);
	zeros(b, no_gas);
	gas(b, PORT_ACPI_PM + 4, 16, 2);
	zeros(b, no_gas);
	zeros(b, no_gas);
	gas(b, PORT_ACPI_PM + 8, 32, 3);
	gas(b, PORT_ACPI_PM + 0x20, 32, 1);
	zeros(b, no_gas);
	zeros(b, no_gas); /* sleep control, status: only with reduced hardware */
	zeros(b, no_gas);
	put(b, 0, 8); /* hypervisor vendor: none */
	r = pointer(a, *at + 36, 4, facs);
	if (r == 0)
		r = pointer(a, *at + 40, 4, dsdt_at);
	if (r == 0)
		r = pointer(a, *at + 140, 8, dsdt_at);
	return r < 0 ? r : table_end(a, *at);
}

static int madt(struct acpi_block *a, const struct acpi_config *cfg, size_t *at)
{
	struct buf *b = &a->data;

	*at = table_begin(a, "APIC", 5);
	put(b, LAPIC_BASE, 4);
	put(b, cfg->pic ? 1 : 0, 4);
	for (unsigned int i = 0; i < cfg->n_cpus; i++) {
		put(b, 0, 1);
		put(b, 8, 1);
		put(b, i, 1);
		put(b, i, 1);
		put(b, 1, 4);
	}
	put(b, 1, 1); /* IOAPIC */
	put(b, 12, 1);
	put(b, 0, 2);
	put(b, IOAPIC_BASE, 4);
	put(b, 0, 4);
	if (cfg->pic) { /* the PIT is on pin 2 */
		put(b, 2, 1);
		put(b, 10, 1);
		put(b, 0, 2);
		put(b, 2, 4);
		put(b, 0, 2);
	}
	put(b, 2, 1); /* SCI: level, active high */
	put(b, 10, 1);
	put(b, 0, 1);
	put(b, IRQ_SCI, 1);
	put(b, IRQ_SCI, 4);
	put(b, 0xd, 2);
	put(b, 4, 1); /* NMI on LINT1 of all CPUs */
	put(b, 6, 1);
	put(b, 0xff, 1);
	put(b, 0, 2);
	put(b, 1, 1);
	return table_end(a, *at);
}

static int mcfg(struct acpi_block *a, size_t *at)
{
	struct buf *b = &a->data;

	*at = table_begin(a, "MCFG", 1);
	zeros(b, 8);
	put(b, ECAM_BASE, 8);
	put(b, 0, 2);
	put(b, 0, 1); /* buses 0 to 0 */
	put(b, 0, 1);
	zeros(b, 4);
	return table_end(a, *at);
}

int acpi_build(const struct acpi_config *cfg, struct acpi_block *a, struct err **e)
{
	struct buf *b = &a->data;
	size_t facs, dsdt_at = 0, at[3] = { 0 }, xsdt;
	struct acpi_checksum s;
	int r;

	*a = (struct acpi_block){ 0 };
	facs = b->len; /* must be 64-aligned: it is first */
	buf_add(b, "FACS", 4);
	put(b, 64, 4);
	zeros(b, 24);
	put(b, 2, 1);
	zeros(b, 31);
	r = dsdt(a, cfg, &dsdt_at);
	if (r == 0)
		r = fadt(a, facs, dsdt_at, cfg->rtc, &at[0]);
	if (r == 0)
		r = madt(a, cfg, &at[1]);
	if (r == 0)
		r = mcfg(a, &at[2]);
	xsdt = table_begin(a, "XSDT", 1);
	for (unsigned int i = 0; i < ARRAY_SIZE(at) && r == 0; i++) {
		put(b, 0, 8);
		r = pointer(a, b->len - 8, 8, at[i]);
	}
	if (r == 0)
		r = table_end(a, xsdt);
	zeros(b, (16 - b->len % 16) % 16);
	a->rsdp = (uint32_t)b->len;
	a->rsdp_len = 36;
	buf_add(b, "RSD PTR ", 8);
	put(b, 0, 1);
	buf_add(b, "STRATA", 6);
	put(b, 2, 1);
	put(b, 0, 4); /* RSDT: none */
	put(b, 36, 4);
	put(b, 0, 8);
	put(b, 0, 4);
	if (r == 0)
		r = pointer(a, a->rsdp + 24, 8, xsdt);
	s = (struct acpi_checksum){ a->rsdp + 8, a->rsdp, 20 };
	if (r == 0)
		r = vec_push(&a->sums, s);
	s = (struct acpi_checksum){ a->rsdp + 32, a->rsdp, 36 };
	if (r == 0)
		r = vec_push(&a->sums, s);
	if (r < 0 || buf_error(b)) {
		acpi_block_done(a);
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	}
	return 0;
}

void acpi_place(struct acpi_block *a, uint64_t base)
{
	for (size_t i = 0; i < a->pointers.n; i++) {
		uint64_t v = 0;

		memcpy(&v, a->data.s + a->pointers.v[i].at, a->pointers.v[i].size);
		set(&a->data, a->pointers.v[i].at, le64toh(v) + base, a->pointers.v[i].size);
	}
	for (size_t i = 0; i < a->sums.n; i++) {
		const struct acpi_checksum *s = &a->sums.v[i];
		uint8_t sum = 0;

		a->data.s[s->at] = 0;
		for (uint32_t k = 0; k < s->len; k++)
			sum = (uint8_t)(sum + (uint8_t)a->data.s[s->start + k]);
		a->data.s[s->at] = (char)-sum;
	}
}

void acpi_block_done(struct acpi_block *a)
{
	buf_done(&a->data);
	vec_done(&a->pointers);
	vec_done(&a->sums);
}
