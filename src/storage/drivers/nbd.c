/* Driver "nbd": a disk that an NBD server exports, by libnbd.  The path is a URI: nbd://HOST/NAME,
 * nbd+unix:///NAME?socket=PATH, nbds:// and nbds+unix:// with TLS (libnbd's own parameters).
 *
 * libnbd is loaded when the first such disk is opened: programs that never do need neither it nor what it brings along.
 *
 * Threads: a thread of the node owns the connection.  Requests come to it through a list, and end on their queue's thread
 * by io_resume_later().  A connection that is lost is made again for RECONNECT at the longest; what was under way is
 * sent again (all NBD commands may be repeated), then fails. */
#define LOG_MODULE "nbd"
#include <dlfcn.h>
#include <libnbd.h>
#include <poll.h>
#include <semaphore.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "storage/disk_ops.h"

#define RECONNECT (10 * NSEC_PER_SEC)
#define RETRY	  (200 * NSEC_PER_MSEC)
#define CHUNK	  (32 * MIB) /* of one read or write */
#define CHUNK_BIG (1 * GIB)  /* of a command without data */
#define ZEROES	  (1 * MIB)  /* for servers that know no WRITE_ZEROES */

#define FUNCTIONS(X)             \
	X(nbd_create)            \
	X(nbd_close)             \
	X(nbd_connect_uri)       \
	X(nbd_add_meta_context)  \
	X(nbd_can_meta_context)  \
	X(nbd_get_size)          \
	X(nbd_get_block_size)    \
	X(nbd_is_read_only)      \
	X(nbd_can_flush)         \
	X(nbd_can_trim)          \
	X(nbd_can_zero)          \
	X(nbd_can_fast_zero)     \
	X(nbd_get_error)         \
	X(nbd_get_errno)         \
	X(nbd_aio_pread)         \
	X(nbd_aio_pwrite)        \
	X(nbd_aio_flush)         \
	X(nbd_aio_trim)          \
	X(nbd_aio_zero)          \
	X(nbd_aio_block_status)  \
	X(nbd_aio_disconnect)    \
	X(nbd_aio_get_fd)        \
	X(nbd_aio_get_direction) \
	X(nbd_aio_notify_read)   \
	X(nbd_aio_notify_write)  \
	X(nbd_aio_is_ready)      \
	X(nbd_aio_is_processing)

static struct api {
#define X(f) __typeof__(f) *f;
	FUNCTIONS(X)
#undef X
} api;
static const char *const names[] = {
#define X(f) #f,
	FUNCTIONS(X)
#undef X
};

struct nbd {
	struct disk_node node;
	struct nbd_handle *h; /* the thread's once it runs; NULL: lost */
	pthread_t thread;
	bool started;
	bool can_flush, can_trim, can_zero, can_fast, can_extents;
	int wake_fd;
	pthread_mutex_t lock;
	struct list posted; /* under lock */
	bool stop;	    /* under lock */
	/* the thread's */
	struct list todo;   /* to be sent, or sent again */
	struct list active; /* the server has them */
	nsec_t lost_at;	    /* 0: connected */
};

/* One request, made of as many commands as its length needs. */
struct cmd {
	struct list link;
	struct nbd *n;
	struct disk_io *io; /* NULL: extents */
	uint64_t at;	    /* bytes done */
	uint64_t part;	    /* of the command under way */
	uint8_t *bounce;    /* several buffers, or zeroes */
	int result;
	bool ended; /* set by the callback, taken by the thread */
	/* extents */
	uint64_t off, len;
	struct extent_list *ret;
	const char *file;
	sem_t *done;
};

static struct nbd *to_nbd(struct disk_node *n)
{
	return container_of(n, struct nbd, node);
}

