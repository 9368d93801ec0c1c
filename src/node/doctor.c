/* Doctor: a table of checks; see doctor.h. */
#include "node/doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>
#include "base/atomicfile.h"
#include "base/str.h"
#include "sys/kvm_probe.h"

#define CGROUP2_MAGIC 0x63677270

enum state { OK, MISSING, BROKEN };

struct finding {
	enum state state;
	char detail[200];
};

static void say(struct finding *f, enum state state, const char *fmt, ...) _printf_(3, 4);

static void say(struct finding *f, enum state state, const char *fmt, ...)
{
	va_list ap;

	f->state = state;
	va_start(ap, fmt);
	vsnprintf(f->detail, sizeof(f->detail), fmt, ap);
	va_end(ap);
}

/* -- looking -------------------------------------------------------------------------------------- */

static bool exists(const char *path)
{
	return access(path, F_OK) == 0;
}

static bool find_program(const char *name, char *out, size_t len)
{
	static const char *const dirs[] = { "/usr/local/sbin", "/usr/local/bin", "/usr/sbin",
					    "/usr/bin",	       "/sbin",		 "/bin" };

	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		snprintf(out, len, "%s/%s", dirs[i], name);
		if (access(out, X_OK) == 0)
			return true;
	}
	return false;
}

static bool in_file(const char *path, const char *word)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	_cleanup_(strv_freep) char **words = NULL;

	if (file_read(AT_FDCWD, path, 4 * MIB, &b, NULL) < 0)
		return false;
	words = strv_split(buf_str(&b), " \t\n");
	return strv_contains(words, word);
}

/* Built in, loaded, or there to be loaded. */
static bool has_module(const char *name)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	char path[256], file[64];
	struct utsname u = { 0 };

	snprintf(path, sizeof(path), "/sys/module/%s", name);
	if (exists(path))
		return true;
	uname(&u);
	snprintf(file, sizeof(file), "/%s.ko", name);
	snprintf(path, sizeof(path), "/lib/modules/%.64s/modules.dep", u.release);
	if (file_read(AT_FDCWD, path, 16 * MIB, &b, NULL) == 0 && strstr(buf_str(&b), file))
		return true;
	buf_clear(&b);
	snprintf(path, sizeof(path), "/lib/modules/%.64s/modules.builtin", u.release);
	return file_read(AT_FDCWD, path, 16 * MIB, &b, NULL) == 0 && strstr(buf_str(&b), file);
}

/* -- the engine ----------------------------------------------------------------------------------- */

static struct {
	pthread_once_t once;
	const char *engine;
	char reason[200];
} engine = { .once = PTHREAD_ONCE_INIT };

static void measure_engine(void)
{
	_cleanup_(err_freep) struct err *e = NULL;
	uint64_t rate = 0;
	int r = kvm_probe(100 * NSEC_PER_MSEC, &rate, &e);

	engine.engine = r == 0 && rate >= KVM_PROBE_NATIVE ? "native" : "qemu";
	if (r < 0)
		snprintf(engine.reason, sizeof(engine.reason),
			 "no usable KVM (%s): QEMU emulates the processor", err_msg(e));
	else if (rate < KVM_PROBE_NATIVE)
		snprintf(
			engine.reason, sizeof(engine.reason),
			"KVM emulates guests here (%.1f million loops/s, 50 are wanted): QEMU is faster",
			(double)rate / 1e6);
	else
		snprintf(engine.reason, sizeof(engine.reason),
			 "KVM runs guests at speed (%.0f million loops/s)", (double)rate / 1e6);
}

const char *doctor_engine(const char **reason)
{
	pthread_once(&engine.once, measure_engine);
	if (reason)
		*reason = engine.reason;
	return engine.engine;
}

/* -- checks --------------------------------------------------------------------------------------- */

struct check {
	const char *name;
	bool needed;
	void (*look)(const struct check *c, struct finding *f);
	const char *arg; /* of look */
	const char *what, *fix;
};

static void look_program(const struct check *c, struct finding *f)
{
	char path[256];

	if (find_program(c->arg, path, sizeof(path)))
		say(f, OK, "%s: %s", c->what, path);
	else
		say(f, MISSING, "%s: '%s' is not installed", c->what, c->arg);
}

static void look_file(const struct check *c, struct finding *f)
{
	say(f, exists(c->arg) ? OK : MISSING, "%s%s", c->what, exists(c->arg) ? "" : ": not here");
}

static void look_filesystem(const struct check *c, struct finding *f)
{
	bool ok = in_file("/proc/filesystems", c->arg) || has_module(c->arg);

	say(f, ok ? OK : MISSING, "%s%s", c->what, ok ? "" : ": not in this kernel");
}

static void look_module(const struct check *c, struct finding *f)
{
	bool ok = has_module(c->arg);

	say(f, ok ? OK : MISSING, "%s%s", c->what, ok ? "" : ": not in this kernel");
}

