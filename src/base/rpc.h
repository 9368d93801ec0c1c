/* Frames between our own programs on one host: JSON text over a unix stream socket, file descriptors beside it.
 *
 * A frame: u32 length of the text (little-endian, at most RPC_TEXT_MAX), u32 number of fds (at most RPC_FDS_MAX),
 * the text.  Fds travel by SCM_RIGHTS with the frame's first bytes.  What the text means is the programs' affair;
 * fields are append-only and peers compare features.
 *
 * Trust: the peer may be hostile; limits hold before anything is allocated, surplus fds are closed. */
#ifndef BASE_RPC_H
#define BASE_RPC_H

#include <sys/socket.h>
#include "base/buf.h"
#include "base/err.h"
#include "base/loop.h"

#define RPC_TEXT_MAX (4U << 20)
#define RPC_FDS_MAX  16U

struct rpc_frame {
	struct buf text; /* NUL-terminated */
	int fds[RPC_FDS_MAX];
	unsigned int n_fds;
};

/* Frees the text and closes the fds that are still there (take one with TAKE_FD). NULL or twice: no effect. */
void rpc_frame_done(struct rpc_frame *f);

/* -- sockets -- */

/* Listening socket (CLOEXEC, non-blocking) at path; a stale socket file is replaced, one that answers is not
 * (-EADDRINUSE).  mode: of the file.  "fd:N": a listening socket that this program was started with.  Paths too long for sockaddr_un are reached through /proc/self/fd. */
int rpc_listen(const char *path, mode_t mode, struct err **e);
/* Blocking socket connected to path. */
int rpc_connect(const char *path, struct err **e);
/* Who is at the other end (SO_PEERCRED). */
int rpc_peer(int fd, struct ucred *ret);

/* -- blocking use, for clients -- */

/* fds are borrowed.  0, -EPIPE (no SIGPIPE), -errno. */
int rpc_send(int fd, const char *text, size_t len, const int *fds, unsigned int n_fds);
/* timeout: of the whole frame, NSEC_FOREVER allowed; -ETIMEDOUT.  -ENODATA: the peer closed between frames;
 * -EPROTO: broken frame or closed inside one.  f is overwritten. */
int rpc_recv(int fd, nsec_t timeout, struct rpc_frame *f);

/* -- on a loop, for servers -- */

struct rpc_conn;
/* on_frame may take f's text and fds.  Either callback may call rpc_conn_close(). */
typedef void rpc_frame_fn(struct rpc_conn *c, struct rpc_frame *f);
typedef void rpc_closed_fn(struct rpc_conn *c,
			   int r); /* 0: peer closed; -errno; c may be freed here */

struct rpc_conn { /* caller's memory, zeroed; private but for `data` */
	int fd;
	struct watch watch;
	rpc_frame_fn *on_frame;
	rpc_closed_fn *on_closed;
	struct rpc_frame in;
	uint8_t head[8];
	size_t head_len;
	bool *alive; /* points to a local of the reader while it calls out */
	struct list out;
	size_t out_bytes;
	void *data;
};

/* Takes fd and makes it non-blocking. */
int rpc_conn_open(struct rpc_conn *c, struct loop *l, int fd, rpc_frame_fn *on_frame,
		  rpc_closed_fn *on_closed);
/* Queues a frame; fds are duplicated.  -ENOBUFS: the peer does not read (16 MiB are waiting). */
int rpc_conn_send(struct rpc_conn *c, const char *text, size_t len, const int *fds,
		  unsigned int n_fds);
/* Drops what is queued, closes the fd; on_closed is not called.  Twice: no effect. */
void rpc_conn_close(struct rpc_conn *c);

#endif
