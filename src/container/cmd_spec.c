/* Commands that print what we know: spec (an example configuration) and features.
 *                                                               Spec: runtime-spec 1.1 config.md, features.md */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include "base/atomicfile.h"
#include "base/opt.h"
#include "base/str.h"
#include "container/cmd.h"
#include "container/mount_opts.h"
#include "sys/caps.h"
#include "sys/seccomp.h"

struct flags {
	char *bundle;
	bool rootless, help;
};

static const struct opt spec_opts[] = {
	OPT(struct flags, bundle, STR, "bundle", 'b', "DIR", "write it there (default: here)"),
	OPT(struct flags, rootless, FLAG, "rootless", 0, NULL, "for a caller without privileges"),
	OPT(struct flags, help, FLAG, "help", 'h', NULL, "print this"), OPT_END
};

static void list(struct buf *b, const char *indent, const char *key, const char *const *v,
		 bool last)
{
	size_t i;

	buf_addf(b, "%s\"%s\": [", indent, key);
	for (i = 0; v[i]; i++) {
		buf_addf(b, "%s\n%s\t", i ? "," : "", indent);
		buf_add_json(b, v[i]);
	}
	buf_addf(b, "\n%s]%s\n", indent, last ? "" : ",");
}

static void mounts(struct buf *b, bool rootless)
{
	static const struct {
		const char *dest, *type, *source, *options;
	} m[] = {
		{ "/proc", "proc", "proc", NULL },
		{ "/dev", "tmpfs", "tmpfs", "nosuid strictatime mode=755 size=65536k" },
		{ "/dev/pts", "devpts", "devpts",
		  "nosuid noexec newinstance ptmxmode=0666 mode=0620 gid=5" },
		{ "/dev/shm", "tmpfs", "shm", "nosuid noexec nodev mode=1777 size=65536k" },
		{ "/dev/mqueue", "mqueue", "mqueue", "nosuid noexec nodev" },
		{ "/sys", "sysfs", "sysfs", "nosuid noexec nodev ro" },
		{ "/sys/fs/cgroup", "cgroup", "cgroup", "nosuid noexec nodev relatime ro" },
	};
	size_t i, k, n = ARRAY_SIZE(m);

	buf_adds(b, "\t\"mounts\": [\n");
	for (i = 0; i < n; i++) {
		const char *type = m[i].type, *source = m[i].source, *options = m[i].options;
		_cleanup_(strv_freep) char **words = NULL;

		if (rootless && streq(type, "sysfs")) {
			type = "none";
			source = "/sys";
			options = "rbind nosuid noexec nodev ro";
		} else if (rootless && streq(type, "devpts")) {
			options = "nosuid noexec newinstance ptmxmode=0666 mode=0620";
		} else if (rootless && streq(type, "cgroup")) {
			continue;
		}
		buf_addf(
			b,
			"%s\t\t{\n\t\t\t\"destination\": \"%s\",\n\t\t\t\"type\": \"%s\",\n\t\t\t\"source\": \"%s\"",
			i ? ",\n" : "", m[i].dest, type, source);
		if (options) {
			words = strv_split(options, " ");
			buf_adds(b, ",\n\t\t\t\"options\": [");
			for (k = 0; words && words[k]; k++)
				buf_addf(b, "%s\n\t\t\t\t\"%s\"", k ? "," : "", words[k]);
			buf_adds(b, "\n\t\t\t]");
		}
		buf_adds(b, "\n\t\t}");
	}
	buf_adds(b, "\n\t],\n");
}

