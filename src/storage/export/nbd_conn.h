/* Private to nbd_server.c and nbd_conn.c. */
#ifndef STORAGE_NBD_CONN_H
#define STORAGE_NBD_CONN_H

#include "storage/export/nbd_server.h"

#define NBD_BUF_CLASSES 9 /* 4 KiB to 1 MiB */

struct nbd_server {
	struct loop *loop;
	struct export_threads *ts;
	struct disk_export *const *x;
	size_t n_x;
	struct nbd_server_cfg cfg;
	struct nbd_thread *t; /* one for each I/O thread */
	struct list listeners;
	atomic_uint clients;
	atomic_bool stopping;
	void (*drained)(void *arg);
	void *drained_arg;
	struct ratelimit log_rl; /* main thread */
	atomic_bool told;	 /* drained() was called */
	struct timer hard;
};

/* An I/O thread's part; its own but for the server's start and end. */
struct nbd_thread {
	struct nbd_server *s;
	struct export_thread *t;
	struct list conns;
	struct list
		dirty; /* connections with something to send or to look at, at the end of this round */
	struct list waiting; /* connections in line for memory */
	struct timer round;
	uint64_t memory, memory_max; /* of buffers in use */
	struct list free_reqs;
	void *bufs[NBD_BUF_CLASSES]; /* free ones, linked by their first word */
	size_t bufs_kept;	     /* bytes of them */
	struct ratelimit log_rl;
};

/* Takes fd and the thread's use.  Main thread; -errno: nothing was taken. */
int nbd_conn_new(struct nbd_thread *t, int fd, bool tcp);
/* End soon: after requests in flight, or (hard) without sending what waits.  The thread. */
void nbd_conns_stop(struct nbd_thread *t, bool hard);
void nbd_thread_init(struct nbd_thread *t);
void nbd_thread_done(struct nbd_thread *t);
/* The last connection of a stopping server is gone.  Any thread. */
void nbd_server_drained(struct nbd_server *s);
bool nbd_server_nth(void *arg, size_t i, struct nbd_export_info *ret);

#endif
