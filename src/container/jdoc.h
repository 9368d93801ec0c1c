/* Reading JSON once, fast, in place: config.json of a container is parsed on every start, and the start is counted
 * in microseconds.  A value tree over a private copy of the text: strings are not copied, numbers stay text until asked
 * for, a subtree's text can be had back unparsed (a seccomp profile is a cache key that way).
 *
 * Getters name the place in their errors: "linux.resources.memory.limit: not an integer".  An absent key and null are
 * the same: nothing is stored.  A reader (struct jr) keeps the first error, so a list of fields is read without a
 * check after each.  Limits: text 16 MiB, depth 64.  Trust: the text is hostile. */
#ifndef CONTAINER_JDOC_H
#define CONTAINER_JDOC_H

#include "base/err.h"
#include "container/arena.h"

#define JDOC_TEXT_MAX (16U << 20)

enum jkind { J_NULL, J_FALSE, J_TRUE, J_NUMBER, J_STRING, J_ARRAY, J_OBJECT };

struct jval {
	enum jkind kind;
	uint32_t n;		   /* items of an array or object; bytes of a string */
	const char *key;	   /* in an object: the member's name */
	const char *text;	   /* string or number */
	struct jval *first, *next; /* items, in order */
	struct jval *parent;
	size_t from, to; /* bytes [from, to) of the document */
};

/* text is copied into the arena.  -EINVAL: malformed, with line and column; -EFBIG. */
int jdoc_parse(struct arena *a, const char *text, size_t len, struct jval **ret, struct err **e);
/* NULL: absent (or o is not an object).  Of a repeated key the last counts. */
struct jval *jget(const struct jval *o, const char *key);
/* "mounts[3].options" for messages; in the arena. */
const char *jpath(struct arena *a, const struct jval *v, const char *key);

struct jr {
	struct arena *a;
	struct err **e;
	int r; /* the first error; 0: none so far */
};

/* Store the member when it is there; wrong type or range: an error. Return whether something was stored. */
bool jr_str(struct jr *r, const struct jval *o, const char *key, const char **ret);
bool jr_bool(struct jr *r, const struct jval *o, const char *key, bool *ret);
bool jr_i64(struct jr *r, const struct jval *o, const char *key, int64_t *ret);
bool jr_u64(struct jr *r, const struct jval *o, const char *key, uint64_t *ret);
bool jr_u32(struct jr *r, const struct jval *o, const char *key, uint32_t *ret);
bool jr_i32(struct jr *r, const struct jval *o, const char *key, int32_t *ret);
/* NULL-terminated; *n may be NULL. */
bool jr_strv(struct jr *r, const struct jval *o, const char *key, char ***ret, size_t *n);
/* The member when it is an object or array; NULL otherwise (an error unless absent). */
struct jval *jr_obj(struct jr *r, const struct jval *o, const char *key);
struct jval *jr_arr(struct jr *r, const struct jval *o, const char *key);
/* The item as a value of its own. */
bool jval_u64(const struct jval *v, uint64_t *ret);
/* Record "path[.key]: what". */
int jr_fail(struct jr *r, const struct jval *v, const char *key, const char *fmt, ...)
	_printf_(4, 5);

#define jfor(item, v) for (struct jval *item = (v) ? (v)->first : NULL; item; item = item->next)

#endif
