/* UUIDs; see uuid.h. */
#include "base/uuid.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include "base/clock.h"
#include "base/rand.h"
#include "base/str.h"

static void set_version(struct uuid *u, unsigned int version)
{
	u->b[6] = (uint8_t)((u->b[6] & 0x0f) | version << 4);
	u->b[8] = (u->b[8] & 0x3f) | 0x80;
}

struct uuid uuid_v4(void)
{
	struct uuid u;

	rand_bytes(u.b, sizeof(u.b));
	set_version(&u, 4);
	return u;
}

struct uuid uuid_v7(void)
{
	/* 48 bits of milliseconds and 12 bits that count within one (RFC 9562, 6.2 method 1) */
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static uint64_t last;
	uint64_t stamp = (uint64_t)(now_real() / NSEC_PER_MSEC) << 12;
	struct uuid u;

	rand_bytes(u.b, sizeof(u.b));
	pthread_mutex_lock(&lock);
	stamp = last = MAX(stamp, last + 1);
	pthread_mutex_unlock(&lock);
	for (int i = 0; i < 6; i++)
		u.b[i] = (uint8_t)(stamp >> (52 - 8 * i));
	u.b[6] = (stamp >> 8) & 0x0f;
	u.b[7] = stamp & 0xff;
	set_version(&u, 7);
	return u;
}

static bool dash_before(size_t byte)
{
	return byte == 4 || byte == 6 || byte == 8 || byte == 10;
}

char *uuid_format(const struct uuid *u, char *out)
{
	char *p = out;

	for (size_t i = 0; i < sizeof(u->b); i++) {
		if (dash_before(i))
			*p++ = '-';
		hex_encode(&u->b[i], 1, p);
		p += 2;
	}
	return out;
}

int uuid_parse(const char *s, struct uuid *ret)
{
	struct uuid u;

	if (strlen(s) != UUID_TEXT - 1)
		return -EINVAL;
	for (size_t i = 0; i < sizeof(u.b); i++) {
		char pair[3];

		if (dash_before(i) && *s++ != '-')
			return -EINVAL;
		memcpy(pair, s, 2);
		pair[2] = '\0';
		if (hex_decode(pair, &u.b[i], 1) < 0)
			return -EINVAL;
		s += 2;
	}
	*ret = u;
	return 0;
}
