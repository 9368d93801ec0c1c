/* The daemon's configuration: /etc/strata/stratad.yaml by schema/config.json. */
#ifndef NODE_CONFIG_H
#define NODE_CONFIG_H

#include "gen/config.h"

#define CONFIG_PATH "/etc/strata/stratad.yaml"

/* path NULL: CONFIG_PATH, which need not exist.  Errors name file, path and rule; on failure ret is all zero. */
int config_load(const char *path, struct cfg_stratad *ret, struct err **e);

#endif
