/* Engines: what runs an instance.  One table of operations for containers, one for each VM monitor.
 *
 * Between: the instance room above (node/instance/: states, steps, restart policies, timeouts), monitors below (strata-shim,
 * strata-vmm, QEMU): processes that outlive this daemon.  An engine owns no policy: it is handed a plan in which every
 * name is resolved (image to directories or disks, port group to a namespace or tap descriptors, volume to a path) and does
 * what it is told; it never reads the inventory.
 *
 * Life of a `struct engine_instance`:
 *
 *	engine_attach()   after create and after each start of the daemon; nothing runs, nothing is on the host
 *	  adopt           after a start of the daemon, for instances that the database calls running
 *	  prepare         (where an engine has it) everything but the command: its namespaces are there, i->info.pid is set
 *	  start           plan to running; the monitor and whatever it needs are made here, if prepare did not
 *	  stop, kill, pause, resume, exec, open_console, stats, update, ...   while it runs
 *	  on_exit         it ended (of itself or not); what was made outside the run folder is still there
 *	  cleanup         everything that start made is gone; accepts nothing, a part, all, and a second time
 *	engine_detach()   the daemon lets go; what runs goes on running
 *
 * Crash rules: (1) whatever start makes outside `dir` is found again from a file in `dir` that is written before it is
 * made, or dies with the monitor, so that cleanup() in another process leaves nothing; (2) a start that was cut short by
 * a crash of the daemon is undone by cleanup(), never adopted half-made: adopt() says -ESRCH and leaves the remains to it.
 *
 * Calls: operations with a `struct engine_call` end it exactly once with engine_done(), now or later, on the main loop;
 * never both an error return and a call.  What takes longer than a system call is done asynchronously or on env->workers.
 * At most one of prepare, start, adopt, cleanup, save is under way for an instance; stop, kill, exec, stats may come beside any
 * of them and after its end: they then end with -ESRCH.
 * What an engine lacks is NULL in its table and refused by the room above ("engine.unsupported"); what it has but cannot do for
 * this plan is -ENOTSUP with the reason.
 * Errors: engine.* ids; messages say what was being done.  Thread: the main loop's. */
#ifndef NODE_ENGINE_H
#define NODE_ENGINE_H

#include "base/list.h"
#include "base/loop.h"
#include "base/work.h"
#include "gen/instance.h"
#include "net/net.h"

struct engine_instance;
struct image_store;
struct json;

/* What every engine of a daemon shares; borrowed, outlives the engines. */
struct engine_env {
	struct loop *loop;
	struct work_pool *workers;
	struct image_store *images;
	const char *state_dir, *run_dir, *log_dir; /* the daemon's */
};

/* ---- what is to be run ---- */

struct plan_disk {    /* of a VM, in the order the guest shall see them */
	char *id;     /* "root", "disk1", "layer0": as in status.disks */
	char *serial; /* of virtio-blk, at most 20 bytes */
	char *path;   /* absolute: image file or block device; opened by the engine */
	enum api_disk_format format;
	enum api_disk_bus bus;
	bool readonly;
	uint64_t size;		       /* bytes; 0: what the file says */
	struct api_disk_limits limits; /* owned */
};

struct plan_addr {
	struct ipaddr addr;
	uint8_t prefix; /* bits */
};

#define PLAN_ADDRS_MAX	8
#define PLAN_QUEUES_MAX 16

struct plan_nic {
	char *id;	 /* "nic0": as in spec and status */
	char *net_id;	 /* of the NIC in net/net.h */
	char ifname[16]; /* inside a container: "eth0" */
	uint8_t mac[6];
	uint32_t mtu;
	enum api_nic_model model;
	bool connected; /* link up */
	/* What the network gave it; a container's interface has them already, a guest gets them from its config or by DHCP. */
	struct plan_addr addrs[PLAN_ADDRS_MAX];
	unsigned int n_addrs;
	struct ipaddr gateways[2]; /* family 0: none */
	/* VM: descriptors of the tap's queues, owned by the plan; the engine takes them in start (TAKE_FD). */
	int tap[PLAN_QUEUES_MAX];
	unsigned int n_queues;
};

