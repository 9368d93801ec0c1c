/* Registries: OCI distribution-spec 1.1, and Docker Registry HTTP API V2, which it grew from.
 *
 * Pulling: layers come in parallel, each resumable and verified while it streams, and unpack while others still
 * download.  What fails in passing (cut, stalled, 429, 5xx, wrong bytes) is tried again with growing pauses; what
 * cannot get better (401, 404, refused TLS) is not.
 * Trust: the registry is hostile: sizes and digests come from the manifest, whose digest comes from the reference
 * when it has one; a registry cannot make us read more than it announced. */
#ifndef IMAGE_REGISTRY_H
#define IMAGE_REGISTRY_H

#include "image/ref.h"
#include "image/store.h"

struct registry_options {
	bool plain_http; /* only taken for loopback addresses */
	const char *
		ca_file; /* else /etc/docker/certs.d/<host>/ca.crt if there is one, else the system's */
	const char *auth_file; /* else $DOCKER_CONFIG, ~/.docker/config.json, containers' auth.json */
	const char *const *
		mirrors; /* hosts tried first, for pulling; plain HTTP when loopback and plain_http */
	const struct image_platform *platform; /* NULL: this host's */
	unsigned int parallel;		       /* layers at once; 0: 6 */
	unsigned int tries;		       /* per blob; 0: 6 */
	unsigned int stall_seconds;	       /* 0: 20 */
	bool no_unpack;			       /* only the blobs */
};

struct pull_result {
	struct image_desc desc;	      /* of the platform's manifest */
	uint64_t fetched_bytes;	      /* over the network */
	unsigned int fetched, reused; /* layers */
};
int registry_pull(struct image_store *s, const struct image_ref *ref,
		  const struct registry_options *o, struct image_op *op, struct pull_result *ret,
		  struct err **e);

struct push_result {
	struct digest digest;
	unsigned int uploaded, mounted, present; /* blobs */
};
/* name: the image in the store; ref: where to.  An index goes with all its platforms, unless o->platform chooses one. */
int registry_push(struct image_store *s, const char *name, const struct image_ref *ref,
		  const struct registry_options *o, struct image_op *op, struct push_result *ret,
		  struct err **e);

/* All tags of ref's repository; the caller's (strv_free). */
int registry_tags(const struct image_ref *ref, const struct registry_options *o,
		  struct image_op *op, char ***ret, struct err **e);

#endif
