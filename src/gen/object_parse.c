/* From JSON to objects: types, unknown and missing fields.  The rules on values are object_check.c's. */
#include "base/checked.h"
#include "base/clock.h"
#include "base/opt.h"
#include "gen/object_int.h"

#define MAX_FIELDS 64 /* of a type; schemac holds to it */

/* ---- messages ---- */

static void add_path(const struct gen_at *at, struct buf *b)
{
	static const char plain[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";

	if (at->up)
		add_path(at->up, b);
	if (!at->name) {
		buf_addf(b, "[%zu]", at->index);
	} else if (!at->up) {
		buf_adds(b, at->name);
	} else if (*at->name && at->name[strspn(at->name, plain)]) {
		char quoted[GEN_QUOTED];

		buf_addf(b, "[%s]", gen_quote(at->name, quoted));
	} else if (*at->name) {
		buf_addf(b, "%s%s", b->len ? "." : "", at->name);
	}
}

int gen_bad(const struct gen_at *at, struct err **e, int num, const char *id, const char *fmt, ...)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	va_list ap;

	add_path(at, &b);
	buf_adds(&b, ": ");
	va_start(ap, fmt);
	buf_addv(&b, fmt, ap);
	va_end(ap);
	return err_set(e, num, id, "%s", buf_str(&b));
}

char *gen_quote(const char *s, char *buf)
{
	size_t n = 0;

	buf[n++] = '\'';
	while (*s) {
		size_t len = utf8_len(s);
		bool bad = len == 0 || (unsigned char)*s < 0x20 || *s == 0x7f;

		if (n + MAX(len, (size_t)1) + sizeof("...'") > GEN_QUOTED) {
			memcpy(buf + n, "...", 3);
			n += 3;
			break;
		}
		if (bad)
			buf[n++] = '?';
		else
			memcpy(buf + n, s, len);
		n += bad ? 0 : len;
		s += len ? len : 1;
	}
	buf[n++] = '\'';
	buf[n] = '\0';
	return buf;
}

int gen_unknown(const struct gen_type *t, const struct gen_at *here, const char *name,
		const char *const *also, struct err **e)
{
	const char *names[2 * MAX_FIELDS], *near;
	size_t n = 0;

	for (; n < t->n; n++)
		names[n] = t->fields[n].name;
	for (; also && *also && n < ARRAY_SIZE(names); also += 2)
		names[n++] = *also;
	near = near_miss(name, names, n);
	return near ? gen_bad(here, e, EINVAL, "schema.unknown",
			      "unknown field; did you mean '%s'?", near)
		    : gen_bad(here, e, EINVAL, "schema.unknown", "unknown field");
}

static int wrong_kind(const struct gen_at *at, const char *wanted, const struct json *v,
		      struct err **e)
{
	return gen_bad(at, e, EINVAL, "schema.type", "expected %s, got %s", wanted,
		       json_kind_name(v));
}

static int no_memory(struct err **e)
{
	return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
}

/* ---- scalars ---- */

static int read_text(const struct gen_field *f, const struct json *v, const struct gen_at *at,
		     char **ret, struct err **e)
{
	const char *s = json_str(v);

	if (!s)
		return wrong_kind(at, f->format ? f->format->help : "a string", v, e);
	*ret = strdup(s);
	return *ret ? 0 : no_memory(e);
}

static int read_enum(const struct gen_field *f, const struct json *v, const struct gen_at *at,
		     int *ret, struct err **e)
{
	_cleanup_(buf_done) struct buf list = { 0 };
	const char *s = json_str(v), *near;
	char quoted[GEN_QUOTED];
	int i;

	for (unsigned int k = 0; k < f->values->n; k++)
		buf_addf(&list, "%s'%s'",
			 k == 0			 ? ""
			 : k + 1 == f->values->n ? " or "
						 : ", ",
			 f->values->names[k]);
	if (!s)
		return wrong_kind(at, buf_str(&list), v, e);
	i = gen_enum_find(f->values, s);
	if (i >= 0) {
		*ret = i;
		return 0;
	}
	near = near_miss(s, f->values->names, f->values->n);
	return gen_bad(at, e, EINVAL, "schema.value", "%s is not %s%s%s%s", gen_quote(s, quoted),
		       buf_str(&list), near ? "; did you mean '" : "", near ? near : "",
		       near ? "'?" : "");
}

