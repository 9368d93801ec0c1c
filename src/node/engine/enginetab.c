/* Every engine, in the order of preference for VMs that do not name one. */
#include "node/engine.h"
#include "node/engine/container.h"

extern const struct engine_ops engine_native, engine_qemu;

const struct engine_ops *const engine_table[] = {
	&engine_container,
	&engine_native,
	&engine_qemu,
	NULL,
};
