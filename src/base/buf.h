/* A growing byte buffer, always NUL-terminated, so it serves for text and for binary data.
 * Zero-initialise it (`struct buf b = { 0 };`), release it with buf_done() or `_cleanup_(buf_done)`.
 *
 * Errors: every function returns 0 or -ENOMEM; after a failure the buffer stays in the failed state, so a
 * writer may add many pieces and check once with buf_error().  Thread: one at a time. */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stdarg.h>
#include "base/cleanup.h"
#include "base/types.h"

struct buf {
	char *s;    /* NULL while nothing was added; else s[len] == '\0' */
	size_t len; /* bytes, without the final NUL */
	size_t cap;
	int error; /* 0 or -ENOMEM, sticky */
};

void buf_done(struct buf *b);		    /* NULL or a second time: no effect */
static inline void buf_clear(struct buf *b) /* empty, memory kept, error forgotten */
{
	b->len = 0;
	b->error = 0;
	if (b->s)
		b->s[0] = '\0';
}

int buf_reserve(struct buf *b, size_t more); /* room for `more` bytes beyond len */
int buf_add(struct buf *b, const void *data, size_t len);
int buf_adds(struct buf *b, const char *s);
int buf_addc(struct buf *b, char c);
int buf_addf(struct buf *b, const char *fmt, ...) _printf_(2, 3);
int buf_addv(struct buf *b, const char *fmt, va_list ap) _printf_(2, 0);
/* s as a JSON string with its quotes; invalid UTF-8 bytes become U+FFFD. */
int buf_add_json(struct buf *b, const char *s);
/* The same for len bytes, NUL bytes among them allowed; s[len] must be NUL. */
int buf_add_json_n(struct buf *b, const char *s, size_t len);
/* s quoted so that a POSIX shell reads it back as one word. */
int buf_add_shell(struct buf *b, const char *s);
/* Remove the first n bytes (n <= len). */
void buf_consume(struct buf *b, size_t n);

static inline int buf_error(const struct buf *b)
{
	return b->error;
}
/* The text, "" when empty; borrowed. */
static inline const char *buf_str(const struct buf *b)
{
	return b->s ? b->s : "";
}
/* Give the string away (caller frees); NULL when a write had failed.  The buffer is empty afterwards. */
char *buf_take(struct buf *b);

#endif
