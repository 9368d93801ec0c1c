/* Text helpers.  Parsers look at the whole string: trailing rubbish is an error. */
#include "base/str.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/checked.h"
#include "base/vec.h"

bool str_ends(const char *s, const char *suffix)
{
	size_t n = strlen(s), m = strlen(suffix);

	return n >= m && memcmp(s + n - m, suffix, m) == 0;
}

size_t utf8_len(const char *s)
{
	const unsigned char *p = (const unsigned char *)s;
	uint32_t cp;
	size_t n;

	if (p[0] < 0x80)
		return 1;
	if ((p[0] & 0xe0) == 0xc0)
		n = 2, cp = p[0] & 0x1f;
	else if ((p[0] & 0xf0) == 0xe0)
		n = 3, cp = p[0] & 0x0f;
	else if ((p[0] & 0xf8) == 0xf0)
		n = 4, cp = p[0] & 0x07;
	else
		return 0;
	for (size_t i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		cp = cp << 6 | (p[i] & 0x3f);
	}
	if ((n == 2 && cp < 0x80) || (n == 3 && cp < 0x800) || (n == 4 && cp < 0x10000) ||
	    cp > 0x10ffff || (cp >= 0xd800 && cp <= 0xdfff))
		return 0;
	return n;
}

bool utf8_valid(const char *s)
{
	while (*s) {
		size_t n = utf8_len(s);

		if (n == 0)
			return false;
		s += n;
	}
	return true;
}

/* Digits at *s into *ret; *s moves behind them.  base 10 or 16. */
static int scan_digits(const char **s, unsigned int base, uint64_t *ret)
{
	const char *start = *s;
	uint64_t v = 0;

	for (;; (*s)++) {
		unsigned int d;
		char c = **s;

		if (c >= '0' && c <= '9')
			d = (unsigned int)(c - '0');
		else if (base == 16 && isxdigit((unsigned char)c))
			d = (unsigned int)(tolower((unsigned char)c) - 'a') + 10;
		else
			break;
		if (mul_of(v, base, &v) || add_of(v, d, &v))
			return -ERANGE;
	}
	if (*s == start)
		return -EINVAL;
	*ret = v;
	return 0;
}

int parse_u64(const char *s, uint64_t max, uint64_t *ret)
{
	unsigned int base = 10;
	uint64_t v;
	int r;

	if (s[0] == '0' && (s[1] == 'x' || s[1] == 'X')) {
		base = 16;
		s += 2;
	}
	r = scan_digits(&s, base, &v);
	if (r < 0)
		return r;
	if (*s)
		return -EINVAL;
	if (v > max)
		return -ERANGE;
	*ret = v;
	return 0;
}

int parse_i64(const char *s, int64_t min, int64_t max, int64_t *ret)
{
	bool neg = s[0] == '-';
	uint64_t u;
	int64_t v;
	int r = parse_u64(s + neg, (uint64_t)INT64_MAX + neg, &u);

	if (r < 0)
		return r;
	v = neg ? (int64_t)(0 - u) : (int64_t)u;
	if (v < min || v > max)
		return -ERANGE;
	*ret = v;
	return 0;
}

int parse_size(const char *s, uint64_t *ret)
{
	static const char units[] = "KMGTP";
	uint64_t whole, frac = 0, scale = 1, unit = 1, v;
	const char *u;
	int r = scan_digits(&s, 10, &whole);

	if (r < 0)
		return r;
	if (*s == '.') {
		s++;
		if (!isdigit((unsigned char)*s))
			return -EINVAL;
		/* nine digits are more than a byte of the largest unit needs from people */
		for (; isdigit((unsigned char)*s); s++) {
			if (scale < 1000000000) {
				frac = frac * 10 + (uint64_t)(*s - '0');
				scale *= 10;
			}
		}
	}
	u = *s ? strchr(units, toupper((unsigned char)*s)) : NULL;
	if (u) {
		unit = (uint64_t)1 << (10 * (u - units + 1));
		s++;
		if (*s == 'i')
			s++;
	}
	if (*s == 'B' || (*s == 'b' && !u))
		s++;
	if (*s || (frac && !u))
		return -EINVAL;
	if (mul_of(whole, unit, &v) ||
	    add_of(v, (uint64_t)((unsigned __int128)frac * unit / scale), &v))
		return -ERANGE;
	*ret = v;
	return 0;
}

