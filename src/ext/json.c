/* JSON values over jansson.  A struct json is a json_t by another name: it is never defined here. */
#include "ext/json.h"

#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include "base/atomicfile.h"
#include "base/opt.h"
#include "base/str.h"

const struct json_limits json_limits_default = {
	.size = 16 * MIB,
	.depth = 64,
	.values = 256 * KIB,
};

static inline json_t *to_jansson(const struct json *v)
{
	return (json_t *)v;
}

static inline struct json *from_jansson(json_t *v)
{
	return (struct json *)v;
}

/* Depth and number of values from the text alone, so that a hostile document is refused before it costs
 * memory.  Malformed text passes: jansson says better what is wrong with it. */
static int check_limits(const char *s, size_t len, const struct json_limits *lim, struct err **e)
{
	size_t depth = 0, values = 1, line = 1, line_start = 0;
	bool in_string = false;

	if (len > lim->size)
		return err_set(e, E2BIG, "json.limit", "%zu bytes are more than the limit of %zu",
			       len, lim->size);
	for (size_t i = 0; i < len; i++) {
		char c = s[i];

		if (in_string) {
			if (c == '\\')
				i++;
			else if (c == '"')
				in_string = false;
			continue;
		}
		switch (c) {
		case '"':
			in_string = true;
			break;
		case '\n':
			line++;
			line_start = i + 1;
			break;
		case '[':
		case '{':
			depth++;
			_fallthrough_;
		case ',':
		case ':':
			values++;
			break;
		case ']':
		case '}':
			if (depth > 0)
				depth--;
			break;
		}
		if (depth > lim->depth)
			return err_set(e, E2BIG, "json.limit",
				       "line %zu, column %zu: nested deeper than the limit of %zu",
				       line, i - line_start + 1, lim->depth);
		if (values > lim->values)
			return err_set(e, E2BIG, "json.limit",
				       "line %zu, column %zu: more values than the limit of %zu",
				       line, i - line_start + 1, lim->values);
	}
	return 0;
}

int json_parse(const char *text, size_t len, const struct json_limits *limits, struct json **ret,
	       struct err **e)
{
	json_error_t je;
	json_t *v;
	int r = check_limits(text, len, limits ? limits : &json_limits_default, e);

	if (r < 0)
		return r;
	v = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &je);
	if (!v && json_error_code(&je) == json_error_out_of_memory)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory while reading JSON");
	if (!v)
		return err_set(e, EINVAL, "json.syntax", "line %d, column %d: %s", je.line,
			       je.column > 0 ? je.column : 1, je.text);
	*ret = from_jansson(v);
	return 0;
}

int json_parse_file(const char *path, const struct json_limits *limits, struct json **ret,
		    struct err **e)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	int r = file_read(AT_FDCWD, path, (limits ? limits : &json_limits_default)->size, &b, e);

	if (r < 0)
		return r;
	r = json_parse(buf_str(&b), b.len, limits, ret, e);
	return r < 0 ? err_wrap(e, r, "%s", path) : 0;
}

struct json *json_ref(struct json *v)
{
	return from_jansson(json_incref(to_jansson(v)));
}

void json_free(struct json *v)
{
	json_decref(to_jansson(v));
}

/* ---- plain reading ---- */

enum json_kind json_kind(const struct json *v)
{
	if (!v)
		return JSON_K_NULL;
	switch (json_typeof(to_jansson(v))) {
	case JSON_OBJECT:
		return JSON_K_OBJECT;
	case JSON_ARRAY:
		return JSON_K_ARRAY;
	case JSON_STRING:
		return JSON_K_STRING;
	case JSON_INTEGER:
		return JSON_K_INT;
	case JSON_REAL:
		return JSON_K_REAL;
	case JSON_TRUE:
	case JSON_FALSE:
		return JSON_K_BOOL;
	case JSON_NULL:
		break;
	}
	return JSON_K_NULL;
}

static const char *kind_name(enum json_kind kind)
{
	static const char *const names[] = {
		[JSON_K_NULL] = "null",	       [JSON_K_BOOL] = "a boolean",
		[JSON_K_INT] = "an integer",   [JSON_K_REAL] = "a number",
		[JSON_K_STRING] = "a string",  [JSON_K_ARRAY] = "an array",
		[JSON_K_OBJECT] = "an object",
	};
	return names[kind];
}

