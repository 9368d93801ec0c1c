/* YAML over libyaml's event parser and emitter. */
#include "ext/yaml.h"

#include <math.h>
#include <ctype.h>
#include <fcntl.h>
#include <yaml.h>
#include "base/atomicfile.h"
#include "base/str.h"
#include "base/vec.h"

static const struct json_limits yaml_limits = {
	.size = 4 * MIB,
	.depth = 64,
	.values = 256 * KIB,
};

struct anchor {
	char *name;
	struct json *v;
	size_t values; /* how many values a copy adds */
};

struct reader {
	yaml_parser_t parser;
	yaml_event_t event; /* the current one; released by next() */
	const struct json_limits *limits;
	size_t depth, values;
	VEC(struct anchor) anchors; /* of the current document */
	struct err **e;
};

static int bad_at(struct reader *r, const yaml_mark_t *m, const char *fmt, ...) _printf_(3, 4);

static int bad_at(struct reader *r, const yaml_mark_t *m, const char *fmt, ...)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	va_list ap;

	va_start(ap, fmt);
	buf_addv(&b, fmt, ap);
	va_end(ap);
	return err_set(r->e, EINVAL, "yaml.syntax", "line %zu, column %zu: %s", m->line + 1,
		       m->column + 1, buf_str(&b));
}

static int parser_error(struct reader *r)
{
	const yaml_parser_t *p = &r->parser;
	const char *problem = p->problem ? p->problem : "not YAML";

	switch (p->error) {
	case YAML_MEMORY_ERROR:
		return err_set(r->e, ENOMEM, "sys.ENOMEM", "out of memory while reading YAML");
	case YAML_READER_ERROR:
		return err_set(r->e, EINVAL, "yaml.syntax", "line %zu, byte %zu: %s",
			       p->mark.line + 1, p->problem_offset, problem);
	default:
		return bad_at(r, &p->problem_mark, "%s%s%s", problem, p->context ? " " : "",
			      p->context ? p->context : "");
	}
}

static int next(struct reader *r)
{
	yaml_event_delete(&r->event);
	return yaml_parser_parse(&r->parser, &r->event) ? 0 : parser_error(r);
}

static int count(struct reader *r, size_t n)
{
	r->values += n;
	if (r->values > r->limits->values)
		return err_set(r->e, E2BIG, "yaml.limit",
			       "line %zu, column %zu: more values than the limit of %zu",
			       r->event.start_mark.line + 1, r->event.start_mark.column + 1,
			       r->limits->values);
	return 0;
}

/* ---- scalars ---- */

static bool any_of(const char *s, const char *const *words)
{
	for (; *words; words++)
		if (streq(s, *words))
			return true;
	return false;
}

static const char *const null_words[] = { "", "~", "null", "Null", "NULL", NULL };
static const char *const true_words[] = { "true", "True", "TRUE", NULL };
static const char *const false_words[] = { "false", "False", "FALSE", NULL };
static const char *const odd_floats[] = { ".inf",  ".Inf",  ".INF",  "+.inf", "+.Inf",
					  "+.INF", "-.inf", "-.Inf", "-.INF", ".nan",
					  ".NaN",  ".NAN",  NULL };
/* Strings for us, something else for readers of YAML 1.1: printed in quotes. */
static const char *const old_words[] = { "y",	"Y",   "yes", "Yes", "YES", "n",  "N",
					 "no",	"No",  "NO",  "on",  "On",  "ON", "off",
					 "Off", "OFF", "<<",  "=",   NULL };

static size_t digits(const char *s)
{
	return strspn(s, "0123456789");
}

static bool is_decimal(const char *s)
{
	s += *s == '-' || *s == '+';
	return *s && s[digits(s)] == '\0';
}

/* [-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )? */
static bool is_float(const char *s)
{
	size_t whole, fraction = 0;

	s += *s == '-' || *s == '+';
	whole = digits(s);
	s += whole;
	if (*s == '.') {
		fraction = digits(++s);
		s += fraction;
	}
	if (whole + fraction == 0)
		return false;
	if (*s == 'e' || *s == 'E') {
		s++;
		s += *s == '-' || *s == '+';
		if (digits(s) == 0)
			return false;
		s += digits(s);
	}
	return *s == '\0';
}

