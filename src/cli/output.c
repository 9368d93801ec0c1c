/* Printing; see output.h. */
#include "cli/output.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/str.h"
#include "ext/yaml.h"

#define COLUMNS_MAX 32

static int put(const struct buf *b, struct err **e)
{
	if (buf_error(b))
		return err_sys(e, ENOMEM, "print");
	if (fwrite(buf_str(b), 1, b->len, stdout) != b->len || fflush(stdout) != 0)
		return err_sys(e, errno, "write to standard output");
	return 0;
}

const char *output_name(const struct json *o)
{
	const char *s = json_str(json_get(o, "name"));

	s = s ? s : json_str(json_at(json_get(o, "names"), 0));
	s = s ? s : json_str(json_get(o, "version"));
	s = s ? s : json_str(json_get(o, "id"));
	return s ? s : "";
}

/* ---- fields ---- */

static void add_text(struct buf *b, const struct json *v)
{
	switch (json_kind(v)) {
	case JSON_K_STRING:
		/* what comes from outside must not steer the terminal */
		for (const char *p = json_str(v); *p; p++)
			buf_addc(b, (unsigned char)*p < 0x20 || *p == 0x7f ? '?' : *p);
		break;
	case JSON_K_NULL:
		break;
	default:
		json_print(v, JSON_COMPACT, b);
	}
}

typedef void add_fn(struct buf *b, const struct json *v, const void *arg);

static void add_plain(struct buf *b, const struct json *v, const void *arg)
{
	add_text(b, v);
}

/* Every value at the end of the path, with commas between. */
static void walk(const struct json *v, const char *path, struct buf *b, add_fn *add,
		 const void *arg)
{
	size_t n = strcspn(path, "."), start = b->len;
	const char *rest = path + n + (path[n] == '.');
	char part[128];
	uint64_t index;

	if (json_kind(v) == JSON_K_ARRAY) {
		snprintf(part, sizeof(part), "%.*s", (int)n, path);
		if (*path && parse_u64(part, UINT32_MAX, &index) == 0) {
			walk(json_at(v, (size_t)index), rest, b, add, arg);
			return;
		}
		for (size_t i = 0; i < json_len(v); i++) {
			size_t at = b->len, with_comma;

			if (at > start)
				buf_addc(b, ',');
			with_comma = b->len;
			walk(json_at(v, i), path, b, add, arg);
			if (b->len == with_comma && at > start)
				b->s[b->len = at] = '\0';
		}
	} else if (!*path) {
		if (v)
			add(b, v, arg);
	} else if (json_kind(v) == JSON_K_OBJECT) {
		/* names of labels have dots: the whole rest may be one */
		const struct json *whole = json_get(v, path), *spec = json_get(v, "spec");

		snprintf(part, sizeof(part), "%.*s", (int)n, path);
		if (whole)
			walk(whole, "", b, add, arg);
		else if (json_get(v, part))
			walk(json_get(v, part), rest, b, add, arg);
		else if (spec && !json_get(spec, "spec"))
			walk(spec, path, b, add, arg);
	}
}

void output_field(const struct json *object, const char *path, struct buf *out)
{
	walk(object, path, out, add_plain, NULL);
}

/* One unit is enough: "3h ago", "in 12d". */
static void add_age(struct buf *b, nsec_t t)
{
	static const struct {
		int64_t seconds;
		const char *name;
	} units[] = { { 86400, "d" }, { 3600, "h" }, { 60, "m" }, { 1, "s" } };
	int64_t d = (now_real() - t) / NSEC_PER_SEC, n = d < 0 ? -d : d;
	size_t i = 0;

	while (i + 1 < ARRAY_SIZE(units) && n < units[i].seconds)
		i++;
	buf_addf(b, d < 0 ? "in %lld%s" : "%lld%s ago", (long long)(n / units[i].seconds),
		 units[i].name);
}

static void add_cell(struct buf *b, const struct json *v, const void *arg)
{
	const struct gen_column *c = arg;
	char text[32];
	nsec_t t;

	if (c->kind == GEN_SIZE && json_kind(v) == JSON_K_INT)
		buf_adds(b, format_size((uint64_t)json_int(v, 0), text, sizeof(text)));
	else if (c->kind == GEN_BITRATE && json_kind(v) == JSON_K_INT)
		buf_adds(b, gen_format_bitrate((uint64_t)json_int(v, 0), text));
	else if (c->kind == GEN_TIME && !streq(c->name, "TIME") && json_str(v) &&
		 parse_time(json_str(v), &t) == 0)
		add_age(b, t);
	else if (c->kind == GEN_BOOL)
		buf_adds(b, json_bool(v, false) ? "yes" : "no");
	else if (c->kind == GEN_REAL)
		buf_addf(b, "%.4g", json_num(v, 0));
	else
		add_text(b, v);
}

/* ---- lists ---- */

static bool number(enum gen_kind k)
{
	return k == GEN_INT || k == GEN_UINT || k == GEN_REAL || k == GEN_SIZE || k == GEN_BITRATE;
}

static const struct gen_columns *columns_of(const struct gen_type *t)
{
	const struct gen_columns *c = cli_columns;

	while (c->type && c->type != t)
		c++;
	return c;
}

static int add_row(struct table *t, const struct json *item, const struct gen_columns *cs,
		   bool wide, struct err **e)
{
	struct buf cells[COLUMNS_MAX] = { 0 };
	const char *texts[COLUMNS_MAX];
	size_t k = 0;
	int r = 0;

	for (unsigned int i = 0; i < cs->n && k < COLUMNS_MAX; i++) {
		if (cs->v[i].wide && !wide)
			continue;
		walk(item, cs->v[i].path, &cells[k], add_cell, &cs->v[i]);
		r = buf_error(&cells[k]) ?: r;
		texts[k] = buf_str(&cells[k]);
		k++;
	}
	r = r < 0 ? err_sys(e, ENOMEM, "print") : table_add(t, texts, e);
	for (size_t i = 0; i < k; i++)
		buf_done(&cells[i]);
	return r;
}

