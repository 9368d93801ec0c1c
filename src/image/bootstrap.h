/* Images from the distribution's own archive, by mmdebstrap: for sites without a registry. */
#ifndef IMAGE_BOOTSTRAP_H
#define IMAGE_BOOTSTRAP_H

#include "image/store.h"

struct bootstrap_options {
	const char *name;    /* NULL: "debian:<suite>" */
	const char *variant; /* "minimal" (NULL) or "standard" */
	const char *
		mirror; /* NULL: what this host's apt uses for the distribution, else deb.debian.org */
	const char *const *packages; /* more of them; may be NULL */
};
/* what: "debian:bookworm". */
int bootstrap(struct image_store *s, const char *what, const struct bootstrap_options *o,
	      struct image_op *op, struct err **e);
/* The mirror that the host's apt has configured for Debian; false: none found. */
bool bootstrap_host_mirror(char *buf, size_t len);

#endif
