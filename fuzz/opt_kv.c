/* "key=value,flag" lists and command lines from hostile text. */
#include <stdlib.h>
#include <string.h>
#include "base/opt.h"
#include "base/str.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct cfg {
	char *path;
	uint64_t size, n;
	int64_t i;
	nsec_t t;
	int format;
	bool ro;
	opt_list list;
};

static const char *const formats[] = { "raw", "qcow2", NULL };
static const struct opt opts[] = {
	OPT(struct cfg, path, STR, "path", 'p', "P", "path"),
	OPT(struct cfg, size, SIZE, "size", 's', "SIZE", "size", .min = 1, .max = 1 << 20),
	OPT(struct cfg, n, U64, "n", 'n', "N", "number"),
	OPT(struct cfg, i, I64, "int", 'i', "N", "signed"),
	OPT(struct cfg, t, DURATION, "time", 't', "T", "duration"),
	OPT(struct cfg, format, ENUM, "format", 'f', "F", "format", .choices = formats),
	OPT(struct cfg, ro, FLAG, "readonly", 'r', NULL, "read only"),
	OPT(struct cfg, list, LIST, "add", 'a', "X", "list"),
	OPT_END
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(err_freep) struct err *e = NULL, *e2 = NULL;
	char *text = strndup((const char *)data, size);
	char *argv[18] = { (char *)"prog" };
	struct cfg c = { 0 };
	char **words;
	int argc = 1;

	opt_parse_kv(opts, &c, text, &e);
	opt_done(opts, &c);
	words = strv_split(text, " ");
	for (char **w = words; w && *w && argc < 17; w++)
		argv[argc++] = *w;
	opt_parse(opts, &c, argc, argv, size & 1, &e2);
	opt_done(opts, &c);
	strv_free(words);
	free(text);
	return 0;
}
