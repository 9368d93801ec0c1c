/* Values as people type them: command lines, query strings, NAME.FIELD=VALUE. */
#include <math.h>
#include "base/opt.h"
#include "gen/object_int.h"

/* ---- exact short forms ---- */

char *gen_format_size(uint64_t bytes, char *buf)
{
	static const char units[] = "\0KMGTP";
	int unit = 0;

	while (unit < 5 && bytes > 0 && bytes % 1024 == 0) {
		bytes /= 1024;
		unit++;
	}
	snprintf(buf, 32, "%llu%.1s", (unsigned long long)bytes, units + unit);
	return buf;
}

char *gen_format_bitrate(uint64_t rate, char *buf)
{
	static const char units[] = "\0kMGT";
	int unit = 0;

	while (unit < 4 && rate > 0 && rate % 1000 == 0) {
		rate /= 1000;
		unit++;
	}
	snprintf(buf, 32, "%llu%.1s", (unsigned long long)rate, units + unit);
	return buf;
}

int gen_parse_bitrate(const char *s, uint64_t *ret)
{
	static const char units[] = "kMGT";
	char digits[24];
	size_t n = strspn(s, "0123456789");
	uint64_t v;
	int r;

	if (n == 0 || n >= sizeof(digits))
		return n == 0 ? -EINVAL : -ERANGE;
	memcpy(digits, s, n);
	digits[n] = '\0';
	r = parse_u64(digits, UINT64_MAX, &v);
	if (r < 0)
		return r;
	s += n;
	if (*s) {
		const char *unit = strchr(units, *s == 'K' ? 'k' : *s);

		if (!unit || s[1])
			return -EINVAL;
		for (const char *u = units; u <= unit; u++)
			if (__builtin_mul_overflow(v, (uint64_t)1000, &v))
				return -ERANGE;
	}
	*ret = v;
	return 0;
}

char *gen_format_duration(nsec_t d, char *buf)
{
	static const struct {
		nsec_t unit;
		const char *name;
	} units[] = {
		{ 86400 * NSEC_PER_SEC, "d" },
		{ 3600 * NSEC_PER_SEC, "h" },
		{ 60 * NSEC_PER_SEC, "m" },
		{ NSEC_PER_SEC, "s" },
		{ NSEC_PER_MSEC, "ms" },
		{ NSEC_PER_USEC, "us" },
		{ 1, "ns" },
	};
	size_t i = 0;

	if (d == 0)
		return strcpy(buf, "0s");
	while (d % units[i].unit != 0)
		i++;
	snprintf(buf, 32, "%lld%s", (long long)(d / units[i].unit), units[i].name);
	return buf;
}

/* ---- one value ---- */

static int not_a(const struct gen_at *at, const char *text, const char *what, struct err **e)
{
	char quoted[GEN_QUOTED];

	return gen_bad(at, e, EINVAL, "schema.format", "%s is not %s", gen_quote(text, quoted),
		       what);
}

/* Text to the JSON value of its kind; the value's own rules come later. */
static int text_to_json(const struct gen_field *f, const struct gen_at *at, const char *text,
			struct json **ret, struct err **e)
{
	int64_t i;
	double d;
	char *end;
	bool b;

	switch ((enum gen_kind)f->kind) {
	case GEN_BOOL:
		if (parse_bool(text, &b) < 0)
			return not_a(at, text, "on or off", e);
		*ret = json_new_bool(b);
		break;
	case GEN_INT:
	case GEN_UINT:
		if (parse_i64(text, INT64_MIN, INT64_MAX, &i) < 0)
			return not_a(at, text, "a whole number", e);
		*ret = json_new_int(i);
		break;
	case GEN_REAL:
		d = strtod(text, &end);
		if (end == text || *end || !isfinite(d) || strpbrk(text, "xX \t\n"))
			return not_a(at, text, "a number", e);
		*ret = json_new_real(d);
		break;
	case GEN_OBJECT:
	case GEN_ANY:
		return gen_bad(at, e, EINVAL, "schema.type", "cannot be set as text");
	default:
		if (!utf8_valid(text))
			return gen_bad(at, e, EINVAL, "schema.format", "is not UTF-8");
		*ret = json_new_str(text);
	}
	return *ret ? 0 : err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
}

