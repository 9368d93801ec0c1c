/* See aio.h.  Two engines behind one front: aio_front() feeds them, aio_finish() is where both come together. */
#include <fcntl.h>
#include <liburing.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/eventfd.h>
#include "sys/aio.h"

#define AIO_SLOTS   256
#define AIO_WORKERS 4
#define AIO_BATCH   64

struct aio {
	enum aio_engine engine;
	unsigned int depth, inflight; /* given to the kernel or to a worker, not yet reaped */
	struct list waiting;	      /* beyond depth */
	/* io_uring */
	struct io_uring ring;
	bool have_slots, enabled;
	uint64_t slot_used[AIO_SLOTS / 64];
	/* threads */
	pthread_mutex_t lock;
	pthread_cond_t work, finished;
	struct list todo, ready; /* under lock */
	bool stop;
	int event_fd;
	unsigned int n_threads;
	pthread_t threads[AIO_WORKERS];
};

/* Not DEFER_TASKRUN: on Linux 6.18 a poll of such a ring misses wake-ups (seen as sleeps to the time-out). */
static int uring_start(struct aio *a, bool shared)
{
	static const unsigned int flags[] = {
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
		IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
		0,
	};
	int r = -ENOSYS;

	/* shared: no one issuer, and completions that do not wait for the submitter to enter the kernel again */
	for (size_t i = shared ? ARRAY_SIZE(flags) - 1 : 0; i < ARRAY_SIZE(flags); i++) {
		struct io_uring_params p = { .flags = flags[i] | IORING_SETUP_CQSIZE,
					     .cq_entries = a->depth * 2 };

		/* SINGLE_ISSUER binds to the creating task unless the ring starts disabled; the owner enables it
		 * with its first submission. */
		if (flags[i] & IORING_SETUP_SINGLE_ISSUER)
			p.flags |= IORING_SETUP_R_DISABLED;
		r = io_uring_queue_init_params(a->depth, &a->ring, &p);
		if (r != -EINVAL)
			break;
	}
	return r;
}

/* Run op with plain system calls. */
static void aio_run_sync(struct aio_op *op)
{
	ssize_t n = -1;

	do {
		switch (op->kind) {
		case AIO_READ:
			n = preadv(op->fd, op->iov, (int)op->niov, (off_t)op->off);
			break;
		case AIO_WRITE:
			n = pwritev(op->fd, op->iov, (int)op->niov, (off_t)op->off);
			break;
		case AIO_FDATASYNC:
			n = fdatasync(op->fd);
			break;
		case AIO_FALLOCATE:
			n = fallocate(op->fd, op->mode, (off_t)op->off, (off_t)op->len);
			break;
		}
	} while (n < 0 && errno == EINTR);
	op->res = n < 0 ? -errno : n;
}

static void *aio_worker(void *arg)
{
	struct aio *a = arg;

	pthread_mutex_lock(&a->lock);
	while (true) {
		struct list *n = list_pop(&a->todo);
		struct aio_op *op;
		uint64_t one = 1;
		bool was_empty;

		if (!n) {
			if (a->stop)
				break;
			pthread_cond_wait(&a->work, &a->lock);
			continue;
		}
		pthread_mutex_unlock(&a->lock);
		op = list_entry(n, struct aio_op, link);
		aio_run_sync(op);
		pthread_mutex_lock(&a->lock);
		was_empty = list_empty(&a->ready);
		list_add_tail(&a->ready, &op->link);
		pthread_cond_signal(&a->finished);
		if (was_empty && write(a->event_fd, &one, sizeof(one)) < 0)
			break; /* cannot happen: the counter is far from its end */
	}
	pthread_mutex_unlock(&a->lock);
	return NULL;
}

static int threads_start(struct aio *a)
{
	sigset_t all, old;
	int r = 0;

	a->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (a->event_fd < 0)
		return -errno;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	for (; a->engine != AIO_SYNC && a->n_threads < AIO_WORKERS && r == 0;
	     a->n_threads += r == 0)
		r = pthread_create(&a->threads[a->n_threads], NULL, aio_worker, a);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return a->n_threads > 0 || a->engine == AIO_SYNC ? 0 : -r;
}

