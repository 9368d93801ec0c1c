/* Warnings of the container library: a line each, to standard error with the program's name, or into a buffer (the shim's). */
#ifndef CONTAINER_WARN_H
#define CONTAINER_WARN_H

#include "base/buf.h"

/* A limit that the host cannot give, and similar: engines pass such with every container, and their standard error is the
 * container's own; so this is for the log file or the buffer, and for standard error only after ct_notes(true). */
void ct_note(const char *fmt, ...) _printf_(1, 2);
void ct_notes(bool to_stderr);
void ct_warn(const char *fmt, ...) _printf_(1, 2);
/* NULL: standard error.  b is borrowed. */
void ct_warn_to(struct buf *b);

#endif