static void look_cgroup(const struct check *c, struct finding *f)
{
	struct statfs st;

	if (statfs("/sys/fs/cgroup", &st) < 0)
		say(f, BROKEN, "no control groups at /sys/fs/cgroup");
	else if ((unsigned long)st.f_type == CGROUP2_MAGIC)
		say(f, OK, "control groups version 2");
	else if (exists("/sys/fs/cgroup/memory") && exists("/sys/fs/cgroup/cpu"))
		say(f, OK, "control groups version 1%s",
		    exists("/sys/fs/cgroup/unified") ? " (hybrid)" : "");
	else
		say(f, BROKEN, "control groups without cpu and memory controllers");
}

static void look_favordynmods(const struct check *c, struct finding *f)
{
	_cleanup_(buf_done) struct buf b = { 0 };

	if (file_read(AT_FDCWD, "/proc/self/mounts", 4 * MIB, &b, NULL) == 0 &&
	    strstr(buf_str(&b), "favordynmods"))
		say(f, OK, "VMs and containers start without waiting for the kernel");
	else
		say(f, MISSING,
		    "control groups without favordynmods: some kernels wait 10 ms and more for each VM");
}

static void look_userns(const struct check *c, struct finding *f)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	uint64_t n = 0;

	if (file_read(AT_FDCWD, "/proc/sys/user/max_user_namespaces", 64, &b, NULL) < 0)
		say(f, BROKEN, "no user namespaces in this kernel");
	else if (parse_u64((b.s[strcspn(b.s, "\n")] = '\0', b.s), UINT64_MAX, &n) < 0 || n == 0)
		say(f, BROKEN, "user namespaces are switched off");
	else
		say(f, OK, "user namespaces, up to %llu", (unsigned long long)n);
}

static void look_engine(const struct check *c, struct finding *f)
{
	const char *reason, *name = doctor_engine(&reason);

	say(f, streq(name, "native") ? OK : MISSING, "engine auto means %s: %.150s", name, reason);
}

static const struct check checks[] = {
	{ "cgroups", true, look_cgroup, NULL, NULL,
	  "boot with a kernel that has the cpu and memory controllers" },
	{ "user-namespaces", true, look_userns, NULL, NULL,
	  "sysctl user.max_user_namespaces=65536" },
	{ "overlayfs", true, look_filesystem, "overlay", "image layers are shared",
	  "modprobe overlay" },
	{ "tun", true, look_file, "/dev/net/tun", "network interfaces for VMs", "modprobe tun" },
	{ "bridge", true, look_module, "bridge", "virtual switches", "modprobe bridge" },
	{ "vlan", false, look_module, "8021q", "VLAN uplinks", "a kernel with CONFIG_VLAN_8021Q" },
	{ "vhost-net", false, look_file, "/dev/vhost-net", "fast networking for VMs",
	  "modprobe vhost_net" },
	{ "kvm", false, look_file, "/dev/kvm", "hardware virtualization",
	  "modprobe kvm_intel or kvm_amd; switch VT-x or AMD-V on in the firmware" },
	{ "engine", false, look_engine, NULL, NULL,
	  "a host with VT-x or AMD-V (nested, where this is a VM)" },
	{ "favordynmods", false, look_favordynmods, NULL, NULL,
	  "mount -o remount,favordynmods /sys/fs/cgroup (version 2, Linux 6.0)" },
	{ "qemu", true, look_program, "qemu-system-x86_64", "second VM engine",
	  "apt install qemu-system-x86" },
	{ "qemu-img", false, look_program, "qemu-img", "import and export of foreign disk formats",
	  "apt install qemu-utils" },
	{ "seabios", false, look_file, "/usr/share/seabios/bios-256k.bin", "BIOS for disk images",
	  "apt install seabios" },
	{ "ovmf", false, look_file, "/usr/share/OVMF/OVMF_CODE.fd", "UEFI for disk images",
	  "apt install ovmf" },
	{ "mmdebstrap", false, look_program, "mmdebstrap", "image bootstrap",
	  "apt install mmdebstrap" },
	{ "criu", false, look_program, "criu", "checkpoint and migration of containers",
	  "apt install criu" },
	{ "lxcfs", false, look_file, "/var/lib/lxcfs/proc",
	  "containers see their own memory and CPUs in /proc", "apt install lxcfs" },
	{ "uidmap", false, look_program, "newuidmap", "rootless containers", "apt install uidmap" },
};

struct json *doctor_report(void)
{
	static const char *const states[] = { "ok", "missing", "broken" };
	_cleanup_(json_freep) struct json *j = json_new_obj();
	struct json *list = json_new_arr();
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(checks); i++) {
		const struct check *c = &checks[i];
		struct json *o = json_new_obj();
		struct finding f = { .state = BROKEN };

		c->look(c, &f);
		r = json_set(o, "name", json_new_str(c->name)) ?: r;
		r = json_set(o, "state", json_new_str(states[f.state])) ?: r;
		r = json_set(o, "needed", json_new_bool(c->needed)) ?: r;
		r = json_set(o, "detail", json_new_str(f.detail)) ?: r;
		if (f.state != OK)
			r = json_set(o, "fix", json_new_str(c->fix)) ?: r;
		r = json_push(list, o) ?: r;
	}
	r = json_set(j, "checks", list) ?: r;
	return r < 0 ? NULL : TAKE(j);
}
