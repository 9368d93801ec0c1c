/* The OCI configuration of a plan.                     Spec: OCI runtime-spec 1.1 config.md, config-linux.md
 *
 * Written as text, not as a tree: a start makes one of these and nobody edits it.  Masked and read-only paths, the usual
 * capabilities and the refused system calls are what an untrusted program must not have; `privileged` lifts them all. */
#include "node/engine/container.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include "base/str.h"
#include "node/host.h"

#define CPU_PERIOD 100000 /* us */

static const char *const usual_caps[] = {
	"CHOWN",   "DAC_OVERRIDE",     "FOWNER",  "FSETID",	"KILL",	 "SETGID",  "SETUID",
	"SETPCAP", "NET_BIND_SERVICE", "NET_RAW", "SYS_CHROOT", "MKNOD", "SETFCAP", "AUDIT_WRITE",
};
static const char *const all_caps[] = {
	"CHOWN",
	"DAC_OVERRIDE",
	"DAC_READ_SEARCH",
	"FOWNER",
	"FSETID",
	"KILL",
	"SETGID",
	"SETUID",
	"SETPCAP",
	"LINUX_IMMUTABLE",
	"NET_BIND_SERVICE",
	"NET_BROADCAST",
	"NET_ADMIN",
	"NET_RAW",
	"IPC_LOCK",
	"IPC_OWNER",
	"SYS_MODULE",
	"SYS_RAWIO",
	"SYS_CHROOT",
	"SYS_PTRACE",
	"SYS_PACCT",
	"SYS_ADMIN",
	"SYS_BOOT",
	"SYS_NICE",
	"SYS_RESOURCE",
	"SYS_TIME",
	"SYS_TTY_CONFIG",
	"MKNOD",
	"LEASE",
	"AUDIT_WRITE",
	"AUDIT_CONTROL",
	"SETFCAP",
	"MAC_OVERRIDE",
	"MAC_ADMIN",
	"SYSLOG",
	"WAKE_ALARM",
	"BLOCK_SUSPEND",
	"AUDIT_READ",
	"PERFMON",
	"BPF",
	"CHECKPOINT_RESTORE",
};

/* What reaches around the namespaces, or has been the way out of them, and no usual program needs. */
static const char *const refused_calls[] = {
	"acct",
	"add_key",
	"bpf",
	"clock_adjtime",
	"clock_settime",
	"create_module",
	"delete_module",
	"finit_module",
	"get_kernel_syms",
	"get_mempolicy",
	"init_module",
	"ioperm",
	"iopl",
	"kcmp",
	"kexec_file_load",
	"kexec_load",
	"keyctl",
	"lookup_dcookie",
	"mbind",
	"migrate_pages",
	"move_pages",
	"nfsservctl",
	"open_by_handle_at",
	"perf_event_open",
	"pivot_root",
	"process_vm_readv",
	"process_vm_writev",
	"query_module",
	"quotactl",
	"quotactl_fd",
	"reboot",
	"request_key",
	"set_mempolicy",
	"setdomainname",
	"sethostname",
	"settimeofday",
	"stime",
	"swapoff",
	"swapon",
	"_sysctl",
	"sysfs",
	"syslog",
	"umount",
	"uselib",
	"userfaultfd",
	"ustat",
	"vhangup",
	"vm86",
	"vm86old",
};

static bool listed(const char *name, const char *const *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (streq(v[i], name))
			return true;
	}
	return false;
}

static const char *bare(const char *cap)
{
	return strncasecmp(cap, "CAP_", 4) == 0 ? cap + 4 : cap;
}

static bool named(const char *cap, char *const *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (strcasecmp(bare(v[i]), cap) == 0 || strcasecmp(v[i], "ALL") == 0)
			return true;
	}
	return false;
}

static void add_caps(const struct api_instance_security *s, struct buf *list)
{
	const char *sep = "";

	for (size_t i = 0; i < ARRAY_SIZE(all_caps); i++) {
		bool on = s->privileged || listed(all_caps[i], usual_caps, ARRAY_SIZE(usual_caps));

		if (named(all_caps[i], s->drop_capabilities.v, s->drop_capabilities.n))
			on = false;
		if (named(all_caps[i], s->add_capabilities.v, s->add_capabilities.n))
			on = true;
		if (on) {
			buf_addf(list, "%s\"CAP_%s\"", sep, all_caps[i]);
			sep = ",";
		}
	}
}