struct plan_mount {
	enum api_mount_type type;
	char *source; /* host path of bind and volume; NULL: tmpfs */
	char *target;
	bool readonly;
	uint64_t size; /* tmpfs; 0: half of the memory */
	char *serial; /* VM, volume: serial of the plan_disk that holds it; NULL: shared as a directory */
};

/* Everything resolved.  Made anew for every start and for every update; owned by the instance room, borrowed by the engine
 * for the time of the call; an engine copies what it keeps. */
struct engine_plan {
	const struct api_instance_spec
		*spec; /* cpu, memory, limits, security, log, vm, ...: what needs no resolving */
	char *hostname;

	/* The command.  NULL args: the disk's own system boots. */
	char **args; /* entry point and command together */
	char **env;  /* "K=V", the image's included */
	char *user;  /* "name[:group]" or "uid[:gid]"; NULL: 0:0 */
	char *cwd;   /* NULL: "/" */
	int stop_signal;

	/* Container: an assembled root directory.  Its NICs are moved into its network namespace between prepare and start. */
	char *rootfs;
	char *rootfs_store; /* what its writes go to: decides the disk whose I/O is limited */
	/* Container: ids inside from 0 are ids of the host from here on; 0: no user namespace. */
	uint32_t id_base, id_count;
	char *cgroup; /* container: its folder in every hierarchy, "/strata/ID" */

	/* VM from an OCI image: guest kernel and strata-init's config (docs/internals/guest.md).  NULL: boots from disk. */
	char *kernel, *initrd, *append;
	char *guest_config; /* JSON text */
	char *seed;	    /* ISO image for cloud-init; NULL: none */
	VEC(struct plan_disk) disks;

	VEC(struct plan_nic) nics;
	VEC(struct plan_mount) mounts;
	VEC(struct ipaddr) dns; /* servers for the guest */
	char *domain;

	char *log; /* the instance's output is appended here, rotated as spec->log says */
	char *restore; /* folder that save() filled: start from there instead of from the beginning; NULL: no */
};
void engine_plan_free(struct engine_plan *p); /* NULL: no effect */
DEFINE_CLEANUP(struct engine_plan *, engine_plan_free);

/* ---- calls and events ---- */

/* Caller's memory until done ran.  done may free it. */
struct engine_call {
	void (*done)(struct engine_call *c, int r, struct err *e); /* e: taken; NULL when r is 0 */
	void *data;
};
static inline void engine_done(struct engine_call *c, int r, struct err *e)
{
	c->done(c, r, e);
}

struct engine_exit {
	int code;    /* 0..255: exit status, or 128 + signal; a VM that was switched off: 0 */
	bool oom;    /* for want of memory */
	nsec_t when; /* wall clock */
	const char *message; /* NULL, or why, when that needs words; borrowed for the call */
};

/* What the engine tells; called on the main loop, never inside an operation of the same instance. */
struct engine_events {
	void (*on_exit)(struct engine_instance *i, const struct engine_exit *x);
	/* A process inside was killed for want of memory; the instance goes on. */
	void (*on_oom)(struct engine_instance *i);
	/* The guest did it itself: paused (I/O error), resumed, rebooted.  what: "paused", "resumed", "reset". */
	void (*on_change)(struct engine_instance *i, const char *what);
};

/* Terminal, sockets or pipes of a process, the receiver's to close. */
struct engine_stream {
	int in; /* writing here is its input; -1: none */
	int out; /* reading here is its output; -1: `in` is a socket or terminal that carries both directions */
	int err; /* -1: none of its own */
	bool tty;
};
#define ENGINE_STREAM_NONE ((struct engine_stream){ -1, -1, -1, false })
void engine_stream_close(struct engine_stream *s); /* what was not taken; twice: no effect */

