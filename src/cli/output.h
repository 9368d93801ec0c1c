/* Printing what the API answered, as -o, --format, --filter and -q say. */
#ifndef CLI_OUTPUT_H
#define CLI_OUTPUT_H

#include "cli/cli.h"
#include "ext/table.h"

/* items: an array of objects of type t. */
int output_list(struct cli *cli, const struct gen_type *t, const struct json *items,
		struct err **e);
/* One object: YAML unless -o or --format says otherwise. */
int output_object(struct cli *cli, const struct json *object, struct err **e);
/* What people call it: name, first of names, version, id. */
const char *output_name(const struct json *object);
/* "status.state", "kind" (spec may be left out), "status.nics.0.mac", "status.nics.addresses" (of all elements) as text. */
void output_field(const struct json *object, const char *path, struct buf *out);

#endif
