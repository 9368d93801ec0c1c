/* Links on their way out, see reaper.h.  Invariant: a link is in a batch of `waiting` or in `running` until the kernel
 * has let it go; all is guarded by `lock`, but what `running` points to, which is the thread's to read. */
#define LOG_MODULE "net"
#include <errno.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include "base/hmap.h"
#include "base/list.h"
#include "base/log.h"
#include "base/str.h"
#include "net/datapath/reaper.h"
#include "sys/netns.h"
#include "sys/rtnl.h"

#define GROUP 0x57726561 /* number by which dying links are removed together */

struct dying {
	struct list node;
	struct hnode by_name;
	char name[IFNAMSIZ];
};

struct batch { /* of one namespace */
	struct list node, links;
	int ns;
};

struct reaper {
	pthread_mutex_t lock;
	pthread_cond_t more, idle;
	struct list waiting;
	struct batch *running;
	struct hmap names;
	pthread_t thread;
	bool started, stopping;
};

int reaper_new(struct reaper **ret, struct err **e)
{
	struct reaper *r = calloc(1, sizeof(*r));

	if (!r || hmap_init(&r->names) < 0) {
		free(r);
		return err_sys(e, ENOMEM, "reaper");
	}
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->more, NULL);
	pthread_cond_init(&r->idle, NULL);
	list_init(&r->waiting);
	*ret = r;
	return 0;
}

void reaper_mark(struct nl_batch *b, const char *name)
{
	rtnl_put_change(b, &(struct rtnl_change){ .name = name, .group = GROUP });
}

int reaper_remove(struct nl *nl, struct nl_batch *b, struct err **e)
{
	int r;

	if (b->n == 0)
		return 0;
	nl_send(nl, b, NULL, NULL); /* a link may have gone with its instance's namespace */
	rtnl_put_group_del(b, GROUP);
	r = nl_send(nl, b, NULL, NULL);
	return r == -ENODEV || r == 0 ? 0 : err_sys(e, -r, "remove links");
}

static void remove_links(const struct batch *t)
{
	_cleanup_(nl_batch_done) struct nl_batch b = { 0 };
	struct nl nl = { 0 };
	struct err *e = NULL;
	struct dying *d;
	int code = nl_open_at(&nl, NETLINK_ROUTE, t->ns, &e);

	if (code == 0) {
		list_for_each_entry(d, &t->links, node)
			reaper_mark(&b, d->name);
		code = reaper_remove(&nl, &b, &e);
	}
	if (code < 0)
		log_warn("links not removed", "err", e);
	err_free(e);
	nl_close(&nl);
}

/* lock held. */
static void batch_free(struct reaper *r, struct batch *t)
{
	struct list *l;

	while ((l = list_pop(&t->links))) {
		struct dying *d = list_entry(l, struct dying, node);

		hmap_remove(&r->names, &d->by_name);
		free(d);
	}
	safe_close(t->ns);
	free(t);
}

static void *reap(void *arg)
{
	struct reaper *r = arg;

	pthread_mutex_lock(&r->lock);
	for (;;) {
		struct list *l = list_pop(&r->waiting);

		if (!l) {
			pthread_cond_broadcast(&r->idle);
			if (r->stopping)
				break;
			pthread_cond_wait(&r->more, &r->lock);
			continue;
		}
		r->running = list_entry(l, struct batch, node);
		pthread_mutex_unlock(&r->lock);
		remove_links(r->running);
		pthread_mutex_lock(&r->lock);
		batch_free(r, r->running);
		r->running = NULL;
	}
	pthread_mutex_unlock(&r->lock);
	return NULL;
}

static int start(struct reaper *r)
{
	sigset_t all, old;
	int code;

	if (r->started)
		return 0;
	sigfillset(&all); /* signals are the loop's */
	pthread_sigmask(SIG_SETMASK, &all, &old);
	code = pthread_create(&r->thread, NULL, reap, r);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	r->started = code == 0;
	return -code;
}

/* The waiting batch of a namespace; lock held. */
static struct batch *batch_of(struct reaper *r, int ns)
{
	struct batch *t;

	list_for_each_entry(t, &r->waiting, node)
		if (netns_same(t->ns, ns))
			return t;
	t = calloc(1, sizeof(*t));
	if (!t)
		return NULL;
	t->ns = fcntl(ns, F_DUPFD_CLOEXEC, 0);
	if (t->ns < 0) {
		free(t);
		return NULL;
	}
	list_init(&t->links);
	list_add_tail(&r->waiting, &t->node);
	return t;
}

static int add(struct reaper *r, struct batch *t, const char *name)
{
	struct dying *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	memcpy(d->name, name, MIN(strlen(name), sizeof(d->name) - 1));
	list_add_tail(&t->links, &d->node);
	hmap_add(&r->names, &d->by_name, hash_str(d->name));
	return 0;
}

int reaper_add(struct reaper *r, int netns_fd, const char *const *names)
{
	struct batch *t;
	int code;

	pthread_mutex_lock(&r->lock);
	code = start(r);
	t = code == 0 ? batch_of(r, netns_fd) : NULL;
	if (code == 0 && !t)
		code = -ENOMEM;
	for (; code == 0 && *names; names++)
		code = add(r, t, *names);
	pthread_cond_signal(&r->more);
	pthread_mutex_unlock(&r->lock);
	return code;
}

bool reaper_has(struct reaper *r, const char *name)
{
	bool has = false;

	pthread_mutex_lock(&r->lock);
	hmap_for_each(n, &r->names, hash_str(name))
		has |= streq(container_of(n, struct dying, by_name)->name, name);
	pthread_mutex_unlock(&r->lock);
	return has;
}

bool reaper_wait(struct reaper *r)
{
	bool any;

	pthread_mutex_lock(&r->lock);
	any = r->names.n > 0;
	while (r->running || !list_empty(&r->waiting))
		pthread_cond_wait(&r->idle, &r->lock);
	pthread_mutex_unlock(&r->lock);
	return any;
}

void reaper_free(struct reaper *r)
{
	if (!r)
		return;
	pthread_mutex_lock(&r->lock);
	r->stopping = true;
	pthread_cond_signal(&r->more);
	pthread_mutex_unlock(&r->lock);
	if (r->started)
		pthread_join(r->thread, NULL);
	hmap_done(&r->names);
	pthread_cond_destroy(&r->more);
	pthread_cond_destroy(&r->idle);
	pthread_mutex_destroy(&r->lock);
	free(r);
}
