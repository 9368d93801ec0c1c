/* Objects of the schema: what the code made by tools/schemac is driven by.
 *
 * schema/<file>.json describes types; gen/<file>.h holds a C struct for each, a `struct gen_type` that describes it,
 * and typed wrappers, so that users write
 *
 *	_cleanup_(api_volume_done) struct api_volume v = { 0 };
 *	if (api_volume_parse(&v, json, GEN_CREATE, e) < 0)	"volume.size: 5 is below the minimum 1M"
 *		return -EINVAL;
 *	if (v.spec.has_size && v.spec.size > room) ...
 *	api_volume_print(&v, 0, &out);
 *
 * and never touch the tables.  In the structs: text is `char *`, owned, NULL when absent; a `bool has_x` stands beside
 * what may be absent and is not text; an optional object is a pointer, NULL when absent; lists are VEC(T) with owned
 * elements; `string{}` maps are struct gen_map.  Sizes are bytes, bit rates bit/s, durations and times nsec_t (times
 * in whole milliseconds).
 *
 * Every message names path and rule: "instance.cpu.limit_mhz: 5 is below the minimum 100".  In paths of resources
 * `spec` is left out.  Trust: the JSON may be hostile; text, lists and numbers are bounded by the schema, nesting by
 * the types.  Thread: an object belongs to one thread at a time; the tables are constant. */
#ifndef GEN_OBJECT_H
#define GEN_OBJECT_H

#include "base/buf.h"
#include "base/err.h"
#include "base/vec.h"
#include "ext/json.h"

enum gen_kind {
	GEN_BOOL,
	GEN_INT,  /* int64_t */
	GEN_UINT, /* uint64_t, at most INT64_MAX */
	GEN_REAL, /* double */
	GEN_SIZE, /* uint64_t bytes; reads 536870912 and "512M", prints the number */
	GEN_BITRATE, /* uint64_t bit/s; reads 100000000 and "100M" (powers of 1000), prints the number */
	GEN_DURATION, /* nsec_t; reads "30s", "5m" and seconds as a number, prints the text */
	GEN_TIME,     /* nsec_t since 1970; RFC 3339 */
	GEN_STRING,   /* char * */
	GEN_SECRET,   /* char *, wiped when freed, printed only with GEN_SECRETS */
	GEN_ENUM,     /* an enum */
	GEN_OBJECT,   /* a struct, or a pointer to one with GEN_F_POINTER */
	GEN_ANY,      /* struct json * */
};

enum gen_shape { GEN_ONE, GEN_LIST, GEN_MAP };

enum gen_mutable {
	GEN_ALWAYS,  /* changes at any time */
	GEN_STOPPED, /* changes only while the object does not run */
	GEN_NEVER,   /* set at creation */
	GEN_INHERIT, /* as the field that holds this object */
};

enum {
	GEN_F_REQUIRED = 1 << 0,
	GEN_F_READONLY = 1 << 1, /* set by the daemon */
	GEN_F_CONFLICT = 1 << 2, /* the revision: another value in a change is a conflict */
	GEN_F_POINTER = 1 << 3,	 /* an optional object */
	GEN_F_DEFAULT = 1 << 4,
	GEN_F_HIDDEN = 1 << 5, /* left out of paths: spec */
	GEN_F_STATUS = 1 << 6, /* the status of a resource: clients cannot set it */
	GEN_F_MIN = 1 << 7,
	GEN_F_MAX = 1 << 8,
};

#define GEN_NO_HAS 0xffffU

/* A shape of text: schema/formats.json. */
struct gen_format {
	const char *name;
	const char *help; /* completes "expected ..." */
	uint32_t max_len;
	bool (*check)(const char *s); /* or, when NULL, an automaton over bytes: */
	const uint8_t *classes;	      /* [256] */
	const uint8_t *next;	      /* [state * n_classes + class]; 0: dead; 1: start */
	const uint8_t *accept;	      /* [state] */
	uint8_t n_classes;
};

struct gen_enum {
	const char *name;
	const char *const *names; /* NULL-terminated; the index is the C value */
	const char *const *helps;
	unsigned int n;
};

struct gen_type;

