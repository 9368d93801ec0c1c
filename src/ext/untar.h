/* Reading tar archives of every dialect (libarchive): entries one after the other, data as extents, so that
 * holes of sparse files stay holes.  Nothing is written here: image/layer.c does that.
 *
 * Hostile input: names come as they are in the archive, unchecked.  libarchive bounds extended headers at
 * 1 MiB each; the caller bounds everything else.  Thread: one at a time. */
#ifndef EXT_UNTAR_H
#define EXT_UNTAR_H

#include "ext/compress.h"

enum untar_type {
	UNTAR_FILE,
	UNTAR_DIR,
	UNTAR_SYMLINK,
	UNTAR_HARDLINK,
	UNTAR_CHAR,
	UNTAR_BLOCK,
	UNTAR_FIFO,
	UNTAR_OTHER, /* sockets and what libarchive does not know */
};

struct untar_entry { /* strings live until the next untar_next() */
	enum untar_type type;
	const char *path; /* NULL: no readable name */
	const char *link; /* target of symbolic and hard links, else NULL */
	uint32_t mode;	  /* permission bits with setuid, setgid, sticky */
	int64_t uid, gid;
	int64_t size; /* of UNTAR_FILE, holes included; of a hard link with data, that of the data */
	int64_t mtime;
	long mtime_nsec;
	uint32_t dev_major, dev_minor;
	int n_xattrs;
};

struct untar;
/* filters: also accept compressions beyond ext/compress.h (xz, bzip2, …), found by content.
 * zip: also accept zip archives.  raw: no archive at all, one entry with the unpacked bytes (use with filters). */
struct untar_options {
	bool filters, zip, raw;
};
int untar_new(const struct untar_options *o, stream_read_fn *read, void *arg, struct untar **ret,
	      struct err **e);
/* 1: *ret is filled; 0: end of the archive; -EBADMSG: damaged; or the error of read(). */
int untar_next(struct untar *u, struct untar_entry *ret, struct err **e);
/* The next extent of the present entry: 1, or 0 at its end.  *data lives until the next call. */
int untar_data(struct untar *u, const void **data, size_t *len, uint64_t *off, struct err **e);
/* Extended attributes of the present entry, one a call: 1, or 0 at the end. */
int untar_xattr(struct untar *u, const char **name, const void **value, size_t *len);
void untar_free(struct untar *u);
DEFINE_CLEANUP(struct untar *, untar_free);

#endif