static void add_strv(struct buf *b, char *const *v)
{
	buf_addc(b, '[');
	for (char *const *s = v; s && *s; s++) {
		if (s != v)
			buf_addc(b, ',');
		buf_add_json(b, *s);
	}
	buf_addc(b, ']');
}

static int add_process(const struct engine_plan *p, struct buf *b, struct err **e)
{
	const struct api_instance_security *s = &p->spec->security;
	_cleanup_(buf_done) struct buf caps = { 0 };
	bool home = false;
	struct ct_user u;
	int r = ct_user_find(p->rootfs, p->user, &u, e);

	if (r < 0)
		return r;
	add_caps(s, &caps);
	buf_addf(b, "\"process\":{\"terminal\":%s,\"user\":{\"uid\":%u,\"gid\":%u",
		 p->spec->tty ? "true" : "false", u.uid, u.gid);
	for (unsigned int k = 0; k < u.n_groups; k++)
		buf_addf(b, "%s%u", k ? "," : ",\"additionalGids\":[", u.groups[k]);
	buf_adds(b, u.n_groups ? "]},\"args\":" : "},\"args\":");
	add_strv(b, p->args);
	buf_adds(b, ",\"env\":[");
	for (char *const *v = p->env; v && *v; v++) {
		home |= str_starts(*v, "HOME=");
		if (v != p->env)
			buf_addc(b, ',');
		buf_add_json(b, *v);
	}
	if (!home) {
		_cleanup_(buf_done) struct buf h = { 0 };

		buf_addf(&h, "HOME=%s", u.home);
		buf_adds(b, p->env && *p->env ? "," : "");
		buf_add_json(b, buf_str(&h));
	}
	buf_adds(b, "],\"cwd\":");
	buf_add_json(b, p->cwd && *p->cwd ? p->cwd : "/");
	buf_addf(b, ",\"capabilities\":{\"bounding\":[%s],\"effective\":[%s],\"permitted\":[%s]}",
		 buf_str(&caps), u.uid ? "" : buf_str(&caps), u.uid ? "" : buf_str(&caps));
	if (p->spec->limits.has_open_files)
		buf_addf(b,
			 ",\"rlimits\":[{\"type\":\"RLIMIT_NOFILE\",\"hard\":%llu,\"soft\":%llu}]",
			 (unsigned long long)p->spec->limits.open_files,
			 (unsigned long long)p->spec->limits.open_files);
	buf_addf(b, ",\"noNewPrivileges\":%s",
		 s->no_new_privileges && !s->privileged ? "true" : "false");
	if (s->apparmor) {
		buf_adds(b, ",\"apparmorProfile\":");
		buf_add_json(b, s->apparmor);
	}
	buf_addc(b, '}');
	return 0;
}

/* -- mounts --------------------------------------------------------------------------------------- */

static bool pure_v2(void)
{
	struct statfs s;

	return statfs("/sys/fs/cgroup", &s) == 0 && s.f_type == CGROUP2_SUPER_MAGIC;
}