static int print_table(struct cli *cli, const struct gen_columns *cs, const struct json *items,
		       bool wide, struct err **e)
{
	_cleanup_(table_freep) struct table *t = NULL;
	_cleanup_(buf_done) struct buf out = { 0 };
	struct table_column heads[COLUMNS_MAX];
	size_t k = 0;
	int r;

	for (unsigned int i = 0; i < cs->n && k < COLUMNS_MAX; i++) {
		if (!cs->v[i].wide || wide)
			heads[k++] = (struct table_column){ cs->v[i].name,
							    number(cs->v[i].kind) ? TABLE_RIGHT
							    : cs->v[i].kind == GEN_STRING
								    ? TABLE_CUT
								    : 0 };
	}
	r = table_new(heads, k, wide ? 0 : cli->width, &t, e);
	for (size_t i = 0; r == 0 && i < json_len(items); i++)
		r = add_row(t, json_at(items, i), cs, wide, e);
	if (r == 0)
		r = table_print(t, gen_args_on(&cli->args, "no-headers"), &out, e);
	return r == 0 ? put(&out, e) : r;
}

/* FIELD=VALUE, with * and ? in VALUE. */
static int fits(const struct json *item, const char *filter, struct err **e)
{
	const char *eq = strchr(filter, '=');
	_cleanup_(buf_done) struct buf have = { 0 };
	_cleanup_(freep) char *path = NULL;

	if (!eq || eq == filter)
		return err_set(e, EINVAL, "cli.usage", "--filter: '%s' is not FIELD=VALUE", filter);
	path = strndup(filter, (size_t)(eq - filter));
	if (!path)
		return err_sys(e, ENOMEM, "filter");
	output_field(item, path, &have);
	return fnmatch(eq + 1, buf_str(&have), 0) == 0;
}

static int filtered(struct cli *cli, const struct json *items, struct json **ret, struct err **e)
{
	_cleanup_(json_freep) struct json *out = json_new_arr();

	for (size_t i = 0; i < json_len(items); i++) {
		struct json *item = (struct json *)json_at(items, i);
		const char *filter;
		size_t pos = 0;
		int r = 1;

		while (r > 0 && (filter = gen_args_each(&cli->args, "filter", &pos)))
			r = fits(item, filter, e);
		if (r > 0 && json_push(out, json_ref(item)) < 0)
			r = err_sys(e, ENOMEM, "filter");
		if (r < 0)
			return r;
	}
	*ret = TAKE(out);
	return 0;
}

/* ---- forms ---- */

/* {path} is filled in; \n and \t are what they are in C. */
static void expand(const char *template, const struct json *o, struct buf *b)
{
	for (const char *p = template; *p; p++) {
		const char *end = *p == '{' ? strchr(p, '}') : NULL;

		if (end) {
			_cleanup_(freep) char *path = strndup(p + 1, (size_t)(end - p - 1));

			output_field(o, path ? path : "", b);
			p = end;
		} else if (*p == '\\' && (p[1] == 'n' || p[1] == 't')) {
			buf_addc(b, *++p == 'n' ? '\n' : '\t');
		} else {
			buf_addc(b, *p);
		}
	}
	buf_addc(b, '\n');
}

static int print_whole(const struct json *v, bool yaml, struct err **e)
{
	_cleanup_(buf_done) struct buf b = { 0 };

	if (yaml ? yaml_print(v, &b) < 0 : json_print(v, JSON_PRETTY, &b) < 0)
		return err_sys(e, ENOMEM, "print");
	return put(&b, e);
}

static const char *id_of(const struct json *o)
{
	const char *id = json_str(json_get(o, "id"));

	return id ? id : output_name(o);
}

static const char *form(struct cli *cli)
{
	const char *f = gen_args_str(&cli->args, "output");

	return f ? f : "table";
}

/* One object in the forms that lists have too: 1; 0: it is to be printed otherwise. */
static int print_short(struct cli *cli, const struct json *o, struct buf *b)
{
	const char *template = gen_args_str(&cli->args, "format");

	if (template)
		expand(template, o, b);
	else if (cli->quiet)
		buf_addf(b, "%s\n", id_of(o));
	else if (streq(form(cli), "name"))
		buf_addf(b, "%s\n", output_name(o));
	else
		return 0;
	return 1;
}

int output_list(struct cli *cli, const struct gen_type *t, const struct json *items, struct err **e)
{
	_cleanup_(json_freep) struct json *some = NULL;
	_cleanup_(buf_done) struct buf b = { 0 };
	const char *f = form(cli);
	int r = filtered(cli, items, &some, e);

	if (r < 0)
		return r;
	if (gen_args_str(&cli->args, "format") || cli->quiet || streq(f, "name")) {
		for (size_t i = 0; i < json_len(some); i++)
			print_short(cli, json_at(some, i), &b);
		return put(&b, e);
	}
	if (streq(f, "json") || streq(f, "yaml"))
		return print_whole(some, streq(f, "yaml"), e);
	return print_table(cli, columns_of(t), some, streq(f, "wide"), e);
}

int output_object(struct cli *cli, const struct json *object, struct err **e)
{
	_cleanup_(buf_done) struct buf b = { 0 };

	if (print_short(cli, object, &b))
		return put(&b, e);
	return print_whole(object, !streq(form(cli), "json"), e);
}