struct gen_field {
	const char *name;
	const char *key; /* "\"name\":" */
	uint16_t key_len;
	uint16_t offset, has; /* has: of its bool, or GEN_NO_HAS */
	uint16_t flags;
	uint8_t kind, shape, mutable_;
	int8_t when; /* field of the same type that must be `when_value`; -1: always there */
	int8_t at_most, at_least; /* field of the same type that bounds this one; -1: none */
	int8_t list_key;	  /* field of the elements that names them; -1: none */
	int32_t when_value;
	uint32_t min_len, max_len;     /* characters of text */
	uint32_t min_items, max_items; /* of lists and maps */
	int64_t min, max;	       /* numbers, sizes, nanoseconds */
	double rmin, rmax;	       /* GEN_REAL */
	int64_t def;		       /* numbers, booleans, enums */
	double rdef;
	const char *sdef;
	const struct gen_type *type;	 /* GEN_OBJECT */
	const struct gen_enum *values;	 /* GEN_ENUM */
	const struct gen_format *format; /* of text, elements or map keys; may be NULL */
	const char *help, *unit, *since; /* unit may be NULL */
};

struct gen_type {
	const char *name; /* as in the schema */
	const char *path; /* first part of paths in messages */
	const char *help;
	size_t size;
	const struct gen_field *fields;
	unsigned int n;
	bool resource; /* has id, name, spec, status */
};

/* Any VEC(T). */
struct gen_vec {
	void *v;
	size_t n, cap;
};

struct gen_pair {
	char *key, *value; /* owned */
};
struct gen_map {
	struct gen_pair *v;
	size_t n, cap;
};
const char *gen_map_get(const struct gen_map *m, const char *key); /* NULL: not there */
int gen_map_set(struct gen_map *m, const char *key,
		const char *value);			/* copies; replaces; -ENOMEM */
int gen_map_remove(struct gen_map *m, const char *key); /* -ENOENT */

/* Who speaks when something is parsed. */
enum gen_mode {
	GEN_TRUSTED, /* ourselves (the database, a peer program): everything may be there */
	GEN_CREATE,  /* a client's new object: readonly fields are refused, status is skipped */
	GEN_CHANGE, /* a client's whole object for PUT: readonly fields may be there, status is skipped */
};

enum gen_print {
	GEN_SECRETS = 1,   /* secrets too */
	GEN_NO_STATUS = 2, /* without the status of a resource */
};

/* obj: zeroed or released memory of t->size.  Sets the defaults.  -ENOMEM: obj is all zero. */
int gen_init(const struct gen_type *t, void *obj);
/* Release what obj owns and zero it; of zeroed memory: no effect. */
void gen_done(const struct gen_type *t, void *obj);
/* ret (not released first) becomes an independent copy.  -ENOMEM: ret is all zero. */
int gen_copy(const struct gen_type *t, const void *obj, void *ret);
bool gen_equal(const struct gen_type *t, const void *a, const void *b);
/* A zeroed element at the end of a list with its defaults set; NULL: out of memory.  field: of t, by name. */
void *gen_list_add(const struct gen_type *elem, struct gen_vec *list);

/* ret is not released first.  root: first part of the path in messages, NULL: t->path.  -EINVAL with ids
 * schema.type, schema.unknown, schema.missing, schema.readonly and those of gen_validate(); -ENOMEM.
 * On failure ret is all zero. */
int gen_parse(const struct gen_type *t, const struct json *v, const char *root, enum gen_mode mode,
	      void *ret, struct err **e);
/* The text of a document, within `limits` (NULL: json_limits_default). */
int gen_parse_text(const struct gen_type *t, const char *text, size_t len,
		   const struct json_limits *limits, const char *root, enum gen_mode mode,
		   void *ret, struct err **e);
/* Does an object made by C code keep the rules?  -EINVAL: schema.range, schema.length, schema.format, schema.value,
 * schema.items, schema.duplicate, schema.when, schema.missing. */
int gen_validate(const struct gen_type *t, const void *obj, const char *root, struct err **e);

/* Appends compact JSON.  What is absent, and empty lists and maps, are left out.  -ENOMEM. */
int gen_print(const struct gen_type *t, const void *obj, unsigned int print, struct buf *b);
/* The same as a tree, the caller's; NULL: out of memory. */
struct json *gen_to_json(const struct gen_type *t, const void *obj, unsigned int print);

/* May `now` become `next`?  -EPERM schema.immutable "instance.kind: cannot be changed", -EBUSY schema.running
 * "instance.cpu.count: cannot change while running", -EPERM schema.readonly.  Status is not looked at. */
int gen_check_change(const struct gen_type *t, const void *now, const void *next, bool running,
		     struct err **e);
/* JSON merge patch (RFC 7396) of now, checked as above; -EEXIST schema.conflict when the patch has another revision.
 * ret as for gen_parse(), with the status of now. */
int gen_patch(const struct gen_type *t, const void *now, const struct json *patch, bool running,
	      void *ret, struct err **e);
