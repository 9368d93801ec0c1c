/* Tables on libsmartcols; see table.h. */
#include "ext/table.h"

#include <libsmartcols.h>
#include <stdlib.h>

struct table {
	struct libscols_table *t;
	size_t n;
};

int table_new(const struct table_column *columns, size_t n, size_t width, struct table **ret,
	      struct err **e)
{
	_cleanup_(table_freep) struct table *t = calloc(1, sizeof(*t));

	if (!t)
		return err_sys(e, ENOMEM, "table");
	t->t = scols_new_table();
	t->n = n;
	if (!t->t)
		return err_sys(e, ENOMEM, "table");
	scols_table_set_column_separator(t->t, "  ");
	scols_table_enable_nowrap(t->t, 1);
	if (width) {
		scols_table_set_termforce(t->t, SCOLS_TERMFORCE_ALWAYS);
		scols_table_set_termwidth(t->t, width);
	} else {
		scols_table_set_termforce(t->t, SCOLS_TERMFORCE_NEVER);
	}
	for (size_t i = 0; i < n; i++) {
		int flags = (columns[i].flags & TABLE_RIGHT ? SCOLS_FL_RIGHT : 0) |
			    (columns[i].flags & TABLE_CUT ? SCOLS_FL_TRUNC : 0);

		if (!scols_table_new_column(t->t, columns[i].name, 0, flags))
			return err_sys(e, ENOMEM, "table");
	}
	*ret = TAKE(t);
	return 0;
}

void table_free(struct table *t)
{
	if (!t)
		return;
	scols_unref_table(t->t);
	free(t);
}

int table_add(struct table *t, const char *const *cells, struct err **e)
{
	struct libscols_line *l = scols_table_new_line(t->t, NULL);

	for (size_t i = 0; l && i < t->n; i++) {
		if (scols_line_set_data(l, i, cells[i] && *cells[i] ? cells[i] : "-") < 0)
			l = NULL;
	}
	return l ? 0 : err_sys(e, ENOMEM, "table");
}

int table_print(struct table *t, bool no_headings, struct buf *out, struct err **e)
{
	char *text = NULL;
	int r;

	if (no_headings && scols_table_get_nlines(t->t) == 0)
		return 0;
	scols_table_enable_noheadings(t->t, no_headings);
	if (scols_table_get_nlines(t->t) ==
	    0) { /* the library prints nothing then: people want the headings */
		struct libscols_iter *it = scols_new_iter(SCOLS_ITER_FORWARD);
		struct libscols_column *c;

		while (it && scols_table_next_column(t->t, it, &c) == 0)
			buf_addf(out, "%s%s", out->len ? "  " : "",
				 scols_cell_get_data(scols_column_get_header(c)));
		scols_free_iter(it);
		buf_addc(out, '\n');
		return buf_error(out) ? err_sys(e, ENOMEM, "table") : 0;
	}
	r = scols_print_table_to_string(t->t, &text);
	if (r == 0 && text) {
		buf_adds(out, text);
		if (!out->len || out->s[out->len - 1] != '\n')
			buf_addc(out, '\n');
	}
	free(text);
	return r || buf_error(out) ? err_sys(e, ENOMEM, "table") : 0;
}