/* A number, or text that `parse` reads; what: for messages. */
static int read_amount(const struct json *v, int (*parse)(const char *, uint64_t *),
		       const char *what, const struct gen_at *at, uint64_t *ret, struct err **e)
{
	char quoted[GEN_QUOTED];
	const char *s = json_str(v);
	int r;

	if (!s) {
		int64_t i = json_int(v, 0);

		if (json_kind(v) != JSON_K_INT)
			return wrong_kind(at, what, v, e);
		if (i < 0)
			return gen_bad(at, e, EINVAL, "schema.range", "%lld is below the minimum 0",
				       (long long)i);
		*ret = (uint64_t)i;
		return 0;
	}
	r = parse(s, ret);
	if (r == -ERANGE || (r == 0 && *ret > INT64_MAX))
		return gen_bad(at, e, EINVAL, "schema.range", "%s is too large",
			       gen_quote(s, quoted));
	if (r < 0)
		return gen_bad(at, e, EINVAL, "schema.format", "%s is not %s", gen_quote(s, quoted),
			       what);
	return 0;
}

static int read_duration(const struct json *v, const struct gen_at *at, nsec_t *ret, struct err **e)
{
	char quoted[GEN_QUOTED];
	const char *s = json_str(v);

	if (s && parse_duration(s, ret) == 0 && *ret >= 0)
		return 0;
	if (s)
		return gen_bad(at, e, EINVAL, "schema.format",
			       "%s is not a duration such as 30s or 5m", gen_quote(s, quoted));
	if (json_kind(v) != JSON_K_INT)
		return wrong_kind(at, "a duration such as 30s or 5m", v, e);
	if (json_int(v, 0) < 0 || mul_of(json_int(v, 0), NSEC_PER_SEC, ret))
		return gen_bad(at, e, EINVAL, "schema.range", "%lld seconds are out of range",
			       (long long)json_int(v, 0));
	return 0;
}

static int read_time(const struct json *v, const struct gen_at *at, nsec_t *ret, struct err **e)
{
	char quoted[GEN_QUOTED];
	const char *s = json_str(v);
	nsec_t t;

	if (!s)
		return wrong_kind(at, "a time such as 2026-11-21T03:15:00Z", v, e);
	if (parse_time(s, &t) < 0 || t < 0)
		return gen_bad(at, e, EINVAL, "schema.format",
			       "%s is not a time such as 2026-11-21T03:15:00Z",
			       gen_quote(s, quoted));
	*ret = t - t % NSEC_PER_MSEC;
	return 0;
}

int gen_read_scalar(const struct gen_field *f, const struct json *v, const struct gen_at *at,
		    void *val, struct err **e)
{
	switch ((enum gen_kind)f->kind) {
	case GEN_BOOL:
		if (json_kind(v) != JSON_K_BOOL)
			return wrong_kind(at, "a boolean", v, e);
		*(bool *)val = json_bool(v, false);
		return 0;
	case GEN_INT:
	case GEN_UINT:
		if (json_kind(v) != JSON_K_INT)
			return wrong_kind(at, "an integer", v, e);
		/* A negative number must not wrap around: the check of the range sees it as it is. */
		*(int64_t *)val = json_int(v, 0);
		return f->kind == GEN_UINT && *(int64_t *)val < 0 ? gen_check_scalar(f, val, at, e)
								  : 0;
	case GEN_REAL:
		if (json_kind(v) != JSON_K_REAL && json_kind(v) != JSON_K_INT)
			return wrong_kind(at, "a number", v, e);
		*(double *)val = json_num(v, 0);
		return 0;
	case GEN_SIZE:
		return read_amount(v, parse_size, "a size such as 512M or 10G", at, val, e);
	case GEN_BITRATE:
		return read_amount(v, gen_parse_bitrate, "a bit rate such as 10M or 1G", at, val,
				   e);
	case GEN_DURATION:
		return read_duration(v, at, val, e);
	case GEN_TIME:
		return read_time(v, at, val, e);
	case GEN_STRING:
	case GEN_SECRET:
		return read_text(f, v, at, val, e);
	case GEN_ENUM:
		return read_enum(f, v, at, val, e);
	case GEN_ANY:
		*(struct json **)val = json_clone(v);
		return *(struct json **)val ? 0 : no_memory(e);
	case GEN_OBJECT:
		break;
	}
	return -EINVAL;
}

