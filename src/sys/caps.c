/* Capabilities; see caps.h. */
#include "sys/caps.h"

#include <errno.h>
#include <linux/capability.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef PR_CAP_AMBIENT
#define PR_CAP_AMBIENT		 47
#define PR_CAP_AMBIENT_IS_SET	 1
#define PR_CAP_AMBIENT_RAISE	 2
#define PR_CAP_AMBIENT_CLEAR_ALL 4
#endif

static const char *const names[] = { "CAP_CHOWN",
				     "CAP_DAC_OVERRIDE",
				     "CAP_DAC_READ_SEARCH",
				     "CAP_FOWNER",
				     "CAP_FSETID",
				     "CAP_KILL",
				     "CAP_SETGID",
				     "CAP_SETUID",
				     "CAP_SETPCAP",
				     "CAP_LINUX_IMMUTABLE",
				     "CAP_NET_BIND_SERVICE",
				     "CAP_NET_BROADCAST",
				     "CAP_NET_ADMIN",
				     "CAP_NET_RAW",
				     "CAP_IPC_LOCK",
				     "CAP_IPC_OWNER",
				     "CAP_SYS_MODULE",
				     "CAP_SYS_RAWIO",
				     "CAP_SYS_CHROOT",
				     "CAP_SYS_PTRACE",
				     "CAP_SYS_PACCT",
				     "CAP_SYS_ADMIN",
				     "CAP_SYS_BOOT",
				     "CAP_SYS_NICE",
				     "CAP_SYS_RESOURCE",
				     "CAP_SYS_TIME",
				     "CAP_SYS_TTY_CONFIG",
				     "CAP_MKNOD",
				     "CAP_LEASE",
				     "CAP_AUDIT_WRITE",
				     "CAP_AUDIT_CONTROL",
				     "CAP_SETFCAP",
				     "CAP_MAC_OVERRIDE",
				     "CAP_MAC_ADMIN",
				     "CAP_SYSLOG",
				     "CAP_WAKE_ALARM",
				     "CAP_BLOCK_SUSPEND",
				     "CAP_AUDIT_READ",
				     "CAP_PERFMON",
				     "CAP_BPF",
				     "CAP_CHECKPOINT_RESTORE" };

int cap_from_name(const char *name)
{
	size_t i, skip = strncasecmp(name, "CAP_", 4) == 0 ? 0 : 4;

	for (i = 0; i < ARRAY_SIZE(names); i++)
		if (strcasecmp(name, names[i] + skip) == 0)
			return (int)i;
	return -1;
}

const char *cap_to_name(int cap)
{
	return cap >= 0 && (size_t)cap < ARRAY_SIZE(names) ? names[cap] : NULL;
}

int cap_last(void)
{
	static int last = -1;
	int c;

	/* From above: nearly always the first or second try answers. */
	for (c = last >= 0 ? -1 : 63; c >= 0; c--) {
		if (prctl(PR_CAPBSET_READ, c, 0, 0, 0) >= 0) {
			last = c;
			break;
		}
	}
	return last;
}

int caps_get(struct caps *ret)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2];
	int c, last = cap_last();

	if (syscall(SYS_capget, &h, d) < 0)
		return -errno;
	ret->effective = d[0].effective | (uint64_t)d[1].effective << 32;
	ret->permitted = d[0].permitted | (uint64_t)d[1].permitted << 32;
	ret->inheritable = d[0].inheritable | (uint64_t)d[1].inheritable << 32;
	ret->bounding = ret->ambient = 0;
	for (c = 0; c <= last; c++) {
		if (prctl(PR_CAPBSET_READ, c, 0, 0, 0) == 1)
			ret->bounding |= 1ULL << c;
		if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, c, 0, 0) == 1)
			ret->ambient |= 1ULL << c;
	}
	return 0;
}

int caps_bound(uint64_t keep)
{
	int c, last = cap_last();

	for (c = 0; c <= last; c++)
		if (!(keep & 1ULL << c) && prctl(PR_CAPBSET_DROP, c, 0, 0, 0) < 0)
			return -errno;
	return 0;
}

int caps_set(uint64_t effective, uint64_t permitted, uint64_t inheritable)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2] = {
		{ (uint32_t)effective, (uint32_t)permitted, (uint32_t)inheritable },
		{ (uint32_t)(effective >> 32), (uint32_t)(permitted >> 32),
		  (uint32_t)(inheritable >> 32) },
	};

	return syscall(SYS_capset, &h, d) < 0 ? -errno : 0;
}

int caps_ambient(uint64_t want, int *bad)
{
	int c;

	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 && errno != EINVAL)
		return -errno;
	for (c = 0; c < 64; c++) {
		if (!(want & 1ULL << c))
			continue;
		if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, c, 0, 0) < 0) {
			if (bad)
				*bad = c;
			return -errno;
		}
	}
	return 0;
}