const char *json_kind_name(const struct json *v)
{
	return kind_name(json_kind(v));
}

bool json_bool(const struct json *v, bool otherwise)
{
	return json_is_boolean(to_jansson(v)) ? json_is_true(to_jansson(v)) : otherwise;
}

int64_t json_int(const struct json *v, int64_t otherwise)
{
	return json_is_integer(to_jansson(v)) ? json_integer_value(to_jansson(v)) : otherwise;
}

double json_num(const struct json *v, double otherwise)
{
	return json_is_number(to_jansson(v)) ? json_number_value(to_jansson(v)) : otherwise;
}

const char *json_str(const struct json *v)
{
	return json_string_value(to_jansson(v));
}

size_t json_len(const struct json *v)
{
	switch (json_kind(v)) {
	case JSON_K_ARRAY:
		return json_array_size(to_jansson(v));
	case JSON_K_OBJECT:
		return json_object_size(to_jansson(v));
	case JSON_K_STRING:
		return json_string_length(to_jansson(v));
	default:
		return 0;
	}
}

const struct json *json_at(const struct json *arr, size_t i)
{
	return from_jansson(json_array_get(to_jansson(arr), i));
}

const struct json *json_get(const struct json *obj, const char *key)
{
	return from_jansson(json_object_get(to_jansson(obj), key));
}

struct json *json_edit(struct json *obj, const char *key)
{
	return from_jansson(json_object_get(to_jansson(obj), key));
}

const struct json *json_walk(const struct json *obj, ...)
{
	const char *key;
	va_list ap;

	va_start(ap, obj);
	while (obj && (key = va_arg(ap, const char *)))
		obj = json_get(obj, key);
	va_end(ap);
	return obj;
}

bool json_same(const struct json *a, const struct json *b)
{
	return json_equal(to_jansson(a), to_jansson(b));
}

struct json_iter json_iter(const struct json *obj)
{
	return (struct json_iter){ .obj = obj };
}

bool json_next(struct json_iter *it)
{
	json_t *o = to_jansson(it->obj);

	it->pos = it->started ? json_object_iter_next(o, it->pos) : json_object_iter(o);
	it->started = true;
	if (!it->pos)
		return false;
	it->key = json_object_iter_key(it->pos);
	it->value = from_jansson(json_object_iter_value(it->pos));
	return true;
}

/* ---- reading with messages ---- */

struct json_in json_in(const struct json *v, const char *name)
{
	return (struct json_in){ .v = v, .key = name };
}

struct json_in json_in_field(const struct json_in *obj, const char *key)
{
	return (struct json_in){ .v = json_get(obj->v, key), .up = obj, .key = key };
}

struct json_in json_in_item(const struct json_in *arr, size_t i)
{
	return (struct json_in){ .v = json_at(arr->v, i), .up = arr, .index = i };
}

static bool plain_key(const char *s)
{
	return *s &&
	       s[strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")] ==
		       '\0';
}

void json_in_path(const struct json_in *in, struct buf *b)
{
	if (in->up)
		json_in_path(in->up, b);
	if (!in->key) {
		buf_addf(b, "[%zu]", in->index);
	} else if (!in->up) {
		buf_adds(b, in->key);
	} else if (plain_key(in->key)) {
		buf_addf(b, ".%s", in->key);
	} else {
		buf_addc(b, '[');
		buf_add_json(b, in->key);
		buf_addc(b, ']');
	}
}

int json_bad(const struct json_in *in, struct err **e, const char *id, const char *fmt, ...)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	va_list ap;

	json_in_path(in, &b);
	if (b.len > 0)
		buf_adds(&b, ": ");
	va_start(ap, fmt);
	buf_addv(&b, fmt, ap);
	va_end(ap);
	return err_set(e, EINVAL, id, "%s", buf_str(&b));
}

int json_in_is(const struct json_in *in, enum json_kind kind, struct err **e)
{
	enum json_kind is = json_kind(in->v);

	if (!in->v)
		return json_bad(in, e, "json.missing", "is required");
	if (is == kind || (kind == JSON_K_REAL && is == JSON_K_INT))
		return 0;
	return json_bad(in, e, "json.type", "expected %s, got %s", kind_name(kind), kind_name(is));
}

