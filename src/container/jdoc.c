/* A JSON reader that works in place; see jdoc.h.                                   Spec: RFC 8259. */
#include "container/jdoc.h"

#include <string.h>
#include "base/buf.h"
#include "base/str.h"

#define DEPTH_MAX 64

struct parse {
	struct arena *a;
	struct err **e;
	char *text, *p, *end;
	const char *orig; /* the caller's text: strings below are terminated in the copy */
};

static int fail(const struct parse *ps, const char *at, const char *what)
{
	unsigned int line = 1, col = 1;
	const char *p;

	for (p = ps->text; p < at; p++, col++) {
		if (ps->orig[p - ps->text] == '\n') {
			line++;
			col = 0;
		}
	}
	return err_set(ps->e, EINVAL, "json.syntax", "line %u column %u: %s", line, col, what);
}

static void skip(struct parse *ps)
{
	while (ps->p < ps->end &&
	       (*ps->p == ' ' || *ps->p == '\n' || *ps->p == '\t' || *ps->p == '\r'))
		ps->p++;
}

static int hex4(const char *p, const char *end, unsigned int *ret)
{
	unsigned int v = 0, i;

	if (end - p < 4)
		return -EINVAL;
	for (i = 0; i < 4; i++) {
		char c = p[i];

		v <<= 4;
		if (c >= '0' && c <= '9')
			v |= (unsigned int)(c - '0');
		else if ((c | 32) >= 'a' && (c | 32) <= 'f')
			v |= (unsigned int)((c | 32) - 'a' + 10);
		else
			return -EINVAL;
	}
	*ret = v;
	return 0;
}

static char *put_utf8(char *o, unsigned int u)
{
	if (u < 0x80) {
		*o++ = (char)u;
	} else if (u < 0x800) {
		*o++ = (char)(0xc0 | u >> 6);
		*o++ = (char)(0x80 | (u & 63));
	} else if (u < 0x10000) {
		*o++ = (char)(0xe0 | u >> 12);
		*o++ = (char)(0x80 | (u >> 6 & 63));
		*o++ = (char)(0x80 | (u & 63));
	} else {
		*o++ = (char)(0xf0 | u >> 18);
		*o++ = (char)(0x80 | (u >> 12 & 63));
		*o++ = (char)(0x80 | (u >> 6 & 63));
		*o++ = (char)(0x80 | (u & 63));
	}
	return o;
}

/* At the opening quote; the decoded text is never longer than the encoded one, so it is written over it. */
static int string(struct parse *ps, const char **ret, uint32_t *n)
{
	char *start = ++ps->p, *o;

	while (ps->p < ps->end && *ps->p != '"' && *ps->p != '\\' && (unsigned char)*ps->p >= 0x20)
		ps->p++;
	o = ps->p;
	while (ps->p < ps->end && *ps->p != '"') {
		unsigned int u, low;

		if ((unsigned char)*ps->p < 0x20)
			return fail(ps, ps->p, "control character in a string");
		if (*ps->p != '\\') {
			*o++ = *ps->p++;
			continue;
		}
		if (++ps->p == ps->end)
			break;
		switch (*ps->p++) {
		case '"':
			*o++ = '"';
			break;
		case '\\':
			*o++ = '\\';
			break;
		case '/':
			*o++ = '/';
			break;
		case 'b':
			*o++ = '\b';
			break;
		case 'f':
			*o++ = '\f';
			break;
		case 'n':
			*o++ = '\n';
			break;
		case 'r':
			*o++ = '\r';
			break;
		case 't':
			*o++ = '\t';
			break;
		case 'u':
			if (hex4(ps->p, ps->end, &u) < 0)
				return fail(ps, ps->p, "bad \\u escape");
			ps->p += 4;
			if (u >= 0xd800 && u < 0xdc00 && ps->end - ps->p >= 6 && ps->p[0] == '\\' &&
			    ps->p[1] == 'u' && hex4(ps->p + 2, ps->end, &low) == 0 &&
			    low >= 0xdc00 && low < 0xe000) {
				u = 0x10000 + ((u - 0xd800) << 10) + (low - 0xdc00);
				ps->p += 6;
			} else if (u >= 0xd800 && u < 0xe000) {
				return fail(ps, ps->p, "half of a surrogate pair");
			}
			if (u == 0)
				return fail(ps, ps->p, "NUL in a string");
			o = put_utf8(o, u);
			break;
		default:
			return fail(ps, ps->p - 1, "unknown escape");
		}
	}
	if (ps->p == ps->end)
		return fail(ps, start, "string without an end");
	ps->p++;
	*o = '\0';
	*ret = start;
	*n = (uint32_t)(o - start);
	return 0;
}

static bool digits(struct parse *ps)
{
	char *start = ps->p;

	while (ps->p < ps->end && *ps->p >= '0' && *ps->p <= '9')
		ps->p++;
	return ps->p > start;
}