int gen_value_from_text(const struct gen_field *f, const char *shown, const char *text,
			struct json **ret, struct err **e)
{
	_cleanup_(json_freep) struct json *v = NULL;
	struct gen_at at = { NULL, shown, 0 };
	uint64_t val = 0; /* as large as any scalar */
	int r = text_to_json(f, &at, text, &v, e);

	if (r == 0)
		r = gen_read_scalar(f, v, &at, &val, e);
	if (r == 0) {
		r = gen_check_scalar(f, &val, &at, e);
		gen_done_value(f, &val);
	}
	if (r == 0)
		*ret = TAKE(v);
	return r;
}

/* ---- paths ---- */

/* The field at the first part of *path, which moves on behind it; resources may leave "spec." out. */
static const struct gen_field *first_part(const struct gen_type *t, const char **path,
					  const struct gen_field **spec)
{
	size_t len = strcspn(*path, ".");
	const struct gen_field *f = gen_field_find(t, *path, len);

	*spec = NULL;
	for (unsigned int i = 0; !f && i < t->n; i++) {
		if (t->fields[i].flags & GEN_F_HIDDEN) {
			*spec = &t->fields[i];
			f = gen_field_find((*spec)->type, *path, len);
		}
	}
	if (f)
		*path += len + ((*path)[len] == '.');
	return f;
}

const struct gen_field *gen_field_at(const struct gen_type *t, const char *path)
{
	for (;;) {
		const struct gen_field *spec, *f = first_part(t, &path, &spec);

		if (!f || !*path)
			return f;
		if (f->kind != GEN_OBJECT || f->shape != GEN_ONE)
			return NULL;
		t = f->type;
	}
}

static int set_member(struct json *obj, const char *name, struct json *v, struct err **e)
{
	return json_set(obj, name, v) < 0 ? err_set(e, ENOMEM, "sys.ENOMEM", "out of memory") : 0;
}

static int member_object(struct json *obj, const char *name, struct json **ret, struct err **e)
{
	int r = 0;

	if (json_kind(json_get(obj, name)) != JSON_K_OBJECT)
		r = set_member(obj, name, json_new_obj(), e);
	*ret = json_edit(obj, name);
	return r;
}

static int set_in_map(const struct gen_field *f, struct json *obj, const char *shown,
		      const char *text, struct err **e)
{
	struct gen_at at = { NULL, shown, 0 };
	_cleanup_(json_freep) struct json *v = NULL;
	_cleanup_(freep) char *key = NULL;
	const char *eq = strchr(text, '=');
	struct json *map;
	char quoted[GEN_QUOTED];
	int r;

	if (!eq || eq == text)
		return gen_bad(&at, e, EINVAL, "schema.format", "%s is not NAME=VALUE",
			       gen_quote(text, quoted));
	key = strndup(text, (size_t)(eq - text));
	if (!key)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	if (f->format && !gen_format_fits(f->format, key))
		return not_a(&at, key, f->format->help, e);
	r = gen_value_from_text(f, shown, eq + 1, &v, e);
	if (r == 0)
		r = member_object(obj, f->name, &map, e);
	return r < 0 ? r : set_member(map, key, TAKE(v), e);
}

static int set_field(const struct gen_field *f, struct json *obj, const char *shown,
		     const char *text, struct err **e)
{
	_cleanup_(json_freep) struct json *v = NULL;
	int r;

	if (f->shape == GEN_MAP)
		return set_in_map(f, obj, shown, text, e);
	r = gen_value_from_text(f, shown, text, &v, e);
	if (r < 0)
		return r;
	if (f->shape == GEN_ONE)
		return set_member(obj, f->name, TAKE(v), e);
	if (json_kind(json_get(obj, f->name)) != JSON_K_ARRAY)
		r = set_member(obj, f->name, json_new_arr(), e);
	if (r == 0 && json_push(json_edit(obj, f->name), TAKE(v)) < 0)
		r = err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	return r;
}

