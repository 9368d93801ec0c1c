/* From objects to JSON text, without a tree between: this is what lists of ten thousand objects go through. */
#include "base/clock.h"
#include "gen/object_int.h"

static void print_object(const struct gen_type *t, const void *obj, unsigned int print,
			 struct buf *b);

static void print_int(int64_t v, struct buf *b)
{
	char text[24], *p = text + sizeof(text);
	uint64_t u = v < 0 ? -(uint64_t)v : (uint64_t)v;

	do {
		*--p = (char)('0' + u % 10);
		u /= 10;
	} while (u > 0);
	if (v < 0)
		*--p = '-';
	buf_add(b, p, (size_t)(text + sizeof(text) - p));
}

static void print_value(const struct gen_field *f, const void *val, unsigned int print,
			struct buf *b)
{
	char text[40];

	switch ((enum gen_kind)f->kind) {
	case GEN_BOOL:
		buf_adds(b, *(const bool *)val ? "true" : "false");
		break;
	case GEN_REAL:
		buf_adds(b, json_format_real(*(const double *)val, text, sizeof(text)));
		break;
	case GEN_DURATION:
		buf_add_json(b, gen_format_duration(*(const nsec_t *)val, text));
		break;
	case GEN_TIME:
		buf_add_json(b, format_time(*(const nsec_t *)val, text, sizeof(text)));
		break;
	case GEN_STRING:
	case GEN_SECRET:
		buf_add_json(b, *(char *const *)val);
		break;
	case GEN_ENUM:
		buf_add_json(b, f->values->names[*(const int *)val]);
		break;
	case GEN_OBJECT:
		print_object(f->type, val, print, b);
		break;
	case GEN_ANY:
		json_print(*(struct json *const *)val, JSON_COMPACT, b);
		break;
	default:
		print_int(*(const int64_t *)val, b);
		break;
	}
}

static void print_list(const struct gen_field *f, const struct gen_vec *v, unsigned int print,
		       struct buf *b)
{
	buf_addc(b, '[');
	for (size_t i = 0; i < v->n; i++) {
		if (i > 0)
			buf_addc(b, ',');
		print_value(f, gen_elem(f, v, i), print, b);
	}
	buf_addc(b, ']');
}

static void print_map(const struct gen_map *m, struct buf *b)
{
	buf_addc(b, '{');
	for (size_t i = 0; i < m->n; i++) {
		if (i > 0)
			buf_addc(b, ',');
		buf_add_json(b, m->v[i].key);
		buf_addc(b, ':');
		buf_add_json(b, m->v[i].value);
	}
	buf_addc(b, '}');
}

static bool left_out(const struct gen_type *t, const struct gen_field *f, const void *obj,
		     unsigned int print)
{
	return !gen_present(f, obj) || !gen_when(t, f, obj) ||
	       (f->kind == GEN_SECRET && !(print & GEN_SECRETS)) ||
	       (f->flags & GEN_F_STATUS && print & GEN_NO_STATUS);
}

static void print_object(const struct gen_type *t, const void *obj, unsigned int print,
			 struct buf *b)
{
	bool first = true;

	buf_addc(b, '{');
	for (unsigned int i = 0; i < t->n; i++) {
		const struct gen_field *f = &t->fields[i];
		size_t start = b->len;
		const void *p = gen_ptr(f, obj);

		if (left_out(t, f, obj, print))
			continue;
		if (!first)
			buf_addc(b, ',');
		buf_add(b, f->key, f->key_len);
		if (f->shape == GEN_LIST) {
			print_list(f, p, print, b);
		} else if (f->shape == GEN_MAP) {
			print_map(p, b);
		} else {
			size_t value = b->len;

			print_value(f, f->kind == GEN_OBJECT ? gen_sub(f, obj) : p, print, b);
			/* An embedded object with nothing in it is not worth a line. */
			if (f->kind == GEN_OBJECT &&
			    !(f->flags & (GEN_F_POINTER | GEN_F_REQUIRED)) && !b->error &&
			    b->len == value + 2) {
				b->len = start;
				b->s[start] = '\0';
				continue;
			}
		}
		first = false;
	}
	buf_addc(b, '}');
}

int gen_print(const struct gen_type *t, const void *obj, unsigned int print, struct buf *b)
{
	print_object(t, obj, print, b);
	return buf_error(b);
}

struct json *gen_to_json(const struct gen_type *t, const void *obj, unsigned int print)
{
	static const struct json_limits ours = { .size = SIZE_MAX,
						 .depth = 64,
						 .values = SIZE_MAX };
	_cleanup_(buf_done) struct buf b = { 0 };
	struct json *v = NULL;

	if (gen_print(t, obj, print, &b) < 0 || json_parse(b.s, b.len, &ours, &v, NULL) < 0)
		return NULL;
	return v;
}
