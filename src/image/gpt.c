/* See gpt.h. */
#include "image/gpt.h"

#include <endian.h>
#include <string.h>

#include "base/atomicfile.h"
#include "base/checked.h"
#include "base/crc.h"

#define ENTRIES	   128u
#define ENTRY_SIZE 128u
#define TABLE	   (ENTRIES * ENTRY_SIZE)
#define TABLE_SECT (TABLE / GPT_SECTOR)

static void put16(uint8_t *p, uint16_t v)
{
	v = htole16(v);
	memcpy(p, &v, sizeof(v));
}

static void put32(uint8_t *p, uint32_t v)
{
	v = htole32(v);
	memcpy(p, &v, sizeof(v));
}

static void put64(uint8_t *p, uint64_t v)
{
	v = htole64(v);
	memcpy(p, &v, sizeof(v));
}

/* On disk the first three groups of a GUID are little-endian numbers. */
static void put_guid(uint8_t *p, const struct uuid *u)
{
	static const uint8_t order[16] = { 3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15 };

	for (size_t i = 0; i < sizeof(order); i++)
		p[i] = u->b[order[i]];
}

static int check(uint64_t size, const struct gpt_part *p, size_t n, struct err **e)
{
	if (n > ENTRIES || size % GPT_SECTOR || size < 4 * (uint64_t)GPT_ALIGN)
		return err_set(e, EINVAL, "image.disk_size",
			       "a disk of %llu bytes cannot have %zu partitions",
			       (unsigned long long)size, n);
	for (size_t i = 0; i < n; i++) {
		bool fits = p[i].start >= GPT_ALIGN && p[i].size > 0 &&
			    p[i].start % GPT_SECTOR == 0 && p[i].size % GPT_SECTOR == 0 &&
			    range_inside(p[i].start, p[i].size, size - GPT_ALIGN);

		for (size_t k = 0; k < i; k++)
			fits &= !range_overlaps(p[i].start, p[i].size, p[k].start, p[k].size);
		if (!fits)
			return err_set(e, EINVAL, "image.disk_size",
				       "partition %zu ('%s') does not fit the disk", i + 1,
				       p[i].name);
	}
	return 0;
}

static int fill_table(uint8_t *table, const struct gpt_part *p, size_t n, struct err **e)
{
	for (size_t i = 0; i < n; i++) {
		uint8_t *t = table + i * ENTRY_SIZE;
		struct uuid type;

		if (uuid_parse(p[i].type, &type) < 0 || strlen(p[i].name) > 35)
			return err_set(e, EINVAL, "image.disk_size", "partition '%s'", p[i].name);
		put_guid(t, &type);
		put_guid(t + 16, &p[i].id);
		put64(t + 32, p[i].start / GPT_SECTOR);
		put64(t + 40, (p[i].start + p[i].size) / GPT_SECTOR - 1);
		for (size_t k = 0; p[i].name[k]; k++)
			put16(t + 56 + 2 * k, (uint8_t)p[i].name[k]);
	}
	return 0;
}

static void fill_header(uint8_t *h, const struct uuid *id, uint64_t sectors, bool backup,
			uint32_t table_crc)
{
	memset(h, 0, GPT_SECTOR);
	memcpy(h, "EFI PART", 8);
	put32(h + 8, 0x00010000);
	put32(h + 12, 92);
	put64(h + 24, backup ? sectors - 1 : 1);
	put64(h + 32, backup ? 1 : sectors - 1);
	put64(h + 40, 2 + TABLE_SECT);
	put64(h + 48, sectors - 2 - TABLE_SECT);
	put_guid(h + 56, id);
	put64(h + 72, backup ? sectors - 1 - TABLE_SECT : 2);
	put32(h + 80, ENTRIES);
	put32(h + 84, ENTRY_SIZE);
	put32(h + 88, table_crc);
	put32(h + 16, crc32_ieee(0, h, 92));
}

/* One partition of type 0xee over all of it, so that nobody takes the disk for empty. */
static int write_mbr(int fd, uint64_t sectors)
{
	static const uint8_t entry[8] = { 0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff };
	uint8_t rest[GPT_SECTOR - 440] = { 0 };

	memcpy(rest + 6, entry, sizeof(entry));
	put32(rest + 14, 1);
	put32(rest + 18, (uint32_t)MIN(sectors - 1, (uint64_t)UINT32_MAX));
	rest[sizeof(rest) - 2] = 0x55;
	rest[sizeof(rest) - 1] = 0xaa;
	return pwrite_all(fd, rest, sizeof(rest), 440);
}

int gpt_write(int fd, uint64_t size, const struct gpt_part *parts, size_t n, struct err **e)
{
	_cleanup_(freep) uint8_t *table = calloc(1, TABLE);
	uint8_t h[GPT_SECTOR];
	uint64_t sectors = size / GPT_SECTOR;
	struct uuid id = uuid_v4();
	uint32_t crc;
	int r = table ? check(size, parts, n, e) : err_sys(e, ENOMEM, "partition table");

	if (r == 0)
		r = fill_table(table, parts, n, e);
	if (r < 0)
		return r;
	crc = crc32_ieee(0, table, TABLE);
	r = write_mbr(fd, sectors);
	for (int backup = 1; r == 0 && backup >= 0; backup--) {
		uint64_t at = backup ? sectors - 1 - TABLE_SECT : 2;

		fill_header(h, &id, sectors, backup, crc);
		r = pwrite_all(fd, table, TABLE, (off_t)(at * GPT_SECTOR));
		if (r == 0)
			r = pwrite_all(fd, h, sizeof(h),
				       (off_t)((backup ? sectors - 1 : 1) * GPT_SECTOR));
	}
	return r < 0 ? err_sys(e, -r, "write the partition table") : 0;
}
