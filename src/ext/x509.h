/* Certificates: what we read of them, and a server's own when it has none.  Any thread. */
#ifndef EXT_X509_H
#define EXT_X509_H

#include "base/err.h"
#include "base/types.h"

/* The first certificate of a PEM text.  fingerprint: hex SHA-256, 64 characters and NUL; expires: wall clock.
 * -EINVAL "certificate.invalid". */
int x509_read(const char *pem, char fingerprint[65], nsec_t *expires, struct err **e);

/* A self-signed server certificate for `name`, localhost and the loopback addresses, good for ten years, and its key; PEM,
 * the caller's (wipe the key). */
int x509_self_signed(const char *name, char **cert, char **key, struct err **e);

#endif
