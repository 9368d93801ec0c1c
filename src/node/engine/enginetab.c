/* Every engine, in the order of preference for VMs that do not name one. */
#include "node/engine.h"

extern const struct engine_ops engine_qemu;

const struct engine_ops *const engine_table[] = {
	&engine_qemu,
	NULL,
};
