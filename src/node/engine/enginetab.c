/* Every engine, in the order of preference for VMs that do not name one. */
#include "node/engine.h"

const struct engine_ops *const engine_table[] = {
	NULL,
};
