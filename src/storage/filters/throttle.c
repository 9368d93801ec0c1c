/* Filter "throttle": requests wait until the limits (limits.h) let them pass.
 *
 * Parameters: the names of limits.h; "group": disks of this process that name the same group share one budget, in turn;
 * "bypass" on or off: let everything pass, for an orderly end.  Reads and writes count as operations and bytes;
 * discards and zeroes move no data and count as write operations; flushes are free.
 *
 * Threads: a group is shared by queues on several threads, under its lock.  A member is one queue's part of it; its
 * requests run on that queue's thread.  Whoever finds budget gives it out, in turn to all members that wait: its own
 * requests go on at once, those of others through their queues.
 *
 * Invariants
 * (1) A member with waiting requests has its timer running (`armed`), so each of them is looked at again.
 * (2) A member is in g->turn[dir] exactly while it has waiting requests of that direction. */
#include <string.h>
#include "base/clock.h"
#include "base/str.h"
#include "storage/disk_ops.h"
#include "storage/filters/limits.h"

/* Timers are not set shorter: what was missed is caught up on, and 100,000 a second need not wake up as often. */
#define NAP (1 * NSEC_PER_MSEC)

struct group {
	struct list link; /* in `groups`, when it has a name */
	char *name;
	unsigned int refs;
	pthread_mutex_t lock;
	struct limits limits;
	atomic_bool active; /* limits.any and not bypassed: looked at without the lock */
	bool bypass;
	struct list turn[2];
};

struct throttle {
	struct disk_node node;
	struct group *g;
};

struct member {
	struct group *g;
	struct disk_queue *q;
	struct list waiting[2], in_turn[2]; /* requests; the group's turn */
	struct disk_io timer, kick;	    /* not requests: what the queue's delays hang on */
	bool armed, kicked;
};

/* Named groups of this process: a name is how two disks say that they share. */
static pthread_mutex_t groups_lock = PTHREAD_MUTEX_INITIALIZER;
static struct list groups = LIST_INIT(groups);

static struct throttle *to_throttle(struct disk_node *n)
{
	return container_of(n, struct throttle, node);
}

static struct group *group_get(const char *name)
{
	struct group *g;

	pthread_mutex_lock(&groups_lock);
	list_for_each_entry(g, &groups, link)
		if (name && streq(g->name, name)) {
			g->refs++;
			pthread_mutex_unlock(&groups_lock);
			return g;
		}
	g = calloc(1, sizeof(*g));
	if (g) {
		list_init(&g->link);
		list_init(&g->turn[0]);
		list_init(&g->turn[1]);
		pthread_mutex_init(&g->lock, NULL);
		g->refs = 1;
		g->name = name ? strdup(name) : NULL;
		if (name && !g->name)
			free(TAKE(g));
		else if (name)
			list_add_tail(&groups, &g->link);
	}
	pthread_mutex_unlock(&groups_lock);
	return g;
}

static void group_put(struct group *g)
{
	if (!g)
		return;
	pthread_mutex_lock(&groups_lock);
	if (--g->refs > 0) {
		pthread_mutex_unlock(&groups_lock);
		return;
	}
	list_del(&g->link);
	pthread_mutex_unlock(&groups_lock);
	pthread_mutex_destroy(&g->lock);
	free(g->name);
	free(g);
}

/* ---- requests ---- */

static uint64_t bytes_of(const struct disk_io *io)
{
	return io->op == DISK_READ || io->op == DISK_WRITE ? io->len : 0;
}

static void go_on(struct disk_io *io)
{
	node_submit(io->node->next, io);
}

/* Give out what there is, in turn, reads and writes alternately; `own` gets the requests of queue q.  Locked. */
static void group_grant(struct group *g, struct disk_queue *q, struct list *own)
{
	nsec_t now = now_mono();
	bool stuck[2] = { false, false };

	for (unsigned int dir = 0; !stuck[0] || !stuck[1]; dir ^= 1) {
		struct member *m = list_first_entry(&g->turn[dir], struct member, in_turn[dir]);
		struct disk_io *io = m ? list_first_entry(&m->waiting[dir], struct disk_io, link)
				       : NULL;

		if (!io || (!g->bypass && limits_wait(&g->limits, dir, bytes_of(io), now) > 0)) {
			stuck[dir] = true;
			continue;
		}
		limits_take(&g->limits, dir, bytes_of(io), now);
		list_del(&io->link);
		list_del(&m->in_turn[dir]);
		if (!list_empty(&m->waiting[dir]))
			list_add_tail(&g->turn[dir], &m->in_turn[dir]);
		if (m->q == q)
			list_add_tail(own, &io->link);
		else
			io_resume_later(io, go_on);
	}
}

static void on_timer(struct disk_io *t);

/* Locked; on m's thread. */
static void member_arm(struct member *m)
{
	nsec_t now = now_mono(), wait = NSEC_FOREVER;

	for (int dir = 0; dir < 2; dir++) {
		struct disk_io *io = list_first_entry(&m->waiting[dir], struct disk_io, link);

		if (io)
			wait = MIN(wait, limits_wait(&m->g->limits, dir, bytes_of(io), now));
	}
	if (m->armed || wait == NSEC_FOREVER)
		return;
	m->armed = true;
	io_resume_at(&m->timer, now + MAX(wait, NAP), on_timer);
}

static void member_run(struct member *m)
{
	struct list own;
	struct list *l;

	list_init(&own);
	pthread_mutex_lock(&m->g->lock);
	group_grant(m->g, m->q, &own);
	member_arm(m);
	pthread_mutex_unlock(&m->g->lock);
	while ((l = list_pop(&own)))
		go_on(list_entry(l, struct disk_io, link));
}