static void write_spec(struct buf *b, bool rootless)
{
	static const char *const caps[] = { "CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE",
					    NULL };
	static const char *const sets[] = { "bounding", "effective", "permitted" };
	static const char *const masked[] = { "/proc/acpi",
					      "/proc/asound",
					      "/proc/kcore",
					      "/proc/keys",
					      "/proc/latency_stats",
					      "/proc/timer_list",
					      "/proc/timer_stats",
					      "/proc/sched_debug",
					      "/sys/firmware",
					      "/proc/scsi",
					      NULL };
	static const char *const readonly[] = { "/proc/bus",	       "/proc/fs",
						"/proc/irq",	       "/proc/sys",
						"/proc/sysrq-trigger", NULL };
	size_t i;

	buf_adds(b, "{\n\t\"ociVersion\": \"" SPEC_VERSION
		    "\",\n\t\"process\": {\n\t\t\"terminal\": true,\n"
		    "\t\t\"user\": {\n\t\t\t\"uid\": 0,\n\t\t\t\"gid\": 0\n\t\t},\n"
		    "\t\t\"args\": [\n\t\t\t\"sh\"\n\t\t],\n\t\t\"env\": [\n"
		    "\t\t\t\"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\",\n"
		    "\t\t\t\"TERM=xterm\"\n\t\t],\n\t\t\"cwd\": \"/\",\n\t\t\"capabilities\": {\n");
	for (i = 0; i < ARRAY_SIZE(sets); i++)
		list(b, "\t\t\t", sets[i], caps, i + 1 == ARRAY_SIZE(sets));
	buf_adds(
		b,
		"\t\t},\n\t\t\"rlimits\": [\n\t\t\t{\n\t\t\t\t\"type\": \"RLIMIT_NOFILE\",\n\t\t\t\t\"hard\": 1024,\n"
		"\t\t\t\t\"soft\": 1024\n\t\t\t}\n\t\t],\n\t\t\"noNewPrivileges\": true\n\t},\n"
		"\t\"root\": {\n\t\t\"path\": \"rootfs\",\n\t\t\"readonly\": true\n\t},\n\t\"hostname\": \"strata\",\n");
	mounts(b, rootless);
	buf_adds(b, "\t\"linux\": {\n");
	if (rootless)
		buf_addf(
			b,
			"\t\t\"uidMappings\": [\n\t\t\t{\n\t\t\t\t\"containerID\": 0,\n\t\t\t\t\"hostID\": %u,\n"
			"\t\t\t\t\"size\": 1\n\t\t\t}\n\t\t],\n\t\t\"gidMappings\": [\n\t\t\t{\n\t\t\t\t\"containerID\": 0,\n"
			"\t\t\t\t\"hostID\": %u,\n\t\t\t\t\"size\": 1\n\t\t\t}\n\t\t],\n",
			(unsigned int)geteuid(), (unsigned int)getegid());
	else
		buf_adds(
			b,
			"\t\t\"resources\": {\n\t\t\t\"devices\": [\n\t\t\t\t{\n\t\t\t\t\t\"allow\": false,\n"
			"\t\t\t\t\t\"access\": \"rwm\"\n\t\t\t\t}\n\t\t\t]\n\t\t},\n");
	buf_adds(b, "\t\t\"namespaces\": [\n\t\t\t{\n\t\t\t\t\"type\": \"pid\"\n\t\t\t},\n");
	if (!rootless)
		buf_adds(b, "\t\t\t{\n\t\t\t\t\"type\": \"network\"\n\t\t\t},\n");
	buf_adds(
		b,
		"\t\t\t{\n\t\t\t\t\"type\": \"ipc\"\n\t\t\t},\n\t\t\t{\n\t\t\t\t\"type\": \"uts\"\n\t\t\t},\n");
	/* As runc: on v1 the names of the host's folders were always seen, and callers read them. */
	if (access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0)
		buf_adds(b, "\t\t\t{\n\t\t\t\t\"type\": \"cgroup\"\n\t\t\t},\n");
	if (rootless)
		buf_adds(b, "\t\t\t{\n\t\t\t\t\"type\": \"user\"\n\t\t\t},\n");
	buf_adds(b, "\t\t\t{\n\t\t\t\t\"type\": \"mount\"\n\t\t\t}\n\t\t],\n");
	list(b, "\t\t", "maskedPaths", masked, false);
	list(b, "\t\t", "readonlyPaths", readonly, true);
	buf_adds(b, "\t}\n}\n");
}

