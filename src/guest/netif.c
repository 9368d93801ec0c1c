/* Interfaces from the config: by MAC, addresses, default routes, MTU.  The old ioctls do all that is needed. */
#include <arpa/inet.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <net/route.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <dirent.h>
#include <fcntl.h>
#include "base/atomicfile.h"
#include "base/str.h"
#include "guest/init.h"

struct in6_ifreq_linux { /* linux/ipv6.h, which clashes with netinet/in.h */
	struct in6_addr addr;
	uint32_t prefix;
	int index;
};
struct in6_rtmsg_linux { /* linux/ipv6_route.h */
	struct in6_addr dst, src, gateway;
	uint32_t type;
	uint16_t dst_len, src_len;
	uint32_t metric;
	unsigned long info;
	uint32_t flags;
	int index;
};

static int up(int s, const char *name, int mtu)
{
	struct ifreq r = { 0 };

	snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", name);
	if (mtu) {
		r.ifr_mtu = mtu;
		if (ioctl(s, SIOCSIFMTU, &r) < 0)
			return -errno;
	}
	if (ioctl(s, SIOCGIFFLAGS, &r) < 0)
		return -errno;
	r.ifr_flags |= IFF_UP;
	return ioctl(s, SIOCSIFFLAGS, &r) < 0 ? -errno : 0;
}

static int find_mac(const char *mac, char *name)
{
	for (int i = 0; i < 300; i++) {
		_cleanup_(closedirp) DIR *d = opendir("/sys/class/net");
		struct dirent *de;

		while (d && (de = readdir(d))) {
			_cleanup_(buf_done) struct buf text = { 0 };
			char path[320];

			snprintf(path, sizeof(path), "/sys/class/net/%s/address", de->d_name);
			if (strlen(de->d_name) < IFNAMSIZ &&
			    file_read(AT_FDCWD, path, 4096, &text, NULL) == 0 &&
			    strncasecmp(buf_str(&text), mac, strlen(mac)) == 0 &&
			    text.len == strlen(mac) + 1) {
				strcpy(name, de->d_name);
				return 0;
			}
		}
		usleep(10000);
	}
	return -ENODEV;
}

static int add_v4(int s, const char *name, size_t nth, const char *addr, unsigned int prefix)
{
	struct ifreq r = { 0 };
	struct sockaddr_in *sin = (struct sockaddr_in *)&r.ifr_addr;

	if (nth == 0)
		snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", name);
	else /* a further one needs a label of its own */
		snprintf(r.ifr_name, sizeof(r.ifr_name), "%.10s:%u", name,
			 (unsigned int)(nth % 1000));
	sin->sin_family = AF_INET;
	if (prefix > 32 || inet_pton(AF_INET, addr, &sin->sin_addr) != 1)
		return -EINVAL;
	if (ioctl(s, SIOCSIFADDR, &r) < 0)
		return -errno;
	sin->sin_addr.s_addr = prefix ? htobe32(~0U << (32 - prefix)) : 0;
	return ioctl(s, SIOCSIFNETMASK, &r) < 0 ? -errno : 0;
}

static int add_v6(int s6, const char *name, const char *addr, unsigned int prefix)
{
	struct in6_ifreq_linux r = { .prefix = prefix, .index = (int)if_nametoindex(name) };

	if (prefix > 128 || inet_pton(AF_INET6, addr, &r.addr) != 1)
		return -EINVAL;
	return ioctl(s6, SIOCSIFADDR, &r) < 0 ? -errno : 0;
}

static int add_address(int s, int s6, const char *name, size_t nth, const char *text)
{
	char addr[64];
	const char *slash = strchr(text, '/');
	uint64_t prefix;

	if (!slash || (size_t)(slash - text) >= sizeof(addr) ||
	    parse_u64(slash + 1, 128, &prefix) < 0)
		return -EINVAL;
	memcpy(addr, text, (size_t)(slash - text));
	addr[slash - text] = '\0';
	return strchr(addr, ':') ? add_v6(s6, name, addr, (unsigned int)prefix)
				 : add_v4(s, name, nth, addr, (unsigned int)prefix);
}

static int add_gateway(int s, int s6, const char *name, const char *gw)
{
	if (strchr(gw, ':')) {
		struct in6_rtmsg_linux r = { .metric = 1024,
					     .flags = RTF_UP | RTF_GATEWAY,
					     .index = (int)if_nametoindex(name) };

		if (inet_pton(AF_INET6, gw, &r.gateway) != 1)
			return -EINVAL;
		return ioctl(s6, SIOCADDRT, &r) < 0 ? -errno : 0;
	}
	{
		struct rtentry r = { .rt_flags = RTF_UP | RTF_GATEWAY,
				     .rt_dev = (char *)(uintptr_t)name };
		struct sockaddr_in *sin = (struct sockaddr_in *)&r.rt_gateway;

		r.rt_dst.sa_family = r.rt_genmask.sa_family = AF_INET;
		sin->sin_family = AF_INET;
		if (inet_pton(AF_INET, gw, &sin->sin_addr) != 1)
			return -EINVAL;
		return ioctl(s, SIOCADDRT, &r) < 0 ? -errno : 0;
	}
}

static int one_interface(int s, int s6, const struct json_in *n, struct err **e)
{
	_cleanup_(strv_freep) char **addresses = NULL, **gateways = NULL;
	const char *mac = NULL, *want = NULL;
	char name[IFNAMSIZ];
	int64_t mtu = 0;
	size_t v4 = 0;
	int r = json_need_str(n, "mac", &mac, e);

	if (r == 0)
		r = json_opt_str(n, "name", &want, e);
	if (r >= 0)
		r = json_opt_int(n, "mtu", 68, 65535, &mtu, e);
	if (r >= 0)
		r = json_opt_strv(n, "addresses", &addresses, e);
	if (r >= 0)
		r = json_opt_strv(n, "gateways", &gateways, e);
	if (r < 0)
		return r;
	r = find_mac(mac, name);
	if (r < 0)
		return err_set(e, -r, "guest.network", "there is no interface with the address %s",
			       mac);
	if (want && !streq(want, name) && strlen(want) < IFNAMSIZ) {
		struct ifreq q = { 0 };

		strcpy(q.ifr_name, name);
		strcpy(q.ifr_newname, want);
		if (ioctl(s, SIOCSIFNAME, &q) < 0)
			return err_sys(e, errno, "rename %s to %s", name, want);
		strcpy(name, want);
	}
	r = up(s, name, (int)mtu);
	if (r < 0)
		return err_sys(e, -r, "bring %s up", name);
	for (char **a = addresses; a && *a; a++) {
		r = add_address(s, s6, name, v4, *a);
		if (r < 0)
			return err_sys(e, -r, "%s: address %s", name, *a);
		v4 += !strchr(*a, ':');
	}
	for (char **g = gateways; g && *g; g++) {
		r = add_gateway(s, s6, name, *g);
		if (r < 0)
			return err_sys(e, -r, "%s: gateway %s", name, *g);
	}
	return 0;
}

int setup_network(const struct json_in *config, struct err **e)
{
	_cleanup_(closep) int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	_cleanup_(closep) int s6 = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct json_in list;
	int r;

	if (s < 0)
		return err_sys(e, errno, "network");
	up(s, "lo", 0);
	r = json_opt_arr(config, "network", &list, e);
	for (size_t i = 0; r == 1 && i < json_in_len(&list); i++) {
		struct json_in n = json_in_item(&list, i);
		int k = one_interface(s, s6, &n, e);

		if (k < 0)
			return k;
	}
	return r < 0 ? r : 0;
}
