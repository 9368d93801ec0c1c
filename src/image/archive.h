/* Images in files: `docker save` archives, OCI layouts as directory or tar, and plain root tarballs.
 * Trust: everything read here is hostile; it only ever becomes verified blobs. */
#ifndef IMAGE_ARCHIVE_H
#define IMAGE_ARCHIVE_H

#include "image/store.h"

enum archive_format { ARCHIVE_OCI, ARCHIVE_OCI_DIR, ARCHIVE_DOCKER };
int archive_format_parse(const char *s, enum archive_format *ret, struct err **e);

struct import_options {
	/* The name to give; NULL: those in the archive.  Needed for root tarballs and nameless layouts. */
	const char *name;
	const struct image_platform *platform; /* of a root tarball; NULL: this host's */
	const char *const *cmd, *const *env;   /* config of a root tarball; may be NULL */
	bool compress; /* keep a plain root tarball as gzip, not as it came */
};
/* path: file or directory.  Names that came in are appended to *names (caller's strings), which may be NULL. */
int archive_import(struct image_store *s, const char *path, const struct import_options *o,
		   struct image_op *op, char ***names, struct err **e);
/* A root tarball that is read from a pipe or file, compressed in any way. */
int archive_import_root(struct image_store *s, int fd, const struct import_options *o,
			const char *history, struct image_op *op, struct err **e);
/* path: a file ("-" is stdout), or the directory to make for ARCHIVE_OCI_DIR. */
int archive_export(struct image_store *s, const char *const *names, const char *path,
		   enum archive_format f, struct image_op *op, struct err **e);

#endif
