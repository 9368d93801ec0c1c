/* Reading a command line by its table. */
#include "gen/command.h"

#include <assert.h>
#include "base/opt.h"
#include "gen/object_int.h"

#define USAGE "cli.usage"

struct reader {
	const struct gen_command *root;
	struct gen_args *ret;
	struct err **e;
	int argc, at;
	char *const *argv;
	size_t n_operands; /* all kinds of them */
};

static int no_memory(struct err **e)
{
	return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
}

/* ---- looking up ---- */

typedef bool flag_match(const struct gen_flag *f, const char *name, size_t len);

static bool by_name(const struct gen_flag *f, const char *name, size_t len)
{
	return strncmp(f->name, name, len) == 0 && f->name[len] == '\0';
}

static bool by_letter(const struct gen_flag *f, const char *name, size_t len)
{
	return f->letter == *name;
}

static const struct gen_flag *find_in(const struct gen_command *c, flag_match *match,
				      const char *name, size_t len)
{
	for (unsigned int g = 0; g < c->n_groups; g++)
		for (unsigned int i = 0; i < c->groups[g].n; i++)
			if (match(&c->groups[g].flags[i], name, len))
				return &c->groups[g].flags[i];
	return NULL;
}

static const struct gen_flag *find(const struct reader *r, flag_match *match, const char *name,
				   size_t len)
{
	const struct gen_flag *f = find_in(r->ret->command, match, name, len);

	return f ? f : find_in(r->root, match, name, len);
}

static int unknown_flag(const struct reader *r, const char *arg, size_t len)
{
	const struct gen_command *const commands[] = { r->ret->command, r->root };
	_cleanup_(freep) char *given = strndup(arg, len);
	VEC(const char *) names = { 0 };
	const char *near = NULL;

	for (size_t c = 0; c < ARRAY_SIZE(commands); c++)
		for (unsigned int g = 0; g < commands[c]->n_groups; g++)
			for (unsigned int i = 0; i < commands[c]->groups[g].n; i++)
				vec_push(&names, commands[c]->groups[g].flags[i].name);
	if (given && len > 3)
		near = near_miss(given + 2, names.v, names.n);
	err_set(r->e, EINVAL, USAGE, "%s: unknown flag%s%s%s", given ? given : arg,
		near ? "; did you mean '--" : "", near ? near : "", near ? "'?" : "");
	vec_done(&names);
	return -EINVAL;
}

static const struct gen_command *find_command(const struct gen_command *c, const char *name)
{
	for (unsigned int i = 0; i < c->n_commands; i++)
		if (streq(c->commands[i].name, name))
			return &c->commands[i];
	return NULL;
}