static int load(struct err **e)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static void *lib;
	int r = 0;

	pthread_mutex_lock(&lock);
	if (!lib) {
		void **f = (void **)&api;

		lib = dlopen("libnbd.so.0", RTLD_NOW | RTLD_LOCAL);
		if (!lib)
			r = err_set(e, ENOENT, "disk.driver", "NBD needs libnbd: %s", dlerror());
		for (size_t i = 0; lib && i < ARRAY_SIZE(names) && r == 0; i++) {
			f[i] = dlsym(lib, names[i]);
			if (!f[i]) {
				r = err_set(e, ENOENT, "disk.driver", "libnbd lacks %s", names[i]);
				dlclose(TAKE(lib));
			}
		}
	}
	pthread_mutex_unlock(&lock);
	return r;
}

/* ---- the connection ---- */

static int nbd_error(struct err **e, const char *what)
{
	int num = api.nbd_get_errno();
	const char *text = api.nbd_get_error();

	return err_set(e, num > 0 ? num : EIO, "nbd.server", "%s: %s", what,
		       text ?: "unknown error");
}

static int dial(struct nbd *n, struct nbd_handle **ret, struct err **e)
{
	struct nbd_handle *h = api.nbd_create();

	if (!h)
		return nbd_error(e, "start");
	if (api.nbd_add_meta_context(h, LIBNBD_CONTEXT_BASE_ALLOCATION) < 0 ||
	    api.nbd_connect_uri(h, n->node.path) < 0) {
		int r = nbd_error(e, "connect");

		api.nbd_close(h);
		return r;
	}
	*ret = h;
	return 0;
}

/* ---- commands; the thread ---- */

static void finished(struct disk_io *io)
{
	disk_io_done(io, io->result);
}

static void cmd_end(struct cmd *c, int r)
{
	list_del(&c->link);
	if (!c->io) {
		c->result = r;
		sem_post(c->done); /* c is the waiter's */
		return;
	}
	if (r == 0 && c->io->op == DISK_READ && c->bounce)
		iov_from_buf(c->io->iov, c->io->niov, 0, c->bounce, c->io->len);
	c->io->result = r;
	free(c->bounce);
	io_resume_later(c->io, finished);
	free(c);
}

static int on_command(void *arg, int *error)
{
	struct cmd *c = arg;

	c->result = -*error;
	c->ended = true;
	return 1; /* retire it */
}

static int on_extents(void *arg, const char *context, uint64_t off, uint32_t *v, size_t n,
		      int *error)
{
	struct cmd *c = arg;

	for (size_t i = 0; i + 1 < n && *error == 0; i += 2) {
		uint64_t len = MIN((uint64_t)v[i], c->off + c->len - off);
		struct extent x = {
			.off = off,
			.len = len,
			.file = c->file,
			.flags = (v[i + 1] & LIBNBD_STATE_ZERO ? EXTENT_ZERO : EXTENT_DATA) |
				 (v[i + 1] & LIBNBD_STATE_HOLE ? 0U : EXTENT_ALLOCATED),
		};

		if (len == 0)
			break;
		if (extent_add(c->ret, &x) < 0)
			*error = ENOMEM;
		off += len;
		c->part += len;
	}
	return 0;
}

static int64_t send_data(struct nbd *n, struct cmd *c, uint64_t left, nbd_completion_callback cb)
{
	struct disk_io *io = c->io;
	uint8_t *p = c->bounce ?: io->iov->iov_base;

	c->part = MIN(left, CHUNK);
	if (io->op == DISK_READ)
		return api.nbd_aio_pread(n->h, p + c->at, c->part, io->off + c->at, cb, 0);
	return api.nbd_aio_pwrite(n->h, p + c->at, c->part, io->off + c->at, cb, 0);
}