static void on_timer(struct disk_io *t)
{
	struct member *m = container_of(t, struct member, timer);

	m->armed = false;
	member_run(m);
}

/* The limits have changed. */
static void on_kick(struct disk_io *k)
{
	struct member *m = container_of(k, struct member, kick);

	pthread_mutex_lock(&m->g->lock);
	m->kicked = false;
	pthread_mutex_unlock(&m->g->lock);
	if (m->armed) {
		m->armed = false;
		io_resume_cancel(&m->timer);
	}
	member_run(m);
}

static void throttle_submit(struct disk_node *n, struct disk_io *io)
{
	struct group *g = to_throttle(n)->g;
	unsigned int dir = io->op != DISK_READ;
	struct member *m;
	nsec_t now;

	if (io->op == DISK_FLUSH || !atomic_load_explicit(&g->active, memory_order_relaxed)) {
		node_submit(n->next, io);
		return;
	}
	m = queue_slot(io->q, n);
	if (!m) {
		disk_io_done(io, -ENOMEM);
		return;
	}
	now = now_mono();
	pthread_mutex_lock(&g->lock);
	if (list_empty(&g->turn[dir]) && limits_wait(&g->limits, dir, bytes_of(io), now) == 0) {
		limits_take(&g->limits, dir, bytes_of(io), now);
		pthread_mutex_unlock(&g->lock);
		node_submit(n->next, io);
		return;
	}
	if (list_empty(&m->waiting[dir]))
		list_add_tail(&g->turn[dir], &m->in_turn[dir]);
	list_add_tail(&m->waiting[dir], &io->link);
	member_arm(m);
	pthread_mutex_unlock(&g->lock);
}

/* ---- life ---- */

static int throttle_attach(struct disk_node *n, struct disk_queue *q, void **slot)
{
	struct member *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	m->g = to_throttle(n)->g;
	m->q = m->timer.q = m->kick.q = q;
	list_init(&m->timer.link);
	list_init(&m->kick.link);
	for (int dir = 0; dir < 2; dir++) {
		list_init(&m->waiting[dir]);
		list_init(&m->in_turn[dir]);
	}
	*slot = m;
	return 0;
}

static void throttle_detach(struct disk_node *n, struct disk_queue *q, void *slot)
{
	struct member *m = slot;

	if (m->armed)
		io_resume_cancel(&m->timer);
	io_resume_forget(&m->kick);
	free(m);
}

static int throttle_open(struct disk_node *n, const struct disk_cfg *cfg, struct err **e)
{
	struct throttle *t = to_throttle(n);
	const char *name = NULL;

	for (size_t i = 0; i < cfg->n_filters; i++)
		if (streq(cfg->filters[i].name, "throttle"))
			name = param_get(cfg->filters[i].params, "group");
	t->g = group_get(name);
	return t->g ? 0 : err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
}

static int throttle_close(struct disk_node *n)
{
	group_put(to_throttle(n)->g);
	return 0;
}

static int throttle_set_param(struct disk_node *n, const char *name, const char *value,
			      struct err **e)
{
	struct group *g = to_throttle(n)->g;
	bool on = false;
	int r = 0;

	if (streq(name, "group")) /* open() has looked at it */
		return g->name && streq(g->name, value)
			       ? 0
			       : err_set(e, EBUSY, "disk.filter", "a disk stays in its group");
	if (streq(name, "bypass") && parse_bool(value, &on) < 0)
		return err_set(e, EINVAL, "disk.limit-value", "bypass: '%s' is neither on nor off",
			       value);
	pthread_mutex_lock(&g->lock);
	if (streq(name, "bypass"))
		g->bypass = on;
	else
		r = limits_set(&g->limits, name, value, now_mono(), e);
	atomic_store(&g->active, g->limits.any && !g->bypass);
	for (int dir = 0; dir < 2 && r == 0; dir++) {
		struct member *m;

		list_for_each_entry(m, &g->turn[dir], in_turn[dir]) {
			if (!m->kicked)
				io_resume_later(&m->kick, on_kick);
			m->kicked = true;
		}
	}
	pthread_mutex_unlock(&g->lock);
	return r == -ENOENT ? err_set(e, EINVAL, "disk.limit-value", "no limit '%s'", name) : r;
}

static void throttle_info(struct disk_node *n,
			  void (*emit)(void *arg, const char *name, const char *value), void *arg)
{
	struct group *g = to_throttle(n)->g;
	struct limits l;
	char text[32];

	pthread_mutex_lock(&g->lock);
	l = g->limits;
	pthread_mutex_unlock(&g->lock);
	if (g->name)
		emit(arg, "group", g->name);
	for (int k = 0; k < LIMIT_KINDS; k++) {
		if (!l.v[k].rate)
			continue;
		snprintf(text, sizeof(text), "%llu", (unsigned long long)l.v[k].rate);
		emit(arg, limit_names[k], text);
		if (!l.v[k].max)
			continue;
		snprintf(text, sizeof(text), "%llu", (unsigned long long)l.v[k].max);
		emit(arg, limit_names[LIMIT_KINDS + k], text);
		snprintf(text, sizeof(text), "%g",
			 (double)(l.v[k].length ?: NSEC_PER_SEC) / (double)NSEC_PER_SEC);
		emit(arg, limit_names[2 * LIMIT_KINDS + k], text);
	}
}

const struct disk_ops disk_filter_throttle = {
	.name = "throttle",
	.kind = DISK_FILTER,
	.instance_size = sizeof(struct throttle),
	.open = throttle_open,
	.close = throttle_close,
	.submit = throttle_submit,
	.attach = throttle_attach,
	.detach = throttle_detach,
	.set_param = throttle_set_param,
	.info = throttle_info,
};
