/* See aml.h. */
#include <string.h>
#include "vmm/arch/x86/acpi/aml.h"

static void byte(struct buf *b, unsigned int v)
{
	uint8_t c = (uint8_t)v;

	buf_add(b, &c, 1);
}

static void word(struct buf *b, uint16_t v)
{
	v = htole16(v);
	buf_add(b, &v, 2);
}

static void dword(struct buf *b, uint32_t v)
{
	v = htole32(v);
	buf_add(b, &v, 4);
}

static void qword(struct buf *b, uint64_t v)
{
	v = htole64(v);
	buf_add(b, &v, 8);
}

/* Package lengths always take the three-byte form (20.2.4), so that they can be filled in afterwards. */
static size_t block(struct buf *b)
{
	size_t mark = b->len;

	byte(b, 0);
	byte(b, 0);
	byte(b, 0);
	return mark;
}

void aml_end(struct buf *b, size_t mark)
{
	size_t len = b->len - mark;

	if (buf_error(b))
		return;
	b->s[mark] = (char)(0x80 | (len & 0xf));
	b->s[mark + 1] = (char)(len >> 4);
	b->s[mark + 2] = (char)(len >> 12);
}

static void segment(struct buf *b, const char *s, size_t n)
{
	for (size_t i = 0; i < 4; i++)
		byte(b, i < n ? (unsigned char)s[i] : '_');
}

void aml_path(struct buf *b, const char *path)
{
	unsigned int n = 1;

	if (*path == '\\') {
		byte(b, '\\');
		path++;
	}
	for (const char *p = path; *p; p++)
		n += *p == '.';
	if (!*path) {
		byte(b, 0); /* NullName */
		return;
	}
	if (n == 2) {
		byte(b, 0x2e);
	} else if (n > 2) {
		byte(b, 0x2f);
		byte(b, n);
	}
	while (n--) {
		size_t len = strcspn(path, ".");

		segment(b, path, len);
		path += len + 1;
	}
}

size_t aml_scope_begin(struct buf *b, const char *path)
{
	size_t mark;

	byte(b, 0x10);
	mark = block(b);
	aml_path(b, path);
	return mark;
}

size_t aml_device_begin(struct buf *b, const char *name)
{
	size_t mark;

	byte(b, 0x5b);
	byte(b, 0x82);
	mark = block(b);
	aml_path(b, name);
	return mark;
}

size_t aml_method_begin(struct buf *b, const char *name, unsigned int n_args)
{
	size_t mark;

	byte(b, 0x14);
	mark = block(b);
	aml_path(b, name);
	byte(b, n_args);
	return mark;
}

size_t aml_package_begin(struct buf *b, unsigned int n_elements)
{
	size_t mark;

	byte(b, 0x12);
	mark = block(b);
	byte(b, n_elements);
	return mark;
}

void aml_name(struct buf *b, const char *path)
{
	byte(b, 0x08);
	aml_path(b, path);
}

void aml_int(struct buf *b, uint64_t v)
{
	if (v <= 1) {
		byte(b, (unsigned int)v);
	} else if (v <= UINT8_MAX) {
		byte(b, 0x0a);
		byte(b, (unsigned int)v);
	} else if (v <= UINT16_MAX) {
		byte(b, 0x0b);
		word(b, (uint16_t)v);
	} else if (v <= UINT32_MAX) {
		byte(b, 0x0c);
		dword(b, (uint32_t)v);
	} else {
		byte(b, 0x0e);
		qword(b, v);
	}
}

void aml_string(struct buf *b, const char *s)
{
	byte(b, 0x0d);
	buf_add(b, s, strlen(s) + 1);
}

static unsigned int hex(char c)
{
	return (unsigned int)(c <= '9' ? c - '0' : c - 'A' + 10);
}