static int64_t send_zeroes(struct nbd *n, struct cmd *c, uint64_t left, nbd_completion_callback cb)
{
	struct disk_io *io = c->io;
	uint32_t flags = (io->flags & DISK_MAY_UNMAP ? 0U : LIBNBD_CMD_FLAG_NO_HOLE) |
			 (io->flags & DISK_NO_FALLBACK ? LIBNBD_CMD_FLAG_FAST_ZERO : 0U);

	if (n->can_zero) {
		c->part = MIN(left, CHUNK_BIG);
		return api.nbd_aio_zero(n->h, c->part, io->off + c->at, cb, flags);
	}
	c->part = MIN(left, ZEROES);
	return api.nbd_aio_pwrite(n->h, c->bounce, c->part, io->off + c->at, cb, 0);
}

/* Send c's next command. */
static void cmd_send(struct cmd *c)
{
	struct nbd *n = c->n;
	nbd_completion_callback cb = { .callback = on_command, .user_data = c };
	uint64_t left = c->io ? c->io->len - c->at : 0;
	int64_t r;

	c->ended = false;
	c->result = 0;
	list_del(&c->link);
	list_add_tail(&n->active, &c->link);
	if (!c->io) {
		c->part = 0;
		r = api.nbd_aio_block_status(
			n->h, MIN(c->len, CHUNK_BIG), c->off,
			(nbd_extent_callback){ .callback = on_extents, .user_data = c }, cb, 0);
	} else if (c->io->op == DISK_READ || c->io->op == DISK_WRITE) {
		r = send_data(n, c, left, cb);
	} else if (c->io->op == DISK_WRITE_ZEROES) {
		r = send_zeroes(n, c, left, cb);
	} else if (c->io->op == DISK_DISCARD) {
		c->part = MIN(left, CHUNK_BIG);
		r = api.nbd_aio_trim(n->h, c->part, c->io->off + c->at, cb, 0);
	} else {
		r = api.nbd_aio_flush(n->h, cb, 0);
	}
	if (r < 0) {
		c->result = -(api.nbd_get_errno() ?: EIO);
		c->ended = true;
	}
}

static bool is_up(const struct nbd *n)
{
	return n->h && (api.nbd_aio_is_ready(n->h) > 0 || api.nbd_aio_is_processing(n->h) > 0);
}

/* The connection is gone: all of `active` begins anew, but for its parts that were done. */
static void connection_lost(struct nbd *n)
{
	struct cmd *c, *next;

	api.nbd_close(n->h); /* calls what is left back */
	n->h = NULL;
	n->lost_at = now_mono();
	log_warn("connection lost", "disk", n->node.path);
	list_for_each_entry_safe(c, next, &n->active, link) {
		if (!c->io) { /* what it told of is thrown away with it */
			cmd_end(c, -EIO);
			continue;
		}
		list_del(&c->link);
		list_add_tail(&n->todo, &c->link);
	}
}

/* A command was carried out: on to the next, or the request's end. */
static void cmd_next(struct cmd *c)
{
	c->at += c->io ? c->part : 0;
	if (c->io && c->io->op != DISK_FLUSH && c->at < c->io->len) {
		list_del(&c->link);
		list_add(&c->n->todo, &c->link);
	} else {
		cmd_end(c, 0);
	}
}

static void take_ended(struct nbd *n)
{
	struct cmd *c, *next;

	list_for_each_entry_safe(c, next, &n->active, link) {
		if (!c->ended)
			continue;
		if (c->result < 0 && !is_up(n)) {
			c->ended = false; /* the connection's fault, not the command's */
		} else if (c->result < 0) {
			cmd_end(c, c->result);
		} else {
			cmd_next(c);
		}
	}
}

static void reconnect(struct nbd *n)
{
	struct err *e = NULL;
	struct cmd *c, *next;

	if (dial(n, &n->h, &e) == 0) {
		if ((uint64_t)MAX(api.nbd_get_size(n->h), (int64_t)0) == n->node.size) {
			log_info("connected again", "disk", n->node.path);
			n->lost_at = 0;
			return;
		}
		log_err("the export has another size now", "disk", n->node.path);
		api.nbd_close(TAKE(n->h));
	}
	err_free(e);
	if (now_mono() - n->lost_at > RECONNECT)
		list_for_each_entry_safe(c, next, &n->todo, link)
			cmd_end(c, -EIO);
}

