/* The host's end of a virtio-console port: an AF_UNIX stream socket that we listen on.  (The serial port and stdio are
 * console.h's.)
 *
 * Two manners.  A *console* never makes the guest wait: its last CHARPORT_RING bytes are kept, a client that comes
 * (or comes back) gets them first, one that reads too slowly loses the oldest.  A *channel* (agent ports) loses
 * nothing while a client is there: charport_write() takes less when the ring is full, and without a client bytes are
 * dropped; nothing is replayed.
 *
 * One client at a time; a second one waits in the listen queue until the first has gone.
 * Thread: opening and closing on main; the rest on the thread of the loop given to charport_start(), which is
 * that of charport_stop() too. */
#ifndef VMM_CHARPORT_H
#define VMM_CHARPORT_H

#include <sys/uio.h>
#include "base/err.h"
#include "base/loop.h"

#define CHARPORT_RING 65536

struct charport;

struct charport_ops {
	/* Bytes wait to be read, or the client has gone or come (charport_connected()). */
	void (*changed)(struct charport *p);
	/* Channel: room again after charport_write() took less than all. */
	void (*writable)(struct charport *p);
};

struct charport {
	const struct charport_ops *ops;
	void *data; /* the device's */
	struct loop *loop;
	bool console;
	int listen_fd, fd; /* fd: the client; -1: none */
	struct watch listen_watch, watch;
	char *path; /* of the socket, removed on close; NULL: handed in */
	bool want_input, short_write;
	uint8_t *ring;	     /* CHARPORT_RING bytes */
	uint64_t head, sent; /* bytes ever written by the guest; given to the client */
	uint64_t n_in, n_out, n_lost;
};

/* A port that nobody can reach: takes and drops everything. */
void charport_none(struct charport *p);
/* p need not be initialised.  Makes and binds the socket, mode 0600; an old socket file there is replaced when nobody listens. */
int charport_open_socket(struct charport *p, const char *path, bool console, struct err **e);
/* A listening socket that was handed in; p owns it from here on. */
int charport_open_fd(struct charport *p, int listen_fd, bool console, struct err **e);
void charport_close(struct charport *p); /* not open: no effect */

void charport_start(struct charport *p, struct loop *loop, const struct charport_ops *ops,
		    void *data);
void charport_stop(struct charport *p);

bool charport_connected(const struct charport *p);
/* changed() is called for input only while it is wanted. */
void charport_want_input(struct charport *p, bool on);
/* Bytes read into iov; 0: nothing now (or the client has gone). */
size_t charport_readv(struct charport *p, const struct iovec *iov, unsigned int n);
/* Bytes taken: all of them for a console. */
size_t charport_writev(struct charport *p, const struct iovec *iov, unsigned int n);

#endif