/* 0: *ret is the integer; 1: not one; -ERANGE. */
static int read_integer(const char *s, int64_t *ret)
{
	int base = 10;
	char *end;
	long long v;

	if (s[0] == '0' && (s[1] == 'o' || s[1] == 'x') && isxdigit((unsigned char)s[2])) {
		base = s[1] == 'o' ? 8 : 16;
		s += 2;
	} else if (!is_decimal(s)) {
		return 1;
	}
	errno = 0;
	v = strtoll(s, &end, base);
	if (*end)
		return 1;
	if (errno == ERANGE)
		return -ERANGE;
	*ret = v;
	return 0;
}

/* The value of a plain scalar by the core schema.  NULL with *ok: out of memory. */
static struct json *resolve(const char *s, const char **problem)
{
	int64_t i;
	double d;
	int r;

	if (any_of(s, null_words))
		return json_new_null();
	if (any_of(s, true_words) || any_of(s, false_words))
		return json_new_bool(any_of(s, true_words));
	r = read_integer(s, &i);
	if (r == 0)
		return json_new_int(i);
	if (r < 0) {
		*problem = "an integer beyond 64 bits (quote it if it is text)";
		return NULL;
	}
	if (any_of(s, odd_floats)) {
		*problem = "infinity and NaN cannot be expressed";
		return NULL;
	}
	if (!is_float(s))
		return json_new_str(s);
	d = strtod(s, NULL);
	if (!isfinite(d)) {
		*problem = "a number beyond the range of a double";
		return NULL;
	}
	return json_new_real(d);
}

static const char *core_tag(const char *tag)
{
	return str_starts(tag, "tag:yaml.org,2002:") ? tag + strlen("tag:yaml.org,2002:") : NULL;
}

static bool tag_fits(const char *type, const struct json *v)
{
	switch (json_kind(v)) {
	case JSON_K_NULL:
		return streq(type, "null");
	case JSON_K_BOOL:
		return streq(type, "bool");
	case JSON_K_INT:
		return streq(type, "int") || streq(type, "float");
	case JSON_K_REAL:
		return streq(type, "float");
	default:
		return false;
	}
}

static int read_scalar(struct reader *r, struct json **ret)
{
	const char *s = (const char *)r->event.data.scalar.value;
	const char *tag = (const char *)r->event.data.scalar.tag;
	const yaml_mark_t *at = &r->event.start_mark;
	const char *type = tag ? core_tag(tag) : NULL, *problem = NULL;
	bool plain = r->event.data.scalar.plain_implicit && !tag;
	struct json *v;

	if (tag && !type && !streq(tag, "!"))
		return bad_at(r, at, "unknown tag '%s'", tag);
	if (memchr(s, '\0', r->event.data.scalar.length))
		return bad_at(r, at, "a NUL character in text");
	if (plain || (type && !streq(type, "str")))
		v = resolve(s, &problem);
	else
		v = json_new_str(s);
	if (problem)
		return bad_at(r, at, "%s", problem);
	if (!v)
		return utf8_valid(s) ? err_set(r->e, ENOMEM, "sys.ENOMEM",
					       "out of memory while reading YAML")
				     : bad_at(r, at, "text that is not UTF-8");
	if (type && !streq(type, "str") && !tag_fits(type, v)) {
		json_free(v);
		return bad_at(r, at, "'%s' is not a value of the tag '!!%s'", s, type);
	}
	*ret = v;
	return 0;
}

/* ---- nodes ---- */

static int read_node(struct reader *r, struct json **ret);

static int out_of_memory(struct reader *r)
{
	return err_set(r->e, ENOMEM, "sys.ENOMEM", "out of memory while reading YAML");
}

static int read_sequence(struct reader *r, struct json **ret)
{
	_cleanup_(json_freep) struct json *arr = json_new_arr();
	int n = next(r);

	if (!arr)
		return out_of_memory(r);
	while (n == 0 && r->event.type != YAML_SEQUENCE_END_EVENT) {
		struct json *v = NULL;

		n = read_node(r, &v);
		if (n < 0)
			return n;
		if (json_push(arr, v) < 0)
			return out_of_memory(r);
		n = next(r);
	}
	if (n < 0)
		return n;
	*ret = TAKE(arr);
	return 0;
}

