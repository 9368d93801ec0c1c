/* The part of a plan that only VMs have. */
#ifndef NODE_INSTANCE_PLAN_VM_H
#define NODE_INSTANCE_PLAN_VM_H

#include "node/instance/instance.h"

/* Disks of its own and the image's layers as disks; blocking, on a worker.  What is there already stays. */
int instance_make_disks(struct instance *i, struct image_op *op, struct err **e);
/* Completes a plan whose NICs and name servers are known. */
int instance_plan_vm(struct instance *i, struct engine_plan *p, struct err **e);

#endif