static bool take_posted(struct nbd *n)
{
	bool stop;

	pthread_mutex_lock(&n->lock);
	list_splice_tail(&n->todo, &n->posted);
	stop = n->stop;
	pthread_mutex_unlock(&n->lock);
	return stop;
}

static void *nbd_main(void *arg)
{
	struct nbd *n = arg;

	pthread_setname_np(pthread_self(), "nbd");
	while (true) {
		struct pollfd p[2] = { { .fd = n->wake_fd, .events = POLLIN }, { .fd = -1 } };
		bool stop = take_posted(n);
		unsigned int dir;
		uint64_t count;
		struct cmd *c;

		if (n->h && !is_up(n)) {
			take_ended(n);
			connection_lost(n);
		}
		if (!n->h && !stop && !list_empty(&n->todo))
			reconnect(n);
		while (n->h && (c = list_first_entry(&n->todo, struct cmd, link))) {
			cmd_send(c);
			take_ended(n);
		}
		if (stop && list_empty(&n->todo) && list_empty(&n->active))
			return NULL;
		if (n->h) {
			dir = api.nbd_aio_get_direction(n->h);
			p[1].fd = api.nbd_aio_get_fd(n->h);
			p[1].events = (short)((dir & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0) |
					      (dir & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0));
		}
		if (poll(p, 2, n->h || list_empty(&n->todo) ? -1 : (int)(RETRY / NSEC_PER_MSEC)) <
		    0)
			continue;
		if (p[0].revents && read(n->wake_fd, &count, sizeof(count)) < 0)
			count = 0; /* somebody else's wake-up was ours */
		if (!n->h)
			continue;
		dir = api.nbd_aio_get_direction(n->h);
		if (p[1].revents & (POLLIN | POLLHUP | POLLERR) && dir & LIBNBD_AIO_DIRECTION_READ)
			api.nbd_aio_notify_read(n->h);
		else if (p[1].revents & POLLOUT && dir & LIBNBD_AIO_DIRECTION_WRITE)
			api.nbd_aio_notify_write(n->h);
		take_ended(n);
	}
}

/* ---- the node ---- */

static void post(struct nbd *n, struct cmd *c)
{
	uint64_t one = 1;

	pthread_mutex_lock(&n->lock);
	list_add_tail(&n->posted, &c->link);
	pthread_mutex_unlock(&n->lock);
	if (write(n->wake_fd, &one, sizeof(one)) < 0)
		return; /* full: awake already */
}

static void nbd_submit(struct disk_node *node, struct disk_io *io)
{
	struct nbd *n = to_nbd(node);
	bool zero = io->op == DISK_WRITE_ZEROES, data = io->op == DISK_READ || io->op == DISK_WRITE;
	struct cmd *c;

	if ((io->op == DISK_FLUSH && !n->can_flush) || (io->op == DISK_DISCARD && !n->can_trim) ||
	    (io->op != DISK_FLUSH && io->len == 0)) {
		disk_io_done(io, 0);
		return;
	}
	if (zero && io->flags & DISK_NO_FALLBACK && !n->can_fast) {
		disk_io_done(io, -EOPNOTSUPP);
		return;
	}
	c = calloc(1, sizeof(*c));
	if (c && data && io->niov != 1)
		c->bounce = malloc(io->len);
	else if (c && zero && !n->can_zero)
		c->bounce = calloc(1, MIN(io->len, ZEROES));
	if (!c || (!c->bounce && ((data && io->niov != 1) || (zero && !n->can_zero)))) {
		free(c);
		disk_io_done(io, -ENOMEM);
		return;
	}
	if (io->op == DISK_WRITE && c->bounce)
		iov_to_buf(io->iov, io->niov, 0, c->bounce, io->len);
	c->n = n;
	c->io = io;
	list_init(&c->link);
	post(n, c);
}

