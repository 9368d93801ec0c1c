/* JSON values: parse, read, build, print.  The one file that knows jansson is json.c; ext/yaml.h makes the
 * same values from YAML.
 *
 * Parsing is strict and bounded: RFC 8259 in UTF-8, no duplicate names, no NUL in strings, no byte order
 * mark, nothing after the value; integers are 64-bit signed (more is an error, not a double); size, depth and
 * number of values are limited before anything is allocated.  Faults name line and column.
 *
 * Ownership: values are reference counted.  A container owns its children: json_set() and json_push() take
 * the child over even when they fail.  Readers borrow: what they return lives as long as the value read from.
 * Thread: a value belongs to one thread at a time, references included. */
#ifndef EXT_JSON_H
#define EXT_JSON_H

#include "base/buf.h"
#include "base/err.h"
#include "base/types.h"

struct json;

enum json_kind {
	JSON_K_NULL,
	JSON_K_BOOL,
	JSON_K_INT,
	JSON_K_REAL,
	JSON_K_STRING,
	JSON_K_ARRAY,
	JSON_K_OBJECT,
};

/* ---- parsing ---- */

struct json_limits {
	size_t size;   /* bytes of text */
	size_t depth;  /* nested arrays and objects */
	size_t values; /* values in all, an upper bound counted from the text */
};
/* 16 MiB, 64 levels, 256 Ki values: the worst text takes about 64 MiB of memory besides its own size. */
extern const struct json_limits json_limits_default;

/* text: len bytes, need not end in NUL.  limits NULL: the default.  On success *ret is the caller's.
 * -EINVAL "json.syntax": "line 3, column 7: ..."; -E2BIG "json.limit"; -ENOMEM. */
int json_parse(const char *text, size_t len, const struct json_limits *limits, struct json **ret,
	       struct err **e);
/* The file at path; messages start with the path.  Also -EFBIG and -errno of open and read. */
int json_parse_file(const char *path, const struct json_limits *limits, struct json **ret,
		    struct err **e);

struct json *json_ref(struct json *v); /* another owner; NULL gives NULL */
void json_free(struct json *v);	       /* one owner less; NULL: no effect */
DEFINE_CLEANUP(struct json *, json_free);

/* ---- plain reading: a NULL or a value of another kind gives the stated answer ---- */

enum json_kind json_kind(const struct json *v); /* NULL counts as null */
const char *
json_kind_name(const struct json *v); /* "null", "a boolean", "an integer", "a number", ... */
bool json_bool(const struct json *v, bool otherwise);
int64_t json_int(const struct json *v, int64_t otherwise);
double json_num(const struct json *v, double otherwise); /* integers too */
const char *json_str(const struct json *v);		 /* NULL when not a string */
size_t json_len(const struct json *v); /* elements or members; bytes of a string; else 0 */
const struct json *json_at(const struct json *arr, size_t i);	      /* NULL: none such */
const struct json *json_get(const struct json *obj, const char *key); /* NULL: none such */
struct json *json_edit(struct json *obj, const char *key); /* the same, to change it in place */
/* json_walk(v, "config", "process", "args", NULL): members of members; NULL: not there. */
const struct json *json_walk(const struct json *obj, ...) __attribute__((sentinel));
bool json_same(const struct json *a,
	       const struct json *b); /* equal by value; order of members ignored */

/* for (struct json_iter it = json_iter(obj); json_next(&it);) use(it.key, it.value);
 * Members come in the order of the text or of json_set().  Do not add or remove meanwhile. */
struct json_iter {
	const struct json *obj;
	void *pos;
	bool started;
	const char *key;
	struct json *value;
};
struct json_iter json_iter(const struct json *obj); /* of anything else: no members */
bool json_next(struct json_iter *it);

/* ---- reading with messages: a cursor knows its path ----
 *
 *	struct json_in root = json_in(v, "config"), process;
 *	if (json_need_obj(&root, "process", &process, e) < 0 ||
 *	    json_need_str(&process, "cwd", &cwd, e) < 0)	"config.process.cwd: expected a string, got an integer"
 *		return -EINVAL;
 *	for (size_t i = 0; i < json_in_len(&arr); i++) { struct json_in m = json_in_item(&arr, i); ... }
 *
 * A cursor points to its parent cursor, which must outlive it.
 * json_opt_x(): 1 found, 0 absent or null (*ret untouched), -EINVAL "json.type".
 * json_need_x(): 0, or -EINVAL "json.missing", "json.type". */
struct json_in {
	const struct json *v; /* NULL: absent */
	const struct json_in *up;
	const char *key; /* name of the root or of the member; NULL: element `index` */
	size_t index;
};
struct json_in json_in(const struct json *v, const char *name);
struct json_in json_in_field(const struct json_in *obj, const char *key);
struct json_in json_in_item(const struct json_in *arr, size_t i);
static inline size_t json_in_len(const struct json_in *in)
{
	return json_len(in->v);
}
void json_in_path(const struct json_in *in, struct buf *b); /* "config.mounts[3].type" */
/* -EINVAL with "path: message"; id as for err_set(). */
int json_bad(const struct json_in *in, struct err **e, const char *id, const char *fmt, ...)
	_printf_(4, 5);

