/* TLS on a non-blocking socket, server side, by GnuTLS: TLS 1.2 and 1.3, certificates or pre-shared keys.
 *
 * A tls_server holds keys and rules, a tls one connection.  Thread: a tls_server is read by any thread once made and
 * outlives its connections; a tls belongs to one thread at a time. */
#ifndef EXT_TLS_H
#define EXT_TLS_H

#include <sys/types.h>
#include "base/err.h"
#include "base/types.h"

struct tls_server;
struct tls;

struct tls_server_cfg {
	/* A folder with server-cert.pem, server-key.pem and, to check clients, ca-cert.pem (the names that QEMU, libvirt
	 * and nbdkit use).  NULL: none. */
	const char *certificates;
	const char *psk;  /* a file of "user:hexkey" lines, or NULL */
	bool verify_peer; /* clients need a certificate that ca-cert.pem's owner signed */
};

/* One of certificates and psk.  -EINVAL "tls.config"; -EACCES or -ENOENT when a file cannot be read. */
int tls_server_new(const struct tls_server_cfg *cfg, struct tls_server **ret, struct err **e);
void tls_server_free(struct tls_server *s);
DEFINE_CLEANUP(struct tls_server *, tls_server_free);

/* fd: connected, non-blocking, stays the caller's. */
int tls_accept(const struct tls_server *s, int fd, struct tls **ret);
/* 0: up.  -EAGAIN: call again when the socket is ready (tls_wants_write()).  -EPROTO: the peer failed; tls_error(). */
int tls_handshake(struct tls *t);
bool tls_wants_write(const struct tls *t);
/* As read(2) and write(2): -EAGAIN, 0 (read only) at the peer's orderly end, -EPROTO, -ECONNRESET.  A write that gave
 * -EAGAIN is repeated with the same data. */
ssize_t tls_read(struct tls *t, void *p, size_t len);
ssize_t tls_write(struct tls *t, const void *p, size_t len);
/* Bytes that were decrypted but not read: no event of the socket tells of them. */
size_t tls_pending(const struct tls *t);
const char *tls_error(const struct tls *t); /* of the last failure */
/* Sends the orderly end if the socket takes it at once.  NULL: no effect. */
void tls_free(struct tls *t);

#endif
