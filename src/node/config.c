/* The configuration; see config.h. */
#include "node/config.h"

#include <unistd.h>
#include "ext/yaml.h"

int config_load(const char *path, struct cfg_stratad *ret, struct err **e)
{
	const char *file = path ? path : CONFIG_PATH;
	_cleanup_(json_freep) struct json *j = NULL;
	int r = 0;

	if (!path && access(file, F_OK) < 0 && errno == ENOENT)
		return cfg_stratad_init(ret);
	r = yaml_parse_file(file, NULL, &j, e); /* names the file by itself */
	if (r < 0)
		return r;
	if (json_kind(j) == JSON_K_NULL) /* nothing but comments */
		return cfg_stratad_init(ret);
	/* fields at the top are named as they stand in the file */
	r = gen_parse(&cfg_stratad_type, j, "stratad", GEN_CREATE, ret, e);
	return r < 0 ? err_wrap(e, r, "%s", file) : 0;
}
