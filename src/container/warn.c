/* Warnings; see warn.h. */
#include "container/warn.h"

#include <stdarg.h>

static struct buf *sink;

void ct_warn_to(struct buf *b)
{
	sink = b;
}

void ct_warn(const char *fmt, ...)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	va_list ap;

	va_start(ap, fmt);
	buf_addv(&b, fmt, ap);
	va_end(ap);
	while (b.len > 0 && b.s[b.len - 1] == '\n')
		b.s[--b.len] = '\0';
	if (!sink) {
		fprintf(stderr, "strata-oci: warning: %s\n", buf_str(&b));
	} else {
		buf_adds(sink, buf_str(&b));
		buf_addc(sink, '\n');
	}
}
