/* The server's half of NBD negotiation, fixed newstyle: bytes in, bytes out, no sockets.
 * Spec: doc/proto.md, "Newstyle negotiation", "Option types", "Metadata querying".
 *
 * Between: nbd_conn.c, which moves the bytes and does TLS; the server's table of exports, by a callback.
 * Trust:   the peer is hostile.  An option is at most NBD_OPTION_MAX bytes (longer ones are skipped and refused), a
 *          client has NBD_OPTIONS_MAX of them, replies go to a buffer that the caller empties between options. */
#ifndef STORAGE_NBD_HANDSHAKE_H
#define STORAGE_NBD_HANDSHAKE_H

#include "base/buf.h"
#include "storage/export/nbd_proto.h"

#define NBD_OPTION_MAX	(16 * KIB)
#define NBD_OPTIONS_MAX 256U

enum nbd_tls_mode { NBD_TLS_OFF, NBD_TLS_ON, NBD_TLS_REQUIRE };

/* What a client may know of an export. */
struct nbd_export_info {
	const char *name, *description; /* description: NULL for none */
	uint64_t size;
	uint16_t flags;	     /* transmission flags */
	uint32_t pref_block; /* a power of two, 512 or more */
	bool is_default;     /* answers to the empty name */
};

enum {
	NBD_CTX_ALLOCATION = 1,
	NBD_CTX_DEPTH = 2
}; /* ids of metadata contexts, and bits 1 << id of a set */

struct nbd_handshake {
	enum nbd_hs_state {
		NBD_HS_FLAGS, /* the client's flags come next */
		NBD_HS_OPTIONS,
		NBD_HS_TLS, /* the caller sends what is out, does the TLS handshake, calls nbd_hs_secured() */
		NBD_HS_READY, /* transmission: `chosen`, `structured` and `contexts` are settled */
		NBD_HS_CLOSE, /* the caller sends what is out and closes */
	} state;
	enum nbd_tls_mode tls;
	bool secured, no_zeroes, structured;
	bool (*nth)(void *arg, size_t i, struct nbd_export_info *ret); /* false: no such */
	void *arg;
	size_t chosen;	       /* index */
	unsigned int contexts; /* set by the last SET_META_CONTEXT, if it was for `chosen` */
	size_t contexts_of;
	unsigned int n_options;
	uint64_t skip; /* bytes left of an option that is too long */
	uint32_t skip_option;
};

/* The greeting goes to out. */
void nbd_hs_init(struct nbd_handshake *h, enum nbd_tls_mode tls,
		 bool (*nth)(void *arg, size_t i, struct nbd_export_info *ret), void *arg,
		 struct buf *out);
/* Takes what it can of data[0..len), at most one option; returns how many bytes were taken (0: more is needed, up
 * to sizeof(struct nbd_option) + NBD_OPTION_MAX), or -EPROTO: the peer speaks no NBD.  Replies are appended to out.
 * Only in the states FLAGS and OPTIONS. */
ssize_t nbd_hs_feed(struct nbd_handshake *h, const uint8_t *data, size_t len, struct buf *out);
/* TLS is up: what was negotiated in plain text is forgotten. */
void nbd_hs_secured(struct nbd_handshake *h);

/* Does the query of a LIST name this context, or its namespace?  For tests. */
bool nbd_hs_lists(const char *query, size_t len, const char *context);

#endif
