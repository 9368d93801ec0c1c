/* Warnings; see warn.h. */
#include "container/warn.h"

#include <stdarg.h>

static struct buf *sink;
static bool notes;

void ct_notes(bool to_stderr)
{
	notes = to_stderr;
}

void ct_warn_to(struct buf *b)
{
	sink = b;
}

static void put(const char *fmt, va_list ap)
{
	_cleanup_(buf_done) struct buf b = { 0 };

	buf_addv(&b, fmt, ap);
	while (b.len > 0 && b.s[b.len - 1] == '\n')
		b.s[--b.len] = '\0';
	if (!sink) {
		fprintf(stderr, "strata-oci: warning: %s\n", buf_str(&b));
	} else {
		buf_adds(sink, buf_str(&b));
		buf_addc(sink, '\n');
	}
}

void ct_warn(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	put(fmt, ap);
	va_end(ap);
}

void ct_note(const char *fmt, ...)
{
	va_list ap;

	if (!sink && !notes)
		return;
	va_start(ap, fmt);
	put(fmt, ap);
	va_end(ap);
}