int aio_new(enum aio_engine engine, unsigned int depth, struct aio **ret, struct err **e)
{
	_cleanup_(aio_freep) struct aio *a = calloc(1, sizeof(*a));
	const char *env = getenv("STRATA_AIO");
	bool shared = engine == AIO_SHARED;
	int r = -ENOSYS;

	if (!a)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	if (shared)
		engine = AIO_AUTO;
	if (engine == AIO_AUTO && env && strcmp(env, "threads") == 0)
		engine = AIO_THREADS;
	a->depth = CLAMP(depth, 8U, 4096U);
	a->event_fd = -1;
	a->engine = AIO_THREADS; /* what aio_free() has to undo until the ring is there */
	list_init(&a->waiting);
	list_init(&a->todo);
	list_init(&a->ready);
	pthread_mutex_init(&a->lock, NULL);
	pthread_cond_init(&a->work, NULL);
	pthread_cond_init(&a->finished, NULL);
	if (engine == AIO_SYNC) {
		a->engine = AIO_SYNC;
	} else if (engine != AIO_THREADS) {
		r = uring_start(a, shared);
		if (r == 0)
			a->engine = AIO_URING;
		else if (engine == AIO_URING)
			return err_sys(e, -r, "set up io_uring");
	}
	if (a->engine == AIO_URING) {
		a->have_slots = io_uring_register_files_sparse(&a->ring, AIO_SLOTS) == 0;
	} else {
		r = threads_start(a);
		if (r < 0)
			return err_sys(e, -r, "start I/O threads");
	}
	*ret = TAKE(a);
	return 0;
}

void aio_free(struct aio *a)
{
	if (!a)
		return;
	if (a->engine == AIO_URING) {
		io_uring_queue_exit(&a->ring);
	} else {
		pthread_mutex_lock(&a->lock);
		a->stop = true;
		pthread_cond_broadcast(&a->work);
		pthread_mutex_unlock(&a->lock);
		for (unsigned int i = 0; i < a->n_threads; i++)
			pthread_join(a->threads[i], NULL);
	}
	safe_close(a->event_fd);
	pthread_cond_destroy(&a->finished);
	pthread_cond_destroy(&a->work);
	pthread_mutex_destroy(&a->lock);
	free(a);
}

enum aio_engine aio_engine(const struct aio *a)
{
	return a->engine;
}

int aio_fd(const struct aio *a)
{
	return a->engine == AIO_URING ? a->ring.ring_fd : a->event_fd;
}

unsigned int aio_inflight(const struct aio *a)
{
	return a->inflight + !list_empty(&a->waiting);
}

/* The first to come is the ring's one issuer. */
static void aio_own(struct aio *a)
{
	if (a->enabled)
		return;
	a->enabled = true;
	if (a->engine == AIO_URING && a->ring.flags & IORING_SETUP_R_DISABLED)
		syscall(__NR_io_uring_register, a->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL,
			0);
}

int aio_register(struct aio *a, int fd)
{
	aio_own(a);
	if (a->engine != AIO_URING || !a->have_slots)
		return -1;
	for (unsigned int i = 0; i < AIO_SLOTS; i++) {
		if (a->slot_used[i / 64] & (uint64_t)1 << i % 64)
			continue;
		if (io_uring_register_files_update(&a->ring, i, &fd, 1) != 1)
			return -1;
		a->slot_used[i / 64] |= (uint64_t)1 << i % 64;
		return (int)i;
	}
	return -1;
}

void aio_unregister(struct aio *a, int slot)
{
	int none = -1;

	if (slot < 0)
		return;
	io_uring_register_files_update(&a->ring, (unsigned int)slot, &none, 1);
	a->slot_used[slot / 64] &= ~((uint64_t)1 << slot % 64);
}

static void uring_prepare(struct io_uring_sqe *sqe, struct aio_op *op)
{
	int fd = op->slot >= 0 ? op->slot : op->fd;

	switch (op->kind) {
	case AIO_READ:
		if (op->niov == 1)
			io_uring_prep_read(sqe, fd, op->iov->iov_base,
					   (unsigned int)op->iov->iov_len, op->off);
		else
			io_uring_prep_readv(sqe, fd, op->iov, op->niov, op->off);
		break;
	case AIO_WRITE:
		if (op->niov == 1)
			io_uring_prep_write(sqe, fd, op->iov->iov_base,
					    (unsigned int)op->iov->iov_len, op->off);
		else
			io_uring_prep_writev(sqe, fd, op->iov, op->niov, op->off);
		break;
	case AIO_FDATASYNC:
		io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
		break;
	case AIO_FALLOCATE:
		io_uring_prep_fallocate(sqe, fd, op->mode, (off_t)op->off, (off_t)op->len);
		break;
	}
	if (op->slot >= 0)
		sqe->flags |= IOSQE_FIXED_FILE;
	io_uring_sqe_set_data(sqe, op);
}

