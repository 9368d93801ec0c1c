/* Text helpers: comparing, checking, reading numbers and sizes that people type. */
#ifndef BASE_STR_H
#define BASE_STR_H

#include <string.h>
#include "base/err.h"
#include "base/types.h"

static inline bool streq(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

static inline bool str_starts(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool str_ends(const char *s, const char *suffix);

/* Length in bytes (1-4) of the UTF-8 character at s; 0 when it is malformed, overlong or a surrogate.
 * s must be NUL-terminated and not empty. */
size_t utf8_len(const char *s);
bool utf8_valid(const char *s);

/* Whole-string unsigned decimal, or hexadecimal after 0x.  -EINVAL: not a number (empty, sign, blanks, other
 * characters); -ERANGE: above max. */
int parse_u64(const char *s, uint64_t max, uint64_t *ret);
int parse_i64(const char *s, int64_t min, int64_t max, int64_t *ret);
/* Bytes: a number, perhaps with a fraction, and K, M, G, T or P (binary; "KiB" and "kB" forms too, all
 * powers of 1024).  "1.5G", "512M", "4096".  -EINVAL, -ERANGE as above. */
int parse_size(const char *s, uint64_t *ret);
/* A duration: number with ns, us, ms, s, m, h or d; a bare number means seconds. */
int parse_duration(const char *s, nsec_t *ret);
/* on/off, yes/no, true/false, 1/0. */
int parse_bool(const char *s, bool *ret);

/* "1.5 GiB", "512 MiB", "17 B": at most 3 digits and one decimal.  Writes to buf (at least 16 bytes), returns it. */
char *format_size(uint64_t bytes, char *buf, size_t len);
/* "850ms", "4.2s", "3m12s", "5h03m", "12d4h". */
char *format_duration(nsec_t d, char *buf, size_t len);

/* NULL-terminated string vectors.  strv_free(NULL) is fine; strv_split drops empty pieces. */
void strv_free(char **v);
size_t strv_len(char *const *v);
char **strv_split(const char *s, const char *separators); /* NULL: out of memory */
char **strv_copy(char *const *v);			  /* NULL: out of memory */
bool strv_contains(char *const *v, const char *s);

DEFINE_CLEANUP(char **, strv_free);

/* Constant-time comparison of secrets of equal length. */
bool mem_equal_secret(const void *a, const void *b, size_t len);
/* Overwrite a secret so that the compiler cannot drop it. */
void mem_wipe(void *p, size_t len);

/* Hex of data, lower case; out gets 2 * len + 1 bytes. */
void hex_encode(const void *data, size_t len, char *out);
/* Reads exactly 2 * len hex digits and a NUL; -EINVAL otherwise. */
int hex_decode(const char *s, void *out, size_t len);

#endif