int gen_set_text(const struct gen_type *t, struct json *obj, const char *path, const char *shown,
		 const char *text, struct err **e)
{
	struct gen_at at = { NULL, shown, 0 };

	for (;;) {
		const struct gen_field *spec, *f = first_part(t, &path, &spec);
		int r = 0;

		if (!f) {
			_cleanup_(freep) char *part = strndup(path, strcspn(path, "."));

			/* What a resource's spec lacks is looked for there. */
			for (unsigned int i = 0; i < t->n; i++)
				if (t->fields[i].flags & GEN_F_HIDDEN)
					t = t->fields[i].type;
			gen_unknown(t, &at, part ? part : "", NULL, e);
			return -ENOENT;
		}
		if (spec)
			r = member_object(obj, spec->name, &obj, e);
		if (r < 0)
			return r;
		if (!*path)
			return set_field(f, obj, shown, text, e);
		if (f->shape == GEN_MAP) {
			/* labels.team=a is labels=team=a */
			_cleanup_(freep) char *pair = NULL;

			if (asprintf(&pair, "%s=%s", path, text) < 0)
				return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
			return set_in_map(f, obj, shown, pair, e);
		}
		if (f->kind != GEN_OBJECT || f->shape != GEN_ONE)
			return gen_bad(&at, e, ENOENT, "schema.unknown",
				       "%s has no parts that can be set as text", f->name);
		r = member_object(obj, f->name, &obj, e);
		if (r < 0)
			return r;
		t = f->type;
	}
}

/* ---- query strings ---- */

static int hex(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

/* Percent-decoded copy; NULL with *bad: malformed, or not text. */
static char *decode(const char *s, size_t n, bool *bad)
{
	char *out = malloc(n + 1), *p = out;

	*bad = false;
	for (size_t i = 0; out && i < n; i++) {
		if (s[i] == '%') {
			int hi = i + 2 < n ? hex(s[i + 1]) : -1, lo = hi < 0 ? -1 : hex(s[i + 2]);

			*bad |= lo < 0 || (hi == 0 && lo == 0);
			*p++ = lo < 0 ? '?' : (char)(hi << 4 | lo);
			i += 2;
		} else {
			*p++ = s[i] == '+' ? ' ' : s[i];
		}
	}
	if (!out)
		return NULL;
	*p = '\0';
	*bad |= !utf8_valid(out);
	if (*bad) {
		free(out);
		return NULL;
	}
	return out;
}

static int query_part(const struct gen_type *t, struct json *obj, const char *s, size_t n,
		      const struct gen_at *at, struct err **e)
{
	const char *eq = memchr(s, '=', n);
	size_t name_len = eq ? (size_t)(eq - s) : n;
	bool bad_name = false, bad_value = false;
	_cleanup_(freep) char *name = decode(s, name_len, &bad_name);
	_cleanup_(freep) char *value = eq ? decode(eq + 1, n - name_len - 1, &bad_value)
					  : strdup("true");
	_cleanup_(buf_done) struct buf shown = { 0 };
	const struct gen_field *f;

	if (bad_name || bad_value)
		return gen_bad(at, e, EINVAL, "schema.format", "is not percent-encoded UTF-8");
	if (!name || !value)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	f = gen_field_find(t, name, strlen(name));
	if (!f || f->kind == GEN_OBJECT || f->kind == GEN_ANY) {
		struct gen_at here = { at, name, 0 };

		return gen_unknown(t, &here, name, NULL, e);
	}
	buf_addf(&shown, "%s.%s", at->name, name);
	if (f->shape == GEN_ONE && json_get(obj, name))
		return err_set(e, EINVAL, "schema.duplicate", "%s: is there twice",
			       buf_str(&shown));
	return set_field(f, obj, buf_str(&shown), value, e);
}

int gen_parse_query(const struct gen_type *t, const char *query, void *ret, struct err **e)
{
	_cleanup_(json_freep) struct json *obj = json_new_obj();
	struct gen_at at = { NULL, "query", 0 };

	memset(ret, 0, t->size);
	if (!obj)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	while (*query) {
		size_t n = strcspn(query, "&");
		int r = n > 0 ? query_part(t, obj, query, n, &at, e) : 0;

		if (r < 0)
			return r;
		query += n + (query[n] == '&');
	}
	return gen_parse(t, obj, "query", GEN_TRUSTED, ret, e);
}
