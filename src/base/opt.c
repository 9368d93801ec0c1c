/* Option tables; see opt.h. */
#include "base/opt.h"

#include <string.h>
#include "base/str.h"

/* -- near misses ---------------------------------------------------------------------------------- */

#define NEAR_MAX 64

/* Edit distance with transposition; strings longer than NEAR_MAX are never near. */
static size_t distance(const char *a, const char *b)
{
	size_t n = strlen(a), m = strlen(b), d[3][NEAR_MAX + 1];

	if (n > NEAR_MAX || m > NEAR_MAX)
		return SIZE_MAX;
	for (size_t j = 0; j <= m; j++)
		d[0][j] = j;
	for (size_t i = 1; i <= n; i++) {
		size_t *cur = d[i % 3], *prev = d[(i + 2) % 3], *prev2 = d[(i + 1) % 3];

		cur[0] = i;
		for (size_t j = 1; j <= m; j++) {
			size_t v = MIN(prev[j], cur[j - 1]) + 1;

			v = MIN(v, prev[j - 1] + (a[i - 1] != b[j - 1]));
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				v = MIN(v, prev2[j - 2] + 1);
			cur[j] = v;
		}
	}
	return d[n % 3][m];
}

const char *near_miss(const char *s, const char *const *names, size_t n)
{
	size_t best = MIN(strlen(s) / 3 + 1, (size_t)3) + 1;
	const char *found = NULL;

	for (size_t i = 0; i < n; i++) {
		size_t d = distance(s, names[i]);

		if (d < best && d < strlen(s)) { /* not when every letter changed */
			best = d;
			found = names[i];
		}
	}
	return found;
}

/* -- values --------------------------------------------------------------------------------------- */

static int bad_choice(const struct opt *o, const char *shown, const char *value, struct err **e)
{
	_cleanup_(buf_done) struct buf b = { 0 };

	for (size_t i = 0; o->choices[i]; i++)
		buf_addf(&b, "%s%s", i ? ", " : "", o->choices[i]);
	return err_set(e, EINVAL, "option.value", "%s: '%s' is none of %s", shown, value,
		       buf_str(&b));
}

static int check_range(const struct opt *o, const char *shown, const char *value, uint64_t v,
		       struct err **e)
{
	if (v < o->min)
		return err_set(e, EINVAL, "option.value", "%s: %s is below the minimum %llu", shown,
			       value, (unsigned long long)o->min);
	if (o->max && v > o->max)
		return err_set(e, EINVAL, "option.value", "%s: %s is above the maximum %llu", shown,
			       value, (unsigned long long)o->max);
	return 0;
}

/* shown: the option as the user wrote it, for messages */
static int set_value(const struct opt *o, void *target, const char *shown, const char *value,
		     struct err **e)
{
	void *p = (char *)target + o->offset;
	uint64_t u;
	char *copy;
	int r;

	switch (o->kind) {
	case OPT_K_FLAG:
		if (parse_bool(value, p) < 0)
			return err_set(e, EINVAL, "option.value", "%s: '%s' is neither on nor off",
				       shown, value);
		return 0;
	case OPT_K_STR:
	case OPT_K_LIST:
		copy = strdup(value);
		if (!copy)
			return err_sys(e, ENOMEM, "%s", shown);
		if (o->kind == OPT_K_STR) {
			free(*(char **)p);
			*(char **)p = copy;
		} else if (vec_push((opt_list *)p, copy) < 0) {
			free(copy);
			return err_sys(e, ENOMEM, "%s", shown);
		}
		return 0;
	case OPT_K_U64:
	case OPT_K_SIZE:
		r = o->kind == OPT_K_SIZE ? parse_size(value, &u)
					  : parse_u64(value, UINT64_MAX, &u);
		if (r == -EINVAL)
			return err_set(e, EINVAL, "option.value", "%s: '%s' is not a %s", shown,
				       value,
				       o->kind == OPT_K_SIZE ? "size (try 512M or 10G)" : "number");
		if (r == -ERANGE)
			return err_set(e, EINVAL, "option.value", "%s: '%s' is too large", shown,
				       value);
		r = check_range(o, shown, value, u, e);
		if (r == 0)
			*(uint64_t *)p = u;
		return r;
	case OPT_K_I64:
		r = parse_i64(value, (int64_t)o->min, o->max ? (int64_t)o->max : INT64_MAX, p);
		if (r < 0)
			return err_set(e, EINVAL, "option.value",
				       "%s: '%s' is not a number in range", shown, value);
		return 0;
	case OPT_K_DURATION:
		if (parse_duration(value, p) < 0)
			return err_set(e, EINVAL, "option.value",
				       "%s: '%s' is not a duration (try 30s or 5m)", shown, value);
		return 0;
	case OPT_K_ENUM:
		for (int i = 0; o->choices[i]; i++) {
			if (streq(o->choices[i], value)) {
				*(int *)p = i;
				return 0;
			}
		}
		return bad_choice(o, shown, value, e);
	}
	return -EINVAL;
}