/* The value under the cursor itself; absent counts as the wrong kind. */
int json_in_bool(const struct json_in *in, bool *ret, struct err **e);
int json_in_int(const struct json_in *in, int64_t min, int64_t max, int64_t *ret, struct err **e);
int json_in_real(const struct json_in *in, double *ret, struct err **e);
int json_in_str(const struct json_in *in, const char **ret, struct err **e);
int json_in_is(const struct json_in *in, enum json_kind kind, struct err **e);

int json_opt_bool(const struct json_in *obj, const char *key, bool *ret, struct err **e);
int json_opt_int(const struct json_in *obj, const char *key, int64_t min, int64_t max, int64_t *ret,
		 struct err **e);
int json_opt_real(const struct json_in *obj, const char *key, double *ret, struct err **e);
int json_opt_str(const struct json_in *obj, const char *key, const char **ret, struct err **e);
int json_opt_arr(const struct json_in *obj, const char *key, struct json_in *ret, struct err **e);
int json_opt_obj(const struct json_in *obj, const char *key, struct json_in *ret, struct err **e);
/* An array of strings as a NULL-terminated copy, the caller's (strv_free). */
int json_opt_strv(const struct json_in *obj, const char *key, char ***ret, struct err **e);

int json_need_bool(const struct json_in *obj, const char *key, bool *ret, struct err **e);
int json_need_int(const struct json_in *obj, const char *key, int64_t min, int64_t max,
		  int64_t *ret, struct err **e);
int json_need_real(const struct json_in *obj, const char *key, double *ret, struct err **e);
int json_need_str(const struct json_in *obj, const char *key, const char **ret, struct err **e);
int json_need_arr(const struct json_in *obj, const char *key, struct json_in *ret, struct err **e);
int json_need_obj(const struct json_in *obj, const char *key, struct json_in *ret, struct err **e);
int json_need_strv(const struct json_in *obj, const char *key, char ***ret, struct err **e);

/* Refuse members not in the NULL-terminated list: "config.procss: unknown field; did you mean 'process'?",
 * id "json.unknown".  Without a list of your own to refuse, do not call it: OCI documents may carry more. */
int json_only(const struct json_in *obj, const char *const *known, struct err **e);

/* ---- building ----
 *
 * Every maker returns NULL when out of memory, and every adder takes NULL for "the child failed" and returns
 * -ENOMEM, so that a tree may be built first and checked at its end:
 *
 *	_cleanup_(json_freep) struct json *o = json_new_obj();
 *	int r = json_set(o, "name", json_new_str(name));
 *	r = json_set(o, "size", json_new_int(size)) ?: r;  */
struct json *json_new_obj(void);
struct json *json_new_arr(void);
struct json *json_new_null(void);
struct json *json_new_bool(bool v);
struct json *json_new_int(int64_t v);
struct json *json_new_real(double v);	  /* NULL also for NaN and infinity */
struct json *json_new_str(const char *s); /* NULL also when s is NULL or not UTF-8 */
struct json *json_new_strn(const char *s, size_t n);
struct json *json_new_fmt(const char *fmt, ...) _printf_(1, 2);
struct json *json_new_strv(char *const *v);    /* array of strings */
struct json *json_clone(const struct json *v); /* a deep copy that shares nothing */

/* Replaces a member of that name in its place; takes child.  -EINVAL: obj is not an object. */
int json_set(struct json *obj, const char *key, struct json *child);
int json_push(struct json *arr, struct json *child);
int json_set_at(struct json *arr, size_t i, struct json *child); /* replaces element i */
int json_remove(struct json *obj, const char *key);		 /* -ENOENT: was not there */
int json_remove_at(struct json *arr, size_t i);

/* RFC 7396: patch's members replace those of target, null removes, objects merge.  Returns the result, the
 * caller's and shares nothing with either; target may be NULL; NULL: out of memory. */
struct json *json_merge_patch(const struct json *target, const struct json *patch);

/* ---- printing ---- */

enum json_style {
	JSON_COMPACT = 0,
	JSON_PRETTY = 1, /* two blanks a level, ends with a newline */
	JSON_SORTED = 2, /* members by name: a canonical form for digests and golden files */
};
/* Appends to b.  -ENOMEM.  Reals print with the fewest digits that read back the same. */
int json_print(const struct json *v, unsigned int style, struct buf *b);
char *json_text(const struct json *v, unsigned int style); /* the caller's; NULL: out of memory */

/* "3", "-0.25", "1e+300": v as JSON writes it (buf: at least 32 bytes); returns buf. */
char *json_format_real(double v, char *buf, size_t len);

#endif
