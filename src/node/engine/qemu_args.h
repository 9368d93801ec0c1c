/* QEMU's command line from a plan.  Nothing is opened but what QEMU opens itself; descriptors are named by number. */
#ifndef NODE_ENGINE_QEMU_ARGS_H
#define NODE_ENGINE_QEMU_ARGS_H

#include "node/engine/vm.h"

/* kvm: with hardware virtualization, else emulated.  dir: the instance's folder.  -ENOTSUP: the plan asks for what QEMU here has not. */
int qemu_args(const struct engine_plan *p, const char *id, const char *dir, bool kvm,
	      const struct vm_sockets *s, struct vm_command *ret, struct err **e);

/* Limits of a disk as the "limits" property of a throttle group; the caller's.  Source: QEMU qapi/block-core.json, ThrottleLimits. */
struct json *qemu_throttle(const struct api_disk_limits *l);

#endif