static void add_usual_mounts(const struct engine_plan *p, struct buf *b)
{
	bool priv = p->spec->security.privileged;

	buf_adds(
		b,
		"{\"destination\":\"/proc\",\"type\":\"proc\",\"source\":\"proc\",\"options\":[\"nosuid\",\"noexec\",\"nodev\"]},"
		"{\"destination\":\"/dev\",\"type\":\"tmpfs\",\"source\":\"tmpfs\",\"options\":[\"nosuid\",\"strictatime\",\"mode=755\",\"size=65536k\"]},"
		"{\"destination\":\"/dev/pts\",\"type\":\"devpts\",\"source\":\"devpts\",\"options\":[\"nosuid\",\"noexec\",\"newinstance\",\"ptmxmode=0666\",\"mode=0620\",\"gid=5\"]},"
		"{\"destination\":\"/dev/shm\",\"type\":\"tmpfs\",\"source\":\"shm\",\"options\":[\"nosuid\",\"noexec\",\"nodev\",\"mode=1777\",\"size=65536k\"]},"
		"{\"destination\":\"/dev/mqueue\",\"type\":\"mqueue\",\"source\":\"mqueue\",\"options\":[\"nosuid\",\"noexec\",\"nodev\"]},");
	buf_addf(
		b,
		"{\"destination\":\"/sys\",\"type\":\"sysfs\",\"source\":\"sysfs\",\"options\":[\"nosuid\",\"noexec\",\"nodev\",\"%s\"]}",
		priv ? "rw" : "ro");
	if (pure_v2())
		buf_addf(
			b,
			",{\"destination\":\"/sys/fs/cgroup\",\"type\":\"cgroup\",\"source\":\"cgroup\",\"options\":[\"nosuid\",\"noexec\",\"nodev\",\"relatime\",\"%s\"]}",
			priv ? "rw" : "ro");
}

/* With a user namespace a directory of the host is seen through its map, so that root inside owns what root outside owns. */
static void add_bind(const struct engine_plan *p, const char *source, const char *target,
		     bool readonly, bool mapped, struct buf *b)
{
	buf_adds(b, ",{\"type\":\"bind\",\"destination\":");
	buf_add_json(b, target);
	buf_adds(b, ",\"source\":");
	buf_add_json(b, source);
	buf_addf(b, ",\"options\":[\"%s\",\"%s\"", mapped && p->id_count ? "bind" : "rbind",
		 readonly ? "ro" : "rw");
	if (mapped && p->id_count)
		buf_addf(
			b,
			",\"idmap\"],\"uidMappings\":[{\"containerID\":0,\"hostID\":%u,\"size\":%u}],\"gidMappings\":[{\"containerID\":0,\"hostID\":%u,\"size\":%u}]}",
			p->id_base, p->id_count, p->id_base, p->id_count);
	else
		buf_adds(b, "]}");
}

static void add_mounts(const struct engine_plan *p, const char *files, struct buf *b)
{
	static const char *const names[] = { "resolv.conf", "hosts", "hostname" };
	const struct plan_mount *m;
	char from[4096], to[32];

	buf_adds(b, "\"mounts\":[");
	add_usual_mounts(p, b);
	for (size_t k = 0; k < ARRAY_SIZE(names); k++) {
		snprintf(from, sizeof(from), "%s/%s", files, names[k]);
		snprintf(to, sizeof(to), "/etc/%s", names[k]);
		add_bind(p, from, to, false, false, b);
	}
	vec_for_each(m, &p->mounts) {
		if (m->source) {
			add_bind(p, m->source, m->target, m->readonly, true, b);
			continue;
		}
		buf_adds(b, ",{\"type\":\"tmpfs\",\"source\":\"tmpfs\",\"destination\":");
		buf_add_json(b, m->target);
		buf_addf(b, ",\"options\":[\"nosuid\",\"nodev\",\"%s\"", m->readonly ? "ro" : "rw");
		if (m->size)
			buf_addf(b, ",\"size=%llu\"", (unsigned long long)m->size);
		buf_adds(b, "]}");
	}
	buf_adds(b, "]");
}

/* -- resources ------------------------------------------------------------------------------------ */

/* CPUs that it may use at a time, by all that says so; 0: no limit. */
static double cpu_limit(const struct api_instance_cpu *c)
{
	double limit = engine_cpu_limit(c);

	return c->has_count && (limit == 0 || (double)c->count < limit) ? (double)c->count : limit;
}

/* Throttling is by whole disks: of a partition the disk it is on. */
static dev_t disk_of(const char *path)
{
	_cleanup_(freep) char *real = NULL;
	unsigned int maj, min;
	char sys[128], file[4200];
	struct stat st;
	FILE *f;

	if (stat(path, &st) < 0 || major(st.st_dev) == 0)
		return 0;
	snprintf(sys, sizeof(sys), "/sys/dev/block/%u:%u", major(st.st_dev), minor(st.st_dev));
	real = realpath(sys, NULL);
	if (!real)
		return 0;
	snprintf(file, sizeof(file), "%s/partition", real);
	if (access(file, F_OK) < 0)
		return st.st_dev;
	snprintf(file, sizeof(file), "%s/../dev", real);
	f = fopen(file, "re");
	if (!f)
		return 0;
	if (fscanf(f, "%u:%u", &maj, &min) != 2)
		maj = min = 0;
	fclose(f);
	return makedev(maj, min);
}

