/* Private to block.c, queue.c, node.c and the opening of formats: the two structs that the rest of the room sees only by name. */
#ifndef STORAGE_DISK_H
#define STORAGE_DISK_H

#include "base/loop.h"
#include "storage/disk_ops.h"
#include "sys/aio.h"

struct disk {
	struct disk_node *top;	/* where requests enter: a filter or the format */
	struct disk_node *gate; /* last of the filters: what is below changes while it is closed */
	struct disk_node *format; /* the active layer */
	char *path;
	struct disk_cfg cfg; /* what later opens need; its strings and arrays are not kept */
	uint64_t ids[DISK_MAX_NODES / 64]; /* node ids in use; under ctl_lock */
	bool readonly;
	bool repairing;		    /* opened for check --repair */
	unsigned int opening_depth; /* of the backing file that is being opened */

	pthread_mutex_t lock; /* queues, closed_stats, event, gate */
	pthread_cond_t drained;
	struct list queues;
	struct disk_stats closed_stats;
	_Atomic uint64_t epoch; /* see disk_epoch_advance() */
	atomic_uint paused;	/* nesting depth of disk_quiesce() */
	void (*event_fn)(void *arg, enum disk_event ev, int64_t value);
	void *event_arg;
	_Atomic uint64_t threshold;

	pthread_mutex_t ctl_lock; /* recursive; who holds it owns ctl */
	struct disk_queue *ctl;	  /* blocking calls */
};

struct disk_queue {
	struct disk *disk;
	struct loop *loop;
	struct aio *aio;
	struct watch aio_watch, wake_watch;
	struct list in_disk;
	pthread_t owner;
	unsigned int inflight; /* root requests */
	unsigned int plugged, submitting;
	bool polling, woken;
	struct list completed; /* root requests whose done() is due */
	struct list parked;    /* at the gate */
	struct list pool;      /* free child requests */
	char apart1[64];
	atomic_uint inside[2]; /* requests past the gate, by parity of the epoch */
	char apart2[64];
	pthread_mutex_t post_lock;
	struct list posted; /* under post_lock: io_resume_later() */
	atomic_bool any_posted;
	struct list delayed; /* by io->due */
	struct list retired; /* under post_lock: nodes to detach on this thread */
	atomic_bool any_retired;
	struct timer timer;
	int wake_fd;
	struct {
		struct disk_node *node;
		void *slot;
	} * slots;
	unsigned int n_slots;
	struct disk_stats stats;
};

/* node.c: d->top and d->format from cfg; what was built before a failure is in d->top. */
int disk_build(struct disk *d, const struct disk_cfg *cfg, struct err **e);

int queue_new(struct disk *d, struct loop *loop, struct disk_queue **ret, struct err **e);
void queue_free(struct disk_queue *q);
void queue_detach_node(struct disk_queue *q, struct disk_node *n);
void queue_retire_node(struct disk_queue *q,
		       struct disk_node *n); /* the same, later, on its thread */
void node_unref(struct disk_node *n);
extern const struct disk_ops disk_gate;
/* How files below are opened: what they inherit from the way that the disk was. */
struct disk_cfg disk_cfg_below(const struct disk *d, const char *path, const char *format,
			       bool readonly);
/* Driver and format for cfg->path. */
int node_open_image(struct disk *d, const struct disk_cfg *cfg, struct disk_node **ret,
		    struct err **e);
void queue_wake(struct disk_queue *q);

#endif
