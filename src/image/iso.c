/* A small ISO 9660 image: one directory, a few files, a Joliet tree beside the plain one.
 *
 * Layout in 2 KiB sectors: 16 primary, 17 Joliet, 18 end of descriptors, 19-22 path tables (L and M of both),
 * 23 and 24 the two root directories, from 25 the files.   Spec: ECMA-119 8.4, 8.5, 9.1, 9.4 */
#include <ctype.h>
#include "base/str.h"
#include "image/seed.h"

#define SECTOR	 2048
#define ROOT_LBA 23
#define DATA_LBA 25
#define EPOCH	 "\x46\x01\x01\x00\x00\x00\x00" /* 1970-01-01 00:00:00 */

static void both16(uint8_t *p, uint16_t v) /* 7.2.3: little endian, then big */
{
	p[0] = p[3] = (uint8_t)v;
	p[1] = p[2] = (uint8_t)(v >> 8);
}

static void both32(uint8_t *p, uint32_t v) /* 7.3.3 */
{
	for (int i = 0; i < 4; i++)
		p[i] = p[7 - i] = (uint8_t)(v >> (8 * i));
}

/* A directory record (9.1); its length. */
static size_t record(uint8_t *p, uint32_t lba, uint32_t size, bool dir, const void *name,
		     size_t len)
{
	size_t total = 33 + len + (len % 2 == 0);

	memset(p, 0, total);
	p[0] = (uint8_t)total;
	both32(p + 2, lba);
	both32(p + 10, size);
	memcpy(p + 18, EPOCH, 7);
	p[25] = dir ? 2 : 0;
	both16(p + 28, 1);
	p[32] = (uint8_t)len;
	memcpy(p + 33, name, len);
	return total;
}

static size_t name_plain(const char *name, uint8_t *out)
{
	size_t n = 0;

	for (; *name && n < 8; name++) /* 8.3 without extension; the real names are in Joliet */
		out[n++] = isalnum((unsigned char)*name) ? (uint8_t)toupper((unsigned char)*name)
							 : '_';
	memcpy(out + n, ".;1", 3);
	return n + 3;
}

static size_t name_joliet(const char *name, uint8_t *out)
{
	size_t n = 0;

	for (; *name && n < 60; name++) {
		out[n++] = 0;
		out[n++] = (uint8_t)*name;
	}
	return n;
}

static void path_table(uint8_t *p, uint32_t lba, bool big)
{
	p[0] = 1;
	for (int i = 0; i < 4; i++)
		p[2 + i] = (uint8_t)(lba >> (8 * (big ? 3 - i : i)));
	p[big ? 7 : 6] = 1;
}

static void padded(uint8_t *p, size_t len, const char *s, bool joliet)
{
	for (size_t i = 0; i < len; i++) {
		size_t k = joliet ? i / 2 : i;
		uint8_t c = k < strlen(s) ? (uint8_t)s[k] : ' ';

		p[i] = joliet && i % 2 == 0 ? 0 : c;
	}
}

static void volume(uint8_t *p, const char *label, uint32_t sectors, bool joliet)
{
	static const size_t texts[][2] = { { 190, 128 }, { 318, 128 }, { 446, 128 }, { 574, 128 },
					   { 702, 37 },	 { 739, 37 },  { 776, 37 } };
	char upper[32];

	snprintf(upper, sizeof(upper), "%s", label);
	for (char *c = upper; !joliet && *c; c++)
		*c = (char)toupper((unsigned char)*c);
	p[0] = joliet ? 2 : 1;
	memcpy(p + 1, "CD001\x01", 6);
	padded(p + 8, 32, "LINUX", joliet);
	/* The primary label stays lower case: blkid shows it, and cloud-init looks for either. */
	padded(p + 40, 32, joliet ? upper : label, joliet);
	both32(p + 80, sectors);
	if (joliet)
		memcpy(p + 88, "%/E", 3); /* UCS-2 level 3 */
	both16(p + 120, 1);
	both16(p + 124, 1);
	both16(p + 128, SECTOR);
	both32(p + 132, 10); /* the path table has one entry */
	for (int i = 0; i < 4; i++) {
		p[140 + i] = (uint8_t)((uint32_t)(joliet ? 21 : 19) >> (8 * i));
		p[148 + i] = (uint8_t)((uint32_t)(joliet ? 22 : 20) >> (8 * (3 - i)));
	}
	record(p + 156, joliet ? ROOT_LBA + 1 : ROOT_LBA, SECTOR, true, "", 1);
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		padded(p + texts[i][0], texts[i][1], "", joliet);
	for (int i = 0; i < 4; i++) {
		memset(p + 813 + 17 * i, '0', 16);
		memcpy(p + 813 + 17 * i, i < 2 ? "19700101" : "00000000", 8);
	}
	p[881] = 1;
}

static void directory(uint8_t *p, const struct iso_file *files, size_t n, bool joliet)
{
	uint32_t self = joliet ? ROOT_LBA + 1 : ROOT_LBA, lba = DATA_LBA;
	size_t off = record(p, self, SECTOR, true, "\0", 1);

	off += record(p + off, self, SECTOR, true, "\1", 1);
	for (size_t i = 0; i < n; i++) {
		uint8_t name[64];
		size_t len = joliet ? name_joliet(files[i].name, name)
				    : name_plain(files[i].name, name);

		off += record(p + off, lba, (uint32_t)files[i].len, false, name, len);
		lba += (uint32_t)DIV_ROUND_UP(files[i].len, SECTOR);
	}
}

int iso_build(const char *label, const struct iso_file *files, size_t n, struct buf *out)
{
	uint32_t sectors = DATA_LBA;
	uint8_t *p;
	int r;

	if (n > 8)
		return -E2BIG; /* one sector of directory */
	for (size_t i = 0; i < n; i++) {
		if (files[i].len > 64 * MIB)
			return -EFBIG;
		sectors += (uint32_t)DIV_ROUND_UP(files[i].len, SECTOR);
	}
	buf_clear(out);
	r = buf_reserve(out, (size_t)sectors * SECTOR);
	if (r < 0)
		return r;
	p = (uint8_t *)out->s;
	out->len = (size_t)sectors * SECTOR;
	memset(p, 0, out->len + 1);
	volume(p + 16 * SECTOR, label, sectors, false);
	volume(p + 17 * SECTOR, label, sectors, true);
	memcpy(p + 18 * SECTOR,
	       "\xff"
	       "CD001\x01",
	       7);
	for (int i = 0; i < 4; i++)
		path_table(p + (19 + i) * SECTOR, i < 2 ? ROOT_LBA : ROOT_LBA + 1, i % 2);
	directory(p + ROOT_LBA * SECTOR, files, n, false);
	directory(p + (ROOT_LBA + 1) * SECTOR, files, n, true);
	p += DATA_LBA * SECTOR;
	for (size_t i = 0; i < n; i++) {
		memcpy(p, files[i].data, files[i].len);
		p += DIV_ROUND_UP(files[i].len, SECTOR) * SECTOR;
	}
	return 0;
}