int cmd_spec(const struct globals *g, int argc, char **argv, struct err **e)
{
	struct flags f = { 0 };
	_cleanup_(buf_done) struct buf b = { 0 };
	_cleanup_(closep) int dir = -1, fd = -1;
	int n = opt_parse(spec_opts, &f, argc, argv, false, e), r;

	if (n < 0)
		return n;
	if (f.help) {
		opt_help(spec_opts, 100, &b);
		printf("Usage: strata-oci spec [OPTIONS]\n\n%s", buf_str(&b));
		return 0;
	}
	if (n > 0)
		return usage(e, "takes no operand");
	dir = open(f.bundle ? f.bundle : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return err_sys(e, errno, "bundle '%s'", f.bundle ? f.bundle : ".");
	write_spec(&b, f.rootless);
	fd = openat(dir, "config.json", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	if (fd < 0)
		return err_sys(e, errno,
			       errno == EEXIST ? "config.json already exists"
					       : "write config.json");
	r = write_all(fd, b.s, b.len);
	return r < 0 ? err_sys(e, -r, "write config.json") : 0;
}

int cmd_features(const struct globals *g, int argc, char **argv, struct err **e)
{
	static const char *const actions[] = { "SCMP_ACT_ALLOW",       "SCMP_ACT_ERRNO",
					       "SCMP_ACT_KILL",	       "SCMP_ACT_KILL_PROCESS",
					       "SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG",
					       "SCMP_ACT_NOTIFY",      "SCMP_ACT_TRACE",
					       "SCMP_ACT_TRAP",	       NULL };
	static const char *const operators[] = { "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT",
						 "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ",
						 "SCMP_CMP_NE", NULL };
	static const char *const arches[] = { "SCMP_ARCH_AARCH64",   "SCMP_ARCH_ARM",
					      "SCMP_ARCH_MIPS",	     "SCMP_ARCH_MIPS64",
					      "SCMP_ARCH_MIPS64N32", "SCMP_ARCH_MIPSEL",
					      "SCMP_ARCH_MIPSEL64",  "SCMP_ARCH_MIPSEL64N32",
					      "SCMP_ARCH_PARISC",    "SCMP_ARCH_PARISC64",
					      "SCMP_ARCH_PPC",	     "SCMP_ARCH_PPC64",
					      "SCMP_ARCH_PPC64LE",   "SCMP_ARCH_RISCV64",
					      "SCMP_ARCH_S390",	     "SCMP_ARCH_S390X",
					      "SCMP_ARCH_X32",	     "SCMP_ARCH_X86",
					      "SCMP_ARCH_X86_64",    NULL };
	static const char *const flags[] = { "SECCOMP_FILTER_FLAG_LOG",
					     "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
					     "SECCOMP_FILTER_FLAG_TSYNC",
					     "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", NULL };
	/* The last goes with the listener, without which the kernel refuses it. */
	static const unsigned int flag_bits[] = { SYS_SECCOMP_LOG, SYS_SECCOMP_SPEC_ALLOW,
						  SYS_SECCOMP_TSYNC,
						  SYS_SECCOMP_WAIT_KILLABLE_RECV |
							  SYS_SECCOMP_NEW_LISTENER };
	const char *supported[ARRAY_SIZE(flags)] = { NULL };
	const char *hooks[HOOK_KINDS + 1] = { NULL }, *ns[NS_KINDS + 1] = { NULL },
				       *caps[65] = { NULL };
	_cleanup_(buf_done) struct buf b = { 0 };
	int k, n = 0;

	for (k = 0; k < (int)ARRAY_SIZE(flag_bits); k++)
		if (sys_seccomp_has_flags(flag_bits[k]))
			supported[n++] = flags[k];
	n = 0;
	for (k = 0; k < HOOK_KINDS; k++)
		hooks[k] = hook_names[k];
	for (k = 0; k < NS_KINDS; k++)
		ns[k] = ns_names[k];
	for (k = 0; k <= cap_last(); k++)
		if (cap_to_name(k))
			caps[n++] = cap_to_name(k);
	buf_adds(&b, "{\n\t\"ociVersionMin\": \"1.0.0\",\n\t\"ociVersionMax\": \"" SPEC_VERSION
		     "\",\n");
	list(&b, "\t", "hooks", hooks, false);
	list(&b, "\t", "mountOptions", mount_opt_names(), false);
	buf_adds(&b, "\t\"linux\": {\n");
	list(&b, "\t\t", "namespaces", ns, false);
	list(&b, "\t\t", "capabilities", caps, false);
	buf_adds(
		&b,
		"\t\t\"cgroup\": {\n\t\t\t\"v1\": true,\n\t\t\t\"v2\": true,\n\t\t\t\"systemd\": true,\n"
		"\t\t\t\"systemdUser\": true,\n\t\t\t\"rdma\": true\n\t\t},\n\t\t\"seccomp\": {\n\t\t\t\"enabled\": true,\n");
	list(&b, "\t\t\t", "actions", actions, false);
	list(&b, "\t\t\t", "operators", operators, false);
	list(&b, "\t\t\t", "archs", arches, false);
	list(&b, "\t\t\t", "knownFlags", flags, false);
	list(&b, "\t\t\t", "supportedFlags", supported, true);
	buf_adds(
		&b,
		"\t\t},\n\t\t\"apparmor\": {\n\t\t\t\"enabled\": true\n\t\t},\n\t\t\"selinux\": {\n"
		"\t\t\t\"enabled\": true\n\t\t},\n\t\t\"intelRdt\": {\n\t\t\t\"enabled\": false\n\t\t},\n"
		"\t\t\"mountExtensions\": {\n\t\t\t\"idmap\": {\n\t\t\t\t\"enabled\": true\n\t\t\t}\n\t\t}\n\t},\n"
		"\t\"annotations\": {\n\t\t\"io.strata.version\": \"" STRATA_VERSION "\",\n"
		"\t\t\"org.opencontainers.runc.checkpoint.enabled\": \"false\"\n\t}\n}\n");
	return fwrite(buf_str(&b), 1, b.len, stdout) == b.len ? 0 : err_sys(e, EIO, "print");
}