/* ---- objects ---- */

static int read_object(const struct gen_type *t, const struct json *v, const struct gen_at *at,
		       enum gen_mode mode, void *obj, struct err **e);

static int read_value(const struct gen_field *f, const struct json *v, const struct gen_at *at,
		      enum gen_mode mode, void *val, struct err **e)
{
	return f->kind == GEN_OBJECT ? read_object(f->type, v, at, mode, val, e)
				     : gen_read_scalar(f, v, at, val, e);
}

static int too_many(const struct gen_field *f, const struct json *v, const struct gen_at *at,
		    struct err **e)
{
	return gen_bad(at, e, EINVAL, "schema.items", "%zu are more than the maximum %u",
		       json_len(v), f->max_items);
}

static int read_list(const struct gen_field *f, const struct json *v, const struct gen_at *at,
		     enum gen_mode mode, struct gen_vec *list, struct err **e)
{
	size_t n = json_len(v);

	if (json_kind(v) != JSON_K_ARRAY)
		return wrong_kind(at, "an array", v, e);
	if (n > f->max_items)
		return too_many(f, v, at, e);
	if (n == 0)
		return 0;
	list->v = calloc(n, gen_elem_size(f));
	if (!list->v)
		return no_memory(e);
	list->cap = n;
	while (list->n < n) {
		struct gen_at here = { at, NULL, list->n };
		int r;

		list->n++; /* half-read elements are released too */
		r = read_value(f, json_at(v, here.index), &here, mode,
			       gen_elem(f, list, here.index), e);
		if (r < 0)
			return r;
	}
	return 0;
}

static int read_map(const struct gen_field *f, const struct json *v, const struct gen_at *at,
		    struct gen_map *m, struct err **e)
{
	if (json_kind(v) != JSON_K_OBJECT)
		return wrong_kind(at, "an object", v, e);
	if (json_len(v) > f->max_items)
		return too_many(f, v, at, e);
	for (struct json_iter it = json_iter(v); json_next(&it);) {
		struct gen_at here = { at, it.key, 0 };
		_cleanup_(freep) char *key = NULL;
		_cleanup_(freep) char *value = NULL;

		if (!json_str(it.value))
			return wrong_kind(&here, "a string", it.value, e);
		/* Names are unique already: no search, as gen_map_set() would. */
		key = strdup(it.key);
		value = strdup(json_str(it.value));
		if (!key || !value || vec_push(m, (struct gen_pair){ key, value }) < 0)
			return no_memory(e);
		TAKE(key);
		TAKE(value);
	}
	return 0;
}

static int read_field(const struct gen_field *f, const struct json *v, const struct gen_at *at,
		      enum gen_mode mode, void *obj, struct err **e)
{
	void *p = gen_ptr(f, obj);

	if (gen_has(f, obj))
		*gen_has(f, obj) = true;
	if (f->shape == GEN_LIST)
		return read_list(f, v, at, mode, p, e);
	if (f->shape == GEN_MAP)
		return read_map(f, v, at, p, e);
	if (f->flags & GEN_F_POINTER) {
		*(void **)p = calloc(1, f->type->size);
		if (!*(void **)p)
			return no_memory(e);
		p = *(void **)p;
	} else {
		gen_done_value(f, p); /* the default */
	}
	return read_value(f, v, at, mode, p, e);
}

