/* Tap devices, see tap.h. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "base/str.h"
#include "sys/netns.h"
#include "sys/tap.h"

#define VNET_HDR_LEN 12 /* struct virtio_net_hdr_v1 */

static int open_queue(const struct tap_cfg *cfg, bool first, struct err **e)
{
	_cleanup_(closep) int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int len = VNET_HDR_LEN;

	if (fd < 0)
		return err_sys(e, errno, "open /dev/net/tun");
	if (cfg->queues > 1)
		ifr.ifr_flags |= IFF_MULTI_QUEUE;
	memcpy(ifr.ifr_name, cfg->name, strlen(cfg->name));
	if (first && cfg->new_index) {
		ifr.ifr_flags |= IFF_TUN_EXCL;
		if (ioctl(fd, TUNSETIFINDEX, &cfg->new_index) < 0)
			return err_sys(e, errno, "tap '%s': set index", cfg->name);
	}
	if (ioctl(fd, TUNSETIFF, &ifr) < 0)
		return err_sys(e, errno, "attach to tap '%s'", cfg->name);
	if (ioctl(fd, TUNSETVNETHDRSZ, &len) < 0)
		return err_sys(e, errno, "tap '%s': set header size", cfg->name);
	if (first && cfg->uid >= 0 && ioctl(fd, TUNSETOWNER, (unsigned long)cfg->uid) < 0)
		return err_sys(e, errno, "tap '%s': set owner", cfg->name);
	if (first && ioctl(fd, TUNSETPERSIST, cfg->persistent ? 1UL : 0UL) < 0)
		return err_sys(e, errno, "tap '%s': set persistence", cfg->name);
	return TAKE_FD(fd);
}

int tap_open(const struct tap_cfg *cfg, int *fds, struct err **e)
{
	struct netns_saved saved = { .fd = -1 };
	unsigned int n = 0;
	int r = 0;

	if (cfg->queues < 1 || cfg->queues > TAP_QUEUES_MAX)
		return err_set(e, EINVAL, "net.queues",
			       "tap '%s': %u queues, from 1 to %d are possible", cfg->name,
			       cfg->queues, TAP_QUEUES_MAX);
	if (!*cfg->name || strlen(cfg->name) >= IFNAMSIZ)
		return err_set(e, EINVAL, "net.name", "'%s' cannot name a device", cfg->name);
	if (cfg->netns_fd >= 0) {
		r = netns_enter(cfg->netns_fd, &saved, e);
		if (r < 0)
			return r;
	}
	for (; n < cfg->queues && r >= 0; n++) {
		r = open_queue(cfg, n == 0, e);
		if (r < 0)
			break;
		fds[n] = r;
	}
	if (saved.fd >= 0)
		netns_leave(&saved);
	if (r < 0) {
		while (n > 0)
			safe_close(fds[--n]);
		return r;
	}
	return 0;
}

int tap_create(const struct tap_cfg *cfg, struct err **e)
{
	struct tap_cfg c = *cfg;
	int fds[TAP_QUEUES_MAX], r;

	c.persistent = true;
	r = tap_open(&c, fds, e);
	if (r < 0)
		return r;
	for (unsigned int i = 0; i < c.queues; i++)
		safe_close(fds[i]);
	return 0;
}
