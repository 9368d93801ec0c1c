/* config.json as structs: every field of the runtime specification for Linux, checked for type, range and sense, with
 * errors that name the field.                                         Spec: OCI runtime-spec 1.1 config.md, config-linux.md
 *
 * Everything lives in the arena of struct spec.  Thread: one at a time.  Trust: the text is hostile. */
#ifndef CONTAINER_SPEC_H
#define CONTAINER_SPEC_H

#include <sys/types.h>
#include "base/err.h"
#include "container/arena.h"
#include "container/jdoc.h"
#include "container/mount_opts.h"

#define SPEC_VERSION "1.1.0"

struct idmap {
	uint32_t inside, outside, size;
};
struct idmaps {
	struct idmap *v;
	size_t n;
};

struct kv {
	const char *key, *value;
};
struct kvs {
	struct kv *v;
	size_t n;
};

struct spec_mount {
	const char *dest, *type, *source; /* type "" when not given */
	char **options;
	struct mount_opts o;
	struct idmaps uids, gids; /* of the mount; empty: not given */
	bool has_maps;
};

struct spec_hook {
	const char *path;
	char **args, **env; /* args[0] is the path when none were given */
	int timeout;	    /* seconds; 0: none */
};
enum hook_kind {
	HOOK_PRESTART,
	HOOK_CREATE_RUNTIME,
	HOOK_CREATE_CONTAINER,
	HOOK_START_CONTAINER,
	HOOK_POSTSTART,
	HOOK_POSTSTOP,
	HOOK_KINDS
};
extern const char *const hook_names[HOOK_KINDS];

struct spec_rlimit {
	int resource;
	const char *name;
	uint64_t soft, hard;
};

struct spec_sched {
	bool set;
	uint32_t policy;
	int32_t nice, priority;
	uint64_t flags, runtime, deadline, period;
};

struct spec_caps {
	bool set;
	uint64_t bounding, effective, permitted, inheritable, ambient;
};

struct spec_process {
	bool terminal;
	uint32_t rows, cols; /* 0: not given */
	uint32_t uid, gid;
	bool has_umask;
	uint32_t umask;
	uint32_t *groups;
	size_t n_groups;
	char **args, **env;
	size_t n_args, n_env;
	const char *cwd;
	struct spec_caps caps;
	struct spec_rlimit *rlimits;
	size_t n_rlimits;
	bool no_new_privs;
	const char *apparmor, *selinux;
	bool has_oom_score;
	int32_t oom_score;
	bool has_ioprio;
	int ioprio; /* class << 13 | priority */
	struct spec_sched sched;
};

enum ns_kind { NS_USER, NS_MNT, NS_PID, NS_NET, NS_UTS, NS_IPC, NS_CGROUP, NS_TIME, NS_KINDS };

struct spec_device {
	const char *path;
	mode_t type; /* S_IFCHR, S_IFBLK, S_IFIFO */
	int64_t major, minor;
	mode_t mode;
	uint32_t uid, gid;
};

struct dev_rule {
	bool allow;
	char type;	      /* 'a', 'b', 'c' */
	int64_t major, minor; /* -1: all */
	unsigned int access;  /* DEV_READ | DEV_WRITE | DEV_MKNOD */
};
#define DEV_MKNOD 1U /* as BPF_DEVCG_ACC_* */
#define DEV_READ  2U
#define DEV_WRITE 4U

struct blkio_dev {
	int64_t major, minor;
	uint64_t value; /* a weight, bytes/s or IO/s */
	uint64_t leaf;
};
struct blkio_devs {
	struct blkio_dev *v;
	size_t n;
};

struct hugepage_limit {
	const char *size; /* "2MB" */
	uint64_t limit;
};
struct rdma_limit {
	const char *device;
	bool has_handles, has_objects;
	uint32_t handles, objects;
};
struct ifprio {
	const char *name;
	uint32_t prio;
};

/* A limit with a "was it given" flag: zero and -1 both mean something. */
struct lim {
	bool set;
	int64_t v;
};

struct spec_resources {
	bool present;
	struct dev_rule *devices;
	size_t n_devices;
	struct lim mem_limit, mem_reservation, mem_swap, mem_kernel, mem_kernel_tcp, mem_swappiness;
	bool oom_disable, use_hierarchy, check_before_update;
	struct lim cpu_shares, cpu_quota, cpu_burst, cpu_period, cpu_rt_runtime, cpu_rt_period,
		cpu_idle;
	const char *cpus, *mems;
	struct lim pids;
	struct lim blkio_weight, blkio_leaf_weight;
	struct blkio_devs weight_devs, read_bps, write_bps, read_iops, write_iops;
	struct hugepage_limit *huge;
	size_t n_huge;
	struct lim net_class;
	struct ifprio *net_prio;
	size_t n_net_prio;
	struct rdma_limit *rdma;
	size_t n_rdma;
	struct kvs unified;
};

struct time_offset {
	bool set;
	int64_t secs;
	uint32_t nanosecs;
};

struct spec {
	struct arena arena;
	struct jval *doc;
	const char *text; /* the document as it came; borrowed from the reader of the file */
	size_t text_len;

	const char *version;
	const char *root_path;
	bool root_readonly;
	struct spec_mount *mounts;
	size_t n_mounts;
	bool has_process;
	struct spec_process process;
	const char *hostname, *domainname; /* NULL: not given */
	struct spec_hook *hooks[HOOK_KINDS];
	size_t n_hooks[HOOK_KINDS];
	struct kvs annotations;

	struct idmaps uids, gids;
	struct {
		bool present;
		const char *path; /* NULL: a new one */
	} ns[NS_KINDS];
	struct kvs sysctl;
	struct spec_resources res;
	const char *cgroups_path; /* NULL: not given */
	struct spec_device *devices;
	size_t n_devices;
	struct jval *seccomp;		  /* NULL: none */
	unsigned long rootfs_propagation; /* MS_* or 0 */
	char **masked, **readonly;
	const char *mount_label;
	bool intel_rdt;
	bool has_personality;
	unsigned long personality;
	struct time_offset monotonic, boottime;
};

/* Reads and checks the document.  text must live as long as s.  s is zeroed; spec_done() it in either case. */
int spec_parse(struct spec *s, const char *text, size_t len, struct err **e);
void spec_done(struct spec *s);
/* linux.resources alone, as `update` reads it. */
void spec_read_resources(struct jr *r, const struct jval *o, struct spec_resources *ret);
/* A process object alone, as `exec --process` reads it. */
void spec_read_process(struct jr *r, const struct jval *o, struct spec_process *ret);
/* "RLIMIT_NOFILE" -> number or -1. */
int rlimit_from_name(const char *name);
extern const char *const ns_names[NS_KINDS]; /* "user", ... as in config.json */
extern const int ns_flags[NS_KINDS];	     /* CLONE_NEW* */
extern const char *const ns_files[NS_KINDS]; /* under /proc/PID/ns */

#endif