static int read_key(struct reader *r, const struct json *obj, char **ret)
{
	const yaml_mark_t *at = &r->event.start_mark;
	const char *key = (const char *)r->event.data.scalar.value;

	if (r->event.type != YAML_SCALAR_EVENT)
		return bad_at(r, at, "a key must be plain or quoted text");
	if (memchr(key, '\0', r->event.data.scalar.length) || !utf8_valid(key))
		return bad_at(r, at, "a key with a NUL character or invalid UTF-8");
	if (streq(key, "<<") && r->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE)
		return bad_at(r, at, "merge keys ('<<') are not part of YAML 1.2");
	if (json_get(obj, key))
		return bad_at(r, at, "duplicate key '%s'", key);
	*ret = strdup(key);
	return *ret ? 0 : out_of_memory(r);
}

static int read_mapping(struct reader *r, struct json **ret)
{
	_cleanup_(json_freep) struct json *obj = json_new_obj();
	int n = next(r);

	if (!obj)
		return out_of_memory(r);
	while (n == 0 && r->event.type != YAML_MAPPING_END_EVENT) {
		_cleanup_(freep) char *key = NULL;
		struct json *v = NULL;

		n = read_key(r, obj, &key);
		if (n == 0)
			n = next(r);
		if (n == 0)
			n = read_node(r, &v);
		if (n < 0)
			return n;
		if (json_set(obj, key, v) < 0)
			return out_of_memory(r);
		n = next(r);
	}
	if (n < 0)
		return n;
	*ret = TAKE(obj);
	return 0;
}

static size_t height(const struct json *v)
{
	size_t most = 0;

	if (json_kind(v) == JSON_K_OBJECT) {
		for (struct json_iter it = json_iter(v); json_next(&it);)
			most = MAX(most, height(it.value));
	} else if (json_kind(v) == JSON_K_ARRAY) {
		for (size_t i = 0; i < json_len(v); i++)
			most = MAX(most, height(json_at(v, i)));
	} else {
		return 0;
	}
	return most + 1;
}

static int too_deep(struct reader *r)
{
	return err_set(r->e, E2BIG, "yaml.limit",
		       "line %zu, column %zu: nested deeper than the limit of %zu",
		       r->event.start_mark.line + 1, r->event.start_mark.column + 1,
		       r->limits->depth);
}

static int read_alias(struct reader *r, struct json **ret)
{
	const char *name = (const char *)r->event.data.alias.anchor;
	int n;

	/* The newest anchor of a name counts. */
	for (size_t i = r->anchors.n; i-- > 0;) {
		const struct anchor *a = &r->anchors.v[i];

		if (!streq(a->name, name))
			continue;
		n = count(r, a->values);
		if (n < 0)
			return n;
		if (r->depth + height(a->v) > r->limits->depth)
			return too_deep(r);
		*ret = json_clone(a->v);
		return *ret ? 0 : out_of_memory(r);
	}
	return bad_at(r, &r->event.start_mark, "unknown alias '*%s'", name);
}

static int read_collection(struct reader *r, struct json **ret)
{
	bool map = r->event.type == YAML_MAPPING_START_EVENT;
	const char *tag = (const char *)(map ? r->event.data.mapping_start.tag
					     : r->event.data.sequence_start.tag);
	const char *type = tag ? core_tag(tag) : NULL;
	int n;

	if (tag && !streq(tag, "!") && (!type || !streq(type, map ? "map" : "seq")))
		return bad_at(r, &r->event.start_mark, "unknown tag '%s'", tag);
	if (r->depth >= r->limits->depth)
		return too_deep(r);
	r->depth++;
	n = map ? read_mapping(r, ret) : read_sequence(r, ret);
	r->depth--;
	return n;
}

/* Reads the node whose first event is current; leaves its last event current. */
static int read_node(struct reader *r, struct json **ret)
{
	_cleanup_(freep) char *anchor = NULL;
	const yaml_char_t *name = NULL;
	size_t before = r->values;
	int n;

	if (r->event.type == YAML_ALIAS_EVENT)
		return read_alias(r, ret);
	n = count(r, 1);
	if (n < 0)
		return n;
	if (r->event.type == YAML_SCALAR_EVENT)
		name = r->event.data.scalar.anchor;
	else if (r->event.type == YAML_SEQUENCE_START_EVENT)
		name = r->event.data.sequence_start.anchor;
	else if (r->event.type == YAML_MAPPING_START_EVENT)
		name = r->event.data.mapping_start.anchor;
	if (name) {
		anchor = strdup((const char *)name);
		if (!anchor)
			return out_of_memory(r);
	}
	n = r->event.type == YAML_SCALAR_EVENT ? read_scalar(r, ret) : read_collection(r, ret);
	if (n < 0 || !anchor)
		return n;
	if (vec_push(&r->anchors, (struct anchor){ anchor, json_ref(*ret), r->values - before }) <
	    0) {
		json_free(*ret); /* the reference just made */
		return out_of_memory(r);
	}
	TAKE(anchor);
	return 0;
}

