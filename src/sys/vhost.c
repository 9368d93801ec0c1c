/* vhost ioctls: see vhost.h. */
#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include "base/cleanup.h"
#include "sys/vhost.h"

int vhost_open(const char *path, struct err **e)
{
	_cleanup_(closep) int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return err_sys(e, errno, "open %s", path);
	if (ioctl(fd, VHOST_SET_OWNER) < 0)
		return err_sys(e, errno, "own %s", path);
	return TAKE_FD(fd);
}

int vhost_features(int fd, uint64_t *ret)
{
	__u64 f;

	if (ioctl(fd, VHOST_GET_FEATURES, &f) < 0)
		return -errno;
	*ret = f;
	return 0;
}

int vhost_set_features(int fd, uint64_t features, struct err **e)
{
	__u64 f = features;

	return ioctl(fd, VHOST_SET_FEATURES, &f) < 0 ? err_sys(e, errno, "set vhost features") : 0;
}

int vhost_set_memory(int fd, const struct vhost_region *r, unsigned int n, struct err **e)
{
	_cleanup_(freep) struct vhost_memory *m = calloc(1, sizeof(*m) + n * sizeof(m->regions[0]));

	if (!m)
		return err_set(e, ENOMEM, "vmm.memory", "out of memory for vhost");
	m->nregions = n;
	for (unsigned int i = 0; i < n; i++)
		m->regions[i] =
			(struct vhost_memory_region){ .guest_phys_addr = r[i].gpa,
						      .memory_size = r[i].size,
						      .userspace_addr = (uintptr_t)r[i].host };
	return ioctl(fd, VHOST_SET_MEM_TABLE, m) < 0 ? err_sys(e, errno, "give memory to vhost")
						     : 0;
}

int vhost_set_ring(int fd, const struct vhost_ring *r, struct err **e)
{
	struct vhost_vring_state num = { r->index, r->size }, base = { r->index, r->base };
	struct vhost_vring_file kick = { r->index, r->kick }, call = { r->index, r->call };
	struct vhost_vring_addr addr = {
		.index = r->index,
		.desc_user_addr = (uintptr_t)r->desc,
		.avail_user_addr = (uintptr_t)r->avail,
		.used_user_addr = (uintptr_t)r->used,
	};

	if (ioctl(fd, VHOST_SET_VRING_NUM, &num) < 0 ||
	    ioctl(fd, VHOST_SET_VRING_BASE, &base) < 0 ||
	    ioctl(fd, VHOST_SET_VRING_ADDR, &addr) < 0 ||
	    ioctl(fd, VHOST_SET_VRING_KICK, &kick) < 0 ||
	    ioctl(fd, VHOST_SET_VRING_CALL, &call) < 0)
		return err_sys(e, errno, "set up vhost ring %u", r->index);
	return 0;
}

int vhost_get_base(int fd, unsigned int index, uint16_t *ret)
{
	struct vhost_vring_state s = { index, 0 };

	if (ioctl(fd, VHOST_GET_VRING_BASE, &s) < 0)
		return -errno;
	*ret = (uint16_t)s.num;
	return 0;
}

int vhost_net_set_backend(int fd, unsigned int index, int backend)
{
	struct vhost_vring_file f = { index, backend };

	return ioctl(fd, VHOST_NET_SET_BACKEND, &f) < 0 ? -errno : 0;
}

int vhost_vsock_set_cid(int fd, uint64_t cid, struct err **e)
{
	__u64 c = cid;

	if (ioctl(fd, VHOST_VSOCK_SET_GUEST_CID, &c) < 0)
		return errno == EADDRINUSE
			       ? err_set(e, EADDRINUSE, "vsock.cid_in_use", "cid %llu is in use",
					 (unsigned long long)cid)
			       : err_sys(e, errno, "set vsock cid %llu", (unsigned long long)cid);
	return 0;
}

int vhost_vsock_set_running(int fd, bool on)
{
	int v = on;

	return ioctl(fd, VHOST_VSOCK_SET_RUNNING, &v) < 0 ? -errno : 0;
}
