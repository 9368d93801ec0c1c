/* The rules on values: ranges, lengths, shapes, bounds between fields. */
#include <math.h>
#include "base/clock.h"
#include "gen/object_int.h"

/* A number as people write it in the unit of f. */
static const char *amount(const struct gen_field *f, int64_t v, char *buf)
{
	switch ((enum gen_kind)f->kind) {
	case GEN_SIZE:
		return gen_format_size((uint64_t)v, buf);
	case GEN_BITRATE:
		return gen_format_bitrate((uint64_t)v, buf);
	case GEN_DURATION:
		return gen_format_duration(v, buf);
	case GEN_TIME:
		return format_time(v, buf, 32);
	default:
		snprintf(buf, 32, "%lld", (long long)v);
		return buf;
	}
}

static int check_range(const struct gen_field *f, int64_t v, const struct gen_at *at,
		       struct err **e)
{
	char is[32], bound[32];

	if (f->flags & GEN_F_MIN && v < f->min)
		return gen_bad(at, e, EINVAL, "schema.range", "%s is below the minimum %s",
			       amount(f, v, is), amount(f, f->min, bound));
	if (f->flags & GEN_F_MAX && v > f->max)
		return gen_bad(at, e, EINVAL, "schema.range", "%s is above the maximum %s",
			       amount(f, v, is), amount(f, f->max, bound));
	return 0;
}

static int check_real(const struct gen_field *f, double v, const struct gen_at *at, struct err **e)
{
	char is[32], bound[32];

	if (!isfinite(v))
		return gen_bad(at, e, EINVAL, "schema.range", "must be a finite number");
	if (f->flags & GEN_F_MIN && v < f->rmin)
		return gen_bad(at, e, EINVAL, "schema.range", "%s is below the minimum %s",
			       json_format_real(v, is, sizeof(is)),
			       json_format_real(f->rmin, bound, sizeof(bound)));
	if (f->flags & GEN_F_MAX && v > f->rmax)
		return gen_bad(at, e, EINVAL, "schema.range", "%s is above the maximum %s",
			       json_format_real(v, is, sizeof(is)),
			       json_format_real(f->rmax, bound, sizeof(bound)));
	return 0;
}

/* Characters, as JSON Schema counts them. */
static size_t characters(const char *s)
{
	size_t n = 0;

	for (; *s; s++)
		n += (*s & 0xc0) != 0x80;
	return n;
}

static int check_length(const char *s, uint32_t min, uint32_t max, const struct gen_at *at,
			struct err **e)
{
	size_t n = strnlen(s, (size_t)max + 1) <= min || strnlen(s, (size_t)max + 1) > max
			   ? characters(s)
			   : min;

	if (!utf8_valid(s))
		return gen_bad(at, e, EINVAL, "schema.format", "is not UTF-8");
	if (n < min)
		return gen_bad(at, e, EINVAL, "schema.length", "%s",
			       n == 0 ? "must not be empty" : "is too short");
	if (n > max)
		return gen_bad(at, e, EINVAL, "schema.length",
			       "%zu characters are more than the maximum %u", n, max);
	return 0;
}

static int check_format(const struct gen_format *f, const char *s, const struct gen_at *at,
			struct err **e)
{
	char quoted[GEN_QUOTED];

	if (!f || gen_format_fits(f, s))
		return 0;
	return gen_bad(at, e, EINVAL, "schema.format", "%s is not %s", gen_quote(s, quoted),
		       f->help);
}

static int check_text(const struct gen_field *f, const char *s, const struct gen_at *at,
		      struct err **e)
{
	int r;

	if (!s)
		return f->shape == GEN_ONE && !(f->flags & GEN_F_REQUIRED)
			       ? 0
			       : gen_bad(at, e, EINVAL, "schema.missing", "is required");
	r = check_length(s, f->min_len, f->max_len, at, e);
	return r < 0 ? r : check_format(f->shape == GEN_MAP ? NULL : f->format, s, at, e);
}

int gen_check_scalar(const struct gen_field *f, const void *val, const struct gen_at *at,
		     struct err **e)
{
	switch ((enum gen_kind)f->kind) {
	case GEN_STRING:
	case GEN_SECRET:
		return check_text(f, *(char *const *)val, at, e);
	case GEN_REAL:
		return check_real(f, *(const double *)val, at, e);
	case GEN_ENUM:
		if (*(const int *)val < 0 || *(const unsigned int *)val >= f->values->n)
			return gen_bad(at, e, EINVAL, "schema.value", "%d is not one of the values",
				       *(const int *)val);
		return 0;
	case GEN_BOOL:
	case GEN_OBJECT:
	case GEN_ANY:
		return 0;
	default:
		return check_range(f, *(const int64_t *)val, at, e);
	}
}

static int validate(const struct gen_type *t, const void *obj, const struct gen_at *at,
		    struct err **e);

static int check_value(const struct gen_field *f, const void *val, const struct gen_at *at,
		       struct err **e)
{
	return f->kind == GEN_OBJECT ? validate(f->type, val, at, e)
				     : gen_check_scalar(f, val, at, e);
}

