/* Tap devices: what a VM's network card is connected to on the host.  Spec: Documentation/networking/tuntap. */
#ifndef SYS_TAP_H
#define SYS_TAP_H

#include "base/err.h"

#define TAP_QUEUES_MAX 64

struct tap_cfg {
	const char *name;
	unsigned int queues; /* 1 to TAP_QUEUES_MAX */
	bool persistent;     /* survives the last close: a VM may come and go */
	int uid;	     /* who may open it besides root; -1: nobody */
	int netns_fd;	     /* where the device lives; -1: the thread's own namespace */
	int new_index;	     /* not 0: the device must not be there yet, and gets this index */
};

/* Make the device when it is not there, else attach to it; fds gets cfg->queues descriptors (non-blocking,
 * close-on-exec), each with virtio headers of 12 bytes on.  Offloads stay off until the guest's driver has
 * negotiated them and the user of the fd says so (TUNSETOFFLOAD).  On failure nothing is left open.
 * -EBUSY: another program has the queues. */
int tap_open(const struct tap_cfg *cfg, int *fds, struct err **e);
/* Make a persistent device without keeping it open. */
int tap_create(const struct tap_cfg *cfg, struct err **e);

#endif