static int number(struct parse *ps, struct jval *v)
{
	char *start = ps->p;
	bool good;

	if (ps->p < ps->end && *ps->p == '-')
		ps->p++;
	if (ps->p == ps->end || *ps->p < '0' || *ps->p > '9')
		return fail(ps, start, "not a value");
	if (*ps->p == '0' && ps->end - ps->p > 1 && ps->p[1] >= '0' && ps->p[1] <= '9')
		return fail(ps, start, "number with a leading zero");
	good = digits(ps);
	if (good && ps->p < ps->end && *ps->p == '.') {
		ps->p++;
		good = digits(ps);
	}
	if (good && ps->p < ps->end && (*ps->p == 'e' || *ps->p == 'E')) {
		ps->p++;
		if (ps->p < ps->end && (*ps->p == '+' || *ps->p == '-'))
			ps->p++;
		good = digits(ps);
	}
	if (!good)
		return fail(ps, start, "not a number");
	v->kind = J_NUMBER;
	v->text = arena_strndup(ps->a, start, (size_t)(ps->p - start));
	return 0;
}

static int literal(struct parse *ps, const char *word, struct jval *v, enum jkind kind)
{
	size_t n = strlen(word);

	if ((size_t)(ps->end - ps->p) < n || memcmp(ps->p, word, n) != 0)
		return fail(ps, ps->p, "not a value");
	ps->p += n;
	v->kind = kind;
	return 0;
}

static int value(struct parse *ps, struct jval *v, unsigned int depth);

static int items(struct parse *ps, struct jval *v, unsigned int depth)
{
	char close = *ps->p == '{' ? '}' : ']';
	struct jval **tail = &v->first;
	int r;

	v->kind = close == '}' ? J_OBJECT : J_ARRAY;
	ps->p++;
	skip(ps);
	if (ps->p < ps->end && *ps->p == close) {
		ps->p++;
		return 0;
	}
	for (;;) {
		struct jval *item = arena_alloc(ps->a, sizeof(*item));

		item->parent = v;
		skip(ps);
		if (v->kind == J_OBJECT) {
			uint32_t n;

			if (ps->p == ps->end || *ps->p != '"')
				return fail(ps, ps->p, "a member's name is missing");
			r = string(ps, &item->key, &n);
			if (r < 0)
				return r;
			skip(ps);
			if (ps->p == ps->end || *ps->p != ':')
				return fail(ps, ps->p, "':' is missing");
			ps->p++;
			skip(ps);
		}
		r = value(ps, item, depth + 1);
		if (r < 0)
			return r;
		*tail = item;
		tail = &item->next;
		v->n++;
		skip(ps);
		if (ps->p == ps->end)
			return fail(ps, ps->p, "the text ends inside a value");
		if (*ps->p == close) {
			ps->p++;
			return 0;
		}
		if (*ps->p != ',')
			return fail(ps, ps->p, "',' is missing");
		ps->p++;
	}
}

static int value(struct parse *ps, struct jval *v, unsigned int depth)
{
	int r;

	if (depth > DEPTH_MAX)
		return fail(ps, ps->p, "nested too deeply");
	if (ps->p == ps->end)
		return fail(ps, ps->p, "the text ends where a value should be");
	v->from = (size_t)(ps->p - ps->text);
	switch (*ps->p) {
	case '{':
	case '[':
		r = items(ps, v, depth);
		break;
	case '"':
		v->kind = J_STRING;
		r = string(ps, &v->text, &v->n);
		break;
	case 't':
		r = literal(ps, "true", v, J_TRUE);
		break;
	case 'f':
		r = literal(ps, "false", v, J_FALSE);
		break;
	case 'n':
		r = literal(ps, "null", v, J_NULL);
		break;
	default:
		r = number(ps, v);
	}
	v->to = (size_t)(ps->p - ps->text);
	return r;
}

int jdoc_parse(struct arena *a, const char *text, size_t len, struct jval **ret, struct err **e)
{
	struct parse ps = { .a = a, .e = e, .orig = text };
	struct jval *v;
	int r;

	if (len > JDOC_TEXT_MAX)
		return err_set(e, EFBIG, "json.size", "more than 16 MiB of JSON");
	ps.p = ps.text = arena_strndup(a, text, len);
	ps.end = ps.text + len;
	v = arena_alloc(a, sizeof(*v));
	skip(&ps);
	r = value(&ps, v, 0);
	if (r < 0)
		return r;
	skip(&ps);
	if (ps.p != ps.end)
		return fail(&ps, ps.p, "text after the value");
	*ret = v;
	return 0;
}

struct jval *jget(const struct jval *o, const char *key)
{
	struct jval *found = NULL;

	if (o && o->kind == J_OBJECT) {
		jfor(item, o) if (streq(item->key, key)) found = item;
	}
	return found && found->kind != J_NULL ? found : NULL;
}

