/* Printing what the API answered: as a table, as names, or whole as JSON or YAML. */
#ifndef CLI_OUTPUT_H
#define CLI_OUTPUT_H

#include "cli/cli.h"
#include "ext/table.h"

/* A column: heading, the path of its value ("status.state"), and how to show it. */
struct column {
	const char *name, *path;
	enum {
		SHOW_TEXT, /* strings, numbers, booleans; lists joined by commas */
		SHOW_SIZE, /* bytes */
		SHOW_AGE,  /* a time, as "3h ago" */
		SHOW_ID,   /* its first 12 characters; whole in wide tables */
	} show;
	int flags; /* TABLE_RIGHT, TABLE_CUT */
	bool wide; /* only in wide tables */
};

/* items: an array of objects. */
int output_list(struct cli *cli, const struct json *items, const struct column *columns, size_t n,
		struct err **e);
/* One object: YAML unless -o json or name. */
int output_object(struct cli *cli, const struct json *object, struct err **e);

#endif