int json_in_bool(const struct json_in *in, bool *ret, struct err **e)
{
	int r = json_in_is(in, JSON_K_BOOL, e);

	if (r == 0)
		*ret = json_bool(in->v, false);
	return r;
}

int json_in_int(const struct json_in *in, int64_t min, int64_t max, int64_t *ret, struct err **e)
{
	int r = json_in_is(in, JSON_K_INT, e);
	int64_t v = json_int(in->v, 0);

	if (r < 0)
		return r;
	if (v < min)
		return json_bad(in, e, "json.range", "%lld is below the minimum %lld", (long long)v,
				(long long)min);
	if (v > max)
		return json_bad(in, e, "json.range", "%lld is above the maximum %lld", (long long)v,
				(long long)max);
	*ret = v;
	return 0;
}

int json_in_real(const struct json_in *in, double *ret, struct err **e)
{
	int r = json_in_is(in, JSON_K_REAL, e);

	if (r == 0)
		*ret = json_num(in->v, 0);
	return r;
}

int json_in_str(const struct json_in *in, const char **ret, struct err **e)
{
	int r = json_in_is(in, JSON_K_STRING, e);

	if (r == 0)
		*ret = json_str(in->v);
	return r;
}

static int in_strv(const struct json_in *in, char ***ret, struct err **e)
{
	_cleanup_(strv_freep) char **v = NULL;
	size_t n = json_in_len(in);
	int r = json_in_is(in, JSON_K_ARRAY, e);

	if (r < 0)
		return r;
	v = calloc(n + 1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		struct json_in item = json_in_item(in, i);
		const char *s = "";

		r = json_in_str(&item, &s, e);
		if (r < 0)
			return r;
		v[i] = strdup(s);
		if (!v[i])
			return -ENOMEM;
	}
	*ret = TAKE(v);
	return 0;
}

static bool absent(const struct json_in *in)
{
	return !in->v || json_kind(in->v) == JSON_K_NULL;
}

/* One reader in two forms: optional (1, or 0 when absent) and needed (absence is an error). */
#define READERS(name, params, type, read)                                       \
	int json_opt_##name params                                              \
	{                                                                       \
		struct json_in in = json_in_field(obj, key);                    \
		int r;                                                          \
		if (absent(&in))                                                \
			return 0;                                               \
		r = read;                                                       \
		return r < 0 ? r : 1;                                           \
	}                                                                       \
	int json_need_##name params                                             \
	{                                                                       \
		struct json_in in = json_in_field(obj, key);                    \
		if (absent(&in))                                                \
			return json_bad(&in, e, "json.missing", "is required"); \
		return read;                                                    \
	}

static int in_kind(const struct json_in *in, enum json_kind kind, struct json_in *ret,
		   struct err **e)
{
	int r = json_in_is(in, kind, e);

	if (r == 0)
		*ret = *in;
	return r;
}

#define PARAMS(...) (const struct json_in *obj, const char *key, __VA_ARGS__, struct err **e)
READERS(bool, PARAMS(bool *ret), bool, json_in_bool(&in, ret, e))
READERS(int, PARAMS(int64_t min, int64_t max, int64_t *ret), int64_t,
	json_in_int(&in, min, max, ret, e))
READERS(real, PARAMS(double *ret), double, json_in_real(&in, ret, e))
READERS(str, PARAMS(const char **ret), const char *, json_in_str(&in, ret, e))
READERS(strv, PARAMS(char ***ret), char **, in_strv(&in, ret, e))
READERS(arr, PARAMS(struct json_in *ret), struct json_in, in_kind(&in, JSON_K_ARRAY, ret, e))
READERS(obj, PARAMS(struct json_in *ret), struct json_in, in_kind(&in, JSON_K_OBJECT, ret, e))

int json_only(const struct json_in *obj, const char *const *known, struct err **e)
{
	int r = json_in_is(obj, JSON_K_OBJECT, e);
	size_t n = 0;

	if (r < 0)
		return r;
	while (known[n])
		n++;
	for (struct json_iter it = json_iter(obj->v); json_next(&it);) {
		struct json_in in = json_in_field(obj, it.key);
		const char *near;
		size_t i = 0;

		while (i < n && !streq(known[i], it.key))
			i++;
		if (i < n)
			continue;
		near = near_miss(it.key, known, n);
		return near ? json_bad(&in, e, "json.unknown", "unknown field; did you mean '%s'?",
				       near)
			    : json_bad(&in, e, "json.unknown", "unknown field");
	}
	return 0;
}

