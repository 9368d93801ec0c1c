/* The control group of a VM's monitor: CPU time by weight and limit, on cgroup v1, v2 and the hybrid of both.
 *
 * /strata/ID below the cpu controller, wherever that is mounted; made by vmgroup_make(), gone with vmgroup_remove().
 * Sources: Documentation/admin-guide/cgroup-v2.rst (cpu.max, cpu.weight), Documentation/scheduler/sched-bwc.rst (v1).
 * Thread: any. */
#ifndef NODE_ENGINE_VMGROUP_H
#define NODE_ENGINE_VMGROUP_H

#include "base/err.h"
#include "base/types.h"

struct vmgroup_limits {
	double cpus;	 /* at most so many CPUs' time; 0: no limit */
	uint64_t shares; /* weight; 1000 is everybody's */
};

/* *procs: path of the file that takes a process into the group, the caller's; NULL where this host has no cpu controller (then
 * limits that ask for something are -ENOTSUP). */
int vmgroup_make(const char *id, char **procs, struct err **e);
int vmgroup_set(const char *id, const struct vmgroup_limits *l, struct err **e);
/* Its processes have ended.  Not there: 0. */
int vmgroup_remove(const char *id, struct err **e);

#endif
