/* Option tables: one table gives parsing, checking and help, for command lines and for "key=value,flag" lists.
 *
 *	struct cfg { char *kernel; uint64_t memory; bool verbose; opt_list disks; };
 *	static const struct opt opts[] = {
 *		OPT(struct cfg, kernel, STR, "kernel", 0, "FILE", "kernel image"),
 *		OPT(struct cfg, memory, SIZE, "memory", 'm', "SIZE", "guest memory", .min = 1 << 20),
 *		OPT(struct cfg, disks, LIST, "disk", 0, "path=P,...", "a disk; may be repeated"),
 *		OPT(struct cfg, verbose, FLAG, "verbose", 'v', NULL, "say more"),
 *		OPT_END
 *	};
 *
 * Strings are owned by the target struct (strdup); opt_done() frees what the table set.  Errors name the option and
 * what was wrong, with a near miss where there is one: "--memroy: unknown option; did you mean '--memory'?". */
#ifndef BASE_OPT_H
#define BASE_OPT_H

#include "base/buf.h"
#include "base/err.h"
#include "base/vec.h"

enum opt_kind {
	OPT_K_FLAG,	/* bool; "--x", "--no-x", "--x=on|off" */
	OPT_K_STR,	/* char * */
	OPT_K_U64,	/* uint64_t in [min, max]; max 0 means no upper bound */
	OPT_K_I64,	/* int64_t in [(int64_t)min, (int64_t)max] */
	OPT_K_SIZE,	/* uint64_t bytes in [min, max], "512M" */
	OPT_K_DURATION, /* nsec_t, "30s" */
	OPT_K_ENUM,	/* int: index into choices */
	OPT_K_LIST,	/* opt_list: one entry a use */
};

typedef VEC(char *) opt_list; /* owned strings */

struct opt {
	const char *name; /* long name without dashes; NULL ends the table */
	char letter;	  /* 0: none */
	enum opt_kind kind;
	size_t offset;
	const char *arg;  /* shown in help; NULL for flags */
	const char *help; /* one line */
	uint64_t min, max;
	const char *const *choices; /* NULL-terminated, OPT_K_ENUM */
};

#define OPT(T, f, k, n, l, a, h, ...)                                                    \
	{                                                                                \
		.name = (n), .letter = (l), .kind = OPT_K_##k, .offset = offsetof(T, f), \
		.arg = (a), .help = (h), __VA_ARGS__                                     \
	}
#define OPT_END              \
	{                    \
		.name = NULL \
	}

/* Reads argv[1..], options and operands in any order up to "--".  Operands are gathered at the front of argv
 * (argv[1..n]); returns their number n, or -EINVAL with e set.  With stop_at_operand the first operand ends the
 * options (for "run IMAGE COMMAND --its-own-flag"). */
int opt_parse(const struct opt *table, void *target, int argc, char **argv, bool stop_at_operand,
	      struct err **e);
/* "path=a.img,readonly,format=raw"; a comma inside a value is written twice. */
int opt_parse_kv(const struct opt *table, void *target, const char *text, struct err **e);
/* One option by name, as opt_parse_kv does. */
int opt_set(const struct opt *table, void *target, const char *name, const char *value,
	    struct err **e);
/* Frees strings and lists that the table points to and zeroes them. */
void opt_done(const struct opt *table, void *target);
/* The help lines of a table, wrapped at `width` columns. */
void opt_help(const struct opt *table, size_t width, struct buf *out);

/* The entry of `names` nearest to s by edit distance, or NULL when none is near; for "did you mean". */
const char *near_miss(const char *s, const char *const *names, size_t n);

#endif
