/* See crew.h. */
#include "image/crew.h"

#include <fcntl.h>
#include <pthread.h>
#include "image/fsutil.h"
#include "image/unpack.h"

#define THREADS_MAX 16
#define FOLLOWERS   6 /* threads that may wait for the network beside those that keep CPUs busy */
#define BEAT	    (100 * NSEC_PER_MSEC)

struct part {	       /* one layer; under the lock */
	int fd;	       /* our own of its part file, -1: none */
	uint64_t size; /* good bytes */
	unsigned int generation;
	bool ready, taken, suspect, done; /* suspect: failed early, try again when ready */
};

struct crew {
	struct image_store *s;
	const struct image_parts *p;
	struct image_op *op;
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct part *parts;
	size_t n;
	unsigned int waiting; /* threads */
	bool closed, dropped;
	int r;
	struct err *err;
	pthread_t threads[THREADS_MAX];
	unsigned int n_threads;
};

struct follower { /* one unpacking of a layer that is on its way */
	struct crew *c;
	struct part *part;
	int fd;
	uint64_t pos;
	unsigned int generation;
};

static void wait_beat(struct crew *c)
{
	struct timespec ts;

	/* also looked up by the clock: cancelling wakes nobody */
	clock_gettime(CLOCK_MONOTONIC, &ts);
	ts.tv_nsec += (long)BEAT;
	if (ts.tv_nsec >= (long)NSEC_PER_SEC) {
		ts.tv_sec++;
		ts.tv_nsec -= (long)NSEC_PER_SEC;
	}
	c->waiting++;
	pthread_cond_timedwait(&c->more, &c->lock, &ts);
	c->waiting--;
}

static void wake(struct crew *c)
{
	if (c->waiting)
		pthread_cond_broadcast(&c->more);
}

/* How much can be read now: > 0; 0: the end; -ESTALE: what was read is not good; -ECANCELED. */
static int64_t wait_more(struct follower *f)
{
	struct crew *c = f->c;
	const struct part *p = f->part;
	int64_t r = -1;

	pthread_mutex_lock(&c->lock);
	for (;;) {
		if (p->generation != f->generation) {
			r = -ESTALE;
		} else if (c->dropped || c->r < 0 || image_op_check(c->op, NULL) < 0) {
			r = -ECANCELED;
		} else if (p->size > f->pos) {
			r = (int64_t)(p->size - f->pos);
		} else if (p->ready) {
			r = 0;
		} else {
			wait_beat(c);
			continue;
		}
		break;
	}
	pthread_mutex_unlock(&c->lock);
	return r;
}

static ssize_t follow_read(void *arg, void *data, size_t len, struct err **e)
{
	struct follower *f = arg;
	int64_t there = wait_more(f);
	ssize_t n;

	if (there == 0)
		return 0;
	if (there < 0)
		return err_set(e, (int)-there, "image.cancelled", "the download began anew");
	n = fd_pread(f->fd, data, MIN(len, (size_t)there), f->pos);
	if (n <= 0) /* cut under us: the generation will tell */
		return err_set(e, n < 0 ? (int)-n : ESTALE, "image.cancelled",
			       "the download began anew");
	f->pos += (uint64_t)n;
	return n;
}

/* A layer to work on; NULL: none now.  Ready ones first: they wait for nobody. */
static struct part *take(struct crew *c)
{
	struct part *found = NULL;

	for (size_t i = 0; i < c->n; i++) {
		struct part *p = &c->parts[i];

		if (p->done || p->taken)
			continue;
		if (p->ready) {
			found = p;
			break;
		}
		if (!found && p->fd >= 0 && p->size > 0 && !p->suspect)
			found = p;
	}
	if (found)
		found->taken = true;
	return found;
}

static int work(struct crew *c, struct part *p, struct err **e)
{
	struct follower f = { .c = c, .part = p, .fd = -1, .generation = p->generation };
	bool early = !p->ready;
	size_t i = (size_t)(p - c->parts);
	int r;

	if (early)
		f.fd = fcntl(p->fd, F_DUPFD_CLOEXEC, 0);
	pthread_mutex_unlock(&c->lock);
	r = early ? unpack_layer_from(c->s, c->p, i, follow_read, &f, c->op, e)
		  : unpack_layer(c->s, c->p, i, c->op, e);
	safe_close(f.fd);
	pthread_mutex_lock(&c->lock);
	p->taken = false;
	if (r == 0) {
		p->done = true;
	} else if (early) {
		p->suspect = p->generation == f.generation;
		r = 0;
	}
	return r;
}

