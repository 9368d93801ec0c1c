/* Allocation that ends the program when memory runs out.  Only for the short-lived command lines (strata,
 * strata-oci, tools): everything that serves others returns -ENOMEM instead. */
#ifndef BASE_XALLOC_H
#define BASE_XALLOC_H

#include "base/types.h"

void *xmalloc(size_t n);
void *xcalloc(size_t n, size_t size);
void *xrealloc(void *p, size_t n);
char *xstrdup(const char *s);
char *xstrndup(const char *s, size_t n);
char *xasprintf(const char *fmt, ...) _printf_(1, 2);

#endif
