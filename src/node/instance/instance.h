/* Instances: what the daemon does with VMs and containers.
 *
 * An instance is an object of the inventory (schema/instance.json) and, while the daemon runs, a `struct instance` beside it
 * that holds what is not worth writing down: the engine's handle, timers, waiting clients.  Everything that changes what runs
 * is a task (verbs.c), whose steps call the functions of this header; what happens by itself (an exit, the OOM killer) comes
 * from the engine and is handled in run.c.
 *
 * Invariants:
 * (1) status.state on disk is "starting" before anything of a start is made, and "running" only after the engine said so: a
 *     start that a crash cut short is seen at the next start of the daemon and cleaned up;
 * (2) whatever a run makes is taken away by instance_clean(), which accepts nothing, a part and all of it;
 * (3) an instance leaves the inventory only after its files are gone.
 * Thread: the main loop's. */
#ifndef NODE_INSTANCE_H
#define NODE_INSTANCE_H

#include "base/hmap.h"
#include "node/engine.h"
#include "node/instance/health.h"
#include "node/instance/restart.h"
#include "node/node.h"
#include "node/service/image.h"
#include "node/service/network.h"
#include "node/service/storage.h"

struct instance;

struct instances {
	struct node *node;
	struct engine_env env;
	struct hmap all;
	int userns;		       /* of containers; -1: not made yet */
	struct list execs;	       /* sessions of api/exec.c */
	size_t adopting;	       /* at the start of the daemon */
	void (*ready)(struct node *n); /* when that is over */
};

/* One that waits for something about an instance: called on every change of state, before removal too. */
struct instance_waiter { /* caller's memory */
	void (*fn)(struct instance_waiter *w, struct instance *i);
	void *data;
	struct list node;
};

/* A stream that wants to be attached before the first byte: connected between prepare and start. */
struct instance_attach { /* caller's memory */
	/* s: taken, on success; e: taken. Called once. */
	void (*fn)(struct instance_attach *a, struct engine_stream *s, int r, struct err *e);
	bool *busy; /* set while the engine has this memory: fn is still to come */
	struct engine_call call;
	struct engine_stream stream;
	struct list node;
};

struct instance {
	struct hnode node;
	struct instances *all;
	struct object *object; /* referenced */
	enum api_instance_state state;
	struct engine_instance *engine; /* attached at the first start or adoption; NULL before */
	char *dir, *run;		/* STATE/instances/ID, RUN/instances/ID */
	struct api_instance_spec *spec; /* parsed, while it runs or starts; NULL else */
	struct image_entry *image;	/* the same */

	struct instance_run *starting; /* run.c: a start under way */
	bool cleaning;		       /* run.c: a cleanup under way */
	bool stop_wanted;	       /* the next end is on purpose */
	bool removing;
	bool gone; /* told to waiters, the last time */
	struct restart restart;
	struct timer restart_timer;
	struct health health;
	struct list waiters;  /* instance_waiter */
	struct list attaches; /* instance_attach, waiting for a start */
};

int instances_open(struct node *n, struct instances **ret, struct err **e);
void instances_close(struct instances *all); /* what runs goes on; NULL: no effect */
/* After a restart of the daemon: find again what runs, take away what does not, then call ready. */
void instances_adopt(struct instances *all, void (*ready)(struct node *n));
/* Those that shall start with the daemon. */
void instances_autostart(struct instances *all);

struct instance *instance_get(struct instances *all, const char *id); /* NULL: none */
/* For an object that is new in the inventory. */
int instance_new(struct instances *all, struct object *o, struct instance **ret, struct err **e);
/* Its object is deleted; NULL: no effect. */
void instance_free(struct instance *i);

/* -- state.c: what is shown -- */
bool instance_runs(const struct instance *i); /* running, paused, stopping */
/* The only writer of i->state.  message: NULL: none. */
void instance_move(struct instance *i, enum api_instance_state to, const char *message);
void instance_event(struct instance *i, const char *what, struct json *data); /* data: taken */
void instance_show_nics(struct instance *i);
void instance_wait(struct instance *i, struct instance_waiter *w);
void instance_unwait(struct instance_waiter *w); /* twice: no effect */
void instance_wake(struct instance *i);

/* -- spec.c: from what a client sent to what is stored -- */
/* Fill in what the client left out (ids, a NIC), refuse what no schema says.  s: a validated spec. */
int instance_spec_complete(struct node *n, struct api_instance_spec *s, struct err **e);
/* i->spec and i->image, for a start or for what runs. */
int instance_load(struct instance *i, struct err **e);
void instance_unload(struct instance *i);

/* -- plan.c -- */
int instance_plan(struct instance *i, struct engine_plan **ret, struct err **e);
/* For tests: entry point and command together.  The caller's (strv_free). */
char **plan_args(const struct api_instance_spec *s, char *const *image_entrypoint,
		 char *const *image_cmd);
char **plan_env(const struct api_instance_spec *s, char *const *image_env);
/* "SIGTERM", "TERM", "15"; 0: none such. */
int signal_number(const char *name);

/* -- rootfs.c -- */
int instance_dirs(struct instance *i, struct err **e);
/* The writable layer, with its quota; blocking, on a worker.  There already: 0. */
int instance_make_layer(struct instance *i, struct image_op *op, struct err **e);
int instance_mount(struct instance *i, const struct engine_plan *p, struct err **e);
int instance_umount(struct instance *i, struct err **e);     /* not mounted: 0 */
int instance_delete_run(struct instance *i, struct err **e); /* i->run, after everything else */
/* Everything on disk; blocking, on a worker: looks at i->dir and i->run alone. */
int instance_delete_files(const char *dir, const char *run, struct err **e);

/* -- run.c: starts and ends -- */
typedef void instance_done_fn(void *arg, int r, struct err *e); /* e: taken */
/* From stopped to running; done once.  On failure the remains are left to instance_clean(). */
void instance_start(struct instance *i, instance_done_fn *done, void *arg);
/* Take everything of a run away; done once.  i->state is not touched. */
void instance_clean(struct instance *i, instance_done_fn *done, void *arg);
/* It has ended: clean, show it, and act as its restart policy says. */
void instance_ended(struct instance *i, const struct engine_exit *x);
extern const struct engine_events instance_engine_events;

/* What runs: its NICs and ports as the spec says now. */
int instance_update_nics(struct instance *i, struct err **e);

/* -- logs.c -- */
void instance_delete_logs(struct instance *i);

/* -- verbs.c -- */
extern const struct task_verb *const instance_verbs[]; /* NULL-terminated */

#endif