static void *run(void *arg)
{
	struct crew *c = arg;

	pthread_mutex_lock(&c->lock);
	while (c->r == 0 && !c->dropped) {
		_cleanup_(err_freep) struct err *e = NULL;
		struct part *p = take(c);
		size_t left = 0;
		int r;

		if (!p) {
			for (size_t i = 0; i < c->n; i++)
				left += c->parts[i].ready && !c->parts[i].done;
			if (c->closed && left == 0)
				break;
			wait_beat(c);
			continue;
		}
		r = work(c, p, &e);
		if (r < 0 && c->r == 0) {
			c->r = r;
			c->err = TAKE(e);
		}
		wake(c);
	}
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

int crew_new(struct image_store *s, const struct image_parts *p, struct image_op *op,
	     struct crew **ret, struct err **e)
{
	struct crew *c = calloc(1, sizeof(*c));
	pthread_condattr_t attr;
	size_t cpus = (size_t)MAX(sysconf(_SC_NPROCESSORS_ONLN), 1L);
	size_t want =
		MIN(MIN(p->manifest.list.n, (size_t)THREADS_MAX), MAX(cpus, (size_t)FOLLOWERS));

	if (!c || !(c->parts = calloc(p->manifest.list.n + 1, sizeof(*c->parts)))) {
		free(c);
		return err_sys(e, ENOMEM, "unpack");
	}
	c->s = s;
	c->p = p;
	c->op = op;
	c->n = p->manifest.list.n;
	for (size_t i = 0; i < c->n; i++)
		c->parts[i].fd = -1;
	pthread_mutex_init(&c->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&c->more, &attr);
	pthread_condattr_destroy(&attr);
	while (c->n_threads < want && pthread_create(&c->threads[c->n_threads], NULL, run, c) == 0)
		c->n_threads++;
	*ret = c;
	return 0;
}

void crew_arrives(struct crew *c, size_t i, int fd, uint64_t size)
{
	struct part *p = &c->parts[i];

	pthread_mutex_lock(&c->lock);
	p->generation++;
	safe_close(p->fd);
	p->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0); /* none to be had: it waits until it is ready */
	p->size = size;
	p->suspect = false;
	wake(c);
	pthread_mutex_unlock(&c->lock);
}

void crew_advance(struct crew *c, size_t i, uint64_t size)
{
	pthread_mutex_lock(&c->lock);
	c->parts[i].size = size;
	wake(c);
	pthread_mutex_unlock(&c->lock);
}

void crew_restart(struct crew *c, size_t i)
{
	pthread_mutex_lock(&c->lock);
	c->parts[i].generation++;
	c->parts[i].size = 0;
	c->parts[i].suspect = false;
	wake(c);
	pthread_mutex_unlock(&c->lock);
}

void crew_ready(struct crew *c, size_t i)
{
	pthread_mutex_lock(&c->lock);
	c->parts[i].ready = true;
	wake(c);
	pthread_mutex_unlock(&c->lock);
}

bool crew_failed(struct crew *c)
{
	bool failed;

	pthread_mutex_lock(&c->lock);
	failed = c->r < 0;
	pthread_mutex_unlock(&c->lock);
	return failed;
}

int crew_join(struct crew *c, bool drop, struct err **e)
{
	int r;

	pthread_mutex_lock(&c->lock);
	c->closed = true;
	c->dropped = drop;
	wake(c);
	pthread_mutex_unlock(&c->lock);
	for (unsigned int i = 0; i < c->n_threads; i++)
		pthread_join(c->threads[i], NULL);
	if (c->n_threads == 0 && !drop) /* no thread could be had */
		run(c);
	r = drop ? 0 : c->r;
	if (r < 0)
		err_move(e, &c->err);
	for (size_t i = 0; i < c->n; i++)
		safe_close(c->parts[i].fd);
	pthread_cond_destroy(&c->more);
	pthread_mutex_destroy(&c->lock);
	err_free(c->err);
	free(c->parts);
	free(c);
	return r;
}