static int unknown_command(const struct reader *r, const char *name)
{
	const struct gen_command *c = r->ret->command;
	VEC(const char *) names = { 0 };
	const char *near;

	for (unsigned int i = 0; i < c->n_commands; i++)
		vec_push(&names, c->commands[i].name);
	near = near_miss(name, names.v, names.n);
	err_set(r->e, EINVAL, USAGE, "%s: unknown command%s%s%s", name,
		near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
	vec_done(&names);
	return -EINVAL;
}

/* ---- values that are objects ---- */

static int bad(const char *shown, struct err **e, const char *text, const char *form)
{
	struct gen_at at = { NULL, shown, 0 };
	char quoted[GEN_QUOTED];

	return gen_bad(&at, e, EINVAL, "schema.format", "%s is not %s", gen_quote(text, quoted),
		       form);
}

static int set_key(const struct gen_flag *f, struct json *elem, const char *shown, char *part,
		   struct err **e)
{
	const struct gen_type *t = f->field->type;
	char *eq = strchr(part, '=');
	const char *path = part, *value = "on";
	_cleanup_(freep) char *where = NULL;

	if (eq) {
		*eq = '\0';
		value = eq + 1;
	}
	for (const char *const *k = f->keys; k && *k; k += 2)
		if (streq(k[0], part))
			path = k[1];
	if (asprintf(&where, "%s: %s", shown, part) < 0) {
		where = NULL;
		return no_memory(e);
	}
	if (!gen_field_at(t, path)) {
		struct gen_at at = { NULL, where, 0 };

		return gen_unknown(t, &at, part, f->keys, e);
	}
	return gen_set_text(t, elem, path, where, value, e);
}

/* "web,ip=10.0.0.5,queues=2"; the first part may be the value of the head alone. */
static int set_kv(const struct gen_flag *f, struct json *elem, const char *shown, const char *text,
		  struct err **e)
{
	_cleanup_(freep) char *copy = strdup(text);
	char *rest = copy, *part;
	bool first = true;

	if (!copy)
		return no_memory(e);
	for (; (part = strsep(&rest, ",")); first = false) {
		int r;

		if (!*part)
			return bad(shown, e, text, "a list of KEY=VALUE");
		if (first && f->head && !strchr(part, '=')) {
			r = gen_set_text(f->field->type, elem, f->head, shown, part,
					 f->head_else ? NULL : e);
			if (r < 0 && f->head_else)
				r = gen_set_text(f->field->type, elem, f->head_else, shown, part,
						 e);
		} else {
			r = set_key(f, elem, shown, part, e);
		}
		if (r < 0)
			return r;
	}
	return 0;
}

/* "8080:80/udp", "127.0.0.1:8080:80", "[::1]:8080:80", "80" */
static int set_port(const struct gen_flag *f, struct json *elem, const char *shown,
		    const char *text, struct err **e)
{
	static const char form[] = "[IP:][HOST:]GUEST[/udp]";
	const struct gen_type *t = f->field->type;
	_cleanup_(freep) char *copy = strdup(text);
	char *guest, *host, *ip = NULL, *proto;
	int r = 0;

	if (!copy)
		return no_memory(e);
	proto = strrchr(copy, '/');
	if (proto)
		*proto++ = '\0';
	guest = strrchr(copy, ':');
	host = guest ? copy : NULL;
	if (guest) {
		*guest++ = '\0';
		host = strrchr(copy, ':');
		ip = host ? copy : NULL;
		if (host)
			*host++ = '\0';
		else
			host = copy;
	} else {
		guest = copy;
	}
	if (ip && *ip == '[') {
		size_t n = strlen(ip);

		if (ip[n - 1] != ']')
			return bad(shown, e, text, form);
		ip[n - 1] = '\0';
		ip++;
	}
	if (!*guest || (ip && !*ip))
		return bad(shown, e, text, form);
	if (ip)
		r = gen_set_text(t, elem, "host_ip", shown, ip, e);
	if (r == 0 && host && *host)
		r = gen_set_text(t, elem, "host", shown, host, e);
	if (r == 0)
		r = gen_set_text(t, elem, "guest", shown, guest, e);
	if (r == 0 && proto)
		r = gen_set_text(t, elem, "protocol", shown, proto, e);
	return r;
}

/* "data:/srv", "/host/dir:/srv:ro"; a path alone is a new volume there. */
static int set_mount(const struct gen_flag *f, struct json *elem, const char *shown,
		     const char *text, struct err **e)
{
	const struct gen_type *t = f->field->type;
	_cleanup_(freep) char *copy = strdup(text);
	char *rest = copy, *source, *target, *option;
	int r = 0;

	if (!copy)
		return no_memory(e);
	source = strsep(&rest, ":");
	target = strsep(&rest, ":");
	option = strsep(&rest, ":");
	if (rest || !*source || (option && !streq(option, "ro") && !streq(option, "rw")))
		return bad(shown, e, text, "VOLUME|DIR:PATH[:ro]");
	if (!target) {
		target = source;
		source = NULL;
	}
	if (source)
		r = gen_set_text(t, elem, "source", shown, source, e);
	if (r == 0)
		r = gen_set_text(t, elem, "type", shown,
				 source && *source == '/' ? "bind" : "volume", e);
	if (r == 0)
		r = gen_set_text(t, elem, "target", shown, target, e);
	if (r == 0 && option && streq(option, "ro"))
		r = gen_set_text(t, elem, "readonly", shown, "on", e);
	return r;
}

static int set_tmpfs(const struct gen_flag *f, struct json *elem, const char *shown,
		     const char *text, struct err **e)
{
	const struct gen_type *t = f->field->type;
	_cleanup_(freep) char *copy = strdup(text);
	char *size = copy ? strchr(copy, ':') : NULL;
	int r;

	if (!copy)
		return no_memory(e);
	if (size)
		*size++ = '\0';
	r = gen_set_text(t, elem, "type", shown, "tmpfs", e);
	if (r == 0)
		r = gen_set_text(t, elem, "target", shown, copy, e);
	if (r == 0 && size)
		r = gen_set_text(t, elem, "size", shown, size, e);
	return r;
}

/* Has this object all that it needs, and do its parts go together? */
static int check_element(const struct gen_type *t, const struct json *elem, const char *shown,
			 struct err **e)
{
	_cleanup_(freep) char *obj = calloc(1, t->size);
	int r;

	if (!obj)
		return no_memory(e);
	r = gen_parse(t, elem, shown, GEN_TRUSTED, obj, e);
	gen_done(t, obj);
	return r;
}

/* ---- setting ---- */

/* The list at the flag's path in the object, made when it is not there; NULL: out of memory. */
static struct json *list_at(const struct gen_args *a, const char *path)
{
	const struct gen_type *t = a->command->type;
	struct json *o = a->object;

	while (o) {
		size_t len = strcspn(path, ".");
		const struct gen_field *f = gen_field_find(t, path, len);
		bool last = path[len] == '\0' && f;

		for (unsigned int i = 0; !f && i < t->n; i++)
			if (t->fields[i].flags & GEN_F_HIDDEN)
				f = &t->fields[i];
		if (!f)
			return NULL; /* the schema was checked: every flag has its field */
		if (f->flags & GEN_F_HIDDEN && strncmp(f->name, path, len) != 0)
			last = false;
		else
			path += len + (path[len] == '.');
		if (!json_get(o, f->name) &&
		    json_set(o, f->name, last ? json_new_arr() : json_new_obj()) < 0)
			return NULL;
		o = json_edit(o, f->name);
		if (last)
			return o;
		t = f->type;
	}
	return NULL;
}

static int set_element(const struct reader *r, const struct gen_flag *f, const char *shown,
		       const char *text)
{
	static int (*const readers[])(const struct gen_flag *, struct json *, const char *,
				      const char *, struct err **) = {
		[GEN_SYNTAX_KV] = set_kv,
		[GEN_SYNTAX_PORT] = set_port,
		[GEN_SYNTAX_MOUNT] = set_mount,
		[GEN_SYNTAX_TMPFS] = set_tmpfs,
	};
	_cleanup_(json_freep) struct json *elem = json_new_obj();
	struct json *list = list_at(r->ret, f->path);
	int n;

	if (!list || !elem)
		return no_memory(r->e);
	if (f->none && streq(text, f->none))
		return 0; /* the empty list is there now */
	n = readers[f->syntax](f, elem, shown, text, r->e);
	if (n == 0)
		n = check_element(f->field->type, elem, shown, r->e);
	if (n == 0 && json_push(list, TAKE(elem)) < 0)
		n = no_memory(r->e);
	return n;
}

static int set_flag(const struct reader *r, const struct gen_flag *f, const char *shown,
		    const char *value)
{
	if (f->path && f->syntax != GEN_SYNTAX_VALUE)
		return set_element(r, f, shown, value);
	if (f->path)
		return gen_set_text(r->ret->command->type, r->ret->object, f->path, shown, value,
				    r->e);
	if (f->field->kind != GEN_BOOL) {
		_cleanup_(json_freep) struct json *v = NULL;
		int n = gen_value_from_text(f->field, shown, value, &v, r->e);

		if (n < 0)
			return n;
	}
	return vec_push(&r->ret->flags, (struct gen_arg){ f, value }) < 0 ? no_memory(r->e) : 0;
}

/* ---- flags ---- */

static int use(struct reader *r, const struct gen_flag *f, const char *shown, const char *value)
{
	if (!f->arg) {
		bool on = true;

		if (value && (f->value || parse_bool(value, &on) < 0))
			return err_set(r->e, EINVAL, USAGE, "%s: takes no value", shown);
		return set_flag(r, f, shown, f->value ? f->value : on ? "on" : "off");
	}
	if (!value) {
		if (r->at + 1 >= r->argc)
			return err_set(r->e, EINVAL, USAGE, "%s: needs %s", shown, f->arg);
		value = r->argv[++r->at];
	}
	return set_flag(r, f, shown, value);
}

static int long_flag(struct reader *r, const char *arg)
{
	size_t len = strcspn(arg + 2, "=");
	const char *value = arg[2 + len] ? arg + 2 + len + 1 : NULL;
	const struct gen_flag *f = find(r, by_name, arg + 2, len);
	_cleanup_(freep) char *shown = strndup(arg, len + 2);

	if (!shown)
		return no_memory(r->e);
	if (f)
		return use(r, f, shown, value);
	/* --no-x turns the switch --x off */
	if (str_starts(arg, "--no-") && !value) {
		f = find(r, by_name, arg + 5, len - 3);
		if (f && !f->arg && !f->value)
			return set_flag(r, f, shown, "off");
	}
	return unknown_flag(r, arg, len + 2);
}

/* -it, -n5, -n 5 */
static int short_flags(struct reader *r, const char *arg)
{
	for (const char *p = arg + 1; *p; p++) {
		char shown[3] = { '-', *p, '\0' };
		const struct gen_flag *f = find(r, by_letter, p, 1);
		int n;

		if (!f)
			return unknown_flag(r, shown, 2);
		n = use(r, f, shown, f->arg && p[1] ? p + 1 : NULL);
		if (n < 0 || f->arg)
			return n;
	}
	return 0;
}

/* ---- operands ---- */

static int set_operand(struct reader *r, const struct gen_operand *o, const char *arg)
{
	struct gen_args *a = r->ret;
	int n = 0;

	if (o->assign && strchr(arg, '=')) {
		_cleanup_(freep) char *path = strndup(arg, strcspn(arg, "="));

		if (!path || vec_push(&a->assigns, arg) < 0)
			return no_memory(r->e);
		return gen_set_text(a->command->type, a->object, path, path, strchr(arg, '=') + 1,
				    r->e);
	}
	if (o->path)
		n = gen_set_text(a->command->type, a->object, o->path, o->name, arg, r->e);
	if (n == 0 && vec_push(&a->operands, arg) < 0)
		n = no_memory(r->e);
	return n;
}

/* The operand that the next argument is for; NULL: none is left. */
static const struct gen_operand *next_operand(const struct reader *r, const char *arg)
{
	const struct gen_command *c = r->ret->command;
	const struct gen_operand *last = c->n_operands ? &c->operands[c->n_operands - 1] : NULL;

	if (last && last->assign && strchr(arg, '='))
		return last;
	for (unsigned int i = 0; i < c->n_operands; i++) {
		const struct gen_operand *o = &c->operands[i];

		if (o->assign)
			break;
		if (r->n_operands == i || o->repeat || o->rest)
			return o;
	}
	return NULL;
}

static int operand(struct reader *r, const char *arg)
{
	const struct gen_operand *o = next_operand(r, arg);
	int n;

	if (!o)
		return err_set(r->e, EINVAL, USAGE, "%s: is one operand too many", arg);
	n = set_operand(r, o, arg);
	if (n == 0 && !(o->assign && strchr(arg, '=')))
		r->n_operands++;
	return n;
}

static int check_operands(const struct reader *r)
{
	const struct gen_command *c = r->ret->command;

	for (unsigned int i = 0; i < c->n_operands; i++)
		if (!c->operands[i].optional && r->n_operands <= i)
			return err_set(r->e, EINVAL, USAGE, "%s is missing", c->operands[i].name);
	return 0;
}

/* ---- all of it ---- */

/* Does everything from here on belong to the last operand? */
static bool in_rest(const struct reader *r)
{
	const struct gen_command *c = r->ret->command;

	return c->n_operands && c->operands[c->n_operands - 1].rest &&
	       r->n_operands >= c->n_operands - 1;
}

static int enter(struct reader *r, const char *name)
{
	const struct gen_command *c = find_command(r->ret->command, name);

	if (!c)
		return unknown_command(r, name);
	r->ret->command = c;
	if (c->type) {
		r->ret->object = json_new_obj();
		if (!r->ret->object)
			return no_memory(r->e);
	}
	return 0;
}

static int read_args(struct reader *r)
{
	bool only_operands = false;
	int n = 0;

	for (r->at = 1; r->at < r->argc && n == 0; r->at++) {
		const char *arg = r->argv[r->at];

		if (r->ret->command->n_commands && *arg != '-')
			n = enter(r, arg);
		else if (only_operands || in_rest(r) || *arg != '-' || !arg[1])
			n = operand(r, arg);
		else if (streq(arg, "--"))
			only_operands = true;
		else if (streq(arg, "--help") || streq(arg, "-h")) {
			r->ret->help = true;
			return 0;
		} else if (arg[1] == '-')
			n = long_flag(r, arg);
		else
			n = short_flags(r, arg);
	}
	if (n < 0)
		return n;
	if (r->ret->command->n_commands)
		return err_set(r->e, EINVAL, USAGE, "a command is missing");
	return check_operands(r);
}

int gen_args_parse(const struct gen_command *root, int argc, char *const *argv,
		   struct gen_args *ret, struct err **e)
{
	struct reader r = { .root = root, .ret = ret, .e = e, .argc = argc, .argv = argv };

	memset(ret, 0, sizeof(*ret));
	ret->command = root;
	return read_args(&r);
}

void gen_args_done(struct gen_args *a)
{
	if (!a)
		return;
	json_free(TAKE(a->object));
	vec_done(&a->flags);
	vec_done(&a->operands);
	vec_done(&a->assigns);
}

/* ---- asking ---- */

const char *gen_args_each(const struct gen_args *a, const char *name, size_t *pos)
{
	while (*pos < a->flags.n) {
		const struct gen_arg *arg = &a->flags.v[(*pos)++];

		if (streq(arg->flag->name, name))
			return arg->value;
	}
	return NULL;
}

const char *gen_args_str(const struct gen_args *a, const char *name)
{
	const struct gen_flag *f = find_in(a->command, by_name, name, strlen(name));
	const char *last = NULL, *v;
	size_t pos = 0;

	while ((v = gen_args_each(a, name, &pos)))
		last = v;
	if (last || !f || !(f->field->flags & GEN_F_DEFAULT))
		return last;
	return f->field->kind == GEN_ENUM ? f->field->values->names[f->field->def] : f->field->sdef;
}

bool gen_args_on(const struct gen_args *a, const char *name)
{
	const char *v = gen_args_str(a, name);

	return v && streq(v, "on");
}

bool gen_args_given(const struct gen_args *a, const char *name)
{
	size_t pos = 0;

	return gen_args_each(a, name, &pos) != NULL;
}
