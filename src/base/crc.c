/* Reflected CRCs with a table a byte; CRC-32C by the SSE 4.2 instruction where the CPU has it. */
#include "base/crc.h"

#include <pthread.h>
#include <string.h>

#define POLY_IEEE	0xedb88320U
#define POLY_CASTAGNOLI 0x82f63b78U

static uint32_t table_ieee[256], table_castagnoli[256];
static pthread_once_t tables_once = PTHREAD_ONCE_INIT;

static void make_table(uint32_t *t, uint32_t poly)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;

		for (int k = 0; k < 8; k++)
			c = c & 1 ? poly ^ c >> 1 : c >> 1;
		t[i] = c;
	}
}

static void make_tables(void)
{
	make_table(table_ieee, POLY_IEEE);
	make_table(table_castagnoli, POLY_CASTAGNOLI);
}

static uint32_t by_table(const uint32_t *t, uint32_t crc, const uint8_t *p, size_t len)
{
	crc = ~crc;
	while (len--)
		crc = t[(crc ^ *p++) & 0xff] ^ crc >> 8;
	return ~crc;
}

uint32_t crc32_ieee(uint32_t crc, const void *data, size_t len)
{
	pthread_once(&tables_once, make_tables);
	return by_table(table_ieee, crc, data, len);
}

#ifdef __x86_64__
__attribute__((target("sse4.2"))) static uint32_t by_instruction(uint32_t crc, const uint8_t *p,
								 size_t len)
{
	uint64_t c = ~crc;

	for (; len >= 8; len -= 8, p += 8) {
		uint64_t v;

		memcpy(&v, p, 8);
		c = __builtin_ia32_crc32di(c, v);
	}
	while (len--)
		c = __builtin_ia32_crc32qi((uint32_t)c, *p++);
	return ~(uint32_t)c;
}
#endif

uint32_t crc32c(uint32_t crc, const void *data, size_t len)
{
#ifdef __x86_64__
	if (__builtin_cpu_supports("sse4.2"))
		return by_instruction(crc, data, len);
#endif
	pthread_once(&tables_once, make_tables);
	return by_table(table_castagnoli, crc, data, len);
}