static int check_seen(const struct gen_type *t, const void *obj, uint64_t seen,
		      const struct gen_at *at, enum gen_mode mode, struct err **e)
{
	for (unsigned int i = 0; i < t->n; i++) {
		const struct gen_field *f = &t->fields[i], *cond = NULL;
		struct gen_at here = { at, f->flags & GEN_F_HIDDEN ? "" : f->name, 0 };
		bool is_seen = seen >> i & 1;

		if (!is_seen && f->flags & GEN_F_REQUIRED && gen_when(t, f, obj))
			return gen_bad(&here, e, EINVAL, "schema.missing", "is required");
		if (is_seen && f->flags & GEN_F_READONLY && mode == GEN_CREATE)
			return gen_bad(&here, e, EPERM, "schema.readonly", "is set by the daemon");
		if (!is_seen || gen_when(t, f, obj))
			continue;
		cond = &t->fields[f->when];
		if (cond->kind == GEN_ENUM)
			return gen_bad(&here, e, EINVAL, "schema.when", "only for %s '%s'",
				       cond->name, cond->values->names[f->when_value]);
		return gen_bad(&here, e, EINVAL, "schema.when", "only when %s is %s", cond->name,
			       f->when_value ? "true" : "false");
	}
	return 0;
}

static int read_object(const struct gen_type *t, const struct json *v, const struct gen_at *at,
		       enum gen_mode mode, void *obj, struct err **e)
{
	uint64_t seen = 0;

	if (json_kind(v) != JSON_K_OBJECT)
		return wrong_kind(at, "an object", v, e);
	if (gen_init(t, obj) < 0)
		return no_memory(e);
	for (struct json_iter it = json_iter(v); json_next(&it);) {
		const struct gen_field *f = gen_field_find(t, it.key, strlen(it.key));
		struct gen_at here = { at, it.key, 0 };
		int r;

		if (!f)
			return gen_unknown(t, &here, it.key, NULL, e);
		if (json_kind(it.value) == JSON_K_NULL && f->kind != GEN_ANY)
			continue;
		if (f->flags & GEN_F_STATUS && mode != GEN_TRUSTED)
			continue;
		if (f->flags & GEN_F_HIDDEN)
			here.name = "";
		r = read_field(f, it.value, &here, mode, obj, e);
		if (r < 0)
			return r;
		seen |= (uint64_t)1 << (f - t->fields);
	}
	return check_seen(t, obj, seen, at, mode, e);
}

int gen_parse(const struct gen_type *t, const struct json *v, const char *root, enum gen_mode mode,
	      void *ret, struct err **e)
{
	struct gen_at at = { NULL, root ? root : t->path, 0 };
	int r;

	memset(ret, 0, t->size);
	r = read_object(t, v, &at, mode, ret, e);
	if (r == 0)
		r = gen_validate(t, ret, root, e);
	if (r < 0)
		gen_done(t, ret);
	return r;
}

int gen_parse_text(const struct gen_type *t, const char *text, size_t len,
		   const struct json_limits *limits, const char *root, enum gen_mode mode,
		   void *ret, struct err **e)
{
	_cleanup_(json_freep) struct json *v = NULL;
	int r;

	memset(ret, 0, t->size);
	r = json_parse(text, len, limits, &v, e);
	return r < 0 ? r : gen_parse(t, v, root, mode, ret, e);
}

const struct gen_field *gen_field_find(const struct gen_type *t, const char *name, size_t len)
{
	for (unsigned int i = 0; i < t->n; i++)
		if (t->fields[i].key_len == len + 3 && memcmp(t->fields[i].name, name, len) == 0)
			return &t->fields[i];
	return NULL;
}
