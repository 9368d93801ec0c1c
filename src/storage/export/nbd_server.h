/* An NBD server: listening sockets on the main loop, connections on the I/O threads.
 * Spec: the NetworkBlockDevice project's doc/proto.md: fixed newstyle, structured replies, metadata contexts
 * base:allocation and qemu:allocation-depth, TLS by STARTTLS.  Requests of any alignment; reads and writes to 32 MiB.
 *
 * Limits hold against slow and hostile clients: their number; the time of a handshake; the progress of a message once
 * begun and of replies once due (a client that is idle between requests may stay); requests in flight of one client;
 * memory of all, with clients waiting in line for it.
 *
 * Threads: the main thread calls what is below; nbd_conn.c runs on I/O threads. */
#ifndef STORAGE_NBD_SERVER_H
#define STORAGE_NBD_SERVER_H

#include "storage/export/export.h"
#include "storage/export/nbd_handshake.h"

struct tls_server;
struct nbd_server;

struct nbd_server_cfg {
	enum nbd_tls_mode tls_mode;
	const struct tls_server *tls;		/* NULL with NBD_TLS_OFF */
	unsigned int max_clients, max_requests; /* in all; in flight of one client */
	uint64_t memory; /* bytes of buffers in all; 64 MiB a thread at least */
	nsec_t timeout;
};
#define NBD_SERVER_DEFAULTS                                                   \
	{                                                                     \
		.max_clients = 128, .max_requests = 256, .memory = 512 * MIB, \
		.timeout = 30 * NSEC_PER_SEC                                  \
	}

/* Borrowed and longer-lived: loop, threads, exports, cfg->tls.  The first export is the default one. */
int nbd_server_new(struct loop *loop, struct export_threads *ts, struct disk_export *const *x,
		   size_t n, const struct nbd_server_cfg *cfg, struct nbd_server **ret,
		   struct err **e);
/* A stale socket file is replaced, one that answers is not.  The file goes with the server. */
int nbd_server_listen_unix(struct nbd_server *s, const char *path, struct err **e);
/* "ADDR:PORT", "[ADDR]:PORT" or "ADDR" (port 10809); port 0 takes a free one.  *port gets the port. Without TLS only loopback
 * addresses are taken (-EACCES "nbd.plain") unless `plain`. */
int nbd_server_listen_tcp(struct nbd_server *s, const char *where, bool plain, uint16_t *port,
			  struct err **e);
unsigned int nbd_server_clients(const struct nbd_server *s);
/* No new clients; those there end after what they have asked for.  `drained` is called on the main loop once nobody is
 * left, at the latest cfg.timeout later but for requests that the disk still holds. */
void nbd_server_stop(struct nbd_server *s, void (*drained)(void *arg), void *arg);
/* After `drained`, or before anybody could connect.  NULL: no effect. */
void nbd_server_free(struct nbd_server *s);

#endif