static void path_add(struct buf *b, const struct jval *v)
{
	const struct jval *p = v->parent;
	size_t i = 0;

	if (!p)
		return;
	path_add(b, p);
	if (p->kind == J_OBJECT) {
		buf_addf(b, "%s%s", b->len ? "." : "", v->key);
		return;
	}
	jfor(item, p)
	{
		if (item == v)
			break;
		i++;
	}
	buf_addf(b, "[%zu]", i);
}

const char *jpath(struct arena *a, const struct jval *v, const char *key)
{
	_cleanup_(buf_done) struct buf b = { 0 };

	if (v)
		path_add(&b, v);
	if (key)
		buf_addf(&b, "%s%s", b.len ? "." : "", key);
	return arena_strdup(a, b.len ? buf_str(&b) : "(top)");
}

int jr_fail(struct jr *r, const struct jval *v, const char *key, const char *fmt, ...)
{
	if (r->r == 0) {
		_cleanup_(buf_done) struct buf b = { 0 };
		va_list ap;

		va_start(ap, fmt);
		buf_addv(&b, fmt, ap);
		va_end(ap);
		r->r = err_set(r->e, EINVAL, "config.field", "%s: %s", jpath(r->a, v, key),
			       buf_str(&b));
	}
	return r->r;
}

/* The member when it has this kind. */
static struct jval *member(struct jr *r, const struct jval *o, const char *key, enum jkind kind,
			   const char *what)
{
	struct jval *v = r->r < 0 ? NULL : jget(o, key);

	if (v && v->kind != kind) {
		jr_fail(r, v, NULL, "not %s", what);
		return NULL;
	}
	return v;
}

bool jr_str(struct jr *r, const struct jval *o, const char *key, const char **ret)
{
	struct jval *v = member(r, o, key, J_STRING, "a string");

	if (!v)
		return false;
	*ret = v->text;
	return true;
}

bool jr_bool(struct jr *r, const struct jval *o, const char *key, bool *ret)
{
	struct jval *v = r->r < 0 ? NULL : jget(o, key);

	if (!v)
		return false;
	if (v->kind != J_TRUE && v->kind != J_FALSE) {
		jr_fail(r, v, NULL, "not true or false");
		return false;
	}
	*ret = v->kind == J_TRUE;
	return true;
}

static bool integer(struct jr *r, const struct jval *o, const char *key, int64_t min, int64_t max,
		    int64_t *ret)
{
	struct jval *v = member(r, o, key, J_NUMBER, "a number");
	int q;

	if (!v)
		return false;
	q = parse_i64(v->text, min, max, ret);
	if (q < 0)
		jr_fail(r, v, NULL, q == -ERANGE ? "%s is out of range" : "%s is not an integer",
			v->text);
	return q == 0;
}

bool jr_i64(struct jr *r, const struct jval *o, const char *key, int64_t *ret)
{
	return integer(r, o, key, INT64_MIN, INT64_MAX, ret);
}

bool jr_i32(struct jr *r, const struct jval *o, const char *key, int32_t *ret)
{
	int64_t v;

	if (!integer(r, o, key, INT32_MIN, INT32_MAX, &v))
		return false;
	*ret = (int32_t)v;
	return true;
}

bool jval_u64(const struct jval *v, uint64_t *ret)
{
	return v->kind == J_NUMBER && parse_u64(v->text, UINT64_MAX, ret) == 0;
}

bool jr_u64(struct jr *r, const struct jval *o, const char *key, uint64_t *ret)
{
	struct jval *v = member(r, o, key, J_NUMBER, "a number");
	int q;

	if (!v)
		return false;
	q = parse_u64(v->text, UINT64_MAX, ret);
	if (q < 0)
		jr_fail(r, v, NULL,
			q == -ERANGE ? "%s is out of range" : "%s is not a natural number",
			v->text);
	return q == 0;
}

bool jr_u32(struct jr *r, const struct jval *o, const char *key, uint32_t *ret)
{
	uint64_t v;

	if (!jr_u64(r, o, key, &v))
		return false;
	if (v > UINT32_MAX) {
		jr_fail(r, jget(o, key), NULL, "%llu is out of range", (unsigned long long)v);
		return false;
	}
	*ret = (uint32_t)v;
	return true;
}

bool jr_strv(struct jr *r, const struct jval *o, const char *key, char ***ret, size_t *n)
{
	struct jval *v = member(r, o, key, J_ARRAY, "an array");
	char **out;
	size_t i = 0;

	if (!v)
		return false;
	out = arena_alloc(r->a, ((size_t)v->n + 1) * sizeof(*out));
	jfor(item, v)
	{
		if (item->kind != J_STRING) {
			jr_fail(r, item, NULL, "not a string");
			return false;
		}
		out[i++] = (char *)(uintptr_t)item->text;
	}
	*ret = out;
	if (n)
		*n = i;
	return true;
}

struct jval *jr_obj(struct jr *r, const struct jval *o, const char *key)
{
	return member(r, o, key, J_OBJECT, "an object");
}

struct jval *jr_arr(struct jr *r, const struct jval *o, const char *key)
{
	return member(r, o, key, J_ARRAY, "an array");
}
