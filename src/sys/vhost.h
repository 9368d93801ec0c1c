/* vhost: virtqueues served by the kernel (/dev/vhost-net, /dev/vhost-vsock).   Spec: linux/vhost.h. */
#ifndef SYS_VHOST_H
#define SYS_VHOST_H

#include "base/err.h"

struct vhost_region {
	uint64_t gpa, size;
	void *host;
};

struct vhost_ring {
	unsigned int index;
	uint16_t size, base; /* base: where the available ring goes on */
	void *desc, *avail, *used;
	int kick, call; /* eventfds, borrowed */
};

/* Opens and owns it.  -ENOENT, -ENODEV: this host has none. */
int vhost_open(const char *path, struct err **e);
int vhost_features(int fd, uint64_t *ret);
int vhost_set_features(int fd, uint64_t features, struct err **e);
int vhost_set_memory(int fd, const struct vhost_region *r, unsigned int n, struct err **e);
int vhost_set_ring(int fd, const struct vhost_ring *r, struct err **e);
/* Where the ring stands; it must be stopped. */
int vhost_get_base(int fd, unsigned int index, uint16_t *ret);
/* backend -1: stop. */
int vhost_net_set_backend(int fd, unsigned int index, int backend);
int vhost_vsock_set_cid(int fd, uint64_t cid, struct err **e);
int vhost_vsock_set_running(int fd, bool on);

#endif