struct engine_exec_spec { /* borrowed for the call */
	char *const *args;
	char *const *env;	/* "K=V", added to the instance's; may be NULL */
	const char *user, *cwd; /* NULL: the instance's */
	bool tty, stdin_open;
	unsigned int rows, columns; /* of the terminal */
};

/* A command inside, from exec() to its end.  Made by the engine, freed by engine_exec_free() in the caller's on_exit or after;
 * freeing it earlier hangs up its streams. */
struct engine_exec {
	struct engine_instance *instance;
	struct engine_stream stream; /* take the descriptors (TAKE_FD) */
	pid_t pid;		     /* on the host; 0: it has none */
	void (*on_exit)(struct engine_exec *x, int code,
			struct err *e); /* set by done(); e: taken, lost when not NULL */
	void *data;
	void *priv;
};

struct engine_process { /* one line of top */
	int64_t pid, ppid;
	char user[64];
	nsec_t cpu;
	uint64_t memory;
	char *command; /* owned */
};

struct engine_info {	      /* what start and adopt learned; in the instance until cleanup */
	pid_t pid;	      /* of the VM, or the container's first process */
	char accelerator[32]; /* "kvm", "tcg"; empty for containers */
	char vnc[256];	      /* where the screen listens; empty: none */
	nsec_t started;	      /* wall clock */
};

/* ---- the instance, as engines see it ---- */

struct engine_ops;

struct engine_instance { /* embedded in an engine's own struct; made by engine_attach() */
	const struct engine_ops *ops;
	const struct engine_env *env;
	const struct engine_events *events;
	char *id, *name;
	/* The engine's files of this run: sockets, bundle, what cleanup() needs.  Made by the room above, mode 0700, below the
	 * daemon's run folder (a reboot empties it), removed by it after cleanup(). */
	char *dir;
	struct engine_info info;
	void *owner; /* the instance room's */
};

struct engine_ops {
	const char *name;     /* "container", "native", "qemu", "fake" */
	bool vm;	      /* runs instances of kind vm */
	size_t instance_size; /* engine_instance first, zeroed */

	/* Can this host run instances so at all?  -ENOTSUP with the reason and the command that helps.  Cheap: what has to be
	 * measured is measured once and kept.  NULL: yes. */
	int (*usable)(const struct engine_env *env, struct err **e);
	/* Can it run this one?  Only looks. NULL: yes. */
	int (*check)(const struct engine_env *env, const struct api_instance_spec *spec,
		     struct err **e);

	int (*attach)(struct engine_instance *i, struct err **e); /* NULL: nothing to do */
	void (*detach)(struct engine_instance *i); /* NULL: nothing to do; half-attached too */

	/* Makes everything but does not run the command: i->info.pid is set, its namespaces exist.  NULL: start does all. */
	void (*prepare)(struct engine_instance *i, const struct engine_plan *p,
			struct engine_call *c);
	/* Done when the command (or the guest) runs; i->info is filled.  On failure what was made may be left
	 * for cleanup().  The end of what was started is told by on_exit, also when it comes at once. */
	void (*start)(struct engine_instance *i, const struct engine_plan *p,
		      struct engine_call *c);
	/* 0: it runs, i->info is filled, events come from now on.  -ESRCH: it does not run any more; when its end is on record
	 * *x is filled and x->when is not 0 (message: static or owned by i).  plan: what it was started with, without descriptors. */
	void (*adopt)(struct engine_instance *i, struct engine_exit *x, struct engine_call *c);
	void (*cleanup)(struct engine_instance *i, struct engine_call *c);

	/* Ask it to end: signo for a container's command or strata-init, the power button for a booted disk.  Done when asked;
	 * the room above waits for on_exit and kills after its time-out. */
	void (*stop)(struct engine_instance *i, int signo, struct engine_call *c);
	/* A signal to the first process; SIGKILL ends everything inside at once (a VM: its process). */
	void (*kill)(struct engine_instance *i, int signo, struct engine_call *c);
	void (*pause)(struct engine_instance *i, struct engine_call *c);
	void (*resume)(struct engine_instance *i, struct engine_call *c);

