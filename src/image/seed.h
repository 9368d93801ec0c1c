/* cloud-init's NoCloud seed: an ISO 9660 image labelled "cidata" with user-data, meta-data and network-config.
 * Spec: cloud-init "NoCloud" datasource; ECMA-119; Joliet (for the names, which ECMA-119 cannot spell). */
#ifndef IMAGE_SEED_H
#define IMAGE_SEED_H

#include "base/buf.h"
#include "base/err.h"

struct seed {
	const char *instance_id;     /* changes when cloud-init shall run again */
	const char *hostname;	     /* may be NULL */
	const char *user_data;	     /* whole text; NULL: made from what follows */
	const char *const *ssh_keys; /* of the default user; may be NULL */
	const char *password_hash;   /* crypt(3) form, of the default user; may be NULL */
	const char *network_config;  /* version 1 or 2 YAML; NULL: none */
	const char *vendor_data;     /* may be NULL */
};
int seed_build(const struct seed *s, struct buf *iso, struct err **e);

struct iso_file {
	const char *name; /* letters, digits, '-', at most 30 */
	const void *data;
	size_t len;
};
/* label: upper case in the primary, as given in the Joliet volume descriptor. */
int iso_build(const char *label, const struct iso_file *files, size_t n, struct buf *out);

#endif