/* len: of the name alone, which may be followed by '=' */
static const struct opt *find(const struct opt *table, const char *name, size_t len)
{
	for (const struct opt *o = table; o->name; o++) {
		if (strlen(o->name) == len && memcmp(o->name, name, len) == 0)
			return o;
	}
	return NULL;
}

static int unknown(const struct opt *table, const char *dashes, const char *name, size_t len,
		   struct err **e)
{
	_cleanup_(freep) char *given = strndup(name, len);
	VEC(const char *) names = { 0 };
	const char *near;
	int r;

	for (const struct opt *o = table; o->name; o++) {
		if (vec_push(&names, o->name) < 0)
			break;
	}
	near = given ? near_miss(given, names.v, names.n) : NULL;
	if (near)
		r = err_set(e, EINVAL, "option.unknown",
			    "%s%s: unknown option; did you mean '%s%s'?", dashes, given, dashes,
			    near);
	else
		r = err_set(e, EINVAL, "option.unknown", "%s%.*s: unknown option", dashes, (int)len,
			    name);
	vec_done(&names);
	return r;
}

/* -- command lines -------------------------------------------------------------------------------- */

struct args {
	int argc, next;
	char **argv;
};

static int parse_long(const struct opt *table, void *target, struct args *a, struct err **e)
{
	const char *name = a->argv[a->next++] + 2, *eq = strchr(name, '=');
	size_t len = eq ? (size_t)(eq - name) : strlen(name);
	const struct opt *o = find(table, name, len);
	char shown[80];

	snprintf(shown, sizeof(shown), "--%.*s", (int)MIN(len, (size_t)70), name);
	if (!o && !eq && str_starts(name, "no-")) {
		o = find(table, name + 3, len - 3);
		if (o && o->kind == OPT_K_FLAG)
			return set_value(o, target, shown, "off", e);
		o = NULL;
	}
	if (!o)
		return unknown(table, "--", name, len, e);
	if (eq)
		return set_value(o, target, shown, eq + 1, e);
	if (o->kind == OPT_K_FLAG)
		return set_value(o, target, shown, "on", e);
	if (a->next >= a->argc)
		return err_set(e, EINVAL, "option.value", "%s: needs %s", shown,
			       o->arg ? o->arg : "a value");
	return set_value(o, target, shown, a->argv[a->next++], e);
}

/* "-abc VALUE", "-cVALUE" */
static int parse_short(const struct opt *table, void *target, struct args *a, struct err **e)
{
	const char *p = a->argv[a->next++] + 1;

	for (; *p; p++) {
		const struct opt *o = table;
		char shown[3] = { '-', *p, '\0' };

		while (o->name && o->letter != *p)
			o++;
		if (!o->name)
			return err_set(e, EINVAL, "option.unknown", "%s: unknown option", shown);
		if (o->kind == OPT_K_FLAG) {
			int r = set_value(o, target, shown, "on", e);

			if (r < 0)
				return r;
			continue;
		}
		if (p[1])
			return set_value(o, target, shown, p + 1, e);
		if (a->next >= a->argc)
			return err_set(e, EINVAL, "option.value", "%s: needs %s", shown,
				       o->arg ? o->arg : "a value");
		return set_value(o, target, shown, a->argv[a->next++], e);
	}
	return 0;
}

int opt_parse(const struct opt *table, void *target, int argc, char **argv, bool stop_at_operand,
	      struct err **e)
{
	struct args a = { .argc = argc, .next = 1, .argv = argv };
	int n = 0;