	/* *ret is set when the call ends with 0. */
	void (*exec)(struct engine_instance *i, const struct engine_exec_spec *s,
		     struct engine_exec **ret, struct engine_call *c);
	int (*exec_resize)(struct engine_exec *x, unsigned int rows, unsigned int columns);
	void (*exec_free)(struct engine_exec *x); /* NULL is not passed */

	/* The command's own input and output (container, strata-init), or the serial console (VM that boots a disk).  Several
	 * may be open; each gets all output from now on.  *ret is set when the call ends with 0. */
	void (*console)(struct engine_instance *i, struct engine_stream *ret,
			struct engine_call *c);
	int (*console_resize)(struct engine_instance *i, unsigned int rows, unsigned int columns);
	/* The screen: a connected RFB stream. */
	void (*screen)(struct engine_instance *i, struct engine_stream *ret, struct engine_call *c);

	/* ret: released or zeroed before; filled when the call ends with 0.  NICs are left to the room above. */
	void (*stats)(struct engine_instance *i, struct api_instance_stats *ret,
		      struct engine_call *c);
	/* *ret (n of them) is the caller's: each command, then the array, by free(). */
	void (*top)(struct engine_instance *i, struct engine_process **ret, size_t *n,
		    struct engine_call *c);

	/* Make cpu, memory, limits, I/O limits and NIC links of a running instance as p says. -ENOTSUP names what needs a stop. */
	void (*update)(struct engine_instance *i, const struct engine_plan *p,
		       struct engine_call *c);
	/* Hot-plug, VMs.  id: plan_disk.id or plan_nic.id. */
	void (*attach_disk)(struct engine_instance *i, const struct plan_disk *d,
			    struct engine_call *c);
	void (*attach_nic)(struct engine_instance *i, struct plan_nic *n, struct engine_call *c);
	void (*remove_device)(struct engine_instance *i, const char *id, struct engine_call *c);
	/* A disk of a running VM goes on in another file (snapshot, clone): the new top `path` (qcow2, backed by the present file)
	 * was made by the room above; done when no more is written to the old file. */
	void (*switch_disk)(struct engine_instance *i, const char *id, const char *path,
			    struct engine_call *c);

	/* Memory, devices and (VM) a consistent point of the disks into `dir`, which exists and is empty; the instance is paused before
	 * and stays paused.  plan.restore starts from it. */
	void (*save)(struct engine_instance *i, const char *dir, struct engine_call *c);

	/* Files inside.  get: descriptor of a tar stream of path; put: tar stream from fd (taken) unpacked below the directory path.
	 * Also for stopped containers where the root is assembled.  NULL: not by this engine. */
	void (*get_files)(struct engine_instance *i, const char *path, int *ret_fd,
			  struct engine_call *c);
	void (*put_files)(struct engine_instance *i, const char *path, int fd,
			  struct engine_call *c);
};

/* Every engine of this program, NULL-terminated (engine/enginetab.c). */
extern const struct engine_ops *const engine_table[];
const struct engine_ops *engine_by_name(const char *name); /* NULL: none */

struct engine_attach {
	const char *id, *name, *dir;
	const struct engine_env *env;
	const struct engine_events *events;
	void *owner;
};
int engine_attach(const struct engine_ops *ops, const struct engine_attach *a,
		  struct engine_instance **ret, struct err **e);
void engine_detach(struct engine_instance *i); /* NULL: no effect */
void engine_exec_free(
	struct engine_exec *x); /* closes what is left of its stream; NULL: no effect */

/* CPU time that limit and limit_mhz allow, in CPUs; 0: no limit.  Looks at this host's clock rate. */
double engine_cpu_limit(const struct api_instance_cpu *c);

/* The engine for a VM whose spec says auto: the first of the table that is usable and can run it, with the reason in words
 * (why those before it were passed over).  -ENOTSUP lists why each refuses. */
int engine_choose(const struct engine_env *env, const struct api_instance_spec *spec,
		  const struct engine_ops **ret, char reason[512], struct err **e);

#endif
