/* Printing; see output.h. */
#include "cli/output.h"

#include <stdio.h>
#include <string.h>
#include "base/clock.h"
#include "base/str.h"
#include "base/vec.h"
#include "ext/yaml.h"

static int put(const struct buf *b, struct err **e)
{
	if (buf_error(b))
		return err_sys(e, ENOMEM, "print");
	if (fwrite(buf_str(b), 1, b->len, stdout) != b->len || fflush(stdout) != 0)
		return err_sys(e, errno, "write to standard output");
	return 0;
}

static int print_whole(const struct json *v, bool yaml, struct err **e)
{
	_cleanup_(buf_done) struct buf b = { 0 };

	if (yaml ? yaml_print(v, &b) < 0 : json_print(v, JSON_PRETTY, &b) < 0)
		return err_sys(e, ENOMEM, "print");
	return put(&b, e);
}

/* "status.state" */
static const struct json *walk(const struct json *v, const char *path)
{
	char part[64];

	while (v && *path) {
		size_t n = strcspn(path, ".");

		snprintf(part, sizeof(part), "%.*s", (int)n, path);
		v = json_get(v, part);
		path += n + (path[n] == '.');
	}
	return v;
}

static void add_text(struct buf *b, const struct json *v)
{
	switch (json_kind(v)) {
	case JSON_K_STRING:
		/* what comes from outside must not steer the terminal */
		for (const char *p = json_str(v); *p; p++)
			buf_addc(b, (unsigned char)*p < 0x20 || *p == 0x7f ? '?' : *p);
		break;
	case JSON_K_ARRAY:
		for (size_t i = 0; i < json_len(v); i++) {
			if (i)
				buf_addc(b, ',');
			add_text(b, json_at(v, i));
		}
		break;
	case JSON_K_NULL:
		break;
	default:
		json_print(v, JSON_COMPACT, b);
	}
}

static void add_cell(struct buf *b, const struct column *c, const struct json *v, bool wide)
{
	char text[32];
	nsec_t t;

	if (c->show == SHOW_SIZE && json_kind(v) == JSON_K_INT) {
		buf_adds(b, format_size((uint64_t)json_int(v, 0), text, sizeof(text)));
	} else if (c->show == SHOW_AGE && json_str(v) && parse_time(json_str(v), &t) == 0) {
		buf_adds(b, format_duration(MAX(now_real() - t, (nsec_t)0), text, sizeof(text)));
	} else if (c->show == SHOW_ID && json_str(v) && !wide) {
		/* the end of a UUIDv7 differs most, but people type the beginning: enough of it to be unique */
		buf_addf(b, "%.13s", json_str(v));
	} else {
		add_text(b, v);
	}
}

static int add_row(struct table *t, const struct json *item, const struct column *columns, size_t n,
		   bool wide, struct err **e)
{
	struct buf cells[32] = { 0 };
	const char *texts[32];
	size_t k = 0;
	int r = 0;

	for (size_t i = 0; i < n && k < ARRAY_SIZE(cells); i++) {
		if (columns[i].wide && !wide)
			continue;
		add_cell(&cells[k], &columns[i], walk(item, columns[i].path), wide);
		r = buf_error(&cells[k]) ?: r;
		texts[k] = buf_str(&cells[k]);
		k++;
	}
	r = r < 0 ? err_sys(e, ENOMEM, "print") : table_add(t, texts, e);
	for (size_t i = 0; i < k; i++)
		buf_done(&cells[i]);
	return r;
}

static int print_table(struct cli *cli, const struct json *items, const struct column *columns,
		       size_t n, struct err **e)
{
	_cleanup_(table_freep) struct table *t = NULL;
	_cleanup_(buf_done) struct buf out = { 0 };
	bool wide = cli->common->output == OUTPUT_WIDE;
	struct table_column heads[32];
	size_t k = 0;
	int r;

	for (size_t i = 0; i < n && k < ARRAY_SIZE(heads); i++) {
		if (!columns[i].wide || wide)
			heads[k++] = (struct table_column){ columns[i].name, columns[i].flags };
	}
	r = table_new(heads, k, wide ? 0 : cli->width, &t, e);
	for (size_t i = 0; r == 0 && i < json_len(items); i++)
		r = add_row(t, json_at(items, i), columns, n, wide, e);
	if (r == 0)
		r = table_print(t, cli->common->no_headings, &out, e);
	return r == 0 ? put(&out, e) : r;
}

static int print_names(const struct json *items, struct err **e)
{
	_cleanup_(buf_done) struct buf b = { 0 };

	for (size_t i = 0; i < json_len(items); i++) {
		const char *name = json_str(json_get(json_at(items, i), "name"));

		buf_addf(&b, "%s\n", name ? name : "");
	}
	return put(&b, e);
}

int output_list(struct cli *cli, const struct json *items, const struct column *columns, size_t n,
		struct err **e)
{
	switch (cli->common->output) {
	case OUTPUT_JSON:
	case OUTPUT_YAML:
		return print_whole(items, cli->common->output == OUTPUT_YAML, e);
	case OUTPUT_NAME:
		return print_names(items, e);
	default:
		return print_table(cli, items, columns, n, e);
	}
}

int output_object(struct cli *cli, const struct json *object, struct err **e)
{
	const char *name = json_str(json_get(object, "name"));

	if (cli->common->output == OUTPUT_NAME) {
		_cleanup_(buf_done) struct buf b = { 0 };

		buf_addf(&b, "%s\n", name ? name : "");
		return put(&b, e);
	}
	return print_whole(object, cli->common->output != OUTPUT_JSON, e);
}
