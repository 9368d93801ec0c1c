/* See cli.h. */
#include <string.h>
#include "base/clock.h"
#include "base/str.h"
#include "storage/cli.h"

const char *const out_choices[] = { "table", "json", NULL };
const char *const provision_choices[] = { "thin", "lazy", "eager", NULL };

int cli_operands(const struct opt *table, void *target, int argc, char **argv, int min, int max,
		 struct err **e)
{
	int n = opt_parse(table, target, argc, argv, false, e);

	if (n < 0)
		return n;
	if (n < min || n > max)
		return err_set(e, EINVAL, "usage", "%s: %s operands; see strata-disk help %s",
			       argv[0], n < min ? "missing" : "too many", argv[0]);
	return n;
}

int cli_open(const char *path, const char *format, bool readonly, bool shared, struct disk **ret,
	     struct err **e)
{
	struct disk_cfg cfg = {
		.path = path, .format = format, .readonly = readonly, .no_lock = shared
	};

	return disk_open(&cfg, ret, e);
}

int cli_params(const opt_list *in, const char ***ret, struct err **e)
{
	VEC(const char *) v = { 0 };

	for (size_t i = 0; i < in->n; i++) {
		_cleanup_(strv_freep) char **parts = strv_split(in->v[i], ",");

		for (char **p = parts; p && *p; p++) {
			char *eq = strchr(*p, '=');

			if (!eq) {
				vec_done(&v);
				return err_set(e, EINVAL, "usage", "-o %s: expected name=value",
					       *p);
			}
			if (vec_push(&v, strndup(*p, (size_t)(eq - *p))) < 0 ||
			    vec_push(&v, strdup(eq + 1)) < 0)
				return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
		}
	}
	if (vec_push(&v, NULL) < 0)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	*ret = v.v;
	return 0;
}

void cli_params_free(const char **v)
{
	for (const char **p = v; p && *p; p++)
		free((char *)(uintptr_t)*p);
	free(v);
}

void cli_progress(void *arg, uint64_t done, uint64_t total)
{
	static nsec_t last;
	char text[41];
	unsigned int full = total ? (unsigned int)(done * 40 / total) : 40;

	if (!isatty(2) || (done < total && now_mono() - last < 100 * NSEC_PER_MSEC))
		return;
	last = now_mono();
	memset(text, '.', 40);
	memset(text, '#', MIN(full, 40U));
	text[40] = '\0';
	fprintf(stderr, "\r%s [%s] %3u %%%s", (const char *)arg, text,
		total ? (unsigned int)(done * 100 / total) : 100, done >= total ? "\n" : "");
}

const char *cli_format_of_name(const char *path)
{
	if (str_ends(path, ".qcow2"))
		return "qcow2";
	if (str_ends(path, ".raw") || str_ends(path, ".img") || str_starts(path, "/dev/"))
		return "raw";
	return NULL;
}