/* ---- documents ---- */

static void drop_anchors(struct reader *r)
{
	struct anchor *a;

	vec_for_each(a, &r->anchors) {
		free(a->name);
		json_free(a->v);
	}
	vec_done(&r->anchors);
}

/* The stream's documents, each given to an array. */
static int read_stream(struct reader *r, struct json *docs)
{
	int n = next(r); /* stream start */

	if (n == 0)
		n = next(r);
	while (n == 0 && r->event.type == YAML_DOCUMENT_START_EVENT) {
		struct json *v = NULL;

		n = next(r);
		if (n == 0)
			n = read_node(r, &v);
		if (n == 0 && json_push(docs, TAKE(v)) < 0)
			n = out_of_memory(r);
		if (n < 0) {
			json_free(v);
			return n;
		}
		drop_anchors(r);
		n = next(r); /* document end */
		if (n == 0)
			n = next(r);
	}
	return n;
}

static int parse(const char *text, size_t len, const struct json_limits *limits, struct json **ret,
		 struct err **e)
{
	_cleanup_(json_freep) struct json *docs = json_new_arr();
	struct reader r = { .limits = limits ? limits : &yaml_limits, .e = e };
	int n;

	if (len > r.limits->size)
		return err_set(e, E2BIG, "yaml.limit", "%zu bytes are more than the limit of %zu",
			       len, r.limits->size);
	if (!docs || !yaml_parser_initialize(&r.parser))
		return out_of_memory(&r);
	yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, len);
	n = read_stream(&r, docs);
	drop_anchors(&r);
	yaml_event_delete(&r.event);
	yaml_parser_delete(&r.parser);
	if (n == 0)
		*ret = TAKE(docs);
	return n;
}

int yaml_parse_all(const char *text, size_t len, const struct json_limits *limits,
		   struct json **ret, struct err **e)
{
	_cleanup_(json_freep) struct json *docs = NULL;
	int r = parse(text, len, limits, &docs, e);

	if (r < 0)
		return r;
	for (size_t i = json_len(docs); i-- > 0;)
		if (json_kind(json_at(docs, i)) == JSON_K_NULL)
			json_remove_at(docs, i);
	*ret = TAKE(docs);
	return 0;
}

int yaml_parse(const char *text, size_t len, const struct json_limits *limits, struct json **ret,
	       struct err **e)
{
	_cleanup_(json_freep) struct json *docs = NULL;
	int r = parse(text, len, limits, &docs, e);

	if (r < 0)
		return r;
	if (json_len(docs) > 1)
		return err_set(e, EINVAL, "yaml.syntax", "%zu documents where one is expected",
			       json_len(docs));
	*ret = json_len(docs) == 1 ? json_ref((struct json *)json_at(docs, 0)) : json_new_null();
	return *ret ? 0 : err_set(e, ENOMEM, "sys.ENOMEM", "out of memory while reading YAML");
}

int yaml_parse_file(const char *path, const struct json_limits *limits, struct json **ret,
		    struct err **e)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	int r = file_read(AT_FDCWD, path, (limits ? limits : &yaml_limits)->size, &b, e);

	if (r < 0)
		return r;
	r = yaml_parse(buf_str(&b), b.len, limits, ret, e);
	return r < 0 ? err_wrap(e, r, "%s", path) : 0;
}

/* ---- printing ---- */

static int write_buf(void *data, unsigned char *bytes, size_t n)
{
	return buf_add(data, bytes, n) == 0;
}

/* Would a plain s be read as something else than this text, by us or by a YAML 1.1 reader? */
static bool ambiguous(const char *s)
{
	if (any_of(s, null_words) || any_of(s, true_words) || any_of(s, false_words) ||
	    any_of(s, odd_floats) || any_of(s, old_words))
		return true;
	/* Numbers of either version (1_000, 0b1, 12:30:45, 2001-12-14) begin like this. */
	return isdigit((unsigned char)s[*s == '-' || *s == '+' || *s == '.']) ||
	       isdigit((unsigned char)s[s[0] && s[1] == '.' ? 2 : 0]);
}

