/* Growing byte buffer.  Capacity doubles; the terminating NUL is part of cap, not of len. */
#include "base/buf.h"

#include <errno.h>
#include <string.h>
#include "base/str.h"

void buf_done(struct buf *b)
{
	if (!b)
		return;
	free(b->s);
	*b = (struct buf){ 0 };
}

int buf_reserve(struct buf *b, size_t more)
{
	size_t want, cap = b->cap ? b->cap : 64;
	char *s;

	if (b->error)
		return b->error;
	if (__builtin_add_overflow(b->len, more, &want) || want >= SIZE_MAX / 2)
		return b->error = -ENOMEM;
	want++;
	if (want <= b->cap)
		return 0;
	while (cap < want)
		cap *= 2;
	s = realloc(b->s, cap);
	if (!s)
		return b->error = -ENOMEM;
	if (!b->s)
		s[0] = '\0';
	b->s = s;
	b->cap = cap;
	return 0;
}

int buf_add(struct buf *b, const void *data, size_t len)
{
	int r = buf_reserve(b, len);

	if (r < 0)
		return r;
	if (len)
		memcpy(b->s + b->len, data, len);
	b->len += len;
	b->s[b->len] = '\0';
	return 0;
}

int buf_adds(struct buf *b, const char *s)
{
	return buf_add(b, s, strlen(s));
}

int buf_addc(struct buf *b, char c)
{
	return buf_add(b, &c, 1);
}

int buf_addv(struct buf *b, const char *fmt, va_list ap)
{
	va_list again;
	int n, r;

	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, again);
	va_end(again);
	if (n < 0)
		return b->error = -ENOMEM;
	r = buf_reserve(b, (size_t)n);
	if (r < 0)
		return r;
	vsnprintf(b->s + b->len, (size_t)n + 1, fmt, ap);
	b->len += (size_t)n;
	return 0;
}

int buf_addf(struct buf *b, const char *fmt, ...)
{
	va_list ap;
	int r;

	va_start(ap, fmt);
	r = buf_addv(b, fmt, ap);
	va_end(ap);
	return r;
}

/* Bytes of s that stand in a JSON string as they are. */
static size_t plain_json(const char *s)
{
	size_t n = 0;

	while ((unsigned char)s[n] >= 0x20 && (unsigned char)s[n] < 0x7f && s[n] != '"' &&
	       s[n] != '\\')
		n++;
	return n;
}

int buf_add_json_n(struct buf *b, const char *s, size_t len)
{
	static const char *const replacement = "\xef\xbf\xbd";
	const char *end = s + len;

	buf_addc(b, '"');
	while (s < end) {
		size_t n = plain_json(s);
		unsigned char c;

		if (n > 0)
			buf_add(b, s, n);
		s += n;
		if (s == end)
			break;
		c = (unsigned char)*s;
		n = c ? utf8_len(s) : 1;
		if (n == 0) {
			buf_adds(b, replacement);
			n = 1;
		} else if (c == '"' || c == '\\') {
			buf_add(b, (char[]){ '\\', (char)c }, 2);
		} else if (c == '\n') {
			buf_adds(b, "\\n");
		} else if (c == '\t') {
			buf_adds(b, "\\t");
		} else if (c < 0x20 || c == 0x7f) {
			buf_addf(b, "\\u%04x", c);
		} else {
			buf_add(b, s, n);
		}
		s += n;
	}
	return buf_addc(b, '"');
}

int buf_add_json(struct buf *b, const char *s)
{
	return buf_add_json_n(b, s, strlen(s));
}

int buf_add_shell(struct buf *b, const char *s)
{
	static const char safe[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
				   "_-./:=@%+,";

	if (*s && s[strspn(s, safe)] == '\0')
		return buf_adds(b, s);
	buf_addc(b, '\'');
	for (; *s; s++) {
		if (*s == '\'')
			buf_adds(b, "'\\''");
		else
			buf_addc(b, *s);
	}
	return buf_addc(b, '\'');
}

void buf_consume(struct buf *b, size_t n)
{
	if (n == 0)
		return;
	b->len -= n;
	memmove(b->s, b->s + n, b->len + 1);
}

char *buf_take(struct buf *b)
{
	char *s;

	if (b->error || buf_reserve(b, 0) < 0) {
		buf_done(b);
		return NULL;
	}
	s = TAKE(b->s);
	buf_done(b);
	return s;
}