static void add_throttle(struct buf *b, const char *key, dev_t d, uint64_t rate, const char **sep)
{
	if (!rate)
		return;
	buf_addf(b, "%s\"%s\":[{\"major\":%u,\"minor\":%u,\"rate\":%llu}]", *sep, key, major(d),
		 minor(d), (unsigned long long)rate);
	*sep = ",";
}

static uint64_t lower(uint64_t a, uint64_t b)
{
	return !a ? b : !b ? a : MIN(a, b);
}

static void add_block(const struct engine_plan *p, struct buf *b)
{
	const struct api_disk_limits *l = &p->spec->root.limits;
	uint64_t iops = l->iops ? l->iops->rate : 0, bps = l->bps ? l->bps->rate : 0;
	uint64_t ir = lower(iops, l->iops_read ? l->iops_read->rate : 0);
	uint64_t iw = lower(iops, l->iops_write ? l->iops_write->rate : 0);
	uint64_t br = lower(bps, l->bps_read ? l->bps_read->rate : 0);
	uint64_t bw = lower(bps, l->bps_write ? l->bps_write->rate : 0);
	const char *sep = "";
	dev_t d;

	if (!(ir | iw | br | bw) || !(d = disk_of(p->rootfs_store ? p->rootfs_store : p->rootfs)))
		return;
	buf_adds(b, ",\"blockIO\":{");
	add_throttle(b, "throttleReadBpsDevice", d, br, &sep);
	add_throttle(b, "throttleWriteBpsDevice", d, bw, &sep);
	add_throttle(b, "throttleReadIOPSDevice", d, ir, &sep);
	add_throttle(b, "throttleWriteIOPSDevice", d, iw, &sep);
	buf_addc(b, '}');
}

int ct_resources(const struct engine_plan *p, struct buf *b, struct err **e)
{
	const struct api_instance_cpu *c = &p->spec->cpu;
	const struct api_instance_memory *m = &p->spec->memory;
	double limit = cpu_limit(c);

	buf_addf(b, "{\"devices\":[{\"allow\":%s,\"access\":\"rwm\"}]",
		 p->spec->security.privileged ? "true" : "false");
	buf_addf(b, ",\"cpu\":{\"shares\":%llu",
		 (unsigned long long)CLAMP(c->shares * 1024 / 1000, (uint64_t)2, (uint64_t)262144));
	if (limit > 0)
		buf_addf(b, ",\"quota\":%lld,\"period\":%d", llround(MAX(limit, 0.01) * CPU_PERIOD),
			 CPU_PERIOD);
	if (c->pin) {
		buf_adds(b, ",\"cpus\":");
		buf_add_json(b, c->pin);
	}
	buf_adds(b, "},\"memory\":{");
	if (m->has_size || m->has_limit) {
		uint64_t size = lower(m->has_size ? m->size : 0, m->has_limit ? m->limit : 0);
		uint64_t both = size + m->swap;

		buf_addf(b, "\"limit\":%llu", (unsigned long long)size);
		if (m->has_swap)
			buf_addf(b, ",\"swap\":%llu", (unsigned long long)both);
		if (m->reservation)
			buf_addc(b, ',');
	}
	if (m->reservation)
		buf_addf(b, "\"reservation\":%llu", (unsigned long long)m->reservation);
	buf_addc(b, '}');
	if (p->spec->limits.has_processes)
		buf_addf(b, ",\"pids\":{\"limit\":%llu}",
			 (unsigned long long)p->spec->limits.processes);
	add_block(p, b);
	buf_addc(b, '}');
	return buf_error(b) ? err_sys(e, ENOMEM, "resources") : 0;
}

/* -- the whole ------------------------------------------------------------------------------------ */