/* Text of several ordinary lines reads best as a literal block. */
static bool fits_literal(const char *s)
{
	const char *line = s;

	if (!strchr(s, '\n') || *s == '\n')
		return false;
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		if ((c < 0x20 && c != '\n') || c >= 0x7f)
			return false;
		if (s == line && c == ' ')
			return false;
		if (c == '\n') {
			if (s > line && s[-1] == ' ')
				return false;
			line = s + 1;
		}
	}
	return s[-1] != ' ';
}

static bool plain_ascii(const char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < 0x20 || (unsigned char)*s >= 0x7f)
			return false;
	return true;
}

/* Letters beyond ASCII are fine plain; breaks, marks and controls among them are not. */
static bool needs_escapes(const char *s)
{
	if (plain_ascii(s))
		return false;
	for (; *s; s++) {
		const unsigned char *u = (const unsigned char *)s;

		if (*u < 0x20 || *u == 0x7f || *u == 0xc2 || *u == 0xe2 || *u >= 0xef)
			return true;
	}
	return false;
}

static int emit(yaml_emitter_t *em, yaml_event_t *ev)
{
	return yaml_emitter_emit(em, ev);
}

static int emit_text(yaml_emitter_t *em, const char *s, bool is_string, bool is_key)
{
	yaml_scalar_style_t style = YAML_PLAIN_SCALAR_STYLE;
	yaml_event_t ev;

	if (is_string && !is_key && fits_literal(s))
		style = YAML_LITERAL_SCALAR_STYLE;
	else if (is_string && (ambiguous(s) || strchr(s, '\n') || needs_escapes(s)))
		style = YAML_DOUBLE_QUOTED_SCALAR_STYLE;
	return yaml_scalar_event_initialize(&ev, NULL, NULL, (const yaml_char_t *)s, (int)strlen(s),
					    1, 1, style) &&
	       emit(em, &ev);
}

static int emit_value(yaml_emitter_t *em, const struct json *v)
{
	char num[32];
	yaml_event_t ev;

	switch (json_kind(v)) {
	case JSON_K_NULL:
		return emit_text(em, "null", false, false);
	case JSON_K_BOOL:
		return emit_text(em, json_bool(v, false) ? "true" : "false", false, false);
	case JSON_K_INT:
		snprintf(num, sizeof(num), "%lld", (long long)json_int(v, 0));
		return emit_text(em, num, false, false);
	case JSON_K_REAL:
		return emit_text(em, json_format_real(json_num(v, 0), num, sizeof(num)), false,
				 false);
	case JSON_K_STRING:
		return emit_text(em, json_str(v), true, false);
	case JSON_K_ARRAY:
		if (!yaml_sequence_start_event_initialize(&ev, NULL, NULL, 1,
							  YAML_BLOCK_SEQUENCE_STYLE) ||
		    !emit(em, &ev))
			return 0;
		for (size_t i = 0; i < json_len(v); i++)
			if (!emit_value(em, json_at(v, i)))
				return 0;
		return yaml_sequence_end_event_initialize(&ev) && emit(em, &ev);
	case JSON_K_OBJECT:
		if (!yaml_mapping_start_event_initialize(&ev, NULL, NULL, 1,
							 YAML_BLOCK_MAPPING_STYLE) ||
		    !emit(em, &ev))
			return 0;
		for (struct json_iter it = json_iter(v); json_next(&it);)
			if (!emit_text(em, it.key, true, true) || !emit_value(em, it.value))
				return 0;
		return yaml_mapping_end_event_initialize(&ev) && emit(em, &ev);
	}
	return 0;
}

int yaml_print(const struct json *v, struct buf *b)
{
	yaml_emitter_t em;
	yaml_event_t ev;
	int ok;

	if (!yaml_emitter_initialize(&em)) {
		b->error = -ENOMEM;
		return -ENOMEM;
	}
	yaml_emitter_set_output(&em, write_buf, b);
	yaml_emitter_set_unicode(&em, 1);
	yaml_emitter_set_width(&em, -1);
	ok = yaml_stream_start_event_initialize(&ev, YAML_UTF8_ENCODING) && emit(&em, &ev) &&
	     yaml_document_start_event_initialize(&ev, NULL, NULL, NULL, 1) && emit(&em, &ev) &&
	     emit_value(&em, v) && yaml_document_end_event_initialize(&ev, 1) && emit(&em, &ev) &&
	     yaml_stream_end_event_initialize(&ev) && emit(&em, &ev);
	yaml_emitter_delete(&em);
	if (!ok)
		b->error = -ENOMEM;
	return buf_error(b);
}