/* ---- building ---- */

struct json *json_new_obj(void)
{
	return from_jansson(json_object());
}

struct json *json_new_arr(void)
{
	return from_jansson(json_array());
}

struct json *json_new_null(void)
{
	return from_jansson(json_null());
}

struct json *json_new_bool(bool v)
{
	return from_jansson(json_boolean(v));
}

struct json *json_new_int(int64_t v)
{
	return from_jansson(json_integer(v));
}

struct json *json_new_real(double v)
{
	return from_jansson(json_real(v));
}

struct json *json_new_str(const char *s)
{
	return s ? from_jansson(json_string(s)) : NULL;
}

struct json *json_new_strn(const char *s, size_t n)
{
	return memchr(s, '\0', n) ? NULL : from_jansson(json_stringn(s, n));
}

struct json *json_new_fmt(const char *fmt, ...)
{
	_cleanup_(freep) char *s = NULL;
	va_list ap;
	int r;

	va_start(ap, fmt);
	r = vasprintf(&s, fmt, ap);
	va_end(ap);
	if (r < 0) {
		s = NULL;
		return NULL;
	}
	return json_new_str(s);
}

struct json *json_new_strv(char *const *v)
{
	_cleanup_(json_freep) struct json *a = json_new_arr();

	for (; a && v && *v; v++)
		if (json_push(a, json_new_str(*v)) < 0)
			return NULL;
	return TAKE(a);
}

struct json *json_clone(const struct json *v)
{
	_cleanup_(json_freep) struct json *copy = NULL;

	switch (json_kind(v)) {
	case JSON_K_OBJECT:
		copy = json_new_obj();
		if (!copy)
			return NULL;
		for (struct json_iter it = json_iter(v); json_next(&it);)
			if (json_set(copy, it.key, json_clone(it.value)) < 0)
				return NULL;
		break;
	case JSON_K_ARRAY:
		copy = json_new_arr();
		if (!copy)
			return NULL;
		for (size_t i = 0; i < json_len(v); i++)
			if (json_push(copy, json_clone(json_at(v, i))) < 0)
				return NULL;
		break;
	case JSON_K_NULL:
		return json_new_null();
	default:
		copy = from_jansson(json_copy(to_jansson(v)));
	}
	return TAKE(copy);
}

static int done(int r, bool right_kind)
{
	return r == 0 ? 0 : right_kind ? -ENOMEM : -EINVAL;
}

int json_set(struct json *obj, const char *key, struct json *child)
{
	return done(json_object_set_new(to_jansson(obj), key, to_jansson(child)),
		    !obj || !child || json_is_object(to_jansson(obj)));
}

int json_push(struct json *arr, struct json *child)
{
	return done(json_array_append_new(to_jansson(arr), to_jansson(child)),
		    !arr || !child || json_is_array(to_jansson(arr)));
}

int json_set_at(struct json *arr, size_t i, struct json *child)
{
	return done(json_array_set_new(to_jansson(arr), i, to_jansson(child)), !child);
}

int json_remove(struct json *obj, const char *key)
{
	return json_object_del(to_jansson(obj), key) == 0 ? 0 : -ENOENT;
}

int json_remove_at(struct json *arr, size_t i)
{
	return json_array_remove(to_jansson(arr), i) == 0 ? 0 : -ENOENT;
}

struct json *json_merge_patch(const struct json *target, const struct json *patch)
{
	_cleanup_(json_freep) struct json *merged = NULL;

	if (json_kind(patch) != JSON_K_OBJECT)
		return json_clone(patch);
	merged = json_kind(target) == JSON_K_OBJECT ? json_clone(target) : json_new_obj();
	if (!merged)
		return NULL;
	for (struct json_iter it = json_iter(patch); json_next(&it);) {
		if (json_kind(it.value) == JSON_K_NULL) {
			json_remove(merged, it.key);
		} else {
			struct json *v = json_merge_patch(json_get(merged, it.key), it.value);

			if (json_set(merged, it.key, v) < 0)
				return NULL;
		}
	}
	return TAKE(merged);
}

