/* Warnings of the container library: a line each, to standard error with the program's name, or into a buffer (the shim's). */
#ifndef CONTAINER_WARN_H
#define CONTAINER_WARN_H

#include "base/buf.h"

void ct_warn(const char *fmt, ...) _printf_(1, 2);
/* NULL: standard error.  b is borrowed. */
void ct_warn_to(struct buf *b);

#endif
