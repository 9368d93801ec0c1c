/* Tables for people: columns that fit the terminal.  On libsmartcols.  Thread: one at a time. */
#ifndef EXT_TABLE_H
#define EXT_TABLE_H

#include "base/buf.h"
#include "base/err.h"

struct table;

enum {
	TABLE_RIGHT = 1,
	TABLE_CUT = 2
}; /* numbers to the right; may be cut when the terminal is narrow */

struct table_column {
	const char *name; /* shown as heading */
	int flags;
};

/* width: columns of the terminal; 0: do not fit, print everything (pipes). */
int table_new(const struct table_column *columns, size_t n, size_t width, struct table **ret,
	      struct err **e);
void table_free(struct table *t); /* NULL: no effect */
DEFINE_CLEANUP(struct table *, table_free);
/* One text a column, copied; NULL shows "-".  Control characters are shown escaped. */
int table_add(struct table *t, const char *const *cells, struct err **e);
/* The whole table with its headings (without when no_headings); nothing at all when it has no rows and no headings. */
int table_print(struct table *t, bool no_headings, struct buf *out, struct err **e);

#endif