/* op goes to its engine; there is room. */
static void aio_front(struct aio *a, struct aio_op *op)
{
	a->inflight++;
	if (a->engine == AIO_URING) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&a->ring);

		while (!sqe) { /* prepared but not flushed */
			io_uring_submit(&a->ring);
			sqe = io_uring_get_sqe(&a->ring);
		}
		uring_prepare(sqe, op);
		return;
	}
	if (a->engine == AIO_SYNC) {
		uint64_t one = 1;

		aio_run_sync(op);
		pthread_mutex_lock(&a->lock);
		list_add_tail(&a->ready, &op->link);
		pthread_mutex_unlock(&a->lock);
		if (write(a->event_fd, &one, sizeof(one)) < 0)
			return; /* the counter is full: readable already */
		return;
	}
	pthread_mutex_lock(&a->lock);
	list_add_tail(&a->todo, &op->link);
	pthread_cond_signal(&a->work);
	pthread_mutex_unlock(&a->lock);
}

void aio_submit(struct aio *a, struct aio_op *op)
{
	aio_own(a);
	list_init(&op->link);
	if (a->inflight >= a->depth)
		list_add_tail(&a->waiting, &op->link);
	else
		aio_front(a, op);
}

void aio_flush(struct aio *a)
{
	/* -EBUSY and -EAGAIN: the kernel wants completions reaped first; aio_poll() flushes again. */
	if (a->engine == AIO_URING && io_uring_sq_ready(&a->ring) > 0)
		io_uring_submit(&a->ring);
}

static void aio_refill(struct aio *a)
{
	while (a->inflight < a->depth && !list_empty(&a->waiting))
		aio_front(a, list_entry(list_pop(&a->waiting), struct aio_op, link));
}

static int uring_reap(struct aio *a, bool wait)
{
	struct io_uring_cqe *cqes[AIO_BATCH];
	struct aio_op *ops[AIO_BATCH];
	unsigned int n;

	if (wait && a->inflight > 0) {
		if (io_uring_submit_and_wait(&a->ring, 1) == -EINTR)
			return 0;
	} else if (io_uring_sq_ready(&a->ring) > 0) {
		io_uring_submit(&a->ring);
	}
	n = io_uring_peek_batch_cqe(&a->ring, cqes, AIO_BATCH); /* runs deferred task work too */
	for (unsigned int i = 0; i < n; i++) {
		ops[i] = io_uring_cqe_get_data(cqes[i]);
		ops[i]->res = cqes[i]->res;
	}
	/* The entries go back before the callbacks, which may prepare new requests. */
	io_uring_cq_advance(&a->ring, n);
	a->inflight -= n;
	for (unsigned int i = 0; i < n; i++) {
		if (ops[i]->res == -EAGAIN || ops[i]->res == -EINTR) {
			aio_submit(a, ops[i]);
			continue;
		}
		ops[i]->done(ops[i]);
	}
	return (int)n;
}

static int threads_reap(struct aio *a, bool wait)
{
	struct list got;
	struct list *l;
	uint64_t count;
	int n = 0;

	list_init(&got);
	pthread_mutex_lock(&a->lock);
	while (wait && a->inflight > 0 && list_empty(&a->ready))
		pthread_cond_wait(&a->finished, &a->lock);
	list_splice_tail(&got, &a->ready);
	if (read(a->event_fd, &count, sizeof(count)) < 0)
		count = 0; /* nothing was signalled: fine */
	pthread_mutex_unlock(&a->lock);
	for (l = got.next; l != &got; l = l->next)
		n++;
	a->inflight -= (unsigned int)n;
	while ((l = list_pop(&got))) {
		struct aio_op *op = list_entry(l, struct aio_op, link);

		op->done(op);
	}
	return n;
}

int aio_poll(struct aio *a, bool wait)
{
	int total = 0, n;

	do {
		n = a->engine == AIO_URING ? uring_reap(a, wait && total == 0)
					   : threads_reap(a, wait && total == 0);
		total += n;
		aio_refill(a);
	} while (n > 0 && total < AIO_BATCH * 4);
	aio_flush(a);
	return total;
}
