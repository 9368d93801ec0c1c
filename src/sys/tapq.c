/* The queues of a tap device: see tapq.h. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include "base/cleanup.h"
#include "sys/tapq.h"

static int set_header(int fd, struct err **e)
{
	int len = TAPQ_HEADER;

	return ioctl(fd, TUNSETVNETHDRSZ, &len) < 0
		       ? err_sys(e, errno, "set the header size of a tap")
		       : 0;
}

int tapq_open(const char *name, bool multi, struct err **e)
{
	_cleanup_(closep) int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int r;

	if (fd < 0)
		return err_sys(e, errno, "open /dev/net/tun");
	if (!*name || strlen(name) >= IFNAMSIZ)
		return err_set(e, EINVAL, "net.name", "'%s' cannot name a device", name);
	if (multi)
		ifr.ifr_flags |= IFF_MULTI_QUEUE;
	memcpy(ifr.ifr_name, name, strlen(name));
	if (ioctl(fd, TUNSETIFF, &ifr) < 0)
		return errno == EBUSY
			       ? err_set(e, EBUSY, "net.tap_busy", "tap '%s' is in use", name)
			       : err_sys(e, errno, "attach to tap '%s'%s", name,
					 multi ? " with several queues" : "");
	r = set_header(fd, e);
	return r < 0 ? r : TAKE_FD(fd);
}

int tapq_adopt(int fd, bool *is_tap, struct err **e)
{
	struct ifreq ifr = { 0 };
	int type, flags = fcntl(fd, F_GETFL);
	socklen_t len = sizeof(type);

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return err_sys(e, errno, "set up network descriptor %d", fd);
	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0) {
		*is_tap = false;
		return type == SOCK_DGRAM || type == SOCK_SEQPACKET
			       ? 0
			       : err_set(e, EINVAL, "net.fd",
					 "network descriptor %d keeps no packets apart", fd);
	}
	*is_tap = true;
	if (ioctl(fd, TUNGETIFF, &ifr) < 0)
		return err_sys(e, errno, "descriptor %d is no tap", fd);
	if (!(ifr.ifr_flags & IFF_TAP) || !(ifr.ifr_flags & IFF_VNET_HDR) ||
	    !(ifr.ifr_flags & IFF_NO_PI))
		return err_set(e, EINVAL, "net.fd",
			       "tap '%.*s' was not opened with IFF_TAP, IFF_NO_PI and IFF_VNET_HDR",
			       IFNAMSIZ, ifr.ifr_name);
	return set_header(fd, e);
}

int tapq_set_offload(int fd, unsigned int flags)
{
	return ioctl(fd, TUNSETOFFLOAD, (unsigned long)flags) < 0 ? -errno : 0;
}

int tapq_enable(int fd, bool on)
{
	struct ifreq ifr = { .ifr_flags = on ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE };

	return ioctl(fd, TUNSETQUEUE, &ifr) < 0 ? -errno : 0;
}