void aml_eisaid(struct buf *b, const char *id)
{
	/* 19.3.4: three letters of five bits, then four hex digits, big-endian */
	byte(b, 0x0c);
	byte(b, (unsigned int)((id[0] - '@') << 2 | (id[1] - '@') >> 3));
	byte(b, (unsigned int)((id[1] - '@') << 5 | (id[2] - '@')) & 0xff);
	byte(b, hex(id[3]) << 4 | hex(id[4]));
	byte(b, hex(id[5]) << 4 | hex(id[6]));
}

void aml_name_int(struct buf *b, const char *name, uint64_t v)
{
	aml_name(b, name);
	aml_int(b, v);
}

void aml_name_string(struct buf *b, const char *name, const char *s)
{
	aml_name(b, name);
	aml_string(b, s);
}

void aml_name_eisaid(struct buf *b, const char *name, const char *id)
{
	aml_name(b, name);
	aml_eisaid(b, id);
}

void aml_notify(struct buf *b, const char *path, uint8_t value)
{
	byte(b, 0x86);
	aml_path(b, path);
	aml_int(b, value);
}

struct aml_crs aml_crs_begin(struct buf *b)
{
	struct aml_crs c;

	aml_name(b, "_CRS");
	byte(b, 0x11);
	c.package = block(b);
	byte(b, 0x0b); /* BufferSize as a word, filled in by aml_crs_end() */
	c.start = b->len;
	word(b, 0);
	return c;
}

void aml_crs_end(struct buf *b, struct aml_crs c)
{
	size_t len;

	byte(b, 0x79); /* end tag, checksum 0: not used */
	byte(b, 0);
	if (buf_error(b))
		return;
	len = b->len - c.start - 2;
	b->s[c.start] = (char)len;
	b->s[c.start + 1] = (char)(len >> 8);
	aml_end(b, c.package);
}

void aml_crs_io(struct buf *b, uint16_t base, uint8_t len)
{
	byte(b, 0x47);
	byte(b, 1); /* decodes 16 bits */
	word(b, base);
	word(b, base);
	byte(b, 1);
	byte(b, len);
}

void aml_crs_irq(struct buf *b, uint8_t irq)
{
	byte(b, 0x22);
	word(b, (uint16_t)(1U << irq));
}

void aml_crs_memory32(struct buf *b, uint32_t base, uint32_t len)
{
	byte(b, 0x86);
	word(b, 9);
	byte(b, 1); /* read-write */
	dword(b, base);
	dword(b, len);
}

/* Address space descriptors, 6.4.3.5: fixed minimum and maximum, positive decode, producer. */
static void window16(struct buf *b, uint8_t type, uint8_t specific, uint16_t min, uint16_t max)
{
	byte(b, 0x88);
	word(b, 13);
	byte(b, type);
	byte(b, 0x0c);
	byte(b, specific);
	word(b, 0);
	word(b, min);
	word(b, max);
	word(b, 0);
	word(b, (uint16_t)(max - min + 1));
}

void aml_crs_bus(struct buf *b, uint16_t min, uint16_t max)
{
	window16(b, 2, 0, min, max);
}

void aml_crs_io_window(struct buf *b, uint16_t min, uint16_t max)
{
	window16(b, 1, 3, min, max);
}

void aml_crs_mem32_window(struct buf *b, uint32_t min, uint32_t max)
{
	byte(b, 0x87);
	word(b, 23);
	byte(b, 0);
	byte(b, 0x0c);
	byte(b, 1); /* read-write, not cacheable */
	dword(b, 0);
	dword(b, min);
	dword(b, max);
	dword(b, 0);
	dword(b, max - min + 1);
}

void aml_crs_mem64_window(struct buf *b, uint64_t min, uint64_t max)
{
	byte(b, 0x8a);
	word(b, 43);
	byte(b, 0);
	byte(b, 0x0c);
	byte(b, 1);
	qword(b, 0);
	qword(b, min);
	qword(b, max);
	qword(b, 0);
	qword(b, max - min + 1);
}
