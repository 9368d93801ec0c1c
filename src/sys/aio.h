/* Asynchronous file I/O for one thread: io_uring with registered files, or a few worker threads where the kernel
 * (or a seccomp filter, or $STRATA_AIO=threads) refuses io_uring.
 *
 * Requests are prepared with aio_submit() and go to the kernel together at aio_flush(); completions are called from
 * aio_poll(), which a loop calls when aio_fd() is readable.  A request lives in the caller's memory until its done() was called.
 *
 * Thread: the owner's, which is the one that first calls aio_submit(); aio_new() and aio_free() may run elsewhere
 * while the owner does nothing.  AIO_SHARED: any, one at a time, each until what it submitted has ended. */
#ifndef SYS_AIO_H
#define SYS_AIO_H

#include <sys/uio.h>
#include "base/err.h"
#include "base/list.h"
#include "base/types.h"

struct aio;

enum aio_engine {
	AIO_AUTO,
	AIO_URING,
	AIO_THREADS,
	AIO_SHARED, /* for aio_new(): as AIO_AUTO, but several threads use it in turn */
	AIO_SYNC /* plain blocking calls inside aio_submit(): for a few requests, without a ring's set-up */
};
enum aio_kind { AIO_READ, AIO_WRITE, AIO_FDATASYNC, AIO_FALLOCATE };

struct aio_op {
	enum aio_kind kind;
	int fd;
	int slot;		 /* from aio_register(), or -1: plain fd */
	int mode;		 /* AIO_FALLOCATE: its mode */
	unsigned int niov;	 /* AIO_READ, AIO_WRITE; at most IOV_MAX */
	const struct iovec *iov; /* must stay until done */
	uint64_t off, len;	 /* bytes; len only for AIO_FALLOCATE */
	int64_t res;		 /* bytes moved or 0, or -errno */
	void (*done)(struct aio_op *op);
	struct list link; /* private */
};

/* depth: requests that may be in the
 * kernel at once; more wait in a list.  AIO_AUTO takes io_uring if it can. */
int aio_new(enum aio_engine engine, unsigned int depth, struct aio **ret, struct err **e);
/* Nothing may be in flight.  NULL: no effect. */
void aio_free(struct aio *a);
DEFINE_CLEANUP(struct aio *, aio_free);

enum aio_engine aio_engine(const struct aio *a);
int aio_fd(const struct aio *a); /* readable when completions wait */
/* Register fd with the ring: saves the reference counting per request.  A slot, or -1 when there is none (use the
 * plain fd).  aio_unregister() takes it back; nothing may be in flight on it. */
int aio_register(struct aio *a, int fd);
void aio_unregister(struct aio *a, int slot);

void aio_submit(struct aio *a, struct aio_op *op);
/* Hand everything prepared to the kernel. */
void aio_flush(struct aio *a);
/* Call done() for what has completed; wait: for at least one, if anything is in flight.  Returns the number. */
int aio_poll(struct aio *a, bool wait);
unsigned int aio_inflight(const struct aio *a);

#endif
