/* Cyclic redundancy checks.  Feed a long input in pieces by giving the last result back as `crc`; start with 0. */
#ifndef BASE_CRC_H
#define BASE_CRC_H

#include "base/types.h"

uint32_t crc32_ieee(
	uint32_t crc, const void *data,
	size_t len); /* IEEE 802.3: GPT, gzip, zip.  Not "crc32": that is zlib's, which would then call ours. */
uint32_t crc32c(uint32_t crc, const void *data,
		size_t len); /* Castagnoli: state files; SSE 4.2 where present */

#endif