/* The same for a whole object (PUT): what it leaves out goes back to the default, but readonly fields stay. */
int gen_replace(const struct gen_type *t, const void *now, const struct json *whole, bool running,
		void *ret, struct err **e);

/* ---- one field at a time, for command lines and query strings ---- */

const struct gen_field *gen_field_find(const struct gen_type *t, const char *name, size_t len);
/* The field at "spec.cpu.count"; of lists and maps: the list.  NULL: none.  `spec.` may be left out of a resource. */
const struct gen_field *gen_field_at(const struct gen_type *t, const char *path);
/* The JSON value that text means for one value of f (of a list: one element): 4, "512M", "on", "text".  shown: what
 * messages start with ("--cpus").  Checks f's rules.  -EINVAL; -ENOMEM. */
int gen_value_from_text(const struct gen_field *f, const char *shown, const char *text,
			struct json **ret, struct err **e);
/* Set the field at path in the tree obj (objects are made on the way), or append to it when it is a list; maps take
 * "key=value" or, at "labels.key", the value.  -ENOENT schema.unknown with the near miss. */
int gen_set_text(const struct gen_type *t, struct json *obj, const char *path, const char *shown,
		 const char *text, struct err **e);
/* "a=1&b=x%20y" into an object of t; lists by repetition.  root: "query". */
int gen_parse_query(const struct gen_type *t, const char *query, void *ret, struct err **e);

/* "64M", "1536", "30s", "100M": exact and short, as the parsers read them; buf: at least 32 bytes; returns buf. */
char *gen_format_size(uint64_t bytes, char *buf);
char *gen_format_bitrate(uint64_t rate, char *buf);
char *gen_format_duration(nsec_t d, char *buf);
int gen_parse_bitrate(const char *s, uint64_t *ret); /* -EINVAL, -ERANGE */

/* -1: not one of them. */
int gen_enum_find(const struct gen_enum *en, const char *name);
/* Does s have the shape? (its length is not looked at) */
bool gen_format_fits(const struct gen_format *f, const char *s);

/* What schemac writes for each type; C is the struct's name. */
#define GEN_DECLARE(C)                                                                             \
	extern const struct gen_type C##_type;                                                     \
	extern const struct gen_field C##_fields[];                                                \
	static inline int C##_init(struct C *o)                                                    \
	{                                                                                          \
		return gen_init(&C##_type, o);                                                     \
	}                                                                                          \
	static inline void C##_done(struct C *o)                                                   \
	{                                                                                          \
		gen_done(&C##_type, o);                                                            \
	}                                                                                          \
	/* heap objects: done and free; NULL: no effect */                                         \
	static inline void C##_free(struct C *o)                                                   \
	{                                                                                          \
		if (o)                                                                             \
			gen_done(&C##_type, o);                                                    \
		free(o);                                                                           \
	}                                                                                          \
	static inline int C##_parse(struct C *ret, const struct json *v, enum gen_mode mode,       \
				    struct err **e)                                                \
	{                                                                                          \
		return gen_parse(&C##_type, v, NULL, mode, ret, e);                                \
	}                                                                                          \
	static inline int C##_validate(const struct C *o, struct err **e)                          \
	{                                                                                          \
		return gen_validate(&C##_type, o, NULL, e);                                        \
	}                                                                                          \
	static inline int C##_print(const struct C *o, unsigned int print, struct buf *b)          \
	{                                                                                          \
		return gen_print(&C##_type, o, print, b);                                          \
	}                                                                                          \
	static inline int C##_copy(const struct C *o, struct C *ret)                               \
	{                                                                                          \
		return gen_copy(&C##_type, o, ret);                                                \
	}                                                                                          \
	static inline bool C##_equal(const struct C *a, const struct C *b)                         \
	{                                                                                          \
		return gen_equal(&C##_type, a, b);                                                 \
	}                                                                                          \
	static inline int C##_patch(const struct C *now, const struct json *patch, bool running,   \
				    struct C *ret, struct err **e)                                 \
	{                                                                                          \
		return gen_patch(&C##_type, now, patch, running, ret, e);                          \
	}                                                                                          \
	static inline int C##_replace(const struct C *now, const struct json *whole, bool running, \
				      struct C *ret, struct err **e)                               \
	{                                                                                          \
		return gen_replace(&C##_type, now, whole, running, ret, e);                        \
	}                                                                                          \
	DEFINE_CLEANUP(struct C *, C##_free)

/* A new element of a list field: struct api_instance_disk *d = GEN_ADD(&spec->disks, api_instance_disk); */
#define GEN_ADD(list, C) ((struct C *)gen_list_add(&C##_type, (struct gen_vec *)(list)))

#endif