static int nbd_extents(struct disk_node *node, uint64_t off, uint64_t len, struct extent_list *ret)
{
	struct nbd *n = to_nbd(node);
	sem_t done;
	int r = 0;

	if (!n->can_extents)
		return extent_add(ret, &(struct extent){ .off = off,
							 .len = len,
							 .flags = EXTENT_DATA | EXTENT_ALLOCATED,
							 .file = node->path });
	sem_init(&done, 0, 0);
	while (len > 0 && r == 0) {
		struct cmd c = {
			.n = n, .off = off, .len = len, .ret = ret, .file = node->path, .done = &done
		};

		list_init(&c.link);
		post(n, &c);
		while (sem_wait(&done) < 0)
			;
		r = c.result < 0 ? c.result : c.part == 0 ? -EIO : 0;
		off += c.part;
		len -= c.part;
	}
	sem_destroy(&done);
	return r;
}

static int client_open(struct disk_node *node, const struct disk_cfg *cfg, struct err **e)
{
	struct nbd *n = to_nbd(node);
	sigset_t all, old;
	int64_t size, min, pref;
	int r = load(e);

	n->wake_fd = -1;
	pthread_mutex_init(&n->lock, NULL);
	list_init(&n->posted);
	list_init(&n->todo);
	list_init(&n->active);
	if (r == 0)
		r = dial(n, &n->h, e);
	if (r < 0)
		return r;
	size = api.nbd_get_size(n->h);
	if (size < 0)
		return nbd_error(e, "ask for the size");
	if (!cfg->readonly && api.nbd_is_read_only(n->h) != 0)
		return err_set(e, EROFS, "disk.readonly", "the server exports it read-only");
	min = api.nbd_get_block_size(n->h, LIBNBD_SIZE_MINIMUM);
	pref = api.nbd_get_block_size(n->h, LIBNBD_SIZE_PREFERRED);
	if (min > 512)
		return err_set(e, ENOTSUP, "nbd.block",
			       "the server's blocks of %lld bytes are too large", (long long)min);
	node->size = (uint64_t)size;
	node->limits.opt_io = (uint32_t)CLAMP(pref, (int64_t)4096, (int64_t)CHUNK);
	n->can_flush = api.nbd_can_flush(n->h) > 0;
	n->can_trim = api.nbd_can_trim(n->h) > 0;
	n->can_zero = api.nbd_can_zero(n->h) > 0;
	n->can_fast = api.nbd_can_fast_zero(n->h) > 0;
	n->can_extents = api.nbd_can_meta_context(n->h, LIBNBD_CONTEXT_BASE_ALLOCATION) > 0;
	node->limits.can_discard = n->can_trim;
	node->limits.can_zero = n->can_zero;
	n->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (n->wake_fd < 0)
		return err_sys(e, errno, "eventfd");
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = -pthread_create(&n->thread, NULL, nbd_main, n);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	n->started = r == 0;
	return r < 0 ? err_sys(e, -r, "start a thread") : 0;
}

static int client_close(struct disk_node *node)
{
	struct nbd *n = to_nbd(node);
	uint64_t one = 1;

	if (n->started) {
		pthread_mutex_lock(&n->lock);
		n->stop = true;
		pthread_mutex_unlock(&n->lock);
		if (write(n->wake_fd, &one, sizeof(one)) < 0)
			errno = 0; /* full: awake already */
		pthread_join(n->thread, NULL);
	}
	if (n->h) {
		api.nbd_aio_disconnect(n->h, 0);
		api.nbd_close(n->h);
	}
	safe_close(n->wake_fd);
	pthread_mutex_destroy(&n->lock);
	return 0;
}

const struct disk_ops disk_driver_nbd = {
	.name = "nbd",
	.kind = DISK_DRIVER,
	.instance_size = sizeof(struct nbd),
	.open = client_open,
	.close = client_close,
	.submit = nbd_submit,
	.extents = nbd_extents,
};
