/* UUIDs as 16 bytes in network order.  Source: RFC 9562. */
#ifndef BASE_UUID_H
#define BASE_UUID_H

#include "base/types.h"

#define UUID_TEXT 37 /* 36 characters and the NUL */

struct uuid {
	uint8_t b[16];
};

/* Version 7: sorts by creation time (milliseconds); two calls in one process never go backwards. Any thread. */
struct uuid uuid_v7(void);
/* Version 4: random. */
struct uuid uuid_v4(void);

/* Lower-case 8-4-4-4-12; out has UUID_TEXT bytes; returns out. */
char *uuid_format(const struct uuid *u, char *out);
/* Reads that form, either case.  -EINVAL otherwise. */
int uuid_parse(const char *s, struct uuid *ret);

#endif
