/* What the files of the object machinery share; nobody else includes this. */
#ifndef GEN_OBJECT_INT_H
#define GEN_OBJECT_INT_H

#include <string.h>
#include "base/str.h"
#include "gen/object.h"

/* Where we are in a document; a chain through the callers' frames. */
struct gen_at {
	const struct gen_at *up;
	const char *name; /* NULL: element `index`; "": left out */
	size_t index;
};

/* Sets "path: message"; returns -num. */
int gen_bad(const struct gen_at *at, struct err **e, int num, const char *id, const char *fmt, ...)
	_printf_(5, 6);
/* s in quotes, cut and without control characters, for messages; buf: GEN_QUOTED bytes; returns buf. */
#define GEN_QUOTED 80
char *gen_quote(const char *s, char *buf);

static inline void *gen_ptr(const struct gen_field *f, const void *obj)
{
	return (char *)obj + f->offset;
}

static inline bool *gen_has(const struct gen_field *f, const void *obj)
{
	return f->has == GEN_NO_HAS ? NULL : (bool *)((char *)obj + f->has);
}

/* The object of a GEN_ONE GEN_OBJECT field: embedded or pointed to (then perhaps NULL). */
static inline void *gen_sub(const struct gen_field *f, const void *obj)
{
	return f->flags & GEN_F_POINTER ? *(void **)gen_ptr(f, obj) : gen_ptr(f, obj);
}

size_t gen_elem_size(const struct gen_field *f); /* bytes of one value of f */
static inline void *gen_elem(const struct gen_field *f, const struct gen_vec *v, size_t i)
{
	return (char *)v->v + i * gen_elem_size(f);
}

/* Is a value there?  Embedded objects and fields with a default always are. */
bool gen_present(const struct gen_field *f, const void *obj);
/* Does the condition of f (`when`) hold? */
bool gen_when(const struct gen_type *t, const struct gen_field *f, const void *obj);

/* One value of a scalar field or one element: from JSON into *val (zeroed memory), released, checked. */
int gen_read_scalar(const struct gen_field *f, const struct json *v, const struct gen_at *at,
		    void *val, struct err **e);
void gen_done_value(const struct gen_field *f, void *val);
int gen_check_scalar(const struct gen_field *f, const void *val, const struct gen_at *at,
		     struct err **e);
bool gen_equal_value(const struct gen_field *f, const void *a, const void *b);

/* "path.name: unknown field; did you mean 'x'?".  also: further names to compare, in pairs (name, whatever), NULL ends;
 * may be NULL. */
int gen_unknown(const struct gen_type *t, const struct gen_at *here, const char *name,
		const char *const *also, struct err **e);

#endif