	while (a.next < argc) {
		char *s = argv[a.next];
		int r;

		if (s[0] != '-' || s[1] == '\0') {
			argv[++n] = s;
			a.next++;
			if (!stop_at_operand)
				continue;
			break;
		}
		if (streq(s, "--")) {
			a.next++;
			break;
		}
		r = s[1] == '-' ? parse_long(table, target, &a, e)
				: parse_short(table, target, &a, e);
		if (r < 0)
			return r;
	}
	while (a.next < argc)
		argv[++n] = argv[a.next++];
	if (n + 1 < argc)
		argv[n + 1] = NULL;
	return n;
}

/* -- key=value lists ------------------------------------------------------------------------------ */

int opt_set(const struct opt *table, void *target, const char *name, const char *value,
	    struct err **e)
{
	const struct opt *o = find(table, name, strlen(name));

	if (!o)
		return unknown(table, "", name, strlen(name), e);
	return set_value(o, target, name, value, e);
}

/* The next piece up to a single comma, with doubled commas made one; *text moves behind it. */
static int next_piece(const char **text, struct buf *out)
{
	const char *p = *text;

	buf_clear(out);
	for (; *p; p++) {
		if (*p == ',') {
			if (p[1] != ',')
				break;
			p++;
		}
		buf_addc(out, *p);
	}
	*text = *p ? p + 1 : p;
	return buf_error(out);
}

int opt_parse_kv(const struct opt *table, void *target, const char *text, struct err **e)
{
	_cleanup_(buf_done) struct buf piece = { 0 };

	while (*text) {
		const struct opt *o;
		char *eq, *name;
		int r;

		if (next_piece(&text, &piece) < 0)
			return err_sys(e, ENOMEM, "options");
		name = piece.len ? piece.s : NULL;
		if (!name)
			return err_set(e, EINVAL, "option.empty",
				       "an empty option (write a comma in a value twice)");
		eq = strchr(name, '=');
		if (eq)
			*eq = '\0';
		o = find(table, name, strlen(name));
		if (!o)
			return unknown(table, "", name, strlen(name), e);
		if (!eq && o->kind != OPT_K_FLAG)
			return err_set(e, EINVAL, "option.value", "%s: needs =%s", name,
				       o->arg ? o->arg : "VALUE");
		r = set_value(o, target, name, eq ? eq + 1 : "on", e);
		if (r < 0)
			return r;
	}
	return 0;
}

void opt_done(const struct opt *table, void *target)
{
	for (const struct opt *o = table; o->name; o++) {
		void *p = (char *)target + o->offset;

		if (o->kind == OPT_K_STR) {
			free(*(char **)p);
			*(char **)p = NULL;
		} else if (o->kind == OPT_K_LIST) {
			opt_list *l = p;

			for (size_t i = 0; i < l->n; i++)
				free(l->v[i]);
			vec_done(l);
		}
	}
}

/* -- help ----------------------------------------------------------------------------------------- */

static void add_wrapped(struct buf *out, const char *text, size_t indent, size_t width)
{
	size_t room = width > indent + 20 ? width - indent : 20;

	while (strlen(text) > room) {
		size_t n = room;

		while (n > 0 && text[n] != ' ')
			n--;
		if (n == 0)
			n = strcspn(text, " ");
		buf_addf(out, "%.*s\n%*s", (int)n, text, (int)indent, "");
		text += n + strspn(text + n, " ");
	}
	buf_addf(out, "%s\n", text);
}

void opt_help(const struct opt *table, size_t width, struct buf *out)
{
	enum { COLUMN = 28 };

	for (const struct opt *o = table; o->name; o++) {
		size_t start = out->len, used;

		if (o->letter)
			buf_addf(out, "  -%c, ", o->letter);
		else
			buf_adds(out, "      ");
		buf_addf(out, "--%s%s%s", o->name, o->arg ? " " : "", o->arg ? o->arg : "");
		used = out->len - start;
		if (used + 2 > COLUMN)
			buf_addf(out, "\n%*s", COLUMN, "");
		else
			buf_addf(out, "%*s", (int)(COLUMN - used), "");
		add_wrapped(out, o->help ? o->help : "", COLUMN, width);
	}
}