/* ---- printing ---- */

char *json_format_real(double v, char *buf, size_t len)
{
	for (int digits = 15; digits <= 17; digits++) {
		snprintf(buf, len, "%.*g", digits, v);
		if (strtod(buf, NULL) == v)
			break;
	}
	/* The decimal point of the process's locale becomes JSON's. */
	for (char *p = buf; *p; p++)
		if (!strchr("0123456789+-e.", *p))
			*p = '.';
	if (!strpbrk(buf, ".e"))
		strncat(buf, ".0", len - strlen(buf) - 1);
	return buf;
}

static void newline(struct buf *b, unsigned int style, unsigned int level)
{
	if (style & JSON_PRETTY)
		buf_addf(b, "\n%*s", 2 * level, "");
}

static int by_key(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void print(const struct json *v, unsigned int style, unsigned int level, struct buf *b);

static void print_member(const char *key, const struct json *v, unsigned int style,
			 unsigned int level, bool first, struct buf *b)
{
	if (!first)
		buf_addc(b, ',');
	newline(b, style, level);
	buf_add_json(b, key);
	buf_adds(b, style & JSON_PRETTY ? ": " : ":");
	print(v, style, level, b);
}

static void print_sorted(const struct json *v, unsigned int style, unsigned int level,
			 struct buf *b)
{
	_cleanup_(freep) const char **keys = calloc(json_len(v) + 1, sizeof(*keys));
	size_t n = 0;

	if (!keys) {
		b->error = -ENOMEM;
		return;
	}
	for (struct json_iter it = json_iter(v); json_next(&it);)
		keys[n++] = it.key;
	qsort(keys, n, sizeof(*keys), by_key);
	for (size_t i = 0; i < n; i++)
		print_member(keys[i], json_get(v, keys[i]), style, level, i == 0, b);
}

static void print_obj(const struct json *v, unsigned int style, unsigned int level, struct buf *b)
{
	bool first = true;

	if (json_len(v) == 0) {
		buf_adds(b, "{}");
		return;
	}
	buf_addc(b, '{');
	if (style & JSON_SORTED) {
		print_sorted(v, style, level + 1, b);
	} else {
		for (struct json_iter it = json_iter(v); json_next(&it); first = false)
			print_member(it.key, it.value, style, level + 1, first, b);
	}
	newline(b, style, level);
	buf_addc(b, '}');
}

static void print_arr(const struct json *v, unsigned int style, unsigned int level, struct buf *b)
{
	if (json_len(v) == 0) {
		buf_adds(b, "[]");
		return;
	}
	for (size_t i = 0; i < json_len(v); i++) {
		buf_addc(b, i == 0 ? '[' : ',');
		newline(b, style, level + 1);
		print(json_at(v, i), style, level + 1, b);
	}
	newline(b, style, level);
	buf_addc(b, ']');
}

static void print(const struct json *v, unsigned int style, unsigned int level, struct buf *b)
{
	char num[32];

	switch (json_kind(v)) {
	case JSON_K_NULL:
		buf_adds(b, "null");
		break;
	case JSON_K_BOOL:
		buf_adds(b, json_bool(v, false) ? "true" : "false");
		break;
	case JSON_K_INT:
		buf_addf(b, "%lld", (long long)json_int(v, 0));
		break;
	case JSON_K_REAL:
		buf_adds(b, json_format_real(json_num(v, 0), num, sizeof(num)));
		break;
	case JSON_K_STRING:
		buf_add_json(b, json_str(v));
		break;
	case JSON_K_ARRAY:
		print_arr(v, style, level, b);
		break;
	case JSON_K_OBJECT:
		print_obj(v, style, level, b);
		break;
	}
}

int json_print(const struct json *v, unsigned int style, struct buf *b)
{
	print(v, style, 0, b);
	if (style & JSON_PRETTY)
		buf_addc(b, '\n');
	return buf_error(b);
}

char *json_text(const struct json *v, unsigned int style)
{
	_cleanup_(buf_done) struct buf b = { 0 };

	json_print(v, style, &b);
	return buf_take(&b);
}
