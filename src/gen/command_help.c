/* Help of commands. */
#include "base/types.h"
#include "gen/command.h"
#include "gen/object_int.h"

#define LEFT_MAX 28 /* columns of flags before their help */

/* text from column `at` (where the line already is), wrapped and indented to `indent`. */
static void wrap(const char *text, size_t at, size_t indent, size_t width, struct buf *out)
{
	size_t col = at;

	while (*text) {
		size_t n = strcspn(text, " ");

		if (col > indent && col + 1 + n > width) {
			buf_addf(out, "\n%*s", (int)indent, "");
			col = indent;
		} else if (col > indent) {
			buf_addc(out, ' ');
			col++;
		}
		buf_add(out, text, n);
		col += n;
		text += n;
		text += strspn(text, " ");
	}
	buf_addc(out, '\n');
}

static void row(const char *left, const char *right, size_t indent, size_t width, struct buf *out)
{
	size_t n = 2 + strlen(left);

	buf_addf(out, "  %s", left);
	if (n + 2 > indent) {
		buf_addf(out, "\n%*s", (int)indent, "");
		n = indent;
	} else {
		buf_addf(out, "%*s", (int)(indent - n), "");
	}
	wrap(right, indent, indent, width, out);
}

static const char *flag_left(const struct gen_flag *f, struct buf *b)
{
	buf_clear(b);
	if (f->letter)
		buf_addf(b, "-%c, ", f->letter);
	else
		buf_adds(b, "    ");
	buf_addf(b, "--%s", f->name);
	if (f->arg)
		buf_addf(b, " %s", f->arg);
	return buf_str(b);
}

static void groups(const struct gen_command *c, size_t width, struct buf *out)
{
	_cleanup_(buf_done) struct buf left = { 0 };

	for (unsigned int g = 0; g < c->n_groups; g++) {
		size_t indent = 0;

		for (unsigned int i = 0; i < c->groups[g].n; i++) {
			size_t n = strlen(flag_left(&c->groups[g].flags[i], &left)) + 4;

			if (n <= LEFT_MAX)
				indent = MAX(indent, n);
		}
		indent = MAX(indent, (size_t)16);
		buf_addf(out, "\n%s:\n", c->groups[g].title);
		for (unsigned int i = 0; i < c->groups[g].n; i++) {
			const struct gen_flag *f = &c->groups[g].flags[i];

			row(flag_left(f, &left), f->help, indent, width, out);
		}
	}
}

void gen_command_help(const struct gen_command *root, const struct gen_command *c, size_t width,
		      struct buf *out)
{
	buf_addf(out, "Usage: %s\n\n", c->usage);
	buf_addf(out, "%s%c%s.\n", c == root ? "Strata: " : "",
		 c == root ? c->help[0] : c->help[0] - 'a' + 'A', c->help + 1);
	if (c->text) {
		buf_addc(out, '\n');
		wrap(c->text, 0, 0, width, out);
	}
	if (c->n_commands) {
		buf_adds(out, "\nCommands:\n");
		for (unsigned int i = 0; i < c->n_commands; i++)
			row(c->commands[i].name, c->commands[i].help, 15, width, out);
	}
	groups(c, width, out);
	if (c != root && c->n_commands == 0)
		groups(root, width, out);
	if (c->n_examples)
		buf_adds(out, "\nExamples:\n");
	for (unsigned int i = 0; i < c->n_examples; i++) {
		if (*c->examples[i].what)
			buf_addf(out, "  # %s\n", c->examples[i].what);
		buf_addf(out, "  %s\n", c->examples[i].command);
	}
	if (c->n_commands)
		buf_addf(out, "\n'%s%s%s COMMAND --help' tells more.\n", root->name,
			 *c->words ? " " : "", c->words);
}
