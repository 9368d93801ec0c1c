/* Image references as people type them: [HOST[:PORT]/]PATH[:TAG][@DIGEST].
 * Short names mean Docker Hub ("debian" is docker.io/library/debian:latest), as docker itself reads them.
 * Grammar: distribution/reference, and OCI distribution-spec "Pulling manifests". */
#ifndef IMAGE_REF_H
#define IMAGE_REF_H

#include "image/digest.h"

#define REF_MAX 512 /* longest text accepted */

struct image_ref {
	char domain[256];     /* "docker.io", "localhost:5000" */
	char path[256];	      /* "library/debian" */
	char tag[129];	      /* "" only when a digest is given without a tag */
	struct digest digest; /* empty: none */
};

/* -EINVAL with the reason. */
int ref_parse(const char *s, struct image_ref *ret, struct err **e);
/* domain/path[:tag][@digest]; buf of REF_MAX bytes; returns buf.  What ref_parse() reads back to the same value. */
char *ref_format(const struct image_ref *r, char *buf);
/* Without the digest: the name under which a store keeps it. */
char *ref_name(const struct image_ref *r, char *buf);
/* The form people like: without "docker.io/library/" and without the digest. */
char *ref_familiar(const struct image_ref *r, char *buf);
/* What manifests are asked for by: the digest, else the tag. */
const char *ref_selector(const struct image_ref *r);
/* True for localhost, 127.0.0.0/8 and ::1, with or without port. */
bool ref_domain_is_loopback(const char *domain);

#endif