static int check_count(const struct gen_field *f, size_t n, const struct gen_at *at, struct err **e)
{
	if (n > f->max_items)
		return gen_bad(at, e, EINVAL, "schema.items", "%zu are more than the maximum %u", n,
			       f->max_items);
	if (n < f->min_items && (n > 0 || f->flags & GEN_F_REQUIRED))
		return gen_bad(at, e, EINVAL, "schema.items", "%zu are fewer than the minimum %u",
			       n, f->min_items);
	return 0;
}

/* No two elements may have the same key. */
static int check_keys(const struct gen_field *f, const struct gen_vec *v, const struct gen_at *at,
		      struct err **e)
{
	const struct gen_field *key = &f->type->fields[f->list_key];
	char quoted[GEN_QUOTED];

	for (size_t i = 1; i < v->n; i++) {
		const char *s = *(char **)gen_ptr(key, gen_elem(f, v, i));

		for (size_t k = 0; s && k < i; k++) {
			const char *other = *(char **)gen_ptr(key, gen_elem(f, v, k));
			struct gen_at elem = { at, NULL, i }, here = { &elem, key->name, 0 };

			if (other && streq(s, other))
				return gen_bad(&here, e, EINVAL, "schema.duplicate",
					       "%s is there twice", gen_quote(s, quoted));
		}
	}
	return 0;
}

static int check_list(const struct gen_field *f, const struct gen_vec *v, const struct gen_at *at,
		      struct err **e)
{
	int r = check_count(f, v->n, at, e);

	for (size_t i = 0; r == 0 && i < v->n; i++) {
		struct gen_at here = { at, NULL, i };

		r = check_value(f, gen_elem(f, v, i), &here, e);
	}
	return r == 0 && f->list_key >= 0 ? check_keys(f, v, at, e) : r;
}

static int check_map(const struct gen_field *f, const struct gen_map *m, const struct gen_at *at,
		     struct err **e)
{
	int r = check_count(f, m->n, at, e);

	for (size_t i = 0; r == 0 && i < m->n; i++) {
		struct gen_at here = { at, m->v[i].key, 0 };

		r = check_length(m->v[i].key, 1, f->format ? f->format->max_len : 255, &here, e);
		if (r == 0)
			r = check_format(f->format, m->v[i].key, &here, e);
		if (r == 0)
			r = check_text(f, m->v[i].value, &here, e);
	}
	return r;
}

/* "memory.reservation: 2G is above size, 1G" */
static int check_bound(const struct gen_type *t, const struct gen_field *f, const void *obj,
		       int other, bool at_most, const struct gen_at *at, struct err **e)
{
	const struct gen_field *bound = &t->fields[other];
	char is[32], limit[32];
	int64_t v, b;

	if (!gen_present(bound, obj))
		return 0;
	v = *(int64_t *)gen_ptr(f, obj);
	b = *(int64_t *)gen_ptr(bound, obj);
	if (at_most ? v <= b : v >= b)
		return 0;
	return gen_bad(at, e, EINVAL, "schema.range", "%s is %s %s, %s", amount(f, v, is),
		       at_most ? "above" : "below", bound->name, amount(bound, b, limit));
}

static int check_field(const struct gen_type *t, const struct gen_field *f, const void *obj,
		       const struct gen_at *at, struct err **e)
{
	const void *p = gen_ptr(f, obj);
	int r;

	if (!gen_present(f, obj))
		return f->flags & GEN_F_REQUIRED && gen_when(t, f, obj)
			       ? gen_bad(at, e, EINVAL, "schema.missing", "is required")
			       : 0;
	if (!gen_when(t, f, obj)) {
		/* An embedded object of its defaults does no harm, it is just not there. */
		if (f->kind == GEN_OBJECT && f->shape == GEN_ONE && !(f->flags & GEN_F_POINTER))
			return 0;
		if (f->flags & GEN_F_DEFAULT)
			return 0;
		return gen_bad(at, e, EINVAL, "schema.when", "not with this %s",
			       t->fields[f->when].name);
	}
	if (f->shape == GEN_LIST)
		return check_list(f, p, at, e);
	if (f->shape == GEN_MAP)
		return check_map(f, p, at, e);
	r = check_value(f, f->kind == GEN_OBJECT ? gen_sub(f, obj) : p, at, e);
	if (r == 0 && f->at_most >= 0)
		r = check_bound(t, f, obj, f->at_most, true, at, e);
	if (r == 0 && f->at_least >= 0)
		r = check_bound(t, f, obj, f->at_least, false, at, e);
	return r;
}

static int validate(const struct gen_type *t, const void *obj, const struct gen_at *at,
		    struct err **e)
{
	for (unsigned int i = 0; i < t->n; i++) {
		const struct gen_field *f = &t->fields[i];
		struct gen_at here = { at, f->flags & GEN_F_HIDDEN ? "" : f->name, 0 };
		int r = check_field(t, f, obj, &here, e);

		if (r < 0)
			return r;
	}
	return 0;
}

int gen_validate(const struct gen_type *t, const void *obj, const char *root, struct err **e)
{
	struct gen_at at = { NULL, root ? root : t->path, 0 };

	return validate(t, obj, &at, e);
}
