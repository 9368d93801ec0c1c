/* YAML as another spelling of JSON values.  The one file that knows libyaml is yaml.c.
 *
 * Reading: YAML 1.2, core schema: plain null, true, 12, 0o17, 0x1f, 1.5 are typed, quoted text is a string; the
 * words yes, no, on and off are strings.  Keys are text.  Refused, with line and column: duplicate keys, merge
 * keys (<<), keys that are not scalars, tags other than the core ones, .inf and .nan, integers beyond 64 bits,
 * NUL.  Aliases are expanded and their copies count against limits->values, so that a "billion laughs" document
 * ends early.
 * Ownership, thread and limits: as in ext/json.h. */
#ifndef EXT_YAML_H
#define EXT_YAML_H

#include "ext/json.h"

/* One document; an empty text is null.  -EINVAL "yaml.syntax": "line 3, column 7: ..."; -E2BIG "yaml.limit"; -ENOMEM.
 * limits NULL: 4 MiB, 64 levels, 256 Ki values. */
int yaml_parse(const char *text, size_t len, const struct json_limits *limits, struct json **ret,
	       struct err **e);
/* All documents of a stream as an array (separated by "---"); empty ones are left out. */
int yaml_parse_all(const char *text, size_t len, const struct json_limits *limits,
		   struct json **ret, struct err **e);
int yaml_parse_file(const char *path, const struct json_limits *limits, struct json **ret,
		    struct err **e);

/* Appends v as a block-style document that yaml_parse() and YAML 1.1 readers take for the same value.  -ENOMEM. */
int yaml_print(const struct json *v, struct buf *b);

#endif