static int add_seccomp(const struct api_instance_security *s, struct buf *b, struct err **e)
{
	_cleanup_(json_freep) struct json *own = NULL;
	_cleanup_(freep) char *text = NULL;
	int r;

	if (s->privileged || (s->seccomp && streq(s->seccomp, "unconfined")))
		return 0;
	if (s->seccomp && !streq(s->seccomp, "default")) {
		r = json_parse_file(s->seccomp, NULL, &own, e);
		if (r < 0)
			return err_wrap(e, r, "seccomp profile");
		text = json_text(own, JSON_COMPACT);
		buf_addf(b, ",\"seccomp\":%s", text ? text : "null");
		return 0;
	}
	buf_adds(
		b,
		",\"seccomp\":{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"architectures\":[\"SCMP_ARCH_X86_64\",\"SCMP_ARCH_X86\",\"SCMP_ARCH_X32\"],\"syscalls\":[{\"action\":\"SCMP_ACT_ERRNO\",\"errnoRet\":1,\"names\":[");
	for (size_t k = 0; k < ARRAY_SIZE(refused_calls); k++)
		buf_addf(b, "%s\"%s\"", k ? "," : "", refused_calls[k]);
	buf_adds(b, "]}]}");
	return 0;
}

static void add_namespaces(const struct engine_plan *p, struct buf *b)
{
	buf_adds(
		b,
		"\"namespaces\":[{\"type\":\"pid\"},{\"type\":\"ipc\"},{\"type\":\"uts\"},{\"type\":\"mount\"},{\"type\":\"cgroup\"},{\"type\":\"network\"}");
	if (p->id_count)
		buf_addf(
			b,
			",{\"type\":\"user\"}],\"uidMappings\":[{\"containerID\":0,\"hostID\":%u,\"size\":%u}],\"gidMappings\":[{\"containerID\":0,\"hostID\":%u,\"size\":%u}]",
			p->id_base, p->id_count, p->id_base, p->id_count);
	else
		buf_adds(b, "]");
}

int ct_config(const struct engine_plan *p, const char *files, struct buf *b, struct err **e)
{
	const struct api_instance_security *s = &p->spec->security;
	int r;

	buf_adds(b, "{\"ociVersion\":\"1.1.0\",");
	r = add_process(p, b, e);
	if (r < 0)
		return r;
	buf_adds(b, ",\"root\":{\"path\":");
	buf_add_json(b, p->rootfs);
	buf_addf(b, ",\"readonly\":%s},\"hostname\":", s->readonly_root ? "true" : "false");
	buf_add_json(b, p->hostname);
	buf_addc(b, ',');
	add_mounts(p, files, b);
	buf_adds(b, ",\"linux\":{\"cgroupsPath\":");
	buf_add_json(b, p->cgroup);
	buf_adds(b, ",\"resources\":");
	r = ct_resources(p, b, e);
	if (r < 0)
		return r;
	buf_addc(b, ',');
	add_namespaces(p, b);
	r = add_seccomp(s, b, e);
	if (r < 0)
		return r;
	if (!s->privileged)
		buf_adds(
			b,
			",\"maskedPaths\":[\"/proc/acpi\",\"/proc/asound\",\"/proc/kcore\",\"/proc/keys\",\"/proc/latency_stats\",\"/proc/timer_list\",\"/proc/timer_stats\",\"/proc/sched_debug\",\"/proc/scsi\",\"/sys/firmware\",\"/sys/devices/virtual/powercap\"],"
			"\"readonlyPaths\":[\"/proc/bus\",\"/proc/fs\",\"/proc/irq\",\"/proc/sys\",\"/proc/sysrq-trigger\"]");
	buf_adds(b, ",\"sysctl\":{");
	for (size_t k = 0; k < p->spec->sysctls.n; k++) {
		buf_adds(b, k ? "," : "");
		buf_add_json(b, p->spec->sysctls.v[k].key);
		buf_addc(b, ':');
		buf_add_json(b, p->spec->sysctls.v[k].value);
	}
	buf_adds(b, "}}}");
	return buf_error(b) ? err_sys(e, ENOMEM, "configuration") : 0;
}
