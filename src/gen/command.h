/* Commands, flags and operands of a command line: schema/cli.json through gen/cli.h.
 *
 *	struct gen_args a;
 *	if (gen_args_parse(&cli_root, argc, argv, &a, e) < 0)	"--cpus: 5000 is above the maximum 1024"
 *		return 2;
 *	a.command->name, a.object (a JSON tree of what flags and operands set, for the request's body),
 *	gen_args_str(&a, "output"), gen_args_on(&a, "detach"), a.operands, a.assigns
 *
 * Flags that set a field of the command's object are checked by that field's rules and end up in a.object; the
 * command's own flags are asked for by name.  Thread: one at a time. */
#ifndef GEN_COMMAND_H
#define GEN_COMMAND_H

#include "gen/object.h"
#include "gen/route.h"

enum gen_syntax {
	GEN_SYNTAX_VALUE,
	GEN_SYNTAX_KV,	  /* VALUE,KEY=VALUE,... : an element of a list of objects */
	GEN_SYNTAX_PORT,  /* [IP:][HOST:]GUEST[/udp] */
	GEN_SYNTAX_MOUNT, /* VOLUME|DIR:PATH[:ro] */
	GEN_SYNTAX_TMPFS, /* PATH[:SIZE] */
};

struct gen_flag {
	const char *name; /* without dashes */
	const char *arg;  /* as help shows it; NULL: a switch */
	const char *help; /* with values, unit and default */
	char letter;	  /* 0: none */
	enum gen_syntax syntax;
	const char *path;  /* field that it sets; NULL: the command's own */
	const char *value; /* what a switch sets it to; NULL: on */
	const char *head,
		*head_else; /* KV: field of a leading part without '='; what if it does not fit */
	const char *none;   /* KV: this word empties the list */
	const char *const *keys; /* KV: short, field, short, field, ... NULL */
	const char *complete;	 /* what a shell offers: "instance", "file", ...; NULL: nothing */
	const struct gen_field *field; /* kind and rules of the value */
};

struct gen_flag_group {
	const char *title;
	const struct gen_flag *flags;
	unsigned int n;
};

struct gen_operand {
	const char *name, *kind; /* kind: what a shell offers */
	const char *path;	 /* field of the object that it sets; NULL: only in operands */
	bool optional, repeat;
	bool rest;   /* takes all that follows, flags of others included */
	bool assign; /* FIELD=VALUE, set in the object by gen_set_text() */
};

struct gen_example {
	const char *command, *what;
};

struct gen_command {
	const char *name, *words;	 /* "ls", "image ls"; of the root: "strata", "" */
	const char *usage, *help, *text; /* text: NULL or a paragraph */
	const struct gen_type *type;	 /* of the object; NULL: none */
	const struct gen_route *route;	 /* what it calls; NULL: it is written by hand */
	int hand;			 /* enum cli_hand */
	const struct gen_flag_group *groups;
	const struct gen_operand *operands;
	const struct gen_example *examples;
	const struct gen_command *commands;
	unsigned int n_groups, n_operands, n_examples, n_commands;
};

/* How tables show objects of a type. */
struct gen_column {
	const char *name; /* heading */
	const char *path; /* "spec.cpu.count"; through lists: of every element */
	enum gen_kind kind;
	bool wide; /* only in wide tables */
};
struct gen_columns {
	const struct gen_type *type;
	const struct gen_column *v;
	unsigned int n;
};

struct gen_arg {
	const struct gen_flag *flag;
	const char *value; /* borrowed from argv; switches: "on" or "off" */
};

struct gen_args {
	const struct gen_command *command;
	bool help;	     /* --help was there: nothing else was checked */
	struct json *object; /* NULL when the command has no type */
	VEC(struct gen_arg) flags;
	VEC(const char *)
	operands; /* those without a field, and those with one too, in order; borrowed from argv */
	VEC(const char *) assigns; /* FIELD=VALUE, already in object; borrowed from argv */
};

/* argv[0] is skipped.  -EINVAL: the user's mistake, ids cli.usage and schema.*; the message starts with the flag or
 * operand.  ret->command is the one that the mistake is in (never NULL), so that its usage can be shown; release
 * with gen_args_done() in either case. */
int gen_args_parse(const struct gen_command *root, int argc, char *const *argv,
		   struct gen_args *ret, struct err **e);
void gen_args_done(struct gen_args *a); /* NULL or twice: no effect */

/* The command's own flags.  The name must be one of the command's (or the root's). */
const char *gen_args_str(const struct gen_args *a,
			 const char *name); /* the last; else the default; else NULL */
bool gen_args_on(const struct gen_args *a, const char *name);
bool gen_args_given(const struct gen_args *a, const char *name);
/* Every value of a repeated flag, one a call: start with *pos = 0; NULL ends. */
const char *gen_args_each(const struct gen_args *a, const char *name, size_t *pos);

/* Usage, text, commands, flags and examples, wrapped at `width` columns. */
void gen_command_help(const struct gen_command *root, const struct gen_command *c, size_t width,
		      struct buf *out);

#endif
