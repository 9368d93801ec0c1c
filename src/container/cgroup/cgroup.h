/* The control groups of one container, on the layout this host has: v2 alone, v1 hierarchies, or v1 with a v2 hierarchy
 * beside them (hybrid).                                       Spec: cgroup-v2.rst, cgroup-v1/ of the kernel; runtime-spec
 *
 * A container is a folder in each hierarchy, all at the same path below its root.  The list of folders is written to the
 * container's status before the first is made, so that `delete` finds them whatever happened.  Thread: any, one per struct. */
#ifndef CONTAINER_CGROUP_H
#define CONTAINER_CGROUP_H

#include <sys/types.h>
#include "base/buf.h"
#include "container/spec.h"

#define CG_HIERARCHIES_MAX 20

enum cg_controller {
	CG_CPU = 1 << 0,
	CG_CPUACCT = 1 << 1,
	CG_CPUSET = 1 << 2,
	CG_MEMORY = 1 << 3,
	CG_DEVICES = 1 << 4,
	CG_FREEZER = 1 << 5,
	CG_BLKIO = 1 << 6,
	CG_PIDS = 1 << 7,
	CG_HUGETLB = 1 << 8,
	CG_NET_CLS = 1 << 9,
	CG_NET_PRIO = 1 << 10,
	CG_PERF = 1 << 11,
	CG_RDMA = 1 << 12,
	CG_MISC = 1 << 13,
	CG_NAMED = 1 << 14,
};

struct cg_hierarchy {
	bool v2;
	unsigned int controllers; /* v2: those that the container's folder has, once it is open */
	const char *name;	  /* "cpu,cpuacct", "systemd"; "" or "unified" for v2 */
	const char *mount;	  /* "/sys/fs/cgroup/memory" */
	const char *path;	  /* the container's folder, absolute in the file system */
	int fd;			  /* of the folder, O_PATH; -1: not open */
};

struct cgroups {
	struct arena *arena;
	struct cg_hierarchy h[CG_HIERARCHIES_MAX];
	size_t n;
	bool disabled; /* no cgroup at all for this container */
	bool systemd;  /* a scope of systemd */
	const char *scope, *slice;
	bool user_ns; /* we are root of a user namespace only: what is refused for that reason is skipped */
	bool joined; /* the folders belong to somebody else: never removed */
};

enum cg_manager { CG_CGROUPFS, CG_SYSTEMD, CG_DISABLED };

/* Where the folders will be; nothing is made. path: linux.cgroupsPath or NULL. */
int cgroups_plan(struct arena *a, const char *path, const char *id, enum cg_manager manager,
		 struct cgroups *ret, struct err **e);
/* From the list in a status file: full folder names. */
int cgroups_load(struct arena *a, char *const *paths, struct cgroups *ret, struct err **e);
/* Make the folders (and those above them) and open them. */
int cgroups_create(struct cgroups *c, const struct spec_resources *res, struct err **e);
int cgroups_open(struct cgroups *c,
		 struct err **e); /* those that exist; missing ones stay closed */
void cgroups_close(struct cgroups *c);
/* Folders below the container's, as `exec --cgroup` names them ("path" or "controller,...:path"): sub[i] for each hierarchy, NULL
 * where none is named; borrowed from words (NULL or NULL-terminated). */
int cgroups_subs(const struct cgroups *c, char *const *words, const char **sub, struct err **e);
int cgroups_sub_error(const struct cg_hierarchy *h, const char *sub, int num, struct err **e);
/* Descriptors into which the joining thread itself writes "0"; the v2 folder is not among them, it is for clone3().
 * subs: from cgroups_subs(), or NULL.  Returns how many (close them), or -errno. */
int cgroups_join_fds(struct cgroups *c, const char *const *subs, int *fds, size_t max,
		     struct err **e);
/* The v2 folder or -1. */
int cgroups_v2_fd(const struct cgroups *c);
/* Put another process in (slow on purpose: only for what cannot join by itself). */
int cgroups_add_pid(struct cgroups *c, pid_t pid, struct err **e);
/* Apply what is set in res; what is absent stays. */
int cgroups_set(struct cgroups *c, const struct spec_resources *res, struct err **e);
/* Freeze or thaw and wait until it is so. */
int cgroups_freeze(struct cgroups *c, bool on, struct err **e);
bool cgroups_frozen(struct cgroups *c);
/* All processes in the folders and below. */
int cgroups_pids(struct cgroups *c, pid_t **ret, size_t *n, struct err **e);
/* Signal all of them; with SIGKILL until none is left. */
int cgroups_kill(struct cgroups *c, int sig, struct err **e);
/* Remove the folders and what is below; a missing one is no error. */
int cgroups_remove(struct cgroups *c, struct err **e);
/* runc's JSON object of statistics ("data" of `events --stats`), one pass, no processes. */
int cgroups_stats_json(struct cgroups *c, struct buf *out, struct err **e);
/* CPU time in microseconds, highest memory use in bytes; what is not counted here stays as it is. */
void cgroups_usage(struct cgroups *c, uint64_t *cpu_usec, uint64_t *memory_peak);
/* A non-blocking descriptor that becomes readable when the OOM killer may have struck (an eventfd of v1, inotify of v2); read
 * it empty, then look at the count.  -1: none here. */
int cgroups_oom_fd(struct cgroups *c);
/* The file with the line "oom_kill N", to be read at offset 0; -1: none. */
int cgroups_oom_count_fd(struct cgroups *c);
/* How often the OOM killer struck; -1: unknown. */
int64_t cgroups_oom_kills(struct cgroups *c);

/* -- for the files of this folder -- */
const struct cg_hierarchy *cg_find(const struct cgroups *c, enum cg_controller which);
int cg_write(const struct cg_hierarchy *h, const char *file, const char *text);
int cg_writef(const struct cg_hierarchy *h, const char *file, struct err **e, const char *fmt, ...)
	_printf_(4, 5);
int cg_read(const struct cg_hierarchy *h, const char *file, char *buf, size_t len);
int cg_set_v1(struct cgroups *c, const struct spec_resources *res, struct err **e);
int cg_set_v2(struct cgroups *c, const struct cg_hierarchy *h, const struct spec_resources *res,
	      struct err **e);
int cg_devices_v1(const struct cg_hierarchy *h, const struct spec_resources *res, bool user_ns,
		  struct err **e);
int cg_devices_bpf(const struct cg_hierarchy *h, const struct spec_resources *res, bool user_ns,
		   struct err **e);
/* The rules given, then what every container may use (null, zero, random, tty, its own terminals). */
struct dev_rule *cg_device_rules(struct arena *a, const struct spec_resources *res, size_t *n);
int cg_systemd_start(struct cgroups *c, pid_t pid, const struct spec_resources *res,
		     struct err **e);
int cg_systemd_stop(struct cgroups *c, struct err **e);
uint64_t cg_shares_to_weight(uint64_t shares);

#endif