int parse_duration(const char *s, nsec_t *ret)
{
	static const struct {
		const char *suffix;
		nsec_t unit;
	} units[] = {
		{ "ns", 1 },
		{ "us", NSEC_PER_USEC },
		{ "ms", NSEC_PER_MSEC },
		{ "", NSEC_PER_SEC },
		{ "s", NSEC_PER_SEC },
		{ "m", 60 * NSEC_PER_SEC },
		{ "h", 3600 * NSEC_PER_SEC },
		{ "d", 86400 * NSEC_PER_SEC },
	};
	uint64_t v;
	int r = scan_digits(&s, 10, &v);

	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		nsec_t d;

		if (!streq(s, units[i].suffix))
			continue;
		if (mul_of(v, units[i].unit, &d))
			return -ERANGE;
		*ret = d;
		return 0;
	}
	return -EINVAL;
}

int parse_bool(const char *s, bool *ret)
{
	static const char *const yes[] = { "on", "yes", "true", "1" };
	static const char *const no[] = { "off", "no", "false", "0" };

	for (size_t i = 0; i < ARRAY_SIZE(yes); i++) {
		if (streq(s, yes[i]) || streq(s, no[i])) {
			*ret = streq(s, yes[i]);
			return 0;
		}
	}
	return -EINVAL;
}

char *format_size(uint64_t bytes, char *buf, size_t len)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	size_t u = 0;
	double v = (double)bytes;

	/* 1023.95 would print as 1024.0: step up before it */
	while (v >= 999.95 && u + 1 < ARRAY_SIZE(units)) {
		v /= 1024;
		u++;
	}
	if (u == 0 || v >= 99.95 || v == (double)(uint64_t)v)
		snprintf(buf, len, "%.0f %s", v, units[u]);
	else
		snprintf(buf, len, "%.1f %s", v, units[u]);
	return buf;
}

char *format_duration(nsec_t d, char *buf, size_t len)
{
	long long s = d / NSEC_PER_SEC;

	if (d < NSEC_PER_SEC)
		snprintf(buf, len, "%lldms", (long long)(d / NSEC_PER_MSEC));
	else if (s < 60)
		snprintf(buf, len, "%lld.%llds", s, (long long)(d / (NSEC_PER_SEC / 10)) % 10);
	else if (s < 3600)
		snprintf(buf, len, "%lldm%02llds", s / 60, s % 60);
	else if (s < 86400)
		snprintf(buf, len, "%lldh%02lldm", s / 3600, s / 60 % 60);
	else
		snprintf(buf, len, "%lldd%lldh", s / 86400, s / 3600 % 24);
	return buf;
}

void strv_free(char **v)
{
	if (!v)
		return;
	for (char **p = v; *p; p++)
		free(*p);
	free(v);
}

size_t strv_len(char *const *v)
{
	size_t n = 0;

	while (v && v[n])
		n++;
	return n;
}

char **strv_split(const char *s, const char *separators)
{
	VEC(char *) out = { 0 };

	for (;;) {
		size_t n;
		char *piece;

		s += strspn(s, separators);
		n = strcspn(s, separators);
		piece = n ? strndup(s, n) : NULL;
		if ((n && !piece) || vec_push(&out, piece) < 0) {
			free(piece);
			break;
		}
		if (!n)
			return out.v;
		s += n;
	}
	for (size_t i = 0; i < out.n; i++)
		free(out.v[i]);
	free(out.v);
	return NULL;
}

char **strv_copy(char *const *v)
{
	size_t n = strv_len(v);
	_cleanup_(strv_freep) char **out = calloc(n + 1, sizeof(*out));

	if (!out)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		out[i] = strdup(v[i]);
		if (!out[i])
			return NULL;
	}
	return TAKE(out);
}

bool strv_contains(char *const *v, const char *s)
{
	for (; v && *v; v++) {
		if (streq(*v, s))
			return true;
	}
	return false;
}

bool mem_equal_secret(const void *a, const void *b, size_t len)
{
	const unsigned char *x = a, *y = b;
	unsigned char diff = 0;

	for (size_t i = 0; i < len; i++)
		diff |= x[i] ^ y[i];
	return diff == 0;
}

void mem_wipe(void *p, size_t len)
{
	explicit_bzero(p, len);
}

void hex_encode(const void *data, size_t len, char *out)
{
	static const char digits[] = "0123456789abcdef";
	const unsigned char *p = data;

	for (size_t i = 0; i < len; i++) {
		out[2 * i] = digits[p[i] >> 4];
		out[2 * i + 1] = digits[p[i] & 15];
	}
	out[2 * len] = '\0';
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int hex_decode(const char *s, void *out, size_t len)
{
	unsigned char *p = out;

	for (size_t i = 0; i < len; i++) {
		int hi = hex_digit(s[2 * i]);
		int lo = hi < 0 ? -1 : hex_digit(s[2 * i + 1]);

		if (lo < 0)
			return -EINVAL;
		p[i] = (unsigned char)(hi << 4 | lo);
	}
	return s[2 * len] ? -EINVAL : 0;
}
